//! The opening transaction: what it is told, and why it fails whole.

use super::changes::{LeaseChange, RulesDigests};
use super::records::DecisionEntry;
use super::store::StoreError;
use crate::domain::digest::Digest;
use crate::domain::event::Event;
use crate::domain::freeze::FreezeKey;
use crate::domain::grant::GrantState;
use crate::domain::id::{GrantId, LeaseId};
use crate::domain::lease::{Lease, Prepared};
use crate::domain::observation::Observation;
use crate::domain::phase::RunPhase;
use crate::domain::review::Review;
use crate::domain::time::Timestamp;

/// Something that is used up: the sum of all reservations of `key` must stay within `limit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// What is counted.
    pub key: String,
    /// How much.
    pub amount: u64,
    /// Reservations made at or before this instant count no more; `None`: every one counts.
    pub since: Option<Timestamp>,
    /// The most that all that count may add up to, this one included.
    pub limit: u64,
}

/// What is counted, and from when on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// What.
    pub key: String,
    /// Reservations made at or before this instant count no more; `None`: every one counts.
    pub since: Option<Timestamp>,
}

/// The use of a playbook, checked inside the opening transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaybookUse {
    /// Its digest: it must be active, not past its end, and without an overdue review.
    pub playbook: Digest,
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
    /// What must not be frozen.
    pub freezes: Vec<FreezeKey>,
    /// The lease that must have been released before: that of the grant which the spent one takes back, if it does.
    pub after: Option<LeaseId>,
    /// The playbook it is used under: that of the spent grant. Only a grant that takes another back may leave its own
    /// out, and whoever names one opens a review.
    pub playbook: Option<PlaybookUse>,
    /// The review that it opens.
    pub review: Option<Review>,
    /// The decision it rests on (execute only).
    pub decision: Option<DecisionEntry>,
    /// What an observe credential lets the agent read.
    pub observation: Option<Observation>,
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
    /// A freeze is in force.
    #[error("`{0}` is frozen")]
    Frozen(FreezeKey),
    /// The playbook is suspended, over, or waits for a review.
    #[error("the playbook {0}")]
    PlaybookOut(&'static str),
    /// The credential that this grant takes back was never released.
    #[error("the credential that this grant takes back was never released")]
    NothingToTakeBack,
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
