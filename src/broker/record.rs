//! The records of leases and their events, made in one place for every use case.

use super::Broker;
use super::ports::{LeaseChange, LeaseStep};
use super::refusal::{Code, Refusal};
use crate::domain::event::{Event, EventKind};
use crate::domain::id::{GrantId, LeaseId};
use crate::domain::key::Thumbprint;
use crate::domain::lease::{EndReason, Ended, Lease, LeaseState, Outcome, Prepared, Revocation};
use crate::domain::phase::Phase;
use crate::domain::plan::{Credential, ProviderKind, Revocability};
use crate::domain::principal::{Actor, AgentSlug};
use crate::domain::run::Run;
use crate::domain::time::Timestamp;

impl Broker {
    /// The change that ends one lease, with what its provider must still be told.
    pub(super) fn end_change(
        &self,
        lease: &Lease,
        reason: EndReason,
        outcome: Option<Outcome>,
        actor: &Actor,
        now: Timestamp,
    ) -> LeaseChange {
        end_change(lease, self.end_revocation(lease, now), reason, outcome, actor, now)
    }

    /// What the provider must still be told of a lease that ends now.
    pub(super) fn end_revocation(&self, lease: &Lease, now: Timestamp) -> Revocation {
        match lease.provider {
            // Asked for since nobody knew; what came of it stays.
            _ if lease.state == LeaseState::Unknown && lease.revocation != Revocation::NotNeeded => {
                lease.revocation
            }
            _ if self.is_past(lease, lease.not_after, now) => Revocation::NotNeeded,
            // Our own tokens: introspection answers from this very record.
            ProviderKind::Jwt if lease.revocability == Revocability::Immediate => {
                Revocation::Done { at: now, effective_by: now, seen: None }
            }
            ProviderKind::Jwt => Revocation::NotNeeded,
            ProviderKind::Aws => Revocation::Pending { attempts: 0, next_at: now },
        }
    }

    /// Whether an end of this lease is past at its provider.
    pub(super) fn is_past(&self, lease: &Lease, end: Timestamp, now: Timestamp) -> bool {
        self.live.is_past(lease, end, now, self.gate.since_boot())
    }
}

fn end_change(
    lease: &Lease,
    revocation: Revocation,
    reason: EndReason,
    outcome: Option<Outcome>,
    actor: &Actor,
    now: Timestamp,
) -> LeaseChange {
    let mut event = Event::new(EventKind::LeaseEnded, actor.clone(), now)
        .run(lease.run)
        .lease(lease.id)
        .fact("phase", lease.phase.name())
        .fact("reason", reason.name());
    if let Some(grant) = lease.grant {
        event = event.grant(grant);
    }
    if let Some(outcome) = outcome {
        event = event.fact("outcome", outcome.name());
    }
    let ended = Ended { at: now, reason, outcome };
    LeaseChange {
        id: lease.id,
        from: lease.state,
        step: LeaseStep::Ended { ended, revocation },
        events: vec![event],
    }
}

/// The record of a lease in state INTENT.
#[allow(clippy::too_many_arguments)] // One line per member of the record; a builder would only move them.
pub(super) fn intent(
    id: LeaseId,
    grant: Option<GrantId>,
    run: &Run,
    agent: &AgentSlug,
    phase: Phase,
    credential: &Credential,
    prepared: &Prepared,
    key: Thumbprint,
    now: Timestamp,
) -> Lease {
    Lease {
        id,
        run: run.id,
        agent: agent.clone(),
        proposing_agent: None,
        phase,
        environment: run.environment.clone(),
        provider: credential.provider(),
        revocability: credential.revocability(),
        grant,
        action: None,
        key,
        target: target(credential),
        state: LeaseState::Intent,
        opened_at: now,
        not_after: prepared.not_after,
        hard_end: prepared.hard_end,
        sent: prepared.digest(),
        reference: None,
        released_at: None,
        ended: None,
        revocation: Revocation::NotNeeded,
    }
}

/// The INTENT event of a lease.
pub(super) fn intent_event(lease: &Lease, actor: &Actor, now: Timestamp) -> Event {
    Event::new(EventKind::LeaseIntent, actor.clone(), now)
        .run(lease.run)
        .lease(lease.id)
        .fact("phase", lease.phase.name())
        .fact("provider", lease.provider.name())
        .fact("target", ascii(&lease.target))
        .fact("key", lease.key.to_string())
        .fact("sent", lease.sent.to_string())
        .fact("not_after", lease.not_after.seconds())
}

/// Where a credential is used: its audience or its role.
fn target(credential: &Credential) -> String {
    match credential {
        Credential::Jwt(jwt) => jwt.audience.clone(),
        Credential::Aws(aws) => aws.role_arn.clone(),
    }
}

pub(super) fn ascii(text: &str) -> String {
    text.chars().take(200).map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect()
}

pub(super) fn mint_lost() -> Refusal {
    Refusal::new(
        Code::MintUnknown,
        "the broker failed inside this request; the lease will be ended. Read it, then try again",
    )
}
