//! What every store must hold to, written against the port: a second implementation adds one line to `factories`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "store/administering.rs"]
mod administering;
#[path = "store/autonomy.rs"]
mod autonomy;
#[path = "store/budgets.rs"]
mod budgets;
#[path = "store/checkpoints.rs"]
mod checkpoints;
#[path = "store/fixture.rs"]
mod fixture;
#[path = "store/freezing.rs"]
mod freezing;
#[path = "store/recording.rs"]
mod recording;
#[path = "store/reviewing.rs"]
mod reviewing;
#[path = "store/sealing.rs"]
mod sealing;
#[path = "store/vouchers.rs"]
mod vouchers;

use fixture::*;
use phasebroker::broker::ports::*;
use phasebroker::domain::digest::Digest;
use phasebroker::domain::freeze::FreezeKey;
use phasebroker::domain::grant::GrantState;
use phasebroker::domain::lease::*;
use phasebroker::domain::phase::{Phase, RunPhase};
use phasebroker::domain::plan::ProviderKind;

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_claimers_of_one_grant_get_one_lease() {
    for scene in scenes().await {
        let scene = std::sync::Arc::new(scene);
        let grant = scene.approved_grant().await;
        let tries = (0..64).map(|_| {
            let (scene, opening) = (scene.clone(), scene.claim(&grant));
            tokio::spawn(async move { scene.store.open_lease(opening).await })
        });
        let mut won = 0;
        for answer in futures_util::future::join_all(tries).await {
            match answer.unwrap() {
                Ok(_) => won += 1,
                Err(why) => assert_eq!(why, OpenRefused::GrantMoved(GrantState::Claimed)),
            }
        }
        assert_eq!(won, 1, "{}", scene.name);
        assert_eq!(scene.store.leases(LeaseFilter::default()).await.unwrap().len(), 2);
        scene.chain_holds().await;
    }
}

/// Opens, and expects this refusal with nothing changed by it.
async fn fails_whole(scene: &Scene, opening: Opening, why: OpenRefused) {
    let before = scene.everything().await;
    assert_eq!(scene.store.open_lease(opening).await.unwrap_err(), why, "{}", scene.name);
    assert_eq!(scene.everything().await, before, "{}: {why} left something behind", scene.name);
}

#[tokio::test]
async fn an_opening_fails_whole_when_anything_it_read_has_moved() {
    for scene in scenes().await {
        let grant = scene.approved_grant().await;
        let claim = || scene.claim(&grant);
        let other = Digest::of(b"other");
        let reservation = |amount| Reservation { key: "budget".into(), amount, since: None, limit: 10 };
        fails_whole(&scene, Opening { epoch: 2, ..claim() }, OpenRefused::EpochMoved).await;
        for digests in [
            RulesDigests { policy: other, ..rules() },
            RulesDigests { catalog: other, ..rules() },
            RulesDigests { directory: other, ..rules() },
            RulesDigests { guardrails: other, ..rules() },
        ] {
            fails_whole(&scene, Opening { digests, ..claim() }, OpenRefused::RulesMoved).await;
        }
        let over = Opening { reservations: vec![reservation(6), reservation(5)], ..claim() };
        fails_whole(&scene, over, OpenRefused::LimitReached("budget".into())).await;
        let over = Opening { reservations: vec![reservation(u64::MAX)], ..claim() };
        fails_whole(&scene, over, OpenRefused::LimitReached("budget".into())).await;
        let mut moved = claim();
        moved.run_from = RunPhase::Decide;
        moved.ends[0].from = LeaseState::Minted;
        fails_whole(&scene, moved, OpenRefused::LeaseMoved).await;
        let mut missing = claim();
        missing.spends = Some((grant_id(), 1));
        missing.lease.grant = missing.spends.map(|(id, _)| id);
        fails_whole(&scene, missing, OpenRefused::Missing("grant")).await;
        let mut stale = claim();
        stale.spends = Some((grant.grant().id, 0));
        fails_whole(&scene, stale, OpenRefused::GrantMoved(GrantState::Approved)).await;
        let late = Opening { now: at(5_000), ..claim() };
        fails_whole(&scene, late, OpenRefused::GrantMoved(GrantState::Lapsed)).await;
        let mut contradiction = claim();
        contradiction.lease.key = key(99);
        assert!(matches!(
            scene.store.open_lease(contradiction).await,
            Err(OpenRefused::Store(StoreError::Unwritable(_)))
        ));
        // The twin: nothing moved, all within the limits.
        let fits = Opening {
            freezes: vec![FreezeKey::Everything],
            reservations: vec![reservation(6), reservation(4)],
            ..claim()
        };
        let opened = scene.store.open_lease(fits).await.unwrap();
        assert_eq!(opened.value.lease().state, LeaseState::Intent);
        assert_eq!(opened.head, scene.store.head().await.unwrap());
        assert_eq!(scene.store.run(scene.run).await.unwrap().unwrap().phase, RunPhase::Execute);
        let spent = scene.store.grant(grant.grant().id).await.unwrap().unwrap();
        assert_eq!((spent.state, spent.revision), (GrantState::Claimed, 2));
        scene.chain_holds().await;
    }
}

