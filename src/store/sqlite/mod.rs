//! The default store: one SQLite file (WAL, synchronous=FULL), one writing thread with group commit, a few readers.
//! A second process is refused by a lock. What cannot be read is an error, never "absent".

mod changes;
mod fault;
mod ledger;
mod listing;
mod lock;
mod opening;
mod readers;
mod rows;
mod schema;
mod writer;

use std::path::Path;

use async_trait::async_trait;

use crate::broker::ports::{
    AdministrationChange, AdministrationRecord, ChangeRefused, Committed, Counted, DecisionEntry, Due,
    GrantChange, GrantRecord, Head, LeaseChange, LeaseFilter, OpenCount, OpenRefused, Opening,
    PlaybookRecord, ReviewDecision, ReviewFilter, RulesDigests, RulesInForce, RunHistory, SealRefused,
    Sealing, Store, StoreError, StoredEvent,
};
use crate::domain::digest::Digest;
use crate::domain::event::Event;
use crate::domain::id::{GrantId, LeaseId, RunId};
use crate::domain::lease::{Lease, OpenedLease};
use crate::domain::phase::RunPhase;
use crate::domain::principal::AgentSlug;
use crate::domain::run::Run;
use crate::domain::time::Timestamp;
use fault::{Abort, Fault};
use lock::ProcessLock;
use readers::Readers;
use writer::Writer;

/// Why a store could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("`{path}` is in use by process {pid}; stop that broker first, or give this one another file")]
    InUse {
        /// The store.
        path: String,
        /// The process that holds it; 0 when its lock file does not say.
        pid: u32,
    },
    /// It cannot be opened or created.
    #[error("`{path}` cannot be opened as a store: {why}")]
    Unusable {
        /// The store, or its lock file.
        path: String,
        /// Why.
        why: String,
    },
}

/// How a store is opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// The largest size the database file may grow to; when it is reached, writes are refused as on a full disk.
    pub max_bytes: Option<u64>,
}

/// A store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    // In the order they are dropped: the writer finishes what is queued before the lock goes.
    writer: Writer,
    readers: Readers,
    _lock: ProcessLock,
}

