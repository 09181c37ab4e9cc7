//! How many refusals are written down: each costs a flush of the disk, and whoever can cause them without limit could
//! slow down everybody's claims. What goes beyond is still refused, and counted in the metrics instead.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::domain::time::Timestamp;

/// Refused answers to one grant, whose senders nobody knows, that are written down in a minute.
pub const PER_GRANT: i64 = 30;
/// Refusals of one known caller that are written down in a minute.
pub const PER_CALLER: i64 = 240;
/// Names remembered at a time; those that used up nothing lately are forgotten first.
const NAMES: usize = 8_192;

/// A token bucket per name, kept as the time at which it is full again.
pub(super) struct Allowance {
    per_minute: i64,
    names: usize,
    /// When the name has its whole allowance again, in `1 / per_minute` seconds.
    full_at: Mutex<HashMap<String, i64>>,
}

impl Allowance {
    /// So many a minute for each name, and no more than that at once.
    pub(super) fn new(per_minute: i64) -> Self {
        Self { per_minute, names: NAMES, full_at: Mutex::default() }
    }

    /// Takes one for `name`; false when nothing is left, or too many names are in use.
    pub(super) fn take(&self, name: &str, now: Timestamp) -> bool {
        let now = now.seconds().saturating_mul(self.per_minute);
        let whole = 60_i64.saturating_mul(self.per_minute);
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= self.names && !full_at.contains_key(name) {
            full_at.retain(|_, at| *at > now);
            if full_at.len() >= self.names {
                return false;
            }
        }
        let at = full_at.entry(name.to_owned()).or_insert(now);
        let next = (*at).max(now).saturating_add(60);
        let left = next.saturating_sub(now) <= whole;
        if left {
            *at = next;
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_000);

    fn taken(allowance: &Allowance, name: &str, tries: usize, now: Timestamp) -> usize {
        (0..tries).filter(|_| allowance.take(name, now)).count()
    }

    #[test]
    fn an_allowance_is_used_up_and_comes_back_with_time() {
        let allowance = Allowance::new(30);
        assert_eq!(taken(&allowance, "a", 100, NOW), 30);
        assert_eq!(taken(&allowance, "a", 100, NOW.plus(2)), 1);
        assert_eq!(taken(&allowance, "a", 100, NOW.plus(62)), 30);
    }

    #[test]
    fn one_name_does_not_use_up_the_allowance_of_another() {
        let allowance = Allowance::new(2);
        assert_eq!(taken(&allowance, "a", 9, NOW), 2);
        assert_eq!(taken(&allowance, "b", 9, NOW), 2);
    }

    #[test]
    fn names_are_bounded_and_only_idle_ones_are_forgotten() {
        let allowance = Allowance { names: 2, ..Allowance::new(2) };
        assert!(allowance.take("a", NOW) && allowance.take("b", NOW));
        assert!(!allowance.take("c", NOW));
        assert!(allowance.take("c", NOW.plus(60)));
    }
}