#[tokio::test]
async fn a_run_that_moved_or_is_missing_opens_nothing() {
    for scene in scenes().await {
        let observe = scene.open(Phase::Observe, key(50));
        fails_whole(&scene, observe.clone(), OpenRefused::RunMoved(RunPhase::Decide)).await;
        let mut missing = observe;
        missing.lease.run = run_id();
        fails_whole(&scene, missing, OpenRefused::Missing("run")).await;
    }
}

#[tokio::test]
async fn grants_of_an_older_epoch_are_dead() {
    for scene in scenes().await {
        let grant = scene.approved_grant().await;
        let head = scene.store.fence(scene.event(), 0).await.unwrap();
        assert_eq!(head.epoch, 2);
        fails_whole(&scene, Opening { epoch: 2, ..scene.claim(&grant) }, OpenRefused::EpochMoved).await;
        scene.chain_holds().await;
    }
}

#[tokio::test]
async fn execute_waits_for_the_end_of_every_earlier_aws_credential() {
    for scene in scenes_with(ProviderKind::Aws).await {
        let grant = scene.approved_grant().await;
        let ending = |revocation| {
            let mut claim = scene.claim(&grant);
            claim.ends[0].step = ended(revocation);
            claim
        };
        let alive = OpenRefused::EarlierAlive(at(600));
        fails_whole(&scene, Opening { ends: vec![], ..scene.claim(&grant) }, alive.clone()).await;
        fails_whole(&scene, ending(Revocation::NotNeeded), alive).await;
        let soon = Revocation::Done { at: at(100), effective_by: at(130), seen: None };
        fails_whole(&scene, ending(soon), OpenRefused::EarlierAlive(at(130))).await;
        scene.store.open_lease(Opening { now: at(130), ..ending(soon) }).await.unwrap();
    }
}

#[tokio::test]
async fn an_agent_executes_once_and_observes_nothing_meanwhile() {
    for scene in scenes().await {
        let (first, second) = (scene.approved_grant().await, scene.other_run().await);
        let theirs = second.approved(&second.sealed(key(62))).await;
        let executing = scene.store.open_lease(scene.claim(&first)).await.unwrap();
        let lease = executing.value.lease().id;
        let busy = OpenRefused::AgentExecuting(lease);
        fails_whole(&second, second.claim(&theirs), busy.clone()).await;
        let mut observe = second.open(Phase::Observe, key(60));
        observe.run_from = RunPhase::Decide;
        fails_whole(&second, observe.clone(), busy).await;
        // The end of the execute lease, in the same opening, makes way.
        let mut leaving = scene.open(Phase::Observe, key(61));
        leaving.run_from = RunPhase::Execute;
        scene.step(lease, LeaseState::Intent, minted()).await.unwrap();
        leaving.ends = vec![change(lease, LeaseState::Minted, ended(Revocation::NotNeeded))];
        scene.store.open_lease(leaving).await.unwrap();
        second.store.open_lease(observe).await.unwrap();
    }
}

