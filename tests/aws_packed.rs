//! What STS says of the packed size of a session policy reaches the people who sign the next one; and what the ledger says of
//! a revocation. A whole broker against a recording fake.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;
mod fake_aws;

use broker::flow::Approved;
use broker::{Setup, TestBroker};
use fake_aws::{Behaviour, FakeAws, scene};
use phasebroker::broker::end::Complete;
use phasebroker::domain::grant::GrantState;
use phasebroker::domain::lease::Outcome;
use phasebroker::providers::aws::PROPAGATION_SECONDS;
use serde_json::json;

async fn with_aws() -> (TestBroker, FakeAws) {
    let aws = FakeAws::start(broker::clock::TestClock::default().wall()).await;
    let setup = Setup { aws: Some(scene::settings(&aws.url())), ..Setup::default() };
    (TestBroker::with(setup).await, aws)
}

/// Claims and completes one action.
async fn act(b: &TestBroker) -> Approved {
    let approved = b.run_to_approved_on_aws().await;
    let claimed = b.claim(&approved).await.ok().unwrap();
    let done = Complete { outcome: Outcome::Succeeded, note: None };
    b.agent("fixer").complete(&claimed, &approved.claim_key, &done).await.unwrap();
    approved
}

#[tokio::test]
async fn a_policy_near_the_packed_limit_is_told_to_the_next_signers_even_after_a_restart() {
    let (b, aws) = with_aws().await;
    aws.pack(79);
    act(&b).await;
    let next = b.run_to_approved_on_aws().await;
    assert!(next.proposed.warnings.is_empty(), "{:?}", next.proposed.warnings);
    aws.pack(85);
    act(&b).await;
    let b = b.restart().await;
    let metrics = b.call("GET", "/metrics", &[], None).await.text;
    let line = r#"phasebroker_packed_policy_percent{action="reboot-instance"} 85"#;
    assert!(metrics.contains(line), "{metrics}");
    let next = b.run_to_approved_on_aws().await;
    let told = &next.proposed.warnings;
    assert!(told.len() == 1 && told[0].contains("took 85 % of AWS's packed size"), "{told:?}");
    let document = b.by_person("bob", "GET", &next.path("document"), None).await.good();
    assert_eq!(document["warnings"], json!(told));
    let leases = b.by_person("olga", "GET", "/v1/leases", None).await.good();
    let execute = leases["leases"].as_array().unwrap().iter().find(|lease| lease["phase"] == "execute");
    assert_eq!(execute.unwrap()["packed_policy_percent"], json!(85));
}

#[tokio::test]
async fn what_never_fits_packed_is_refused_with_what_to_do_and_its_grant_is_over() {
    let (b, aws) = with_aws().await;
    let approved = b.run_to_approved_on_aws().await;
    aws.behave(Behaviour::Refuse(400, "PackedPolicyTooLarge"));
    let mark = b.mark().await;
    let reply = b.claim_with(&approved, &approved.tokens).await;
    reply.refused(503, "provider_refused", "propose it again with fewer or shorter values");
    assert!(!reply.body["retry_after"].is_u64(), "{}", reply.text);
    assert_eq!(b.grant_state(approved.grant).await, GrantState::Cancelled);
    let events = b.events_since(mark).await;
    let cancelled = events.iter().find(|event| event["type"] == "grant.cancelled").unwrap();
    assert_eq!(cancelled["facts"]["why"], "provider_refuses");
    aws.behave(Behaviour::Answer);
    assert_eq!(b.claim_with(&approved, &approved.tokens).await.status / 100, 4, "nobody goes on trying");
    assert_eq!(aws.minted(), 0);
    // Another proposal is another grant.
    act(&b).await;
}

#[tokio::test]
async fn the_ledger_says_by_when_a_revocation_is_in_force() {
    let (b, _aws) = with_aws().await;
    let mark = b.mark().await;
    let approved = act(&b).await;
    let lease = approved.sealed.grant().time.lease.to_string();
    let events = b.events_since(mark).await;
    let done = events.iter().find(|event| event["type"] == "revocation.done" && event["lease"] == lease);
    let done = done.unwrap_or_else(|| panic!("{events:?}"));
    let effective_by = done["facts"]["effective_by"].as_i64().unwrap();
    let work = i64::from(approved.sealed.grant().time.work_seconds);
    assert_eq!(effective_by, b.clock.wall().seconds() + PROPAGATION_SECONDS.min(work));
}
