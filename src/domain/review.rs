//! A post-action review: people look at what was done without a signature on it, by a due time.

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::id::{GrantId, LeaseId, ReviewId, RunId};
use super::principal::{GroupSlug, PersonSlug};
use super::time::Timestamp;

/// Where a review stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReviewState {
    /// Nobody has looked yet.
    Open,
    /// It was right.
    Accepted,
    /// It was wrong: its playbook is suspended.
    Rejected,
}

impl ReviewState {
    /// The spelling used everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
        }
    }

    /// Reads [`ReviewState::name`] back.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Open, Self::Accepted, Self::Rejected].into_iter().find(|state| state.name() == name)
    }
}

/// The record of a review; opened in the transaction that opens the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// Its id.
    pub id: ReviewId,
    /// The grant that was used.
    pub grant: GrantId,
    /// Its lease.
    pub lease: LeaseId,
    /// Its run.
    pub run: RunId,
    /// The playbook it was used under; `None` for break-glass.
    pub playbook: Option<Digest>,
    /// The group that owns it.
    pub owner: GroupSlug,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// Overdue from here on.
    pub due_at: Timestamp,
    /// Where it stands.
    pub state: ReviewState,
    /// Who looked, and when.
    pub decided: Option<(PersonSlug, Timestamp)>,
}

impl Review {
    /// Whether it switches its playbook off.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.state == ReviewState::Open && self.due_at.has_passed(now)
    }
}