#[tokio::test]
async fn a_key_serves_one_phase() {
    for scene in scenes().await {
        let grant = scene.approved_grant().await;
        let mut observe = scene.open(Phase::Observe, decide_key());
        observe.run_from = RunPhase::Decide;
        fails_whole(&scene, observe.clone(), OpenRefused::KeyReused).await;
        observe.lease.key = claim_key();
        fails_whole(&scene, observe.clone(), OpenRefused::KeyReused).await;
        observe.lease.key = key(70);
        scene.store.open_lease(observe).await.unwrap();
        drop(grant);
    }
}

#[tokio::test]
async fn a_refused_mint_gives_grant_run_and_reservations_back() {
    for scene in scenes().await {
        let grant = scene.approved_grant().await;
        let all = vec![Reservation { key: "budget".into(), amount: 10, since: None, limit: 10 }];
        let claim = Opening { reservations: all, ..scene.claim(&grant) };
        let lease = scene.store.open_lease(claim.clone()).await.unwrap().value.lease().id;
        scene.step(lease, LeaseState::Intent, LeaseStep::Refused).await.unwrap();
        let back = scene.store.grant(grant.grant().id).await.unwrap().unwrap();
        assert_eq!((back.state, back.revision), (GrantState::Approved, 3));
        assert_eq!(scene.store.run(scene.run).await.unwrap().unwrap().phase, RunPhase::Decide);
        // The grant names its lease, so the second try has the same id.
        let again = Opening { spends: Some((grant.grant().id, 3)), ends: vec![], ..claim };
        scene.store.open_lease(again.clone()).await.unwrap();
        scene.step(lease, LeaseState::Intent, LeaseStep::Unknown).await.unwrap();
        fails_whole(&scene, again, OpenRefused::GrantMoved(GrantState::Claimed)).await;
        scene.chain_holds().await;
    }
}

#[tokio::test]
async fn a_lease_takes_only_the_steps_of_the_design() {
    for scene in scenes().await {
        let revocation = || LeaseStep::Revocation(Revocation::Pending { attempts: 1, next_at: at(200) });
        let steps: [(fn() -> LeaseStep, LeaseState); 5] = [
            (|| LeaseStep::Refused, LeaseState::Refused),
            (|| LeaseStep::Unknown, LeaseState::Unknown),
            (minted, LeaseState::Minted),
            (|| LeaseStep::Released, LeaseState::Released),
            (|| ended(Revocation::NotNeeded), LeaseState::Ended),
        ];
        for from in LeaseState::ALL {
            for (step, to) in steps {
                let lease = scene.decide_lease_in(from).await;
                let before = scene.everything().await;
                let answer = scene.step(lease, from, step()).await;
                assert_eq!(answer.is_ok(), from.may_become(to), "{from} to {to}");
                match answer {
                    Ok(committed) => {
                        assert_eq!(committed.value.state, to);
                        assert_eq!(scene.store.lease(lease).await.unwrap(), Some(committed.value));
                    }
                    Err(why) => {
                        assert_eq!(why, ChangeRefused::Moved);
                        assert_eq!(scene.everything().await, before);
                    }
                }
            }
            let lease = scene.decide_lease_in(from).await;
            assert_eq!(scene.step(lease, from, revocation()).await.unwrap().value.state, from);
            let elsewhere = LeaseState::ALL.into_iter().find(|state| *state != from).unwrap();
            assert_eq!(scene.step(lease, elsewhere, revocation()).await.unwrap_err(), ChangeRefused::Moved);
        }
        let nobody = scene.step(lease_id(), LeaseState::Intent, LeaseStep::Released).await;
        assert_eq!(nobody.unwrap_err(), ChangeRefused::Missing);
    }
}

