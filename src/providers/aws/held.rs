//! Whom a role's Deny policy has to deny, and for how long: until the latest end that the session can have, measured by the
//! clock that never steps. A wall clock that jumps ahead frees nobody. Reads no clock, does no I/O.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::deny::{DenyEntry, ISSUE_TIME_SLACK_SECONDS};
use crate::domain::id::LeaseId;
use crate::domain::lease::Lease;
use crate::domain::time::Timestamp;

/// Seconds that a session of unknown age may still live.
pub(super) const UNKNOWN_AGE_SECONDS: i64 = 930;

/// What both clocks say at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) wall: Timestamp,
    /// Seconds since boot.
    pub(super) boot: i64,
}

/// When the sessions that this process minted are over at the latest, in seconds since boot: it was there, whatever the wall
/// clock said.
#[derive(Debug, Default)]
pub(super) struct Births(Mutex<HashMap<LeaseId, i64>>);

impl Births {
    /// A lease is about to be minted, at `boot` seconds since boot. It counts from here: the wall clock may have been set since
    /// the lease was opened.
    pub(super) fn born(&self, entry: &DenyEntry, boot: i64) {
        let life = entry.hard_end.since(entry.issued_at);
        let mut born = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        born.retain(|_, until| *until > boot);
        born.insert(entry.lease, boot.saturating_add(life).saturating_add(ISSUE_TIME_SLACK_SECONDS));
    }

    /// Until when a session may act, in seconds since boot.
    pub(super) fn until(&self, entry: &DenyEntry, now: Moment) -> i64 {
        let born = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        born.get(&entry.lease).copied().unwrap_or_else(|| by_wall(entry, now))
    }
}

/// What the Deny document needs to know of a lease.
pub(super) fn entry(lease: &Lease) -> DenyEntry {
    DenyEntry { lease: lease.id, issued_at: lease.opened_at, hard_end: lease.hard_end }
}

/// As the wall clock has it now, and never longer than a whole life: it may have gone back since.
fn by_wall(entry: &DenyEntry, now: Moment) -> i64 {
    let left = entry.hard_end.since(now.wall).min(entry.hard_end.since(entry.issued_at));
    now.boot.saturating_add(left).saturating_add(ISSUE_TIME_SLACK_SECONDS)
}

/// Those that one role's policy has to deny.
#[derive(Debug, Default)]
pub(super) struct Held {
    entries: HashMap<LeaseId, (DenyEntry, i64)>,
    unnamed: Option<Unnamed>,
}

/// Sessions that an earlier policy denied without a name, and that nobody here knows.
#[derive(Debug, Clone, Copy)]
struct Unnamed {
    /// They were issued before this instant of AWS's clock.
    issued_before: Timestamp,
    /// When the last of them is over, in seconds since boot.
    until: i64,
}

impl Held {
    /// A lease is to be denied until `until` by the clock since boot. What is known of its end stays as it was first known.
    pub(super) fn deny(&mut self, entry: DenyEntry, until: i64) {
        self.entries.entry(entry.lease).and_modify(|held| held.0 = entry).or_insert((entry, until));
    }

    /// Takes over what a policy of ours denies that an earlier process wrote, or another broker.
    pub(super) fn adopt(&mut self, leases: Vec<LeaseId>, watermark: Option<Timestamp>, now: Moment) {
        let hard_end = now.wall.plus(UNKNOWN_AGE_SECONDS);
        let until = now.boot + UNKNOWN_AGE_SECONDS + ISSUE_TIME_SLACK_SECONDS;
        for lease in leases {
            let entry = DenyEntry { lease, issued_at: now.wall, hard_end };
            self.entries.entry(lease).or_insert((entry, until));
        }
        let Some(watermark) = watermark else { return };
        // SECURITY: a date that somebody wrote by hand shuts the role no longer than a session lives.
        let issued_before = watermark.min(hard_end.plus(ISSUE_TIME_SLACK_SECONDS));
        let issued_before = self.issued_before().map_or(issued_before, |known| known.max(issued_before));
        self.unnamed = Some(Unnamed { issued_before, until });
    }

    /// Forgets those that cannot act any more.
    pub(super) fn forget_dead(&mut self, boot: i64) {
        self.entries.retain(|_, (_, until)| *until > boot);
        self.unnamed = self.unnamed.filter(|unnamed| unnamed.until > boot);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.unnamed.is_none()
    }

    pub(super) fn contains(&self, lease: LeaseId) -> bool {
        self.entries.contains_key(&lease)
    }

    pub(super) fn entries(&self) -> Vec<DenyEntry> {
        self.entries.values().map(|(entry, _)| *entry).collect()
    }

    /// Before when those were issued that have to be denied without a name.
    pub(super) fn issued_before(&self) -> Option<Timestamp> {
        self.unnamed.map(|unnamed| unnamed.issued_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
    /// Of what a session may live beyond its hard end in our clock.
    const LATEST: i64 = UNKNOWN_AGE_SECONDS + ISSUE_TIME_SLACK_SECONDS;

    fn opened_at(issued_at: Timestamp) -> DenyEntry {
        DenyEntry {
            lease: LeaseId::generate(issued_at),
            issued_at,
            hard_end: issued_at.plus(UNKNOWN_AGE_SECONDS),
        }
    }

    fn held_since(entry: DenyEntry, now: Moment) -> Held {
        let mut held = Held::default();
        held.deny(entry, Births::default().until(&entry, now));
        held
    }

    fn holds(mut held: Held, boot: i64) -> bool {
        held.forget_dead(boot);
        !held.is_empty()
    }

    #[test]
    fn a_session_is_held_until_its_hard_end_and_the_slack_of_clocks_and_not_longer() {
        let now = Moment { wall: NOW, boot: 50 };
        assert!(holds(held_since(opened_at(NOW), now), 50 + LATEST - 1));
        assert!(!holds(held_since(opened_at(NOW), now), 50 + LATEST));
    }

    #[test]
    fn a_wall_clock_that_went_back_holds_nobody_longer_than_a_life() {
        let now = Moment { wall: NOW.plus(-86_400), boot: 50 };
        assert!(!holds(held_since(opened_at(NOW), now), 50 + LATEST));
    }

    #[test]
    fn what_this_process_minted_is_not_over_because_the_wall_clock_jumped() {
        let (entry, births) = (opened_at(NOW), Births::default());
        let jumped = Moment { wall: NOW.plus(86_400), boot: 60 };
        assert!(births.until(&entry, jumped) <= jumped.boot, "nobody saw it begin");
        births.born(&entry, 50);
        assert_eq!(births.until(&entry, jumped), 50 + LATEST);
    }

    #[test]
    fn the_date_of_an_adopted_watermark_is_kept_and_one_from_the_far_future_is_not() {
        let now = Moment { wall: NOW, boot: 50 };
        for (found, kept) in [(NOW.plus(165), NOW.plus(165)), (NOW.plus(86_400), NOW.plus(LATEST))] {
            let mut held = Held::default();
            held.adopt(Vec::new(), Some(found), now);
            assert_eq!(held.issued_before(), Some(kept));
            held.adopt(Vec::new(), Some(NOW), now);
            assert_eq!(held.issued_before(), Some(kept), "an older one takes nothing back");
            assert!(holds(held, 50 + LATEST - 1));
        }
    }
}
