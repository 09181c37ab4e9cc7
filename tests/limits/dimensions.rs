//! What tells counts of one budget apart: run, agent, environment, account, service and action type.

use serde_json::{Value, json};

use super::budgets::shift;
use super::hand::{Hand, refused};
use crate::broker::TestBroker;
use crate::broker::flow::{Deciding, restart};
use crate::broker::rules::Written;

/// A limit of one use per `dimension`.
async fn limited(dimension: &str, change: impl FnOnce(&mut Written)) -> TestBroker {
    let broker = TestBroker::start().await;
    let budget = format!("counts = \"uses\"\nper = [\"{dimension}\"]\nseconds = 3600\nlimit = 1");
    broker
        .reload(|written| {
            shift(written, &budget);
            change(written);
        })
        .await;
    broker
}

/// `fixer` restarts `checkout` in `demo`, once.
async fn used_once(broker: &TestBroker) {
    Hand::of(broker, "fixer").use_once("demo", "restart-service", restart("checkout"), &["bob"]).await;
}

async fn ask(hand: &Hand<'_>, environment: &'static str, action: &str, parameters: Value) -> bool {
    let deciding = hand.deciding(environment).await;
    may(hand, &deciding, action, parameters).await
}

/// Whether something more fits; what does not is refused for want of the budget.
async fn may(hand: &Hand<'_>, deciding: &Deciding, action: &str, parameters: Value) -> bool {
    let asked = hand.ask(deciding, action, parameters, |_| {}).await;
    let fits = asked.is_ok();
    if !fits {
        refused(asked, "policy_denied", "policy says no: budget.shift");
    }
    fits
}

#[tokio::test(flavor = "multi_thread")]
async fn each_run_has_a_count_of_its_own() {
    let broker = limited("run", |_| {}).await;
    let fixer = Hand::of(&broker, "fixer");
    let pending = fixer.pending("demo", "restart-service", restart("checkout")).await;
    let approved = broker.approve(pending, &["bob"]).await;
    fixer.carry_out(&approved).await;
    let run = approved.deciding.run;
    fixer.observe(run, "service-status").await.map(drop).unwrap();
    let (token, key) = fixer.decide(run).await.unwrap();
    let same = Deciding { run, environment: "demo", token, key };
    assert!(!may(&fixer, &same, "restart-service", restart("checkout")).await);
    assert!(ask(&fixer, "demo", "restart-service", restart("checkout")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_agent_has_a_count_of_its_own() {
    let broker = limited("agent", |_| {}).await;
    used_once(&broker).await;
    assert!(!ask(&Hand::of(&broker, "fixer"), "demo", "restart-service", restart("checkout")).await);
    assert!(ask(&Hand::of(&broker, "twin"), "demo", "restart-service", restart("checkout")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_environment_has_a_count_of_its_own() {
    let broker = limited("environment", |_| {}).await;
    used_once(&broker).await;
    let twin = Hand::of(&broker, "twin");
    assert!(!ask(&twin, "demo", "restart-service", restart("payments")).await);
    assert!(ask(&twin, "stage", "restart-service", restart("checkout")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_account_has_a_count_of_its_own_whatever_environment_it_is_called() {
    let broker = limited("account", |written| {
        let stage = "[environments.stage.jwt]\naudience = \"http://127.0.0.1:8479\"";
        let shared = "[environments.stage.jwt]\naudience = \"http://127.0.0.1:8478\"";
        assert!(written.catalog.contains(stage));
        written.catalog = written.catalog.replace(stage, shared);
    })
    .await;
    used_once(&broker).await;
    let twin = Hand::of(&broker, "twin");
    assert!(!ask(&twin, "stage", "restart-service", restart("checkout")).await);
    let broker = limited("account", |_| {}).await;
    used_once(&broker).await;
    assert!(ask(&Hand::of(&broker, "twin"), "stage", "restart-service", restart("checkout")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_has_a_count_of_its_own() {
    let broker = limited("service", |written| {
        let entry = "[actions.restart-service]\n";
        written.catalog = written.catalog.replace(entry, &format!("{entry}service = \"{{service}}\"\n"));
    })
    .await;
    used_once(&broker).await;
    let twin = Hand::of(&broker, "twin");
    assert!(!ask(&twin, "stage", "restart-service", restart("checkout")).await);
    assert!(ask(&twin, "demo", "restart-service", restart("payments")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_action_type_has_a_count_of_its_own() {
    let broker = limited("action", |_| {}).await;
    used_once(&broker).await;
    let twin = Hand::of(&broker, "twin");
    assert!(!ask(&twin, "demo", "restart-service", restart("payments")).await);
    let scale = json!({"service": "checkout", "replicas": 2});
    assert!(ask(&twin, "demo", "scale-service", scale).await);
}
