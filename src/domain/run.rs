//! A run: one piece of remediation work.

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::id::RunId;
use super::phase::RunPhase;
use super::principal::{AgentSlug, Attestation, Environment, PersonSlug};
use super::time::Timestamp;

/// The record of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The agent that opened it.
    pub agent: AgentSlug,
    /// Where it works.
    pub environment: Environment,
    /// Requester of record: the verified subject given when it opened, otherwise the agent's owner.
    pub requester: PersonSlug,
    /// Whether the requester asked in person, by a verified assertion.
    pub asked_in_person: bool,
    /// How the agent proved who it is when it opened the run; no weaker proof carries on.
    pub attestation: Attestation,
    /// Digest of the agent's prompt, where it sent one.
    pub prompt_digest: Option<Digest>,
    /// Where it stands.
    pub phase: RunPhase,
    /// When it was opened.
    pub opened_at: Timestamp,
}
