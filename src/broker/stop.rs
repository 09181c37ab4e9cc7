//! Stop: a person ends a lease, a run, all of a kind, or everything. It works with an unreadable store, from memory.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use super::Broker;
use super::end::{MAX_NOTE_BYTES, in_time};
use super::freeze::keys_of_lease;
use super::ports::{ChangeRefused, GrantChange, GrantRecord, KeptStop, LeaseFilter, StoreError};
use super::refusal::{Code, Refusal};
use super::views::EndView;
use crate::domain::event::{Event, EventKind, SaltedText};
use crate::domain::grant::{Grant, GrantState};
use crate::domain::id::{GrantId, LeaseId};
use crate::domain::lease::{EndReason, Lease, LeaseState};
use crate::domain::principal::{Actor, PersonSlug, Role};
use crate::domain::stop::StopTarget;
use crate::domain::time::Timestamp;

/// Leases that are ended at the same time.
const AT_ONCE: usize = 256;
/// More often than a lease can move.
const RETRIES: usize = 8;

/// What a stop did.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Stopped {
    /// Ended leases.
    pub leases: Vec<EndView>,
    /// Cancelled grants.
    #[schema(value_type = Vec<String>)]
    pub grants: Vec<GrantId>,
    /// By when the last of the credentials is useless.
    #[schema(value_type = i64)]
    pub effective_by: Timestamp,
    /// Leases of unknown outcome, which are starved at the provider until their hard end.
    #[schema(value_type = Vec<String>)]
    pub unknown: Vec<LeaseId>,
    /// Whether everything was written down at once; if not, it is written when the store can.
    pub recorded: bool,
}

impl Broker {
    /// A person stops something. Any approver or operator may; it works with an unreadable store, from memory.
    pub async fn stop(
        self: &Arc<Self>,
        person: &PersonSlug,
        target: StopTarget,
        reason: String,
    ) -> Result<Stopped, Refusal> {
        self.may_stop(person, &reason)?;
        let now = self.gate.now();
        let actor = Actor::Person(person.clone());
        let event = Event::new(EventKind::Stopped, actor.clone(), now).fact("target", target.to_string());
        let event = event.text(SaltedText::new("reason", reason));
        Ok(self.carry_out(target, actor, now, Some(event)).await)
    }

    /// Any approver or operator may stop and freeze.
    pub(super) fn may_stop(&self, person: &PersonSlug, reason: &str) -> Result<(), Refusal> {
        let rules = self.rules();
        if ![Role::Approver, Role::Operator].iter().any(|role| rules.directory.has_role(person, *role)) {
            return Err(Refusal::new(Code::Forbidden, "stopping needs the role approver or operator"));
        }
        match reason.len() > MAX_NOTE_BYTES {
            true => {
                Err(Refusal::new(Code::BadRequest, format!("`reason` has at most {MAX_NOTE_BYTES} bytes")))
            }
            false => Ok(()),
        }
    }

    /// Ends every lease and cancels every grant that `target` concerns.
    pub(super) async fn carry_out(
        self: &Arc<Self>,
        target: StopTarget,
        actor: Actor,
        now: Timestamp,
        event: Option<Event>,
    ) -> Stopped {
        let stop = Arc::new(UnfinishedStop::new(target, actor, now, event));
        // From here on nothing of it can be claimed or released, whatever the store can do and through a restart.
        self.live.keep_stop(stop.clone());
        self.keep_journal().await;
        // What memory knows first: a store that hangs holds up no end.
        let mut seen = BTreeSet::new();
        let known: Vec<Lease> = self.live.all().into_iter().map(|entry| entry.lease).collect();
        let mut ended = self.end_concerned(&stop, known, &mut seen).await;
        // Then the grants, and the leases after them: one opened before this is in the list, and none is opened after it.
        let (mut grants, mut recorded) = self.finish(&stop).await;
        let (listed, read) = self.live_leases().await;
        ended.extend(self.end_concerned(&stop, listed, &mut seen).await);
        if !ended.is_empty() && recorded {
            // A mint that was refused meanwhile has given its grant back.
            let (again, cancelled) = self.finish(&stop).await;
            grants.extend(again);
            recorded = cancelled;
        }
        if recorded && read {
            stop.finished.store(true, Ordering::SeqCst);
        }
        self.keep_journal().await;
        self.keep_head().await;
        let recorded = recorded && read && !self.live.has_unwritten();
        let mut stopped =
            Stopped { leases: Vec::new(), grants, effective_by: now, unknown: Vec::new(), recorded };
        for one in ended {
            match one {
                StoppedLease::Ended(end) => {
                    stopped.effective_by = stopped.effective_by.max(end.effective_by);
                    stopped.leases.push(*end);
                }
                StoppedLease::Unknown(lease, not_after) => {
                    stopped.effective_by = stopped.effective_by.max(not_after);
                    stopped.unknown.push(lease);
                }
                StoppedLease::Over => {}
            }
        }
        stopped
    }

