//! What the broker answers to people. All of it is the broker's word; `sign` believes none of it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::domain::approval::Answer;
use crate::domain::digest::Digest;
use crate::domain::id::GrantId;
use crate::domain::proposal::Story;
use crate::domain::time::Timestamp;

/// `GET /v1/approvals`
#[derive(Debug, Deserialize)]
pub struct OpenGrants {
    /// Grants that can still change.
    pub approvals: Vec<OpenGrant>,
}

/// A row of `GET /v1/approvals`.
#[derive(Debug, Deserialize)]
pub struct OpenGrant {
    /// Its id.
    pub grant: GrantId,
    /// `credential` or `administration`.
    pub kind: String,
    /// SHA-256 of its bytes, as the broker says.
    pub digest: Digest,
    /// The short code, as the broker says.
    pub short_code: String,
    /// The catalog entry's one line.
    pub summary: String,
    /// Where.
    pub environment: String,
    /// Kind of harm.
    pub class: String,
    /// Who asks.
    pub agent: String,
    /// On whose behalf.
    pub requester: String,
    /// Where it stands.
    pub state: String,
    /// Signatures count until here.
    pub approve_by: Timestamp,
    /// Approvals missing per group.
    #[serde(default)]
    pub outstanding: BTreeMap<String, u32>,
    /// Whether the caller may sign it.
    pub you_may_sign: bool,
    /// Why not.
    #[serde(default)]
    pub why_not: Option<String>,
}

/// `GET /v1/grants/{grant}/document`
#[derive(Debug, Deserialize)]
pub struct Document {
    /// The id it was asked for.
    pub grant: GrantId,
    /// Base64url of the exact bytes.
    pub document: String,
    /// Where it stands.
    pub state: String,
    /// What people said so far.
    #[serde(default)]
    pub approvals: Vec<Given>,
    /// Approvals missing per group.
    #[serde(default)]
    pub outstanding: BTreeMap<String, u32>,
    /// It can be claimed until here.
    #[serde(default)]
    pub claim_until: Option<Timestamp>,
    /// The agent's own words.
    #[serde(default)]
    pub story: Option<Story>,
    /// Base64url of the 16 bytes that bind the words to the grant.
    #[serde(default)]
    pub evidence_salt: Option<String>,
    /// What the broker knows beside the document.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What one person said.
#[derive(Debug, Deserialize)]
pub struct Given {
    /// Who.
    pub person: String,
    /// What.
    pub decision: Answer,
    /// When the broker received it.
    pub received_at: Timestamp,
}

/// The answer to a posted approval token.
#[derive(Debug, Deserialize)]
pub struct Received {
    /// The grant it counts for.
    pub grant: GrantId,
    /// Where that stands now.
    pub state: String,
    /// What was said.
    pub decision: Answer,
    /// Approvals missing per group.
    #[serde(default)]
    pub outstanding: BTreeMap<String, u32>,
    /// It can be claimed until here.
    #[serde(default)]
    pub claim_until: Option<Timestamp>,
}

/// `1 of sre, 2 of security`, or `nothing`.
pub fn missing(outstanding: &BTreeMap<String, u32>) -> String {
    let parts: Vec<String> = outstanding.iter().map(|(group, count)| format!("{count} of {group}")).collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}
