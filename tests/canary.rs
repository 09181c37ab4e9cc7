//! Canaries: after the early end of a session whose entry asks for one, the broker sees when AWS first refuses it, or says that
//! it could not. A whole broker, against a recording fake of AWS and against doubles that hang or take their time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;
mod fake_aws;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use broker::clock::TestClock;
use broker::{Setup, TestBroker};
use fake_aws::{Behaviour, FakeAws, Regions, scene};
use phasebroker::broker::end::Complete;
use phasebroker::broker::ports::*;
use phasebroker::domain::authority::Authority;
use phasebroker::domain::id::LeaseId;
use phasebroker::domain::lease::{Lease, OpenedLease, Outcome, Prepared};
use phasebroker::domain::plan::{Credential, ProviderKind};
use phasebroker::domain::secret::Secret;
use phasebroker::domain::sent::session_policy_text;
use phasebroker::domain::time::Timestamp;
use serde_json::{Value, json};

/// The entry of a reboot asks for a canary.
async fn marked(b: &TestBroker) {
    b.reload(|written| {
        let summary = "summary = \"Reboot the EC2 instance {instance}\"\n";
        assert!(written.catalog.contains(summary));
        written.catalog = written.catalog.replace(summary, &format!("{summary}canary = true\n"));
    })
    .await;
}

async fn with_aws(regions: Regions) -> (TestBroker, FakeAws) {
    let aws = FakeAws::start(TestClock::default().wall()).await;
    aws.tell_regions(regions);
    let setup = Setup { aws: Some(scene::settings(&aws.url())), ..Setup::default() };
    (TestBroker::with(setup).await, aws)
}

/// Claims and completes one action; its lease, and what the agent heard.
async fn act(b: &TestBroker) -> (String, Value) {
    act_once(b, async || ()).await
}

