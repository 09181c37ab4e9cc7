//! An action as a grant carries it: the part of the plan that says what is done and how it can hurt.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::principal::ActionType;

/// What kind of harm an action can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionClass {
    /// Can take something down or bring it back.
    Availability,
    /// Can lose or disclose data.
    Data,
    /// Changes who may do what: secrets, privileges, trust.
    Trust,
}

impl ActionClass {
    /// The spelling used everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::Availability => "availability",
            Self::Data => "data",
            Self::Trust => "trust",
        }
    }
}

impl fmt::Display for ActionClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A parameter's value after its typed check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ParameterValue {
    /// A whole number.
    Integer(i64),
    /// Text that matched the parameter's pattern.
    Text(String),
}

impl fmt::Display for ParameterValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// Parameters by name.
pub type Parameters = BTreeMap<String, ParameterValue>;

/// Something that must still hold at the claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Precondition {
    /// What is looked at.
    pub name: String,
    /// What it must be.
    pub value: String,
}

/// The `action` member of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// Name of the catalog entry.
    #[serde(rename = "type")]
    pub action_type: ActionType,
    /// What it is done to, as limits count it: a service of the operator's, or of AWS.
    pub service: String,
    /// The one-line description of the catalog entry, parameters filled in; no word of it is the agent's.
    pub summary: String,
    /// Checked parameters.
    pub parameters: Parameters,
    /// Names of the parameters that the provider does not enforce.
    pub unenforced: Vec<String>,
    /// Kind of harm.
    pub class: ActionClass,
    /// Whether there is a way back.
    pub reversible: bool,
    /// The way back, in words or as an action type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<String>,
    /// How many things are changed.
    pub changes: u32,
    /// Exceptions the catalog entry names, such as `iam:PassRole`.
    pub exceptions: Vec<String>,
    /// AWS actions that no ARN narrows; conditions alone do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unscopable: Vec<String>,
    /// AWS actions that these may need beside them; they are shown and never added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependents: Vec<String>,
    /// Digest of an external plan, where given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_digest: Option<Digest>,
    /// What must still hold at the claim.
    pub preconditions: Vec<Precondition>,
}
