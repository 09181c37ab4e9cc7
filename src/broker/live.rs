//! The live leases, in memory: what introspection asks, and what still ends when the store cannot be read or written.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::id::LeaseId;
use crate::domain::lease::{Lease, LeaseState, Revocation};
use crate::domain::phase::Phase;
use crate::domain::time::Timestamp;

use super::ports::LeaseChange;
use super::stop::UnfinishedStop;

/// A live lease and its deadline by the boot-time clock.
#[derive(Debug, Clone)]
pub struct LiveLease {
    /// The record.
    pub lease: Lease,
    /// Seconds since boot at which it is over whatever the wall clock says.
    pub boot_deadline: i64,
}

/// The mirror of every live lease of this process's store.
#[derive(Default)]
pub struct LiveLeases {
    live: Mutex<HashMap<LeaseId, LiveLease>>,
    /// The deadlines of those that ended, and whose provider must still be told, by the boot-time clock.
    leaving: Mutex<HashMap<LeaseId, i64>>,
    ending: Mutex<HashSet<LeaseId>>,
    stopped: Mutex<HashSet<LeaseId>>,
    unwritten: Mutex<Vec<LeaseChange>>,
    unrecorded: Mutex<BTreeSet<LeaseId>>,
    /// Those of this life, oldest first, but for so many that were forgotten.
    stops: Mutex<Vec<Arc<UnfinishedStop>>>,
    stops_before: AtomicUsize,
}

/// By how much the two clocks may differ over one lease without either having stepped, seconds.
const CLOCK_SLACK_SECONDS: i64 = 5;

/// How long a finished stop is remembered: whoever read the world before it is done by then, seconds.
const STOP_ECHO_SECONDS: i64 = 120;

impl LiveLeases {
    /// A lease became live, or took a step.
    pub fn put(&self, lease: &Lease, now: Timestamp, since_boot: i64) {
        let mut live = lock(&self.live);
        if !lease.state.is_live() {
            if let (Some(gone), Revocation::Pending { .. }) = (live.remove(&lease.id), lease.revocation) {
                lock(&self.leaving).insert(lease.id, gone.boot_deadline);
            }
            lock(&self.ending).remove(&lease.id);
            if lease.state == LeaseState::Ended {
                lock(&self.stopped).remove(&lease.id);
            }
            lock(&self.unrecorded).remove(&lease.id);
            return;
        }
        let left = lease.not_after.since(now).max(0);
        let entry = LiveLease { lease: lease.clone(), boot_deadline: since_boot.saturating_add(left) };
        live.entry(lease.id).and_modify(|old| old.lease = lease.clone()).or_insert(entry);
    }

    /// From this instant the lease answers as dead here, whatever the store says.
    pub fn kill(&self, id: LeaseId) {
        lock(&self.ending).insert(id);
    }

    /// Ending was refused: the lease is still what it was.
    pub fn unkill(&self, id: LeaseId) {
        lock(&self.ending).remove(&id);
    }

    /// A person stopped the lease while it may still be minted: whoever mints it looks here after each of its records.
    pub fn stop(&self, id: LeaseId) {
        lock(&self.stopped).insert(id);
    }

    /// Whether a person stopped the lease.
    pub fn is_stopped(&self, id: LeaseId) -> bool {
        lock(&self.stopped).contains(&id)
    }

    /// Whether a person stopped the lease; forgets it, since nothing of it is left.
    pub fn take_stopped(&self, id: LeaseId) -> bool {
        lock(&self.stopped).remove(&id)
    }

    /// A lease that may be used at `now`: released, not ending, not past either clock.
    pub fn usable(&self, id: LeaseId, now: Timestamp, since_boot: i64) -> Option<Lease> {
        if lock(&self.ending).contains(&id) {
            return None;
        }
        let live = lock(&self.live);
        let entry = live.get(&id)?;
        let usable = entry.lease.state == LeaseState::Released
            && !entry.lease.not_after.has_passed(now)
            && since_boot < entry.boot_deadline;
        usable.then(|| entry.lease.clone())
    }

