//! Reviews: decided once, by a person; a rejection ends the playbook in the same transaction.

use phasebroker::broker::ports::*;
use phasebroker::domain::id::ReviewId;
use phasebroker::domain::lease::LeaseState;
use phasebroker::domain::playbook::PlaybookState;
use phasebroker::domain::review::{Review, ReviewState};

use super::autonomy::{in_force, use_of};
use super::fails_whole;
use super::fixture::*;

fn decision(review: &Review, state: ReviewState) -> ReviewDecision {
    ReviewDecision {
        id: review.id,
        state,
        by: "bob".parse().unwrap(),
        at: at(900),
        events: vec![event().lease(review.lease)],
    }
}

/// A use of the playbook whose outcome nobody knows, so that the agent is never free again.
async fn reviewed(scene: &Scene, opening: Opening) -> Review {
    let review = opening.review.clone().unwrap();
    scene.store.open_lease(opening).await.unwrap();
    review
}

async fn state_of(scene: &Scene) -> PlaybookState {
    scene.store.playbooks(at(900)).await.unwrap()[0].state
}

#[tokio::test]
async fn an_accepted_review_frees_the_playbook_again() {
    for scene in scenes().await {
        let playbook = in_force(&scene).await;
        let review = reviewed(&scene, use_of(&scene, playbook, 60, 100).await).await;
        let other = scene.run_of("pay-bot").await;
        let next = use_of(&other, playbook, 61, 900).await;
        let waits = OpenRefused::PlaybookOut("waits for an overdue review");
        fails_whole(&other, next.clone(), waits).await;
        let decided = scene.store.decide_review(decision(&review, ReviewState::Accepted)).await.unwrap();
        let expected = Some(("bob".parse().unwrap(), at(900)));
        assert_eq!((decided.state, &decided.decided), (ReviewState::Accepted, &expected));
        assert_eq!(scene.store.review(review.id).await.unwrap(), Some(decided));
        assert_eq!(state_of(&scene).await, PlaybookState::Active);
        other.store.open_lease(next).await.unwrap();
        scene.chain_holds().await;
    }
}

#[tokio::test]
async fn a_rejected_review_suspends_its_playbook() {
    for scene in scenes().await {
        let playbook = in_force(&scene).await;
        let review = reviewed(&scene, use_of(&scene, playbook, 60, 100).await).await;
        let other = scene.run_of("pay-bot").await;
        let next = use_of(&other, playbook, 61, 200).await;
        scene.store.decide_review(decision(&review, ReviewState::Rejected)).await.unwrap();
        assert_eq!(state_of(&scene).await, PlaybookState::Suspended);
        fails_whole(&other, next, OpenRefused::PlaybookOut("is suspended")).await;
    }
}

#[tokio::test]
async fn a_review_is_decided_once_and_never_opened_again() {
    for scene in scenes().await {
        let playbook = in_force(&scene).await;
        let review = reviewed(&scene, use_of(&scene, playbook, 60, 100).await).await;
        let reopened = scene.store.decide_review(decision(&review, ReviewState::Open)).await.unwrap_err();
        assert!(matches!(reopened, ChangeRefused::Store(StoreError::Unwritable(_))), "{reopened}");
        scene.store.decide_review(decision(&review, ReviewState::Accepted)).await.unwrap();
        let before = scene.everything().await;
        for state in [ReviewState::Accepted, ReviewState::Rejected] {
            let again = scene.store.decide_review(decision(&review, state)).await;
            assert_eq!(again.unwrap_err(), ChangeRefused::Moved);
        }
        let nobody = Review { id: ReviewId::generate(at(1)), ..review };
        let missing = scene.store.decide_review(decision(&nobody, ReviewState::Rejected)).await;
        assert_eq!(missing.unwrap_err(), ChangeRefused::Missing);
        assert_eq!(scene.everything().await, before);
        assert_eq!(state_of(&scene).await, PlaybookState::Active);
    }
}

#[tokio::test]
async fn a_rejection_after_the_suspension_is_no_error() {
    for scene in scenes().await {
        let playbook = in_force(&scene).await;
        let review = reviewed(&scene, use_of(&scene, playbook, 60, 100).await).await;
        scene.store.suspend_playbook(playbook, scene.event()).await.unwrap();
        scene.store.decide_review(decision(&review, ReviewState::Rejected)).await.unwrap();
        assert_eq!(state_of(&scene).await, PlaybookState::Suspended);
    }
}

#[tokio::test]
async fn a_refused_mint_leaves_no_review_and_the_second_try_opens_its_own() {
    for scene in scenes().await {
        let playbook = in_force(&scene).await;
        let claim = use_of(&scene, playbook, 60, 100).await;
        let review = reviewed(&scene, claim.clone()).await;
        scene.step(review.lease, LeaseState::Intent, LeaseStep::Refused).await.unwrap();
        assert_eq!(scene.store.review(review.id).await.unwrap(), None);
        let mut again = Opening { spends: Some((review.grant, 2)), ends: vec![], ..claim };
        again.review.as_mut().unwrap().id = ReviewId::generate(at(200));
        let second = reviewed(&scene, again).await;
        scene.step(review.lease, LeaseState::Intent, LeaseStep::Unknown).await.unwrap();
        assert_eq!(scene.store.reviews(ReviewFilter::default()).await.unwrap(), [second]);
    }
}

#[tokio::test]
async fn reviews_are_listed_by_every_filter_oldest_first() {
    for scene in scenes().await {
        let (playbook, other) = (in_force(&scene).await, in_force(&scene).await);
        let (second, third) = (scene.run_of("pay-bot").await, scene.run_of("web-bot").await);
        let first = reviewed(&scene, use_of(&scene, playbook, 60, 100).await).await;
        let second = reviewed(&second, use_of(&second, other, 61, 101).await).await;
        let third = reviewed(&third, use_of(&third, playbook, 62, 102).await).await;
        let first = scene.store.decide_review(decision(&first, ReviewState::Accepted)).await.unwrap();
        let list = async |open, playbook| scene.store.reviews(ReviewFilter { open, playbook }).await.unwrap();
        assert_eq!(list(false, None).await, [first.clone(), second.clone(), third.clone()]);
        assert_eq!(list(true, None).await, [second.clone(), third.clone()]);
        assert_eq!(list(false, Some(playbook)).await, [first, third.clone()]);
        assert_eq!(list(true, Some(playbook)).await, [third]);
        assert_eq!(list(true, Some(other)).await, [second]);
    }
}
