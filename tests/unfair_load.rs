//! What one hostile caller can take from the others: ledger writes and waits are shared out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;

use broker::{Setup, TestBroker, fresh};
use phasebroker::broker::allowance::PER_GRANT;

#[tokio::test(flavor = "multi_thread")]
async fn bad_answers_to_a_grant_beyond_the_allowance_cost_no_ledger_write_and_good_ones_still_count() {
    let b = TestBroker::start().await;
    let (attacked, other) = (b.run_to_pending().await, b.run_to_pending().await);
    let mark = b.mark().await;
    for _ in 0..PER_GRANT {
        b.answer(&attacked, "rubbish").await.refused(422, "approval_invalid", "");
    }
    for _ in 0..5 {
        let beyond = b.answer(&attacked, "rubbish").await;
        beyond.refused(429, "limit_reached", "approval_invalid");
        assert!(beyond.headers.contains_key("retry-after"));
    }
    assert_eq!(b.mark().await - mark, u64::try_from(PER_GRANT).unwrap());
    assert_eq!(b.metric("phasebroker_refusals_not_recorded_total").await, 5);

    b.answer(&other, "rubbish").await.refused(422, "approval_invalid", "");
    let approved = b.approve(attacked, &["bob"]).await;
    b.claim(&approved).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_beyond_the_agents_share_is_answered_at_once_with_the_state() {
    let b = TestBroker::with(Setup { waits_per_agent: 0, ..Setup::default() }).await;
    let pending = b.run_to_pending().await;
    let path = format!("/v1/grants/{}?wait=60", pending.grant);
    let full = b.by_agent("fixer", &fresh(), "GET", &path, None).await;
    assert_eq!(full.headers["retry-after"], "5");
    assert_eq!(full.good()["state"], "pending");
    let approved = b.approve(pending, &["bob"]).await;
    let path = format!("/v1/grants/{}?wait=60", approved.grant);
    let settled = b.by_agent("fixer", &fresh(), "GET", &path, None).await;
    assert!(!settled.headers.contains_key("retry-after"), "nothing to wait for");
    assert_eq!(settled.good()["state"], "approved");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_with_the_signature_it_waits_for() {
    let b = TestBroker::with(Setup { waits_per_agent: 1, ..Setup::default() }).await;
    let pending = b.run_to_pending().await;
    let path = format!("/v1/grants/{}?wait=60", pending.grant);
    let key = fresh();
    let (waited, _) = tokio::join!(b.by_agent("fixer", &key, "GET", &path, None), async {
        let token = b.approval("bob", &pending.sealed);
        b.answer(&pending, &token).await.good()
    });
    assert_eq!(waited.good()["state"], "approved");
}