    /// Whether `end`, an end of this lease, is past. The provider's clock does not step with ours: a wall clock that jumps
    /// ahead ends a lease here, and not the session there. What this process did not see begin has the wall clock alone.
    pub fn is_past(&self, lease: &Lease, end: Timestamp, now: Timestamp, since_boot: i64) -> bool {
        let seen = lock(&self.live).get(&lease.id).map(|entry| entry.boot_deadline);
        let seen = seen.or_else(|| lock(&self.leaving).get(&lease.id).copied());
        seen.map_or(end.has_passed(now), |deadline| {
            let by_boot = deadline.saturating_add(end.since(lease.not_after));
            let nearly = by_boot.saturating_sub(CLOCK_SLACK_SECONDS);
            since_boot > by_boot || (end.has_passed(now) && since_boot >= nearly)
        })
    }

    /// The provider of an ended lease need not be told any more.
    pub fn has_left(&self, id: LeaseId) {
        lock(&self.leaving).remove(&id);
    }

    /// Every live lease.
    pub fn all(&self) -> Vec<LiveLease> {
        lock(&self.live).values().cloned().collect()
    }

    /// How many are live in a phase.
    pub fn count(&self, phase: Phase) -> usize {
        lock(&self.live).values().filter(|entry| entry.lease.phase == phase).count()
    }

    /// INVARIANT: stop-always-works. An end that could not be written, to be written when it can.
    pub fn keep_unwritten(&self, change: LeaseChange) {
        lock(&self.unwritten).push(change);
    }

    /// A lease whose end the store could not take; remembered until its record says that it is over.
    pub fn mark_unrecorded(&self, id: LeaseId) {
        lock(&self.unrecorded).insert(id);
    }

    /// The leases whose ends the store could not take.
    pub fn unrecorded(&self) -> BTreeSet<LeaseId> {
        lock(&self.unrecorded).clone()
    }

    /// Whether an end waits to be written.
    pub fn has_unwritten(&self) -> bool {
        !lock(&self.unwritten).is_empty()
    }

    /// INVARIANT: stop-always-works. A stop under way: nothing it concerns is claimed until it is finished.
    pub fn keep_stop(&self, stop: Arc<UnfinishedStop>) {
        lock(&self.stops).push(stop);
    }

    /// Stops that are not finished.
    pub fn stops(&self) -> Vec<Arc<UnfinishedStop>> {
        lock(&self.stops).iter().filter(|stop| !stop.is_finished()).cloned().collect()
    }

    /// How many stops there were in this life, to be given to [`LiveLeases::stops_after`].
    pub fn stops_so_far(&self) -> usize {
        self.stops_before.load(Ordering::SeqCst) + lock(&self.stops).len()
    }

    /// Stops that began after `mark` was read, finished or not. One that is forgotten concerns nothing sealed since.
    pub fn stops_after(&self, mark: usize) -> Vec<Arc<UnfinishedStop>> {
        let stops = lock(&self.stops);
        let forgotten = self.stops_before.load(Ordering::SeqCst);
        stops.iter().skip(mark.saturating_sub(forgotten)).cloned().collect()
    }

    /// Forgets stops that were finished long ago, oldest first.
    pub fn forget_stops(&self, now: Timestamp) {
        let mut stops = lock(&self.stops);
        let old = |stop: &Arc<UnfinishedStop>| stop.is_finished() && now.since(stop.at()) > STOP_ECHO_SECONDS;
        let count = stops.iter().take_while(|stop| old(stop)).count();
        stops.drain(..count);
        self.stops_before.fetch_add(count, Ordering::SeqCst);
    }

    /// Takes the ends that could not be written so far.
    pub fn take_unwritten(&self) -> Vec<LeaseChange> {
        std::mem::take(&mut lock(&self.unwritten))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
