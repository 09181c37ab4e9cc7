//! Decisions, suggestions, observations and histories: kept whole, read back in their order.

use phasebroker::broker::ports::*;
use phasebroker::domain::decision::Tier;
use phasebroker::domain::grant::{GrantState, SealedGrant};
use phasebroker::domain::id::DecisionId;
use phasebroker::domain::lease::{LeaseState, Revocation};
use phasebroker::domain::observation::{ELSEWHERE, Observation, Trust};
use phasebroker::domain::phase::{Phase, RunPhase};

use super::fixture::*;

fn decision(seconds: i64) -> DecisionEntry {
    DecisionEntry {
        id: DecisionId::generate(at(seconds)),
        at: at(seconds),
        grant: grant_id(),
        moment: "propose".into(),
        facts: r#"{"environment":"demo"}"#.into(),
        tier: Tier::Deny,
        reasons: vec!["quiet-hours".into(), "other".into()],
    }
}

fn suggestion(scene: &Scene) -> SealedGrant {
    scene.sealed_as(claim_key(), |grant| grant.decision.tier = Tier::SuggestOnly)
}

async fn suggest(scene: &Scene, sealed: &SealedGrant) -> Result<(), SealRefused> {
    let sealing = Sealing { state: GrantState::Suggested, ..pending(sealed) };
    scene.store.seal(vec![sealing], limits(0, 0), vec![], vec![scene.event()]).await
}

#[tokio::test]
async fn decisions_are_read_by_time_oldest_first_in_pages() {
    for scene in scenes().await {
        let (late, early, sealed) = (decision(300), decision(200), decision(250));
        scene.store.keep_decision(late.clone(), vec![scene.event()]).await.unwrap();
        scene.store.keep_decision(early.clone(), vec![]).await.unwrap();
        let sealings = vec![pending(&scene.sealed(key(60)))];
        let stored = scene.store.seal(sealings, limits(9, 9), vec![sealed.clone()], vec![scene.event()]);
        stored.await.unwrap();
        let read = async |since, skip, limit| scene.store.decisions(at(since), skip, limit).await.unwrap();
        assert_eq!(read(0, 0, 10).await, [early.clone(), sealed.clone(), late.clone()]);
        assert_eq!(read(201, 0, 10).await, [sealed.clone(), late.clone()]);
        assert_eq!(read(200, 1, 1).await, [sealed]);
        assert_eq!(read(300, 0, 10).await, [late]);
        assert_eq!(read(0, u64::MAX, 10).await, []);
        scene.chain_holds().await;
    }
}

#[tokio::test]
async fn the_decisions_on_a_grant_and_on_its_way_back_are_both_kept() {
    for scene in scenes().await {
        let (there, back) = (decision(100), decision(101));
        let together = vec![pending(&scene.sealed(key(60))), pending(&scene.sealed(key(61)))];
        let decisions = vec![there.clone(), back.clone()];
        scene.store.seal(together, limits(9, 9), decisions, vec![scene.event()]).await.unwrap();
        assert_eq!(scene.store.decisions(at(0), 0, 10).await.unwrap(), [there, back]);
    }
}

#[tokio::test]
async fn a_refused_sealing_keeps_no_decision() {
    for scene in scenes().await {
        let before = scene.everything().await;
        let sealings = vec![pending(&scene.sealed(key(60)))];
        let refused = scene.store.seal(sealings, limits(0, 0), vec![decision(100)], vec![scene.event()]);
        assert_eq!(refused.await.unwrap_err(), SealRefused::TooManyOpen(limits(0, 0)));
        assert_eq!(scene.everything().await, before);
    }
}

#[tokio::test]
async fn a_suggestion_takes_no_room_and_is_never_open() {
    for scene in scenes().await {
        let (first, second) = (suggestion(&scene), suggestion(&scene));
        suggest(&scene, &first).await.unwrap();
        suggest(&scene, &second).await.unwrap();
        let suggestions = scene.store.suggestions().await.unwrap();
        assert_eq!(suggestions.iter().map(|one| &one.sealed).collect::<Vec<_>>(), [&second, &first]);
        assert!(suggestions.iter().all(|one| one.state == GrantState::Suggested && one.evidence.is_some()));
        assert!(scene.store.open_grants(None).await.unwrap().is_empty());
        for state in [GrantState::Approved, GrantState::Pending, GrantState::Denied] {
            let opened = scene.store.change_grant(grant_change(&first, 0, state)).await;
            assert_eq!(opened.unwrap_err(), ChangeRefused::Moved, "{state}");
        }
        let claim = Opening { spends: Some((first.grant().id, 0)), ..scene.claim(&first) };
        let moved = OpenRefused::GrantMoved(GrantState::Suggested);
        super::fails_whole(&scene, claim, moved).await;
        // The key that it names may still claim something else.
        let pending = scene.seal(&scene.sealed(claim_key())).await;
        let refused = scene.store.change_grant(grant_change(&pending, 0, GrantState::Suggested)).await;
        assert!(matches!(refused, Err(ChangeRefused::Store(StoreError::Unwritable(_)))));
    }
}

