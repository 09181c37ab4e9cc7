//! The way back as an action: which action type takes another one back, with which of its parameters.
//!
//! It is derived from the catalog and the signed parameters alone, so that both grants can be signed in one ceremony.

use std::collections::BTreeMap;

use serde_json::Value;

use super::refused::CompileError;
use super::resolved::Catalog;
use crate::domain::action::{ParameterValue, Parameters};
use crate::domain::key::Thumbprint;
use crate::domain::plan::Plan;
use crate::domain::principal::{ActionType, AgentSlug, Environment};
use crate::domain::proposal::{Proposal, Story};

/// The action that takes another one back, checked.
#[derive(Debug, Clone)]
pub struct Inverse {
    pub(super) action: ActionType,
    pub(super) parameters: BTreeMap<String, Argument>,
    pub(super) claim_seconds: u32,
}

/// Where a parameter of the inverse action gets its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Argument {
    /// From this parameter of the forward action.
    Forward(String),
    /// Always this.
    Literal(ParameterValue),
}

impl Argument {
    /// Reads `{name}` as a parameter and everything else as itself.
    pub(super) fn of(written: &ParameterValue) -> Self {
        match written {
            ParameterValue::Text(text) => {
                match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                    Some(name) => Self::Forward(name.to_owned()),
                    None => Self::Literal(written.clone()),
                }
            }
            ParameterValue::Integer(_) => Self::Literal(written.clone()),
        }
    }
}

impl Inverse {
    /// The action type that takes it back.
    pub fn action(&self) -> &ActionType {
        &self.action
    }

    /// Seconds to claim it.
    pub fn claim_seconds(&self) -> u32 {
        self.claim_seconds
    }

    /// Its parameters, when the forward action has these.
    pub(super) fn fill(&self, forward: &Parameters) -> Result<Parameters, CompileError> {
        let filled = self.parameters.iter().map(|(name, argument)| {
            let value = match argument {
                Argument::Literal(value) => value,
                Argument::Forward(from) => {
                    forward.get(from).ok_or_else(|| CompileError::MissingParameter { name: from.clone() })?
                }
            };
            Ok((name.clone(), value.clone()))
        });
        filled.collect()
    }

    /// The way back in words: `scale-asg with desired=3, group=web`.
    pub(super) fn describe(&self, forward: &Parameters) -> Result<String, CompileError> {
        let filled = self.fill(forward)?;
        let named: Vec<String> = filled.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Ok(match named.is_empty() {
            true => self.action.to_string(),
            false => format!("{} with {}", self.action, named.join(", ")),
        })
    }
}

/// The proposal that takes `forward` back, and the seconds to claim it; `None` when the catalog names no inverse.
/// It asks for the longest work time, carries no word of the agent, and is compiled like any other.
pub fn inverse_proposal(
    forward: &Plan,
    environment: &Environment,
    claim_key: Thumbprint,
    claiming_agent: &AgentSlug,
    catalog: &Catalog,
) -> Result<Option<(Proposal, u32)>, CompileError> {
    let action = forward.action();
    let unknown = || CompileError::UnknownType(action.action_type.to_string());
    let entry = catalog.actions.get(&action.action_type).ok_or_else(unknown)?;
    let Some(inverse) = &entry.inverse else { return Ok(None) };
    let parameters = inverse.fill(&action.parameters)?;
    let proposal = Proposal {
        action: inverse.action.clone(),
        environment: environment.clone(),
        parameters: as_written(&parameters),
        work_seconds: None,
        claiming_agent: Some(claiming_agent.clone()),
        claim_key,
        plan_digest: None,
        preconditions: Vec::new(),
        alert: None,
        inverse_claim_key: None,
        break_glass: false,
        story: Story::default(),
    };
    Ok(Some((proposal, inverse.claim_seconds)))
}

/// Checked parameters as a proposal writes them.
pub(super) fn as_written(parameters: &Parameters) -> BTreeMap<String, Value> {
    let value = |value: &ParameterValue| match value {
        ParameterValue::Integer(number) => Value::from(*number),
        ParameterValue::Text(text) => Value::from(text.as_str()),
    };
    parameters.iter().map(|(name, given)| (name.clone(), value(given))).collect()
}
