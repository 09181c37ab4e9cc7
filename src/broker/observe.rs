//! What an agent read elsewhere, as it tells us. Nothing of it is checked, so all of it counts as untrusted.

use serde::{Deserialize, Serialize};

use super::Broker;
use super::refusal::{Code, Refusal};
use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind, SaltedText};
use crate::domain::id::RunId;
use crate::domain::observation::{ELSEWHERE, Observation, Trust};
use crate::domain::phase::RunPhase;
use crate::domain::principal::{Actor, AgentSlug};
use crate::domain::time::Timestamp;

/// Longest name of a source, in bytes.
pub(super) const MAX_SOURCE_BYTES: usize = 256;

/// Something an agent read without the broker.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadElsewhere {
    /// What was read, in the agent's words.
    pub source: String,
    /// Digest of what was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub digest: Option<Digest>,
}

/// An observation that was recorded.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Recorded {
    /// How it counts: always `untrusted`.
    #[schema(value_type = String)]
    pub trust: Trust,
    /// The agent is tainted until here.
    #[schema(value_type = i64)]
    pub tainted_until: Timestamp,
}

impl Broker {
    /// Records what an agent read elsewhere; the agent is tainted from now on.
    pub async fn read_elsewhere(
        &self,
        run: RunId,
        agent: &AgentSlug,
        read: ReadElsewhere,
    ) -> Result<Recorded, Refusal> {
        let now = self.gate.may_issue()?;
        let run = self.run_of(run, Some(agent)).await?;
        if run.phase == RunPhase::Closed {
            return Err(Refusal::new(Code::PhaseOrder, "the run is closed; open another one"));
        }
        if read.source.is_empty() || read.source.len() > MAX_SOURCE_BYTES {
            return Err(Refusal::new(
                Code::BadRequest,
                format!("`source` has 1 to {MAX_SOURCE_BYTES} bytes"),
            ));
        }
        self.allowances.observation(agent, now)?;
        self.room_in_run(&self.allowances.observations_of_run, run.id).await?;
        let mut event = Event::new(EventKind::ObservationRecorded, Actor::Agent(agent.clone()), now)
            .run(run.id)
            .fact("trust", "untrusted")
            .text(SaltedText::new("source", read.source));
        if let Some(digest) = read.digest {
            event = event.fact("digest", digest.to_string());
        }
        let tainted_until = self.taint(agent, run.id, event, now).await?;
        Ok(Recorded { trust: Trust::Untrusted, tainted_until })
    }

    /// The agent read something that anyone may have written; until when that taints it.
    pub(super) async fn taint(
        &self,
        agent: &AgentSlug,
        run: RunId,
        event: Event,
        now: Timestamp,
    ) -> Result<Timestamp, Refusal> {
        let observation = Observation {
            agent: agent.clone(),
            run,
            at: now,
            source: ELSEWHERE.into(),
            trust: Trust::Untrusted,
        };
        let head = self.store.observed(observation, event).await.map_err(|e| self.gate.store_failed(&e))?;
        self.gate.committed(head);
        let window = self.rules().guardrails.document().taint.window_seconds;
        Ok(now.plus(i64::from(window)))
    }
}
