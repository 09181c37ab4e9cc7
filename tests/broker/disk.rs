//! The real store behind a switch: it fails to write, or to read, when a test says so.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use phasebroker::broker::ports::*;
use phasebroker::domain::administration::SealedAdministration;
use phasebroker::domain::digest::Digest;
use phasebroker::domain::event::Event;
use phasebroker::domain::freeze::Freeze;
use phasebroker::domain::id::{GrantId, LeaseId, ReviewId, RunId};
use phasebroker::domain::lease::{Lease, OpenedLease};
use phasebroker::domain::observation::Observation;
use phasebroker::domain::phase::RunPhase;
use phasebroker::domain::principal::AgentSlug;
use phasebroker::domain::review::Review;
use phasebroker::domain::run::Run;
use phasebroker::domain::time::Timestamp;
use phasebroker::store::SqliteStore;

/// Picks steps of leases.
pub type Which = fn(&LeaseStep) -> bool;

/// A SQLite store that can be broken and mended.
pub struct Disk {
    store: SqliteStore,
    writes_left: AtomicU64,
    unreadable: AtomicBool,
    /// Refuses one kind of lease step while it is set.
    refuses: Mutex<Option<Which>>,
}

impl Disk {
    pub fn over(store: SqliteStore) -> Self {
        Self {
            store,
            writes_left: AtomicU64::new(u64::MAX),
            unreadable: AtomicBool::new(false),
            refuses: Mutex::new(None),
        }
    }

    /// From now on nothing can be written.
    pub fn fill(&self) {
        self.fill_after(0);
    }

    /// After so many more writes nothing can be written.
    pub fn fill_after(&self, writes: u64) {
        self.writes_left.store(writes, Ordering::SeqCst);
    }

    /// From now on nothing can be read either way.
    pub fn make_unreadable(&self) {
        self.unreadable.store(true, Ordering::SeqCst);
    }

    /// Steps of a lease that `which` names cannot be written.
    pub fn refuse_steps(&self, which: Which) {
        *self.refuses.lock().unwrap() = Some(which);
    }

    /// Everything works again.
    pub fn mend(&self) {
        self.fill_after(u64::MAX);
        self.unreadable.store(false, Ordering::SeqCst);
        *self.refuses.lock().unwrap() = None;
    }

    fn write(&self) -> Result<&SqliteStore, StoreError> {
        let left = self.writes_left.load(Ordering::SeqCst);
        if left == 0 {
            return Err(StoreError::Unwritable("no space left on device".into()));
        }
        if left != u64::MAX {
            self.writes_left.store(left - 1, Ordering::SeqCst);
        }
        Ok(&self.store)
    }

    fn read(&self) -> Result<&SqliteStore, StoreError> {
        match self.unreadable.load(Ordering::SeqCst) {
            true => Err(StoreError::Unreadable("input/output error".into())),
            false => Ok(&self.store),
        }
    }
}

#[async_trait]
impl Log for Disk {
    async fn damage(&self) -> Result<Option<Damage>, StoreError> {
        self.read()?.damage().await
    }
    async fn root_at(&self, size: u64) -> Result<Option<Digest>, StoreError> {
        self.read()?.root_at(size).await
    }
    async fn inclusion(&self, index: u64, size: u64) -> Result<Option<Vec<Digest>>, StoreError> {
        self.read()?.inclusion(index, size).await
    }
    async fn consistency(&self, old: u64, new: u64) -> Result<Option<Vec<Digest>>, StoreError> {
        self.read()?.consistency(old, new).await
    }
    async fn row(&self, row: u8, first: u64, count: u64) -> Result<Vec<Digest>, StoreError> {
        self.read()?.row(row, first, count).await
    }
    async fn entries(&self, first: u64, count: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        self.read()?.entries(first, count).await
    }
    async fn recorded(&self, of: RecordedOf, limit: u32) -> Result<Vec<RecordedEvent>, StoreError> {
        self.read()?.recorded(of, limit).await
    }
    async fn keep_checkpoint(&self, checkpoint: StoredCheckpoint) -> Result<(), StoreError> {
        self.write()?.keep_checkpoint(checkpoint).await
    }
    async fn keep_cosignature(&self, size: u64, cosigned: Cosigned) -> Result<(), StoreError> {
        self.write()?.keep_cosignature(size, cosigned).await
    }
    async fn checkpoints(&self) -> Result<Vec<StoredCheckpoint>, StoreError> {
        self.read()?.checkpoints().await
    }
    async fn prune(
        &self,
        before: Timestamp,
        limit: u64,
        event: PruneEvent,
    ) -> Result<Option<Pruned>, StoreError> {
        self.write()?.prune(before, limit, event).await
    }
    async fn open_runs_of(&self, before: Timestamp) -> Result<Vec<Run>, StoreError> {
        self.read()?.open_runs_of(before).await
    }
    async fn first_kept(&self) -> Result<u64, StoreError> {
        self.read()?.first_kept().await
    }
}

