//! What a person tells of a provider's records, as it is sent, and what they are answered.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::super::refusal::{Code, Refusal};
use crate::domain::digest::Digest;
use crate::domain::id::LeaseId;
use crate::domain::reconciliation::Verdict;
use crate::domain::time::Timestamp;

/// Leases of one request, and incidents.
pub const MAX_TOLD: usize = 200;
/// Longest id of a record, name of an incident's kind, and access key id.
const MAX_EVENT_CHARS: usize = 64;
const MAX_KIND_CHARS: usize = 32;
const MAX_KEY_CHARS: usize = 128;

/// What was found, for the ledger.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reconciliation {
    /// SHA-256 of the whole report, which is kept elsewhere.
    #[schema(value_type = String)]
    pub report: Digest,
    /// Records that were read for it.
    pub records: u64,
    /// First instant of a record, by the provider's clock.
    #[schema(value_type = Option<i64>)]
    pub first: Option<Timestamp>,
    /// Last instant of a record.
    #[schema(value_type = Option<i64>)]
    pub last: Option<Timestamp>,
    /// Verdicts on leases, at most 200.
    pub leases: Vec<LeaseFound>,
    /// Incidents, at most 200.
    pub incidents: Vec<IncidentFound>,
    /// Incidents of the report that are only counted, in no request.
    pub more_incidents: u64,
}

/// What the records say of one lease.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseFound {
    /// Which.
    #[schema(value_type = String)]
    pub lease: LeaseId,
    /// `matched`, `extra_call`, `denied_attempt`, `no_use`, `late_use`, `unobservable` or `needs_review`.
    #[schema(value_type = String)]
    pub verdict: Verdict,
    /// Calls that went through.
    pub calls: u64,
    /// Calls that failed for another reason than a refusal.
    pub failed: u64,
    /// Calls that were refused.
    pub denied: u64,
    /// Things that a person should know.
    pub findings: u64,
    /// Whether the record of its mint is there.
    pub mint_seen: bool,
    /// Whether records of some hour of its life are missing.
    pub hours_missing: bool,
    /// Whether the records go on beyond its end, wherever it could be used.
    pub reach_covered: bool,
    /// Whether it was allowed what a trail tells of only when asked to, and of which no record is there.
    pub untold: bool,
    /// Whether it needs review only because others name it; that freezes nobody.
    pub named_only: bool,
}

/// Something that no lease explains, or that a lease contradicts.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IncidentFound {
    /// What kind, such as `unrecorded_session`.
    pub kind: String,
    /// The lease it speaks of.
    #[schema(value_type = Option<String>)]
    pub lease: Option<LeaseId>,
    /// The access key id of that lease, where the record is of it and not merely of whoever spells its name; only then
    /// it may freeze the agent.
    pub key: Option<String>,
    /// When, by the provider's clock.
    #[schema(value_type = i64)]
    pub at: Timestamp,
    /// Id of the record, or `sha256:` and the digest of one that is no plain id.
    pub event: String,
}

/// What became of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReconciliationTaken {
    /// Events that were written.
    pub recorded: u64,
    /// What the ledger said already, and what is about leases that never had a credential.
    pub unchanged: u64,
    /// What the guardrails froze because of it.
    pub frozen: Vec<String>,
    /// What cannot be written; the rest is. What is bad of it has frozen its agent all the same.
    pub not_written: Vec<NotWritten>,
}

/// Something that cannot be written.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NotWritten {
    /// The lease that it is about.
    #[schema(value_type = Option<String>)]
    pub lease: Option<LeaseId>,
    /// The incident that it is, by the id of its record.
    pub event: Option<String>,
    /// Why.
    pub why: String,
}

pub(super) fn check(told: &Reconciliation) -> Result<(), Refusal> {
    let bad = |why: String| Err(Refusal::new(Code::BadRequest, why));
    if told.leases.len() > MAX_TOLD || told.incidents.len() > MAX_TOLD {
        return bad(format!(
            "at most {MAX_TOLD} leases and {MAX_TOLD} incidents at once; send the rest after them"
        ));
    }
    if told.leases.is_empty() && told.incidents.is_empty() && told.more_incidents == 0 {
        return bad("`leases` and `incidents` are both empty; there is nothing to write".into());
    }
    let twice = told.leases.iter().map(|one| one.lease).collect::<BTreeSet<_>>().len() != told.leases.len();
    if twice {
        return bad("a lease is there twice".into());
    }
    if told.leases.iter().any(|one| one.verdict == Verdict::Settling) {
        return bad("`settling` is no verdict; send it once it has settled".into());
    }
    let is_kind = |kind: &str| {
        (1..=MAX_KIND_CHARS).contains(&kind.len())
            && kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    let is_id = |id: &str| {
        (1..=MAX_EVENT_CHARS).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b':'))
    };
    let is_key = |key: &String| {
        (1..=MAX_KEY_CHARS).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    if !told.incidents.iter().filter_map(|one| one.key.as_ref()).all(is_key) {
        return bad("`key` is an access key id".into());
    }
    match told.incidents.iter().all(|one| is_kind(&one.kind) && is_id(&one.event)) {
        true => Ok(()),
        false => {
            bad("`kind` is a word of a-z and _, `event` an id of at most 64 letters, digits, -, _ and :"
                .into())
        }
    }
}