#[tokio::test]
async fn of_two_changes_of_one_grant_the_second_is_refused() {
    for scene in scenes().await {
        let sealed = scene.seal(&scene.sealed(claim_key())).await;
        let to = |revision, state| grant_change(&sealed, revision, state);
        scene.store.change_grant(to(0, GrantState::Pending)).await.unwrap();
        let stale = scene.store.change_grant(to(0, GrantState::Approved)).await;
        assert_eq!(stale.unwrap_err(), ChangeRefused::Moved);
        assert!(matches!(
            scene.store.change_grant(to(1, GrantState::Claimed)).await,
            Err(ChangeRefused::Store(StoreError::Unwritable(_)))
        ));
        scene.store.change_grant(to(1, GrantState::Denied)).await.unwrap();
        let over = scene.store.change_grant(to(2, GrantState::Pending)).await;
        assert_eq!(over.unwrap_err(), ChangeRefused::Moved, "a denied grant never opens again");
        let mut nobody = to(0, GrantState::Denied);
        nobody.id = grant_id();
        assert_eq!(scene.store.change_grant(nobody).await.unwrap_err(), ChangeRefused::Missing);
    }
}

#[tokio::test]
async fn closing_a_run_is_all_or_nothing() {
    for scene in scenes().await {
        let grant = scene.approved_grant().await;
        let close = |from, revision| {
            let ends = vec![change(scene.decide, LeaseState::Released, ended(Revocation::NotNeeded))];
            let cancels = vec![grant_change(&grant, revision, GrantState::Cancelled)];
            scene.store.close_run(scene.run, from, ends, cancels, scene.event())
        };
        let before = scene.everything().await;
        assert_eq!(close(RunPhase::Observe, 1).await.unwrap_err(), ChangeRefused::Moved);
        assert_eq!(close(RunPhase::Decide, 0).await.unwrap_err(), ChangeRefused::Moved);
        assert_eq!(scene.everything().await, before);
        close(RunPhase::Decide, 1).await.unwrap();
        assert_eq!(scene.store.run(scene.run).await.unwrap().unwrap().phase, RunPhase::Closed);
        assert!(scene.store.open_grants(Some(scene.run)).await.unwrap().is_empty());
        assert_eq!(close(RunPhase::Closed, 2).await.unwrap_err(), ChangeRefused::Moved);
        scene.chain_holds().await;
    }
}

#[tokio::test]
async fn open_grants_are_counted_by_their_runs_agent() {
    for scene in scenes().await {
        let (own, nobody) = (scene.open(Phase::Observe, claim_key()).lease.agent, "nobody".parse().unwrap());
        let counts = async || {
            let (mine, theirs) = (scene.store.open_count(&own).await, scene.store.open_count(&nobody).await);
            let (mine, theirs) = (mine.unwrap(), theirs.unwrap());
            (mine.own, mine.all, theirs.own, theirs.all)
        };
        assert_eq!(counts().await, (0, 0, 0, 0));
        scene.seal(&scene.sealed(key(60))).await;
        let grant = scene.approved_grant().await;
        assert_eq!(counts().await, (2, 2, 0, 2));
        scene.store.change_grant(grant_change(&grant, 1, GrantState::Cancelled)).await.unwrap();
        assert_eq!(counts().await, (1, 1, 0, 1));
    }
}

#[tokio::test]
async fn what_falls_due_is_found_at_its_own_second() {
    for scene in scenes().await {
        let pending = scene.seal(&scene.sealed(key(60))).await;
        let approved = scene.approved_grant().await;
        let counts = async |now| {
            let due = scene.store.due(at(now)).await.unwrap();
            (due.leases.len(), due.revocations.len(), due.grants.len())
        };
        assert_eq!(counts(599).await, (0, 0, 0));
        assert_eq!(counts(600).await, (1, 0, 0), "the decide lease");
        assert_eq!(counts(1_000).await, (1, 0, 1), "approve_by of {}", pending.grant().id);
        assert_eq!(counts(2_000).await, (1, 0, 2), "claim_until of {}", approved.grant().id);
        let retry = Revocation::Pending { attempts: 1, next_at: at(200) };
        scene.step(scene.decide, LeaseState::Released, ended(retry)).await.unwrap();
        assert_eq!(counts(199).await, (0, 0, 0));
        assert_eq!(counts(200).await, (0, 1, 0));
        let open = LeaseFilter { open: true, ..LeaseFilter::default() };
        assert_eq!(scene.store.leases(open.clone()).await.unwrap().len(), 1);
        let revoked = LeaseFilter { revoked: true, ..LeaseFilter::default() };
        assert_eq!(scene.store.leases(revoked.clone()).await.unwrap()[0].id, scene.decide);
        let done = LeaseStep::Revocation(Revocation::OutlivedIt { attempts: 2 });
        scene.step(scene.decide, LeaseState::Ended, done).await.unwrap();
        let again = LeaseStep::Revocation(retry);
        assert!(scene.step(scene.decide, LeaseState::Ended, again).await.is_err(), "what is over stays so");
        assert!(scene.store.leases(open).await.unwrap().is_empty());
        assert!(scene.store.leases(revoked).await.unwrap().is_empty(), "what outlived it is denied no more");
    }
}

