//! Instants and durations in whole seconds, as the signed documents carry them. Reads no clock.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Seconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From seconds since the epoch.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Seconds since the epoch.
    pub const fn seconds(self) -> i64 {
        self.0
    }

    /// This instant moved by `seconds` (negative: earlier), saturating.
    pub const fn plus(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// Seconds from `earlier` to this instant; negative when it lies before.
    pub const fn since(self, earlier: Timestamp) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whether something that ends at this instant has ended: `now >= self`.
    pub fn has_passed(self, now: Timestamp) -> bool {
        now >= self
    }

    /// `YYYY-MM-DDTHH:MM:SSZ`, the form IAM's date conditions and every document of ours use.
    pub fn rfc3339(self) -> String {
        let format = time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
        OffsetDateTime::from_unix_timestamp(self.0)
            .ok()
            .and_then(|at| at.format(&format).ok())
            .unwrap_or_else(|| "9999-12-31T23:59:59Z".to_owned())
    }

    /// Parses exactly `YYYY-MM-DDTHH:MM:SSZ`.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let format = time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
        time::PrimitiveDateTime::parse(text, &format).ok().map(|at| Self(at.assume_utc().unix_timestamp()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_has_passed_at_its_own_second() {
        let end = Timestamp::from_seconds(100);
        assert!(end.has_passed(Timestamp::from_seconds(100)));
        assert!(!end.has_passed(Timestamp::from_seconds(99)));
    }

    #[test]
    fn rfc3339_goes_both_ways() {
        let at = Timestamp::from_seconds(1_700_000_000);
        assert_eq!(at.rfc3339(), "2023-11-14T22:13:20Z");
        assert_eq!(Timestamp::parse_rfc3339("2023-11-14T22:13:20Z"), Some(at));
        assert_eq!(Timestamp::parse_rfc3339("2023-11-14T22:13:20+00:00"), None);
    }
}