#[async_trait]
impl Store for Disk {
    async fn head(&self) -> Result<Head, StoreError> {
        self.read()?.head().await
    }
    async fn fence(&self, event: Event, known: u64) -> Result<Head, StoreError> {
        self.write()?.fence(event, known).await
    }
    async fn record(&self, events: Vec<Event>) -> Result<Head, StoreError> {
        self.write()?.record(events).await
    }
    async fn put_rules(&self, rules: RulesInForce, event: Event) -> Result<(), StoreError> {
        self.write()?.put_rules(rules, event).await
    }
    async fn authors(&self) -> Result<RulesAuthors, StoreError> {
        self.read()?.authors().await
    }
    async fn directory(&self, digest: Digest) -> Result<Option<String>, StoreError> {
        self.read()?.directory(digest).await
    }
    async fn rules(&self) -> Result<Option<RulesDigests>, StoreError> {
        self.read()?.rules().await
    }
    async fn keep_key(&self, key: KeptKey, event: Event) -> Result<Head, StoreError> {
        self.write()?.keep_key(key, event).await
    }
    async fn kept_keys(&self) -> Result<KeptKeys, StoreError> {
        self.read()?.kept_keys().await
    }
    async fn open_run(&self, run: Run, event: Event) -> Result<(), StoreError> {
        self.write()?.open_run(run, event).await
    }
    async fn run(&self, id: RunId) -> Result<Option<Run>, StoreError> {
        self.read()?.run(id).await
    }
    async fn close_run(
        &self,
        id: RunId,
        from: RunPhase,
        leases: Vec<LeaseChange>,
        grants: Vec<GrantChange>,
        event: Event,
    ) -> Result<(), ChangeRefused> {
        self.write()?.close_run(id, from, leases, grants, event).await
    }
    async fn seal(
        &self,
        sealings: Vec<Sealing>,
        limits: OpenCount,
        decisions: Vec<DecisionEntry>,
        events: Vec<Event>,
    ) -> Result<(), SealRefused> {
        self.write()?.seal(sealings, limits, decisions, events).await
    }
    async fn keep_decision(&self, decision: DecisionEntry, events: Vec<Event>) -> Result<Head, StoreError> {
        self.write()?.keep_decision(decision, events).await
    }
    async fn decisions(
        &self,
        since: Timestamp,
        skip: u64,
        limit: u32,
    ) -> Result<Vec<DecisionEntry>, StoreError> {
        self.read()?.decisions(since, skip, limit).await
    }
    async fn suggestions(&self) -> Result<Vec<GrantRecord>, StoreError> {
        self.read()?.suggestions().await
    }
    async fn grant(&self, id: GrantId) -> Result<Option<GrantRecord>, StoreError> {
        self.read()?.grant(id).await
    }
    async fn open_count(&self, agent: &AgentSlug) -> Result<OpenCount, StoreError> {
        self.read()?.open_count(agent).await
    }
    async fn open_grants(&self, run: Option<RunId>) -> Result<Vec<GrantRecord>, StoreError> {
        self.read()?.open_grants(run).await
    }
    async fn change_grant(&self, change: GrantChange) -> Result<(), ChangeRefused> {
        self.write()?.change_grant(change).await
    }
    async fn used(&self, counted: Counted) -> Result<u64, StoreError> {
        self.read()?.used(counted).await
    }

