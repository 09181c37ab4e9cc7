//! A token bucket in front of STS, whose rates are shared by the whole account and cannot be raised.

use std::sync::{Mutex, PoisonError};

/// Calls that may still be made; refilled every second.
pub(super) struct Bucket {
    per_second: i64,
    burst: i64,
    state: Mutex<State>,
}

struct State {
    tokens: i64,
    filled_at: i64,
}

impl Bucket {
    pub(super) fn full(per_second: u32, burst: u32, since_boot: i64) -> Self {
        let burst = i64::from(burst);
        let state = Mutex::new(State { tokens: burst, filled_at: since_boot });
        Self { per_second: i64::from(per_second), burst, state }
    }

    /// Takes one call; `false` when none is left in this second.
    pub(super) fn take(&self, since_boot: i64) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = since_boot.saturating_sub(state.filled_at).max(0);
        state.tokens = state.tokens.saturating_add(passed.saturating_mul(self.per_second)).min(self.burst);
        state.filled_at = state.filled_at.max(since_boot);
        let left = state.tokens > 0;
        if left {
            state.tokens -= 1;
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_followed_by_the_rate() {
        let bucket = Bucket::full(2, 3, 100);
        assert_eq!((0..4).map(|_| bucket.take(100)).collect::<Vec<_>>(), [true, true, true, false]);
        assert_eq!((0..3).map(|_| bucket.take(101)).collect::<Vec<_>>(), [true, true, false]);
    }

    #[test]
    fn rest_fills_no_more_than_the_burst() {
        let bucket = Bucket::full(2, 3, 100);
        assert_eq!((0..4).filter(|_| bucket.take(10_000)).count(), 3);
    }
}