    /// Ends those of `leases` that the stop concerns and that were not `seen` yet.
    async fn end_concerned(
        self: &Arc<Self>,
        stop: &UnfinishedStop,
        leases: Vec<Lease>,
        seen: &mut BTreeSet<LeaseId>,
    ) -> Vec<StoppedLease> {
        let concerned: Vec<Lease> = leases
            .into_iter()
            .filter(|lease| stop.target.concerns_lease(lease) && seen.insert(lease.id))
            .collect();
        for lease in &concerned {
            self.live.stop(lease.id);
            self.live.kill(lease.id);
        }
        let mut ended = Vec::new();
        for some in concerned.chunks(AT_ONCE) {
            ended.extend(join_all(some.iter().map(|lease| self.stop_lease(lease, &stop.actor))).await);
        }
        ended
    }

    /// Refuses a grant that a person has stopped, although the store could not be told yet.
    pub(super) fn not_stopped(&self, grant: &Grant) -> Result<(), Refusal> {
        match self.live.stops().iter().any(|stop| stop.concerns(grant)) {
            true => Err(stopped()),
            false => Ok(()),
        }
    }

    /// Refuses a grant that a person has stopped since `mark` was read.
    pub(super) fn not_stopped_since(&self, mark: usize, grant: &Grant) -> Result<(), Refusal> {
        match self.live.stops_after(mark).iter().any(|stop| stop.target.concerns_grant(grant)) {
            true => Err(stopped()),
            false => self.not_stopped(grant),
        }
    }

    /// INVARIANT: stop-always-works. Refuses a lease in flight that a person stopped or froze, by memory alone.
    pub(super) fn lease_not_stopped(&self, lease: &Lease) -> Result<(), Refusal> {
        self.not_frozen(&keys_of_lease(lease))?;
        let concerned = |stop: &Arc<UnfinishedStop>| stop.concerns_lease(lease);
        match self.live.is_stopped(lease.id) || self.live.stops().iter().any(concerned) {
            true => Err(Refusal::new(
                Code::LeaseEnded,
                "a person stopped this while it was being issued; nothing is given out",
            )),
            false => Ok(()),
        }
    }

    /// Goes on with every stop that the store could not take so far.
    pub(super) async fn finish_stops(self: &Arc<Self>) {
        for stop in self.live.stops() {
            if !self.finish(&stop).await.1 {
                continue;
            }
            let (leases, read) = self.live_leases().await;
            let before = leases.into_iter().filter(|lease| lease.opened_at <= stop.at).collect();
            self.end_concerned(&stop, before, &mut BTreeSet::new()).await;
            stop.finished.store(read, Ordering::SeqCst);
        }
    }

    /// Records a stop and cancels its grants; false when something is left to do.
    async fn finish(&self, stop: &UnfinishedStop) -> (Vec<GrantId>, bool) {
        let waiting = stop.event.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut done = true;
        if let Some(event) = waiting {
            match in_time(self.store.record(vec![event.clone()])).await {
                Ok(head) => self.gate.committed(head),
                Err(error) => {
                    self.gate.store_failed(&error);
                    *stop.event.lock().unwrap_or_else(PoisonError::into_inner) = Some(event);
                    return (Vec::new(), false);
                }
            }
        }
        let open = match in_time(self.store.open_grants(None)).await {
            Ok(open) => open,
            Err(error) => {
                self.gate.store_failed(&error);
                return (Vec::new(), false);
            }
        };
        let mut cancelled = Vec::new();
        for record in open.into_iter().filter(|record| stop.concerns(record.sealed.grant())) {
            let id = record.sealed.grant().id;
            match self.cancel_stopped(record, &stop.actor).await {
                Ok(true) => cancelled.push(id),
                Ok(false) => {}
                // One that fails is not tried for every other grant: the sweep goes on with the stop.
                Err(error) => {
                    self.gate.store_failed(&error);
                    done = false;
                    break;
                }
            }
        }
        cancelled.iter().for_each(|id| self.waits.wake(*id));
        (cancelled, done)
    }

    /// Cancels a grant because of a stop.
    pub(super) async fn cancel_stopped(
        &self,
        record: GrantRecord,
        actor: &Actor,
    ) -> Result<bool, StoreError> {
        self.cancel_for(record, actor, "stopped").await
    }

