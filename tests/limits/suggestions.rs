//! A suggestion is rendered for a person to carry out: it can be read, and nothing comes of it here.

use phasebroker::broker::ports::Store as _;
use phasebroker::domain::digest::{Digest, decode};
use phasebroker::domain::grant::{GrantState, SealedGrant};
use serde_json::json;

use super::hand::{Hand, refused};
use crate::broker::flow::{Approved, restart};
use crate::broker::{Setup, TestBroker};

const SUGGEST: &str = r#"
@id("only-suggest")
@decision("suggest_only")
permit (principal, action == Action::"execute", resource)
when { context.parameters.contains("service=checkout") };
"#;

/// What concerns `checkout` is suggested, whatever else permits it; one proposal may be open at a time.
async fn start() -> TestBroker {
    let broker = TestBroker::with(Setup { open_per_agent: 1, ..Setup::default() }).await;
    broker.reload(|written| written.policy.push_str(SUGGEST)).await;
    broker
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suggestion_is_listed_for_people_and_its_document_can_be_read() {
    let broker = start().await;
    let mark = broker.mark().await;
    let pending = Hand::of(&broker, "fixer").pending("demo", "restart-service", restart("checkout")).await;
    assert_eq!(pending.proposed.state, GrantState::Suggested);
    assert!(pending.proposed.eligible.is_empty());
    assert!(pending.proposed.reasons.contains(&"only-suggest".to_owned()));
    assert!(broker.kinds_since(mark).await.contains(&"grant.suggested".to_owned()));
    let listed = broker.by_person("bob", "GET", "/v1/approvals?suggested=true", None).await.good();
    let line = &listed["approvals"][0];
    assert_eq!((&line["grant"], &line["state"]), (&json!(pending.grant), &json!("suggested")));
    assert_eq!(
        (&line["you_may_sign"], &line["why_not"]),
        (&json!(false), &json!("it is a suggestion: nobody signs it"))
    );
    let waiting = broker.by_person("bob", "GET", "/v1/approvals", None).await.good();
    assert_eq!(waiting["approvals"], json!([]), "it waits for nobody");
    let document = broker.by_person("audrey", "GET", &pending.path("document"), None).await.good();
    let bytes = decode(document["document"].as_str().unwrap()).unwrap();
    assert_eq!(Digest::of(&bytes), pending.proposed.digest);
    let grant = SealedGrant::parse(&bytes).unwrap();
    assert_eq!(grant.grant().action.summary, "Restart the service checkout (memory-leak)");
    assert_eq!(document["state"], "suggested");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_signs_a_suggestion_and_nobody_claims_it() {
    let broker = start().await;
    let fixer = Hand::of(&broker, "fixer");
    let pending = fixer.pending("demo", "restart-service", restart("checkout")).await;
    let token = broker.approval("bob", &pending.sealed);
    let reply = broker.answer(&pending, &token).await;
    assert!((400..500).contains(&reply.status), "{}", reply.text);
    assert!(["approver_ineligible", "grant_not_open"].contains(&reply.code()), "{}", reply.text);
    assert_eq!(broker.grant_state(pending.grant).await, GrantState::Suggested);
    let claimed = Approved { tokens: vec![token], pending };
    refused(fixer.claim(&claimed).await, "grant_not_open", "suggested");
    let none = broker.claim_with(&claimed, &[]).await;
    none.refused(409, "grant_not_open", "suggested");
    assert!(broker.disk.lease(claimed.sealed.grant().time.lease).await.unwrap().is_none());
    // Taken out of the policy, it still is what it was sealed as.
    broker.reload(|written| written.policy = written.policy.replace(SUGGEST, "")).await;
    refused(fixer.claim(&claimed).await, "grant_not_open", "suggested");
}

#[tokio::test(flavor = "multi_thread")]
async fn suggestions_count_against_no_limit_of_open_proposals() {
    let broker = start().await;
    let fixer = Hand::of(&broker, "fixer");
    let deciding = fixer.deciding("demo").await;
    for _ in 0..3 {
        let (proposed, _) =
            fixer.ask(&deciding, "restart-service", restart("checkout"), |_| {}).await.unwrap();
        assert_eq!(proposed.state, GrantState::Suggested);
    }
    let (proposed, _) = fixer.ask(&deciding, "restart-service", restart("payments"), |_| {}).await.unwrap();
    assert_eq!(proposed.state, GrantState::Pending);
    let more = fixer.ask(&deciding, "restart-service", restart("payments"), |_| {}).await;
    refused(more, "too_many_open", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_approved_before_is_not_claimed_once_policy_only_suggests_it() {
    let broker = TestBroker::start().await;
    let approved = broker.run_to_approved().await;
    broker.reload(|written| written.policy.push_str(SUGGEST)).await;
    refused(broker.claim(&approved).await, "policy_denied", "only-suggest");
    assert_eq!(broker.grant_state(approved.grant).await, GrantState::Approved);
    broker.reload(|written| written.policy = written.policy.replace(SUGGEST, "")).await;
    broker.claim(&approved).await.map(drop).unwrap();
}
