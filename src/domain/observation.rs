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
    /// When; with a credential for what is untrusted, the last instant at which it can be read.
    pub at: Timestamp,
    /// The observe set, or `elsewhere`.
    pub source: String,
    /// How far it is trusted.
    pub trust: Trust,
}

impl Observation {
    /// What can be read with an observe credential from `now` until `not_after`. Untrusted sources count from the last
    /// possible reading, since nobody sees when the agent reads.
    pub fn with_credential(
        agent: AgentSlug,
        run: RunId,
        source: String,
        trust: Trust,
        not_after: Timestamp,
        now: Timestamp,
    ) -> Self {
        let at = match trust {
            Trust::Untrusted => not_after.max(now),
            Trust::Trusted => now,
        };
        Self { agent, run, at, source, trust }
    }
}

/// The source of what was not read through the broker.
pub const ELSEWHERE: &str = "elsewhere";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_reading_counts_from_the_last_instant_the_credential_allows_it() {
        let now = Timestamp::from_seconds(1_000);
        let at = |trust| {
            let (agent, run) = ("reader".parse().unwrap(), RunId::generate(now));
            Observation::with_credential(agent, run, "logs".into(), trust, now.plus(900), now).at
        };
        assert_eq!(at(Trust::Untrusted), now.plus(900));
        assert_eq!(at(Trust::Trusted), now);
    }
}
