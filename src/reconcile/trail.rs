//! Takes the records of a trail, one after the other and in any order, and says in the end what they mean. Keeps only what
//! is about our leases and roles; a record that is about neither costs no memory.

mod called;
mod incident;
mod minted;
mod unread;

use std::collections::{BTreeSet, HashMap};

use super::coverage::Coverage;
use super::expected::{Expected, HARD_END_SECONDS, Minted, Signed, as_kept};
use super::judge::{Around, Seen};
use super::record::{BadRecord, Glance, Record};
use super::report::{Incident, Report};
use super::split::TooLong;
use crate::domain::digest::Digest;
use crate::domain::id::{LeaseId, RunId};
use crate::domain::sent::MAX_CLOCK_OFFSET_SECONDS;
use crate::domain::time::Timestamp;

/// Seconds after a lease's hard end within which CloudTrail may still deliver.
pub const SETTLE_SECONDS: i64 = 900;
/// Unreadable records whose reasons are listed.
const MAX_REASONS: usize = 10;
/// Accounts whose last record is remembered, and Regions of each.
const MAX_ACCOUNTS: usize = 4_096;
const MAX_REGIONS: usize = 64;
/// Records about us that are remembered, to know those that come twice: 34 bytes each.
const MAX_IDS: usize = 4_000_000;
/// Seconds by which a record may lie before the intent of its lease, for clocks that differ, and by which the beginning of
/// its session may lie behind it, for a provider that is slow.
const AROUND_MINT_SECONDS: i64 = 300;

const STOP: &str =
    "treat the role as taken: find out who called, revoke the role's sessions, and freeze what it may touch";
const FORGED: &str = "take neither at its word: compare with the account's own event history, and run `aws cloudtrail validate-logs`";

/// What of a trail is judged.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Leases that could live at this or later.
    pub since: Option<Timestamp>,
    /// Records from this on: all of the life of the first lease that is judged.
    pub records_from: Option<Timestamp>,
    /// The leases of this run, and what speaks of them, alone.
    pub run: Option<RunId>,
}

impl Scope {
    /// What had not settled at `from`, whole: whoever looks again at the time of the last look misses no lease, and none
    /// of its calls.
    pub fn not_settled_at(from: Timestamp, settle: i64) -> Self {
        let since = from.plus(-(settle.max(0) + MAX_CLOCK_OFFSET_SECONDS));
        let records_from = since.plus(-(HARD_END_SECONDS + MAX_CLOCK_OFFSET_SECONDS));
        Self { since: Some(since), records_from: Some(records_from), run: None }
    }
}

/// A trail that is being read.
#[derive(Debug)]
pub struct Trail {
    leases: Vec<(Expected, Seen)>,
    by_key: HashMap<String, usize>,
    by_session: HashMap<String, usize>,
    by_lease: HashMap<LeaseId, usize>,
    /// By the source identity of what people signed: the grant's id, which nobody else has.
    by_grant: HashMap<String, usize>,
    roles: BTreeSet<String>,
    scope: Scope,
    /// Ids of the records about us, and what they said: 32 bytes for each.
    ids: HashMap<u128, u128>,
    /// Last record by account and Region.
    reaches: HashMap<String, HashMap<String, Timestamp>>,
    coverage: Coverage,
    /// Incidents that are listed, of each list.
    listed: [usize; 3],
    report: Report,
}

impl Trail {
    /// Makes ready. `roles` are further roles of ours, beside those of the leases.
    pub fn new(expected: Vec<Expected>, roles: impl IntoIterator<Item = String>, scope: Scope) -> Self {
        let mut trail = Self {
            leases: Vec::with_capacity(expected.len()),
            by_key: HashMap::new(),
            by_session: HashMap::new(),
            by_lease: HashMap::new(),
            by_grant: HashMap::new(),
            roles: roles.into_iter().map(|role| as_kept(&role).to_owned()).collect(),
            scope,
            ids: HashMap::new(),
            reaches: HashMap::new(),
            coverage: Coverage::default(),
            listed: [0; 3],
            report: Report::default(),
        };
        trail.learn(expected);
        trail
    }

