//! Measurements as their percentiles.

use serde::Serialize;

/// What many rounds came to, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Series {
    /// How many were measured.
    pub count: usize,
    /// Half took no longer.
    pub p50: u64,
    /// All but one in a hundred took no longer.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

impl Series {
    /// Of these; `None` of nothing.
    pub fn of(measured: impl Iterator<Item = u64>) -> Option<Self> {
        let mut all: Vec<u64> = measured.collect();
        all.sort_unstable();
        // The smallest that so many of a hundred do not exceed (nearest rank).
        let at = |percent: usize| all.get((all.len() * percent).div_ceil(100).checked_sub(1)?).copied();
        Some(Self { count: all.len(), p50: at(50)?, p99: at(99)?, max: at(100)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values() {
        assert_eq!(Series::of([].into_iter()), None);
        assert_eq!(Series::of([7].into_iter()), Some(Series { count: 1, p50: 7, p99: 7, max: 7 }));
        let hundred = Series::of((1..=100).rev()).unwrap();
        assert_eq!((hundred.p50, hundred.p99, hundred.max), (50, 99, 100));
    }
}
