//! How long a writer waits after a failure: twice as long after each, up to a quarter of a minute, and by chance up to half
//! less, so that the writers of many roles do not come back together. It never says to give up.

use std::time::Duration;

/// After the first failure.
const FIRST: Duration = Duration::from_millis(500);
/// After any number of them: what IAM refuses for its rate it takes again within seconds.
const LONGEST: Duration = Duration::from_secs(15);

/// Failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// One more failure; how long to wait. `chance` is within 0 to 1.
    pub(super) fn failed(&mut self, chance: f64) -> Duration {
        let doubled = FIRST.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1).min(31);
        doubled.min(LONGEST).mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
    }

    /// It worked.
    pub(super) fn worked(&mut self) {
        self.failures = 0;
    }

    /// Whether the last attempt failed.
    pub(super) fn is_on(&self) -> bool {
        self.failures > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_a_limit_and_begin_again_after_a_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..8).map(|_| backoff.failed(0.0).as_millis()).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]);
        assert!((0..100).all(|_| backoff.failed(0.0) == LONGEST), "however long it lasts");
        backoff.worked();
        assert!(!backoff.is_on());
        assert_eq!(backoff.failed(0.0), FIRST);
    }

    #[test]
    fn chance_takes_up_to_half_and_never_more() {
        for chance in [0.0, 0.3, 1.0, 7.0, -1.0] {
            let wait = Backoff::default().failed(chance);
            assert!(wait >= FIRST / 2 && wait <= FIRST, "{chance}: {wait:?}");
        }
        assert_ne!(Backoff::default().failed(0.1), Backoff::default().failed(0.9));
    }
}
