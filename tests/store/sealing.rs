//! Sealing: what was looked at before is held to inside the transaction, and a refusal leaves nothing behind.

use phasebroker::broker::ports::*;
use phasebroker::domain::freeze::{Freeze, FreezeKey};
use phasebroker::domain::grant::GrantState;
use phasebroker::domain::key::Thumbprint;
use phasebroker::domain::lease::{LeaseState, Revocation};
use phasebroker::domain::phase::{Phase, RunPhase};
use phasebroker::domain::principal::Actor;

use super::fails_whole;
use super::fixture::*;

/// Seals with limits; what was refused leaves nothing.
async fn refused_whole(scene: &Scene, claim_key: Thumbprint, own: u64, all: u64, why: SealRefused) {
    let before = scene.everything().await;
    let sealings = vec![pending(&scene.sealed(claim_key))];
    let refused =
        scene.store.seal(sealings, limits(own, all), vec![], vec![scene.event()]).await.unwrap_err();
    assert_eq!(refused, why);
    assert_eq!(scene.everything().await, before);
}

#[tokio::test]
async fn no_more_grants_are_sealed_than_may_be_open() {
    for scene in scenes().await {
        scene.approved_grant().await;
        let one = SealRefused::TooManyOpen(limits(1, 1));
        refused_whole(&scene, key(60), 1, 100, one.clone()).await;
        refused_whole(&scene, key(60), 100, 1, one).await;
        let fits = vec![pending(&scene.sealed(key(60)))];
        scene.store.seal(fits, limits(2, 2), vec![], vec![scene.event()]).await.unwrap();
    }
}

#[tokio::test]
async fn a_claim_key_that_any_run_used_or_an_open_grant_names_is_not_sealed() {
    for scene in scenes().await {
        let second = scene.other_run().await;
        let grant = scene.approved_grant().await;
        refused_whole(&second, claim_key(), 9, 9, SealRefused::KeyReused).await;
        refused_whole(&second, decide_key(), 9, 9, SealRefused::KeyReused).await;
        scene.store.change_grant(grant_change(&grant, 1, GrantState::Cancelled)).await.unwrap();
        second.seal(&second.sealed(claim_key())).await;
    }
}

#[tokio::test]
async fn a_key_that_claimed_in_one_run_opens_nothing_in_another() {
    for scene in scenes().await {
        let second = scene.other_run().await;
        let grant = scene.approved_grant().await;
        scene.store.open_lease(scene.claim(&grant)).await.unwrap();
        fails_whole(&second, second.open(Phase::Decide, claim_key()), OpenRefused::KeyReused).await;
        second.store.open_lease(second.open(Phase::Decide, decide_key())).await.unwrap();
    }
}

#[tokio::test]
async fn a_closed_run_takes_no_grant_and_that_is_no_failure_of_the_store() {
    for scene in scenes().await {
        let end = change(scene.decide, LeaseState::Released, ended(Revocation::NotNeeded));
        let closed = scene.store.close_run(scene.run, RunPhase::Decide, vec![end], vec![], scene.event());
        closed.await.unwrap();
        refused_whole(&scene, claim_key(), 9, 9, SealRefused::RunMoved(RunPhase::Closed)).await;
    }
}

#[tokio::test]
async fn what_is_frozen_is_not_sealed_even_beside_what_is_not() {
    for scene in scenes().await {
        let frozen: FreezeKey = "action:restart".parse().unwrap();
        let other: FreezeKey = "action:scale".parse().unwrap();
        let freeze = Freeze { key: frozen.clone(), by: Actor::Broker, at: at(100) };
        scene.store.freeze(freeze, scene.event()).await.unwrap();
        let with = |number, freeze: &FreezeKey| Sealing {
            freezes: vec![FreezeKey::Everything, freeze.clone()],
            ..pending(&scene.sealed(key(number)))
        };
        let before = scene.everything().await;
        let together = vec![with(60, &other), with(61, &frozen)];
        let refused =
            scene.store.seal(together, limits(9, 9), vec![], vec![scene.event()]).await.unwrap_err();
        assert_eq!(refused, SealRefused::Frozen(frozen));
        assert_eq!(scene.everything().await, before);
        let allowed = vec![with(60, &other)];
        scene.store.seal(allowed, limits(9, 9), vec![], vec![scene.event()]).await.unwrap();
    }
}
