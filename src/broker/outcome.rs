//! Recording what came of a mint, and every durable step of a lease. Nothing leaves before its record.

use std::sync::Arc;

use super::Broker;
use super::ports::{ChangeRefused, LeaseChange, LeaseStep, MintOutcome, Minted, OpenRefused, PackedSize};
use super::record::ascii;
use super::refusal::{Code, Refusal};
use super::runs::conflict;
use crate::domain::event::{Event, EventKind};
use crate::domain::grant::{Grant, GrantState};
use crate::domain::lease::{EndReason, Lease, LeaseState, Revocation};
use crate::domain::principal::Actor;
use crate::domain::time::Timestamp;

/// What was recorded of a mint.
pub(super) enum Recorded {
    /// MINTED and RELEASED are durable.
    Minted(Minted),
    /// REFUSED or UNKNOWN is durable.
    Refused(Refusal),
}

impl Broker {
    /// Records what came of a mint; only then may anything leave.
    pub(super) async fn record_outcome(
        self: &Arc<Self>,
        lease: &Lease,
        outcome: MintOutcome,
        now: Timestamp,
    ) -> Result<Recorded, Refusal> {
        let change = |step, from, events| LeaseChange { id: lease.id, from, step, events };
        let event = |kind| self.lease_event(lease, kind);
        match outcome {
            MintOutcome::Minted(minted) => {
                let packed = minted.packed_policy_percent.zip(lease.action.clone());
                let mut minted_event =
                    event(EventKind::LeaseMinted).fact("reference", minted.reference.as_str());
                if let Some(percent) = minted.packed_policy_percent {
                    minted_event = minted_event.fact("packed_policy_percent", percent);
                }
                let step = LeaseStep::Minted { reference: minted.reference.clone() };
                // INVARIANT: logged-before-released. A record that fails means the credential never leaves.
                let step = self.step(change(step, LeaseState::Intent, vec![minted_event]), now);
                if let Some((percent, action)) = packed {
                    self.measured(PackedSize { action, percent, at: now });
                }
                let held = step.await.inspect_err(|_| {
                    // INVARIANT: every-lease-ends. As soon as the store can, it is told that something may exist.
                    let unknown = event(EventKind::LeaseUnknown).fact("why", "its record failed");
                    self.live.keep_unwritten(change(LeaseStep::Unknown, LeaseState::Intent, vec![unknown]));
                })?;
                self.end_if_stopped(&held).await?;
                let step =
                    change(LeaseStep::Released, LeaseState::Minted, vec![event(EventKind::LeaseReleased)]);
                let released = match self.step(step, now).await {
                    Ok(released) => released,
                    Err(refusal) => {
                        let at = self.gate.now();
                        self.keep_end(self.end_change(&held, EndReason::Withheld, None, &Actor::Broker, at))
                            .await;
                        return Err(refusal);
                    }
                };
                self.end_if_stopped(&released).await?;
                Ok(Recorded::Minted(minted))
            }
            MintOutcome::Refused { code, message, retry_after, for_good } => {
                let refused = event(EventKind::LeaseRefused).fact("code", ascii(&code));
                self.refused(lease, refused, now).await?;
                if for_good {
                    self.give_up(lease).await;
                }
                let mut refusal =
                    Refusal::new(Code::ProviderRefused, format!("the provider refused ({code}): {message}"));
                refusal.retry_after = retry_after;
                Ok(Recorded::Refused(refusal))
            }
            MintOutcome::Unknown { message } => {
                let unknown = event(EventKind::LeaseUnknown).fact("why", ascii(&message));
                let step = change(LeaseStep::Unknown, LeaseState::Intent, vec![unknown]);
                let unknown = self.step_or_keep(step, now).await?;
                self.starve(&unknown, now).await;
                Ok(Recorded::Refused(Refusal::new(
                    Code::MintUnknown,
                    format!(
                        "nobody knows whether the provider minted ({message}); the lease is starved there and closed at its hard end. Propose again"
                    ),
                )))
            }
        }
    }

    /// Certainly nothing was minted: the grant can be tried again, unless a person stopped it meanwhile.
    pub(super) async fn refused(&self, lease: &Lease, event: Event, now: Timestamp) -> Result<(), Refusal> {
        let from = LeaseState::Intent;
        let change = LeaseChange { id: lease.id, from, step: LeaseStep::Refused, events: vec![event] };
        let lease = self.step_or_keep(change, now).await?;
        self.given_back(&lease).await;
        Ok(())
    }

