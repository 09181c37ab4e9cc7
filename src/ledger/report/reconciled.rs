//! What people found when they held a provider's records against leases: the last word on each, and every bad one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use crate::domain::event::EventKind as E;
use crate::domain::id::LeaseId;
use crate::domain::reconciliation::Verdict;
use crate::ledger::events::ReadEvent;

/// Approved versus done.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Reconciled {
    /// Leases by the last verdict of the range.
    pub verdicts: BTreeMap<String, u64>,
    /// Leases of which a verdict of the range was bad, whatever was said later.
    pub bad: Vec<LeaseId>,
    /// Incidents, by kind.
    pub incidents: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
pub(super) struct Reader {
    last: HashMap<LeaseId, String>,
    bad: BTreeSet<LeaseId>,
    incidents: BTreeMap<String, u64>,
}

impl Reader {
    pub(super) fn read(&mut self, kind: E, event: &ReadEvent) {
        match (kind, event.lease) {
            (E::Reconciled, Some(lease)) => {
                let verdict = event.fact_text("verdict").unwrap_or("?");
                // A verdict of a newer version is not taken for a good one.
                if Verdict::from_name(verdict).is_none_or(Verdict::is_bad) {
                    self.bad.insert(lease);
                }
                self.last.insert(lease, verdict.to_owned());
            }
            (E::IncidentFound, _) => {
                let count =
                    self.incidents.entry(event.fact_text("kind").unwrap_or("?").to_owned()).or_default();
                // Of many, only the number was told.
                let more = event.fact_number("count").and_then(|count| u64::try_from(count).ok());
                *count = count.saturating_add(more.unwrap_or(1));
            }
            _ => {}
        }
    }

    pub(super) fn finish(self) -> Reconciled {
        let verdicts = self.last.into_values().fold(BTreeMap::new(), |mut counts, verdict| {
            let count = counts.entry(verdict).or_insert(0_u64);
            *count = count.saturating_add(1);
            counts
        });
        Reconciled { verdicts, bad: self.bad.into_iter().collect(), incidents: self.incidents }
    }
}
