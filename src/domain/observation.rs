//! What an agent may have read while observing, by how far its source is trusted: untrusted telemetry taints the agent.

use serde::{Deserialize, Serialize};

use super::id::RunId;
use super::principal::AgentSlug;
use super::time::Timestamp;

/// How far a source of an observation is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Written by the provider's own control plane, or by people.
    Trusted,
    /// Anyone may have written it: telemetry, logs, whatever was not read through the broker.
    Untrusted,
}

/// Something an agent may have read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Who read.
    pub agent: AgentSlug,
    /// In which run.
    pub run: RunId,
    /// When.
    pub at: Timestamp,
    /// The observe set, or `elsewhere`.
    pub source: String,
    /// How far it is trusted.
    pub trust: Trust,
}

/// The source of what was not read through the broker.
pub const ELSEWHERE: &str = "elsewhere";