/// The same, where the session is ended only after its canary was asked for the first time.
async fn act_after(b: &TestBroker, calls: impl Fn() -> usize) -> (String, Value) {
    let before = calls();
    let asked = async || {
        for _ in 0..500 {
            if calls() > before {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the canary was not asked at the release");
    };
    act_once(b, asked).await
}

async fn act_once(b: &TestBroker, between: impl AsyncFnOnce()) -> (String, Value) {
    let approved = b.run_to_approved_on_aws().await;
    let claimed = b.claim(&approved).await.ok().unwrap();
    between().await;
    let done = Complete { outcome: Outcome::Succeeded, note: None };
    let end = b.agent("fixer").complete(&claimed, &approved.claim_key, &done).await.unwrap();
    (approved.sealed.grant().time.lease.to_string(), serde_json::to_value(end).unwrap())
}

/// The event of this kind about a lease, while time goes by and the broker sweeps.
async fn heard(b: &TestBroker, mark: u64, kind: &str, lease: &str) -> Value {
    for _ in 0..120 {
        b.sweep().await;
        for _ in 0..20 {
            let events = b.events_since(mark).await;
            if let Some(event) = events.iter().find(|event| event["type"] == kind && event["lease"] == lease)
            {
                return event.clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        b.clock.pass(1);
    }
    panic!("no `{kind}`: {:?}", b.kinds_since(mark).await);
}

async fn row(b: &TestBroker, lease: &str) -> Value {
    let leases = b.by_person("olga", "GET", "/v1/leases", None).await.good();
    leases["leases"].as_array().unwrap().iter().find(|row| row["lease"] == lease).unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_refusal_after_an_early_end_is_recorded_with_its_code_and_where_operators_look() {
    let (b, aws) = with_aws(Regions::UntilDenied(2)).await;
    marked(&b).await;
    let mark = b.mark().await;
    let (lease, _) = act_after(&b, || aws.requests("DescribeRegions").len()).await;
    let seen = heard(&b, mark, "revocation.seen", &lease).await;
    let facts = &seen["facts"];
    assert_eq!((&facts["code"], &facts["calls"]), (&json!("UnauthorizedOperation"), &json!(3)), "{seen}");
    assert_eq!(facts["was_allowed"], json!(true));
    let after = facts["denied_at"].as_i64().unwrap() - facts["ended_at"].as_i64().unwrap();
    assert!((2..50).contains(&after), "two pauses of a second at least: {seen}");
    let asked = aws.requests("DescribeRegions");
    // One at the release, three after the end.
    assert!(asked.len() == 4 && asked.iter().all(|call| call["SignedBy"].starts_with("ASIA")), "{asked:?}");
    let revocation = row(&b, &lease).await["revocation"].clone();
    assert_eq!(revocation["seen"], json!({"denied_at": facts["denied_at"]}));
    assert!(revocation["effective_by"].is_i64(), "{revocation}");
    let metrics = b.call("GET", "/metrics", &[], None).await.text;
    assert!(metrics.contains("phasebroker_revocation_to_denial_seconds_count 1"), "{metrics}");
    // It stops there, and nothing of the session was written down.
    b.clock.pass(30);
    b.sweep().await;
    assert_eq!(aws.requests("DescribeRegions").len(), 4);
    let all = serde_json::to_string(&b.events_since(0).await).unwrap();
    assert!(!all.contains("secret-") && !all.contains("token-"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_without_a_canary_gets_no_statement_and_no_call() {
    let (b, aws) = with_aws(Regions::UntilDenied(0)).await;
    let mark = b.mark().await;
    act(&b).await;
    for _ in 0..3 {
        b.clock.pass(1);
        b.sweep().await;
    }
    assert!(aws.requests("DescribeRegions").is_empty());
    let policies = aws.requests("AssumeRole");
    assert!(policies.iter().all(|mint| !mint["Policy"].contains("DescribeRegions")), "{policies:?}");
    assert!(
        !b.kinds_since(mark)
            .await
            .iter()
            .any(|kind| kind.starts_with("revocation.") && kind.ends_with("seen"))
    );
    marked(&b).await;
    aws.set_clock(b.clock.wall());
    act(&b).await;
    let last = aws.requests("AssumeRole").pop().unwrap();
    assert_eq!(last["Policy"].matches("DescribeRegions").count(), 1, "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_aws_takes_to_its_own_end_is_said_to_be_so() {
    let (b, _aws) = with_aws(Regions::Always).await;
    marked(&b).await;
    let mark = b.mark().await;
    let (lease, _) = act(&b).await;
    let unseen = heard(&b, mark, "revocation.unseen", &lease).await;
    let why = unseen["facts"]["why"].as_str().unwrap();
    assert!(why.contains("took the session until its own end"), "{why}");
    assert_eq!(row(&b, &lease).await["revocation"]["seen"], json!("unclear"));
    let metrics = b.call("GET", "/metrics", &[], None).await.text;
    assert!(metrics.contains("phasebroker_unseen_denials_total 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_what_aws_never_took_shows_no_end() {
    let (b, aws) = with_aws(Regions::Never).await;
    marked(&b).await;
    let mark = b.mark().await;
    let (lease, _) = act_after(&b, || aws.requests("DescribeRegions").len()).await;
    let unseen = heard(&b, mark, "revocation.unseen", &lease).await;
    let why = unseen["facts"]["why"].as_str().unwrap();
    assert!(why.contains("has taken no call") && why.contains("ceiling"), "{why}");
    assert_eq!(row(&b, &lease).await["revocation"]["seen"], json!("unclear"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_session_that_nobody_knows_to_exist_there_is_nothing_to_be_seen() {
    let (b, aws) = with_aws(Regions::Always).await;
    marked(&b).await;
    let approved = b.run_to_approved_on_aws().await;
    let mark = b.mark().await;
    aws.behave(Behaviour::Die);
    assert!(b.claim(&approved).await.is_err());
    let lease = approved.sealed.grant().time.lease.to_string();
    heard(&b, mark, "revocation.done", &lease).await;
    let b = b.restart().await;
    b.sweep().await;
    let kinds = b.kinds_since(mark).await;
    assert!(kinds.contains(&"lease.unknown".to_owned()), "{kinds:?}");
    assert!(!kinds.iter().any(|kind| kind == "revocation.unseen"), "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ec2_that_cannot_be_reached_is_no_refusal() {
    let aws = FakeAws::start(TestClock::default().wall()).await;
    let settings = scene::settings(&aws.url());
    let nowhere = Some("http://127.0.0.1:9".to_owned());
    let settings = phasebroker::providers::aws::AwsSettings { ec2_endpoint: nowhere, ..settings };
    let b = TestBroker::with(Setup { aws: Some(settings), ..Setup::default() }).await;
    marked(&b).await;
    let mark = b.mark().await;
    let (lease, _) = act(&b).await;
    let unseen = heard(&b, mark, "revocation.unseen", &lease).await;
    let why = unseen["facts"]["why"].as_str().unwrap();
    assert!(why.contains("was not heard") && why.contains("EC2"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_ends_a_canary_and_the_ledger_says_so_once() {
    let (b, _aws) = with_aws(Regions::Always).await;
    marked(&b).await;
    let mark = b.mark().await;
    let (lease, _) = act(&b).await;
    heard(&b, mark, "revocation.done", &lease).await;
    // However long it was away.
    b.clock.pass(1_000);
    let b = b.restart().await;
    let unseen = heard(&b, mark, "revocation.unseen", &lease).await;
    assert!(unseen["facts"]["why"].as_str().unwrap().contains("started again"), "{unseen}");
    let b = b.restart().await;
    let told = b.kinds_since(mark).await.into_iter().filter(|kind| kind == "revocation.unseen").count();
    assert_eq!(told, 1);
}

/// How a double answers the calls of a canary.
#[derive(Clone)]
enum Answer {
    Hang,
    /// Refuses after this many seconds of the test's clock.
    RefuseAfter(i64),
}

/// AWS without AWS, where nothing is ever slow but the canary.
struct Double {
    answer: Answer,
    /// The broker's own, which is known only once that runs.
    clock: OnceLock<TestClock>,
    calls: AtomicU32,
    /// Where ends wait, when they are to.
    revoking: Option<Ends>,
}

/// Ends that take their time.
#[derive(Default)]
struct Ends {
    asked: AtomicU32,
    go_on: tokio::sync::Notify,
}

impl Double {
    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst) as usize
    }
}

#[async_trait]
impl CanaryCall for Double {
    async fn call(&self, session: &CredentialSecret, place: &CanaryPlace) -> CanaryOutcome {
        assert!(matches!(session, CredentialSecret::Aws { .. }));
        assert_eq!(place.partition, "aws");
        // The first one of a session is that of its release.
        if self.calls.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
            return CanaryOutcome::Allowed;
        }
        match self.answer {
            Answer::Hang => std::future::pending().await,
            Answer::RefuseAfter(seconds) => {
                self.clock.get().unwrap().pass(seconds);
                CanaryOutcome::Denied("AccessDenied".into())
            }
        }
    }
}

struct Cloud(Arc<Double>);

fn minted() -> MintOutcome {
    MintOutcome::Minted(Minted {
        reference: "ASIADOUBLE".into(),
        secret: CredentialSecret::Aws {
            access_key_id: "ASIADOUBLE".into(),
            secret_access_key: Secret::new("secret".into()),
            session_token: Secret::new("token".into()),
        },
        packed_policy_percent: None,
    })
}

#[async_trait]
impl CredentialProvider for Cloud {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Aws
    }

    async fn prepare(
        &self,
        _: LeaseId,
        credential: &Credential,
        work_seconds: u32,
        now: Timestamp,
    ) -> Result<Prepared, NotReady> {
        let Credential::Aws(aws) = credential else { panic!("not for AWS") };
        let not_after = now.plus(i64::from(work_seconds));
        let document = session_policy_text(aws, not_after).unwrap();
        Ok(Prepared { document, not_after, hard_end: now.plus(930) })
    }

    async fn mint_execute(&self, _: &OpenedLease, _: &Authority) -> MintOutcome {
        minted()
    }

    async fn mint_phase(&self, _: &OpenedLease, _: &PhaseCredential) -> MintOutcome {
        minted()
    }

    async fn revoke(&self, _: &Lease, now: Timestamp) -> Result<Revoked, RevokeFailed> {
        if let Some(ends) = &self.0.revoking {
            ends.asked.fetch_add(1, Ordering::SeqCst);
            ends.go_on.notified().await;
        }
        Ok(Revoked { at: now, effective_by: now.plus(60) })
    }

    fn canary(&self) -> Option<Arc<dyn CanaryCall>> {
        Some(self.0.clone())
    }
}

async fn with_double(answer: Answer) -> (TestBroker, Arc<Double>) {
    with_doubles(answer, None).await
}

async fn with_doubles(answer: Answer, revoking: Option<Ends>) -> (TestBroker, Arc<Double>) {
    let double = Arc::new(Double { answer, clock: OnceLock::new(), calls: AtomicU32::new(0), revoking });
    let providers: Vec<Arc<dyn CredentialProvider>> = vec![Arc::new(Cloud(double.clone()))];
    let b = TestBroker::with(Setup { providers, ..Setup::default() }).await;
    assert!(double.clock.set(b.clock.clone()).is_ok());
    marked(&b).await;
    (b, double)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_its_own_deadline_may_have_given_is_none_of_its_early_end() {
    for (seconds, kind) in [(3, "revocation.seen"), (56, "revocation.unseen")] {
        let (b, double) = with_double(Answer::RefuseAfter(seconds)).await;
        let mark = b.mark().await;
        let (lease, _) = act_after(&b, || double.calls()).await;
        heard(&b, mark, kind, &lease).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_takes_its_time_is_asked_for_once_recorded_once_and_seen_once() {
    let (b, double) = with_doubles(Answer::RefuseAfter(1), Some(Ends::default())).await;
    let ends = double.revoking.as_ref().unwrap();
    let mark = b.mark().await;
    let approved = b.run_to_approved_on_aws().await;
    let lease = approved.sealed.grant().time.lease.to_string();
    let meanwhile = async {
        while ends.asked.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // What would wait for the provider again waits for ever.
        for _ in 0..3 {
            let sweep = tokio::time::timeout(Duration::from_secs(5), b.sweep());
            assert!(sweep.await.is_ok(), "the sweep asks for what is under way");
            b.clock.pass(1);
        }
        assert_eq!(ends.asked.load(Ordering::SeqCst), 1);
        ends.go_on.notify_one();
    };
    let claimed = b.claim(&approved).await.ok().unwrap();
    let done = Complete { outcome: Outcome::Succeeded, note: None };
    let agent = b.agent("fixer");
    let (end, ()) = tokio::join!(agent.complete(&claimed, &approved.claim_key, &done), meanwhile);
    assert_eq!(serde_json::to_value(end.unwrap()).unwrap()["revocation"]["state"], "done");
    heard(&b, mark, "revocation.seen", &lease).await;
    let kinds = b.kinds_since(mark).await;
    let told: Vec<_> = kinds.iter().filter(|kind| kind.starts_with("revocation.")).collect();
    assert_eq!(told, ["revocation.done", "revocation.seen"], "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_hangs_holds_up_no_revocation() {
    let (b, double) = with_double(Answer::Hang).await;
    for calls in [2, 4] {
        let (_, end) = act_after(&b, || double.calls()).await;
        assert_eq!(end["revocation"]["state"], "done", "{end}");
        for _ in 0..200 {
            if double.calls() == calls {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(double.calls(), calls);
        b.sweep().await;
    }
}
