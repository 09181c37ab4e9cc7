//! Claims that must not succeed: too few people, taken back, too late, by another, out of order.

use phasebroker::broker::runs::OpenRun;
use phasebroker::cli::agent::{Enter, PhaseKey};
use phasebroker::domain::approval::Answer;
use phasebroker::domain::phase::RunPhase;
use serde_json::json;

use super::*;
use crate::broker::fresh;

#[tokio::test]
async fn two_keys_of_one_person_are_no_quorum() {
    let b = TestBroker::start().await;
    let deciding = b.run_to_deciding("demo").await;
    let pending = b.propose(deciding, "scale-service", json!({"service": "web", "replicas": 3})).await;
    let first = b.approval("bob", &pending.sealed);
    b.answer(&pending, &first).await.good();
    let claims = b.claims("bob", &pending.sealed, Answer::Approve);
    let second = b.signed("bob2", &claims);
    refusal(409, "already_answered", "different people").of_answer(&b, &pending, &second).await;
    refusal(409, "grant_not_open", "not approved")
        .of_claim(&b, &pending, &[first.clone(), second.clone()])
        .await;
    let approved = b.approve(pending, &["erin"]).await;
    // The second key presented in the place of a second person.
    let never = refusal(422, "approval_invalid", "never reached the broker");
    never.of_claim(&b, &approved, &[first.clone(), second]).await;
    refusal(422, "approvals_missing", "1 of on-call")
        .of_claim(&b, &approved, std::slice::from_ref(&first))
        .await;
    let tokens = vec![first, approved.tokens[0].clone()];
    still_claimable(&b, &Approved { pending: approved.pending, tokens }).await;
}

#[tokio::test]
async fn a_grant_denied_after_the_token_was_handed_out_is_not_claimed() {
    let b = TestBroker::start().await;
    let approved = b.run_to_approved().await;
    let handed = b.agent("fixer").grant(approved.grant, 0).await.unwrap();
    assert_eq!(handed.approvals[0].token, approved.tokens[0]);
    let deny = b.signed("erin", &b.claims("erin", &approved.sealed, Answer::Deny));
    let mark = b.mark().await;
    b.answer_with_reason(&approved, &deny).await.good();
    assert_eq!(b.kinds_since(mark).await, ["grant.denied"]);
    refusal(409, "grant_not_open", "`denied`").of_claim(&b, &approved, &approved.tokens).await;
    let again = b.approval("sam", &approved.sealed);
    refusal(409, "grant_not_open", "`denied`").of_answer(&b, &approved, &again).await;
    // Not spent: denied, which is another end.
    assert_eq!(b.grant_state(approved.grant).await, GrantState::Denied);
}

#[tokio::test]
async fn a_grant_withdrawn_after_the_token_was_handed_out_is_not_claimed() {
    let b = TestBroker::start().await;
    let approved = b.run_to_approved().await;
    let withdraw = b.signed("bob", &b.claims("bob", &approved.sealed, Answer::Withdraw));
    let mark = b.mark().await;
    b.answer_with_reason(&approved, &withdraw).await.good();
    assert_eq!(b.kinds_since(mark).await, ["approval.withdrawn"]);
    refusal(409, "grant_not_open", "`withdrawn`").of_claim(&b, &approved, &approved.tokens).await;
    assert_eq!(b.grant_state(approved.grant).await, GrantState::Withdrawn);
    // Withdrawn while others still sign: the grant lives on without that signature.
    let deciding = b.run_to_deciding("demo").await;
    let pending = b.propose(deciding, "scale-service", json!({"service": "web", "replicas": 3})).await;
    let first = b.approval("bob", &pending.sealed);
    b.answer(&pending, &first).await.good();
    let withdraw = b.signed("bob", &b.claims("bob", &pending.sealed, Answer::Withdraw));
    b.answer_with_reason(&pending, &withdraw).await.good();
    refusal(409, "already_answered", "took this approval back").of_answer(&b, &pending, &first).await;
    let approved = b.approve(pending, &["erin", "sam"]).await;
    let stale = [first, approved.tokens[0].clone()];
    refusal(422, "approval_invalid", "withdrawn").of_claim(&b, &approved, &stale).await;
    still_claimable(&b, &approved).await;
}

