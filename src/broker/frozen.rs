//! What is frozen, in memory: it refuses whatever the store can do, and tells a freeze the store knows from one it does
//! not, each time somebody asks for one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::freeze::FreezeKey;
use crate::domain::time::Timestamp;

/// The freezes in force.
#[derive(Default)]
pub struct Frozen(Mutex<Freezes>);

#[derive(Default)]
struct Freezes {
    by_key: BTreeMap<FreezeKey, Held>,
    asked: u64,
}

struct Held {
    asked: Asked,
    recorded: bool,
}

/// One time that somebody asked for a freeze; a later one is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    nth: u64,
    /// When.
    pub at: Timestamp,
}

impl Frozen {
    /// INVARIANT: stop-always-works. From this instant nothing of it is issued, whatever the store can do. A freeze that
    /// is asked for again is one that the store does not know, even where it knows the earlier one.
    pub fn freeze(&self, key: FreezeKey, at: Timestamp) -> Asked {
        self.put(key, at, false)
    }

    /// At start: one that the store knows.
    pub fn restored(&self, key: FreezeKey, at: Timestamp) {
        self.put(key, at, true);
    }

    /// The store took it; one that was asked for since then still waits.
    pub fn recorded(&self, key: &FreezeKey, asked: Asked) {
        if let Some(held) = self.lock().by_key.get_mut(key).filter(|held| held.asked == asked) {
            held.recorded = true;
        }
    }

    /// People signed that it may go on again, knowing of no later freeze than this one: a later one holds.
    pub fn unfreeze(&self, key: &FreezeKey, known: Option<Asked>) {
        let mut freezes = self.lock();
        if freezes.by_key.get(key).map(|held| held.asked) == known {
            freezes.by_key.remove(key);
        }
    }

    /// The last time it was asked for, if it is frozen.
    pub fn last_asked(&self, key: &FreezeKey) -> Option<Asked> {
        self.lock().by_key.get(key).map(|held| held.asked)
    }

    /// What is frozen.
    pub fn keys(&self) -> BTreeSet<FreezeKey> {
        self.lock().by_key.keys().cloned().collect()
    }

    /// Freezes that the store does not know.
    pub fn unrecorded(&self) -> BTreeMap<FreezeKey, Asked> {
        let freezes = self.lock();
        let unknown = freezes.by_key.iter().filter(|(_, held)| !held.recorded);
        unknown.map(|(key, held)| (key.clone(), held.asked)).collect()
    }

    fn put(&self, key: FreezeKey, at: Timestamp, recorded: bool) -> Asked {
        let mut freezes = self.lock();
        // Each asking is later than the one before, in whole seconds too: what was sealed between them lifts neither.
        let at = freezes.by_key.get(&key).map_or(at, |held| at.max(held.asked.at.plus(1)));
        freezes.asked += 1;
        let asked = Asked { nth: freezes.asked, at };
        freezes.by_key.insert(key, Held { asked, recorded });
        asked
    }

    fn lock(&self) -> MutexGuard<'_, Freezes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_seconds(1);

    fn key() -> FreezeKey {
        FreezeKey::Everything
    }

    #[test]
    fn a_freeze_asked_for_again_is_unrecorded_until_it_is_recorded_itself() {
        let frozen = Frozen::default();
        let first = frozen.freeze(key(), AT);
        let second = frozen.freeze(key(), AT);
        frozen.recorded(&key(), first);
        assert_eq!(frozen.unrecorded(), [(key(), second)].into());
        frozen.recorded(&key(), second);
        assert!(frozen.unrecorded().is_empty());
    }

    #[test]
    fn signatures_lift_the_freeze_they_knew_of_and_no_later_one() {
        let frozen = Frozen::default();
        frozen.restored(key(), AT);
        let known = frozen.last_asked(&key());
        frozen.freeze(key(), AT);
        frozen.unfreeze(&key(), known);
        assert_eq!(frozen.keys(), [key()].into());
        frozen.unfreeze(&key(), frozen.last_asked(&key()));
        assert!(frozen.keys().is_empty());
    }
}
