//! Ends of epochs: what was signed in one is dead in the next, and a pack shows where each ended.

use serde_json::{Value, json};

use super::autonomous::used_playbook;
use super::packed::{Packed, packed, restart_of};
use crate::broker::TestBroker;

/// A restart that was done, and the pack of it that a broker gives after `store fence`.
async fn fenced() -> Packed {
    let b = TestBroker::start().await;
    let run = restart_of(&b).await;
    Packed::of(&b.fenced().await, run).await
}

/// With the only fence elsewhere, or as something else.
fn with_fence(it: &Packed, change: impl FnOnce(&mut Value)) -> Packed {
    let place = it.place("store.fenced");
    it.forged(|events| change(events.get_mut(&place).unwrap()))
}

/// Without its fence.
fn without_fence(it: &Packed) -> Packed {
    let place = it.place("store.fenced");
    it.forged(|events| drop(events.remove(&place)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_of_an_older_epoch_than_the_log_holds_with_the_fence_that_ended_it() {
    let it = fenced().await;
    let fence = it.events()[&it.place("store.fenced")].clone();
    assert_eq!((&fence["facts"]["old_epoch"], &fence["facts"]["epoch"]), (&json!(1), &json!(2)));
    let verdict = it.holds();
    assert!(verdict.to_string().contains("of log `broker.test/2`"), "{verdict}");
    assert!(verdict.to_string().contains("epoch 2 of the store began (fence)"), "{verdict}");
    assert!(verdict.does_not_prove.iter().any(|line| line.contains("restored from a backup")), "{verdict}");
    without_fence(&it).refused_only("epochs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_began_after_the_fence_needs_none() {
    let b = TestBroker::start().await.fenced().await;
    let run = restart_of(&b).await;
    let it = Packed::of(&b, run).await;
    it.holds();
    assert!(it.events().values().all(|event| event["type"] != "store.fenced"));
    for epoch in [1, 3] {
        it.in_epoch(epoch).refused_only("epochs");
    }
    packed().await.in_epoch(2).refused_only("epochs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_after_its_epoch_had_ended_is_noticed() {
    let it = fenced().await;
    let fence = it.events()[&it.place("store.fenced")].clone();
    let (it, intent) = (without_fence(&it), it.intent());
    it.inserted(intent + 1, fence.clone()).holds();
    let verdict = it.inserted(intent, fence.clone()).refused_only("epochs");
    assert!(verdict.to_string().contains("its grant is of epoch 1"), "{verdict}");
    it.inserted(it.place("grant.sealed") + 1, fence).refused_only("epochs");
}

#[tokio::test(flavor = "multi_thread")]
async fn fences_that_do_not_lead_from_epoch_to_epoch_up_to_the_log_are_noticed() {
    let it = fenced().await;
    for (old, new) in [(1, 3), (2, 2), (0, 2), (2, 1), (3, 2)] {
        with_fence(&it, |event| {
            event["facts"]["old_epoch"] = json!(old);
            event["facts"]["epoch"] = json!(new);
        })
        .refused_only("epochs");
    }
    with_fence(&it, |event| event["facts"] = json!({})).refused_only("epochs");
    let place = it.place("store.fenced");
    let mut next = it.events()[&place].clone();
    it.forged(|events| drop(events.insert(place + 1, next.clone()))).refused_only("epochs");
    next["facts"]["old_epoch"] = json!(2);
    next["facts"]["epoch"] = json!(5);
    let twice = it.forged(|events| drop(events.insert(place + 1, next)));
    twice.refused_only("epochs");
    twice.in_epoch(5).holds();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_belongs_to_no_grant_and_no_lease() {
    let it = fenced().await;
    let (id, grant) = it.grant();
    with_fence(&it, |event| event["grant"] = id.into()).refused_only("chain");
    with_fence(&it, |event| event["lease"] = grant["time"]["lease"].clone()).refused_only("chain");
    with_fence(&it, |event| event["type"] = "store.noted".into()).refused("chain");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playbook_is_used_in_the_epoch_in_which_it_was_signed() {
    let it = used_playbook().await;
    let intent = it.intent();
    let fence = json!({
        "version": 1, "type": "store.fenced", "at": it.events()[&intent]["at"], "actor": "broker", "texts": {},
        "facts": {"old_epoch": 1, "old_size": 1, "why": "restore", "epoch": 2},
    });
    it.inserted(intent + 1, fence.clone()).in_epoch(2).holds();
    for place in [it.place("playbook.signed"), it.place("run.opened"), intent] {
        it.inserted(place, fence.clone()).in_epoch(2).refused_only("epochs");
    }
}
