//! The rest of the world: what is kept outside the store, clocks, and people to tell.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::records::Head;
use crate::domain::freeze::FreezeKey;
use crate::domain::id::LeaseId;
use crate::domain::stop::StopTarget;
use crate::domain::time::Timestamp;

/// The head kept outside the store could not be read or advanced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the head kept outside the store: {0}")]
pub struct HeadError(pub String);

/// Keeps the ledger's head outside the store, so that a restored backup is noticed.
#[async_trait]
pub trait HeadKeeper: Send + Sync {
    /// The head kept; `None` when none was ever kept. Unreadable is an error, never `None`.
    async fn known(&self) -> Result<Option<Head>, HeadError>;
    /// Durably advances to `head`; returns once a head at least that new is kept.
    async fn advance(&self, head: Head) -> Result<(), HeadError>;
    /// Replaces whatever is kept, after a fence.
    async fn replace(&self, head: Head) -> Result<(), HeadError>;
}

/// The journal of unrecorded ends could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the journal of unrecorded ends: {0}")]
pub struct JournalError(pub String);

/// What people ended, stopped and froze while the store could not be told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptEnds {
    /// These.
    pub leases: BTreeSet<LeaseId>,
    /// There were more than could be kept: every one.
    pub all: bool,
    /// Stops whose grants could not all be cancelled.
    #[serde(default)]
    pub stops: Vec<KeptStop>,
    /// Freezes that could not be recorded, and when they were asked for.
    #[serde(default)]
    pub freezes: BTreeMap<FreezeKey, Timestamp>,
}

/// A stop that must be gone on with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptStop {
    /// What it concerns.
    pub target: StopTarget,
    /// Grants sealed later are none of its business.
    pub at: Timestamp,
}

/// Keeps, outside the store, which leases were ended while it could not be told, so that a restart ends them first.
#[async_trait]
pub trait EndJournal: Send + Sync {
    /// What is kept; `None` when nothing ever was. Unreadable is an error, never `None`.
    async fn kept(&self) -> Result<Option<KeptEnds>, JournalError>;
    /// Durably replaces what is kept; a full disk is no reason to fail.
    async fn keep(&self, ends: KeptEnds) -> Result<(), JournalError>;
}

/// Reads clocks; the only place that does.
pub trait Clock: Send + Sync {
    /// The wall clock.
    fn wall(&self) -> Timestamp;
    /// Seconds since boot, suspension included; never steps back.
    fn since_boot(&self) -> i64;
}

/// Something people should hear of: ids and a link only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// `approval_needed`, `grant_lapsed`, `revocation_failed`, `deny_policy_failing`, `deny_policy_crowded`, `break_glass`,
    /// `review_opened`, `review_overdue`, `frozen`, `reconciliation` or `incident`.
    pub kind: &'static str,
    /// The grant, lease, role, review or record, or what is frozen.
    pub id: String,
    /// Where to look.
    pub link: String,
}

/// Tells people; never blocks, never fails the caller.
pub trait Notifier: Send + Sync {
    /// Queues the notice, or drops it with a log line when the queue is full.
    fn notify(&self, notice: Notice);
}
