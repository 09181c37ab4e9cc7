//! An agent that may have read what anyone can write is tainted for a while, across runs; policy asks more people then.

use phasebroker::domain::grant::GrantState;
use phasebroker::domain::id::RunId;
use serde_json::json;

use super::hand::{Hand, LARGER, SMALL, asks, larger_quorum, refused};
use crate::broker::calls::Reply;
use crate::broker::flow::{Deciding, restart};
use crate::broker::{TestBroker, fresh};

/// An observe set that shows only what the control plane says; the usual one may show anything.
const TRUSTED: &str = "control-plane";
const UNTRUSTED: &str = "service-status";
/// Life of a credential for it, as in the test's catalog.
const OBSERVE_SECONDS: i64 = 600;

/// While an agent is tainted, a data owner signs too; it is for `window` seconds.
async fn start(window: i64) -> TestBroker {
    let broker = TestBroker::start().await;
    broker
        .reload(|written| {
            written.catalog.push_str(&format!(
                "\n[observe.{TRUSTED}]\nprovider = \"jwt\"\nenvironments = [\"demo\", \"stage\"]\nseconds = 600\ntrust = \"trusted\"\n"
            ));
            written.policy.push_str(&larger_quorum("tainted", "context.tainted"));
            let usual = "window_seconds = 3600";
            assert!(written.guardrails.contains(usual));
            written.guardrails = written.guardrails.replace(usual, &format!("window_seconds = {window}"));
        })
        .await;
    broker
}

/// Who must sign what the agent asks in a fresh run in which it saw trusted things only.
async fn signers(hand: &Hand<'_>) -> String {
    let deciding = hand.deciding_after("demo", TRUSTED).await;
    asks(&hand.pending_in(deciding, "restart-service", restart("checkout")).await.proposed.rule)
}

async fn says_it_read(broker: &TestBroker, agent: &str, run: RunId) -> Reply {
    let path = format!("/v1/runs/{run}/observations");
    let body = json!({"source": "a wiki page"});
    broker.by_agent(agent, &fresh(), "POST", &path, Some(&body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untrusted_set_taints_the_agent_in_its_next_run_and_nobody_else() {
    let broker = start(3600).await;
    let (fixer, twin) = (Hand::of(&broker, "fixer"), Hand::of(&broker, "twin"));
    assert_eq!(signers(&fixer).await, SMALL, "a trusted set taints nobody");
    fixer.deciding_after("stage", UNTRUSTED).await;
    assert_eq!(signers(&fixer).await, LARGER);
    assert_eq!(signers(&twin).await, SMALL);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taint_lasts_for_its_window_and_no_longer() {
    let broker = start(600).await;
    let fixer = Hand::of(&broker, "fixer");
    fixer.deciding_after("demo", UNTRUSTED).await;
    // It can read until its credential ends, and the window counts from then.
    broker.clock.pass(OBSERVE_SECONDS + 599);
    assert_eq!(signers(&fixer).await, LARGER);
    let broker = broker.restart().await;
    let fixer = Hand::of(&broker, "fixer");
    assert_eq!(signers(&fixer).await, LARGER, "it outlives a restart");
    broker.clock.pass(1);
    assert_eq!(signers(&fixer).await, SMALL);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_says_it_read_elsewhere_taints_it() {
    let broker = start(3600).await;
    let fixer = Hand::of(&broker, "fixer");
    let run = fixer.open("demo").await.unwrap();
    let told = says_it_read(&broker, "fixer", run).await.good();
    assert_eq!(told["trust"], "untrusted");
    assert_eq!(told["tainted_until"], json!(broker.clock.wall().plus(3600)));
    assert_eq!(signers(&fixer).await, LARGER);
    // Nobody taints an agent by the run of another.
    says_it_read(&broker, "twin", run).await.refused(404, "not_found", "");
    assert_eq!(signers(&Hand::of(&broker, "twin")).await, SMALL);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taint_between_proposal_and_claim_refuses_the_claim_under_the_small_rule() {
    let broker = start(60).await;
    let fixer = Hand::of(&broker, "fixer");
    let deciding = fixer.deciding_after("demo", TRUSTED).await;
    let run = deciding.run;
    let pending = fixer.pending_in(deciding, "restart-service", restart("checkout")).await;
    assert_eq!(asks(&pending.proposed.rule), SMALL);
    let approved = broker.approve(pending, &["erin"]).await;
    says_it_read(&broker, "fixer", run).await.good();
    refused(fixer.claim(&approved).await, "approvals_missing", "1 of data-owners");
    assert_eq!(broker.grant_state(approved.grant).await, GrantState::Approved, "it is unspent");
    broker.clock.pass(60);
    fixer.claim(&approved).await.map(drop).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_signed_under_the_larger_rule_is_claimed_while_tainted() {
    let broker = start(3600).await;
    let fixer = Hand::of(&broker, "fixer");
    let deciding = fixer.deciding_after("demo", UNTRUSTED).await;
    let pending = fixer.pending_in(deciding, "restart-service", restart("checkout")).await;
    fixer.carry_out(&broker.approve(pending, &["bob", "dana"]).await).await;
}

/// `fixer` proposes, in `deciding`, what `twin` will claim.
async fn for_twin(broker: &TestBroker, deciding: Deciding) -> crate::broker::flow::Pending {
    let twin = Some("twin".parse().unwrap());
    let fixer = Hand::of(broker, "fixer");
    fixer
        .pending_with(deciding, "restart-service", restart("checkout"), |asked| asked.claiming_agent = twin)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_claiming_agents_taint_counts_too_at_the_proposal_and_at_the_claim() {
    let broker = start(3600).await;
    let (fixer, twin) = (Hand::of(&broker, "fixer"), Hand::of(&broker, "twin"));
    let deciding = fixer.deciding_after("demo", TRUSTED).await;
    let pending = for_twin(&broker, deciding).await;
    assert_eq!(asks(&pending.proposed.rule), SMALL);
    let approved = broker.approve(pending, &["erin"]).await;
    let run = twin.open("demo").await.unwrap();
    says_it_read(&broker, "twin", run).await.good();
    refused(twin.claim(&approved).await, "approvals_missing", "1 of data-owners");
    let deciding = fixer.deciding_after("demo", TRUSTED).await;
    let pending = for_twin(&broker, deciding).await;
    assert_eq!(asks(&pending.proposed.rule), LARGER);
    assert_eq!(signers(&fixer).await, SMALL, "what fixer claims itself is not twin's");
    twin.claim(&broker.approve(pending, &["bob", "dana"]).await).await.map(drop).unwrap();
}
