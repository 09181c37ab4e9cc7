//! A provider between a real store and the fake, with a clock that stands still, and leases opened for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aws_sdk_sts::config::{Credentials, SharedCredentialsProvider};
use phasebroker::broker::ports::*;
use phasebroker::domain::digest::Digest;
use phasebroker::domain::event::{Event, EventKind};
use phasebroker::domain::id::{LeaseId, RunId};
use phasebroker::domain::key::Thumbprint;
use phasebroker::domain::lease::*;
use phasebroker::domain::phase::{Phase, RunPhase};
use phasebroker::domain::plan::{AwsCredential, Credential, ProviderKind, Revocability};
use phasebroker::domain::principal::{Actor, Attestation};
use phasebroker::domain::run::Run;
use phasebroker::domain::time::Timestamp;
use phasebroker::providers::aws::{AwsProvider, AwsSettings, Identity, Timeouts};
use phasebroker::store::SqliteStore;

use super::FakeAws;

pub const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
pub const ROLE_ARN: &str = "arn:aws:iam::123456789012:role/broker/observe";
pub const ROLE: &str = "observe";
pub const WORK_SECONDS: u32 = 120;

/// A clock that moves when told.
pub struct TestClock {
    wall: AtomicI64,
    boot: AtomicI64,
}

impl TestClock {
    pub fn at(now: Timestamp) -> Self {
        Self { wall: AtomicI64::new(now.seconds()), boot: AtomicI64::new(1_000) }
    }

