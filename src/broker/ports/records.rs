//! What the store gives back.

use serde::{Deserialize, Serialize};

use crate::domain::administration::SealedAdministration;
use crate::domain::approval::Approval;
use crate::domain::decision::Tier;
use crate::domain::digest::Digest;
use crate::domain::grant::{GrantState, SealedGrant};
use crate::domain::id::{DecisionId, GrantId};
use crate::domain::playbook::PlaybookState;
use crate::domain::proposal::Evidence;
use crate::domain::time::Timestamp;

/// How far the ledger has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Epoch of the store.
    pub epoch: u64,
    /// Number of events.
    pub size: u64,
    /// Time of the last event.
    pub at: Timestamp,
    /// Root hash of the tree over the events (RFC 6962). A head kept by a build before the tree had another digest here,
    /// which is never the root: such a store is fenced once.
    #[serde(alias = "last")]
    pub root: Digest,
}

/// A grant with everything that happened to it.
#[derive(Debug, Clone)]
pub struct GrantRecord {
    /// The sealed document.
    pub sealed: SealedGrant,
    /// Where it stands.
    pub state: GrantState,
    /// Counts every change; a writer names the one it read.
    pub revision: u64,
    /// Every verified token received, in order of receipt.
    pub approvals: Vec<Approval>,
    /// Until when it can be claimed, once the rule is complete.
    pub claim_until: Option<Timestamp>,
    /// The agent's own words (`None` after erasure).
    pub evidence: Option<Evidence>,
}

/// Where an administration grant stands.
pub type AdministrationState = GrantState;

/// An administration grant with everything that happened to it.
#[derive(Debug, Clone)]
pub struct AdministrationRecord {
    /// The sealed document.
    pub sealed: SealedAdministration,
    /// Pending, denied, lapsed or approved; approved means that it took effect.
    pub state: AdministrationState,
    /// Counts every change; a writer names the one it read.
    pub revision: u64,
    /// Every verified token received, in order of receipt.
    pub approvals: Vec<Approval>,
}

/// A playbook that people signed.
#[derive(Debug, Clone)]
pub struct PlaybookRecord {
    /// The grant that put it in force, with its signatures.
    pub administration: AdministrationRecord,
    /// Where it stands.
    pub state: PlaybookState,
    /// Opening reviews that are past due.
    pub overdue: u64,
}

/// One question put to the policy, whole, and what it answered: what a replay asks another policy set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionEntry {
    /// Its id.
    pub id: DecisionId,
    /// When.
    pub at: Timestamp,
    /// The grant it was about.
    pub grant: GrantId,
    /// `propose` or `claim`.
    pub moment: String,
    /// Everything the policy could see, as JSON.
    pub facts: String,
    /// The answer.
    pub tier: Tier,
    /// The policies that gave it.
    pub reasons: Vec<String>,
}

/// What happened in a run so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunHistory {
    /// Observe credentials issued.
    pub observations: u64,
    /// Grants sealed.
    pub proposals: u64,
    /// Execute credentials issued.
    pub claims: u64,
}

/// An event as stored.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    /// Its place in the ledger.
    pub index: u64,
    /// Its immutable bytes.
    pub bytes: Vec<u8>,
    /// Texts beside it that were not erased: name and value.
    pub texts: Vec<(String, String)>,
}
