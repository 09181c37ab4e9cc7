//! What an auditor asks of a log, in one pass over the events of a range: who approved what and how carefully, what
//! stands as an exception, what was done without a signature, how long things took, and what was never or late used.
//! "Used" is what the broker can see: released, completed, ended. What a credential did at its target, its logs tell.

mod approvers;
mod lives;
mod reconciled;
mod standing;

use serde::Serialize;

use super::events::ReadEvent;
use crate::domain::event::EventKind as E;
use crate::domain::time::Timestamp;

pub use approvers::{Approver, Signed};
pub use lives::{Autonomy, Late, Leases, Reviews, Times};
pub use reconciled::Reconciled;
pub use standing::{Exception, Override, Standing, StandingItem};

use approvers::Approvers;
use lives::Lives;

/// Seconds under which nobody has read a grant.
pub const HASTY_SECONDS: i64 = 10;

/// A report under way.
#[derive(Debug, Default)]
pub struct Reporter {
    events: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    approvers: Approvers,
    standing: standing::Reader,
    lives: Lives,
    reconciled: reconciled::Reader,
}

/// What the events of a range say.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Events of the range.
    pub events: u64,
    /// Time of the earliest.
    pub first: Option<Timestamp>,
    /// Time of the latest.
    pub last: Option<Timestamp>,
    /// Who answered what, most answers first.
    pub approvers: Vec<Approver>,
    /// What stands as an exception.
    pub standing: Standing,
    /// What was done by whose authority.
    pub autonomy: Autonomy,
    /// Post-action reviews.
    pub reviews: Reviews,
    /// How long things took.
    pub times: Times,
    /// What became of leases.
    pub leases: Leases,
    /// What providers' records say was done with them.
    pub reconciled: Reconciled,
}

/// How seconds are spread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// How many there are.
    pub count: u64,
    /// The shortest.
    pub least: Option<i64>,
    /// Half took no longer.
    pub p50: Option<i64>,
    /// 95 of 100 took no longer.
    pub p95: Option<i64>,
    /// The longest.
    pub most: Option<i64>,
}

impl Reporter {
    /// An event from before the range: it says what stands when the range begins, and nothing else.
    pub fn before(&mut self, event: &ReadEvent) {
        if let Some(kind) = event.kind.known() {
            self.standing.read(kind, event, false);
        }
    }

    /// The next event of the range.
    pub fn count(&mut self, event: &ReadEvent) {
        self.events = self.events.saturating_add(1);
        self.first = Some(self.first.map_or(event.at, |first| first.min(event.at)));
        self.last = Some(self.last.map_or(event.at, |last| last.max(event.at)));
        let Some(kind) = event.kind.known() else { return };
        self.standing.read(kind, event, true);
        self.lives.read(kind, event);
        self.reconciled.read(kind, event);
        match kind {
            E::GrantSealed => self.approvers.sealed(event),
            E::ApprovalReceived | E::GrantDenied | E::ApprovalWithdrawn => {
                self.approvers.answered(kind, event)
            }
            _ => {}
        }
    }

    /// The report, at `now`.
    pub fn finish(self, now: Timestamp) -> Report {
        let (autonomy, reviews, times, leases) = self.lives.finish(now);
        Report {
            events: self.events,
            first: self.first,
            last: self.last,
            approvers: self.approvers.finish(),
            standing: self.standing.finish(now),
            autonomy,
            reviews,
            times,
            leases,
            reconciled: self.reconciled.finish(),
        }
    }
}

impl Spread {
    /// Of these; the nearest rank counts.
    pub fn of(mut seconds: Vec<i64>) -> Self {
        seconds.sort_unstable();
        let rank = |percent: usize| {
            let at = seconds.len().saturating_mul(percent).div_ceil(100).saturating_sub(1);
            seconds.get(at).copied()
        };
        Self {
            count: u64::try_from(seconds.len()).unwrap_or(u64::MAX),
            least: seconds.first().copied(),
            p50: rank(50),
            p95: rank(95),
            most: seconds.last().copied(),
        }
    }
}

/// Of a hundred, rounded down; nothing of nothing.
fn percent(part: u64, whole: u64) -> Option<u64> {
    part.saturating_mul(100).checked_div(whole)
}

#[cfg(test)]
mod tests;