    pub fn pass(&self, seconds: i64) {
        self.wall.fetch_add(seconds, Ordering::SeqCst);
        self.boot.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Somebody sets the wall clock.
    pub fn jump(&self, seconds: i64) {
        self.wall.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn wall(&self) -> Timestamp {
        Timestamp::from_seconds(self.wall.load(Ordering::SeqCst))
    }
    fn since_boot(&self) -> i64 {
        self.boot.load(Ordering::SeqCst)
    }
}

/// Everything a test of the provider needs.
pub struct Scene {
    pub aws: FakeAws,
    pub clock: Arc<TestClock>,
    pub store: Arc<dyn Store>,
    pub provider: AwsProvider,
    folder: tempfile::TempDir,
}

/// A lease whose intent is recorded, and its credential.
pub struct Opened {
    pub opened: OpenedLease,
    pub credential: PhaseCredential,
}

pub fn identity(name: &'static str) -> Identity {
    Identity::Given(SharedCredentialsProvider::new(Credentials::new(
        name,
        "not-a-secret",
        None,
        None,
        "test",
    )))
}

/// Settings for a fake or a moto at `endpoint`, with short timeouts.
pub fn settings(endpoint: &str) -> AwsSettings {
    AwsSettings {
        sts_endpoint: Some(endpoint.to_owned()),
        iam_endpoint: Some(endpoint.to_owned()),
        ec2_endpoint: Some(endpoint.to_owned()),
        timeouts: Timeouts {
            connect: Duration::from_millis(500),
            attempt: Duration::from_millis(1_000),
            operation: Duration::from_millis(1_500),
        },
        ..AwsSettings::new("us-east-1", identity("AKIAMINT"), identity("AKIAREVOKE"))
    }
}

pub async fn store(folder: &tempfile::TempDir) -> Arc<dyn Store> {
    let store = SqliteStore::open(&folder.path().join("store.db")).unwrap();
    let in_force =
        RulesInForce { digests: rules(), directory: "directory".into(), authors: Default::default() };
    store.put_rules(in_force, event()).await.unwrap();
    Arc::new(store)
}

pub fn rules() -> RulesDigests {
    let digest = Digest::of(b"rules");
    RulesDigests { policy: digest, catalog: digest, directory: digest, guardrails: digest }
}

pub fn event() -> Event {
    Event::new(EventKind::LeaseIntent, Actor::Broker, NOW)
}

pub fn key() -> Thumbprint {
    Digest::of(b"key").to_string().parse().unwrap()
}

pub fn aws_credential(lease: LeaseId, phase: Phase) -> AwsCredential {
    let tags = [("lease", lease.to_string()), ("phase", phase.name().into()), ("agent", "sre-agent".into())];
    AwsCredential {
        role_arn: ROLE_ARN.into(),
        account: "123456789012".into(),
        region: "us-east-1".into(),
        session_name: format!("{}-{lease}", phase.name()),
        source_identity: "sre-agent".into(),
        session_policy: concat!(
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ec2:DescribeInstances","Resource":"*"},"#,
            r#"{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"DateGreaterThanEquals":{"aws:CurrentTime":"{{not_after}}"}}}]}"#
        )
        .into(),
        tags: tags.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<BTreeMap<_, _>>(),
        web_identity: None,
        external_id: Some("external-1".into()),
        duration_seconds: 900,
        work_seconds: WORK_SECONDS,
        revocability: Revocability::Seconds,
    }
}

/// The opening of `lease` for `credential` in a fresh run that stands in `from`.
pub async fn opening(
    store: &dyn Store,
    lease: LeaseId,
    phase: Phase,
    from: RunPhase,
    credential: &AwsCredential,
    prepared: Prepared,
    now: Timestamp,
) -> Opening {
    let run = Run {
        id: RunId::generate(now),
        agent: "sre-agent".parse().unwrap(),
        environment: "demo".parse().unwrap(),
        requester: "ann".parse().unwrap(),
        asked_in_person: false,
        attestation: Attestation::RegisteredKey,
        prompt_digest: None,
        phase: from,
        opened_at: now,
    };
    store.open_run(run.clone(), event().run(run.id)).await.unwrap();
    let lease = Lease {
        id: lease,
        run: run.id,
        agent: run.agent,
        proposing_agent: None,
        phase,
        environment: run.environment,
        provider: ProviderKind::Aws,
        revocability: Revocability::Seconds,
        grant: None,
        action: None,
        key: key(),
        target: credential.role_arn.clone(),
        state: LeaseState::Intent,
        opened_at: now,
        not_after: prepared.not_after,
        hard_end: prepared.hard_end,
        sent: prepared.digest(),
        reference: None,
        released_at: None,
        ended: None,
        revocation: Revocation::NotNeeded,
    };
    Opening {
        lease,
        prepared,
        run_from: from,
        run_to: phase.into(),
        spends: None,
        ends: vec![],
        reservations: vec![],
        freezes: vec![],
        after: None,
        playbook: None,
        review: None,
        decision: None,
        observation: None,
        digests: rules(),
        epoch: store.head().await.unwrap().epoch,
        now,
        events: vec![event()],
    }
}

/// Prepares and opens an observe lease.
pub async fn open(provider: &AwsProvider, store: &dyn Store, now: Timestamp) -> Opened {
    open_on(provider, store, now, ROLE_ARN).await
}

/// The same, of another role.
pub async fn open_on(provider: &AwsProvider, store: &dyn Store, now: Timestamp, role_arn: &str) -> Opened {
    let lease = LeaseId::generate(now);
    let aws = AwsCredential { role_arn: role_arn.to_owned(), ..aws_credential(lease, Phase::Observe) };
    let credential = Credential::Aws(aws.clone());
    let prepared = provider.prepare(lease, &credential, WORK_SECONDS, now).await.unwrap();
    let opening = opening(store, lease, Phase::Observe, RunPhase::Observe, &aws, prepared, now).await;
    let opened = store.open_lease(opening).await.unwrap().value;
    Opened { opened, credential: PhaseCredential { requester: "ann".into(), credential } }
}

impl Scene {
    pub async fn start() -> Self {
        Self::start_looking_again_after(Duration::from_secs(30)).await
    }

    pub async fn start_looking_again_after(look_again: Duration) -> Self {
        let aws = FakeAws::start(NOW).await;
        let clock = Arc::new(TestClock::at(NOW));
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let settings = AwsSettings { look_again, ..settings(&aws.url()) };
        let provider = AwsProvider::new(settings, store.clone(), clock.clone()).await.unwrap();
        Self { aws, clock, store, provider, folder }
    }

    pub async fn open(&self) -> Opened {
        open(&self.provider, &*self.store, self.clock.wall()).await
    }

    /// From here on no lease can be read from the store.
    pub fn make_store_unreadable(&self) {
        let meddler = rusqlite::Connection::open(self.folder.path().join("store.db")).unwrap();
        meddler
            .execute_batch("PRAGMA foreign_keys = OFF; DROP TABLE reservations; DROP TABLE leases;")
            .unwrap();
    }

    /// A provider that starts afresh on the same store and role.
    pub async fn restarted(&self) -> AwsProvider {
        AwsProvider::new(settings(&self.aws.url()), self.store.clone(), self.clock.clone()).await.unwrap()
    }

    /// Opens a lease and mints it.
    pub async fn mint(&self) -> MintOutcome {
        let Opened { opened, credential } = self.open().await;
        self.provider.mint_phase(&opened, &credential).await
    }

    /// A lease that is out and whose early end is asked for.
    pub async fn to_be_revoked(&self) -> Lease {
        self.to_be_revoked_on(ROLE_ARN).await
    }

    /// The same, of another role.
    pub async fn to_be_revoked_on(&self, role_arn: &str) -> Lease {
        let id = open_on(&self.provider, &*self.store, self.clock.wall(), role_arn).await.opened.lease().id;
        let next_at = self.clock.wall();
        let ended = Ended { at: next_at, reason: EndReason::Stopped, outcome: None };
        let revocation = Revocation::Pending { attempts: 0, next_at };
        let steps = [
            (LeaseState::Intent, LeaseStep::Minted { reference: "ASIA".into() }),
            (LeaseState::Minted, LeaseStep::Ended { ended, revocation }),
        ];
        for (from, step) in steps {
            let change = LeaseChange { id, from, step, events: vec![event().lease(id)] };
            self.store.change_lease(change).await.unwrap();
        }
        self.store.lease(id).await.unwrap().unwrap()
    }

    pub async fn revoke(&self, lease: &Lease) -> Result<Revoked, RevokeFailed> {
        self.provider.revoke(lease, self.clock.wall()).await
    }
}
