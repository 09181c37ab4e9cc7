//! Of which hours files came, as far as their names tell (CloudTrail User Guide, "CloudTrail log file name format"):
//! `ACCOUNT_CloudTrail_REGION_YYYYMMDDTHHmmZ_UNIQUE.json.gz`. CloudTrail writes none for an hour in which nothing
//! happened, so a gap is a question, which digest files answer (`aws cloudtrail validate-logs`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::domain::time::Timestamp;

const HOUR_SECONDS: i64 = 3_600;
/// Accounts and Regions that are told apart.
const MAX_PLACES: usize = 4_096;
/// Gaps that are listed; more are counted.
const MAX_GAPS: usize = 100;

/// What a file of a trail's bucket is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Records of calls.
    Records,
    /// Digests of log files, for `aws cloudtrail validate-logs`.
    Digest,
    /// Insights: no calls.
    Insight,
}

impl Kind {
    /// By name or path, in either of which CloudTrail says it.
    pub fn of(path: &str) -> Self {
        let says =
            |word: &str| path.split('/').any(|part| part == word || part.contains(&format!("_{word}_")));
        match (says("CloudTrail-Digest"), says("CloudTrail-Insight")) {
            (true, _) => Self::Digest,
            (_, true) => Self::Insight,
            _ => Self::Records,
        }
    }
}

/// When a file was written, as its name says.
pub fn written_at(path: &str) -> Option<Timestamp> {
    named(path).map(|(.., at)| at)
}

/// Hours of one account and Region of which no file came, between its first file and its last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The account.
    pub account: String,
    /// The Region.
    pub region: String,
    /// From this on.
    pub from: Timestamp,
    /// Until here.
    pub until: Timestamp,
}

/// The files that came.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    hours: BTreeMap<(String, String), BTreeSet<i64>>,
    unnamed: u64,
}

impl Coverage {
    /// A file of records came.
    pub fn came(&mut self, path: &str) {
        let Some((account, region, at)) = named(path) else {
            self.unnamed = self.unnamed.saturating_add(1);
            return;
        };
        let place = (account.to_owned(), region.to_owned());
        if self.hours.len() < MAX_PLACES || self.hours.contains_key(&place) {
            self.hours.entry(place).or_default().insert(hour(at));
        }
    }

    /// Files whose names say nothing.
    pub fn unnamed(&self) -> u64 {
        self.unnamed
    }

    /// The gaps, at most 100 of them, and how many more there are.
    pub fn gaps(&self) -> (Vec<Gap>, u64) {
        let (mut gaps, mut more) = (Vec::new(), 0_u64);
        for ((account, region), hours) in &self.hours {
            for (before, after) in hours.iter().zip(hours.iter().skip(1)) {
                if after.saturating_sub(*before) <= 1 {
                    continue;
                }
                if gaps.len() >= MAX_GAPS {
                    more = more.saturating_add(1);
                    continue;
                }
                let (account, region) = (account.clone(), region.clone());
                let (from, until) = (start(before.saturating_add(1)), start(*after));
                gaps.push(Gap { account, region, from, until });
            }
        }
        (gaps, more)
    }

    /// Whether no file came of some hour from `from` to `until`, of an account and, where it is known, a Region; false
    /// where no name tells of the account at all.
    pub fn misses(&self, account: &str, region: Option<&str>, from: Timestamp, until: Timestamp) -> bool {
        let mut places = self.hours.iter().filter(|((of, _), _)| of == account).peekable();
        if places.peek().is_none() {
            return false;
        }
        let missing = |hours: &BTreeSet<i64>| (hour(from)..=hour(until)).any(|hour| !hours.contains(&hour));
        places
            .filter(|((_, of), _)| region.is_none_or(|region| of == region))
            .all(|(_, hours)| missing(hours))
    }
}

fn hour(at: Timestamp) -> i64 {
    at.seconds().div_euclid(HOUR_SECONDS)
}

fn start(hour: i64) -> Timestamp {
    Timestamp::from_seconds(hour.saturating_mul(HOUR_SECONDS))
}

