//! The whole broker between an agent and an AWS that refuses, throttles, hangs, lies and dies, and over a disk that
//! fills up: one mint per grant at most, nothing released without its records, and every lease ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;
mod fake_aws;

use std::time::Duration;

use broker::disk::Which;
use broker::flow::Approved;
use broker::{Setup, TestBroker};
use fake_aws::{Behaviour, FakeAws, scene};
use phasebroker::broker::end::Complete;
use phasebroker::broker::ports::{LeaseStep, Store};
use phasebroker::cli::agent::ExecuteCredential;
use phasebroker::domain::grant::GrantState;
use phasebroker::domain::lease::{EndReason, Lease, LeaseState, Outcome, Revocation};
use phasebroker::providers::aws::POLICY_NAME;
use serde_json::Value;

/// The execute role of the test catalog.
const ROLE: &str = "execute";
/// Past the hard end of a session: 900 s and a margin.
const PAST_HARD_END: i64 = 1_000;

struct World {
    aws: FakeAws,
    broker: TestBroker,
}

impl World {
    async fn start() -> Self {
        let aws = FakeAws::start(broker::clock::TestClock::default().wall()).await;
        let setup = Setup { aws: Some(scene::settings(&aws.url())), ..Setup::default() };
        Self { broker: TestBroker::with(setup).await, aws }
    }

    /// Time passes for everybody, and is looked at.
    async fn pass(&self, seconds: i64) {
        self.broker.clock.pass(seconds);
        self.aws.set_clock(self.broker.clock.wall());
        self.broker.sweep().await;
    }

    async fn lease(&self, it: &Approved) -> Lease {
        self.broker.disk.lease(it.sealed.grant().time.lease).await.unwrap().unwrap()
    }

    fn denies(&self, lease: &Lease) -> bool {
        self.aws.policy(ROLE, POLICY_NAME).is_some_and(|text| text.contains(&lease.id.to_string()))
    }

    /// The ledger's words about one lease, in order.
    async fn life(&self, lease: &Lease) -> Vec<String> {
        let events = self.broker.events_since(0).await;
        let its = events.into_iter().filter(|event| event["lease"] == lease.id.to_string());
        its.map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    }

    /// The grant is good for one credential, and no more.
    async fn is_claimable_once(&self, it: &Approved) {
        assert_eq!(self.broker.grant_state(it.grant).await, GrantState::Approved);
        let before = self.aws.minted();
        self.broker.claim(it).await.map(drop).unwrap();
        self.broker.claim_with(it, &it.tokens).await.refused(409, "grant_spent", "propose again");
        assert_eq!(self.aws.minted(), before + 1);
        let life = self.life(&self.lease(it).await).await;
        let (intent, last) = (life.iter().rposition(|kind| kind == "lease.intent").unwrap(), life.len());
        assert_eq!(life[intent..last], ["lease.intent", "lease.minted", "lease.released"]);
    }
}

fn done() -> Complete {
    Complete { outcome: Outcome::Succeeded, note: None }
}

