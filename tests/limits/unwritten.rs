//! Stops and freezes that met a disk which could not record: they hold at once, and through a restart.

use phasebroker::domain::grant::GrantState;
use serde_json::{Value, json};

use super::hand::{Hand, refused};
use crate::broker::TestBroker;
use crate::broker::flow::{Approved, restart};

/// One grant of `fixer` and one of `twin`, both approved.
async fn approved(broker: &TestBroker) -> (Approved, Approved) {
    let twin = Hand::of(broker, "twin");
    let pending = twin.pending("demo", "restart-service", restart("checkout")).await;
    (broker.run_to_approved().await, broker.approve(pending, &["bob"]).await)
}

/// Who is said to have frozen something.
async fn frozen_by(broker: &TestBroker) -> Value {
    let all = broker.by_person("audrey", "GET", "/v1/freezes", None).await.good();
    all["freezes"][0]["by"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_that_the_disk_cannot_take_holds_at_once_and_is_recorded_when_it_can() {
    let broker = TestBroker::start().await;
    let (its, others) = approved(&broker).await;
    let mark = broker.mark().await;
    broker.disk.fill();
    let answer = broker.freeze("agent:fixer").await;
    assert_eq!((&answer["recorded"], &answer["stopped"]["recorded"]), (&json!(false), &json!(false)));
    broker.disk.mend();
    // The disk works again, and nobody has told it yet.
    assert_eq!(broker.frozen().await, ["agent:fixer"]);
    assert_eq!(broker.count_since(mark, "frozen").await, 0);
    refused(Hand::of(&broker, "fixer").open("demo").await, "frozen", "agent:fixer");
    assert!(broker.claim(&its).await.is_err());
    assert_eq!(broker.grant_state(its.grant).await, GrantState::Approved, "nobody could write that down");
    broker.sweep().await;
    assert_eq!(broker.count_since(mark, "frozen").await, 1);
    assert_eq!(broker.grant_state(its.grant).await, GrantState::Cancelled);
    broker.sweep().await;
    assert_eq!(broker.count_since(mark, "frozen").await, 1, "once is enough");
    Hand::of(&broker, "twin").claim(&others).await.map(drop).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_that_the_disk_cannot_take_holds_after_a_restart() {
    let broker = TestBroker::start().await;
    let (its, others) = approved(&broker).await;
    broker.disk.fill();
    broker.freeze("agent:fixer").await;
    let broker = broker.restart().await;
    assert_eq!(
        (broker.frozen().await, frozen_by(&broker).await),
        (vec!["agent:fixer".into()], json!("broker"))
    );
    refused(Hand::of(&broker, "fixer").open("demo").await, "frozen", "agent:fixer");
    refused(broker.claim(&its).await, "frozen", "agent:fixer");
    assert_eq!(broker.grant_state(its.grant).await, GrantState::Cancelled);
    let broker = broker.restart().await;
    assert_eq!(broker.frozen().await, ["agent:fixer"]);
    Hand::of(&broker, "twin").claim(&others).await.map(drop).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_cancelled_by_a_stop_that_the_disk_could_not_take_is_not_claimable_after_a_restart() {
    let broker = TestBroker::start().await;
    let (its, others) = approved(&broker).await;
    broker.disk.fill();
    let body = json!({"agent": "fixer", "reason": "it breaks things"});
    let stopped = broker.by_person("olga", "POST", "/v1/stop", Some(&body)).await.good();
    assert_eq!(stopped["recorded"], false);
    assert_eq!(broker.grant_state(its.grant).await, GrantState::Approved, "nobody could write that down");
    let broker = broker.restart().await;
    refused(broker.claim(&its).await, "grant_not_open", "cancelled");
    assert_eq!(broker.grant_state(its.grant).await, GrantState::Cancelled);
    // The stop concerned nobody else, and nothing later.
    Hand::of(&broker, "twin").claim(&others).await.map(drop).unwrap();
    broker.clock.pass(1);
    Hand::of(&broker, "fixer").use_once("demo", "restart-service", restart("checkout"), &["bob"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_the_disk_could_not_take_holds_while_nobody_has_told_the_disk_yet() {
    let broker = TestBroker::start().await;
    let (its, _) = approved(&broker).await;
    broker.disk.fill();
    let body = json!({"everything": true, "reason": "it breaks things"});
    broker.by_person("olga", "POST", "/v1/stop", Some(&body)).await.good();
    broker.disk.mend();
    refused(broker.claim(&its).await, "grant_not_open", "a person stopped it");
    broker.sweep().await;
    assert_eq!(broker.grant_state(its.grant).await, GrantState::Cancelled);
    let broker = broker.restart().await;
    refused(broker.claim(&its).await, "grant_not_open", "cancelled");
}

/// Frozen, asked to unfreeze, and frozen again over a full disk.
async fn frozen_again_unrecorded(broker: &TestBroker) -> super::unfreezing::Asked {
    broker.freeze("agent:fixer").await;
    let asked = broker.asked_to_unfreeze("agent:fixer").await;
    broker.sign_asked("dana", &asked).await.good();
    broker.clock.pass(1);
    broker.disk.fill();
    assert_eq!(broker.freeze("agent:fixer").await["recorded"], false);
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_freeze_that_the_disk_could_not_take_is_not_lifted_by_earlier_signatures() {
    let broker = TestBroker::start().await;
    let asked = frozen_again_unrecorded(&broker).await;
    broker.disk.mend();
    assert_eq!(broker.sign_asked("bob", &asked).await.status, 409);
    assert_eq!(broker.frozen().await, ["agent:fixer"]);
    refused(Hand::of(&broker, "fixer").open("demo").await, "frozen", "agent:fixer");
    // What is asked since lifts it.
    broker.sweep().await;
    broker.clock.pass(1);
    let asked = broker.asked_to_unfreeze("agent:fixer").await;
    broker.sign_asked("dana", &asked).await.good();
    broker.sign_asked("bob", &asked).await.good();
    Hand::of(&broker, "fixer").open("demo").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_freeze_that_the_disk_could_not_take_is_remembered_through_a_restart() {
    let broker = TestBroker::start().await;
    let asked = frozen_again_unrecorded(&broker).await;
    let broker = broker.restart().await;
    assert_eq!(broker.sign_asked("bob", &asked).await.status, 409);
    assert_eq!(broker.frozen().await, ["agent:fixer"]);
}
