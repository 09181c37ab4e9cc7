//! What callers see of leases and ends. Honest words only: "revoked" where it is, "will expire" where it will.

use serde::{Deserialize, Serialize};

use crate::domain::id::{GrantId, LeaseId, RunId};
use crate::domain::lease::{EndReason, Ended, Lease, LeaseState, Revocation};
use crate::domain::phase::Phase;
use crate::domain::plan::{ProviderKind, Revocability};
use crate::domain::principal::{AgentSlug, Environment};
use crate::domain::time::Timestamp;

/// A lease, for people and its own agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LeaseView {
    /// Its id.
    #[schema(value_type = String)]
    pub lease: LeaseId,
    /// The run.
    #[schema(value_type = String)]
    pub run: RunId,
    /// The agent.
    #[schema(value_type = String)]
    pub agent: AgentSlug,
    /// The agent that proposed the grant, for execute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub proposing_agent: Option<AgentSlug>,
    /// The phase.
    #[schema(value_type = String)]
    pub phase: Phase,
    /// Where.
    #[schema(value_type = String)]
    pub environment: Environment,
    /// Who minted it.
    #[schema(value_type = String)]
    pub provider: ProviderKind,
    /// The grant, for execute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub grant: Option<GrantId>,
    /// Where it stands.
    #[schema(value_type = String)]
    pub state: LeaseState,
    /// When it was opened.
    #[schema(value_type = i64)]
    pub opened_at: Timestamp,
    /// Its deadline.
    #[schema(value_type = i64)]
    pub not_after: Timestamp,
    /// The provider's own floor.
    #[schema(value_type = i64)]
    pub hard_end: Timestamp,
    /// By when it is certainly useless, as far as is known.
    #[schema(value_type = i64)]
    pub dead_by: Timestamp,
    /// The provider's own name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// When and why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub ended: Option<Ended>,
    /// How far its early end has come.
    #[schema(value_type = Object)]
    pub revocation: Revocation,
    /// Percent of AWS's packed size that the session policy of its action took when last measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed_policy_percent: Option<u32>,
}

impl From<&Lease> for LeaseView {
    fn from(lease: &Lease) -> Self {
        Self {
            lease: lease.id,
            run: lease.run,
            agent: lease.agent.clone(),
            proposing_agent: lease.proposing_agent.clone(),
            phase: lease.phase,
            environment: lease.environment.clone(),
            provider: lease.provider,
            grant: lease.grant,
            state: lease.state,
            opened_at: lease.opened_at,
            not_after: lease.not_after,
            hard_end: lease.hard_end,
            dead_by: lease.dead_by(),
            reference: lease.reference.clone(),
            ended: lease.ended,
            revocation: lease.revocation,
            packed_policy_percent: None,
        }
    }
}

/// What ending a lease did, and by when it takes effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EndView {
    /// Which lease.
    #[schema(value_type = String)]
    pub lease: LeaseId,
    /// `ended`.
    #[schema(value_type = String)]
    pub state: LeaseState,
    /// Why.
    #[schema(value_type = String)]
    pub reason: EndReason,
    /// When.
    #[schema(value_type = i64)]
    pub at: Timestamp,
    /// By when the credential is useless.
    #[schema(value_type = i64)]
    pub effective_by: Timestamp,
    /// What was done, in one honest sentence.
    pub how: String,
    /// How far the early end has come.
    #[schema(value_type = Object)]
    pub revocation: Revocation,
    /// What to do next, where something is left to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
}

impl EndView {
    /// INVARIANT: honest-revocation. Says what was done to `lease`, ended for `reason` at `at`.
    pub fn of(lease: &Lease, reason: EndReason, at: Timestamp) -> Self {
        let end = lease.not_after;
        let over = end.has_passed(at);
        let (how, effective_by) = match (lease.revocation, lease.revocability) {
            _ if over => (format!("expired at {end}: its own deadline"), end),
            (Revocation::Done { at, effective_by, .. }, _) if effective_by <= at => {
                (format!("revoked at {at}: the next use is refused"), effective_by)
            }
            (Revocation::Done { at, effective_by, .. }, _) => {
                let by = effective_by.min(end);
                (format!("revoked: written to the provider at {at}, in force by {by}"), by)
            }
            (_, Revocability::AtExpiry) => {
                (format!("will expire at {end}: credentials of this kind cannot be ended earlier"), end)
            }
            (Revocation::Pending { attempts: 0, .. }, _) => {
                (format!("revocation is under way; will expire at {end} at the latest"), end)
            }
            _ => (format!("revocation is being retried; will expire at {end} at the latest"), end),
        };
        let next_step = match reason {
            EndReason::CutOff => Some(
                "the work was cut off at the deadline and may be half done: observe what happened, then propose again"
                    .to_owned(),
            ),
            EndReason::Unknown => {
                Some("nobody knows whether this credential was ever issued: look for its session name at the provider".to_owned())
            }
            _ => None,
        };
        Self {
            lease: lease.id,
            state: lease.state,
            reason,
            at,
            effective_by,
            how,
            revocation: lease.revocation,
            next_step,
        }
    }
}
