//! The lives that a log tells, followed from its first event to its last, and what must not be in them: a credential
//! without an approved grant, a grant spent twice, an approval that counts twice, a step that skips one, a run with a
//! gap. Pure, one pass, in the order of the index. Memory follows what is open; of what ended the ids alone are kept, so
//! that nothing begins twice: 16 bytes each, 160 MB for ten million leases.

mod grant;
mod lease;
mod run;

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use super::events::{ReadEvent, ReadKind};
use crate::domain::event::EventKind as E;
use crate::domain::id::{GrantId, LeaseId, RunId};
use crate::domain::time::Timestamp;

use grant::{Grant, Playbook};
use lease::Lease;
use run::Run;

/// Findings that are kept; more are counted.
const MOST_FINDINGS: usize = 1_000;
/// Seconds by which what issues may be recorded late: one use case reads the clock once, and may look at the world.
const LATE_SECONDS: i64 = 300;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The event at which it shows.
    pub index: u64,
    /// The rule that is broken, in one word.
    pub rule: &'static str,
    /// What is wrong.
    pub text: String,
}

/// A log, as far as it was followed.
#[derive(Debug)]
pub struct Lives {
    /// Index of the first event that was there; what began before it is not known.
    first: u64,
    next: u64,
    at: Timestamp,
    epoch: Option<u64>,
    /// No epoch below this one follows: a fence passes over those that are known elsewhere.
    least_epoch: u64,
    /// Whether an event named the one before it in its run: older ones did not.
    chained: bool,
    runs: HashMap<RunId, Run>,
    grants: HashMap<GrantId, Grant>,
    /// By the grant that is taken back, the one that takes it back.
    ways_back: HashMap<GrantId, GrantId>,
    /// By digest; kept for good, since people sign few.
    playbooks: HashMap<String, Playbook>,
    leases: HashMap<LeaseId, Lease>,
    reviews: HashMap<String, OpenReview>,
    /// Grants that are spent or dead; kept for good, like the next two.
    gone_grants: HashSet<GrantId>,
    /// Leases that are over.
    gone_leases: HashSet<LeaseId>,
    /// Every approval there ever was.
    approvals: HashSet<String>,
    newer: BTreeMap<String, u64>,
    findings: Vec<Finding>,
    more: u64,
}

/// A lease without an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenLease {
    /// Which.
    pub lease: LeaseId,
    /// Where it stands.
    pub state: &'static str,
    /// Index of its intent.
    pub index: u64,
    /// When it was opened.
    pub since: Timestamp,
    /// Its deadline, where its intent names one.
    pub not_after: Option<Timestamp>,
    /// Whether the log goes on past that deadline.
    pub overdue: bool,
}

/// A review that nobody has decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenReview {
    /// Its id.
    pub review: String,
    /// The lease it is about.
    pub lease: Option<LeaseId>,
    /// Index of its opening.
    pub index: u64,
    /// By when somebody has to look.
    pub due_at: Option<Timestamp>,
}

/// What following a log to its end gave.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Followed {
    /// Events followed.
    pub events: u64,
    /// The epoch at the end, where the log tells.
    pub epoch: Option<u64>,
    /// What must not be, at most 1,000 of it.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub more_findings: u64,
    /// Leases without an end, oldest first.
    pub open_leases: Vec<OpenLease>,
    /// Reviews that wait, oldest first.
    pub open_reviews: Vec<OpenReview>,
    /// Grants that wait for signatures or a claim.
    pub open_grants: u64,
    /// Kinds of event this version does not know, with how many of each: nothing was checked about them.
    pub newer_kinds: BTreeMap<String, u64>,
}

impl Lives {
    /// A log whose first event is `first`; zero unless it was pruned.
    pub fn from(first: u64) -> Self {
        Self {
            first,
            next: first,
            at: Timestamp::from_seconds(i64::MIN),
            epoch: (first == 0).then_some(1),
            least_epoch: 1,
            chained: false,
            runs: HashMap::new(),
            grants: HashMap::new(),
            ways_back: HashMap::new(),
            playbooks: HashMap::new(),
            leases: HashMap::new(),
            reviews: HashMap::new(),
            gone_grants: HashSet::new(),
            gone_leases: HashSet::new(),
            approvals: HashSet::new(),
            newer: BTreeMap::new(),
            findings: Vec::new(),
            more: 0,
        }
    }

    /// Follows the next event.
    pub fn follow(&mut self, index: u64, event: &ReadEvent) {
        if index != self.next {
            let text = format!(
                "event {} is missing: {index} comes after {}",
                self.next,
                self.next.saturating_sub(1)
            );
            self.found(index, "order", text);
        }
        self.next = index.saturating_add(1);
        self.time(index, event);
        self.chain(index, event);
        let Some(kind) = event.kind.known() else {
            *self.newer.entry(event.kind.name().to_owned()).or_default() += 1;
            return;
        };
        match kind {
            E::BrokerStarted => self.started(index, event),
            E::StoreFenced => self.fenced(index, event),
            E::RunOpened | E::RunClosed | E::PhaseEntered => self.run_event(index, kind, event),
            E::GrantSealed | E::AdministrationSealed => self.sealed(index, kind, event),
            E::ApprovalReceived | E::GrantDenied | E::ApprovalWithdrawn => self.answered(index, kind, event),
            E::GrantApproved | E::GrantCancelled | E::GrantLapsed => self.moved(index, kind, event),
            E::BreakGlassAsked | E::BreakGlassUsed => self.break_glass(index, kind, event),
            E::Unfrozen | E::PlaybookSigned => self.took_effect(index, kind, event),
            E::PlaybookSuspended => self.suspended(event),
            E::LeaseIntent => self.intent(index, event),
            E::LeaseRefused | E::LeaseUnknown | E::LeaseMinted | E::LeaseReleased | E::LeaseEnded => {
                self.step(index, kind, event);
            }
            E::ReviewOpened | E::ReviewAccepted | E::ReviewRejected | E::ReviewOverdue => {
                self.review(index, kind, event);
            }
            E::RevocationSeen | E::RevocationUnseen => self.seen(index, kind, event),
            E::Reconciled | E::IncidentFound => self.reconciled(index, kind, event),
            // They change no life that is followed here.
            _ => {}
        }
    }

