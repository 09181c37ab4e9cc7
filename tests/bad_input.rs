//! Bad input gets a clear error, leaves the grant unspent, and one event.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;

use broker::TestBroker;

#[tokio::test]
async fn an_approved_grant_is_claimed_once() {
    let b = TestBroker::start().await;
    let approved = b.run_to_approved().await;
    let claimed = b.claim(&approved).await.ok().unwrap();
    assert_eq!(claimed.lease, approved.sealed.grant().time.lease);
    assert_eq!(b.claim(&approved).await.err().unwrap().code(), Some("grant_spent"));
    let b = b.restart().await;
    assert_eq!(b.claim(&approved).await.err().unwrap().code(), Some("grant_spent"));
}
