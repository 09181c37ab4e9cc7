//! The store, cut by use case: each method is one transaction; a state change and its events commit together or not at all.

use async_trait::async_trait;

use super::changes::{
    AdministrationChange, ChangeRefused, GrantChange, LeaseChange, ReviewDecision, RulesAuthors,
    RulesDigests, RulesInForce, SealRefused, Sealing,
};
use super::filters::{Due, Inquiry, LeaseFilter, OpenCount, ReviewFilter, Stands};
use super::keys::{KeptKey, KeptKeys};
use super::log::Log;
use super::opening::{Counted, OpenRefused, Opening};
use super::provider::PackedSize;
use super::records::{AdministrationRecord, DecisionEntry, GrantRecord, Head, PlaybookRecord, StoredEvent};
use super::search::{EventFilter, EventPage};
use crate::domain::administration::SealedAdministration;
use crate::domain::digest::Digest;
use crate::domain::event::Event;
use crate::domain::freeze::Freeze;
use crate::domain::id::{GrantId, LeaseId, ReviewId, RunId};
use crate::domain::lease::{Lease, OpenedLease};
use crate::domain::observation::Observation;
use crate::domain::phase::RunPhase;
use crate::domain::principal::AgentSlug;
use crate::domain::review::Review;
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

/// What a committed transaction returns beside its value.
#[derive(Debug)]
pub struct Committed<T> {
    /// The value.
    pub value: T,
    /// The ledger's head right after this commit (or a later one of the same batch).
    pub head: Head,
}

/// The durable state. Cut by use case; every method is one transaction.
#[async_trait]
pub trait Store: Log {
    /// The newest head.
    async fn head(&self) -> Result<Head, StoreError>;
    /// Begins a new epoch: grants of older ones are dead, so that playbooks are suspended. The head's time is the event's
    /// own, even when the former head's was later. The epoch is above the store's and above `known`, whatever was lost.
    async fn fence(&self, event: Event, known: u64) -> Result<Head, StoreError>;
    /// Records events that change no state.
    async fn record(&self, events: Vec<Event>) -> Result<Head, StoreError>;
    /// Puts rules in force: their digests, the directory's document and the authors, with the event.
    async fn put_rules(&self, rules: RulesInForce, event: Event) -> Result<(), StoreError>;
    /// Authors of each part of the rules in force when the store was last written.
    async fn authors(&self) -> Result<RulesAuthors, StoreError>;
    /// The directory document that had this digest.
    async fn directory(&self, digest: Digest) -> Result<Option<String>, StoreError>;
    /// The rules in force when the store was last written.
    async fn rules(&self) -> Result<Option<RulesDigests>, StoreError>;

    /// Keeps what others must know of a key of the broker's own, with the event.
    async fn keep_key(&self, key: KeptKey, event: Event) -> Result<Head, StoreError>;
    /// The keys of the broker's own that are kept; a row that cannot be read is counted and hides no other.
    async fn kept_keys(&self) -> Result<KeptKeys, StoreError>;

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

    /// Stores sealed grants (one, or one and its inverse) with the agent's words beside them and the decision that was
    /// taken on each, or fails whole.
    async fn seal(
        &self,
        sealings: Vec<Sealing>,
        limits: OpenCount,
        decisions: Vec<DecisionEntry>,
        events: Vec<Event>,
    ) -> Result<(), SealRefused>;
    /// Keeps a decision that sealed nothing, with its events.
    async fn keep_decision(&self, decision: DecisionEntry, events: Vec<Event>) -> Result<Head, StoreError>;
    /// Decisions at or after `since`, oldest first, from the `skip`th on, at most `limit`.
    async fn decisions(
        &self,
        since: Timestamp,
        skip: u64,
        limit: u32,
    ) -> Result<Vec<DecisionEntry>, StoreError>;
    /// Suggestions, newest first, at most 200.
    async fn suggestions(&self) -> Result<Vec<GrantRecord>, StoreError>;
    /// A grant by id.
    async fn grant(&self, id: GrantId) -> Result<Option<GrantRecord>, StoreError>;
    /// How many grants are open: those that `agent` proposed, and all.
    async fn open_count(&self, agent: &AgentSlug) -> Result<OpenCount, StoreError>;
    /// Open grants, oldest first; of one run when given.
    async fn open_grants(&self, run: Option<RunId>) -> Result<Vec<GrantRecord>, StoreError>;
    /// Changes a grant.
    async fn change_grant(&self, change: GrantChange) -> Result<(), ChangeRefused>;

