//! Inverse grants: sealed together with what they take back, and claimed only after that one's credential left.

use phasebroker::broker::ports::*;
use phasebroker::domain::grant::{GrantState, Inverse, SealedGrant};
use phasebroker::domain::lease::{Lease, LeaseState, Revocation};
use phasebroker::domain::phase::{Phase, RunPhase};

use super::autonomy::{approved, autonomous, in_force, use_of};
use super::fails_whole;
use super::fixture::*;

/// A grant and its inverse, not stored.
fn pair(scene: &Scene) -> (SealedGrant, SealedGrant) {
    let id = grant_id();
    let inverse = scene.sealed_as(key(61), |grant| grant.time.inverse_of = Some(id));
    let named = Inverse { grant: inverse.grant().id, digest: inverse.digest() };
    let grant = scene.sealed_as(key(60), |grant| {
        grant.id = id;
        grant.time.inverse = Some(named);
    });
    (grant, inverse)
}

async fn approve(scene: &Scene, sealed: &SealedGrant) {
    scene.store.change_grant(grant_change(sealed, 0, GrantState::Approved)).await.unwrap();
}

/// Both stored and approved; the claim of the inverse, without its `ends`.
async fn both_approved(scene: &Scene) -> (SealedGrant, Opening) {
    let (grant, inverse) = pair(scene);
    let together = vec![pending(&grant), pending(&inverse)];
    scene.store.seal(together, limits(2, 2), vec![], vec![scene.event()]).await.unwrap();
    approve(scene, &grant).await;
    approve(scene, &inverse).await;
    let back = Opening { after: Some(grant.grant().time.lease), ends: vec![], ..scene.claim(&inverse) };
    (grant, back)
}

async fn walk(scene: &Scene, lease: &Lease, steps: Vec<(LeaseState, LeaseStep)>) {
    for (from, step) in steps {
        scene.step(lease.id, from, step).await.unwrap();
    }
}

fn over() -> LeaseStep {
    ended(Revocation::NotNeeded)
}

#[tokio::test]
async fn what_was_released_is_taken_back_and_the_lease_says_when_it_left() {
    for scene in scenes().await {
        let (grant, back) = both_approved(&scene).await;
        let lease = scene.store.open_lease(scene.claim(&grant)).await.unwrap();
        let lease = lease.value.lease().clone();
        let minted_and_left = vec![(LeaseState::Intent, minted()), (LeaseState::Minted, LeaseStep::Released)];
        walk(&scene, &lease, minted_and_left).await;
        assert_eq!(scene.store.lease(lease.id).await.unwrap().unwrap().released_at, Some(at(100)));
        walk(&scene, &lease, vec![(LeaseState::Released, over())]).await;
        assert_eq!(scene.store.lease(lease.id).await.unwrap().unwrap().released_at, Some(at(100)));
        scene.store.open_lease(observing(&scene)).await.unwrap();
        scene.store.open_lease(deciding(&scene)).await.unwrap();
        scene.store.open_lease(back).await.unwrap();
        scene.chain_holds().await;
    }
}

#[tokio::test]
async fn what_never_left_is_not_taken_back() {
    for scene in scenes().await {
        let (grant, back) = both_approved(&scene).await;
        fails_whole(&scene, back.clone(), OpenRefused::NothingToTakeBack).await;
        let lease = scene.store.open_lease(scene.claim(&grant)).await.unwrap();
        let lease = lease.value.lease().clone();
        walk(&scene, &lease, vec![(LeaseState::Intent, minted()), (LeaseState::Minted, over())]).await;
        scene.store.open_lease(observing(&scene)).await.unwrap();
        scene.store.open_lease(deciding(&scene)).await.unwrap();
        fails_whole(&scene, back, OpenRefused::NothingToTakeBack).await;
    }
}

#[tokio::test]
async fn an_inverse_is_claimed_after_its_own_grant_or_not_at_all() {
    for scene in scenes().await {
        let (_, back) = both_approved(&scene).await;
        for after in [None, Some(scene.decide)] {
            let before = scene.everything().await;
            let refused = scene.store.open_lease(Opening { after, ..back.clone() }).await.unwrap_err();
            // The decide lease was released, but under no grant.
            let expected = matches!(refused, OpenRefused::Store(StoreError::Unwritable(_)));
            assert!(expected, "{after:?}: {refused}");
            assert_eq!(scene.everything().await, before);
        }
    }
}