/// Account, Region and time of a log file.
fn named(path: &str) -> Option<(&str, &str, Timestamp)> {
    let name = path.rsplit('/').next()?;
    let mut parts = name.splitn(5, '_');
    let (account, kind, region) = (parts.next()?, parts.next()?, parts.next()?);
    let (time, _) = (parts.next()?, parts.next()?);
    let is_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
    if !is_account || kind != "CloudTrail" || region.is_empty() || region.len() > 32 || time.len() != 14 {
        return None;
    }
    let digits = |from: usize, to: usize| time.get(from..to);
    let (year, month, day) = (digits(0, 4)?, digits(4, 6)?, digits(6, 8)?);
    let (hours, minutes) = (digits(9, 11)?, digits(11, 13)?);
    let text = format!("{year}-{month}-{day}T{hours}:{minutes}:00Z");
    let at = Timestamp::parse_rfc3339(&text)?;
    (digits(8, 9)? == "T" && time.ends_with('Z')).then_some((account, region, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(region: &str, time: &str) -> String {
        format!(
            "AWSLogs/111122223333/CloudTrail/{region}/2026/11/26/111122223333_CloudTrail_{region}_20261126T{time}Z_aBcD.json.gz"
        )
    }

    fn at(time: &str) -> Timestamp {
        Timestamp::parse_rfc3339(&format!("2026-11-26T{time}:00Z")).unwrap()
    }

    #[test]
    fn an_hour_without_a_file_is_a_gap_and_two_hours_in_a_row_are_none() {
        let mut coverage = Coverage::default();
        for (region, time) in [("eu-central-1", "0105"), ("eu-central-1", "0200"), ("eu-central-1", "0550")] {
            coverage.came(&file(region, time));
        }
        coverage.came(&file("us-east-1", "0300"));
        coverage.came("some/notes.json");
        let gap = Gap {
            account: "111122223333".into(),
            region: "eu-central-1".into(),
            from: at("03:00"),
            until: at("05:00"),
        };
        assert_eq!((coverage.gaps(), coverage.unnamed()), ((vec![gap], 0), 1));
    }

    #[test]
    fn what_a_lease_lived_through_is_covered_in_its_own_region() {
        let mut coverage = Coverage::default();
        assert!(!coverage.misses("111122223333", Some("eu-central-1"), at("01:00"), at("01:30")), "unknown");
        coverage.came(&file("eu-central-1", "0105"));
        coverage.came(&file("eu-central-1", "0205"));
        let misses = |region, until| coverage.misses("111122223333", region, at("01:00"), at(until));
        assert!(!misses(Some("eu-central-1"), "02:30") && !misses(None, "02:30"));
        assert!(misses(Some("eu-central-1"), "03:00") && misses(Some("us-east-1"), "01:30"));
        assert!(!coverage.misses("444455556666", None, at("01:00"), at("09:00")));
    }

    #[test]
    fn a_file_is_known_by_its_name() {
        assert_eq!(written_at(&file("eu-central-1", "0105")), Some(at("01:05")));
        for other in [
            "111122223333_CloudTrail_eu-central-1_20261126T0105Z",
            "11112222333x_CloudTrail_eu-central-1_20261126T0105Z_a.json.gz",
            "111122223333_CloudTrail_eu-central-1_20261326T0105Z_a.json.gz",
            "111122223333_Config_eu-central-1_20261126T0105Z_a.json.gz",
            "111122223333_CloudTrail_eu-central-1_2026é126T010Z_a.json.gz",
        ] {
            assert_eq!(written_at(other), None, "{other}");
        }
        let digest =
            "AWSLogs/1/CloudTrail-Digest/eu-central-1/2026/1_CloudTrail-Digest_eu-central-1_x.json.gz";
        assert_eq!(Kind::of(digest), Kind::Digest);
        assert_eq!(Kind::of("1_CloudTrail-Insight_eu-central-1_20261126T0105Z_a.json.gz"), Kind::Insight);
        assert_eq!(Kind::of(&file("eu-central-1", "0105")), Kind::Records);
    }
}
