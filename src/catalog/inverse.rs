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
        let named: Vec<String> = filled.iter().map(|(name, value)| named(name, value)).collect();
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

/// `name=value`, quoted where the value could be read as more than itself; no value holds a quote.
fn named(name: &str, value: &ParameterValue) -> String {
    let text = value.to_string();
    match text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:/@+-".contains(&b)) {
        true => format!("{name}={text}"),
        false => format!("{name}=\"{text}\""),
    }
}

/// Checked parameters as a proposal writes them.
pub(super) fn as_written(parameters: &Parameters) -> BTreeMap<String, Value> {
    let value = |value: &ParameterValue| match value {
        ParameterValue::Integer(number) => Value::from(*number),
        ParameterValue::Text(text) => Value::from(text.as_str()),
    };
    parameters.iter().map(|(name, given)| (name.clone(), value(given))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_pass_for_another_parameter() {
        let parameters = [
            ("group", Argument::Forward("group".into())),
            ("size", Argument::Literal(ParameterValue::Integer(-3))),
        ];
        let inverse = Inverse {
            action: "scale-group".parse().unwrap(),
            parameters: parameters.map(|(name, argument)| (name.to_owned(), argument)).into(),
            claim_seconds: 60,
        };
        let with = |group: &str| {
            inverse.describe(&Parameters::from([("group".into(), ParameterValue::Text(group.into()))]))
        };
        assert_eq!(with("web").unwrap(), "scale-group with group=web, size=-3");
        assert_eq!(with("web, size=9").unwrap(), "scale-group with group=\"web, size=9\", size=-3");
        let missing = inverse.describe(&Parameters::new()).unwrap_err();
        assert_eq!(missing, CompileError::MissingParameter { name: "group".into() });
    }

    #[test]
    fn only_a_name_alone_in_braces_is_a_parameter() {
        let of = |text: &str| Argument::of(&ParameterValue::Text(text.into()));
        assert_eq!(of("{group}"), Argument::Forward("group".into()));
        for literal in ["group", "{group", "group}", "web-{group}", "{group}-web"] {
            assert_eq!(of(literal), Argument::Literal(ParameterValue::Text(literal.into())), "{literal}");
        }
    }
}
