//! A store that was restored, or that two brokers want: the program refuses to issue from the one and to start on the
//! other, goes on ending, and says what to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;
mod process;

use phasebroker::cli::agent::{AgentError, Claimed};
use process::caller::Work;
use process::place::{HEAD, Place, STORE};
use serde_json::{Value, json};

fn code(outcome: Result<Claimed, AgentError>) -> String {
    outcome.err().expect("it was allowed").code().unwrap_or("no answer").to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_store_issues_nothing_until_it_is_fenced_and_then_its_old_grants_are_dead() {
    let place = Place::new(None);
    let broker = place.serve().await;
    let it = place.approved(Work::jwt(300)).await;
    broker.stop().await;
    place.keep("backup");
    let broker = place.serve().await;
    place.claim(&it).await.map(drop).unwrap();
    broker.stop().await;

    // The backup knows the grant as approved and unused.
    place.put_back_only(STORE, "backup");
    let broker = place.serve().await;
    assert_eq!(code(place.claim(&it).await), "fence_needed");
    let (status, why) = place.readiness().await;
    assert_eq!(status, 503);
    assert!(why.to_string().contains("store fence"), "it does not say what to do: {why}");
    let everything = json!({"everything": true, "reason": "a restore"});
    let (status, stopped) = place.post("/v1/stop", Some("olga"), &everything).await;
    assert_eq!(status, 200, "{stopped}");
    assert_eq!(stopped["leases"].as_array().unwrap().len(), 1, "the decide lease of the backup: {stopped}");

    let fence = ["--json", "store", "fence", "--yes"];
    let refused = place.command(&fence);
    assert!(!refused.status.success());
    let pid = format!("process {}", broker.pid());
    assert!(text(&refused.stderr).contains(&pid), "{}", text(&refused.stderr));
    broker.stop().await;

    // Another restore, so that only the fence stands between the old grant and a second credential.
    place.put_back_only(STORE, "backup");
    let fenced = place.command(&fence);
    assert!(fenced.status.success(), "{}", text(&fenced.stderr));
    let said: Value = serde_json::from_slice(&fenced.stdout).unwrap();
    assert_eq!(said["epoch"], 2);

    let broker = place.serve().await;
    assert_eq!(place.readiness().await.0, 200);
    assert_eq!(code(place.claim(&it).await), "grant_foreign");
    let new = place.approved(Work::jwt(300)).await;
    place.claim(&new).await.map(drop).unwrap();
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_head_is_missing_or_unreadable_issues_nothing() {
    let place = Place::new(None);
    let broker = place.serve().await;
    let it = place.approved(Work::jwt(300)).await;
    broker.stop().await;
    let head = place.path(HEAD).join("head.json");

    std::fs::rename(&head, place.path("kept-head")).unwrap();
    let broker = place.serve().await;
    assert_eq!(code(place.claim(&it).await), "fence_needed");
    assert_eq!(place.readiness().await.0, 503);
    broker.stop().await;

    std::fs::write(&head, "{}").unwrap();
    let mut broker = place.start(&[]);
    assert!(!place.answers(&mut broker).await);
    assert!(place.log().contains("head.json"), "{}", place.log());

    // The head as it was: nothing was lost.
    std::fs::rename(place.path("kept-head"), &head).unwrap();
    let broker = place.serve().await;
    place.claim(&it).await.map(drop).unwrap();
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_broker_on_the_same_store_is_refused_and_told_the_firsts_pid() {
    let place = Place::new(None);
    let broker = place.serve().await;
    let elsewhere = std::fs::read_to_string(place.path("broker.toml")).unwrap();
    let port = place.url.rsplit(':').next().unwrap();
    std::fs::write(place.path("elsewhere.toml"), elsewhere.replace(port, "14999")).unwrap();
    for config in ["broker.toml", "elsewhere.toml"] {
        let before = place.log().len();
        place.start_with(config, &[]).ends().await;
        let said = place.log()[before..].to_owned();
        let in_use = format!("is in use by process {}", broker.pid());
        assert!(said.contains(&in_use), "{config}: {said}");
    }
    assert_eq!(place.readiness().await.0, 200, "the first was not disturbed");
    broker.stop().await;
}
