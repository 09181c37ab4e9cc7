//! Playbooks: a grant under one is approved when it is sealed, and can be claimed only while the playbook stands.

use phasebroker::broker::ports::*;
use phasebroker::domain::action::Precondition;
use phasebroker::domain::administration::Subject;
use phasebroker::domain::decision::Tier;
use phasebroker::domain::digest::Digest;
use phasebroker::domain::grant::{GrantState, SealedGrant};
use phasebroker::domain::id::ReviewId;
use phasebroker::domain::lease::LeaseState;
use phasebroker::domain::phase::Phase;
use phasebroker::domain::playbook::*;
use phasebroker::domain::review::{Review, ReviewState};

use super::administering::{administration, asked, signed};
use super::fails_whole;
use super::fixture::*;

/// A playbook that is over at 5,000.
pub fn playbook() -> Playbook {
    Playbook {
        name: "restarts".parse().unwrap(),
        environment: "demo".parse().unwrap(),
        action: "restart".parse().unwrap(),
        template: r#"{"environment":"demo"}"#.into(),
        agents: ["sre-agent".parse().unwrap()].into(),
        parameters: Default::default(),
        work_seconds: 300,
        budget: PlaybookBudget { uses: 3, seconds: 3_600 },
        max_uses: 10,
        trigger: Trigger::Probes(vec![Precondition { name: "up".into(), value: "no".into() }]),
        trigger_source: r#"{"probes":{}}"#.into(),
        not_after: at(5_000),
        review: ReviewTerms { owner: "sre".parse().unwrap(), due_seconds: 600 },
    }
}

/// Puts a playbook in force.
pub async fn in_force(scene: &Scene) -> Digest {
    let sealed = asked(scene, administration(Subject::Playbook(Box::new(playbook())))).await;
    scene.store.change_administration(signed(&sealed, 0, GrantState::Approved)).await.unwrap();
    sealed.digest()
}

/// A grant under the playbook, not stored.
pub fn autonomous(scene: &Scene, playbook: Digest, n: u8) -> SealedGrant {
    scene.sealed_as(key(n), |grant| {
        grant.decision.playbook = Some(playbook);
        grant.decision.tier = Tier::Autonomous;
    })
}

pub fn approved(sealed: &SealedGrant) -> Sealing {
    Sealing { state: GrantState::Approved, claim_until: Some(at(6_000)), ..pending(sealed) }
}

/// Stores a grant under the playbook; gives its claim at `now`, with the review that is due at `now` and 600.
pub async fn use_of(scene: &Scene, playbook: Digest, n: u8, now: i64) -> Opening {
    let sealed = autonomous(scene, playbook, n);
    scene.store.seal(vec![approved(&sealed)], limits(9, 9), vec![], vec![scene.event()]).await.unwrap();
    let claim = scene.claim(&sealed);
    let review = Review {
        id: ReviewId::generate(at(now)),
        grant: sealed.grant().id,
        lease: claim.lease.id,
        run: scene.run,
        playbook: Some(playbook),
        owner: "sre".parse().unwrap(),
        opened_at: at(now),
        due_at: at(now + 600),
        state: ReviewState::Open,
        decided: None,
    };
    Opening {
        spends: Some((sealed.grant().id, 0)),
        playbook: Some(PlaybookUse { playbook }),
        review: Some(review),
        now: at(now),
        ..claim
    }
}

async fn contradiction(scene: &Scene, opening: Opening) {
    let before = scene.everything().await;
    let refused = scene.store.open_lease(opening).await.unwrap_err();
    assert!(matches!(refused, OpenRefused::Store(StoreError::Unwritable(_))), "{refused}");
    assert_eq!(scene.everything().await, before);
}

#[tokio::test]
async fn a_use_opens_its_review_with_its_lease() {
    for scene in scenes().await {
        let playbook = in_force(&scene).await;
        let mut claim = use_of(&scene, playbook, 60, 100).await;
        claim.lease.action = Some("restart".parse().unwrap());
        let (lease, review) = (claim.lease.clone(), claim.review.clone().unwrap());
        scene.store.open_lease(claim).await.unwrap();
        assert_eq!(scene.store.review(review.id).await.unwrap(), Some(review));
        assert_eq!(scene.store.lease(lease.id).await.unwrap(), Some(lease));
        scene.chain_holds().await;
    }
}

#[tokio::test]
async fn a_use_is_refused_at_the_very_end_of_its_playbook() {
    for scene in scenes().await {
        let playbook = in_force(&scene).await;
        let claim = use_of(&scene, playbook, 60, 100).await;
        let late = Opening { now: at(5_000), ..claim.clone() };
        fails_whole(&scene, late, OpenRefused::PlaybookOut("is past its end")).await;
        scene.store.open_lease(Opening { now: at(4_999), ..claim }).await.unwrap();
    }
}

#[tokio::test]
async fn a_playbook_that_is_suspended_or_unknown_opens_nothing() {
    for scene in scenes().await {
        let playbook = in_force(&scene).await;
        let claim = use_of(&scene, playbook, 60, 100).await;
        scene.store.suspend_playbook(playbook, scene.event()).await.unwrap();
        fails_whole(&scene, claim, OpenRefused::PlaybookOut("is suspended")).await;
        let again = scene.store.suspend_playbook(playbook, scene.event()).await;
        assert_eq!(again.unwrap_err(), ChangeRefused::Moved);
        let unknown = Digest::of(b"unknown");
        let nobody = scene.store.suspend_playbook(unknown, scene.event()).await;
        assert_eq!(nobody.unwrap_err(), ChangeRefused::Missing);
        let claim = use_of(&scene, unknown, 61, 100).await;
        fails_whole(&scene, claim, OpenRefused::PlaybookOut("is not there")).await;
    }
}