    /// Cancels a grant, whoever else changes it meanwhile; false when it is over without us.
    pub(super) async fn cancel_for(
        &self,
        mut record: GrantRecord,
        actor: &Actor,
        why: &'static str,
    ) -> Result<bool, StoreError> {
        loop {
            if !record.state.is_open() {
                return Ok(false);
            }
            let (grant, now) = (record.sealed.grant(), self.gate.now());
            let event =
                Event::new(EventKind::GrantCancelled, actor.clone(), now).run(grant.who.run).grant(grant.id);
            let change = GrantChange {
                id: grant.id,
                revision: record.revision,
                state: GrantState::Cancelled,
                claim_until: None,
                approval: None,
                events: vec![event.fact("why", why)],
            };
            match in_time(self.store.change_grant(change)).await {
                Ok(()) => {
                    self.gate.store_recorded(now);
                    return Ok(true);
                }
                Err(ChangeRefused::Store(error)) => return Err(error),
                // An approval or a claim came first: what it left is looked at again.
                Err(ChangeRefused::Moved) => match in_time(self.store.grant(grant.id)).await? {
                    Some(again) => record = again,
                    None => return Ok(false),
                },
                Err(ChangeRefused::Missing) => return Ok(false),
            }
        }
    }

    /// Ends one lease, wherever it has moved since it was listed. One in flight is ended by whoever mints it.
    async fn stop_lease(self: &Arc<Self>, listed: &Lease, actor: &Actor) -> StoppedLease {
        for _ in 0..RETRIES {
            self.live.kill(listed.id);
            // Read after the mark in memory: of a mint's own record and this reading, one sees the other.
            let lease = match in_time(self.store.lease(listed.id)).await {
                Ok(Some(lease)) => lease,
                Ok(None) => return StoppedLease::Over,
                Err(error) => {
                    self.gate.store_failed(&error);
                    listed.clone()
                }
            };
            match lease.state {
                LeaseState::Minted | LeaseState::Released => {
                    // Refused only when the lease has moved on: then it is read again.
                    if let Ok(end) = self.end_lease(lease, EndReason::Stopped, None, actor, None).await {
                        return StoppedLease::Ended(Box::new(end));
                    }
                }
                LeaseState::Intent | LeaseState::Unknown => {
                    return StoppedLease::Unknown(lease.id, lease.not_after);
                }
                LeaseState::Refused | LeaseState::Ended => {
                    self.live.unkill(lease.id);
                    self.live.take_stopped(lease.id);
                    return StoppedLease::Over;
                }
            }
        }
        StoppedLease::Unknown(listed.id, listed.not_after)
    }

    async fn live_leases(&self) -> (Vec<Lease>, bool) {
        let filter = LeaseFilter { open: true, ..LeaseFilter::default() };
        match in_time(self.store.leases(filter)).await {
            Ok(leases) => (leases.into_iter().filter(|l| l.state.is_live()).collect(), true),
            Err(error) => {
                self.gate.store_failed(&error);
                (self.live.all().into_iter().map(|entry| entry.lease).collect(), false)
            }
        }
    }
}

fn stopped() -> Refusal {
    Refusal::new(Code::GrantNotOpen, "a person stopped it; propose again")
}

/// A stop that is under way, or that the store could not take yet; for a while also one that is finished.
#[derive(Debug)]
pub struct UnfinishedStop {
    target: StopTarget,
    actor: Actor,
    at: Timestamp,
    event: Mutex<Option<Event>>,
    finished: AtomicBool,
}

impl UnfinishedStop {
    fn new(target: StopTarget, actor: Actor, at: Timestamp, event: Option<Event>) -> Self {
        Self { target, actor, at, event: Mutex::new(event), finished: AtomicBool::new(false) }
    }

    /// When a person asked for it.
    pub(super) fn at(&self) -> Timestamp {
        self.at
    }

    /// Whether nothing of it is left to be done.
    pub(super) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::SeqCst)
    }

    /// What was opened after the stop is none of its business.
    fn concerns_lease(&self, lease: &Lease) -> bool {
        lease.opened_at <= self.at && self.target.concerns_lease(lease)
    }

    /// What was proposed after the stop is none of its business.
    fn concerns(&self, grant: &Grant) -> bool {
        grant.time.sealed_at <= self.at && self.target.concerns_grant(grant)
    }

    /// What must be known to go on with it in another life.
    pub(super) fn kept(&self) -> KeptStop {
        KeptStop { target: self.target.clone(), at: self.at }
    }

    /// One of a former life, to be gone on with.
    pub(super) fn of_former_life(kept: KeptStop) -> Self {
        let event = Event::new(EventKind::Stopped, Actor::Broker, kept.at)
            .fact("target", kept.target.to_string())
            .fact("why", "a stop that the store could not take before the restart");
        Self::new(kept.target, Actor::Broker, kept.at, Some(event))
    }
}

enum StoppedLease {
    Ended(Box<EndView>),
    Unknown(LeaseId, Timestamp),
    Over,
}
