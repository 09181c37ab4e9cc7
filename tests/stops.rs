//! What a person stops stays stopped, whatever is under way and whatever the store can do; what other rules refuse is
//! not minted by the old ones; and no record that failed leaves a lease behind that nobody ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use phasebroker::broker::ports::*;
use phasebroker::broker::refusal::Code;
use phasebroker::domain::approval::Answer;
use phasebroker::domain::authority::Authority;
use phasebroker::domain::event::{Event, EventKind};
use phasebroker::domain::id::LeaseId;
use phasebroker::domain::key::SigningKey;
use phasebroker::domain::lease::{EndReason, Lease, LeaseState, OpenedLease, Prepared, Revocation};
use phasebroker::domain::phase::Phase;
use phasebroker::domain::plan::{Credential, ProviderKind};
use phasebroker::domain::principal::Actor;
use phasebroker::domain::time::Timestamp;
use phasebroker::providers::jwt::JwtProvider;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use world::{Answered, World, key};

/// Holds a claim before it prepares, or before it mints, until the test lets it go on.
struct Held {
    jwt: JwtProvider,
    gates: Arc<Gates>,
}

#[derive(Default)]
struct Gates {
    at_prepare: AtomicBool,
    at_mint: AtomicBool,
    refuses: AtomicBool,
    arrived: Arc<Arrivals>,
}

struct Arrivals {
    here: Semaphore,
    on: Semaphore,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { here: Semaphore::new(0), on: Semaphore::new(0) }
    }
}

impl Arrivals {
    async fn wait(&self) {
        self.here.add_permits(1);
        self.on.acquire().await.unwrap().forget();
    }
}

#[async_trait]
impl CredentialProvider for Held {
    fn kind(&self) -> ProviderKind {
        self.jwt.kind()
    }
    async fn prepare(
        &self,
        lease: LeaseId,
        credential: &Credential,
        work_seconds: u32,
        now: Timestamp,
    ) -> Result<Prepared, NotReady> {
        if self.gates.at_prepare.load(Ordering::SeqCst) {
            self.gates.arrived.wait().await;
        }
        self.jwt.prepare(lease, credential, work_seconds, now).await
    }
    async fn mint_execute(&self, opened: &OpenedLease, authority: &Authority) -> MintOutcome {
        if self.gates.at_mint.load(Ordering::SeqCst) {
            self.gates.arrived.wait().await;
        }
        if self.gates.refuses.load(Ordering::SeqCst) {
            return MintOutcome::Refused {
                code: "no".into(),
                message: "not now".into(),
                retry_after: None,
                for_good: false,
            };
        }
        self.jwt.mint_execute(opened, authority).await
    }
    async fn mint_phase(&self, opened: &OpenedLease, credential: &PhaseCredential) -> MintOutcome {
        self.jwt.mint_phase(opened, credential).await
    }
    async fn revoke(&self, lease: &Lease, now: Timestamp) -> Result<Revoked, RevokeFailed> {
        self.jwt.revoke(lease, now).await
    }
}

async fn held() -> (Arc<World>, Arc<Gates>) {
    let gates = Arc::new(Gates::default());
    let given = gates.clone();
    (Arc::new(World::start_with(|jwt| Arc::new(Held { jwt, gates: given })).await), gates)
}

struct Approved {
    path: String,
    claim: Value,
    key: SigningKey,
}

/// A grant that `bob` has signed.
async fn approved(world: &World) -> Approved {
    let (_, decide, decide_key) = world.deciding().await;
    let key = key();
    let proposal = world.proposal(&key);
    let proposed =
        world.by_token(&decide, &decide_key, "POST", "/v1/proposals", Some(&proposal)).await.good();
    let token = world.approval("bob", proposed["document"].as_str().unwrap(), Answer::Approve, None);
    let path = format!("/v1/grants/{}", proposed["grant"].as_str().unwrap());
    let body = json!({ "token": token });
    world.call("POST", &format!("{path}/approvals"), &[], Some(&body)).await.good();
    Approved { path, claim: json!({ "approvals": [token] }), key }
}

async fn claim(world: &World, grant: &Approved) -> Answered {
    world.by_agent(&grant.key, "POST", &format!("{}/claim", grant.path), Some(&grant.claim)).await
}

async fn state(world: &World, grant: &Approved) -> String {
    let status = world.by_agent(&key(), "GET", &grant.path, None).await.good();
    status["state"].as_str().unwrap().to_owned()
}

