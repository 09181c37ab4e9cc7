//! A store restored to before somebody said no is noticed: the broker issues nothing until a fence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;

use broker::TestBroker;
use phasebroker::domain::approval::Answer;
use phasebroker::domain::grant::GrantState;

/// Whether the broker asks for a fence.
async fn needs_fence(broker: &TestBroker) -> bool {
    let ready = broker.call("GET", "/readyz", &[], None).await;
    ready.status == 503 && ready.text.contains("store fence")
}

#[tokio::test]
async fn a_store_restored_to_before_a_denial_needs_a_fence() {
    let broker = TestBroker::start().await;
    let approved = broker.run_to_approved().await;
    let backup = broker.backup();
    let denial = broker.claims("alice", &approved.sealed, Answer::Deny);
    let token = broker.signed("alice", &denial);
    broker.answer_with_reason(&approved, &token).await.good();
    let broker = broker.restored(backup).await;
    assert_eq!(broker.grant_state(approved.grant).await, GrantState::Approved, "it was restored");
    assert!(needs_fence(&broker).await);
    broker.claim_with(&approved, &approved.tokens).await.refused(503, "fence_needed", "store fence");
    let broker = broker.restart().await;
    assert!(needs_fence(&broker).await, "what it recorded meanwhile does not make it current");
    let broker = broker.fenced().await;
    assert_eq!(broker.call("GET", "/readyz", &[], None).await.status, 200);
}
