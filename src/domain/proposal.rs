//! What an agent asks for while deciding. Every word of it is untrusted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::action::Precondition;
use super::digest::Digest;
use super::key::Thumbprint;
use super::principal::{ActionType, AgentSlug, Environment};

/// Longest diagnosis, evidence or reason, in bytes.
pub const MAX_TEXT_BYTES: usize = 4096;

/// A proposal as the agent wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// The catalog entry asked for.
    pub action: ActionType,
    /// Where.
    pub environment: Environment,
    /// Parameters as written; the catalog checks their types and patterns.
    #[serde(default)]
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// Seconds of work asked for; at most the catalog's longest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work_seconds: Option<u32>,
    /// The agent that will claim; the proposing one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claiming_agent: Option<AgentSlug>,
    /// Thumbprint of the DPoP key it will claim with, which is refused for anything else.
    pub claim_key: Thumbprint,
    /// Digest of an external plan (Terraform plan, change set).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_digest: Option<Digest>,
    /// What must still hold at the claim.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preconditions: Vec<Precondition>,
    /// A signed alert (compact JWS of a configured source) that may start a playbook; the agent only passes it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<String>,
    /// Thumbprint of the key the way back would be claimed with: asks for a grant of the inverse, signed in the same
    /// ceremony.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inverse_claim_key: Option<Thumbprint>,
    /// Asks people to sign under the break-glass rule.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
    /// What the agent says; shown apart, marked untrusted.
    #[serde(default)]
    pub story: Story,
}

/// The agent's own words.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Story {
    /// What it believes is wrong.
    #[serde(default)]
    pub diagnosis: String,
    /// What it saw.
    #[serde(default)]
    pub evidence: String,
    /// Why this action.
    #[serde(default)]
    pub reason: String,
}

impl Story {
    /// The first text that is too long, by name.
    pub fn too_long(&self) -> Option<&'static str> {
        [("diagnosis", &self.diagnosis), ("evidence", &self.evidence), ("reason", &self.reason)]
            .into_iter()
            .find(|(_, text)| text.len() > MAX_TEXT_BYTES)
            .map(|(name, _)| name)
    }
}

/// The agent's words with the salt that binds them to a grant; kept beside the grant, erasable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// 128 random bits.
    pub salt: [u8; 16],
    /// The words.
    pub story: Story,
}

impl Evidence {
    /// Salts `story` afresh.
    pub fn new(story: Story) -> Self {
        Self { salt: rand::random(), story }
    }

    /// SHA-256 over the salt and the three texts, each preceded by its length: the grant's `evidence` member.
    pub fn digest(&self) -> Digest {
        let mut all = self.salt.to_vec();
        for text in [&self.story.diagnosis, &self.story.evidence, &self.story.reason] {
            all.extend_from_slice(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            all.extend_from_slice(text.as_bytes());
        }
        Digest::tagged("phasebroker-evidence-v1", &all)
    }
}

/// Makes hidden characters visible: everything outside printable ASCII (line feeds aside) as `\u{…}`.
pub fn visible(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | ' '..='~' => c.to_string(),
            _ => c.escape_unicode().to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_become_visible() {
        assert_eq!(visible("ok\n"), "ok\n");
        assert_eq!(visible("a\u{202e}b\u{200b}\u{1b}[2J"), "a\\u{202e}b\\u{200b}\\u{1b}[2J");
    }
}