#[tokio::test]
async fn leases_are_listed_by_every_filter_newest_first() {
    for scene in scenes().await {
        let second = scene.other_run().await;
        let list = async |filter| -> Vec<_> {
            scene.store.leases(filter).await.unwrap().into_iter().map(|lease| lease.id).collect()
        };
        let any = LeaseFilter::default;
        assert_eq!(list(any()).await, [second.decide, scene.decide]);
        assert_eq!(list(LeaseFilter { run: Some(scene.run), ..any() }).await, [scene.decide]);
        assert_eq!(list(LeaseFilter { agent: Some("other".parse().unwrap()), ..any() }).await, []);
        assert_eq!(list(LeaseFilter { provider: Some(ProviderKind::Aws), ..any() }).await, []);
        assert_eq!(list(LeaseFilter { target: Some("https://x".into()), ..any() }).await, []);
        assert_eq!(list(LeaseFilter { hard_end_after: Some(at(900)), ..any() }).await, []);
        let both = LeaseFilter { hard_end_after: Some(at(899)), open: true, ..any() };
        assert_eq!(list(both).await, [second.decide, scene.decide]);
    }
}

#[tokio::test]
async fn the_right_to_write_is_fenced() {
    for scene in scenes().await {
        let hold = async |who, now, until| {
            scene.store.hold_writer("deny:role", who, at(now), at(until)).await.unwrap()
        };
        assert_eq!(hold("a", 0, 30).await, Some(1));
        assert_eq!(hold("b", 29, 60).await, None);
        assert_eq!(hold("a", 29, 60).await, Some(1), "renewed");
        assert_eq!(hold("b", 60, 90).await, Some(2));
        assert_eq!(hold("a", 61, 90).await, None);
    }
}

#[tokio::test]
async fn texts_stand_beside_events_and_rules_are_kept() {
    for scene in scenes().await {
        let last = scene.store.events(None, 0, 1_000).await.unwrap().pop().unwrap();
        let head = scene.store.record(vec![scene.event_with_text("why", "Ünïcode")]).await.unwrap();
        let events = scene.store.events(None, last.index + 1, 10).await.unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].index + 1, head.size);
        assert_eq!(events[0].texts, [("why".to_owned(), "Ünïcode".to_owned())]);
        let of_run = scene.store.events(Some(scene.run), 0, 1_000).await.unwrap();
        assert!(!of_run.is_empty() && of_run.len() < usize::try_from(head.size).unwrap());
        assert_eq!(scene.store.rules().await.unwrap(), Some(rules()));
        assert_eq!(scene.store.authors().await.unwrap(), in_force().authors);
        let document = scene.store.directory(rules().directory).await.unwrap();
        assert_eq!(document.as_deref(), Some("directory"));
        assert_eq!(scene.store.directory(Digest::of(b"other")).await.unwrap(), None);
    }
}

#[tokio::test]
async fn reopening_keeps_everything() {
    for scene in scenes().await {
        let grant = scene.approved_grant().await;
        scene.store.open_lease(scene.claim(&grant)).await.unwrap();
        let before = scene.everything().await;
        let scene = scene.reopened().await;
        assert_eq!(scene.everything().await, before);
        scene.chain_holds().await;
    }
}
