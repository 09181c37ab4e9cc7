//! The port, method by method: each is one read of one moment, or one operation of the writer's next transaction.

use async_trait::async_trait;

use super::{
    SqliteStore, administrations, changes, cursors, decisions, erasing, freezes, keys, ledger, listing,
    observations, opening, playbooks, reservations, reviews, rows, rules, sealing, search,
};
use crate::broker::ports::{
    AdministrationChange, AdministrationRecord, ChangeRefused, Committed, Counted, DecisionEntry, Due,
    EventFilter, EventPage, GrantChange, GrantRecord, Head, Inquiry, KeptKey, KeptKeys, LeaseChange,
    LeaseFilter, OpenCount, OpenRefused, Opening, PackedSize, PlaybookRecord, ReviewDecision, ReviewFilter,
    RulesAuthors, RulesDigests, RulesInForce, SealRefused, Sealing, Stands, Store, StoreError, StoredEvent,
};
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

#[async_trait]
impl Store for SqliteStore {
    async fn head(&self) -> Result<Head, StoreError> {
        self.readers.read(ledger::head).await
    }

    async fn fence(&self, event: Event, known: u64) -> Result<Head, StoreError> {
        let committed = self.put(move |tx| {
            let at = event.at();
            tx.head.epoch = tx.head.epoch.max(known) + 1;
            let epoch = tx.head.epoch;
            tx.append(&[event.fact("epoch", epoch)])?;
            playbooks::suspend_all(tx)?;
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
            rules::put(tx, &rules)?;
            tx.append(&[event])
        });
        committed.await.map(|_| ())
    }

    async fn authors(&self) -> Result<RulesAuthors, StoreError> {
        self.readers.read(rules::authors).await
    }

    async fn directory(&self, digest: Digest) -> Result<Option<String>, StoreError> {
        self.readers.read(move |conn| rules::directory(conn, &digest)).await
    }

    async fn rules(&self) -> Result<Option<RulesDigests>, StoreError> {
        self.readers.read(rules::digests).await
    }

    async fn keep_key(&self, key: KeptKey, event: Event) -> Result<Head, StoreError> {
        let committed = self.put(move |tx| {
            keys::keep(tx, &key, event.at())?;
            tx.append(&[event])
        });
        Ok(committed.await?.head)
    }

    async fn kept_keys(&self) -> Result<KeptKeys, StoreError> {
        self.readers.read(keys::all).await
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
        decisions: Vec<DecisionEntry>,
        events: Vec<Event>,
    ) -> Result<(), SealRefused> {
        let stored = self.writer.write(move |tx| {
            sealing::seal(tx, &sealings, limits)?;
            for decision in &decisions {
                decisions::insert(tx, decision)?;
            }
            Ok(tx.append(&events)?)
        });
        stored.await.map(|_| ())
    }

    async fn keep_decision(&self, decision: DecisionEntry, events: Vec<Event>) -> Result<Head, StoreError> {
        let committed = self.put(move |tx| {
            decisions::insert(tx, &decision)?;
            tx.append(&events)
        });
        Ok(committed.await?.head)
    }

    async fn decisions(
        &self,
        since: Timestamp,
        skip: u64,
        limit: u32,
    ) -> Result<Vec<DecisionEntry>, StoreError> {
        self.readers.read(move |conn| decisions::since(conn, since, skip, limit)).await
    }

    async fn suggestions(&self) -> Result<Vec<GrantRecord>, StoreError> {
        self.readers.read(listing::suggestions).await
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

    async fn used(&self, counted: Counted) -> Result<u64, StoreError> {
        self.readers.read(move |conn| reservations::used(conn, &counted)).await
    }

    async fn stands(&self, inquiry: Inquiry) -> Result<Stands, StoreError> {
        self.readers.read(move |conn| listing::stands(conn, &inquiry)).await
    }

    async fn observed(&self, observation: Observation, event: Event) -> Result<Head, StoreError> {
        let committed = self.put(move |tx| {
            observations::insert(tx, &observation)?;
            tx.append(&[event])
        });
        Ok(committed.await?.head)
    }

    async fn freeze(&self, freeze: Freeze, event: Event) -> Result<Head, StoreError> {
        Ok(self.put(move |tx| freezes::freeze(tx, &freeze, event)).await?.head)
    }

    async fn freezes(&self) -> Result<Vec<Freeze>, StoreError> {
        self.readers.read(freezes::all).await
    }

    async fn seal_administration(
        &self,
        sealed: SealedAdministration,
        limit: u64,
        event: Event,
    ) -> Result<(), SealRefused> {
        let stored = self.writer.write(move |tx| administrations::seal(tx, &sealed, limit, event));
        stored.await.map(|_| ())
    }

    async fn administration(&self, id: GrantId) -> Result<Option<AdministrationRecord>, StoreError> {
        self.readers.read(move |conn| administrations::by_id(conn, id)).await
    }

    async fn open_administrations(&self) -> Result<Vec<AdministrationRecord>, StoreError> {
        self.readers.read(administrations::open).await
    }

    async fn change_administration(&self, change: AdministrationChange) -> Result<(), ChangeRefused> {
        self.writer.write(move |tx| administrations::change(tx, &change)).await.map(|_| ())
    }

    async fn playbooks(&self, now: Timestamp) -> Result<Vec<PlaybookRecord>, StoreError> {
        self.readers.read(move |conn| playbooks::all(conn, now)).await
    }

    async fn suspend_playbook(&self, playbook: Digest, event: Event) -> Result<(), ChangeRefused> {
        self.writer.write(move |tx| playbooks::suspend(tx, &playbook, event)).await.map(|_| ())
    }

    async fn reviews(&self, filter: ReviewFilter) -> Result<Vec<Review>, StoreError> {
        self.readers.read(move |conn| reviews::all(conn, &filter)).await
    }

    async fn review(&self, id: ReviewId) -> Result<Option<Review>, StoreError> {
        self.readers.read(move |conn| reviews::by_id(conn, id)).await
    }

    async fn decide_review(&self, decision: ReviewDecision) -> Result<Review, ChangeRefused> {
        Ok(self.writer.write(move |tx| reviews::decide(tx, &decision)).await?.value)
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

    async fn find_events(&self, filter: EventFilter, from: u64, limit: u32) -> Result<EventPage, StoreError> {
        self.readers.read(move |conn| search::find(conn, &filter, from, limit)).await
    }

    async fn erase_text(&self, index: u64, name: String, event: Event) -> Result<Head, ChangeRefused> {
        let erased = self.writer.write(move |tx| erasing::erase(tx, index, &name, event)).await?;
        self.empty_wal().await;
        Ok(erased.head)
    }

    async fn cursor(&self, name: &str) -> Result<Option<u64>, StoreError> {
        let name = name.to_owned();
        self.readers.read(move |conn| cursors::place(conn, &name)).await
    }

    async fn keep_cursor(&self, name: &str, place: u64) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.put(move |tx| cursors::keep(tx, &name, place)).await.map(|_| ())
    }

    async fn packed_sizes(&self) -> Result<Vec<PackedSize>, StoreError> {
        self.readers.read(listing::packed_sizes).await
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