    /// Bytes that are no event stand where one must be.
    pub fn unreadable(&mut self, index: u64, why: &str) {
        self.found(index, "event", format!("the bytes are not an event: {why}"));
        self.next = index.saturating_add(1);
    }

    /// The end of the log.
    pub fn finish(self) -> Followed {
        let mut open_leases: Vec<OpenLease> =
            self.leases.iter().map(|(id, lease)| lease.open(*id, self.at)).collect();
        open_leases.sort_by_key(|lease| lease.index);
        let mut open_reviews: Vec<OpenReview> = self.reviews.into_values().collect();
        open_reviews.sort_by_key(|review| review.index);
        let open_grants = self.grants.values().filter(|grant| grant.is_open()).count();
        Followed {
            events: self.next.saturating_sub(self.first),
            epoch: self.epoch,
            findings: self.findings,
            more_findings: self.more,
            open_leases,
            open_reviews,
            open_grants: u64::try_from(open_grants).unwrap_or(u64::MAX),
            newer_kinds: self.newer,
        }
    }

    /// Whether all of the log was there: only then is what is not known a finding.
    fn is_whole(&self) -> bool {
        self.first == 0
    }

    fn found(&mut self, index: u64, rule: &'static str, text: String) {
        match self.findings.len() < MOST_FINDINGS {
            true => self.findings.push(Finding { index, rule, text }),
            false => self.more = self.more.saturating_add(1),
        }
    }

    /// INVARIANT: time-never-runs-back. Ends may be recorded late, when the store could not take them; what issues may not.
    fn time(&mut self, index: u64, event: &ReadEvent) {
        if event.is(E::StoreFenced) {
            // An operator has looked at the clock.
            self.at = event.at;
            return;
        }
        if issues(&event.kind) && event.at < self.at.plus(-LATE_SECONDS) {
            let text = format!("{} is of {}, but the log had come to {}", event.kind, event.at, self.at);
            self.found(index, "time", text);
        }
        self.at = self.at.max(event.at);
    }

    fn started(&mut self, index: u64, event: &ReadEvent) {
        self.is_in_epoch(index, event, "a broker starts");
    }

    /// An event of the broker's start, and of a claim, names the epoch that the log is in.
    fn is_in_epoch(&mut self, index: u64, event: &ReadEvent, what: &str) {
        let says = event.fact_number("epoch").and_then(|epoch| u64::try_from(epoch).ok());
        let Some(says) = says else {
            return self.found(index, "epoch", format!("{what}, and no epoch is named"));
        };
        match self.epoch {
            Some(epoch) if says != epoch => {
                self.found(index, "epoch", format!("{what} in epoch {says}; the log is in {epoch}"));
            }
            None if says < self.least_epoch => {
                let least = self.least_epoch;
                self.found(index, "epoch", format!("{what} in epoch {says}; the log is in {least} or later"));
            }
            None => self.epoch = Some(says),
            Some(_) => {}
        }
    }

    /// A new epoch: nobody signs or claims what is older.
    fn fenced(&mut self, index: u64, event: &ReadEvent) {
        let number = |name| event.fact_number(name).and_then(|number| u64::try_from(number).ok());
        let old = number("old_epoch");
        if let (Some(epoch), Some(old)) = (self.epoch, old)
            && old != epoch
        {
            self.found(index, "epoch", format!("a fence after epoch {old}; the log is in {epoch}"));
        }
        if old.is_none() {
            self.found(index, "epoch", "a fence that does not name the epoch before it".into());
        }
        if number("old_size") != Some(index) {
            self.found(
                index,
                "epoch",
                format!("a fence that counts other events than the {index} before it"),
            );
        }
        self.least_epoch = old.or(self.epoch).unwrap_or(self.least_epoch).saturating_add(1);
        self.epoch = None;
        self.grants.values_mut().for_each(Grant::outlive_its_epoch);
        self.playbooks.values_mut().for_each(Playbook::suspend);
    }

    fn review(&mut self, index: u64, kind: E, event: &ReadEvent) {
        let Some(review) = event.fact_text("review").map(str::to_owned) else {
            return self.found(index, "review", format!("{kind} names no review", kind = kind.name()));
        };
        match kind {
            E::ReviewOpened => {
                let due_at = event.fact_number("due_at").map(Timestamp::from_seconds);
                let open = OpenReview { review: review.clone(), lease: event.lease, index, due_at };
                if self.reviews.insert(review.clone(), open).is_some() {
                    self.found(index, "review", format!("review {review} is opened twice"));
                }
            }
            E::ReviewOverdue if self.reviews.contains_key(&review) => {}
            _ if self.reviews.remove(&review).is_some() || !self.is_whole() => {}
            _ => self.found(index, "review", format!("{}: review {review} is not open", kind.name())),
        }
    }
}

/// Whether an event hands something out, or says that somebody may have it.
fn issues(kind: &ReadKind) -> bool {
    let issuing = [
        E::RunOpened,
        E::PhaseEntered,
        E::GrantSealed,
        E::ApprovalReceived,
        E::GrantApproved,
        E::LeaseIntent,
        E::AdministrationSealed,
    ];
    kind.known().is_some_and(|kind| issuing.contains(&kind))
}

#[cfg(test)]
mod tests;
