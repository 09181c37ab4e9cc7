//! A way back is claimed after the grant that it takes back was used, once, and goes when that grant goes.

use std::sync::atomic::Ordering;

use phasebroker::cli::agent::PhaseKey;
use phasebroker::domain::approval::Answer;
use phasebroker::domain::grant::GrantState;
use serde_json::json;

use super::reviews::refusing;
use super::ways_back::{scale, start, with_ways_back};
use crate::broker::flow::{proposal, restart};

#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_is_claimed_after_the_first_was_released_and_once() {
    let world = start().await;
    let pair = world.signed_pair().await;
    world.claim_back(&pair).await.refused(409, "grant_not_open", "");
    assert_eq!(world.b.grant_state(pair.back).await, GrantState::Approved, "a refused claim spent it");

    world.go_forward(&pair).await;
    world.claim_back(&pair).await.refused(409, "phase_order", "");
    world.look_again(&pair).await;
    let mark = world.b.mark().await;
    let claimed = world.claim_back(&pair).await.good();
    let intent = &world.events(mark, "lease.intent").await[0];
    assert_eq!((&intent["facts"]["authority"], &intent["grant"]), (&json!("voucher"), &json!(pair.back)));
    let action = &pair.back_sealed.grant().action;
    assert_eq!(action.parameters["replicas"].to_string(), "3");
    assert_eq!(claimed["lease"], pair.back_sealed.grant().time.lease.to_string());
    world.claim_back(&pair).await.refused(409, "grant_spent", "propose again");
    world.claim_forward(&pair).await.refused(409, "grant_spent", "propose again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_that_is_not_used_is_no_hindrance_and_runs_out() {
    let world = start().await;
    let pair = world.signed_pair().await;
    world.go_forward(&pair).await;
    world.b.clock.pass(3600);
    world.look_again(&pair).await;
    world.claim_back(&pair).await.refused(410, "grant_expired", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_is_claimed_with_its_own_key_and_its_own_approvals() {
    let world = start().await;
    let mut pair = world.signed_pair().await;
    world.go_forward(&pair).await;
    world.look_again(&pair).await;
    let path = format!("/v1/grants/{}/claim", pair.back);
    let body = json!({"approvals": pair.back_tokens});
    let stranger = PhaseKey::generate().unwrap();
    for key in [&pair.forward.claim_key, &stranger] {
        let reply = world.b.by_agent("fixer", key.signing_key(), "POST", &path, Some(&body)).await;
        assert_eq!((reply.status, reply.code()), (403, "wrong_claimant"), "{}", reply.text);
    }
    let right = std::mem::take(&mut pair.back_tokens);
    world.claim_back(&pair).await.refused(422, "approvals_missing", "present the approval tokens");
    pair.back_tokens = right[..1].to_vec();
    world.claim_back(&pair).await.refused(422, "approvals_missing", "missing: 1 of on-call");
    pair.back_tokens = pair.tokens.clone();
    world.claim_back(&pair).await.refused(422, "approval_invalid", "another");
    pair.back_tokens = right;
    world.claim_back(&pair).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_that_people_did_not_sign_is_not_claimed() {
    let world = start().await;
    let mut pair = world.pair().await;
    for person in ["bob", "erin"] {
        let token = world.b.approval(person, &pair.forward.sealed);
        world.b.answer(&pair.forward, &token).await.good();
        pair.tokens.push(token);
    }
    let claimed = world.b.claim_with(&pair.forward, &pair.tokens).await;
    claimed.refused(422, "approvals_missing", "its way back");
    world.claim_back(&pair).await.refused(409, "grant_not_open", "pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_takes_the_way_back_with_it() {
    let world = start().await;
    for signed in [false, true] {
        let pair = if signed { world.signed_pair().await } else { world.pair().await };
        let deny = world.b.claims("sam", &pair.forward.sealed, Answer::Deny);
        world.b.answer_with_reason(&pair.forward, &world.b.signed("sam", &deny)).await.good();
        assert_eq!(world.b.grant_state(pair.forward.grant).await, GrantState::Denied);
        assert_eq!(world.b.grant_state(pair.back).await, GrantState::Cancelled);
        world.claim_back(&pair).await.refused(409, "grant_not_open", "cancelled");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_takes_the_way_back_with_it() {
    let world = start().await;
    let pair = world.signed_pair().await;
    let withdraw = world.b.claims("bob", &pair.forward.sealed, Answer::Withdraw);
    world.b.answer_with_reason(&pair.forward, &world.b.signed("bob", &withdraw)).await.good();
    assert_eq!(world.b.grant_state(pair.forward.grant).await, GrantState::Withdrawn);
    assert_eq!(world.b.grant_state(pair.back).await, GrantState::Cancelled);
    world.claim_back(&pair).await.refused(409, "grant_not_open", "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_before_the_rule_is_complete_leaves_no_grant_without_its_way_back() {
    let world = start().await;
    let pair = world.pair().await;
    world.ceremony("bob", pair.forward.grant, &mut |_, _| true).await.unwrap();
    let withdraw = world.b.claims("bob", &pair.forward.sealed, Answer::Withdraw);
    world.b.answer_with_reason(&pair.forward, &world.b.signed("bob", &withdraw)).await.good();
    let states = [world.b.grant_state(pair.forward.grant).await, world.b.grant_state(pair.back).await];
    assert_eq!(states, [GrantState::Withdrawn, GrantState::Cancelled]);
    let token = world.b.approval("erin", &pair.forward.sealed);
    world.b.answer(&pair.forward, &token).await.refused(409, "grant_not_open", "withdrawn");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_stops_asking_and_a_closed_run_end_both() {
    let world = start().await;
    for signed in [false, true] {
        let pair = if signed { world.signed_pair().await } else { world.pair().await };
        world.b.agent("fixer").cancel_grant(pair.forward.grant).await.unwrap();
        assert_eq!(world.b.grant_state(pair.back).await, GrantState::Cancelled);
        let pair = if signed { world.signed_pair().await } else { world.pair().await };
        world.b.agent("fixer").close_run(pair.forward.deciding.run).await.map(drop).unwrap();
        let states = [world.b.grant_state(pair.forward.grant).await, world.b.grant_state(pair.back).await];
        assert_eq!(states, [GrantState::Cancelled; 2]);
        world.claim_back(&pair).await.refused(409, "grant_not_open", "cancelled");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_run_is_closed_nothing_is_taken_back() {
    let world = start().await;
    let pair = world.signed_pair().await;
    world.go_forward(&pair).await;
    world.b.agent("fixer").close_run(pair.forward.deciding.run).await.map(drop).unwrap();
    world.claim_back(&pair).await.refused(409, "grant_not_open", "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_claimed_is_not_taken_back() {
    let world = start().await;
    let pair = world.signed_pair().await;
    world.b.clock.pass(121);
    world.b.sweep().await;
    assert_eq!(world.b.grant_state(pair.forward.grant).await, GrantState::Lapsed);
    world.look_again(&pair).await;
    world.claim_back(&pair).await.refused(409, "grant_not_open", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_refused_to_mint_is_not_taken_back() {
    let (world, refuses) = refusing().await;
    let world = with_ways_back(world).await;
    let pair = world.signed_pair().await;
    world.claim_forward(&pair).await.refused(503, "provider_refused", "");
    world.look_again(&pair).await;
    refuses.store(false, Ordering::SeqCst);
    world.claim_back(&pair).await.refused(409, "grant_not_open", "");
    // The first one is unspent; once it was used, there is something to take back.
    world.go_forward(&pair).await;
    world.look_again(&pair).await;
    world.claim_back(&pair).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_is_open_while_a_budget_is_used_up() {
    let world = start().await;
    world
        .b
        .reload(|written| {
            let run = "step_up_at = 1000\nlimit = 10000\n";
            assert!(written.guardrails.contains(run));
            written.guardrails = written.guardrails.replacen(run, "limit = 2\n", 1);
        })
        .await;
    let pair = world.signed_pair().await;
    world.go_forward(&pair).await;
    let deciding = world.look_again(&pair).await;
    let key = PhaseKey::generate().unwrap();
    let asked = proposal("demo", "restart-service", restart("checkout"), &key);
    let refused = world.b.agent("fixer").propose(&deciding.token, &deciding.key, &asked).await.unwrap_err();
    assert_eq!(refused.code(), Some("policy_denied"), "{refused}");
    assert!(refused.to_string().contains("budget.run-changes"), "{refused}");
    world.claim_back(&pair).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_inverse_in_the_catalog_there_is_no_way_back_and_the_floor_holds() {
    let world = start().await;
    let deciding = world.b.run_to_deciding("demo").await;
    let (key, back) = (PhaseKey::generate().unwrap(), PhaseKey::generate().unwrap());
    let mut asked = proposal("demo", "restart-service", restart("billing"), &key);
    asked.inverse_claim_key = Some(back.thumbprint());
    let refused = world.b.agent("fixer").propose(&deciding.token, &deciding.key, &asked).await.unwrap_err();
    assert_eq!(refused.code(), Some("proposal_invalid"), "{refused}");
    assert!(refused.to_string().contains("names no inverse"), "{refused}");

    let pair = world.pair().await;
    assert!(pair.forward.sealed.grant().action.reversible);
    assert_eq!(pair.forward.proposed.reasons, ["people"]);
    world
        .b
        .reload(|written| {
            let from = written.catalog.find("[actions.scale-service.inverse]").unwrap();
            written.catalog.truncate(from);
        })
        .await;
    let hard = world.ask_in(world.b.run_to_deciding("demo").await, "scale-service", scale(), |_| {}).await;
    assert!(!hard.sealed.grant().action.reversible);
    assert_eq!(hard.proposed.reasons, ["hard", "floor.irreversible"]);
    assert!(hard.proposed.rule.groups.contains_key(&"data-owners".parse().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_the_way_back_is_a_key_of_its_own() {
    let world = start().await;
    let other = world.pair().await;
    let deciding = world.b.run_to_deciding("demo").await;
    let key = PhaseKey::generate().unwrap();
    for back in [
        key.thumbprint(),
        deciding.key.thumbprint(),
        other.back_key.thumbprint(),
        other.forward.claim_key.thumbprint(),
    ] {
        let mut asked = proposal("demo", "scale-service", scale(), &key);
        asked.inverse_claim_key = Some(back);
        let refused =
            world.b.agent("fixer").propose(&deciding.token, &deciding.key, &asked).await.unwrap_err();
        assert_eq!(refused.code(), Some("key_reused"), "{refused}");
    }
    world.pair_in(deciding).await;
}