#[tokio::test]
async fn the_second_claim_is_refused() {
    let b = TestBroker::start().await;
    let approved = b.run_to_approved().await;
    still_claimable(&b, &approved).await;
    let spent = refusal(409, "grant_spent", "propose again");
    spent.of_claim(&b, &approved, &approved.tokens).await;
    b.clock.pass(3600);
    b.sweep().await;
    spent.of_claim(&b, &approved, &approved.tokens).await;
    let b = b.restart().await;
    spent.of_claim(&b, &approved, &approved.tokens).await;
    refusal(409, "grant_spent", "cannot be answered").of_answer(&b, &approved, &approved.tokens[0]).await;
}

#[tokio::test]
async fn a_claim_by_another_agent_is_refused() {
    let b = TestBroker::start().await;
    let approved = b.run_to_approved().await;
    let (body, path) = (json!({"approvals": approved.tokens}), approved.path("claim"));
    for key in [&fresh(), approved.claim_key.signing_key()] {
        let mark = b.mark().await;
        let reply = b.by_agent("twin", key, "POST", &path, Some(&body)).await;
        refusal(403, "wrong_claimant", "another claiming agent")
            .holds(&b, mark, &reply, Some(approved.grant))
            .await;
    }
    still_claimable(&b, &approved).await;
}

#[tokio::test]
async fn a_claim_with_another_key_is_refused() {
    let b = TestBroker::start().await;
    let approved = b.run_to_approved().await;
    let (body, path) = (json!({"approvals": approved.tokens}), approved.path("claim"));
    for key in [&fresh(), approved.deciding.key.signing_key()] {
        let mark = b.mark().await;
        let reply = b.by_agent("fixer", key, "POST", &path, Some(&body)).await;
        refusal(403, "wrong_claimant", "key").holds(&b, mark, &reply, Some(approved.grant)).await;
    }
    still_claimable(&b, &approved).await;
}

#[tokio::test]
async fn a_skipped_phase_is_refused() {
    let b = TestBroker::start().await;
    let fixer = b.agent("fixer");
    let asked = OpenRun {
        environment: "demo".parse().unwrap(),
        purpose: "p".into(),
        ticket: None,
        prompt_digest: None,
        requester_token: None,
    };
    let run = fixer.open_run(&asked).await.unwrap().run;
    // Deciding without having observed; executing by asking for it.
    for (scope, telling) in [("phase:decide", "opened"), ("phase:execute", "claiming an approved grant")] {
        let mark = b.mark().await;
        let members = [("grant_type", "client_credentials"), ("run", &*run.to_string()), ("scope", scope)];
        let reply = b.form("/token", "fixer", Some(&fresh()), &members).await;
        refusal(400, "phase_order", telling).holds(&b, mark, &reply, None).await;
        assert_eq!(b.events_since(mark).await[0]["run"], run.to_string());
    }
    // Claiming from observe: the grant waits until the run decides again.
    let approved = b.run_to_approved().await;
    let run = approved.deciding.run;
    let observe = Enter::Observe("service-status");
    fixer.enter(run, observe, &PhaseKey::generate().unwrap()).await.map(drop).unwrap();
    refusal(409, "phase_order", "observe").of_claim(&b, &approved, &approved.tokens).await;
    fixer.enter(run, Enter::Decide, &PhaseKey::generate().unwrap()).await.map(drop).unwrap();
    assert_eq!(fixer.run(run).await.unwrap().phase, RunPhase::Decide);
    still_claimable(&b, &approved).await;
}
