//! Something large cut into small pieces: every piece is approved, and their sum asks for more people all the same.

use phasebroker::domain::grant::GrantState;
use serde_json::{Value, json};

use super::hand::{Crew, Hand, LARGER, SMALL, asks, larger_quorum, refused};
use crate::broker::TestBroker;
use crate::broker::flow::restart;
use crate::broker::rules::Written;

/// The ledger of privilege of an environment and day, which asks for a data owner beyond `line`.
fn privilege(written: &mut Written, line: u64) {
    written.guardrails.push_str(&format!(
        "\n[budgets.privilege]\ncounts = \"privilege\"\nper = [\"environment\"]\nseconds = 86400\nstep_up_at = {line}\n"
    ));
    let crossed = r#"context.crossed.contains(Budget::"privilege")"#;
    written.policy.push_str(&larger_quorum("beyond-privilege", crossed));
}

#[tokio::test(flavor = "multi_thread")]
async fn small_changes_across_runs_and_agents_reach_the_line_and_the_next_needs_more_people() {
    let (broker, crew) = (TestBroker::start().await, Crew::of(3));
    broker
        .reload(|written| {
            crew.enlist(written);
            privilege(written, 6);
        })
        .await;
    // Signed under the small rule while there was room, by an agent that has done nothing yet.
    let twin = Hand::of(&broker, "twin");
    let early = twin.pending("demo", "restart-service", restart("payments")).await;
    assert_eq!(asks(&early.proposed.rule), SMALL);
    let early = broker.approve(early, &["erin"]).await;
    let hands = crew.hands(&broker);
    for round in 0..2 {
        for hand in &hands {
            let service = format!("service-{round}");
            let pending = hand.pending("demo", "restart-service", restart(&service)).await;
            assert_eq!(asks(&pending.proposed.rule), SMALL, "each is small, and asked for as such");
            hand.carry_out(&broker.approve(pending, &["bob"]).await).await;
        }
    }
    // The seventh crosses the line: at the proposal, and at the claim of what was signed before.
    let next = hands[0].pending("demo", "restart-service", restart("checkout")).await;
    assert_eq!(asks(&next.proposed.rule), LARGER);
    assert!(next.proposed.reasons.contains(&"beyond-privilege".to_owned()), "{:?}", next.proposed.reasons);
    refused(twin.claim(&early).await, "approvals_missing", "1 of data-owners");
    assert_eq!(broker.grant_state(early.grant).await, GrantState::Approved, "it is unspent");
    // Elsewhere nothing was done, and with the larger quorum it goes on.
    assert_eq!(hands[1].signers("stage", "restart-service", restart("checkout")).await, SMALL);
    hands[0].carry_out(&broker.approve(next, &["bob", "dana"]).await).await;
}

const GRANT_ACCESS: &str = r#"
[actions.grant-access]
summary = "Let {service} call the payment API"
provider = "jwt"
class = "trust"
settles = "Access ends by itself"
changes = 1
max_work_seconds = 60
environments = ["demo"]

[actions.grant-access.parameters.service]
type = "string"
pattern = "[a-z][a-z0-9-]*"
max_length = 40
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_touches_data_or_trust_weighs_more_than_a_restart() {
    let broker = TestBroker::start().await;
    broker
        .reload(|written| {
            privilege(written, 1_000);
            written.catalog.push_str(GRANT_ACCESS);
            written.policy.push_str(&larger_quorum("trust", r#"resource.class == Class::"trust""#));
            written
                .guardrails
                .push_str("\n[privilege]\navailability = 1\ndata = 5\ntrust = 10\nirreversible_times = 2\n");
        })
        .await;
    let fixer = Hand::of(&broker, "fixer");
    let restore = json!({"service": "checkout", "snapshot": "snap-00ff"});
    let mut used = 0;
    for (action, parameters, people, weight) in [
        ("restart-service", restart("checkout"), &["bob"][..], 1),
        // Nothing takes it back: twice the weight of its class.
        ("restore-data", restore, &["bob", "dana"], 10),
        ("grant-access", json!({"service": "checkout"}), &["bob", "dana"], 10),
        ("scale-service", json!({"service": "checkout", "replicas": 2}), &["bob", "erin"], 2),
    ] {
        fixer.use_once("demo", action, parameters, people).await;
        let all = broker.decisions().await;
        let its = |one: &&Value| one["moment"] == "claim" && one["facts"]["action"] == action;
        let budget = &all.iter().find(its).unwrap()["facts"]["budgets"]["privilege"];
        assert_eq!((&budget["used"], &budget["amount"]), (&json!(used), &json!(weight)), "{action}");
        used += weight;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_heavy_change_crosses_a_line_that_light_ones_do_not() {
    let broker = TestBroker::start().await;
    broker.reload(|written| privilege(written, 9)).await;
    let fixer = Hand::of(&broker, "fixer");
    for _ in 0..2 {
        fixer.use_once("demo", "restart-service", restart("checkout"), &["bob"]).await;
    }
    assert_eq!(fixer.signers("demo", "restart-service", restart("checkout")).await, SMALL);
    let restore = json!({"service": "checkout", "snapshot": "snap-00ff"});
    fixer.use_once("demo", "restore-data", restore, &["bob", "dana"]).await;
    assert_eq!(fixer.signers("demo", "restart-service", restart("checkout")).await, LARGER);
}
