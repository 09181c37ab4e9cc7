//! What is searched for among events, and a page of what was found.

use super::records::StoredEvent;
use crate::domain::decision::Tier;
use crate::domain::event::EventKind;
use crate::domain::id::{GrantId, LeaseId, RunId};
use crate::domain::lease::Outcome;
use crate::domain::principal::{ActionType, AgentSlug, Environment, PersonSlug};
use crate::domain::time::Timestamp;

/// Events that one search looks at; the next one goes on from there.
pub const SEARCHED_AT_ONCE: u64 = 20_000;

/// Which events; what is absent narrows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// At or after this instant.
    pub since: Option<Timestamp>,
    /// Before this instant.
    pub until: Option<Timestamp>,
    /// Of one of these kinds; of any when empty.
    pub kinds: Vec<EventKind>,
    /// Of this run.
    pub run: Option<RunId>,
    /// About this grant.
    pub grant: Option<GrantId>,
    /// About this lease.
    pub lease: Option<LeaseId>,
    /// Done by this agent, in its run, or about a grant or lease of its.
    pub agent: Option<AgentSlug>,
    /// Done by this person.
    pub person: Option<PersonSlug>,
    /// In this environment, by the event itself, its run or its grant.
    pub environment: Option<Environment>,
    /// About a grant or lease for this action type.
    pub action: Option<ActionType>,
    /// About a grant that policy decided so; `deny`: refused by policy.
    pub decision: Option<Tier>,
    /// The end of work with this outcome.
    pub outcome: Option<Outcome>,
}

/// What a search found.
#[derive(Debug, Clone)]
pub struct EventPage {
    /// In the order of the log.
    pub events: Vec<StoredEvent>,
    /// Where the next search goes on; `head` when everything was looked at.
    pub next: u64,
    /// Number of events in the log.
    pub head: u64,
}