    /// The provider never takes what was signed: the grant is cancelled, so that nobody goes on trying.
    async fn give_up(&self, lease: &Lease) {
        let Some(grant) = lease.grant else { return };
        let cancelled = match self.store.grant(grant).await {
            Ok(Some(record)) => self.cancel_for(record, &Actor::Broker, "provider_refuses").await.map(|_| ()),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = cancelled {
            self.gate.store_failed(&error);
        }
    }

    /// A grant that was given back after its lease was stopped is cancelled.
    pub(super) async fn given_back(&self, lease: &Lease) {
        let (true, Some(grant)) = (self.live.take_stopped(lease.id), lease.grant) else { return };
        let cancelled = match self.store.grant(grant).await {
            Ok(Some(record)) => self.cancel_stopped(record, &Actor::Broker).await.map(|_| ()),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = cancelled {
            self.gate.store_failed(&error);
        }
    }

    /// Asks for an UNKNOWN lease to be starved at its provider. A record that fails is tried again by the sweep.
    pub(super) async fn starve(&self, lease: &Lease, now: Timestamp) {
        let pending = Revocation::Pending { attempts: 0, next_at: now };
        let step = LeaseStep::Revocation(pending);
        let change = LeaseChange { id: lease.id, from: LeaseState::Unknown, step, events: Vec::new() };
        if let Err(refusal) = self.step(change, now).await {
            tracing::warn!(lease.id = %lease.id, why = %refusal, "a lease of unknown outcome is not starved yet");
        }
    }

    /// Before anything is asked of the provider: what a person stopped or froze since the opening is given back.
    pub(super) async fn refuse_if_stopped(
        &self,
        lease: &Lease,
        grant: Option<&Grant>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let allowed = self.lease_not_stopped(lease);
        let Err(refusal) = allowed.and_then(|()| grant.map_or(Ok(()), |grant| self.not_stopped(grant)))
        else {
            return Ok(());
        };
        let event = self.lease_event(lease, EventKind::LeaseRefused).fact("code", refusal.code.name());
        self.refused(lease, event, now).await?;
        Err(refusal)
    }

    /// A person stopped or froze the lease while it was minted: it ends instead of leaving.
    async fn end_if_stopped(self: &Arc<Self>, lease: &Lease) -> Result<(), Refusal> {
        let Err(refusal) = self.lease_not_stopped(lease) else { return Ok(()) };
        // Refused only when whoever stopped it has ended it already.
        let _ended = self.end_lease(lease.clone(), EndReason::Stopped, None, &Actor::Broker, None).await;
        Err(refusal)
    }

    pub(super) fn lease_event(&self, lease: &Lease, kind: EventKind) -> Event {
        let event = Event::new(kind, Actor::Broker, self.gate.now()).run(lease.run).lease(lease.id);
        lease.grant.iter().fold(event, |e, grant| e.grant(*grant))
    }

    /// A step that is true whether or not it can be recorded now; kept until it can.
    async fn step_or_keep(&self, change: LeaseChange, now: Timestamp) -> Result<Lease, Refusal> {
        let kept = change.clone();
        self.step(change, now).await.inspect_err(|_| self.live.keep_unwritten(kept))
    }

    /// One durable step of a lease, mirrored in memory.
    pub(super) async fn step(&self, change: LeaseChange, now: Timestamp) -> Result<Lease, Refusal> {
        match self.store.change_lease(change).await {
            Ok(done) => {
                self.gate.committed(done.head);
                self.live.put(&done.value, now, self.gate.since_boot());
                Ok(done.value)
            }
            Err(ChangeRefused::Store(error)) => Err(self.gate.store_failed(&error)),
            Err(_) => Err(conflict()),
        }
    }

    pub(super) fn open_refused(&self, refused: OpenRefused) -> Refusal {
        let text = refused.to_string();
        match refused {
            OpenRefused::Store(error) => self.gate.store_failed(&error),
            OpenRefused::GrantMoved(GrantState::Claimed) => {
                Refusal::new(Code::GrantSpent, "the grant has been used; propose again")
            }
            OpenRefused::GrantMoved(_) => Refusal::new(Code::GrantNotOpen, text),
            OpenRefused::RunMoved(_) => Refusal::new(Code::PhaseOrder, text),
            OpenRefused::Missing(_) => Refusal::new(Code::NotFound, text),
            OpenRefused::LimitReached(_) => Refusal::new(Code::LimitReached, text),
            OpenRefused::PlaybookOut(_) | OpenRefused::NothingToTakeBack => {
                Refusal::new(Code::GrantNotOpen, text)
            }
            OpenRefused::Frozen(_) => Refusal::new(Code::Frozen, text),
            OpenRefused::EpochMoved => Refusal::new(Code::GrantForeign, text),
            OpenRefused::EarlierAlive(until) => {
                let mut refusal =
                    Refusal::new(Code::EarlierCredentialAlive, format!("{text}; claim again then"));
                refusal.retry_after = u32::try_from(until.since(self.gate.now()).max(1)).ok();
                refusal
            }
            OpenRefused::AgentExecuting(_) => {
                Refusal::new(Code::AgentExecuting, format!("{text}; complete or cancel it first"))
            }
            OpenRefused::KeyReused => Refusal::new(Code::KeyReused, text),
            OpenRefused::RulesMoved | OpenRefused::LeaseMoved => conflict(),
        }
    }
}
