//! The calls of one lease, those that are the same to a judge counted together: what a session does, however much of it,
//! fills no memory.

use std::collections::BTreeMap;

use super::actions::of_event;
use super::allowed::{Touched, Touches};
use super::expected::Expected;
use super::record::Record;
use crate::domain::time::Timestamp;

/// Different calls of one lease that are told apart; what goes beyond is judged at once, and counted.
pub(super) const MAX_CALLS: usize = 256;
/// Characters of names that are kept.
const NAME_CHARS: usize = 128;

/// Calls that are the same to a judge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Call {
    pub(super) source: String,
    pub(super) name: String,
    pub(super) outcome: Outcome,
    pub(super) when: When,
    pub(super) touched: Kept,
    pub(super) by_service: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    Done,
    Failed(String),
    Denied(String),
}

/// When a call was, as far as the clocks allow to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum When {
    Alive,
    /// After its end, while that was not in force yet.
    Ended,
    /// After it had to be dead.
    Dead,
}

/// What is kept of what a call touched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kept {
    /// Where people signed, the answer alone: the resources of a session that tries many are one line.
    Judged(Class),
    /// Where the policy is only known from the trail, in which it may still follow.
    Raw(Touches),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Approved,
    Other,
    Unsaid,
}

/// How often, and one of them.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    pub(super) count: u64,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) event: String,
    /// What the earliest of them touched that was not approved, or why that is not known.
    pub(super) touched: Option<String>,
}

impl Call {
    /// Takes a record apart.
    pub(super) fn of(expected: &Expected, record: &Record) -> (Self, Tally) {
        let (touched, example) = match expected.allowed() {
            Some(allowed) => {
                let touches = Touches::of(record, true);
                match allowed.touched(&of_event(&record.source, &record.name), &touches) {
                    Touched::Approved => (Kept::Judged(Class::Approved), None),
                    Touched::Other(other) => (Kept::Judged(Class::Other), Some(other)),
                    Touched::Unsaid(why) => (Kept::Judged(Class::Unsaid), Some(why)),
                }
            }
            None => (Kept::Raw(Touches::of(record, false)), None),
        };
        let outcome = match record.error.as_deref().map(short) {
            None => Outcome::Done,
            Some(code) if record.denied() => Outcome::Denied(code),
            Some(code) => Outcome::Failed(code),
        };
        let call = Self {
            source: short(&record.source),
            name: short(&record.name),
            outcome,
            when: when(expected, record.at),
            touched,
            by_service: record.caller.invoked_by.as_deref().map(short),
        };
        let event: String = record.id.chars().take(NAME_CHARS).collect();
        (call, Tally { count: 1, first: record.at, last: record.at, event, touched: example })
    }
}

impl Tally {
    /// One more of the same.
    pub(super) fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.last = self.last.max(other.last);
        // Of two of one second, whichever comes first in the alphabet: the order of records changes nothing.
        if (other.first, &other.event) < (self.first, &self.event) {
            (self.first, self.event, self.touched) = (other.first, other.event, other.touched);
        }
    }
}

/// What was counted of a lease.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) denied: u64,
    pub(super) first: Option<Timestamp>,
    pub(super) last: Option<Timestamp>,
}

impl Counts {
    pub(super) fn add(&mut self, outcome: &Outcome, at: Timestamp) {
        let count = match outcome {
            Outcome::Done => &mut self.done,
            Outcome::Failed(_) => &mut self.failed,
            Outcome::Denied(_) => &mut self.denied,
        };
        *count = count.saturating_add(1);
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.last = Some(self.last.map_or(at, |last| last.max(at)));
    }
}

/// Calls by what makes them the same.
pub(super) type Calls = BTreeMap<Call, Tally>;

fn when(expected: &Expected, at: Timestamp) -> When {
    let (at, slack) = expected.here(at);
    let at = at.plus(-slack);
    let dead = expected.effective_by.map_or(expected.not_after, |by| by.min(expected.not_after));
    match expected.ended {
        _ if at > dead => When::Dead,
        Some(ended) if at > ended => When::Ended,
        _ => When::Alive,
    }
}

fn short(text: &str) -> String {
    text.chars().take(NAME_CHARS).collect()
}
