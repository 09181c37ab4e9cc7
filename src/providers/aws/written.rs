//! Whom a confirmed write of this process has denied, and since when: remembered longer than the sessions live, for a broker
//! that asks again because it did not hear the answer. Reads no clock, does no I/O.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::deny::DenyEntry;
use crate::domain::id::LeaseId;
use crate::domain::time::Timestamp;

/// Seconds after the last write that named a lease for which it is remembered.
const REMEMBERED_SECONDS: i64 = 3_600;

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Written(Mutex<HashMap<LeaseId, Denied>>);

#[derive(Debug)]
struct Denied {
    since: Timestamp,
    /// Seconds since boot, at the last write.
    last: i64,
}

impl Written {
    /// A write that was read back at `at` denies `entries`.
    pub(super) fn confirm(&self, entries: &[DenyEntry], at: Timestamp, boot: i64) {
        let mut denied = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        denied.retain(|_, denied| denied.last.saturating_add(REMEMBERED_SECONDS) > boot);
        for entry in entries {
            denied.entry(entry.lease).or_insert(Denied { since: at, last: boot }).last = boot;
        }
    }

    /// When a lease was first denied.
    pub(super) fn since(&self, lease: LeaseId) -> Option<Timestamp> {
        let denied = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        denied.get(&lease).map(|denied| denied.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    #[test]
    fn what_was_written_counts_from_its_first_write_and_is_forgotten_an_hour_after_its_last() {
        let entry = || DenyEntry { lease: LeaseId::generate(NOW), issued_at: NOW, hard_end: NOW.plus(930) };
        let (written, one, other) = (Written::default(), entry(), entry());
        written.confirm(&[one], NOW, 50);
        written.confirm(&[one, other], NOW.plus(30), 80);
        assert_eq!((written.since(one.lease), written.since(other.lease)), (Some(NOW), Some(NOW.plus(30))));
        written.confirm(&[other], NOW, 80 + REMEMBERED_SECONDS - 1);
        assert_eq!(written.since(one.lease), Some(NOW));
        written.confirm(&[other], NOW, 80 + REMEMBERED_SECONDS);
        assert_eq!((written.since(one.lease), written.since(other.lease)), (None, Some(NOW.plus(30))));
    }
}
