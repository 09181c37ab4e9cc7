//! The store, cut by use case: each method is one transaction; a state change and its events commit together or not at all.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::domain::approval::Approval;
use crate::domain::digest::Digest;
use crate::domain::event::Event;
use crate::domain::grant::{GrantState, SealedGrant};
use crate::domain::id::{GrantId, LeaseId, RunId};
use crate::domain::lease::{Ended, Lease, LeaseState, OpenedLease, Prepared, Revocation};
use crate::domain::phase::RunPhase;
use crate::domain::plan::ProviderKind;
use crate::domain::principal::AgentSlug;
use crate::domain::proposal::Evidence;
use crate::domain::run::Run;
use crate::domain::time::Timestamp;

/// The store failed. Unreadable is never "absent", unwritable is never "done".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing was written, or nobody knows whether it was: treat as not durable.
    #[error("the store cannot record: {0}")]
    Unwritable(String),
    /// What is there cannot be read or understood.
    #[error("the store cannot be read: {0}")]
    Unreadable(String),
}

/// How far the ledger has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Epoch of the store.
    pub epoch: u64,
    /// Number of events.
    pub size: u64,
    /// Time of the last event.
    pub at: Timestamp,
    /// SHA-256 over the previous head's `last` and the newest event's bytes; all zero when empty.
    pub last: Digest,
}

/// A grant with everything that happened to it.
#[derive(Debug, Clone)]
pub struct GrantRecord {
    /// The sealed document.
    pub sealed: SealedGrant,
    /// Where it stands.
    pub state: GrantState,
    /// Counts every change; a writer names the one it read.
    pub revision: u64,
    /// Every verified token received, in order of receipt.
    pub approvals: Vec<Approval>,
    /// Until when it can be claimed, once the rule is complete.
    pub claim_until: Option<Timestamp>,
    /// The agent's own words (`None` after erasure).
    pub evidence: Option<Evidence>,
}

/// A change of a grant that loses to any other change made meanwhile.
#[derive(Debug, Clone)]
pub struct GrantChange {
    /// Which grant.
    pub id: GrantId,
    /// The revision it was read at.
    pub revision: u64,
    /// Where it goes (may be where it stands).
    pub state: GrantState,
    /// Until when it can be claimed.
    pub claim_until: Option<Timestamp>,
    /// A token received with this change.
    pub approval: Option<Approval>,
    /// What the ledger records.
    pub events: Vec<Event>,
}

/// Something that is used up: the sum of all reservations of `key` must stay within `limit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// What is counted.
    pub key: String,
    /// How much.
    pub amount: u64,
    /// The most that all reservations of the key may add up to.
    pub limit: u64,
}

/// Digests of the rules in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesDigests {
    /// Of the policy set.
    pub policy: Digest,
    /// Of the catalog.
    pub catalog: Digest,
    /// Of the directory.
    pub directory: Digest,
}

/// The opening transaction: everything it read must still be so, or it fails whole.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The lease, in state INTENT.
    pub lease: Lease,
    /// What the provider will send.
    pub prepared: Prepared,
    /// Where the run must stand.
    pub run_from: RunPhase,
    /// Where the run goes.
    pub run_to: RunPhase,
    /// The grant that is spent, and the revision it was read at (execute only).
    pub spends: Option<(GrantId, u64)>,
    /// Ends of the leases of the phase left behind.
    pub ends: Vec<LeaseChange>,
    /// What is used up.
    pub reservations: Vec<Reservation>,
    /// Freeze generations that were read: (key, generation); a key never frozen has generation 0.
    pub freezes: Vec<(String, u64)>,
    /// The rules that decided.
    pub digests: RulesDigests,
    /// The epoch that was read.
    pub epoch: u64,
    /// Now.
    pub now: Timestamp,
    /// What the ledger records (INTENT last).
    pub events: Vec<Event>,
}

