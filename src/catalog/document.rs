//! The catalog as an operator writes it. Unknown keys are refused; nothing here is checked beyond its shape.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::action::{ActionClass, ParameterValue};
use crate::domain::observation::Trust;
use crate::domain::plan::ProviderKind;
use crate::domain::web_identity::WebIdentity;

/// Values by condition key, by operator, as an IAM policy writes them.
pub(super) type Conditions = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogDocument {
    /// Targets by environment.
    #[serde(default)]
    pub environments: BTreeMap<String, EnvironmentDocument>,
    /// Action types by name.
    #[serde(default)]
    pub actions: BTreeMap<String, ActionDocument>,
    /// Read-only sets for observing, by name.
    #[serde(default)]
    pub observe: BTreeMap<String, ObserveDocument>,
}

impl CatalogDocument {
    /// Reads TOML; the error names line, column and key.
    pub fn from_toml(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}

/// Where the actions of one environment happen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentDocument {
    /// The AWS account and its phase roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsTargetDocument>,
    /// The resource that takes our own tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtTarget>,
}

/// One AWS account and region, with the roles that are assumed there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsTargetDocument {
    /// Twelve digits.
    pub account: String,
    /// The one region.
    pub region: String,
    /// Role of execute sessions of the classes `availability` and `data`.
    pub execute_role: String,
    /// So many roles in the place of `execute_role`, 2 to 8: it, and with the same name and `-1`, `-2`, … after it. Each
    /// has a Deny policy of its own, so that more early ends fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards: Option<u32>,
    /// Role of execute sessions of the class `trust`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_role: Option<String>,
    /// Role of observe sessions.
    pub observe_role: String,
    /// The issuer whose tokens execute sessions are made with; its signing key is held on the approvers' side. Without
    /// one the broker's own identity assumes the execute roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web_identity: Option<WebIdentity>,
    /// External id that the roles' trust policies ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// Further ARNs that no action may touch: the boundary, the revoker's role. The phase roles always count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protected: Vec<String>,
}

impl AwsTargetDocument {
    /// `execute_role`, and its shards.
    pub fn execute_roles(&self) -> Vec<String> {
        let count = self.shards.unwrap_or(1).min(super::resolved::MAX_SHARDS);
        let further = (1..count).map(|at| format!("{}-{at}", self.execute_role));
        std::iter::once(self.execute_role.clone()).chain(further).collect()
    }

    /// Every role that is assumed here.
    pub fn roles(&self) -> Vec<String> {
        let others = std::iter::once(self.observe_role.clone()).chain(self.trust_role.clone());
        self.execute_roles().into_iter().chain(others).collect()
    }
}

/// One resource server that takes our own tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtTarget {
    /// The one `aud` of a token.
    pub audience: String,
    /// Whether it asks us about every token, so that an early end holds at once.
    #[serde(default)]
    pub introspects: bool,
}

/// One action type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionDocument {
    /// One line for the approver; `{name}` stands for a parameter.
    pub summary: String,
    /// Who mints its credential.
    pub provider: ProviderKind,
    /// What it is done to, as limits count it; `{name}` stands for a parameter. Absent: the AWS service of the first
    /// action, or the name of the entry (`jwt`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Kind of harm.
    pub class: ActionClass,
    /// Why nothing has to be undone: what was changed comes back by itself, or nothing that exists is changed. An entry
    /// with neither this nor `inverse` is irreversible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settles: Option<String>,
    /// What takes it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inverse: Option<InverseDocument>,
    /// More about the way back, for people; it makes nothing reversible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<String>,
    /// How many things are changed.
    pub changes: u32,
    /// Longest work time, seconds, 1 to 600.
    pub max_work_seconds: u32,
    /// Where it may happen.
    pub environments: Vec<String>,
    /// Actions that vend credentials or run code and are allowed all the same; the approver sees them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<String>,
    /// Actions that no ARN narrows, only conditions; the approver sees them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unscopable: Vec<String>,
    /// Whether the session also gets the canary's statement, so that the broker can see that AWS takes it, and when it
    /// first refuses it after its early end; the approver sees it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub canary: bool,
    /// Parameters by name; all of them are needed.
    #[serde(default)]
    pub parameters: BTreeMap<String, ParameterDocument>,
    /// What the session may do (`aws`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statements: Vec<StatementDocument>,
}

/// The action that takes another one back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InverseDocument {
    /// An action type of this catalog.
    pub action: String,
    /// Each of its parameters: `{name}` alone, which is a parameter of the forward action, or a literal.
    #[serde(default)]
    pub parameters: BTreeMap<String, ParameterValue>,
    /// Seconds to claim it, 60 to 86400.
    #[serde(default = "an_hour")]
    pub claim_seconds: u32,
}

fn an_hour() -> u32 {
    3600
}

/// A parameter's type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum ParameterDocument {
    /// Text that matches a pattern as a whole.
    String {
        /// A regular expression over named characters; it is anchored at both ends.
        pattern: String,
        /// Longest value, in characters; 128 when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_length: Option<usize>,
    },
    /// A whole number.
    Integer {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// One of a few words.
    Choice {
        /// The words.
        values: Vec<String>,
    },
}

/// One Allow statement. Every action is evaluated against every resource, so each ARN must fit each action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatementDocument {
    /// Exact actions, `service:Name`.
    pub actions: Vec<String>,
    /// Exact ARNs; `{name}` stands for a parameter or `{account}`, `{region}`, `{partition}`.
    pub resources: Vec<String>,
    /// Conditions by operator and key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub conditions: Conditions,
}

/// One read-only set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObserveDocument {
    /// Who mints its credential.
    pub provider: ProviderKind,
    /// Where it may be used.
    pub environments: Vec<String>,
    /// Life of one credential, seconds, 60 to 900; it can be renewed inside the phase.
    pub seconds: u32,
    /// Who may have written what it shows; `untrusted` when absent.
    #[serde(default = "untrusted")]
    pub trust: Trust,
    /// Actions that return stored data and are read all the same; secrets, keys and credentials never are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data_reads: Vec<String>,
    /// What the session may read (`aws`); `resources = ["*"]` is allowed here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statements: Vec<StatementDocument>,
}

fn untrusted() -> Trust {
    Trust::Untrusted
}

/// Everything written that decides what an action type mints in an environment: what people sign with a playbook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TemplateDocument {
    pub(super) environment: String,
    pub(super) action: Half,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) inverse: Option<Half>,
}

/// An entry with the target that its provider uses, and the AWS account in which probes look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Half {
    pub(super) name: String,
    pub(super) entry: ActionDocument,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) aws: Option<AwsTargetDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) jwt: Option<JwtTarget>,
}
