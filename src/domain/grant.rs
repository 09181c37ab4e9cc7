//! The grant: plan, decision, ids and times, sealed into one canonical document. This is what people sign.
//! The bytes are the authority: they are stored, sent, hashed and signed, and never written a second time.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::action::Action;
use super::alert::StartingAlert;
use super::canonical::{self, CanonicalError};
use super::decision::{Terms, Tier};
use super::digest::Digest;
use super::id::{DecisionId, GrantId, LeaseId, RunId};
use super::key::Thumbprint;
use super::plan::{Credential, Plan};
use super::principal::{AgentSlug, Attestation, Environment, PersonSlug};
use super::rule::Rule;
use super::time::Timestamp;

/// The version every document of this schema carries.
pub const VERSION: u32 = 1;

/// A grant of type `credential`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Always [`VERSION`].
    pub version: u32,
    /// `credential`; `administration` grants have their own schema and mint nothing.
    #[serde(rename = "type")]
    pub kind: GrantKind,
    /// Its id.
    pub id: GrantId,
    /// Epoch of the store that sealed it; grants of older epochs are dead.
    pub epoch: u64,
    /// The broker that sealed it.
    pub issuer: String,
    /// Where the action happens.
    pub environment: Environment,
    /// Who.
    pub who: Who,
    /// What is done.
    pub action: Action,
    /// With exactly which credential.
    pub credential: Credential,
    /// Under which decision.
    pub decision: DecisionRecord,
    /// Salted digest of everything the agent wrote.
    pub evidence: Digest,
    /// When and how often.
    pub time: Times,
}

/// Kinds of grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantKind {
    /// Mints one credential.
    Credential,
}

/// The `who` member of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Who {
    /// The run it belongs to.
    pub run: RunId,
    /// The agent that proposed.
    pub proposing_agent: AgentSlug,
    /// The agent that may claim.
    pub claiming_agent: AgentSlug,
    /// Thumbprint (RFC 7638) of the key it must claim with.
    pub claim_key: Thumbprint,
    /// On whose behalf.
    pub requester: PersonSlug,
    /// Whether the requester asked in person, by a verified assertion, instead of owning the agent.
    pub asked_in_person: bool,
    /// How the proposing agent proved who it is.
    pub attestation: Attestation,
}

/// The `decision` member of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionRecord {
    /// Its id.
    pub id: DecisionId,
    /// Which answer.
    pub tier: Tier,
    /// Who must sign.
    pub rule: Rule,
    /// The policies that decided.
    pub reasons: Vec<String>,
    /// Digest of the policy set.
    pub policy: Digest,
    /// Digest of the catalog.
    pub catalog: Digest,
    /// Digest of the directory.
    pub directory: Digest,
    /// Digest of the guardrails.
    pub guardrails: Digest,
    /// Authors of the rules in force, who may not sign, where the rule separates them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub authors: BTreeSet<PersonSlug>,
    /// Digest of the playbook, for an autonomous grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub playbook: Option<Digest>,
    /// The signed alert that started it, which starts nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<StartingAlert>,
    /// Whether people sign under the break-glass rule instead of the policy's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
}

/// The `time` member of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Times {
    /// The lease this grant can become; one use.
    pub lease: LeaseId,
    /// The inverse grant, where one was made with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inverse: Option<Inverse>,
    /// The grant this one takes back; it can be claimed only after that one's credential was released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inverse_of: Option<GrantId>,
    /// When it was sealed.
    pub sealed_at: Timestamp,
    /// Signatures count until here.
    pub approve_by: Timestamp,
    /// Seconds to claim after the approval that completed the rule.
    pub claim_seconds: u32,
    /// It can be claimed until here at the latest.
    pub claim_by: Timestamp,
    /// Seconds of work once claimed.
    pub work_seconds: u32,
    /// 128 random bits, base64url.
    pub nonce: String,
}

/// Longest time to sign, seconds.
pub const MAX_APPROVE_SECONDS: u32 = 86_400;
/// Longest time to claim after the last signature, seconds.
pub const MAX_CLAIM_SECONDS: u32 = 3_600;
/// The same of a grant that takes another one back.
pub const MAX_WAY_BACK_SECONDS: u32 = 86_400;

impl Times {
    /// Whether the grant lives no longer than any policy can say. Who signs asks for it, and does not believe its broker.
    pub fn is_short(&self) -> bool {
        let most = if self.inverse_of.is_some() { MAX_WAY_BACK_SECONDS } else { MAX_CLAIM_SECONDS };
        self.claim_seconds <= most
            && (0..=i64::from(MAX_APPROVE_SECONDS)).contains(&self.approve_by.since(self.sealed_at))
            && self.claim_by == self.approve_by.plus(i64::from(self.claim_seconds))
    }
}

/// The inverse of a grant, signed in the same ceremony.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inverse {
    /// Its id.
    pub grant: GrantId,
    /// SHA-256 of its bytes.
    pub digest: Digest,
}

/// Everything a grant has beside its plan and terms.
#[derive(Debug, Clone)]
pub struct Circumstances {
    /// Its id.
    pub id: GrantId,
    /// The lease it can become.
    pub lease: LeaseId,
    /// Epoch of the store.
    pub epoch: u64,
    /// The broker's issuer URL.
    pub issuer: String,
    /// Where.
    pub environment: Environment,
    /// Who.
    pub who: Who,
    /// The decision's id.
    pub decision: DecisionId,
    /// Why.
    pub reasons: Vec<String>,
    /// Digest of the policy set.
    pub policy: Digest,
    /// Digest of the catalog.
    pub catalog: Digest,
    /// Digest of the directory.
    pub directory: Digest,
    /// Digest of the guardrails.
    pub guardrails: Digest,
    /// Under which authority it will be claimed.
    pub standing: Standing,
    /// Salted digest of the agent's words.
    pub evidence: Digest,
    /// Now.
    pub now: Timestamp,
}

