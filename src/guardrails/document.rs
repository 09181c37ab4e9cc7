//! The guardrails as an operator writes them. Unknown keys are refused; nothing here is checked beyond its shape.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::domain::alert::AlertSource;
use crate::domain::key::Custody;
use crate::domain::principal::{ActionType, Environment, GroupSlug, Name, PersonSlug};
use crate::domain::reconciliation::Concern;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardrailsDocument {
    /// People who wrote the rules in force (policies, catalog, directory, this file), for policies that separate duties.
    #[serde(default)]
    pub authors: BTreeSet<PersonSlug>,
    /// How long something untrusted that was read counts.
    pub taint: Taint,
    /// What a change weighs in the ledger of privilege.
    #[serde(default)]
    pub privilege: Privilege,
    /// What is counted, by name.
    #[serde(default)]
    pub budgets: BTreeMap<Name, Budget>,
    /// Who signs administration grants.
    pub administration: AdministrationRules,
    /// The rule for when policy would say no and there is no time; absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<BreakGlassDocument>,
    /// What the broker can look at itself, by name.
    #[serde(default)]
    pub probes: BTreeMap<Name, ProbeDocument>,
    /// What follows from what was done with credentials.
    #[serde(default, skip_serializing_if = "ReconcileRules::is_empty")]
    pub reconcile: ReconcileRules,
    /// Who may send signed alerts, by name.
    #[serde(default)]
    pub alerts: BTreeMap<Name, AlertSource>,
}

impl GuardrailsDocument {
    /// Reads TOML; the error names line, column and key.
    pub fn from_toml(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}

/// What follows from what was done with credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReconcileRules {
    /// What freezes the agent: `extra_call`, `late_use`, `needs_review`, `incident`; nothing where it is empty.
    #[serde(default)]
    pub freeze_on: BTreeSet<Concern>,
}

impl ReconcileRules {
    fn is_empty(&self) -> bool {
        self.freeze_on.is_empty()
    }
}

/// Taint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taint {
    /// Seconds for which an agent that read something untrusted is tainted, across runs.
    pub window_seconds: u32,
}

/// What one change weighs, by the harm it can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Privilege {
    /// Of the class `availability`.
    pub availability: u32,
    /// Of the class `data`.
    pub data: u32,
    /// Of the class `trust`.
    pub trust: u32,
    /// Times this, when it is not reversible.
    pub irreversible_times: u32,
}

impl Default for Privilege {
    fn default() -> Self {
        Self { availability: 1, data: 5, trust: 10, irreversible_times: 2 }
    }
}

/// Something that is counted over a sliding window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// What is added up.
    pub counts: Counts,
    /// Each combination of these has a count of its own; empty: one count for everything.
    pub per: BTreeSet<Dimension>,
    /// Length of the sliding window, seconds; absent: for ever (for a run: as long as it lasts).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
    /// Beyond this sum policy sees the budget's name in `context.crossed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_up_at: Option<u64>,
    /// Beyond this sum the answer is no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Only there; absent: everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environments: Option<BTreeSet<Environment>>,
}

/// What a budget adds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counts {
    /// Execute credentials.
    Uses,
    /// The changes of each action.
    Changes,
    /// Changes weighed by [`Privilege`].
    Privilege,
}

/// What tells counts of one budget apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// The run.
    Run,
    /// The agent that proposed.
    Agent,
    /// The environment.
    Environment,
    /// The AWS account, or the audience of our own tokens.
    Account,
    /// The service the action is done to.
    Service,
    /// The action type.
    Action,
}

/// Who signs administration grants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdministrationRules {
    /// Who signs that something may go on again.
    pub unfreeze: SignedBy,
    /// Seconds to collect the signatures of any administration grant.
    pub approve_seconds: u32,
}

/// A rule as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedBy {
    /// Approvals needed per group.
    pub approvals: BTreeMap<GroupSlug, u32>,
    /// Custodies accepted.
    pub custody: BTreeSet<Custody>,
    /// Whether the authors of the rules in force may not sign.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub separate_authors: bool,
}

/// The break-glass rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakGlassDocument {
    /// Who signs; two people at least.
    pub signed_by: SignedBy,
    /// Where it may be used.
    pub environments: BTreeSet<Environment>,
    /// For which action types; absent: for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<BTreeSet<ActionType>>,
    /// Seconds to collect the signatures, 60 to 900.
    pub approve_seconds: u32,
    /// Seconds to claim, 10 to 120.
    pub claim_seconds: u32,
    /// Longest work time, seconds, 10 to 300.
    pub work_seconds: u32,
    /// The group that reviews every use.
    pub review_owner: GroupSlug,
    /// Seconds after the claim at which the review is overdue.
    pub review_seconds: u32,
}

/// Something the broker reads itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeDocument {
    /// Read over HTTP; exactly one of this and `aws`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpRead>,
    /// Read from AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsRead>,
    /// JSON pointer (RFC 6901) to the value in the answer; a string, a whole number, `true`, `false` or `null`.
    pub pointer: String,
}

/// A GET of a JSON document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpRead {
    /// https, or http on loopback. `{name}` stands for a parameter of the action, as a whole path segment or a whole
    /// value of the query.
    pub url: String,
}

/// A call of an AWS service that speaks JSON (AWS JSON 1.0 or 1.1), signed by the broker's own identity for probes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsRead {
    /// The action, `service:Name`; it must only read or list, and nothing sensitive.
    pub action: String,
    /// `X-Amz-Target`, such as `AmazonEC2ContainerServiceV20141113.DescribeServices`.
    pub target: String,
    /// `1.0` or `1.1`.
    pub json_version: String,
    /// The request's JSON object. `{name}` inside one of its texts stands for a parameter of the action.
    pub body: String,
}
