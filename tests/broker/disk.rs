//! The real store behind a switch: it fails to write, or to read, when a test says so.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use phasebroker::broker::ports::*;
use phasebroker::domain::digest::Digest;
use phasebroker::domain::event::Event;
use phasebroker::domain::grant::SealedGrant;
use phasebroker::domain::id::{GrantId, LeaseId, RunId};
use phasebroker::domain::lease::{Lease, OpenedLease};
use phasebroker::domain::phase::RunPhase;
use phasebroker::domain::principal::AgentSlug;
use phasebroker::domain::proposal::Evidence;
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
impl Store for Disk {
    async fn head(&self) -> Result<Head, StoreError> {
        self.read()?.head().await
    }
    async fn fence(&self, event: Event) -> Result<Head, StoreError> {
        self.write()?.fence(event).await
    }
    async fn record(&self, events: Vec<Event>) -> Result<Head, StoreError> {
        self.write()?.record(events).await
    }
    async fn put_rules(&self, digests: RulesDigests, text: String, event: Event) -> Result<(), StoreError> {
        self.write()?.put_rules(digests, text, event).await
    }
    async fn directory(&self, digest: Digest) -> Result<Option<String>, StoreError> {
        self.read()?.directory(digest).await
    }
    async fn rules(&self) -> Result<Option<RulesDigests>, StoreError> {
        self.read()?.rules().await
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
        sealed: SealedGrant,
        evidence: Evidence,
        limits: OpenCount,
        event: Event,
    ) -> Result<(), SealRefused> {
        self.write()?.seal(sealed, evidence, limits, event).await
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