#[tokio::test]
async fn what_was_done_under_a_playbook_is_taken_back_after_its_suspension() {
    for scene in scenes().await {
        let playbook = in_force(&scene).await;
        let first = use_of(&scene, playbook, 60, 100).await;
        let (done, lease) = (first.lease.grant.unwrap(), first.lease.clone());
        let inverse = scene.sealed_as(key(61), |grant| {
            grant.time.inverse_of = Some(done);
            grant.decision.playbook = Some(playbook);
        });
        scene.store.seal(vec![approved(&inverse)], limits(9, 9), vec![], vec![]).await.unwrap();
        scene.store.open_lease(first).await.unwrap();
        let steps = vec![
            (LeaseState::Intent, minted()),
            (LeaseState::Minted, LeaseStep::Released),
            (LeaseState::Released, over()),
        ];
        walk(&scene, &lease, steps).await;
        scene.store.suspend_playbook(playbook, scene.event()).await.unwrap();
        scene.store.open_lease(observing(&scene)).await.unwrap();
        scene.store.open_lease(deciding(&scene)).await.unwrap();
        let spends = Some((inverse.grant().id, 0));
        let back = Opening { after: Some(lease.id), spends, ends: vec![], ..scene.claim(&inverse) };
        scene.store.open_lease(back).await.unwrap();
    }
}

#[tokio::test]
async fn a_release_without_its_event_is_refused() {
    for scene in scenes().await {
        let lease = scene.decide_lease_in(LeaseState::Minted).await;
        let silent = LeaseChange { events: vec![], ..change(lease, LeaseState::Minted, LeaseStep::Released) };
        let refused = scene.store.change_lease(silent).await.unwrap_err();
        assert!(matches!(refused, ChangeRefused::Store(StoreError::Unwritable(_))), "{refused}");
        scene.step(lease, LeaseState::Minted, LeaseStep::Released).await.unwrap();
    }
}

#[tokio::test]
async fn a_grant_and_its_inverse_are_stored_together_or_not_at_all() {
    for scene in scenes().await {
        let (grant, inverse) = pair(&scene);
        let seal = async |together: Vec<Sealing>, own, all| {
            scene.store.seal(together, limits(own, all), vec![], vec![scene.event()]).await
        };
        let both = || vec![pending(&grant), pending(&inverse)];
        let before = scene.everything().await;
        let none = SealRefused::TooManyOpen(limits(0, 0));
        assert_eq!(seal(both(), 1, 9).await.unwrap_err(), none, "both count");
        assert_eq!(seal(both(), 9, 1).await.unwrap_err(), none);
        let twin = scene.sealed(key(60));
        let one_key = vec![pending(&grant), pending(&twin)];
        assert_eq!(seal(one_key, 9, 9).await.unwrap_err(), SealRefused::KeyReused);
        assert_eq!(scene.everything().await, before);
        seal(both(), 2, 2).await.unwrap();
        assert_eq!(scene.store.open_grants(None).await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn an_inverse_is_approved_from_the_start_only_beside_the_grant_that_names_its_digest() {
    for scene in scenes().await {
        let playbook = in_force(&scene).await;
        let inverse = scene.sealed_as(key(61), |grant| grant.time.inverse_of = Some(grant_id()));
        let digest = inverse.digest();
        let grant = |digest| {
            scene.sealed_as(key(60), |grant| {
                grant.decision.playbook = Some(playbook);
                grant.time.inverse = Some(Inverse { grant: inverse.grant().id, digest });
            })
        };
        let seal =
            async |together: Vec<Sealing>| scene.store.seal(together, limits(9, 9), vec![], vec![]).await;
        let (named, other) = (grant(digest), grant(autonomous(&scene, playbook, 62).digest()));
        for wrong in [
            vec![approved(&inverse)],
            vec![approved(&other), approved(&inverse)],
            vec![pending(&named), approved(&inverse)],
        ] {
            let refused = seal(wrong).await.unwrap_err();
            assert!(matches!(refused, SealRefused::Store(StoreError::Unwritable(_))), "{refused}");
        }
        seal(vec![approved(&named), approved(&inverse)]).await.unwrap();
    }
}

fn observing(scene: &Scene) -> Opening {
    let mut opening = scene.open(Phase::Observe, key(70));
    opening.run_from = RunPhase::Execute;
    opening
}

fn deciding(scene: &Scene) -> Opening {
    let mut opening = scene.open(Phase::Decide, decide_key());
    opening.run_from = RunPhase::Observe;
    opening
}
