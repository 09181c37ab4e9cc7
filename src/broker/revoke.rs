//! Telling providers that a credential has ended, until they have taken it or its own end came first.

use std::sync::Arc;

use super::Broker;
use super::end::INLINE_REVOKE;
use super::ports::{ChangeRefused, LeaseChange, LeaseStep, Notice};
use crate::domain::event::{Event, EventKind};
use crate::domain::lease::{Lease, Revocation};
use crate::domain::principal::Actor;
use crate::domain::time::Timestamp;

/// Waits between attempts, seconds; the last one repeats.
const RETRY_SECONDS: [i64; 6] = [1, 2, 4, 8, 15, 30];

impl Broker {
    /// One attempt to end a credential at its provider; failures are recorded and tried again by the sweep.
    /// INVARIANT: every-lease-ends. It stops being tried only once it is done, or past the credential's hard end.
    pub(super) async fn try_revoke(self: &Arc<Self>, lease: Lease, now: Timestamp) -> Lease {
        let Revocation::Pending { attempts, .. } = lease.revocation else { return lease };
        let outcome = match self.provider(lease.provider) {
            // INVARIANT: honest-revocation. What a provider takes from here on ends nothing.
            _ if lease.hard_end.has_passed(now) => Err("the credential's own end came first".to_owned()),
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
            Err(_) if lease.hard_end.has_passed(at) => (
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
                (
                    Revocation::Pending { attempts, next_at },
                    event(EventKind::RevocationFailed)
                        .fact("attempts", attempts)
                        .fact("why", super::record::ascii(&why)),
                )
            }
        };
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
            Err(_) => Lease { revocation, ..lease },
        }
    }
}