/// Why an opening transaction failed whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenRefused {
    /// The grant was changed meanwhile, or is not approved.
    #[error("the grant is `{0}`")]
    GrantMoved(GrantState),
    /// The run stands elsewhere.
    #[error("the run is in `{0}`")]
    RunMoved(RunPhase),
    /// The run or the grant is not there.
    #[error("no such {0}")]
    Missing(&'static str),
    /// A reservation would pass its limit.
    #[error("the limit of `{0}` is used up")]
    LimitReached(String),
    /// A freeze began or ended meanwhile.
    #[error("`{0}` was frozen or unfrozen meanwhile")]
    FreezeMoved(String),
    /// Policy, catalog or directory changed meanwhile.
    #[error("policy, catalog or directory changed meanwhile")]
    RulesMoved,
    /// The store began a new epoch meanwhile.
    #[error("the store is in a new epoch")]
    EpochMoved,
    /// An earlier AWS credential of the run is still usable (execute only).
    #[error("an earlier AWS credential of this run is usable until {0}")]
    EarlierAlive(Timestamp),
    /// The agent holds a live execute lease already (execute), or one at all (observe).
    #[error("the agent holds the execute lease {0}")]
    AgentExecuting(LeaseId),
    /// The DPoP key was used by another phase of this run, or is named by a grant for its claim.
    #[error("the key was used before in another phase; make a fresh key for each phase")]
    KeyReused,
    /// A lease to be ended had moved.
    #[error("a lease of the earlier phase changed meanwhile")]
    LeaseMoved,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a grant was not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealRefused {
    /// The run is closed.
    #[error("the run is in `{0}`")]
    RunMoved(RunPhase),
    /// The run is not there.
    #[error("no such run")]
    Missing,
    /// As many grants are open as may be: the counts.
    #[error("{} proposals of this agent are open, {} in all", .0.own, .0.all)]
    TooManyOpen(OpenCount),
    /// The claim key proved something already, in whatever run, or another open grant names it.
    #[error("`claim_key` was used before; make a fresh key for the claim")]
    KeyReused,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One step of one lease; refused when the lease is not where the caller read it.
#[derive(Debug, Clone)]
pub struct LeaseChange {
    /// Which lease.
    pub id: LeaseId,
    /// Where it must stand.
    pub from: LeaseState,
    /// The step.
    pub step: LeaseStep,
    /// What the ledger records.
    pub events: Vec<Event>,
}

/// The steps.
#[derive(Debug, Clone)]
pub enum LeaseStep {
    /// Certainly nothing was minted: the grant is approved again, the run decides again, reservations are given back.
    Refused,
    /// Nobody knows.
    Unknown,
    /// The provider answered with its own name for the credential.
    Minted {
        /// Access key id or `jti`; never a secret.
        reference: String,
    },
    /// The credential may leave.
    Released,
    /// It is over.
    Ended {
        /// When and why.
        ended: Ended,
        /// Whether the provider must be told.
        revocation: Revocation,
    },
    /// The early end at the provider came further; the state stays.
    Revocation(Revocation),
}

/// Why a change was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeRefused {
    /// Something else changed it first.
    #[error("it was changed meanwhile")]
    Moved,
    /// It is not there.
    #[error("no such record")]
    Missing,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a committed transaction returns beside its value.
#[derive(Debug)]
pub struct Committed<T> {
    /// The value.
    pub value: T,
    /// The ledger's head right after this commit (or a later one of the same batch).
    pub head: Head,
}

/// Which leases to list.
#[derive(Debug, Clone, Default)]
pub struct LeaseFilter {
    /// Of this run.
    pub run: Option<RunId>,
    /// Of this agent.
    pub agent: Option<AgentSlug>,
    /// Of this provider.
    pub provider: Option<ProviderKind>,
    /// With this target (role ARN or audience).
    pub target: Option<String>,
    /// Only those that exist or may exist, or whose revocation is pending.
    pub open: bool,
    /// Only those whose hard end is later than this instant.
    pub hard_end_after: Option<Timestamp>,
}

/// What has fallen due.
#[derive(Debug, Default)]
pub struct Due {
    /// Live leases whose `not_after` (UNKNOWN: `hard_end`) has passed.
    pub leases: Vec<Lease>,
    /// Leases whose revocation should be tried now.
    pub revocations: Vec<Lease>,
    /// Open grants whose approve_by (pending) or claim_until (approved) has passed.
    pub grants: Vec<GrantRecord>,
}

/// How many grants are open, or may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenCount {
    /// Of one agent.
    pub own: u64,
    /// Of everybody.
    pub all: u64,
}

/// An event as stored.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    /// Its place in the ledger.
    pub index: u64,
    /// Its immutable bytes.
    pub bytes: Vec<u8>,
    /// Texts beside it that were not erased: name and value.
    pub texts: Vec<(String, String)>,
}