/// Nothing of a session is in an answer.
fn holds_no_secret(text: &str) {
    for part in ["secret-", "token-", "ASIA0"] {
        assert!(!text.contains(part), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_by_sts_leaves_the_grant_unspent_and_claimable() {
    let world = World::start().await;
    let it = world.broker.run_to_approved_on_aws().await;
    world.aws.behave(Behaviour::Refuse(403, "AccessDenied"));
    world.broker.claim_with(&it, &it.tokens).await.refused(503, "provider_refused", "AccessDenied");
    assert_eq!((world.aws.minted(), world.aws.requests("AssumeRole").len()), (0, 1));
    assert_eq!(world.life(&world.lease(&it).await).await, ["lease.intent", "lease.refused"]);
    world.aws.behave(Behaviour::Answer);
    world.is_claimable_once(&it).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_mint_says_when_to_come_back_and_spends_nothing() {
    let world = World::start().await;
    let it = world.broker.run_to_approved_on_aws().await;
    for status in [400, 503] {
        world.aws.behave(Behaviour::Refuse(status, "Throttling"));
        let reply = world.broker.claim_with(&it, &it.tokens).await;
        reply.refused(503, "provider_refused", "throttles");
        assert!(reply.body["retry_after"].as_u64().is_some_and(|seconds| seconds > 0), "{}", reply.text);
        assert!(reply.headers.contains_key("retry-after"));
    }
    assert_eq!(world.aws.minted(), 0);
    world.aws.behave(Behaviour::Answer);
    world.is_claimable_once(&it).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_of_sts_spends_the_grant_and_is_starved_until_its_hard_end() {
    let world = World::start().await;
    for behaviour in [
        Behaviour::Hang,
        Behaviour::AnswerAfter(Duration::from_secs(5)),
        Behaviour::BreakOff,
        Behaviour::Die,
        Behaviour::Babble,
        Behaviour::ExpirationOff(30),
    ] {
        let it = world.broker.run_to_approved_on_aws().await;
        let (asked, minted) = (world.aws.requests("AssumeRole").len(), world.aws.minted());
        world.aws.behave(behaviour.clone());
        let reply = world.broker.claim_with(&it, &it.tokens).await;
        reply.refused(503, "mint_unknown", "Propose again");
        holds_no_secret(&reply.text);
        world.aws.behave(Behaviour::Answer);
        world.broker.claim_with(&it, &it.tokens).await.refused(409, "grant_spent", "propose again");
        assert_eq!(world.aws.requests("AssumeRole").len(), asked + 1, "{behaviour:?} was tried again");
        assert!(world.aws.minted() <= minted + 1);

        world.broker.sweep().await;
        let lease = world.lease(&it).await;
        assert_eq!(lease.state, LeaseState::Unknown, "{behaviour:?}");
        assert!(world.denies(&lease), "{behaviour:?} is not starved");
        // Asking for the lost reply changes nothing: what nobody knows is closed at its hard end, not before.
        let recalled = world.broker.agent("fixer").recall(lease.id, &it.claim_key).await;
        assert_eq!(recalled.err().unwrap().code(), Some("credential_lost"));
        world.pass(lease.hard_end.since(world.broker.clock.wall()) - 1).await;
        assert_eq!(world.lease(&it).await.state, LeaseState::Unknown, "{behaviour:?}");
        world.pass(1).await;
        let lease = world.lease(&it).await;
        assert_eq!((lease.state, lease.ended.unwrap().reason), (LeaseState::Ended, EndReason::Unknown));
        assert!(matches!(lease.revocation, Revocation::Done { .. }), "what was done is forgotten: {lease:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_iam_refuses_is_seen_counted_and_retried_until_it_is_done() {
    let world = World::start().await;
    let it = world.broker.run_to_approved_on_aws().await;
    let claimed = world.broker.claim(&it).await.map_err(|e| e.to_string()).ok().unwrap();
    world.aws.refuse_iam(Some((403, "AccessDenied")));
    let end = world.broker.agent("fixer").complete(&claimed, &it.claim_key, &done()).await.unwrap();
    assert!(end.how.contains("being retried") && !end.how.contains("revoked:"), "{}", end.how);
    let failed = r#"phasebroker_failed_revocations_total{provider="aws"}"#;
    assert_eq!(world.broker.metric(failed).await, 1);
    let listed = world.broker.by_person("olga", "GET", "/v1/leases?open=true", None).await.good();
    let row =
        listed["leases"].as_array().unwrap().iter().find(|row| row["lease"] == claimed.lease.to_string());
    assert_eq!(row.unwrap()["revocation"]["state"], "pending", "{listed}");

    world.pass(1).await;
    assert_eq!(world.broker.metric(failed).await, 2);
    assert_eq!(world.broker.metric("phasebroker_pending_revocations").await, 1);
    world.aws.refuse_iam(None);
    world.pass(2).await;
    let lease = world.lease(&it).await;
    assert!(matches!(lease.revocation, Revocation::Done { .. }), "{lease:?}");
    assert!(world.denies(&lease));
    assert_eq!(world.broker.metric("phasebroker_pending_revocations").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_never_succeeds_is_called_outlived_and_not_done() {
    let world = World::start().await;
    let it = world.broker.run_to_approved_on_aws().await;
    let claimed = world.broker.claim(&it).await.map_err(|e| e.to_string()).ok().unwrap();
    world.aws.refuse_iam(Some((403, "AccessDenied")));
    world.broker.agent("fixer").complete(&claimed, &it.claim_key, &done()).await.map(drop).unwrap();
    world.pass(PAST_HARD_END).await;
    let lease = world.lease(&it).await;
    assert_eq!((lease.state, lease.ended.unwrap().reason), (LeaseState::Ended, EndReason::Completed));
    assert!(matches!(lease.revocation, Revocation::OutlivedIt { .. }), "{lease:?}");
    let life = world.life(&lease).await;
    assert_eq!(life.last().unwrap(), "revocation.outlived");
    assert!(!life.iter().any(|kind| kind == "revocation.done"), "{life:?}");
    let listed = world.broker.by_person("olga", "GET", "/v1/leases?open=true", None).await.good();
    assert!(!listed.to_string().contains(&lease.id.to_string()), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_ended_at_its_provider_though_the_wall_clock_jumped_past_its_hard_end() {
    let world = World::start().await;
    let it = world.broker.run_to_approved_on_aws().await;
    world.broker.claim(&it).await.map(drop).unwrap();
    world.aws.refuse_iam(Some((503, "Throttling")));
    world.broker.clock.step_wall(PAST_HARD_END);
    world.broker.sweep().await;
    let lease = world.lease(&it).await;
    assert_eq!((lease.state, lease.ended.unwrap().reason), (LeaseState::Ended, EndReason::CutOff));
    assert!(matches!(lease.revocation, Revocation::Pending { .. }), "AWS's clock did not jump: {lease:?}");
    world.aws.refuse_iam(None);
    world.broker.clock.pass(2);
    world.broker.sweep().await;
    let lease = world.lease(&it).await;
    assert!(matches!(lease.revocation, Revocation::Done { .. }) && world.denies(&lease), "{lease:?}");

    let world = World::start().await;
    let it = world.broker.run_to_approved_on_aws().await;
    world.broker.claim(&it).await.map(drop).unwrap();
    let written = world.aws.requests("PutRolePolicy").len();
    world.pass(lease.not_after.since(lease.opened_at) + 1).await;
    let lease = world.lease(&it).await;
    assert_eq!(
        (lease.state, lease.revocation),
        (LeaseState::Ended, Revocation::NotNeeded),
        "its time is over"
    );
    assert_eq!(world.aws.requests("PutRolePolicy").len(), written);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_set_back_puts_off_no_further_attempt_and_calls_nothing_done_that_was_not() {
    let world = World::start().await;
    let it = world.broker.run_to_approved_on_aws().await;
    let claimed = world.broker.claim(&it).await.map_err(|e| e.to_string()).ok().unwrap();
    world.aws.refuse_iam(Some((403, "AccessDenied")));
    world.broker.agent("fixer").complete(&claimed, &it.claim_key, &done()).await.map(drop).unwrap();
    world.broker.clock.step_wall(-1_200);
    let failed = r#"phasebroker_failed_revocations_total{provider="aws"}"#;
    for (seconds, attempts) in [(0, 1), (1, 2), (1, 2), (1, 3)] {
        world.broker.clock.step_boot(seconds);
        world.broker.sweep().await;
        assert_eq!(world.broker.metric(failed).await, attempts, "after {seconds} s more");
    }
    world.broker.clock.step_boot(PAST_HARD_END);
    world.broker.sweep().await;
    let lease = world.lease(&it).await;
    assert!(matches!(lease.revocation, Revocation::OutlivedIt { .. }), "{lease:?}");
    assert!(!world.life(&lease).await.iter().any(|kind| kind == "revocation.done"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_in_mid_claim_can_ask_for_what_was_minted() {
    let world = World::start().await;
    let it = world.broker.run_to_approved_on_aws().await;
    world.aws.behave(Behaviour::AnswerAfter(Duration::from_millis(700)));
    let claim = world.broker.claim(&it);
    let asked = async {
        while world.aws.requests("AssumeRole").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = claim => panic!("STS was to answer late"),
        () = asked => {}
    }
    // While STS thinks, the answer is not lost: asking for it neither ends the lease nor says that it is over.
    let fixer = world.broker.agent("fixer");
    let mut waited = false;
    let again = loop {
        match fixer.recall(it.sealed.grant().time.lease, &it.claim_key).await {
            Ok(again) => break again,
            Err(error) => assert_eq!(error.code(), Some("conflict"), "{error}"),
        }
        waited = true;
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(waited);
    let ExecuteCredential::Aws(session) = again.credential else { panic!("not of AWS") };
    let lease = world.lease(&it).await;
    assert_eq!((lease.state, Some(session.access_key_id)), (LeaseState::Released, lease.reference));
    world.broker.claim_with(&it, &it.tokens).await.refused(409, "grant_spent", "propose again");
    assert_eq!(world.aws.minted(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_before_the_intent_mints_nothing_and_spends_nothing() {
    let world = World::start().await;
    let it = world.broker.run_to_approved_on_aws().await;
    world.broker.disk.fill();
    world.broker.claim_with(&it, &it.tokens).await.refused(503, "store_unavailable", "cannot record");
    assert_eq!(world.broker.call("GET", "/readyz", &[], None).await.status, 503);
    assert!(world.aws.requests("AssumeRole").is_empty());
    world.broker.disk.mend();
    world.is_claimable_once(&it).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_records_fail_never_leaves_and_is_denied() {
    let steps: [(Which, EndReason); 2] = [
        (|step| matches!(step, LeaseStep::Minted { .. }), EndReason::Unknown),
        (|step| matches!(step, LeaseStep::Released), EndReason::Withheld),
    ];
    for (fails, reason) in steps {
        let world = World::start().await;
        let it = world.broker.run_to_approved_on_aws().await;
        world.broker.disk.refuse_steps(fails);
        let reply = world.broker.claim_with(&it, &it.tokens).await;
        reply.refused(503, "store_unavailable", "cannot record");
        holds_no_secret(&reply.text);
        assert_eq!(world.aws.minted(), 1);
        world.broker.disk.mend();
        world.broker.sweep().await;
        let lease = world.lease(&it).await;
        assert!(world.denies(&lease), "{reason}: {lease:?}");
        assert!(!world.life(&lease).await.contains(&"lease.released".to_owned()));
        let recalled = world.broker.agent("fixer").recall(lease.id, &it.claim_key).await;
        assert!(recalled.is_err(), "{reason}: it left after all");
        world.broker.claim_with(&it, &it.tokens).await.refused(409, "grant_spent", "propose again");
        world.pass(PAST_HARD_END).await;
        assert_eq!(world.lease(&it).await.ended.unwrap().reason, reason);
        assert_eq!(world.aws.minted(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_does_not_keep_a_session_from_being_denied() {
    let world = World::start().await;
    let it = world.broker.run_to_approved_on_aws().await;
    world.broker.claim(&it).await.map(drop).unwrap();
    world.broker.disk.fill();
    let body = serde_json::json!({"everything": true, "reason": "the disk is full"});
    let stopped: Value = world.broker.by_person("olga", "POST", "/v1/stop", Some(&body)).await.good();
    assert_eq!(stopped["recorded"], false, "{stopped}");
    assert!(world.denies(&world.lease(&it).await), "{stopped}");
    world.broker.disk.mend();
    world.broker.sweep().await;
    let lease = world.lease(&it).await;
    assert_eq!((lease.state, lease.ended.unwrap().reason), (LeaseState::Ended, EndReason::Stopped));
}
