//! Approvals that say the wrong thing, at the wrong time, or by the wrong person.

use phasebroker::domain::approval::Answer;
use phasebroker::domain::grant::GrantState;

use super::*;
use crate::broker::flow::restart;

#[tokio::test]
async fn an_approval_for_another_grant_does_not_count() {
    let b = TestBroker::start().await;
    let (pending, other) = (b.run_to_pending().await, b.run_to_pending().await);
    let swapped = b.approval("bob", &other.sealed);
    refusal(422, "approval_invalid", "for another grant").of_answer(&b, &pending, &swapped).await;
    let mut claims = b.claims("bob", &pending.sealed, Answer::Approve);
    claims.grant = other.sealed.digest();
    let half = b.signed("bob", &claims);
    refusal(422, "approval_invalid", "signed bytes differ").of_answer(&b, &pending, &half).await;
    let approved = b.approve(pending, &["bob"]).await;
    let other = b.approve(other, &["erin"]).await;
    refusal(422, "approval_invalid", "for another grant").of_claim(&b, &approved, &other.tokens).await;
    still_claimable(&b, &approved).await;
}

#[tokio::test]
async fn an_approval_for_another_agent_does_not_count() {
    let b = TestBroker::start().await;
    let pending = b.run_to_pending().await;
    let mut claims = b.claims("bob", &pending.sealed, Answer::Approve);
    claims.sub = "twin".parse().unwrap();
    let token = b.signed("bob", &claims);
    refusal(422, "approval_invalid", "another agent").of_answer(&b, &pending, &token).await;
    still_good(&b, pending).await;
}

#[tokio::test]
async fn an_approval_for_another_broker_does_not_count() {
    let b = TestBroker::start().await;
    let pending = b.run_to_pending().await;
    let mut claims = b.claims("bob", &pending.sealed, Answer::Approve);
    claims.aud = "https://other.example".into();
    let token = b.signed("bob", &claims);
    refusal(422, "approval_invalid", "another broker").of_answer(&b, &pending, &token).await;
    still_good(&b, pending).await;
}

#[tokio::test]
async fn an_approval_for_another_epoch_does_not_count() {
    let b = TestBroker::start().await;
    let (pending, approved) = (b.run_to_pending().await, b.run_to_approved().await);
    let b = b.fenced().await;
    let dead = refusal(422, "grant_foreign", "older epoch");
    dead.of_answer(&b, &pending, &b.approval("bob", &pending.sealed)).await;
    dead.of_claim(&b, &approved, &approved.tokens).await;
    assert_eq!(b.grant_state(approved.grant).await, GrantState::Approved);
    let fresh = b.run_to_approved().await;
    still_claimable(&b, &fresh).await;
}

#[tokio::test]
async fn an_approval_for_another_environment_does_not_count() {
    let b = TestBroker::start().await;
    let pending = b.run_to_pending().await;
    let stage = b.run_to_deciding("stage").await;
    let stage = b.propose(stage, "restart-service", restart("checkout")).await;
    let token = b.approval("bob", &stage.sealed);
    refusal(422, "approval_invalid", "for another grant").of_answer(&b, &pending, &token).await;
    let stage = b.approve(stage, &["bob"]).await;
    let (with, without) = ("environments = [\"demo\", \"stage\"]", "environments = [\"demo\"]");
    b.reload(|written| {
        written.catalog = written
            .catalog
            .replace("[environments.stage.jwt]\naudience = \"http://127.0.0.1:8479\"\n", "")
            .replace(with, without)
            .replace("\"stage\", ", "");
    })
    .await;
    refusal(422, "grant_foreign", "no environment `stage`").of_claim(&b, &stage, &stage.tokens).await;
    still_good(&b, pending).await;
}

#[tokio::test]
async fn an_expired_approval_does_not_count() {
    let b = TestBroker::start().await;
    let pending = b.run_to_pending().await;
    let late = b.run_to_approved().await;
    b.clock.pass(119);
    still_claimable(&b, &late).await;
    let b = TestBroker::start().await;
    let late = b.run_to_approved().await;
    b.clock.pass(120);
    refusal(410, "grant_expired", "propose again").of_claim(&b, &late, &late.tokens).await;
    b.sweep().await;
    assert_eq!(b.grant_state(late.grant).await, GrantState::Lapsed);
    refusal(410, "grant_expired", "propose again").of_claim(&b, &late, &late.tokens).await;
    drop(pending);

    let pending = b.run_to_pending().await;
    b.clock.pass(900);
    let token = b.approval("bob", &pending.sealed);
    refusal(422, "approval_invalid", "it could be signed until").of_answer(&b, &pending, &token).await;
    b.sweep().await;
    assert_eq!(b.grant_state(pending.grant).await, GrantState::Lapsed);
    let mut claims = b.claims("bob", &b.run_to_pending().await.sealed, Answer::Approve);
    let pending = b.run_to_pending().await;
    claims = phasebroker::domain::approval::ApprovalClaims {
        exp: claims.exp.plus(1),
        ..b.claims("bob", &pending.sealed, Answer::Approve)
    };
    let token = b.signed("bob", &claims);
    refusal(422, "approval_invalid", "`exp` must be").of_answer(&b, &pending, &token).await;
    still_good(&b, pending).await;
}

