//! What was ended while the store could not be told stays ended through a restart, and nothing else ends with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;

use broker::TestBroker;
use broker::flow::Deciding;
use phasebroker::broker::ports::{LeaseFilter, Store as _};
use phasebroker::domain::lease::{EndReason, Lease, LeaseState};
use serde_json::json;

/// The newest lease of a run.
async fn lease(broker: &TestBroker, of: &Deciding) -> Lease {
    let filter = LeaseFilter { run: Some(of.run), ..LeaseFilter::default() };
    broker.disk.leases(filter).await.unwrap().into_iter().next().unwrap()
}

/// Where it stands, and why it ended.
async fn stands(broker: &TestBroker, of: &Deciding) -> (LeaseState, Option<EndReason>) {
    let lease = lease(broker, of).await;
    (lease.state, lease.ended.map(|ended| ended.reason))
}

/// A person stops one lease over a full disk.
async fn stop_unrecorded(broker: &TestBroker, of: &Deciding) {
    let id = lease(broker, of).await.id.to_string();
    broker.disk.fill();
    let body = json!({"lease": id, "reason": "stop it"});
    let stopped = broker.by_person("olga", "POST", "/v1/stop", Some(&body)).await.good();
    assert_eq!(
        (&stopped["recorded"], &stopped["leases"][0]["lease"]),
        (&json!(false), &json!(id)),
        "{stopped}"
    );
}

#[tokio::test]
async fn a_lease_stopped_over_a_full_disk_stays_ended_through_a_restart_and_no_other_ends() {
    let broker = TestBroker::start().await;
    let (stopped, other) = (broker.run_to_deciding("demo").await, broker.run_to_deciding("demo").await);
    stop_unrecorded(&broker, &stopped).await;
    assert_eq!(stands(&broker, &stopped).await, (LeaseState::Released, None), "the store was not told");
    let broker = broker.restart().await;
    assert_eq!(stands(&broker, &stopped).await, (LeaseState::Ended, Some(EndReason::Unrecorded)));
    assert_eq!(stands(&broker, &other).await, (LeaseState::Released, None));
    let broker = broker.restart().await;
    assert_eq!(stands(&broker, &other).await, (LeaseState::Released, None));
}

#[tokio::test]
async fn an_end_that_was_written_at_last_is_not_kept_any_longer() {
    let broker = TestBroker::start().await;
    let stopped = broker.run_to_deciding("demo").await;
    stop_unrecorded(&broker, &stopped).await;
    let kept = broker.file("ends");
    broker.disk.mend();
    broker.sweep().await;
    assert_eq!(stands(&broker, &stopped).await, (LeaseState::Ended, Some(EndReason::Stopped)));
    let emptied = broker.file("ends");
    assert_ne!(kept, emptied);
    assert_eq!(kept.len(), emptied.len());
}

#[tokio::test]
async fn a_journal_that_is_unreadable_or_gone_ends_every_credential_of_the_former_life() {
    for bytes in [Some(&b"rubbish"[..]), None] {
        let broker = TestBroker::start().await;
        let one = broker.run_to_deciding("demo").await;
        let broker = broker
            .restart_after(|folder| match bytes {
                Some(bytes) => std::fs::write(folder.join("ends"), bytes).unwrap(),
                None => std::fs::remove_file(folder.join("ends")).unwrap(),
            })
            .await;
        assert_eq!(stands(&broker, &one).await, (LeaseState::Ended, Some(EndReason::Unrecorded)));
        let frozen = broker.by_person("olga", "GET", "/v1/freezes", None).await.good();
        assert_eq!(frozen["freezes"][0]["key"], "everything", "{frozen}");
        // The journal is whole again: the next life knows why it issues nothing, from the store.
        let broker = broker.restart().await;
        let frozen = broker.by_person("olga", "GET", "/v1/freezes", None).await.good();
        assert_eq!(frozen["freezes"][0]["by"], "broker", "{frozen}");
    }
}