#[tokio::test]
async fn an_overdue_review_holds_its_own_playbook_and_no_other() {
    for scene in scenes().await {
        let (held, free) = (in_force(&scene).await, in_force(&scene).await);
        let first = use_of(&scene, held, 60, 100).await;
        let lease = scene.store.open_lease(first).await.unwrap().value.lease().id;
        scene.step(lease, LeaseState::Intent, LeaseStep::Unknown).await.unwrap();
        let other = scene.run_of("pay-bot").await;
        let next = use_of(&other, held, 61, 699).await;
        let late = Opening { now: at(700), ..next.clone() };
        fails_whole(&other, late, OpenRefused::PlaybookOut("waits for an overdue review")).await;
        let overdue = async |now| -> Vec<_> {
            let all = scene.store.playbooks(at(now)).await.unwrap();
            all.iter().map(|one| (one.administration.sealed.digest(), one.overdue)).collect()
        };
        assert_eq!(overdue(699).await, [(free, 0), (held, 0)], "newest first");
        assert_eq!(overdue(700).await, [(free, 0), (held, 1)]);
        let third = scene.run_of("web-bot").await;
        third.store.open_lease(use_of(&third, free, 62, 700).await).await.unwrap();
        other.store.open_lease(next).await.unwrap();
    }
}

#[tokio::test]
async fn a_grant_is_claimed_under_its_own_playbook_with_a_review_or_not_at_all() {
    for scene in scenes().await {
        let (playbook, other) = (in_force(&scene).await, in_force(&scene).await);
        let claim = use_of(&scene, playbook, 60, 100).await;
        contradiction(&scene, Opening { playbook: None, review: None, ..claim.clone() }).await;
        contradiction(&scene, Opening { review: None, ..claim.clone() }).await;
        let mut swapped = claim.clone();
        swapped.playbook = Some(PlaybookUse { playbook: other });
        contradiction(&scene, swapped.clone()).await;
        swapped.review.as_mut().unwrap().playbook = Some(other);
        contradiction(&scene, swapped).await;
        let mut decided = claim.clone();
        decided.review.as_mut().unwrap().state = ReviewState::Accepted;
        contradiction(&scene, decided).await;
        let signed_by_people = scene.approved_grant().await;
        let mut smuggled = scene.claim(&signed_by_people);
        smuggled.playbook = Some(PlaybookUse { playbook });
        let lease = smuggled.lease.id;
        let review = claim.review.clone().unwrap();
        smuggled.review = Some(Review { grant: signed_by_people.grant().id, lease, ..review });
        contradiction(&scene, smuggled).await;
        let mut decide = scene.open(Phase::Decide, decide_key());
        decide.playbook = claim.playbook.clone();
        contradiction(&scene, decide).await;
        scene.store.open_lease(claim).await.unwrap();
    }
}

#[tokio::test]
async fn only_a_grant_under_a_playbook_is_approved_from_the_start() {
    for scene in scenes().await {
        let playbook = in_force(&scene).await;
        let seal = async |sealings| scene.store.seal(sealings, limits(9, 9), vec![], vec![]).await;
        let before = scene.everything().await;
        let ordinary = scene.sealed(key(60));
        let good = autonomous(&scene, playbook, 61);
        let suggestion = scene.sealed_as(key(62), |grant| grant.decision.tier = Tier::SuggestOnly);
        for wrong in [
            vec![approved(&ordinary)],
            vec![approved(&good), approved(&ordinary)],
            vec![approved(&suggestion)],
            vec![pending(&suggestion)],
            vec![Sealing { state: GrantState::Suggested, ..pending(&good) }],
            vec![Sealing { claim_until: None, ..approved(&good) }],
            vec![Sealing { claim_until: Some(at(200)), ..pending(&good) }],
            vec![Sealing { state: GrantState::Claimed, ..approved(&good) }],
            vec![],
        ] {
            let refused = seal(wrong).await.unwrap_err();
            assert!(matches!(refused, SealRefused::Store(StoreError::Unwritable(_))), "{refused}");
            assert_eq!(scene.everything().await, before);
        }
        seal(vec![approved(&good)]).await.unwrap();
        let stored = scene.store.grant(good.grant().id).await.unwrap().unwrap();
        assert_eq!((stored.state, stored.claim_until), (GrantState::Approved, Some(at(6_000))));
    }
}

#[tokio::test]
async fn a_review_without_a_playbook_is_opened_and_holds_none() {
    for scene in scenes().await {
        let playbook = in_force(&scene).await;
        let signed = scene.approved_grant().await;
        let autonomous = use_of(&scene, playbook, 60, 100).await;
        let mut claim = scene.claim(&signed);
        let (grant, lease) = (signed.grant().id, claim.lease.id);
        let review = Review { grant, lease, playbook: None, ..autonomous.review.unwrap() };
        claim.review = Some(review.clone());
        scene.store.open_lease(claim).await.unwrap();
        assert_eq!(scene.store.review(review.id).await.unwrap(), Some(review));
        let other = scene.run_of("pay-bot").await;
        other.store.open_lease(use_of(&other, playbook, 61, 4_000).await).await.unwrap();
    }
}
