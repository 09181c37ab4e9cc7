//! A plan: the compiled proposal, exact. Built only by `catalog::compile`; carries everything a provider will send.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::action::{Action, Parameters};
use super::principal::{ActionType, Environment};
use super::web_identity::WebIdentity;

/// The only placeholder in a session policy; replaced by `not_after` at the mint.
pub const NOT_AFTER_PLACEHOLDER: &str = "{{not_after}}";
/// Seconds of every AssumeRole: AWS's own floor.
pub const ASSUME_ROLE_SECONDS: u32 = 900;
/// Longest plaintext session policy STS takes, in characters (STS API reference, AssumeRole).
pub const MAX_SESSION_POLICY_CHARS: usize = 2048;

/// How soon a provider can end a credential before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revocability {
    /// The next use is refused.
    Immediate,
    /// After the provider's own propagation, a matter of seconds.
    Seconds,
    /// Not before its own end.
    AtExpiry,
}

impl fmt::Display for Revocability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Immediate => "immediate: the next use is refused",
            Self::Seconds => "seconds: after the provider's propagation, at the latest at the deadline",
            Self::AtExpiry => "at expiry only: it cannot be ended before its deadline",
        })
    }
}

/// One element of `authorization_details` (RFC 9396) of an execute token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorizationDetail {
    /// Always `phasebroker_action`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The action type.
    pub action: ActionType,
    /// The environment.
    pub environment: Environment,
    /// The parameters, exactly.
    pub parameters: Parameters,
}

/// Everything the `jwt` provider puts into the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtCredential {
    /// The one resource the token is for.
    pub audience: String,
    /// The one thing it may do there.
    pub authorization_details: Vec<AuthorizationDetail>,
    /// Longest work time, seconds.
    pub work_seconds: u32,
    /// How soon it can be ended early.
    pub revocability: Revocability,
}

/// Everything the `aws` provider sends in AssumeRole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsCredential {
    /// The role that is assumed.
    pub role_arn: String,
    /// Twelve digits.
    pub account: String,
    /// Region the child process is given.
    pub region: String,
    /// `<phase>-<lease id>`.
    pub session_name: String,
    /// The grant id for execute, the agent's slug for observe.
    pub source_identity: String,
    /// Session policy text with [`NOT_AFTER_PLACEHOLDER`] exactly once (execute).
    pub session_policy: String,
    /// Exactly `lease`, `phase`, `agent`, `grant`, and with a web identity `action` and the parameters; none transitive.
    pub tags: BTreeMap<String, String>,
    /// Whose token it is minted with, where the approvers' side signs one (execute).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web_identity: Option<WebIdentity>,
    /// External id of a cross-account role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// Always [`ASSUME_ROLE_SECONDS`].
    pub duration_seconds: u32,
    /// Longest work time, seconds.
    pub work_seconds: u32,
    /// How soon it can be ended early.
    pub revocability: Revocability,
}

/// The `credential` member of a grant: the exact request the provider will send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "provider", rename_all = "snake_case")]
pub enum Credential {
    /// A DPoP-bound access token of our own.
    Jwt(JwtCredential),
    /// An STS session.
    Aws(AwsCredential),
}

impl Credential {
    /// Which provider mints it.
    pub fn provider(&self) -> ProviderKind {
        match self {
            Self::Jwt(_) => ProviderKind::Jwt,
            Self::Aws(_) => ProviderKind::Aws,
        }
    }

    /// Longest work time, seconds.
    pub fn work_seconds(&self) -> u32 {
        match self {
            Self::Jwt(jwt) => jwt.work_seconds,
            Self::Aws(aws) => aws.work_seconds,
        }
    }

    /// Whose token it is minted with, where the approvers' side signs one.
    pub fn web_identity(&self) -> Option<&WebIdentity> {
        match self {
            Self::Jwt(_) => None,
            Self::Aws(aws) => aws.web_identity.as_ref(),
        }
    }

    /// How soon it can be ended early.
    pub fn revocability(&self) -> Revocability {
        match self {
            Self::Jwt(jwt) => jwt.revocability,
            Self::Aws(aws) => aws.revocability,
        }
    }
}

/// Kinds of provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// Tokens of our own.
    Jwt,
    /// AWS STS.
    Aws,
}

impl ProviderKind {
    /// The spelling used everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::Aws => "aws",
        }
    }
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The compiled proposal.
///
/// It has no public constructor: only the catalog makes one.
///
/// ```compile_fail
/// fn forge(action: phasebroker::domain::action::Action, credential: phasebroker::domain::plan::Credential) {
///     let plan = phasebroker::domain::plan::Plan { action, credential };
/// }
/// ```
///
/// ```
/// fn read(plan: &phasebroker::domain::plan::Plan) -> u32 {
///     plan.action().changes
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    action: Action,
    credential: Credential,
}

impl Plan {
    /// For `catalog::compile` alone (checked by `tests/architecture.rs`).
    pub(crate) fn compiled(action: Action, credential: Credential) -> Self {
        Self { action, credential }
    }

    /// What is done.
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// With exactly which credential.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }
}