async fn stop_everything(world: &World) -> Value {
    let body = json!({"everything": true, "reason": "it breaks things"});
    world.by_person("olga", "POST", "/v1/stop", Some(&body)).await.good()
}

async fn execute_lease(world: &World) -> Lease {
    let leases = world.store.leases(LeaseFilter::default()).await.unwrap();
    leases.into_iter().find(|lease| lease.phase == Phase::Execute).unwrap()
}

/// Another connection to the store's file, as whoever breaks it would have.
fn meddle(world: &World, sql: &str) {
    rusqlite::Connection::open(world.dir.path().join("store.db")).unwrap().execute_batch(sql).unwrap();
}

/// A claim that waits inside the provider.
async fn claiming(
    world: &Arc<World>,
    gates: &Gates,
    grant: Arc<Approved>,
) -> tokio::task::JoinHandle<Answered> {
    let world = world.clone();
    let claiming = tokio::spawn(async move { claim(&world, &grant).await });
    gates.arrived.here.acquire().await.unwrap().forget();
    claiming
}

#[tokio::test]
async fn a_credential_that_is_being_minted_when_a_person_stops_it_never_leaves() {
    let (world, gates) = held().await;
    let grant = Arc::new(approved(&world).await);
    gates.at_mint.store(true, Ordering::SeqCst);
    let claiming = claiming(&world, &gates, grant).await;
    let stopped = stop_everything(&world).await;
    assert_eq!(stopped["unknown"].as_array().unwrap().len(), 1, "{stopped}");
    gates.arrived.on.add_permits(1);
    claiming.await.unwrap().refused(410, "lease_ended");
    let lease = execute_lease(&world).await;
    assert_eq!((lease.state, lease.ended.unwrap().reason), (LeaseState::Ended, EndReason::Stopped));
}

#[tokio::test]
async fn a_credential_that_is_being_minted_when_a_person_freezes_its_kind_never_leaves() {
    for (key, frozen) in [("environment:production", false), ("agent:pay-bot", true)] {
        let (world, gates) = held().await;
        let grant = Arc::new(approved(&world).await);
        gates.at_mint.store(true, Ordering::SeqCst);
        let claiming = claiming(&world, &gates, grant.clone()).await;
        // Not even when the store cannot know of the freeze.
        meddle(&world, "CREATE TRIGGER f BEFORE INSERT ON freezes BEGIN SELECT RAISE(ABORT, 'full'); END;");
        let body = json!({"key": key, "reason": "odd logins"});
        let answer = world.by_person("olga", "POST", "/v1/freezes", Some(&body)).await.good();
        assert_eq!(answer["recorded"], false, "{answer}");
        gates.arrived.on.add_permits(1);
        let answer = claiming.await.unwrap();
        match frozen {
            true => answer.refused(403, "frozen"),
            false => drop(answer.good()),
        }
        let ended = execute_lease(&world).await.ended.map(|ended| ended.reason);
        assert_eq!(ended, frozen.then_some(EndReason::Stopped), "{key}");
    }
}

#[tokio::test]
async fn a_grant_whose_mint_is_refused_after_a_stop_cannot_be_tried_again() {
    let (world, gates) = held().await;
    let grant = Arc::new(approved(&world).await);
    gates.at_mint.store(true, Ordering::SeqCst);
    gates.refuses.store(true, Ordering::SeqCst);
    let claiming = claiming(&world, &gates, grant.clone()).await;
    stop_everything(&world).await;
    gates.arrived.on.add_permits(1);
    claiming.await.unwrap().refused(503, "provider_refused");
    assert_eq!(state(&world, &grant).await, "cancelled");
}

#[tokio::test]
async fn a_grant_whose_mint_is_refused_can_be_tried_again_when_nobody_stopped_it() {
    let (world, gates) = held().await;
    let grant = approved(&world).await;
    gates.refuses.store(true, Ordering::SeqCst);
    claim(&world, &grant).await.refused(503, "provider_refused");
    gates.refuses.store(false, Ordering::SeqCst);
    claim(&world, &grant).await.good();
}

#[tokio::test]
async fn an_approver_who_is_removed_while_a_claim_runs_does_not_count() {
    let (world, gates) = held().await;
    let grant = Arc::new(approved(&world).await);
    gates.at_prepare.store(true, Ordering::SeqCst);
    let claiming = claiming(&world, &gates, grant.clone()).await;
    // The world's reload takes `bob` out of the directory.
    world.by_person("olga", "POST", "/v1/reload", None).await.good();
    gates.at_prepare.store(false, Ordering::SeqCst);
    gates.arrived.on.add_permits(1);
    claiming.await.unwrap().refused(409, "conflict");
    claim(&world, &grant).await.refused(422, "approval_invalid");
}

