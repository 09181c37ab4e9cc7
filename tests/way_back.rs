//! An action that people sign together with its way back: neither is left without the other before it is used.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;

use broker::TestBroker;
use broker::flow::{Approved, Pending, proposal};
use phasebroker::broker::ports::Store as _;
use phasebroker::cli::agent::PhaseKey;
use phasebroker::domain::approval::Answer;
use phasebroker::domain::grant::{GrantState, SealedGrant};
use phasebroker::domain::id::GrantId;
use serde_json::json;

/// A broker whose `scale-service` names itself as its way back.
async fn broker() -> TestBroker {
    let b = TestBroker::start().await;
    b.reload(|written| {
        let catalog = written.catalog.replace("settles = \"Scale back\"\n", "");
        let back = "[actions.scale-service.inverse]\naction = \"scale-service\"\n\
                    parameters = { service = \"{service}\", replicas = \"{replicas}\" }\n";
        written.catalog = format!("{catalog}\n{back}");
    })
    .await;
    b
}

/// Both, waiting for signatures.
async fn pair(b: &TestBroker) -> (Pending, SealedGrant) {
    let deciding = b.run_to_deciding("demo").await;
    let (claim_key, back_key) = (PhaseKey::generate().unwrap(), PhaseKey::generate().unwrap());
    let parameters = json!({"service": "checkout", "replicas": 3});
    let mut asked = proposal("demo", "scale-service", parameters, &claim_key);
    asked.inverse_claim_key = Some(back_key.thumbprint());
    let proposed = b.agent("fixer").propose(&deciding.token, &deciding.key, &asked).await.unwrap();
    let sealed = stored(b, proposed.grant).await;
    let back = stored(b, proposed.inverse.unwrap()).await;
    (Pending { deciding, grant: proposed.grant, sealed, proposed, claim_key }, back)
}

async fn stored(b: &TestBroker, grant: GrantId) -> SealedGrant {
    b.disk.grant(grant).await.unwrap().unwrap().sealed
}

async fn answer(b: &TestBroker, person: &str, sealed: &SealedGrant, answer: Answer) -> broker::calls::Reply {
    let token = b.signed(person, &b.claims(person, sealed, answer));
    let reason = (answer != Answer::Approve).then_some(broker::people::REASON);
    let body = match reason {
        Some(reason) => json!({"token": token, "reason": reason}),
        None => json!({"token": token}),
    };
    let path = format!("/v1/grants/{}/approvals", sealed.grant().id);
    b.call("POST", &path, &[], Some(&body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_denies_either_of_both_ends_both() {
    let b = broker().await;
    let (pending, back) = pair(&b).await;
    answer(&b, "bob", &back, Answer::Deny).await.good();
    assert_eq!(b.grant_state(pending.grant).await, GrantState::Cancelled);
    answer(&b, "erin", &pending.sealed, Answer::Approve).await.refused(409, "grant_not_open", "");
    let (pending, back) = pair(&b).await;
    answer(&b, "bob", &pending.sealed, Answer::Deny).await.good();
    assert_eq!(b.grant_state(back.grant().id).await, GrantState::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_is_claimed_once_its_way_back_is_approved_and_not_before() {
    let b = broker().await;
    let (pending, back) = pair(&b).await;
    let Approved { pending, tokens } = b.approve(pending, &["erin", "bob"]).await;
    b.claim_with(&pending, &tokens).await.refused(422, "approvals_missing", "way back");
    for person in ["erin", "bob"] {
        answer(&b, person, &back, Answer::Approve).await.good();
    }
    b.claim_with(&pending, &tokens).await.good();
}
