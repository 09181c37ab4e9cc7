//! Bad input gets a clear error, leaves the grant unspent, and one ledger event. One test per phrase, in the order in
//! which the requirement names them; each ends by claiming the grant, where it still can be claimed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;
mod fake_aws;
mod lying_broker;

#[path = "bad_input/approval_claims.rs"]
mod approval_claims;
#[path = "bad_input/approval_form.rs"]
mod approval_form;
#[path = "bad_input/claims.rs"]
mod claims;
#[path = "bad_input/exceptions.rs"]
mod exceptions;
#[path = "bad_input/logins.rs"]
mod logins;
#[path = "bad_input/lying_server.rs"]
mod lying_server;
#[path = "bad_input/proposals.rs"]
mod proposals;
#[path = "bad_input/reserved_keys.rs"]
mod reserved_keys;

use broker::TestBroker;
use broker::calls::Reply;
use broker::flow::{Approved, Pending};
use phasebroker::domain::grant::GrantState;
use phasebroker::domain::id::GrantId;

/// A refusal as it must be: status and code, a text that says `telling`, and one event since `mark` that names the code.
struct Refusal<'a> {
    status: u16,
    code: &'a str,
    telling: &'a str,
}

fn refusal<'a>(status: u16, code: &'a str, telling: &'a str) -> Refusal<'a> {
    Refusal { status, code, telling }
}

impl Refusal<'_> {
    /// Checks the reply, and the one event it left since `mark`, about `grant` where there is one.
    async fn holds(&self, b: &TestBroker, mark: u64, reply: &Reply, grant: Option<GrantId>) {
        reply.refused(self.status, self.code, self.telling);
        assert!(reply.detail().len() > 20, "too short to help: {}", reply.text);
        let events = b.events_since(mark).await;
        assert_eq!(events.len(), 1, "one event: {events:?}");
        assert_eq!((&events[0]["type"], &events[0]["facts"]["code"]), (&"refused".into(), &self.code.into()));
        if let Some(grant) = grant {
            assert_eq!(events[0]["grant"], grant.to_string());
        }
    }

    /// Posts `token` as an approval of `pending`, and checks its refusal.
    async fn of_answer(&self, b: &TestBroker, pending: &Pending, token: &str) {
        let (mark, before) = (b.mark().await, b.grant_state(pending.grant).await);
        let reply = b.answer(pending, token).await;
        self.holds(b, mark, &reply, Some(pending.grant)).await;
        assert_eq!(b.grant_state(pending.grant).await, before, "{}", reply.text);
    }

    /// Claims `pending` with `tokens`, and checks the refusal.
    async fn of_claim(&self, b: &TestBroker, pending: &Pending, tokens: &[String]) {
        let (mark, before) = (b.mark().await, b.grant_state(pending.grant).await);
        let reply = b.claim_with(pending, tokens).await;
        self.holds(b, mark, &reply, Some(pending.grant)).await;
        assert_eq!(b.grant_state(pending.grant).await, before, "{}", reply.text);
    }
}

/// The grant is what it was: bob's honest signature completes it, and it is claimed.
async fn still_good(b: &TestBroker, pending: Pending) {
    let approved = b.approve(pending, &["bob"]).await;
    still_claimable(b, &approved).await;
}

/// The approved grant is unspent: it is claimed now, once.
async fn still_claimable(b: &TestBroker, approved: &Approved) {
    let claimed = b.claim(approved).await.unwrap_or_else(|error| panic!("not claimable: {error}"));
    assert_eq!(claimed.lease, approved.sealed.grant().time.lease);
    assert_eq!(b.grant_state(approved.grant).await, GrantState::Claimed);
}