impl SqliteStore {
    /// Opens the store at `path`, creating it when it is not there.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(path, Options::default())
    }

    /// Opens the store with `options`.
    pub fn open_with(path: &Path, options: Options) -> Result<Self, OpenError> {
        let path = lock::one_name(path)?;
        let lock = ProcessLock::take(&path)?;
        lock::create(&path)?;
        let unusable = |fault: Fault| OpenError::Unusable {
            path: path.display().to_string(),
            why: fault.on_write().to_string(),
        };
        let conn = schema::writer(&path, options.max_bytes).map_err(unusable)?;
        ledger::check(&conn).map_err(unusable)?;
        changes::release_writers(&conn).map_err(unusable)?;
        let readers = Readers::open(&path).map_err(unusable)?;
        let quiet = readers::checkpointer(&path).map_err(unusable)?;
        let writer = Writer::start(conn, quiet).map_err(|e| unusable(Fault::Unstorable(e.to_string())))?;
        Ok(Self { writer, readers, _lock: lock })
    }

    /// Writes that can fail only with the store.
    async fn put<T, F>(&self, operation: F) -> Result<Committed<T>, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut ledger::Tx<'_>) -> Result<T, Fault> + Send + 'static,
    {
        self.writer.write(move |tx| operation(tx).map_err(Abort::<StoreError>::from)).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn head(&self) -> Result<Head, StoreError> {
        self.readers.read(ledger::head).await
    }

    async fn fence(&self, event: Event) -> Result<Head, StoreError> {
        let committed = self.put(move |tx| {
            let at = event.at();
            tx.head.epoch += 1;
            tx.append(&[event])?;
            // An operator has looked at the clock: time goes on from here, even when it had run ahead.
            tx.head.at = at;
            Ok(())
        });
        Ok(committed.await?.head)
    }

    async fn record(&self, events: Vec<Event>) -> Result<Head, StoreError> {
        Ok(self.put(move |tx| tx.append(&events)).await?.head)
    }

    async fn put_rules(&self, rules: RulesInForce, event: Event) -> Result<(), StoreError> {
        let committed = self.put(move |tx| {
            ledger::put_rules(tx, &rules.digests, &rules.directory)?;
            tx.append(&[event])
        });
        committed.await.map(|_| ())
    }

    async fn directory(&self, digest: Digest) -> Result<Option<String>, StoreError> {
        self.readers.read(move |conn| ledger::directory(conn, &digest)).await
    }

    async fn rules(&self) -> Result<Option<RulesDigests>, StoreError> {
        self.readers.read(ledger::rules).await
    }

    async fn open_run(&self, run: Run, event: Event) -> Result<(), StoreError> {
        let committed = self.put(move |tx| {
            rows::insert_run(tx.conn, &run)?;
            tx.append(&[event])
        });
        committed.await.map(|_| ())
    }

    async fn run(&self, id: RunId) -> Result<Option<Run>, StoreError> {
        self.readers.read(move |conn| rows::run(conn, id)).await
    }

    async fn close_run(
        &self,
        id: RunId,
        from: RunPhase,
        leases: Vec<LeaseChange>,
        grants: Vec<GrantChange>,
        event: Event,
    ) -> Result<(), ChangeRefused> {
        let closed = self.writer.write(move |tx| changes::close_run(tx, id, from, &leases, &grants, event));
        closed.await.map(|_| ())
    }

    async fn seal(
        &self,
        sealings: Vec<Sealing>,
        limits: OpenCount,
        _: Option<DecisionEntry>,
        events: Vec<Event>,
    ) -> Result<(), SealRefused> {
        let stored = self.writer.write(move |tx| {
            for sealing in &sealings {
                changes::seal(tx, &sealing.sealed, &sealing.evidence, limits)?;
            }
            tx.append(&events)?;
            Ok(())
        });
        stored.await.map(|_| ())
    }

    async fn authors(
        &self,
    ) -> Result<std::collections::BTreeSet<crate::domain::principal::PersonSlug>, StoreError> {
        Err(StoreError::Unreadable("not there yet".into()))
    }

    async fn keep_decision(&self, _: DecisionEntry, _: Vec<Event>) -> Result<Head, StoreError> {
        Err(StoreError::Unreadable("not there yet".into()))
    }

    async fn decisions(&self, _: Timestamp, _: u64, _: u32) -> Result<Vec<DecisionEntry>, StoreError> {
        Err(StoreError::Unreadable("not there yet".into()))
    }

    async fn suggestions(&self) -> Result<Vec<GrantRecord>, StoreError> {
        Err(StoreError::Unreadable("not there yet".into()))
    }

    async fn used(&self, _: Vec<Counted>) -> Result<Vec<u64>, StoreError> {
        Err(StoreError::Unreadable("not there yet".into()))
    }

    async fn history(&self, _: RunId) -> Result<RunHistory, StoreError> {
        Err(StoreError::Unreadable("not there yet".into()))
    }

    async fn observed(
        &self,
        _: crate::domain::observation::Observation,
        _: Event,
    ) -> Result<Head, StoreError> {
        Err(StoreError::Unreadable("not there yet".into()))
    }

    async fn last_untrusted(&self, _: Vec<AgentSlug>, _: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        Err(StoreError::Unreadable("not there yet".into()))
    }

    async fn freeze(&self, _: crate::domain::freeze::Freeze, _: Event) -> Result<Head, StoreError> {
        Err(StoreError::Unreadable("not there yet".into()))
    }

    async fn freezes(&self) -> Result<Vec<crate::domain::freeze::Freeze>, StoreError> {
        Err(StoreError::Unreadable("not there yet".into()))
    }

    async fn seal_administration(
        &self,
        _: crate::domain::administration::SealedAdministration,
        _: u64,
        _: Event,
    ) -> Result<(), SealRefused> {
        Err(StoreError::Unreadable("not there yet".into()).into())
    }

    async fn administration(&self, _: GrantId) -> Result<Option<AdministrationRecord>, StoreError> {
        Err(StoreError::Unreadable("not there yet".into()))
    }

    async fn open_administrations(&self) -> Result<Vec<AdministrationRecord>, StoreError> {
        Err(StoreError::Unreadable("not there yet".into()))
    }

    async fn change_administration(&self, _: AdministrationChange) -> Result<(), ChangeRefused> {
        Err(StoreError::Unreadable("not there yet".into()).into())
    }

    async fn playbooks(&self, _: Timestamp) -> Result<Vec<PlaybookRecord>, StoreError> {
        Err(StoreError::Unreadable("not there yet".into()))
    }

    async fn suspend_playbook(&self, _: Digest, _: Event) -> Result<(), ChangeRefused> {
        Err(StoreError::Unreadable("not there yet".into()).into())
    }

    async fn reviews(&self, _: ReviewFilter) -> Result<Vec<crate::domain::review::Review>, StoreError> {
        Err(StoreError::Unreadable("not there yet".into()))
    }

    async fn review(
        &self,
        _: crate::domain::id::ReviewId,
    ) -> Result<Option<crate::domain::review::Review>, StoreError> {
        Err(StoreError::Unreadable("not there yet".into()))
    }

    async fn decide_review(&self, _: ReviewDecision) -> Result<crate::domain::review::Review, ChangeRefused> {
        Err(StoreError::Unreadable("not there yet".into()).into())
    }

    async fn grant(&self, id: GrantId) -> Result<Option<GrantRecord>, StoreError> {
        self.readers.read(move |conn| listing::grant(conn, id)).await
    }

    async fn open_count(&self, agent: &AgentSlug) -> Result<OpenCount, StoreError> {
        let agent = agent.clone();
        self.readers.read(move |conn| listing::open_count(conn, &agent)).await
    }

    async fn open_grants(&self, run: Option<RunId>) -> Result<Vec<GrantRecord>, StoreError> {
        self.readers.read(move |conn| listing::open_grants(conn, run)).await
    }

    async fn change_grant(&self, change: GrantChange) -> Result<(), ChangeRefused> {
        self.writer.write(move |tx| changes::change_grant(tx, &change)).await.map(|_| ())
    }

    async fn open_lease(&self, opening: Opening) -> Result<Committed<OpenedLease>, OpenRefused> {
        let (lease, prepared) = (opening.lease.clone(), opening.prepared.clone());
        let committed = self.writer.write(move |tx| opening::open(tx, &opening)).await?;
        // INVARIANT: logged-before-released. The commit has returned.
        Ok(Committed { value: OpenedLease::committed(lease, prepared), head: committed.head })
    }

    async fn change_lease(&self, change: LeaseChange) -> Result<Committed<Lease>, ChangeRefused> {
        self.writer.write(move |tx| changes::step(tx, &change)).await
    }

    async fn lease(&self, id: LeaseId) -> Result<Option<Lease>, StoreError> {
        self.readers.read(move |conn| rows::lease_by_id(conn, id)).await
    }

    async fn leases(&self, filter: LeaseFilter) -> Result<Vec<Lease>, StoreError> {
        self.readers.read(move |conn| listing::leases(conn, &filter)).await
    }

    async fn due(&self, now: Timestamp) -> Result<Due, StoreError> {
        self.readers.read(move |conn| listing::due(conn, now)).await
    }

    async fn events(
        &self,
        run: Option<RunId>,
        from: u64,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.readers.read(move |conn| ledger::events(conn, run, from, limit)).await
    }

    async fn hold_writer(
        &self,
        name: &str,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        let held = self.put(move |tx| changes::hold_writer(tx, &name, &holder, now, until)).await?;
        Ok(held.value)
    }
}