    async fn stands(&self, inquiry: Inquiry) -> Result<Stands, StoreError> {
        self.read()?.stands(inquiry).await
    }

    async fn observed(&self, observation: Observation, event: Event) -> Result<Head, StoreError> {
        self.write()?.observed(observation, event).await
    }
    async fn freeze(&self, freeze: Freeze, event: Event) -> Result<Head, StoreError> {
        self.write()?.freeze(freeze, event).await
    }
    async fn freezes(&self) -> Result<Vec<Freeze>, StoreError> {
        self.read()?.freezes().await
    }
    async fn seal_administration(
        &self,
        sealed: SealedAdministration,
        limit: u64,
        event: Event,
    ) -> Result<(), SealRefused> {
        self.write()?.seal_administration(sealed, limit, event).await
    }
    async fn administration(&self, id: GrantId) -> Result<Option<AdministrationRecord>, StoreError> {
        self.read()?.administration(id).await
    }
    async fn open_administrations(&self) -> Result<Vec<AdministrationRecord>, StoreError> {
        self.read()?.open_administrations().await
    }
    async fn change_administration(&self, change: AdministrationChange) -> Result<(), ChangeRefused> {
        self.write()?.change_administration(change).await
    }
    async fn playbooks(&self, now: Timestamp) -> Result<Vec<PlaybookRecord>, StoreError> {
        self.read()?.playbooks(now).await
    }
    async fn suspend_playbook(&self, playbook: Digest, event: Event) -> Result<(), ChangeRefused> {
        self.write()?.suspend_playbook(playbook, event).await
    }
    async fn reviews(&self, filter: ReviewFilter) -> Result<Vec<Review>, StoreError> {
        self.read()?.reviews(filter).await
    }
    async fn review(&self, id: ReviewId) -> Result<Option<Review>, StoreError> {
        self.read()?.review(id).await
    }
    async fn decide_review(&self, decision: ReviewDecision) -> Result<Review, ChangeRefused> {
        self.write()?.decide_review(decision).await
    }
    async fn open_lease(&self, opening: Opening) -> Result<Committed<OpenedLease>, OpenRefused> {
        self.write()?.open_lease(opening).await
    }
    async fn change_lease(&self, change: LeaseChange) -> Result<Committed<Lease>, ChangeRefused> {
        let refuses = *self.refuses.lock().unwrap();
        if refuses.is_some_and(|refuses| refuses(&change.step)) {
            return Err(StoreError::Unwritable("no space left on device".into()).into());
        }
        self.write()?.change_lease(change).await
    }
    async fn lease(&self, id: LeaseId) -> Result<Option<Lease>, StoreError> {
        self.read()?.lease(id).await
    }
    async fn leases(&self, filter: LeaseFilter) -> Result<Vec<Lease>, StoreError> {
        self.read()?.leases(filter).await
    }
    async fn due(&self, now: Timestamp) -> Result<Due, StoreError> {
        self.read()?.due(now).await
    }
    async fn events(
        &self,
        run: Option<RunId>,
        from: u64,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.read()?.events(run, from, limit).await
    }
    async fn find_events(&self, filter: EventFilter, from: u64, limit: u32) -> Result<EventPage, StoreError> {
        self.read()?.find_events(filter, from, limit).await
    }
    async fn erase_text(&self, index: u64, name: String, event: Event) -> Result<Head, ChangeRefused> {
        self.write()?.erase_text(index, name, event).await
    }
    async fn cursor(&self, name: &str) -> Result<Option<u64>, StoreError> {
        self.read()?.cursor(name).await
    }
    async fn keep_cursor(&self, name: &str, place: u64) -> Result<(), StoreError> {
        self.write()?.keep_cursor(name, place).await
    }
    async fn packed_sizes(&self) -> Result<Vec<PackedSize>, StoreError> {
        self.read()?.packed_sizes().await
    }
    async fn hold_writer(
        &self,
        name: &str,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        self.write()?.hold_writer(name, holder, now, until).await
    }
}
