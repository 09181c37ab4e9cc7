//! A claim key proves its claim, its recall and the end of its lease, and is refused for anything else.

use phasebroker::broker::end::Complete;
use phasebroker::cli::agent::PhaseKey;
use phasebroker::domain::key::SigningKey;
use phasebroker::domain::lease::Outcome;
use serde_json::json;

use super::*;
use crate::broker::flow::{Deciding, proposal, restart};

/// Uses `key` for other things than its claim; each is one refusal and one event.
async fn is_reserved(b: &TestBroker, key: &SigningKey, other: &Pending) {
    let no = refusal(422, "key_reused", "claim key");
    let run = format!("/v1/runs/{}", other.deciding.run);
    let asked = json!({"environment": "demo", "purpose": "p"});
    for (method, path, body) in [
        ("POST", "/v1/runs".to_owned(), Some(&asked)),
        ("GET", run, None),
        ("GET", format!("/v1/grants/{}", other.grant), None),
        ("POST", other.path("cancel"), None),
        ("POST", other.path("claim"), Some(&json!({"approvals": []}))),
    ] {
        let mark = b.mark().await;
        let reply = b.by_agent("fixer", key, method, &path, body).await;
        no.holds(b, mark, &reply, None).await;
    }
    let mark = b.mark().await;
    let run = other.deciding.run.to_string();
    let members = [("grant_type", "client_credentials"), ("run", &*run), ("scope", "phase:decide")];
    let reply = b.form("/token", "fixer", Some(key), &members).await;
    refusal(400, "key_reused", "claim key").holds(b, mark, &reply, None).await;
}

#[tokio::test]
async fn a_claim_key_is_refused_for_anything_but_its_claim_and_the_end_of_its_lease() {
    let b = TestBroker::start().await;
    let (other, approved) = (b.run_to_pending().await, b.run_to_approved().await);
    is_reserved(&b, approved.claim_key.signing_key(), &other).await;
    let b = b.restart().await;
    is_reserved(&b, approved.claim_key.signing_key(), &other).await;
    let claimed = b.claim(&approved).await.ok().unwrap();
    is_reserved(&b, approved.claim_key.signing_key(), &other).await;
    let fixer = b.agent("fixer");
    assert_eq!(fixer.recall(claimed.lease, &approved.claim_key).await.ok().unwrap().lease, claimed.lease);
    let done = Complete { outcome: Outcome::Succeeded, note: None };
    fixer.complete(&claimed, &approved.claim_key, &done).await.unwrap();
}

#[tokio::test]
async fn after_a_restart_the_key_of_a_live_lease_is_still_reserved() {
    let b = TestBroker::start().await;
    let (other, approved) = (b.run_to_pending().await, b.run_to_approved().await);
    let claimed = b.claim(&approved).await.ok().unwrap();
    let b = b.restart().await;
    is_reserved(&b, approved.claim_key.signing_key(), &other).await;
    let fixer = b.agent("fixer");
    fixer.cancel_lease(&claimed, &approved.claim_key).await.unwrap();
    // Nothing is left that the key could be mixed up with.
    let path = format!("/v1/runs/{}", other.deciding.run);
    b.by_agent("fixer", approved.claim_key.signing_key(), "GET", &path, None).await.good();
}

#[tokio::test]
async fn a_key_that_could_never_claim_is_refused_when_it_is_proposed() {
    let b = TestBroker::start().await;
    let pending = b.run_to_pending().await;
    let Deciding { token, key, .. } = &pending.deciding;
    let login = PhaseKey::from_signing_key(b.keys.copy("fixer"));
    for (claim_key, telling) in
        [(&pending.claim_key, "claim key"), (key, "fresh key for the claim"), (&login, "login key")]
    {
        let mark = b.mark().await;
        let asked = proposal("demo", "restart-service", restart("web"), claim_key);
        let error = b.agent("fixer").propose(token, key, &asked).await.unwrap_err();
        assert!(error.code() == Some("key_reused") && error.to_string().contains(telling), "{error}");
        assert_eq!(b.kinds_since(mark).await, ["refused"]);
    }
    // Once its grant is over the key may be named again.
    b.agent("fixer").cancel_grant(pending.grant).await.unwrap();
    let asked = proposal("demo", "restart-service", restart("web"), &pending.claim_key);
    b.agent("fixer").propose(token, key, &asked).await.unwrap();
}
