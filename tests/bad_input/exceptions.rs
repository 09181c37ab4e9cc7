//! Where the rule of one event has its exceptions: a provider that fails, a disk that cannot record, rubbish by nobody.

use std::time::Duration;

use phasebroker::broker::end::Complete;
use phasebroker::broker::ports::Store as _;
use phasebroker::domain::lease::{EndReason, LeaseState, Outcome};
use serde_json::{Value, json};

use super::*;
use crate::broker::Setup;
use crate::fake_aws::{Behaviour, FakeAws, scene};

type Headers = Vec<(&'static str, String)>;

async fn with_aws() -> (TestBroker, FakeAws) {
    let aws = FakeAws::start(broker::clock::TestClock::default().wall()).await;
    let setup = Setup { aws: Some(scene::settings(&aws.url())), ..Setup::default() };
    (TestBroker::with(setup).await, aws)
}

/// The life of the grant's lease, as the ledger tells it since `mark`.
async fn life(b: &TestBroker, mark: u64, grant: &Approved) -> Vec<String> {
    let lease = json!(grant.sealed.grant().time.lease);
    let events = b.events_since(mark).await.into_iter().filter(|event| event["lease"] == lease);
    events.map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

/// The provider says no for certain: the grant is unspent, and the next try succeeds.
async fn certainly_not(behaviour: Behaviour, telling: &str, retry: bool) {
    let (b, aws) = with_aws().await;
    let approved = b.run_to_approved_on_aws().await;
    aws.behave(behaviour);
    let mark = b.mark().await;
    let reply = b.claim_with(&approved, &approved.tokens).await;
    reply.refused(503, "provider_refused", telling);
    assert_eq!(reply.body["retry_after"].is_u64(), retry, "{}", reply.text);
    assert_eq!(life(&b, mark, &approved).await, ["lease.intent", "lease.refused"]);
    assert_eq!((b.grant_state(approved.grant).await, aws.minted()), (GrantState::Approved, 0));
    aws.behave(Behaviour::Answer);
    still_claimable(&b, &approved).await;
    assert_eq!(aws.minted(), 1);
}

/// Nobody knows: the grant is spent, nothing leaves, the lease is starved and closed at its hard end.
async fn nobody_knows(behaviour: Behaviour) {
    let (b, aws) = with_aws().await;
    let approved = b.run_to_approved_on_aws().await;
    let name = format!("{behaviour:?}");
    aws.behave(behaviour);
    let mark = b.mark().await;
    let reply = b.claim_with(&approved, &approved.tokens).await;
    reply.refused(503, "mint_unknown", "nobody knows");
    assert!(!reply.text.contains("secret-") && !reply.text.contains("ASIA"), "{}", reply.text);
    assert_eq!(life(&b, mark, &approved).await, ["lease.intent", "lease.unknown"], "{name}");
    assert_eq!(b.grant_state(approved.grant).await, GrantState::Claimed);
    aws.behave(Behaviour::Answer);
    refusal(409, "grant_spent", "propose again").of_claim(&b, &approved, &approved.tokens).await;
    let id = approved.sealed.grant().time.lease;
    let lease = b.disk.lease(id).await.unwrap().unwrap();
    assert_eq!(lease.state, LeaseState::Unknown, "{name}");
    b.sweep().await;
    assert!(!aws.requests("PutRolePolicy").is_empty(), "{name}: starved at the provider");
    b.clock.pass(3600);
    aws.set_clock(b.clock.wall());
    b.sweep().await;
    let ended = b.disk.lease(id).await.unwrap().unwrap().ended.unwrap();
    assert_eq!(ended.reason, EndReason::Unknown, "{name}");
    assert!(aws.requests("AssumeRole").len() == 1, "{name}: asked once, never again");
    assert_eq!(
        life(&b, mark, &approved).await,
        ["lease.intent", "lease.unknown", "revocation.done", "lease.ended"],
        "{name}"
    );
}

#[tokio::test]
async fn a_provider_that_refuses_leaves_the_grant_unspent() {
    certainly_not(Behaviour::Refuse(403, "AccessDenied"), "AccessDenied", false).await;
}

#[tokio::test]
async fn a_provider_that_throttles_leaves_the_grant_unspent_and_says_when_to_try_again() {
    certainly_not(Behaviour::Refuse(400, "Throttling"), "Throttling", true).await;
}

#[tokio::test]
async fn a_provider_that_hangs_spends_the_grant_and_releases_nothing() {
    nobody_knows(Behaviour::Hang).await;
}

#[tokio::test]
async fn a_provider_that_answers_too_late_spends_the_grant_and_releases_nothing() {
    nobody_knows(Behaviour::AnswerAfter(Duration::from_secs(4))).await;
    let (b, aws) = with_aws().await;
    let approved = b.run_to_approved_on_aws().await;
    aws.behave(Behaviour::AnswerAfter(Duration::from_millis(200)));
    still_claimable(&b, &approved).await;
}

#[tokio::test]
async fn a_provider_that_dies_in_mid_answer_spends_the_grant_and_releases_nothing() {
    for behaviour in [Behaviour::BreakOff, Behaviour::Die, Behaviour::Babble] {
        nobody_knows(behaviour).await;
    }
}

#[tokio::test]
async fn with_a_disk_that_cannot_record_nothing_is_minted_and_revocation_still_works() {
    let (b, aws) = with_aws().await;
    let waiting = b.run_to_approved_on_aws().await;
    let pending = b.run_to_pending().await;
    let live = b.run_to_approved_on_aws().await;
    let claimed = b.claim(&live).await.ok().unwrap();
    let (mark, minted) = (b.mark().await, aws.requests("AssumeRole").len());
    assert_eq!(b.call("GET", "/readyz", &[], None).await.status, 200);

    b.disk.fill();
    let cannot = |reply: &Reply| reply.refused(503, "store_unavailable", "cannot record right now");
    cannot(&b.claim_with(&waiting, &waiting.tokens).await);
    cannot(&b.answer(&pending, &b.approval("bob", &pending.sealed)).await);
    let run = json!({"environment": "demo", "purpose": "p"});
    cannot(&b.by_agent("fixer", &broker::fresh(), "POST", "/v1/runs", Some(&run)).await);
    let ready = b.call("GET", "/readyz", &[], None).await;
    assert_eq!((ready.status, &ready.body["ready"]), (503, &json!(false)));
    assert!(ready.body["reasons"][0].as_str().unwrap().contains("cannot record"), "{}", ready.text);
    assert!(!ready.text.contains("no space left"), "what the disk said is for the log: {}", ready.text);
    assert_eq!(aws.requests("AssumeRole").len(), minted, "nothing was asked of the provider");
    // Ending still works: the provider is told now, the record follows.
    let done = Complete { outcome: Outcome::Succeeded, note: None };
    let ended = b.agent("fixer").complete(&claimed, &live.claim_key, &done).await.unwrap();
    assert!(ended.how.starts_with("revoked"), "{}", ended.how);
    assert_eq!(aws.requests("PutRolePolicy").len(), 1);
    let stop = json!({"run": live.deciding.run, "reason": "the disk is full"});
    let stopped = b.by_person("olga", "POST", "/v1/stop", Some(&stop)).await.good();
    assert_eq!(stopped["recorded"], json!(false));
    assert_eq!(b.mark().await, mark, "nothing could be recorded");

    b.disk.mend();
    b.sweep().await;
    let kinds = b.kinds_since(mark).await;
    assert!(kinds.contains(&"lease.ended".to_owned()), "{kinds:?}");
    assert_eq!(b.call("GET", "/readyz", &[], None).await.status, 200);
    assert_eq!(b.grant_state(waiting.grant).await, GrantState::Approved);
    still_claimable(&b, &waiting).await;
}

#[tokio::test]
async fn with_a_store_that_cannot_be_read_nothing_is_minted_and_a_stop_still_works() {
    let (b, aws) = with_aws().await;
    let waiting = b.run_to_approved_on_aws().await;
    let live = b.run_to_approved_on_aws().await;
    let claimed = b.claim(&live).await.ok().unwrap();
    b.disk.make_unreadable();
    let reply = b.claim_with(&waiting, &waiting.tokens).await;
    reply.refused(503, "store_unavailable", "nothing is issued");
    assert_eq!(b.call("GET", "/readyz", &[], None).await.status, 503);
    let stop = json!({"lease": claimed.lease, "reason": "wrong instance"});
    let stopped = b.by_person("olga", "POST", "/v1/stop", Some(&stop)).await.good();
    assert_eq!(stopped["leases"][0]["lease"], json!(claimed.lease), "{stopped}");
    b.disk.mend();
    b.sweep().await;
    assert!(!aws.requests("PutRolePolicy").is_empty());
    let lease = b.disk.lease(claimed.lease).await.unwrap().unwrap();
    assert_eq!(lease.ended.unwrap().reason, EndReason::Stopped);
    still_claimable(&b, &waiting).await;
}

#[tokio::test]
async fn unauthenticated_rubbish_is_counted_and_leaves_no_event() {
    let b = TestBroker::start().await;
    let approved = b.run_to_approved().await;
    let mark = b.mark().await;
    let before = b.metric("phasebroker_unauthenticated_total").await;
    let stranger = broker::fresh();
    let claim = approved.path("claim");
    let strange = b.assertion("stranger");
    let requests: Vec<(&str, &str, Headers)> = vec![
        ("POST", "/v1/runs", vec![]),
        ("POST", "/v1/runs", vec![("client-assertion", "a.b.c".into()), ("dpop", "a.b.c".into())]),
        (
            "POST",
            &claim,
            vec![("client-assertion", strange), ("dpop", b.proof(&stranger, "POST", &claim, None, None))],
        ),
        ("POST", &claim, vec![("dpop", b.proof(&stranger, "POST", &claim, None, None))]),
        ("GET", "/v1/approvals", vec![("authorization", "Bearer x".into())]),
        (
            "GET",
            "/v1/approvals",
            vec![("authorization", format!("Bearer {}", b.person_token("stranger", "GET", "/v1/approvals")))],
        ),
        ("POST", "/v1/proposals", vec![("authorization", "DPoP a.b.c".into()), ("dpop", "a.b.c".into())]),
        ("POST", "/v1/stop", vec![("authorization", "Basic YTpi".into())]),
    ];
    let count = u64::try_from(requests.len()).unwrap();
    for (method, path, headers) in requests {
        let reply = b.call(method, path, &headers, Some(&Value::Null)).await;
        assert_eq!(reply.status, 401, "{path}: {}", reply.text);
        assert!(!reply.detail().is_empty(), "{path}");
    }
    let mut form = b.form("/token", "fixer", None, &[("grant_type", "client_credentials")]).await;
    assert_eq!(form.status, 400, "{}", form.text);
    form = b.send("POST", "/token", &[("content-type", "text/plain".into())], b"\xff\xfe".to_vec()).await;
    assert_eq!(form.status, 400, "{}", form.text);
    assert!(b.events_since(mark).await.is_empty());
    assert!(b.metric("phasebroker_unauthenticated_total").await >= before + count);
    still_claimable(&b, &approved).await;
}
