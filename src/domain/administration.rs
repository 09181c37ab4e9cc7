//! A grant of type `administration`: what people sign about the broker itself. It names no provider and mints nothing.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::canonical::{self, CanonicalError};
use super::digest::Digest;
use super::freeze::FreezeKey;
use super::grant::VERSION;
use super::id::{DecisionId, GrantId};
use super::playbook::Playbook;
use super::principal::{AgentSlug, PersonSlug};
use super::rule::Rule;
use super::time::Timestamp;

/// A grant of type `administration`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Administration {
    /// Always [`VERSION`].
    pub version: u32,
    /// `administration`.
    #[serde(rename = "type")]
    pub kind: AdministrationKind,
    /// Its id.
    pub id: GrantId,
    /// Epoch of the store that sealed it.
    pub epoch: u64,
    /// The broker that sealed it.
    pub issuer: String,
    /// The person who asks, and so may not sign.
    pub requester: PersonSlug,
    /// Agents it is about, whose owners may not sign.
    pub agents: BTreeSet<AgentSlug>,
    /// What takes effect once the rule is complete.
    pub subject: Subject,
    /// Under which decision.
    pub decision: AdministrationDecision,
    /// When.
    pub time: AdministrationTimes,
}

/// Kinds of grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdministrationKind {
    /// Changes what the broker may do.
    Administration,
}

/// What an administration grant does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Subject {
    /// Lifts a freeze.
    Unfreeze(FreezeKey),
    /// Puts a playbook in force.
    Playbook(Box<Playbook>),
}

/// Who must sign, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdministrationDecision {
    /// Its id.
    pub id: DecisionId,
    /// Who must sign.
    pub rule: Rule,
    /// What gave the rule.
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
}

/// When an administration grant can be signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdministrationTimes {
    /// When it was sealed.
    pub sealed_at: Timestamp,
    /// Signatures count until here.
    pub approve_by: Timestamp,
    /// 128 random bits, base64url.
    pub nonce: String,
}

/// An administration grant with the exact bytes that are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedAdministration {
    document: Administration,
    bytes: Vec<u8>,
    digest: Digest,
}

impl SealedAdministration {
    /// Seals a document; its nonce is made here. Every text must be printable ASCII.
    pub fn seal(mut document: Administration) -> Result<Self, CanonicalError> {
        let nonce: [u8; 16] = rand::random();
        document.time.nonce = super::digest::encode(&nonce);
        Self::parse(&canonical::to_bytes(&document)?)
    }

    /// Parses received or stored bytes; they must be canonical and fit the closed schema.
    pub fn parse(bytes: &[u8]) -> Result<Self, CanonicalError> {
        let document: Administration = canonical::from_bytes(bytes)?;
        if document.version != VERSION {
            return Err(CanonicalError::Schema(format!("version {} is not {VERSION}", document.version)));
        }
        if super::digest::decode(&document.time.nonce).map(|n| n.len()) != Ok(16) {
            return Err(CanonicalError::Schema("`time.nonce` is not 128 bits of base64url".into()));
        }
        Ok(Self { document, bytes: bytes.to_vec(), digest: Digest::of(bytes) })
    }

    /// The document.
    pub fn document(&self) -> &Administration {
        &self.document
    }

    /// The exact bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the exact bytes: what an approval names, and what a playbook is known by.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The playbook, when it is one.
    pub fn playbook(&self) -> Option<&Playbook> {
        match &self.document.subject {
            Subject::Playbook(playbook) => Some(playbook),
            Subject::Unfreeze(_) => None,
        }
    }
}