    /// What the ledger says of leases now: of new ones, and of known ones how they went on.
    pub fn learn(&mut self, expected: impl IntoIterator<Item = Expected>) {
        for one in expected {
            if let Some(key) = one.access_key() {
                let next = self.leases.len();
                let at = self.by_lease.get(&one.lease).copied().unwrap_or(next);
                self.by_key.insert(key.to_owned(), at);
            }
            self.roles.insert(one.role.clone());
            if let Some((known, _)) = self.by_lease.get(&one.lease).and_then(|at| self.leases.get_mut(*at)) {
                // What was signed is read once.
                let signed = match &one.signed {
                    Signed::Unread => known.signed.clone(),
                    read => read.clone(),
                };
                *known = Expected { signed, ..one };
                continue;
            }
            let at = self.leases.len();
            self.by_session.insert(one.session(), at);
            self.by_lease.insert(one.lease, at);
            if one.grant.is_some() {
                self.by_grant.insert(one.source_identity(), at);
            }
            self.leases.push((one, Seen::default()));
        }
    }

    /// A file came, of this name.
    pub fn file(&mut self, path: &str) {
        self.coverage.came(path);
    }

    /// Takes the next record, as [`super::Splitter`] cut it.
    pub fn take(&mut self, bytes: Result<&[u8], TooLong<'_>>) {
        self.report.records = self.report.records.saturating_add(1);
        match bytes {
            Ok(bytes) => {
                if let Err(error) = self.read(bytes) {
                    self.bad(&error, bytes);
                }
            }
            Err(error) => self.unread(error.to_string(), error.0),
        }
    }

    /// Something came that is no record, or a part of one, and was passed over.
    pub fn spoilt(&mut self, why: &str, bytes: &[u8]) {
        self.report.records = self.report.records.saturating_add(1);
        self.unread(cut(why), bytes);
    }

    /// Records so far.
    pub fn records(&self) -> u64 {
        self.report.records
    }

    /// Incidents so far beyond those that are listed.
    pub fn more_incidents(&self) -> u64 {
        self.report.more_incidents
    }

    /// Incidents so far that are listed.
    pub fn incidents(&self) -> &[Incident] {
        &self.report.incidents
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), BadRecord> {
        let glance = Glance::read(bytes)?;
        let at = glance.at()?;
        self.report.first = Some(self.report.first.map_or(at, |first| first.min(at)));
        self.report.last = Some(self.report.last.map_or(at, |last| last.max(at)));
        if let (Some(account), Some(region)) = (glance.account(), glance.region()) {
            self.reach(account, region, at);
        }
        let ours = glance.assumes()
            || glance.access_key().is_some_and(|key| self.by_key.contains_key(key))
            || glance.session().is_some_and(|name| self.by_session.contains_key(name))
            || glance.source_identity().is_some_and(|grant| self.by_grant.contains_key(grant))
            || glance.role().is_some_and(|role| self.is_ours(role));
        if !ours {
            return Ok(());
        }
        if self.scope.records_from.is_some_and(|from| at < from) {
            self.report.passed_over = self.report.passed_over.saturating_add(1);
            return Ok(());
        }
        let record = Record::read(bytes)?;
        let mints = glance.assumes() && self.mints_ours(&record);
        let role_is_ours = record.caller.role.as_deref().is_some_and(|role| self.is_ours(role));
        let calls = self.caller(&record).is_some() || self.chained(&record).is_some() || role_is_ours;
        if (!mints && !calls) || !self.is_new(&record) {
            return Ok(());
        }
        self.report.ours = self.report.ours.saturating_add(1);
        if mints {
            self.minted(&record);
        }
        if calls {
            self.called(&record);
        }
        Ok(())
    }

