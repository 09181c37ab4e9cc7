//! What was found: one verdict for each lease, and what happened on our roles without one.

use std::collections::BTreeMap;

use serde::Serialize;

use super::coverage::Gap;
use crate::domain::id::{GrantId, LeaseId, RunId};
pub use crate::domain::reconciliation::Verdict;
use crate::domain::time::Timestamp;

/// One thing that a person should know about a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it counts as.
    pub verdict: Verdict,
    /// How many records say it.
    pub count: u64,
    /// When the first of them was, by AWS's clock.
    pub at: Option<Timestamp>,
    /// `eventID` of one of them.
    pub event: Option<String>,
    /// What happened.
    pub what: String,
    /// What to do.
    pub todo: String,
}

/// What CloudTrail says of one lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeaseReport {
    /// Which.
    pub lease: LeaseId,
    /// Its run.
    pub run: RunId,
    /// Its grant.
    pub grant: Option<GrantId>,
    /// Its phase.
    pub phase: String,
    /// Its agent.
    pub agent: String,
    /// What became of it.
    pub verdict: Verdict,
    /// Calls that AWS took.
    pub calls: u64,
    /// Calls that failed for another reason than a refusal.
    pub failed: u64,
    /// Calls that AWS refused.
    pub denied: u64,
    /// Whether the record of its mint is there.
    pub mint_seen: bool,
    /// Whether no file came of some hour in which it could be used.
    pub hours_missing: bool,
    /// Whether the records go on beyond its end, in each Region in which it could be used.
    pub reach_covered: bool,
    /// Approved actions of whose use a trail tells only when asked to, and of which there is no record.
    pub untold: Vec<String>,
    /// What keeps one from saying that all it did was told; nothing of it is matched meanwhile.
    pub unsure: Vec<&'static str>,
    /// Whether it needs review only because others name it: incidents of other sessions, records that cannot be read.
    pub named_only: bool,
    /// First and last call.
    pub first: Option<Timestamp>,
    /// First and last call.
    pub last: Option<Timestamp>,
    /// Seconds from its end to the first call that AWS refused after it: proof that it was dead by then.
    pub refused_after_end_seconds: Option<i64>,
    /// What a person should know.
    pub findings: Vec<Finding>,
}

/// Something on one of our roles that no lease explains, or that a lease contradicts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Incident {
    /// `unrecorded_session`, `unrecorded_use`, `chained_session`, `other_request`, `other_access_key`,
    /// `other_session_name`, `other_source_identity`, `other_account`, `other_role`, `other_session_time`, `other_federation`,
    /// `before_intent`, `unreleased_session` or `two_of_one_id`.
    pub kind: &'static str,
    /// The lease it speaks of.
    pub lease: Option<LeaseId>,
    /// The access key id of that lease, where the record is of it and not merely of whoever spells its name.
    pub key: Option<String>,
    /// When, by AWS's clock.
    pub at: Timestamp,
    /// `eventID`.
    pub event: String,
    /// What the record says.
    pub what: String,
    /// What to do.
    pub todo: &'static str,
}

/// Everything that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Records that were read.
    pub records: u64,
    /// Of these, about us.
    pub ours: u64,
    /// Of these, given more than once.
    pub duplicates: u64,
    /// Of these, that came after so many that they were not compared with those before.
    pub not_compared: u64,
    /// Of those about us, that are from before what is judged.
    pub passed_over: u64,
    /// That could not be read.
    pub unreadable: u64,
    /// Of the first unreadable ones, why.
    pub unreadable_because: Vec<String>,
    /// First and last instant of a record.
    pub first: Option<Timestamp>,
    /// First and last instant of a record.
    pub last: Option<Timestamp>,
    /// The leases, oldest first.
    pub leases: Vec<LeaseReport>,
    /// What no lease explains.
    pub incidents: Vec<Incident>,
    /// Incidents beyond those listed, of which whoever makes many could otherwise fill everything.
    pub more_incidents: u64,
    /// Hours between the first and the last file of an account and Region of which no file came.
    pub gaps: Vec<Gap>,
    /// Gaps beyond those listed.
    pub more_gaps: u64,
    /// Files whose names tell of no account, Region and time, so that no gap between them could be seen.
    pub unnamed_files: u64,
}

impl Report {
    /// Whether nothing was extra, late, forged or unrecorded, and nothing needs a person's eye.
    pub fn is_good(&self) -> bool {
        self.incidents.is_empty()
            && self.more_incidents == 0
            && self.unreadable == 0
            && !self.leases.iter().any(|lease| lease.verdict.is_bad())
    }

    /// How many leases had which verdict.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.leases.iter().fold(BTreeMap::new(), |mut counts, lease| {
            let count = counts.entry(lease.verdict.name()).or_insert(0_u64);
            *count = count.saturating_add(1);
            counts
        })
    }
}
