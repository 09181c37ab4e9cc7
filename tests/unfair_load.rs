//! What one hostile caller can take from the others: ledger writes and waits are shared out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;

use broker::TestBroker;
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
