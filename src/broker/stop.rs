//! Stop: a person ends a lease, a run, all of a kind, or everything. It works with an unreadable store, from memory.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use super::Broker;
use super::end::{MAX_NOTE_BYTES, in_time};
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
        let stop = Arc::new(UnfinishedStop { target, actor, at: now, event: Mutex::new(event) });
        // From here on nothing of it can be claimed, whatever the store can do.
        self.live.keep_stop(stop.clone());
        // Grants first: a lease that was opened before this is in the list below, and none is opened after it.
        let (mut grants, mut recorded) = self.finish(&stop).await;
        let (leases, read) = self.live_leases().await;
        let concerned: Vec<Lease> =
            leases.into_iter().filter(|lease| stop.target.concerns_lease(lease)).collect();
        for lease in &concerned {
            self.live.stop(lease.id);
            self.live.kill(lease.id);
        }
        let mut stopped = Vec::new();
        let mut unknown = Vec::new();
        let mut effective_by = now;
        for some in concerned.chunks(AT_ONCE) {
            for done in join_all(some.iter().map(|lease| self.stop_lease(lease, &stop.actor))).await {
                match done {
                    StoppedLease::Ended(end) => {
                        effective_by = effective_by.max(end.effective_by);
                        stopped.push(*end);
                    }
                    StoppedLease::Unknown(lease, not_after) => {
                        effective_by = effective_by.max(not_after);
                        unknown.push(lease);
                    }
                    StoppedLease::Over => {}
                }
            }
        }
        if !concerned.is_empty() {
            // A mint that was refused meanwhile has given its grant back.
            let (again, cancelled) = self.finish(&stop).await;
            grants.extend(again);
            recorded = cancelled;
        }
        match recorded {
            true => self.live.finish_stop(&stop),
            false => self.keep_journal().await,
        }
        self.keep_head().await;
        let recorded = recorded && read && !self.live.has_unwritten();
        Stopped { leases: stopped, grants, effective_by, unknown, recorded }
    }

    /// Refuses a grant that a person has stopped, although the store could not be told yet.
    pub(super) fn not_stopped(&self, grant: &Grant) -> Result<(), Refusal> {
        match self.live.stops().iter().any(|stop| stop.concerns(grant)) {
            true => Err(Refusal::new(Code::GrantNotOpen, "a person stopped it; propose again")),
            false => Ok(()),
        }
    }

    /// Goes on with every stop that the store could not take so far.
    pub(super) async fn finish_stops(&self) {
        for stop in self.live.stops() {
            if self.finish(&stop).await.1 {
                self.live.finish_stop(&stop);
            }
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
                    done = false;
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
                Err(error) => {
                    self.gate.store_failed(&error);
                    done = false;
                }
            }
        }
        cancelled.iter().for_each(|id| self.waits.wake(*id));
        (cancelled, done)
    }

    /// Cancels a grant, whoever else changes it meanwhile; false when it is over without us.
    pub(super) async fn cancel_stopped(
        &self,
        mut record: GrantRecord,
        actor: &Actor,
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
                events: vec![event.fact("why", "stopped")],
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

/// A stop that is under way, or that the store could not take yet.
#[derive(Debug)]
pub struct UnfinishedStop {
    target: StopTarget,
    actor: Actor,
    at: Timestamp,
    event: Mutex<Option<Event>>,
}

impl UnfinishedStop {
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
        Self { target: kept.target, actor: Actor::Broker, at: kept.at, event: Mutex::new(Some(event)) }
    }
}

enum StoppedLease {
    Ended(Box<EndView>),
    Unknown(LeaseId, Timestamp),
    Over,
}
