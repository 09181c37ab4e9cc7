//! What a stop, or a freeze, is about, and which grants and leases that concerns.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::freeze::FreezeKey;
use super::grant::Grant;
use super::id::{LeaseId, RunId};
use super::lease::Lease;
use super::principal::{ActionType, AgentSlug, Environment};

/// What a person stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopTarget {
    /// One lease.
    Lease(LeaseId),
    /// Everything of one run.
    Run(RunId),
    /// Everything of one agent.
    Agent(AgentSlug),
    /// Every grant and execute credential of one action type.
    Action(ActionType),
    /// Everything in one environment.
    Environment(Environment),
    /// Everything.
    Everything,
}

impl StopTarget {
    /// Whether it concerns the grant.
    pub fn concerns_grant(&self, grant: &Grant) -> bool {
        match self {
            // The grant whose credential it is, or could become again.
            Self::Lease(lease) => grant.time.lease == *lease,
            Self::Run(run) => grant.who.run == *run,
            Self::Agent(agent) => grant.who.proposing_agent == *agent || grant.who.claiming_agent == *agent,
            Self::Action(action) => grant.action.action_type == *action,
            Self::Environment(environment) => grant.environment == *environment,
            Self::Everything => true,
        }
    }

    /// Whether it concerns the lease.
    pub fn concerns_lease(&self, lease: &Lease) -> bool {
        match self {
            Self::Lease(id) => lease.id == *id,
            Self::Run(run) => lease.run == *run,
            Self::Agent(agent) => lease.agent == *agent || lease.proposing_agent.as_ref() == Some(agent),
            Self::Action(action) => lease.grant.is_some() && lease.action.as_ref() == Some(action),
            Self::Environment(environment) => lease.environment == *environment,
            Self::Everything => true,
        }
    }
}

impl From<&FreezeKey> for StopTarget {
    fn from(key: &FreezeKey) -> Self {
        match key {
            FreezeKey::Everything => Self::Everything,
            FreezeKey::Agent(agent) => Self::Agent(agent.clone()),
            FreezeKey::Action(action) => Self::Action(action.clone()),
            FreezeKey::Environment(environment) => Self::Environment(environment.clone()),
        }
    }
}

impl fmt::Display for StopTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lease(id) => write!(f, "lease:{id}"),
            Self::Run(run) => write!(f, "run:{run}"),
            Self::Agent(agent) => write!(f, "agent:{agent}"),
            Self::Action(action) => write!(f, "action:{action}"),
            Self::Environment(environment) => write!(f, "environment:{environment}"),
            Self::Everything => f.write_str("everything"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::digest::Digest;
    use crate::domain::lease::{LeaseState, Revocation};
    use crate::domain::phase::Phase;
    use crate::domain::plan::{ProviderKind, Revocability};
    use crate::domain::time::Timestamp;

    #[test]
    fn a_stop_or_freeze_of_an_agent_concerns_what_it_holds_and_what_it_proposed() {
        let now = Timestamp::from_seconds(100);
        let lease = Lease {
            id: LeaseId::generate(now),
            run: RunId::generate(now),
            agent: "claimer".parse().unwrap(),
            proposing_agent: Some("planner".parse().unwrap()),
            phase: Phase::Execute,
            environment: "demo".parse().unwrap(),
            provider: ProviderKind::Jwt,
            revocability: Revocability::Immediate,
            grant: None,
            action: None,
            key: Digest::of(b"key").to_string().parse().unwrap(),
            target: "https://resource.example".into(),
            state: LeaseState::Released,
            opened_at: now,
            not_after: now,
            hard_end: now,
            sent: Digest::of(b"sent"),
            reference: None,
            released_at: Some(now),
            ended: None,
            revocation: Revocation::NotNeeded,
        };
        for (agent, concerned) in [("claimer", true), ("planner", true), ("other", false)] {
            let key = FreezeKey::Agent(agent.parse().unwrap());
            assert_eq!(StopTarget::from(&key).concerns_lease(&lease), concerned, "{agent}");
        }
    }
}
