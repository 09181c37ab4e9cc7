//! What an agent did on its way, as it tells us: prompts, model output, tool calls, observations. Nothing of it is
//! checked, so it never widens anything: an agent can only say that it read something untrusted, never that it did not.

use serde::{Deserialize, Serialize};

use super::Broker;
use super::observe::MAX_SOURCE_BYTES;
use super::refusal::{Code, Refusal};
use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind, SaltedText};
use crate::domain::id::RunId;
use crate::domain::observation::Trust;
use crate::domain::phase::RunPhase;
use crate::domain::principal::{Actor, AgentSlug};
use crate::domain::time::Timestamp;

/// What kind of step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// The model was asked.
    Prompt,
    /// The model answered.
    ModelOutput,
    /// A tool was called.
    ToolCall,
    /// Something was read without the broker.
    Observation,
}

impl StepKind {
    fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::ModelOutput => "model_output",
            Self::ToolCall => "tool_call",
            Self::Observation => "observation",
        }
    }
}

/// One step of a run, in digests; names stand beside the ledger and can be erased.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// `prompt`, `model_output`, `tool_call` or `observation`.
    pub kind: StepKind,
    /// Digest of the prompt, the output, or what was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub digest: Option<Digest>,
    /// Name of the tool (`tool_call`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// Digest of its arguments (`tool_call`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub arguments_digest: Option<Digest>,
    /// Digest of its result (`tool_call`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub result_digest: Option<Digest>,
    /// What was read, in the agent's words (`observation`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Only `untrusted`: of a tool call whose result anyone may have written. An observation always is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub trust: Option<Trust>,
}

/// A step that was recorded.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StepTaken {
    /// What was recorded.
    pub kind: StepKind,
    /// The agent is tainted until here, when the step counts as untrusted reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub tainted_until: Option<Timestamp>,
}

impl Broker {
    /// Records one step of an agent's run.
    pub async fn record_step(&self, run: RunId, agent: &AgentSlug, step: Step) -> Result<StepTaken, Refusal> {
        let now = self.gate.may_issue()?;
        let run = self.run_of(run, Some(agent)).await?;
        if run.phase == RunPhase::Closed {
            return Err(Refusal::new(Code::PhaseOrder, "the run is closed; open another one"));
        }
        fits(&step).map_err(|why| Refusal::new(Code::BadRequest, why))?;
        self.allowances.step(agent, now)?;
        self.room_in_run(&self.allowances.steps_of_run, run.id).await?;
        let untrusted = step.kind == StepKind::Observation || step.trust == Some(Trust::Untrusted);
        let mut event = Event::new(EventKind::StepRecorded, Actor::Agent(agent.clone()), now)
            .run(run.id)
            .fact("step", step.kind.name());
        if untrusted {
            event = event.fact("trust", "untrusted");
        }
        let digests =
            [("digest", step.digest), ("arguments", step.arguments_digest), ("result", step.result_digest)];
        for (name, digest) in digests {
            if let Some(digest) = digest {
                event = event.fact(name, digest.to_string());
            }
        }
        for (name, text) in [("tool", step.tool), ("source", step.source)] {
            if let Some(text) = text {
                event = event.text(SaltedText::new(name, text));
            }
        }
        let tainted_until = match untrusted {
            true => Some(self.taint(agent, run.id, event, now).await?),
            false => {
                let head = self.store.record(vec![event]).await.map_err(|e| self.gate.store_failed(&e))?;
                self.gate.committed(head);
                None
            }
        };
        Ok(StepTaken { kind: step.kind, tainted_until })
    }
}

/// Whether a step has the members of its kind, and no others.
fn fits(step: &Step) -> Result<(), String> {
    let named =
        |text: &Option<String>| text.as_ref().is_none_or(|text| (1..=MAX_SOURCE_BYTES).contains(&text.len()));
    if !named(&step.tool) || !named(&step.source) {
        return Err(format!("`tool` and `source` have 1 to {MAX_SOURCE_BYTES} bytes"));
    }
    // SECURITY: an agent may call what it read untrusted, never trusted.
    if step.trust == Some(Trust::Trusted) {
        return Err("`trust` is `untrusted` or left out: nothing an agent tells of is trusted".into());
    }
    let call = step.tool.is_some() || step.arguments_digest.is_some() || step.result_digest.is_some();
    match step.kind {
        StepKind::Prompt | StepKind::ModelOutput => match step.digest {
            _ if call || step.source.is_some() || step.trust.is_some() => {
                Err(format!("a `{}` has a `digest` and nothing else", step.kind.name()))
            }
            None => Err(format!("a `{}` has a `digest`", step.kind.name())),
            Some(_) => Ok(()),
        },
        StepKind::ToolCall if step.tool.is_none() => Err("a `tool_call` names its `tool`".into()),
        StepKind::ToolCall if step.digest.is_some() || step.source.is_some() => {
            Err("a `tool_call` has `arguments_digest` and `result_digest`, no `digest` and no `source`"
                .into())
        }
        StepKind::Observation if step.source.is_none() => Err("an `observation` names its `source`".into()),
        StepKind::Observation if call => Err("an `observation` has a `source` and a `digest`".into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn judged(step: Value) -> Result<(), String> {
        fits(&serde_json::from_value(step).map_err(|e| e.to_string())?)
    }

    #[test]
    fn a_step_has_the_members_of_its_kind_and_no_others() {
        let d = Digest::of(b"x");
        for good in [
            json!({"kind": "prompt", "digest": d}),
            json!({"kind": "model_output", "digest": d}),
            json!({"kind": "tool_call", "tool": "kubectl"}),
            json!({"kind": "tool_call", "tool": "kubectl", "arguments_digest": d, "result_digest": d,
                "trust": "untrusted"}),
            json!({"kind": "observation", "source": "a page"}),
            json!({"kind": "observation", "source": "a page", "digest": d, "trust": "untrusted"}),
        ] {
            judged(good).unwrap();
        }
        for bad in [
            json!({"kind": "prompt"}),
            json!({"kind": "prompt", "digest": d, "tool": "x"}),
            json!({"kind": "prompt", "digest": d, "trust": "untrusted"}),
            json!({"kind": "tool_call"}),
            json!({"kind": "tool_call", "tool": ""}),
            json!({"kind": "tool_call", "tool": "x".repeat(257)}),
            json!({"kind": "tool_call", "tool": "x", "digest": d}),
            json!({"kind": "observation"}),
            json!({"kind": "observation", "source": "x", "result_digest": d}),
            json!({"kind": "thought", "digest": d}),
            json!({"kind": "prompt", "digest": d, "text": "the prompt itself"}),
        ] {
            assert!(judged(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_agent_never_makes_anything_trusted() {
        for kind in [json!({"kind": "observation", "source": "x"}), json!({"kind": "tool_call", "tool": "x"})]
        {
            let mut raised = kind.clone();
            raised["trust"] = json!("trusted");
            assert!(judged(raised).unwrap_err().contains("nothing an agent tells"));
            let mut lowered = kind;
            lowered["trust"] = json!("untrusted");
            judged(lowered).unwrap();
        }
    }
}
