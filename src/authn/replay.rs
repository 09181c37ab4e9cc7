//! Single use: what was accepted once is refused until it could no longer be accepted anyway.
//! Bounded, in memory, and fail-closed when full. A restart forgets nothing: what was signed before the process
//! started is refused.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

use crate::domain::digest::Digest;
use crate::domain::time::Timestamp;

/// Most entries remembered at a time.
const CAPACITY: usize = 1 << 20;
/// Locks taken by different entries, so that callers rarely wait for one another.
const SHARDS: usize = 16;
/// Longest `jti` accepted, in bytes.
const MAX_JTI_BYTES: usize = 128;
/// Shortest `jti` accepted: shorter ones collide.
const MIN_JTI_BYTES: usize = 8;

/// Why something cannot be used (again).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// Seen before.
    #[error("this `jti` was used already; make a new one for every call")]
    Used,
    /// Signed before the process started.
    #[error("issued before this process started; make a new one")]
    BeforeStart,
    /// Not a usable `jti`.
    #[error("`jti` must be {MIN_JTI_BYTES} to {MAX_JTI_BYTES} printable ASCII characters without spaces")]
    BadJti,
    /// No room: nothing is accepted rather than anything twice.
    #[error("too many calls at once to keep each single-use; try again in a minute")]
    Full,
}

/// What a `jti` belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A client assertion.
    Assertion,
    /// A DPoP proof.
    Proof,
    /// A person's assertion.
    Person,
    /// A broker's proof before a countersigner.
    Countersigning,
}

/// One thing to be used once.
pub struct Burn<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Who signed it: one signer cannot use up the ids of another.
    pub signer: &'a str,
    /// Its id.
    pub jti: &'a str,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// From when on it is refused for its age alone.
    pub until: Timestamp,
}

/// The memory of what was used.
pub struct ReplayGuard {
    started_at: Timestamp,
    shards: [ExpiringSet; SHARDS],
}

impl ReplayGuard {
    /// Empty, refusing what was signed before `started_at`.
    pub fn new(started_at: Timestamp) -> Self {
        Self::with_capacity(started_at, CAPACITY)
    }

    fn with_capacity(started_at: Timestamp, capacity: usize) -> Self {
        Self { started_at, shards: std::array::from_fn(|_| ExpiringSet::new(capacity.div_ceil(SHARDS))) }
    }

    /// What was signed before this instant may have been used in a former life.
    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// Uses it up, or says why not.
    pub fn burn(&self, burn: &Burn<'_>, now: Timestamp) -> Result<(), ReplayError> {
        if !(MIN_JTI_BYTES..=MAX_JTI_BYTES).contains(&burn.jti.len())
            || !burn.jti.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(ReplayError::BadJti);
        }
        if burn.issued_at < self.started_at {
            return Err(ReplayError::BeforeStart);
        }
        let kind = match burn.kind {
            Kind::Assertion => "assertion",
            Kind::Proof => "proof",
            Kind::Person => "person",
            Kind::Countersigning => "countersigning",
        };
        let name = Digest::tagged(kind, format!("{}\0{}", burn.signer, burn.jti).as_bytes());
        let shard = usize::from(name.as_bytes()[0]) % SHARDS;
        match self.shards.get(shard).map(|shard| shard.insert(name, burn.until, now)) {
            Some(Inserted::New) => Ok(()),
            Some(Inserted::Present) => Err(ReplayError::Used),
            Some(Inserted::Full) | None => Err(ReplayError::Full),
        }
    }
}

/// What became of an insertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inserted {
    /// It was not there.
    New,
    /// It was there.
    Present,
    /// There is no room.
    Full,
}

/// A bounded set whose entries leave by themselves.
pub(super) struct ExpiringSet {
    capacity: usize,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    names: HashSet<Digest>,
    ends: BTreeMap<Timestamp, Vec<Digest>>,
}

impl ExpiringSet {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, entries: Mutex::default() }
    }

    /// Adds `name`, which leaves at `until`.
    pub(super) fn insert(&self, name: Digest, until: Timestamp, now: Timestamp) -> Inserted {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.prune(now);
        if entries.names.contains(&name) {
            return Inserted::Present;
        }
        if entries.names.len() >= self.capacity {
            return Inserted::Full;
        }
        entries.names.insert(name);
        entries.ends.entry(until).or_default().push(name);
        Inserted::New
    }

    /// Takes `name` out; false when it is not there any more.
    pub(super) fn take(&self, name: &Digest, now: Timestamp) -> bool {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.prune(now);
        entries.names.remove(name)
    }
}

impl Entries {
    fn prune(&mut self, now: Timestamp) {
        while let Some(first) = self.ends.first_entry() {
            if !first.key().has_passed(now) {
                break;
            }
            for name in first.remove() {
                self.names.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_seconds(1_000);

    fn proof<'a>(signer: &'a str, jti: &'a str) -> Burn<'a> {
        Burn { kind: Kind::Proof, signer, jti, issued_at: START, until: START.plus(60) }
    }

    #[test]
    fn an_id_is_used_once_per_signer_and_kind() {
        let guard = ReplayGuard::new(START);
        assert_eq!(guard.burn(&proof("a", "12345678"), START), Ok(()));
        assert_eq!(guard.burn(&proof("a", "12345678"), START.plus(59)), Err(ReplayError::Used));
        assert_eq!(guard.burn(&proof("b", "12345678"), START), Ok(()));
        let person = Burn { kind: Kind::Person, ..proof("a", "12345678") };
        assert_eq!(guard.burn(&person, START), Ok(()));
    }

    #[test]
    fn what_was_signed_before_the_start_is_refused() {
        let guard = ReplayGuard::new(START);
        let early = Burn { issued_at: START.plus(-1), ..proof("a", "12345678") };
        assert_eq!(guard.burn(&early, START), Err(ReplayError::BeforeStart));
        assert_eq!(guard.burn(&proof("a", "12345678"), START), Ok(()));
    }

    #[test]
    fn a_full_memory_refuses_until_entries_leave() {
        let guard = ReplayGuard::with_capacity(START, SHARDS);
        let ids: Vec<String> = (0..200).map(|n| format!("id-{n:06}")).collect();
        let full =
            ids.iter().filter(|id| guard.burn(&proof("a", id), START) == Err(ReplayError::Full)).count();
        assert_eq!(full, 200 - SHARDS);
        let later = Burn { until: START.plus(120), ..proof("a", "id-after") };
        assert_eq!(guard.burn(&later, START.plus(60)), Ok(()));
    }

    #[test]
    fn ids_are_short_printable_ascii() {
        let guard = ReplayGuard::new(START);
        for bad in ["", "1234567", "1234 5678", "12345678\u{e9}", &"x".repeat(129)] {
            assert_eq!(guard.burn(&proof("a", bad), START), Err(ReplayError::BadJti), "{bad:?}");
        }
        assert_eq!(guard.burn(&proof("a", &"x".repeat(128)), START), Ok(()));
    }
}
