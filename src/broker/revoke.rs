//! Telling providers that a credential has ended, until they have taken it or its own end came first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;

use super::Broker;
use super::end::INLINE_REVOKE;
use super::ports::{ChangeRefused, LeaseChange, LeaseStep, Notice};
use crate::domain::event::{Event, EventKind};
use crate::domain::id::LeaseId;
use crate::domain::lease::{Lease, Revocation};
use crate::domain::principal::Actor;
use crate::domain::time::Timestamp;

/// Waits between attempts, seconds; the last one repeats.
const RETRY_SECONDS: [i64; 6] = [1, 2, 4, 8, 15, 30];

/// The attempts of this process: one at a time for a lease.
#[derive(Default)]
pub(super) struct Attempts(Mutex<HashMap<LeaseId, Attempt>>);

enum Attempt {
    UnderWay,
    /// The next one is due at this many seconds since boot: a wall clock that is set back puts none off.
    Next(i64),
}

/// One attempt. Whoever gives it up lets the next one begin.
struct Turn<'a> {
    attempts: &'a Attempts,
    lease: LeaseId,
    next: Option<i64>,
}

impl Attempts {
    fn begin(&self, lease: LeaseId) -> Option<Turn<'_>> {
        match self.lock().insert(lease, Attempt::UnderWay) {
            Some(Attempt::UnderWay) => None,
            _ => Some(Turn { attempts: self, lease, next: None }),
        }
    }

    fn is_due(&self, lease: &Lease, now: Timestamp, boot: i64) -> bool {
        match (self.lock().get(&lease.id), lease.revocation) {
            (Some(Attempt::UnderWay), _) => false,
            (Some(Attempt::Next(at)), _) => *at <= boot,
            (None, Revocation::Pending { next_at, .. }) => next_at <= now,
            (None, _) => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LeaseId, Attempt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut attempts = self.attempts.lock();
        match self.next {
            Some(at) => attempts.insert(self.lease, Attempt::Next(at)),
            None => attempts.remove(&self.lease),
        };
    }
}

impl Broker {
    /// Those of `pending` whose next attempt is due, all at once: a provider that hangs on one holds up no other.
    /// How many are pending after it.
    pub(super) async fn revoke_due(self: &Arc<Self>, pending: Vec<Lease>, now: Timestamp) -> usize {
        let (all, boot) = (pending.len(), self.gate.since_boot());
        let due = pending.into_iter().filter(|lease| self.attempts.is_due(lease, now, boot));
        let tried = join_all(due.map(|lease| self.try_revoke(lease, now))).await;
        let settled = |lease: &&Lease| !matches!(lease.revocation, Revocation::Pending { .. });
        all.saturating_sub(tried.iter().filter(settled).count())
    }

    /// One attempt to end a credential at its provider, unless one is under way; failures are recorded and tried again by
    /// the sweep.
    /// INVARIANT: every-lease-ends. It stops being tried only once it is done, or past the credential's hard end.
    pub(super) async fn try_revoke(self: &Arc<Self>, lease: Lease, now: Timestamp) -> Lease {
        let Revocation::Pending { attempts, .. } = lease.revocation else { return lease };
        let Some(mut turn) = self.attempts.begin(lease.id) else { return lease };
        let outcome = match self.provider(lease.provider) {
            // INVARIANT: honest-revocation. What a provider takes from here on ends nothing.
            _ if self.is_past(&lease, lease.hard_end, now) => {
                Err("the credential's own end came first".to_owned())
            }
            Ok(provider) => match tokio::time::timeout(INLINE_REVOKE, provider.revoke(&lease, now)).await {
                Ok(Ok(done)) => Ok(done),
                Ok(Err(failed)) => Err(failed.0),
                Err(_) => Err("the provider did not answer in time".to_owned()),
            },
            Err(refusal) => Err(refusal.message),
        };
        let at = self.gate.now();
        let event = |kind| {
            let event = Event::new(kind, Actor::Broker, at).run(lease.run).lease(lease.id);
            lease.grant.iter().fold(event, |e, grant| e.grant(*grant))
        };
        let (revocation, event) = match outcome {
            Ok(done) => (
                Revocation::Done { at: done.at, effective_by: done.effective_by, seen: None },
                event(EventKind::RevocationDone).fact("effective_by", done.effective_by.seconds()),
            ),
            Err(_) if self.is_past(&lease, lease.hard_end, at) => (
                Revocation::OutlivedIt { attempts: attempts.saturating_add(1) },
                event(EventKind::RevocationOutlived).fact("attempts", attempts.saturating_add(1)),
            ),
            Err(why) => {
                let attempts = attempts.saturating_add(1);
                let step = usize::try_from(attempts.saturating_sub(1))
                    .unwrap_or(usize::MAX)
                    .min(RETRY_SECONDS.len() - 1);
                let wait = RETRY_SECONDS.get(step).copied().unwrap_or(30);
                self.metrics.revocation_failed(lease.provider);
                tracing::warn!(lease.id = %lease.id, attempts, why = %why, "revocation failed; it will be tried again");
                self.notifier.notify(Notice {
                    kind: "revocation_failed",
                    id: lease.id.to_string(),
                    link: format!("{}/v1/leases?open=true", self.settings.issuer),
                });
                let next_at = at.plus(wait);
                turn.next = Some(self.gate.since_boot().saturating_add(wait));
                (
                    Revocation::Pending { attempts, next_at },
                    event(EventKind::RevocationFailed)
                        .fact("attempts", attempts)
                        .fact("why", super::record::ascii(&why)),
                )
            }
        };
        if turn.next.is_none() {
            self.live.has_left(lease.id);
        }
        let change = LeaseChange {
            id: lease.id,
            from: lease.state,
            step: LeaseStep::Revocation(revocation),
            events: vec![event],
        };
        match self.store.change_lease(change.clone()).await {
            Ok(done) => {
                self.gate.committed(done.head);
                self.watch_end(&done.value);
                done.value
            }
            Err(ChangeRefused::Store(error)) => {
                self.gate.store_failed(&error);
                self.live.keep_unwritten(change);
                Lease { revocation, ..lease }
            }
            // Somebody else recorded an end of it meanwhile.
            Err(_) => self.store.lease(lease.id).await.ok().flatten().unwrap_or(lease),
        }
    }
}
