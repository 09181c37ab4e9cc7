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
            Self::Agent(agent) => lease.agent == *agent,
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
