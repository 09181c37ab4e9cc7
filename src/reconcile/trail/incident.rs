//! Incidents: kept in three lists of their own lengths, so that whoever makes many of one kind hides none of another.

use super::super::record::Record;
use super::super::report::Incident;
use super::{Trail, cut};

/// Incidents that are listed: about access keys of ours, of others that name a lease, and of no lease. More are counted.
const MOST: [usize; 3] = [1_000, 500, 200];

impl Trail {
    pub(super) fn incident(
        &mut self,
        kind: &'static str,
        lease: Option<usize>,
        record: &Record,
        what: String,
        todo: &'static str,
    ) {
        // SECURITY: a session name, a role and a source identity are chosen by whoever asks for a session; the access key
        // id that the ledger holds is not.
        let keys = [record.caller.access_key.as_deref(), record.new_access_key()];
        let is_own = |key: &&str| lease.is_some() && self.by_key.get(*key).copied() == lease;
        let key = keys.into_iter().flatten().find(is_own).map(str::to_owned);
        let lease = lease.and_then(|at| self.leases.get_mut(at));
        if self.scope.run.is_some_and(|run| lease.as_ref().is_none_or(|(expected, _)| expected.run != run)) {
            return;
        }
        let list = match (&key, &lease) {
            (Some(_), _) => 0,
            (None, Some(_)) => 1,
            (None, None) => 2,
        };
        let lease = lease.map(|(expected, seen)| {
            let count = if key.is_some() { &mut seen.incidents } else { &mut seen.named_by };
            *count = count.saturating_add(1);
            expected.lease
        });
        let (Some(listed), Some(most)) = (self.listed.get_mut(list), MOST.get(list)) else { return };
        if *listed >= *most {
            self.report.more_incidents = self.report.more_incidents.saturating_add(1);
            return;
        }
        *listed = listed.saturating_add(1);
        let (at, event) = (record.at, cut(&record.id));
        self.report.incidents.push(Incident { kind, lease, key, at, event, what, todo });
    }
}
