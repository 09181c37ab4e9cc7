//! Budgets: what is used up over a window, under any number of takers at once, and what is given back.

use std::sync::Arc;

use phasebroker::broker::ports::*;
use phasebroker::domain::lease::LeaseState;
use phasebroker::domain::phase::Phase;
use phasebroker::domain::time::Timestamp;

use super::fails_whole;
use super::fixture::*;

fn of(amount: u64, since: Option<Timestamp>, limit: u64) -> Reservation {
    Reservation { key: "budget".into(), amount, since, limit }
}

/// A renewed decide lease at `now` that takes one of the budget.
fn taking(scene: &Scene, now: i64, wanted: Reservation) -> Opening {
    let mut opening = scene.open(Phase::Decide, decide_key());
    opening.now = at(now);
    opening.reservations = vec![wanted];
    opening
}

#[tokio::test(flavor = "multi_thread")]
async fn of_sixty_four_claims_at_once_exactly_as_many_as_the_budget_holds_succeed() {
    for scene in scenes().await {
        let mut claims = Vec::new();
        for n in 0..64 {
            let run = scene.run_of(&format!("agent-{n}")).await;
            let grant = run.approved(&run.sealed(key(100 + n))).await;
            claims.push(Opening { reservations: vec![of(1, None, 10)], ..run.claim(&grant) });
        }
        let tries = claims.into_iter().map(|opening| {
            let store = Arc::clone(&scene.store);
            tokio::spawn(async move { store.open_lease(opening).await })
        });
        let mut won = 0;
        for answer in futures_util::future::join_all(tries).await {
            match answer.unwrap() {
                Ok(_) => won += 1,
                Err(why) => assert_eq!(why, OpenRefused::LimitReached("budget".into())),
            }
        }
        assert_eq!((won, scene.used("budget", None).await), (10, 10), "{}", scene.name);
        scene.chain_holds().await;
    }
}

#[tokio::test]
async fn a_window_leaves_out_what_is_exactly_as_old_as_it_is_long() {
    for scene in scenes().await {
        scene.store.open_lease(taking(&scene, 100, of(3, None, 3))).await.unwrap();
        for (since, counts) in [(None, 3), (Some(99), 3), (Some(100), 0), (Some(101), 0)] {
            assert_eq!(scene.used("budget", since.map(at)).await, counts, "{since:?}");
        }
        let full = OpenRefused::LimitReached("budget".into());
        fails_whole(&scene, taking(&scene, 159, of(1, Some(at(99)), 3)), full.clone()).await;
        fails_whole(&scene, taking(&scene, 160, of(1, None, 3)), full).await;
        scene.store.open_lease(taking(&scene, 160, of(1, Some(at(100)), 3))).await.unwrap();
        assert_eq!(scene.used("budget", Some(at(100))).await, 1);
        assert_eq!(scene.used("budget", None).await, 4);
    }
}

#[tokio::test]
async fn each_key_is_counted_alone_and_answered_in_the_order_asked() {
    for scene in scenes().await {
        let mut opening = taking(&scene, 100, of(2, None, 2));
        opening.reservations.push(Reservation { key: "other".into(), ..of(5, None, 5) });
        scene.store.open_lease(opening).await.unwrap();
        let counted = |key: &str| Counted { key: key.into(), since: None };
        let asked = vec![counted("other"), counted("nobody"), counted("budget")];
        let inquiry = Inquiry { counted: asked, run: scene.run, agents: vec![], untrusted_since: at(0) };
        assert_eq!(scene.store.stands(inquiry).await.unwrap().used, [5, 0, 2]);
    }
}

#[tokio::test]
async fn an_amount_of_nothing_fits_a_full_budget_and_no_amount_overflows_it() {
    for scene in scenes().await {
        scene.store.open_lease(taking(&scene, 100, of(3, None, 3))).await.unwrap();
        scene.store.open_lease(taking(&scene, 100, of(0, None, 3))).await.unwrap();
        let full = OpenRefused::LimitReached("budget".into());
        fails_whole(&scene, taking(&scene, 100, of(u64::MAX, None, u64::MAX)), full).await;
        let unstorable = taking(&scene, 100, of(u64::MAX - 3, None, u64::MAX));
        let refused = scene.store.open_lease(unstorable).await.unwrap_err();
        assert!(matches!(refused, OpenRefused::Store(StoreError::Unwritable(_))), "{refused}");
        assert_eq!(scene.used("budget", None).await, 3);
    }
}

#[tokio::test]
async fn sums_survive_the_end_of_the_lease_and_of_the_process() {
    for scene in scenes().await {
        let opening = taking(&scene, 100, of(3, None, 3));
        let lease = opening.lease.id;
        scene.store.open_lease(opening).await.unwrap();
        scene.step(lease, LeaseState::Intent, LeaseStep::Unknown).await.unwrap();
        let scene = scene.reopened().await;
        assert_eq!(scene.used("budget", Some(at(99))).await, 3);
        let full = OpenRefused::LimitReached("budget".into());
        fails_whole(&scene, taking(&scene, 100, of(1, None, 3)), full).await;
    }
}

#[tokio::test]
async fn only_a_refused_mint_gives_back_and_the_second_try_of_a_grant_counts_once() {
    for scene in scenes().await {
        let other = taking(&scene, 100, of(1, None, 9));
        scene.store.open_lease(other).await.unwrap();
        let grant = scene.approved_grant().await;
        let claim = Opening { reservations: vec![of(2, None, 9)], ..scene.claim(&grant) };
        let lease = scene.store.open_lease(claim.clone()).await.unwrap().value.lease().id;
        assert_eq!(scene.used("budget", None).await, 3);
        scene.step(lease, LeaseState::Intent, LeaseStep::Refused).await.unwrap();
        assert_eq!(scene.used("budget", None).await, 1, "what others reserved stays");
        let again = Opening { spends: Some((grant.grant().id, 3)), ends: vec![], ..claim };
        scene.store.open_lease(again).await.unwrap();
        assert_eq!(scene.used("budget", None).await, 3);
    }
}
