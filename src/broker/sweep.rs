//! What time demands: leases past their deadline end, grants lapse, revocations are retried, and ends that could not
//! be written are written. Driven twice a second; safe to run at any moment and any number of times.

use std::sync::Arc;

use futures_util::future::join_all;

use super::Broker;
use super::ports::{ChangeRefused, GrantChange, LeaseChange, LeaseStep};
use crate::domain::event::{Event, EventKind};
use crate::domain::grant::GrantState;
use crate::domain::id::LeaseId;
use crate::domain::lease::{EndReason, Lease, LeaseState, Revocation};
use crate::domain::phase::Phase;
use crate::domain::principal::Actor;
use crate::domain::time::Timestamp;

/// Later than any retry of a revocation.
const FAR_SECONDS: i64 = 3600;

impl Broker {
    /// One sweep.
    pub async fn sweep(self: &Arc<Self>) {
        let now = self.gate.now();
        self.replies.sweep(now);
        self.reserved.sweep(now);
        self.live.forget_stops(now);
        self.write_freezes().await;
        self.finish_stops().await;
        self.write_unwritten().await;
        self.starve_unknown(now).await;
        self.expire_by_boot_clock(now).await;
        match self.store.due(now).await {
            Ok(due) => {
                // All at once: a provider that hangs on one holds up no other.
                join_all(due.leases.into_iter().map(|lease| self.expire(lease, now))).await;
                for record in due.grants {
                    self.lapse(record, now).await;
                }
                for record in due.administrations {
                    self.lapse_administration(record, now).await;
                }
            }
            Err(error) => {
                self.gate.store_failed(&error);
            }
        }
        if let Ok(due) = self.store.due(now.plus(FAR_SECONDS)).await {
            self.metrics.pending_revocations(self.revoke_due(due.revocations, now).await);
        }
        for phase in [Phase::Observe, Phase::Decide, Phase::Execute] {
            self.metrics.live_leases(phase, self.live.count(phase));
        }
        self.tell_overdue_reviews(now).await;
        self.keep_journal().await;
        self.keep_head_soon().await;
    }

    /// Whether a provider must still be told of an end.
    pub async fn revocations_pending(&self) -> bool {
        if self.live.has_unwritten() {
            return true;
        }
        let far = self.gate.now().plus(FAR_SECONDS);
        self.store.due(far).await.is_ok_and(|due| !due.revocations.is_empty())
    }

    /// A shutdown: nothing is issued any more; what is live keeps its own deadline and its record.
    pub fn shut_down(&self) {
        self.gate.close(super::refusal::Refusal::new(
            super::refusal::Code::ShuttingDown,
            "the broker is shutting down; try again in a moment",
        ));
    }

    async fn write_unwritten(self: &Arc<Self>) {
        let mut waiting = self.live.take_unwritten().into_iter();
        while let Some(change) = waiting.next() {
            match self.store.change_lease(change.clone()).await {
                Ok(done) => {
                    self.gate.committed(done.head);
                    let now = self.gate.now();
                    self.live.put(&done.value, now, self.gate.since_boot());
                    if done.value.state == LeaseState::Refused {
                        self.given_back(&done.value).await;
                    }
                    self.watch_end(&done.value);
                    self.try_revoke(done.value, now).await;
                }
                Err(ChangeRefused::Store(_)) => {
                    self.live.keep_unwritten(change);
                    waiting.by_ref().for_each(|rest| self.live.keep_unwritten(rest));
                }
                // Someone else moved it first: to its end, or it was written after all. One that lives on ends still.
                Err(_) => {
                    let ends = matches!(change.step, LeaseStep::Ended { .. });
                    if let Some(lease) = self.look_again(change.id).await
                        && ends
                        && matches!(lease.state, LeaseState::Minted | LeaseState::Released)
                    {
                        self.live.keep_unwritten(LeaseChange { from: lease.state, ..change });
                    }
                }
            }
        }
    }

    /// INVARIANT: every-lease-ends. An UNKNOWN lease whose starving could not be recorded is not forgotten.
    async fn starve_unknown(&self, now: Timestamp) {
        for entry in self.live.all() {
            let lease = entry.lease;
            if lease.state == LeaseState::Unknown
                && lease.revocation == Revocation::NotNeeded
                && !lease.not_after.has_passed(now)
            {
                self.starve(&lease, now).await;
            }
        }
    }

    /// Brings the mirror in memory up to what is stored.
    async fn look_again(&self, id: LeaseId) -> Option<Lease> {
        let lease = self.store.lease(id).await.ok().flatten()?;
        self.live.put(&lease, self.gate.now(), self.gate.since_boot());
        Some(lease)
    }

    /// Leases also watch the boot-time clock: a wall clock set back never lengthens one.
    async fn expire_by_boot_clock(self: &Arc<Self>, now: Timestamp) {
        let since_boot = self.gate.since_boot();
        for entry in self.live.all() {
            let wall_says_live = !entry.lease.not_after.has_passed(now);
            if since_boot >= entry.boot_deadline && wall_says_live {
                self.expire(entry.lease, now).await;
            }
        }
    }

    async fn expire(self: &Arc<Self>, lease: Lease, now: Timestamp) {
        let change = match lease.state {
            LeaseState::Intent => {
                // Its own deadline passed before anyone recorded an outcome: nobody knows.
                let event =
                    Event::new(EventKind::LeaseUnknown, Actor::Broker, now).run(lease.run).lease(lease.id);
                let events = vec![event.fact("why", "no outcome was recorded")];
                LeaseChange { id: lease.id, from: lease.state, step: LeaseStep::Unknown, events }
            }
            LeaseState::Unknown => self.end_change(&lease, EndReason::Unknown, None, &Actor::Broker, now),
            _ if lease.phase == Phase::Execute => {
                self.end_change(&lease, EndReason::CutOff, None, &Actor::Broker, now)
            }
            _ => self.end_change(&lease, EndReason::Expired, None, &Actor::Broker, now),
        };
        self.replies.forget(lease.id);
        match self.store.change_lease(change).await {
            Ok(done) => {
                self.gate.committed(done.head);
                self.live.put(&done.value, now, self.gate.since_boot());
                if done.value.state == LeaseState::Ended {
                    self.count_end(lease.phase, now.since(lease.opened_at));
                    self.try_revoke(done.value, now).await;
                }
            }
            Err(ChangeRefused::Store(error)) => {
                self.gate.store_failed(&error);
                self.live.kill(lease.id);
                if !lease.not_after.has_passed(now) {
                    self.live.mark_unrecorded(lease.id);
                }
            }
            Err(_) => {
                self.look_again(lease.id).await;
            }
        }
    }

    async fn lapse(&self, record: super::ports::GrantRecord, now: Timestamp) {
        let grant = record.sealed.grant();
        let event = Event::new(EventKind::GrantLapsed, Actor::Broker, now).run(grant.who.run).grant(grant.id);
        let change = GrantChange {
            id: grant.id,
            revision: record.revision,
            state: GrantState::Lapsed,
            claim_until: None,
            approval: None,
            events: vec![event.fact("from", record.state.name())],
        };
        match self.store.change_grant(change).await {
            Ok(()) => {
                self.gate.store_recorded(now);
                self.waits.wake(grant.id);
                self.tell_people("grant_lapsed", grant.id);
            }
            Err(ChangeRefused::Store(error)) => {
                self.gate.store_failed(&error);
            }
            Err(_) => {}
        }
    }
}