    fn reach(&mut self, account: &str, region: &str, at: Timestamp) {
        if let Some(last) = self.reaches.get_mut(account).and_then(|regions| regions.get_mut(region)) {
            *last = at.max(*last);
            return;
        }
        let room = self.reaches.len() < MAX_ACCOUNTS || self.reaches.contains_key(account);
        let regions = room.then(|| self.reaches.entry(account.to_owned()).or_default());
        if let Some(regions) = regions.filter(|regions| regions.len() < MAX_REGIONS) {
            regions.insert(region.to_owned(), at);
        }
    }

    fn is_ours(&self, role: &str) -> bool {
        self.roles.contains(as_kept(role))
    }

    /// Whether this id was not seen before. CloudTrail delivers at least once; two contents under one id it never does.
    fn is_new(&mut self, record: &Record) -> bool {
        let (id, digest) = (half(&Digest::of(record.id.as_bytes())), half(&record.digest()));
        if self.ids.len() >= MAX_IDS && !self.ids.contains_key(&id) {
            self.report.not_compared = self.report.not_compared.saturating_add(1);
            return true;
        }
        match self.ids.insert(id, digest) {
            None => true,
            Some(before) => {
                self.report.duplicates = self.report.duplicates.saturating_add(1);
                if before != digest {
                    let what = "two records of one id say different things".to_owned();
                    self.incident("two_of_one_id", self.caller(record), record, what, FORGED);
                }
                false
            }
        }
    }

    /// The lease whose access key or session name made a call.
    fn caller(&self, record: &Record) -> Option<usize> {
        let by_key = record.caller.access_key.as_ref().and_then(|key| self.by_key.get(key));
        let by_session = record.caller.session.as_ref().and_then(|name| self.by_session.get(name));
        by_key.or(by_session).copied()
    }

    /// The lease in whose grant's name a session acts that is none of ours: whoever chains roles keeps the source identity.
    fn chained(&self, record: &Record) -> Option<usize> {
        record.caller.source_identity.as_ref().and_then(|grant| self.by_grant.get(grant)).copied()
    }

    fn mints_ours(&self, record: &Record) -> bool {
        record.asked("roleArn").is_some_and(|role| self.is_ours(role))
            || record.asked("roleSessionName").is_some_and(|name| self.by_session.contains_key(name))
            || record.new_access_key().is_some_and(|key| self.by_key.contains_key(key))
    }

    /// What the records mean, at `now` of the broker's clock, with `settle` seconds for CloudTrail to deliver.
    pub fn finish(&self, now: Timestamp, settle: i64) -> Report {
        let Self { leases, scope, reaches, coverage, .. } = self;
        let mut report = self.report.clone();
        (report.gaps, report.more_gaps) = coverage.gaps();
        report.unnamed_files = coverage.unnamed();
        for (expected, seen) in leases {
            let out = scope.run.is_some_and(|run| run != expected.run)
                || scope.since.is_some_and(|since| expected.hard_end() < since)
                || (expected.minted == Minted::Refused && seen.is_empty());
            if out {
                continue;
            }
            let settled = expected.hard_end().plus(settle.max(0)).has_passed(now);
            let (account, until) = (expected.account(), expected.here_latest());
            let regions = seen.told_in(expected);
            let reach = |region: &String| reaches.get(account).and_then(|regions| regions.get(region));
            let reaches = regions.as_ref().is_some_and(|regions| {
                regions.iter().all(|region| reach(region).is_some_and(|last| *last >= until))
            });
            let misses = |region| coverage.misses(account, region, expected.opened_at, until);
            let hours_missing = match &regions {
                Some(regions) => regions.iter().any(|region| misses(Some(region))),
                None => misses(None),
            };
            let around = Around { settled, reaches, hours_missing };
            report.leases.push(seen.judge(expected, &around));
        }
        report.incidents.sort_by(|a, b| (a.at, &a.event).cmp(&(b.at, &b.event)));
        report
    }
}

/// Enough of a digest to tell records apart.
fn half(digest: &Digest) -> u128 {
    digest.as_bytes().iter().take(16).fold(0, |sum, byte| (sum << 8) | u128::from(*byte))
}

/// A text of a record, short enough to be shown.
fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}