#[tokio::test]
async fn a_stop_that_the_store_cannot_take_holds_and_is_finished_when_it_can() {
    let (world, _) = held().await;
    let grant = approved(&world).await;
    meddle(&world, "CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'full'); END;");
    let stopped = stop_everything(&world).await;
    assert_eq!(stopped["recorded"], false, "{stopped}");
    meddle(&world, "DROP TRIGGER full;");
    // The store can again, and nobody has told it yet.
    claim(&world, &grant).await.refused(409, "grant_not_open");
    let from = world.events(0).await.1;
    world.broker.sweep().await;
    assert_eq!(state(&world, &grant).await, "cancelled");
    let kinds = world.events(from).await.0;
    for kind in ["stopped", "grant.cancelled", "lease.ended"] {
        assert_eq!(kinds.iter().filter(|found| *found == kind).count(), 1, "{kind} in {kinds:?}");
    }
    assert!(world.store.leases(LeaseFilter { open: true, ..Default::default() }).await.unwrap().is_empty());
    // What comes after the stop is not stopped.
    world.clock.advance(1);
    let later = approved(&world).await;
    claim(&world, &later).await.good();
}

#[tokio::test]
async fn a_stop_of_everything_reaches_more_leases_than_one_list_holds() {
    let world = World::start().await;
    world.deciding().await;
    let mut sql = "BEGIN; CREATE TABLE one AS SELECT * FROM leases WHERE phase = 'decide';".to_owned();
    for n in 0..1_100 {
        sql.push_str(&format!("UPDATE one SET id = '01J{n:023}'; INSERT INTO leases SELECT * FROM one;"));
    }
    meddle(&world, &format!("{sql} DROP TABLE one; COMMIT;"));
    let stopped = stop_everything(&world).await;
    assert_eq!(stopped["leases"].as_array().unwrap().len(), 1_101);
    assert!(world.store.leases(LeaseFilter { open: true, ..Default::default() }).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_mint_whose_record_failed_is_unknown_starved_and_closed() {
    let world = World::start().await;
    let grant = approved(&world).await;
    meddle(
        &world,
        "CREATE TRIGGER full BEFORE UPDATE ON leases WHEN NEW.state = 'minted' BEGIN SELECT RAISE(ABORT, 'full'); END;",
    );
    claim(&world, &grant).await.refused(503, "store_unavailable");
    meddle(&world, "DROP TRIGGER full;");
    world.broker.sweep().await;
    let lease = execute_lease(&world).await;
    assert_eq!(lease.state, LeaseState::Unknown);
    assert!(matches!(lease.revocation, Revocation::Done { .. }), "{:?}", lease.revocation);
    claim(&world, &grant).await.refused(409, "grant_spent");
    world.clock.advance(1_000);
    world.broker.sweep().await;
    assert_eq!(execute_lease(&world).await.state, LeaseState::Ended);
}

#[tokio::test]
async fn a_credential_whose_release_cannot_be_recorded_is_ended_at_once() {
    let world = World::start().await;
    let grant = approved(&world).await;
    meddle(
        &world,
        "CREATE TRIGGER full BEFORE UPDATE ON leases WHEN NEW.state = 'released' BEGIN SELECT RAISE(ABORT, 'full'); END;",
    );
    claim(&world, &grant).await.refused(503, "store_unavailable");
    meddle(&world, "DROP TRIGGER full;");
    world.broker.sweep().await;
    let lease = execute_lease(&world).await;
    assert_eq!((lease.state, lease.ended.unwrap().reason), (LeaseState::Ended, EndReason::Withheld));
}

#[tokio::test]
async fn a_clock_that_ran_ahead_and_was_set_back_issues_nothing_until_a_fence() {
    let world = World::start().await;
    world.clock.advance(3_600);
    // A run alone: it writes an event, and opens no lease.
    let body = json!({"environment": "demo", "purpose": "checkout is slow"});
    world.by_agent(&key(), "POST", "/v1/runs", Some(&body)).await.good();
    world.clock.advance(-3_600);
    assert_eq!(world.broker.gate().may_issue().unwrap_err().code, Code::ClockUntrusted);
    let now = world.clock.at();
    let head = world.store.fence(Event::new(EventKind::StoreFenced, Actor::Broker, now), 0).await.unwrap();
    assert_eq!(head.at, now, "time goes on from the fence");
}