#[tokio::test]
async fn a_suggestion_needs_an_open_run() {
    for scene in scenes().await {
        let end = change(scene.decide, LeaseState::Released, ended(Revocation::NotNeeded));
        let closed = scene.store.close_run(scene.run, RunPhase::Decide, vec![end], vec![], scene.event());
        closed.await.unwrap();
        let refused = suggest(&scene, &suggestion(&scene)).await;
        assert_eq!(refused.unwrap_err(), SealRefused::RunMoved(RunPhase::Closed));
    }
}

#[tokio::test]
async fn the_last_untrusted_reading_of_any_of_the_agents_is_found_after_an_instant() {
    for scene in scenes().await {
        let seen = |agent: &str, seconds, trust| Observation {
            agent: agent.parse().unwrap(),
            run: scene.run,
            at: at(seconds),
            source: ELSEWHERE.into(),
            trust,
        };
        for seen in [
            seen("sre-agent", 200, Trust::Untrusted),
            seen("sre-agent", 150, Trust::Untrusted),
            seen("sre-agent", 400, Trust::Trusted),
            seen("pay-bot", 300, Trust::Untrusted),
        ] {
            let head = scene.store.observed(seen, scene.event()).await.unwrap();
            assert_eq!(head, scene.store.head().await.unwrap());
        }
        let scene = scene.reopened().await;
        let last = async |agents: &[&str], since| {
            let agents = agents.iter().map(|agent| agent.parse().unwrap()).collect();
            scene.last_untrusted(agents, since).await
        };
        assert_eq!(last(&["sre-agent"], 0).await, Some(at(200)));
        assert_eq!(last(&["sre-agent"], 199).await, Some(at(200)));
        assert_eq!(last(&["sre-agent"], 200).await, None);
        assert_eq!(last(&["sre-agent", "pay-bot"], 0).await, Some(at(300)));
        assert_eq!(last(&["web-bot"], 0).await, None);
        assert_eq!(last(&[], 0).await, None);
        scene.chain_holds().await;
    }
}

#[tokio::test]
async fn what_an_observe_credential_lets_read_is_kept_even_when_nothing_was_minted() {
    for scene in scenes().await {
        let mut observe = scene.open(Phase::Observe, key(50));
        observe.run_from = RunPhase::Decide;
        observe.lease.action = Some("telemetry".parse().unwrap());
        let observation = Observation {
            agent: scene.agent.clone(),
            run: scene.run,
            at: at(100),
            source: "telemetry".into(),
            trust: Trust::Untrusted,
        };
        let elsewhere = Observation { run: run_id(), ..observation.clone() };
        let wrong = Opening { observation: Some(elsewhere), ..observe.clone() };
        let refused = scene.store.open_lease(wrong).await.unwrap_err();
        assert!(matches!(refused, OpenRefused::Store(StoreError::Unwritable(_))), "{refused}");
        let last = async || scene.last_untrusted(vec![scene.agent.clone()], 0).await;
        assert_eq!(last().await, None, "a refused opening leaves no observation");
        observe.observation = Some(observation);
        let lease = scene.store.open_lease(observe).await.unwrap().value.lease().clone();
        assert_eq!(scene.store.lease(lease.id).await.unwrap(), Some(lease.clone()));
        scene.step(lease.id, LeaseState::Intent, LeaseStep::Refused).await.unwrap();
        assert_eq!(last().await, Some(at(100)));
    }
}

#[tokio::test]
async fn a_run_s_history_counts_what_was_issued_and_sealed_in_it() {
    for scene in scenes().await {
        let history = async || {
            let history = scene.history(scene.run).await;
            (history.observations, history.proposals, history.claims)
        };
        assert_eq!(history().await, (0, 0, 0), "the decide lease is neither");
        let other = scene.run_of("pay-bot").await;
        other.seal(&other.sealed(key(60))).await;
        suggest(&scene, &suggestion(&scene)).await.unwrap();
        let grant = scene.approved_grant().await;
        let claim = scene.claim(&grant);
        let lease = scene.store.open_lease(claim.clone()).await.unwrap().value.lease().id;
        assert_eq!(history().await, (0, 2, 1));
        scene.step(lease, LeaseState::Intent, LeaseStep::Refused).await.unwrap();
        assert_eq!(history().await, (0, 2, 0));
        let mut observe = scene.open(Phase::Observe, key(50));
        observe.run_from = RunPhase::Decide;
        scene.store.open_lease(observe).await.unwrap();
        assert_eq!(history().await, (1, 2, 0));
        assert_eq!(scene.history(run_id()).await, RunHistory::default());
    }
}