/// The durable state. Cut by use case; every method is one transaction.
#[async_trait]
pub trait Store: Send + Sync {
    /// The newest head.
    async fn head(&self) -> Result<Head, StoreError>;
    /// Begins a new epoch; the head's time is the event's own, even when the former head's was later.
    async fn fence(&self, event: Event) -> Result<Head, StoreError>;
    /// Records events that change no state.
    async fn record(&self, events: Vec<Event>) -> Result<Head, StoreError>;
    /// Puts rules in force: their digests and the directory's document, with the event.
    async fn put_rules(
        &self,
        digests: RulesDigests,
        directory: String,
        event: Event,
    ) -> Result<(), StoreError>;
    /// The directory document that had this digest.
    async fn directory(&self, digest: Digest) -> Result<Option<String>, StoreError>;
    /// The rules in force when the store was last written.
    async fn rules(&self) -> Result<Option<RulesDigests>, StoreError>;

    /// Opens a run.
    async fn open_run(&self, run: Run, event: Event) -> Result<(), StoreError>;
    /// A run by id.
    async fn run(&self, id: RunId) -> Result<Option<Run>, StoreError>;
    /// Closes a run where it stands, ending its leases and cancelling its open grants (given as changes).
    async fn close_run(
        &self,
        id: RunId,
        from: RunPhase,
        leases: Vec<LeaseChange>,
        grants: Vec<GrantChange>,
        event: Event,
    ) -> Result<(), ChangeRefused>;

    /// Stores a sealed grant, pending, with the agent's words beside it, or fails whole.
    async fn seal(
        &self,
        sealed: SealedGrant,
        evidence: Evidence,
        limits: OpenCount,
        event: Event,
    ) -> Result<(), SealRefused>;
    /// A grant by id.
    async fn grant(&self, id: GrantId) -> Result<Option<GrantRecord>, StoreError>;
    /// How many grants are open: those that `agent` proposed, and all.
    async fn open_count(&self, agent: &AgentSlug) -> Result<OpenCount, StoreError>;
    /// Open grants, oldest first; of one run when given.
    async fn open_grants(&self, run: Option<RunId>) -> Result<Vec<GrantRecord>, StoreError>;
    /// Changes a grant.
    async fn change_grant(&self, change: GrantChange) -> Result<(), ChangeRefused>;

    /// INVARIANT: one-use. Consumes the grant (execute), moves the run and writes INTENT, or fails whole.
    async fn open_lease(&self, opening: Opening) -> Result<Committed<OpenedLease>, OpenRefused>;
    /// Takes one step of one lease.
    async fn change_lease(&self, change: LeaseChange) -> Result<Committed<Lease>, ChangeRefused>;
    /// A lease by id.
    async fn lease(&self, id: LeaseId) -> Result<Option<Lease>, StoreError>;
    /// Leases, newest first, at most 1,000; of open ones, all.
    async fn leases(&self, filter: LeaseFilter) -> Result<Vec<Lease>, StoreError>;
    /// What has fallen due at `now`, at most 256 of each.
    async fn due(&self, now: Timestamp) -> Result<Due, StoreError>;

    /// Events from `from` on, at most `limit`; of one run when given.
    async fn events(&self, run: Option<RunId>, from: u64, limit: u32)
    -> Result<Vec<StoredEvent>, StoreError>;

    /// Takes or renews the right to be the one writer of `name` until `until`; `None` when another holder has it.
    /// The number grows with every new holder.
    async fn hold_writer(
        &self,
        name: &str,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<u64>, StoreError>;
}
