//! Recording what came of a mint, and every durable step of a lease. Nothing leaves before its record.

use super::Broker;
use super::phases::ascii;
use super::ports::{ChangeRefused, LeaseChange, LeaseStep, MintOutcome, Minted, OpenRefused};
use super::refusal::{Code, Refusal};
use super::runs::conflict;
use crate::domain::event::{Event, EventKind};
use crate::domain::grant::GrantState;
use crate::domain::lease::{Lease, LeaseState, Revocation};
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
        &self,
        lease: &Lease,
        outcome: MintOutcome,
        now: Timestamp,
    ) -> Result<Recorded, Refusal> {
        let event = |kind| Event::new(kind, Actor::Broker, self.gate.now()).run(lease.run).lease(lease.id);
        let event = |kind| lease.grant.iter().fold(event(kind), |e, grant| e.grant(*grant));
        let change = |step, from, events| LeaseChange { id: lease.id, from, step, events };
        match outcome {
            MintOutcome::Minted(minted) => {
                let mut minted_event =
                    event(EventKind::LeaseMinted).fact("reference", minted.reference.as_str());
                if let Some(percent) = minted.packed_policy_percent {
                    minted_event = minted_event.fact("packed_policy_percent", percent);
                }
                let step = LeaseStep::Minted { reference: minted.reference.clone() };
                // INVARIANT: logged-before-released. A record that fails means the credential never leaves.
                self.step(change(step, LeaseState::Intent, vec![minted_event]), now).await?;
                let step =
                    change(LeaseStep::Released, LeaseState::Minted, vec![event(EventKind::LeaseReleased)]);
                self.step(step, now).await?;
                Ok(Recorded::Minted(minted))
            }
            MintOutcome::Refused { code, message, retry_after } => {
                let refused = event(EventKind::LeaseRefused).fact("code", ascii(&code));
                self.step(change(LeaseStep::Refused, LeaseState::Intent, vec![refused]), now).await?;
                let mut refusal =
                    Refusal::new(Code::ProviderRefused, format!("the provider refused ({code}): {message}"));
                refusal.retry_after = retry_after;
                Ok(Recorded::Refused(refusal))
            }
            MintOutcome::Unknown { message } => {
                let unknown = event(EventKind::LeaseUnknown).fact("why", ascii(&message));
                self.step(change(LeaseStep::Unknown, LeaseState::Intent, vec![unknown]), now).await?;
                let pending = Revocation::Pending { attempts: 0, next_at: now };
                self.step(change(LeaseStep::Revocation(pending), LeaseState::Unknown, vec![]), now).await?;
                Ok(Recorded::Refused(Refusal::new(
                    Code::MintUnknown,
                    format!(
                        "nobody knows whether the provider minted ({message}); the lease is starved there and closed at its hard end. Propose again"
                    ),
                )))
            }
        }
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
            OpenRefused::FreezeMoved(_) => Refusal::new(Code::Frozen, text),
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