/// What a grant rests on, beside the plan and the terms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Authors of the rules in force, who may not sign; empty unless the rule separates them.
    pub authors: BTreeSet<PersonSlug>,
    /// The playbook it lies inside: nobody signs the grant itself.
    pub playbook: Option<Digest>,
    /// The signed alert that started it.
    pub alert: Option<StartingAlert>,
    /// The break-glass rule stands in for the policy's.
    pub break_glass: bool,
    /// A suggestion: nobody signs, and nothing can be claimed.
    pub suggested: bool,
    /// The inverse grant made with it.
    pub inverse: Option<Inverse>,
    /// The grant it takes back.
    pub inverse_of: Option<GrantId>,
}

impl Standing {
    fn tier(&self) -> Tier {
        match (self.suggested, self.playbook) {
            (true, _) => Tier::SuggestOnly,
            (false, Some(_)) => Tier::Autonomous,
            (false, None) => Tier::NeedsApproval,
        }
    }
}

/// A grant with the exact bytes that are signed, and their digest.
///
/// ```compile_fail
/// fn forge(grant: phasebroker::domain::grant::Grant) -> phasebroker::domain::grant::SealedGrant {
///     phasebroker::domain::grant::SealedGrant { grant, bytes: vec![] }
/// }
/// ```
///
/// ```
/// fn read(bytes: &[u8]) -> Option<phasebroker::domain::grant::SealedGrant> {
///     phasebroker::domain::grant::SealedGrant::parse(bytes).ok()
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedGrant {
    grant: Grant,
    bytes: Vec<u8>,
    digest: Digest,
}

impl SealedGrant {
    /// Seals a plan under `terms`. Every text must be printable ASCII.
    pub fn seal(plan: &Plan, terms: &Terms, around: Circumstances) -> Result<Self, CanonicalError> {
        let nonce: [u8; 16] = rand::random();
        let approve_by = around.now.plus(i64::from(terms.approve_seconds));
        let grant = Grant {
            version: VERSION,
            kind: GrantKind::Credential,
            id: around.id,
            epoch: around.epoch,
            issuer: around.issuer,
            environment: around.environment,
            who: around.who,
            action: plan.action().clone(),
            credential: plan.credential().clone(),
            decision: DecisionRecord {
                id: around.decision,
                tier: around.standing.tier(),
                rule: if around.standing.suggested { Rule::nobody() } else { terms.rule.clone() },
                reasons: around.reasons,
                policy: around.policy,
                catalog: around.catalog,
                directory: around.directory,
                guardrails: around.guardrails,
                authors: around.standing.authors,
                playbook: around.standing.playbook,
                alert: around.standing.alert,
                break_glass: around.standing.break_glass,
            },
            evidence: around.evidence,
            time: Times {
                lease: around.lease,
                inverse: around.standing.inverse,
                inverse_of: around.standing.inverse_of,
                sealed_at: around.now,
                approve_by,
                claim_seconds: terms.claim_seconds,
                claim_by: approve_by.plus(i64::from(terms.claim_seconds)),
                work_seconds: terms.work_seconds.min(plan.credential().work_seconds()),
                nonce: super::digest::encode(&nonce),
            },
        };
        let bytes = canonical::to_bytes(&grant)?;
        Self::parse(&bytes)
    }

    /// Parses received or stored bytes; they must be canonical and fit the closed schema.
    pub fn parse(bytes: &[u8]) -> Result<Self, CanonicalError> {
        let grant: Grant = canonical::from_bytes(bytes)?;
        if grant.version != VERSION {
            return Err(CanonicalError::Schema(format!("version {} is not {VERSION}", grant.version)));
        }
        if super::digest::decode(&grant.time.nonce).map(|n| n.len()) != Ok(16) {
            return Err(CanonicalError::Schema("`time.nonce` is not 128 bits of base64url".into()));
        }
        Ok(Self { grant, bytes: bytes.to_vec(), digest: Digest::of(bytes) })
    }

    /// The document.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The exact bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the exact bytes: what an approval names.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// Where a grant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantState {
    /// Waiting for signatures.
    Pending,
    /// A person said no.
    Denied,
    /// Rendered for a person to carry out.
    Suggested,
    /// The full rule is satisfied.
    Approved,
    /// Its time ran out.
    Lapsed,
    /// An approver took a signature back after the rule was complete.
    Withdrawn,
    /// The requester stopped asking.
    Cancelled,
    /// Spent.
    Claimed,
}

impl GrantState {
    /// Every state.
    pub const ALL: [GrantState; 8] = [
        Self::Pending,
        Self::Denied,
        Self::Suggested,
        Self::Approved,
        Self::Lapsed,
        Self::Withdrawn,
        Self::Cancelled,
        Self::Claimed,
    ];

    /// The spelling used everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Denied => "denied",
            Self::Suggested => "suggested",
            Self::Approved => "approved",
            Self::Lapsed => "lapsed",
            Self::Withdrawn => "withdrawn",
            Self::Cancelled => "cancelled",
            Self::Claimed => "claimed",
        }
    }

    /// Reads [`GrantState::name`] back.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether anything can still change it.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Approved)
    }
}

impl std::fmt::Display for GrantState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