#[tokio::test]
async fn a_backdated_approval_does_not_count() {
    let b = TestBroker::start().await;
    let pending = b.run_to_pending().await;
    for skew in [-61, 61] {
        let mut claims = b.claims("bob", &pending.sealed, Answer::Approve);
        claims.iat = claims.iat.plus(skew);
        let token = b.signed("bob", &claims);
        refusal(422, "approval_invalid", "may differ by 60 s").of_answer(&b, &pending, &token).await;
    }
    let mut claims = b.claims("bob", &pending.sealed, Answer::Approve);
    claims.iat = claims.iat.plus(-60);
    let token = b.signed("bob", &claims);
    b.answer(&pending, &token).await.good();
    still_claimable(&b, &Approved { pending, tokens: vec![token] }).await;
}

#[tokio::test]
async fn an_approval_by_an_unknown_key_does_not_count() {
    let b = TestBroker::start().await;
    let pending = b.run_to_pending().await;
    let claims = b.claims("bob", &pending.sealed, Answer::Approve);
    let unknown = b.signed("stranger", &claims);
    refusal(422, "approval_invalid", "not enrolled for any person").of_answer(&b, &pending, &unknown).await;
    // Another person's key, and an agent's.
    let borrowed = b.signed("erin", &claims);
    refusal(422, "approval_invalid", "enrolled for `erin`").of_answer(&b, &pending, &borrowed).await;
    let agents = b.signed("fixer", &claims);
    refusal(422, "approval_invalid", "not enrolled for any person").of_answer(&b, &pending, &agents).await;
    still_good(&b, pending).await;
}

#[tokio::test]
async fn an_approval_by_a_removed_key_does_not_count_any_more() {
    let b = TestBroker::start().await;
    let (approved, pending) = (b.run_to_approved().await, b.run_to_pending().await);
    let before = b.written.lock().unwrap().directory.clone();
    b.reload(|written| written.remove("bob")).await;
    let gone = refusal(422, "approval_invalid", "not enrolled for any person");
    gone.of_claim(&b, &approved, &approved.tokens).await;
    gone.of_answer(&b, &pending, &b.approval("bob", &pending.sealed)).await;
    // Enrolled only after the grant was sealed: it counts for nothing either, but for what is sealed from now on.
    let sealed_without = b.run_to_pending().await;
    b.reload(|written| written.directory = before).await;
    b.answer(&sealed_without, &b.approval("bob", &sealed_without.sealed)).await.good();
    assert_eq!(b.grant_state(sealed_without.grant).await, GrantState::Pending);
    still_claimable(&b, &approved).await;
    b.agent("fixer").cancel_grant(sealed_without.grant).await.unwrap();
}

#[tokio::test]
async fn an_approval_by_an_ineligible_person_does_not_count() {
    let b = TestBroker::start().await;
    let pending = b.run_to_pending().await;
    for (person, why) in [
        ("alice", "no self-approval"),
        ("dana", "in none of the groups"),
        ("rita", "in none of the groups"),
        ("olga", "not an approver"),
        ("audrey", "not an approver"),
    ] {
        let token = b.approval(person, &pending.sealed);
        refusal(403, "approver_ineligible", why).of_answer(&b, &pending, &token).await;
    }
    still_good(&b, pending).await;
}

#[tokio::test]
async fn an_approval_by_a_key_of_the_wrong_custody_does_not_count() {
    let b = TestBroker::start().await;
    let deciding = b.run_to_deciding("demo").await;
    let parameters = serde_json::json!({"service": "checkout", "snapshot": "snap-00ff"});
    let pending = b.propose(deciding, "restore-data", parameters).await;
    let silent = b.approval("sam", &pending.sealed);
    let wrong = refusal(403, "approver_ineligible", "`ssh_agent` is not accepted here");
    wrong.of_answer(&b, &pending, &silent).await;
    let approved = b.approve(pending, &["erin", "dana"]).await;
    still_claimable(&b, &approved).await;
    // Where the rule takes it, the same key counts.
    let b = TestBroker::start().await;
    let pending = b.run_to_pending().await;
    let approved = b.approve(pending, &["sam"]).await;
    still_claimable(&b, &approved).await;
}