    /// What counts of one key.
    async fn used(&self, counted: Counted) -> Result<u64, StoreError>;
    /// What a decision asks, in one reading.
    async fn stands(&self, inquiry: Inquiry) -> Result<Stands, StoreError>;
    /// Records something an agent read, with the event.
    async fn observed(&self, observation: Observation, event: Event) -> Result<Head, StoreError>;

    /// Freezes something; again is no error: the first freeze stands, and what was sealed before now does not lift it.
    async fn freeze(&self, freeze: Freeze, event: Event) -> Result<Head, StoreError>;
    /// The freezes in force.
    async fn freezes(&self) -> Result<Vec<Freeze>, StoreError>;

    /// Stores a sealed administration grant, pending; at most `limit` may be.
    async fn seal_administration(
        &self,
        sealed: SealedAdministration,
        limit: u64,
        event: Event,
    ) -> Result<(), SealRefused>;
    /// An administration grant by id.
    async fn administration(&self, id: GrantId) -> Result<Option<AdministrationRecord>, StoreError>;
    /// Pending administration grants, oldest first.
    async fn open_administrations(&self) -> Result<Vec<AdministrationRecord>, StoreError>;
    /// Changes an administration grant, and lets it take effect when it becomes approved.
    async fn change_administration(&self, change: AdministrationChange) -> Result<(), ChangeRefused>;

    /// Playbooks that were ever in force, newest first; `overdue` counts reviews past due at `now`.
    async fn playbooks(&self, now: Timestamp) -> Result<Vec<PlaybookRecord>, StoreError>;
    /// Takes a playbook out of use, for good.
    async fn suspend_playbook(&self, playbook: Digest, event: Event) -> Result<(), ChangeRefused>;
    /// Reviews, oldest first, at most 1,000.
    async fn reviews(&self, filter: ReviewFilter) -> Result<Vec<Review>, StoreError>;
    /// A review by id.
    async fn review(&self, id: ReviewId) -> Result<Option<Review>, StoreError>;
    /// Decides an open review.
    async fn decide_review(&self, decision: ReviewDecision) -> Result<Review, ChangeRefused>;

    /// INVARIANT: one-use. Consumes the grant (execute), moves the run and writes INTENT, or fails whole.
    async fn open_lease(&self, opening: Opening) -> Result<Committed<OpenedLease>, OpenRefused>;
    /// Takes one step of one lease.
    async fn change_lease(&self, change: LeaseChange) -> Result<Committed<Lease>, ChangeRefused>;
    /// A lease by id.
    async fn lease(&self, id: LeaseId) -> Result<Option<Lease>, StoreError>;
    /// Leases, newest first, at most 1,000; of open ones and of revoked ones, all.
    async fn leases(&self, filter: LeaseFilter) -> Result<Vec<Lease>, StoreError>;
    /// The packed policy size of each action type and observe set, as its newest measured mint says.
    async fn packed_sizes(&self) -> Result<Vec<PackedSize>, StoreError>;
    /// What has fallen due at `now`, at most 256 of each.
    async fn due(&self, now: Timestamp) -> Result<Due, StoreError>;

    /// Events from `from` on, at most `limit`; of one run when given.
    async fn events(&self, run: Option<RunId>, from: u64, limit: u32)
    -> Result<Vec<StoredEvent>, StoreError>;

    /// Events that `filter` lets through, from `from` on, at most `limit`; looks at a bounded number of events.
    async fn find_events(&self, filter: EventFilter, from: u64, limit: u32) -> Result<EventPage, StoreError>;
    /// Erases a text beside an event (`evidence`: the agent's words beside the grant it sealed), with the event that
    /// says so. Missing when the event has no such text, moved when it is erased already.
    async fn erase_text(&self, index: u64, name: String, event: Event) -> Result<Head, ChangeRefused>;

    /// Where a copier of the log stands; `None` when it never stood anywhere.
    async fn cursor(&self, name: &str) -> Result<Option<u64>, StoreError>;
    /// Keeps where a copier of the log stands: the index of the next event it needs. That is no event itself.
    async fn keep_cursor(&self, name: &str, place: u64) -> Result<(), StoreError>;

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
