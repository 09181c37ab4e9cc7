//! Leases: INTENT, then REFUSED or UNKNOWN, ENDED or MINTED, ENDED or MINTED, RELEASED, ENDED, and nothing else.

use super::{Lives, OpenLease};
use crate::domain::event::EventKind as E;
use crate::domain::id::{GrantId, LeaseId, RunId};
use crate::domain::lease::LeaseState;
use crate::domain::time::Timestamp;
use crate::ledger::events::ReadEvent;

/// A lease without an end.
#[derive(Debug)]
pub(super) struct Lease {
    state: LeaseState,
    index: u64,
    since: Timestamp,
    not_after: Option<Timestamp>,
    run: Option<RunId>,
    grant: Option<GrantId>,
}

impl Lease {
    /// As people see it, in a log that has come to `at`.
    pub(super) fn open(&self, lease: LeaseId, at: Timestamp) -> OpenLease {
        OpenLease {
            lease,
            state: self.state.name(),
            index: self.index,
            since: self.since,
            not_after: self.not_after,
            overdue: self.not_after.is_some_and(|end| end.has_passed(at)),
        }
    }
}

impl Lives {
    /// What a provider's records say of a lease is told of one that had a credential, before its end or after it. An
    /// incident need not be of a lease.
    pub(super) fn reconciled(&mut self, index: u64, kind: E, event: &ReadEvent) {
        let name = kind.name();
        let Some(id) = event.lease else {
            if kind == E::Reconciled {
                self.found(index, "lease", format!("{name} names no lease"));
            }
            return;
        };
        match self.leases.get(&id) {
            Some(lease) if lease.state == LeaseState::Intent => {
                self.found(index, "lease", format!("{name} of lease {id}, which has no credential yet"));
            }
            Some(lease)
                if event.run != lease.run || (event.grant.is_some() && event.grant != lease.grant) =>
            {
                let text = format!("{name}: lease {id} is of another run or grant than it was opened for");
                self.found(index, "lease", text);
            }
            None if self.is_whole() && !self.gone_leases.contains(&id) => {
                self.found(index, "lease", format!("{name} of lease {id}, which was never opened"));
            }
            _ => {}
        }
    }

    /// What a canary saw is told of a lease that is over, and says when the provider refused it, not later than it is told.
    pub(super) fn seen(&mut self, index: u64, kind: E, event: &ReadEvent) {
        let name = kind.name();
        let Some(id) = event.lease else {
            return self.found(index, "lease", format!("{name} names no lease"));
        };
        if self.leases.contains_key(&id) || (self.is_whole() && !self.gone_leases.contains(&id)) {
            self.found(index, "lease", format!("{name} of lease {id}, which is not over"));
        }
        let at = event.fact_number("denied_at");
        if kind == E::RevocationSeen && at.is_none_or(|at| at > event.at.seconds()) {
            self.found(index, "lease", format!("{name} of lease {id} does not say when it was refused"));
        }
    }

    pub(super) fn intent(&mut self, index: u64, event: &ReadEvent) {
        let (Some(id), Some(run)) = (event.lease, event.run) else {
            return self.found(index, "lease", "lease.intent names no lease or no run".into());
        };
        self.must_be_open(index, run, "lease.intent");
        let executes = event.fact_text("phase") == Some("execute");
        match (executes, event.grant) {
            (true, Some(grant)) => self.spend(index, grant, event),
            (false, None) => {}
            (true, None) => self.found(index, "grant", format!("lease {id} executes without a grant")),
            (false, Some(grant)) => {
                self.found(index, "grant", format!("lease {id} spends grant {grant}, but does not execute"));
            }
        }
        if event.grant.is_some() {
            self.is_in_epoch(index, event, "a grant is spent");
        }
        let lease = Lease {
            state: LeaseState::Intent,
            index,
            since: event.at,
            not_after: event.fact_number("not_after").map(Timestamp::from_seconds),
            run: Some(run),
            grant: event.grant,
        };
        if self.leases.insert(id, lease).is_some() {
            self.found(index, "lease", format!("lease {id} is opened again, though it had not ended"));
        } else if self.gone_leases.contains(&id) {
            self.found(index, "lease", format!("lease {id} is opened again after it was over"));
        }
    }

    pub(super) fn step(&mut self, index: u64, kind: E, event: &ReadEvent) {
        let Some(id) = event.lease else {
            return self.found(index, "lease", format!("{} names no lease", kind.name()));
        };
        let next = match kind {
            E::LeaseRefused => LeaseState::Refused,
            E::LeaseUnknown => LeaseState::Unknown,
            E::LeaseMinted => LeaseState::Minted,
            E::LeaseReleased => LeaseState::Released,
            _ => LeaseState::Ended,
        };
        let Some(lease) = self.leases.get_mut(&id) else {
            let gone = match next {
                LeaseState::Ended => !self.gone_leases.insert(id),
                _ => self.gone_leases.contains(&id),
            };
            if self.is_whole() || gone {
                let text = format!("{} of lease {id}, which was never opened, or is over", kind.name());
                self.found(index, "lease", text);
            }
            return;
        };
        let (stood, run, grant) = (lease.state, lease.run, lease.grant);
        lease.state = next;
        if !stood.may_become(next) {
            self.found(index, "lease", format!("lease {id} goes from {stood} to {next}"));
        }
        if event.run != run || (event.grant.is_some() && event.grant != grant) {
            let text =
                format!("{}: lease {id} is of another run or grant than it was opened for", kind.name());
            self.found(index, "lease", text);
        }
        match (next, grant) {
            (LeaseState::Refused, _) => {
                self.leases.remove(&id);
                self.reviews.retain(|_, review| review.lease != Some(id));
                match grant {
                    // Nothing was minted: the grant, which names this lease, may be claimed again.
                    Some(grant) => {
                        let closed = run.is_some_and(|run| self.is_closed(run));
                        self.give_back(grant, closed);
                    }
                    None => drop(self.gone_leases.insert(id)),
                }
            }
            (LeaseState::Ended, _) => {
                self.leases.remove(&id);
                self.gone_leases.insert(id);
            }
            (LeaseState::Released, Some(grant)) => self.released(grant),
            (LeaseState::Minted | LeaseState::Unknown, Some(grant)) => self.spent(grant),
            _ => {}
        }
    }
}
