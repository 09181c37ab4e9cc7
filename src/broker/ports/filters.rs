//! What is asked of the store, and how much of it.

use super::opening::Counted;
use super::records::{AdministrationRecord, GrantRecord, RunHistory};
use crate::domain::digest::Digest;
use crate::domain::id::RunId;
use crate::domain::lease::Lease;
use crate::domain::plan::ProviderKind;
use crate::domain::principal::AgentSlug;
use crate::domain::time::Timestamp;

/// What a decision asks of the store, in one reading.
#[derive(Debug, Clone)]
pub struct Inquiry {
    /// What was used up of these.
    pub counted: Vec<Counted>,
    /// What happened in this run.
    pub run: RunId,
    /// Whether any of these agents read something untrusted.
    pub agents: Vec<AgentSlug>,
    /// After this instant.
    pub untrusted_since: Timestamp,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stands {
    /// What counts for each, in the order asked.
    pub used: Vec<u64>,
    /// What happened in the run so far.
    pub history: RunHistory,
    /// When one of the agents last could read something untrusted; it may lie ahead, while a credential lives.
    pub last_untrusted: Option<Timestamp>,
}

/// Which leases to list.
#[derive(Debug, Clone, Default)]
pub struct LeaseFilter {
    /// Of this run.
    pub run: Option<RunId>,
    /// Of this agent.
    pub agent: Option<AgentSlug>,
    /// Of this provider.
    pub provider: Option<ProviderKind>,
    /// With this target (role ARN or audience).
    pub target: Option<String>,
    /// Only those that exist or may exist, or whose revocation is pending.
    pub open: bool,
    /// Only those whose early end was asked for, done or not.
    pub revoked: bool,
    /// Only those whose hard end is later than this instant.
    pub hard_end_after: Option<Timestamp>,
}

/// Which reviews to list.
#[derive(Debug, Clone, Default)]
pub struct ReviewFilter {
    /// Only open ones.
    pub open: bool,
    /// Of this playbook.
    pub playbook: Option<Digest>,
}

/// What has fallen due.
#[derive(Debug, Default)]
pub struct Due {
    /// Live leases whose `not_after` (UNKNOWN: `hard_end`) has passed.
    pub leases: Vec<Lease>,
    /// Leases whose revocation should be tried now.
    pub revocations: Vec<Lease>,
    /// Open grants whose approve_by (pending) or claim_until (approved) has passed.
    pub grants: Vec<GrantRecord>,
    /// Pending administration grants whose approve_by has passed.
    pub administrations: Vec<AdministrationRecord>,
}

/// How many grants are open, or may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenCount {
    /// Of one agent.
    pub own: u64,
    /// Of everybody.
    pub all: u64,
}
