//! One role's Deny policy: what it should say (from the store, memory and the role itself), and bringing that about.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::broker::ports::{Clock, DenyFate, LeaseFilter, Store, StoreError};
use crate::domain::lease::Lease;
use crate::domain::plan::ProviderKind;
use crate::domain::time::Timestamp;

use super::deny::{
    DenyDocument, DenyEntry, ISSUE_TIME_SLACK_SECONDS, Level, LiveEntry, deny_document, read_back,
};
use super::held::{Births, Held, Moment, entry};
use super::inline_policy::{read, same, write};
use super::request::role_name;
use super::revoker::{NotOurs, Revoker};
use super::writer::is_revoked;
use super::written::Written;

/// Seconds for which the right to write a role is held: longer than a round of calls usually takes, and short, since
/// after a crash nobody can write until it ends. Two writers at once would heal: both read back what they wrote.
const HOLD_SECONDS: i64 = 20;
/// How long a store may take before it counts as unreadable: revocation does not wait for a disk that hangs.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
const WRITES_AT_MOST: u32 = 2;
/// How many reads in a row have to fail before the policy of a role that was never read is written over.
const UNREAD_AT_MOST: u32 = 3;

/// Why a role's Deny policy is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotWritten {
    pub(super) why: String,
    pub(super) fate: DenyFate,
    /// Whether another try can help while this process runs.
    pub(super) hopeless: bool,
}

impl NotWritten {
    pub(super) fn failed(why: impl Into<String>) -> Self {
        Self { why: why.into(), fate: DenyFate::Failed, hopeless: false }
    }
}

/// Until when a role's Deny policy denies sessions that are yet to be minted, in AWS's clock; zero when it does not.
pub(super) type ShutUntil = Arc<AtomicI64>;

/// What the writers of all roles go by.
pub(super) struct Common {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    /// The name under which this process holds rights to write.
    pub(super) holder: String,
    pub(super) births: Births,
    pub(super) written: Written,
    /// Every role that this process was ever told of.
    pub(super) roles: Mutex<BTreeSet<String>>,
}

impl Common {
    pub(super) fn now(&self) -> Moment {
        Moment { wall: self.clock.wall(), boot: self.clock.since_boot() }
    }

    /// There is such a role.
    pub(super) fn know(&self, role_arn: &str) {
        let mut roles = self.roles.lock().unwrap_or_else(PoisonError::into_inner);
        if !roles.contains(role_arn) {
            roles.insert(role_arn.to_owned());
        }
    }

    /// Leases of AWS that `filter` wants, and whose sessions may still act.
    pub(super) async fn leases(&self, filter: LeaseFilter) -> Result<Vec<Lease>, StoreError> {
        let hard_end_after = Some(self.clock.wall().plus(-ISSUE_TIME_SLACK_SECONDS));
        let filter = LeaseFilter { provider: Some(ProviderKind::Aws), hard_end_after, ..filter };
        in_time(self.store.leases(filter)).await
    }

    /// A role of the same name as this one, in another account, as far as memory and store can tell. `None` proves nothing.
    async fn namesake(&self, arn: &str) -> Option<String> {
        let is_one = |other: &str| other != arn && role_name(other) == role_name(arn);
        let known = self.roles.lock().map(|roles| roles.clone()).unwrap_or_else(|e| e.into_inner().clone());
        if let Some(one) = known.into_iter().find(|other| is_one(other)) {
            return Some(one);
        }
        for filter in [
            LeaseFilter { open: true, ..LeaseFilter::default() },
            LeaseFilter { revoked: true, ..LeaseFilter::default() },
        ] {
            let leases = self.leases(filter).await.unwrap_or_default();
            if let Some(lease) = leases.into_iter().find(|lease| is_one(&lease.target)) {
                return Some(lease.target);
            }
        }
        None
    }
}

/// A role, and what this process knows of it.
pub(super) struct Role {
    arn: String,
    name: String,
    revoker: Arc<Revoker>,
    common: Arc<Common>,
    /// Revocations asked of this process, and those once read.
    held: Held,
    live: Vec<LiveEntry>,
    shut_until: ShutUntil,
    /// Whether store or role were ever read: without either, a write could wipe out entries of an earlier process.
    known: bool,
    /// Whether what an earlier process left on the role was taken over.
    adopted: bool,
    /// How many reads to adopt it failed in a row.
    unread: u32,
    confirmed: Option<DenyDocument>,
    /// What IAM last took, read back or not.
    taken: Option<DenyDocument>,
}

impl Role {
    pub(super) fn new(arn: String, name: String, revoker: Arc<Revoker>, common: Arc<Common>) -> Self {
        Self {
            arn,
            name,
            revoker,
            common,
            held: Held::default(),
            live: Vec::new(),
            shut_until: ShutUntil::default(),
            known: false,
            adopted: false,
            unread: 0,
            confirmed: None,
            taken: None,
        }
    }

    pub(super) fn arn(&self) -> &str {
        &self.arn
    }

    pub(super) fn revoke(&mut self, entry: DenyEntry) {
        self.held.deny(entry, self.common.births.until(&entry, self.common.now()));
    }

    pub(super) fn has_entries(&self) -> bool {
        !self.held.is_empty()
    }

    /// Where it says until when no session should be minted from the role.
    pub(super) fn shut_until(&self) -> ShutUntil {
        self.shut_until.clone()
    }

    /// Whether the revoked leases no longer fit by name.
    pub(super) fn is_crowded(&self) -> bool {
        self.confirmed.as_ref().is_some_and(|document| document.level > Level::Listed)
    }

    /// Makes the role's policy what it should be; the instant at which it was read back and was so.
    pub(super) async fn bring_about(&mut self) -> Result<Timestamp, NotWritten> {
        self.held.forget_dead(self.common.now().boot);
        // SECURITY: a role of the same name in another account is not touched, and nothing there counts as denied.
        let unsure = match self.revoker.owns(&self.arn).await {
            Ok(()) => None,
            Err(NotOurs::Elsewhere(why)) => {
                return Err(NotWritten { hopeless: true, ..NotWritten::failed(why) });
            }
            Err(NotOurs::Unknown(why)) => Some(why),
        };
        if let (Some(why), Some(other)) = (&unsure, self.common.namesake(&self.arn).await) {
            return Err(NotWritten::failed(format!(
                "{why}; it is tried again, and nothing is written until then, since {other} has the same name"
            )));
        }
        let term = self.hold().await?;
        let outcome = self.write_and_read_back(term, unsure.is_some()).await;
        // Given back at once, so that a process started after a crash need not wait for this one's right to end.
        let now = self.common.clock.wall();
        let right = self.right();
        let given = self.common.store.hold_writer(&right, &self.common.holder, now, now);
        if let Err(error) = in_time(given).await {
            tracing::debug!(role.arn = self.arn, %error, "the right to write was not given back");
        }
        // INVARIANT: stop-always-works. Whose role it is may be unknown: it is written all the same, and not called done.
        match (unsure, outcome) {
            (Some(why), Ok(_)) => Err(NotWritten::failed(why)),
            (Some(why), Err(failed)) => Err(NotWritten { why: format!("{why}; {}", failed.why), ..failed }),
            (None, outcome) => outcome,
        }
    }

    fn right(&self) -> String {
        format!("aws-deny:{}", self.arn)
    }

    /// Takes or keeps the right to write; the term of it, which nobody else has had since. `None` without a store.
    async fn hold(&self) -> Result<Option<u64>, NotWritten> {
        let (common, now, right) = (&self.common, self.common.clock.wall(), self.right());
        let asked = common.store.hold_writer(&right, &common.holder, now, now.plus(HOLD_SECONDS));
        match in_time(asked).await {
            Ok(Some(term)) => Ok(Some(term)),
            Ok(None) => Err(NotWritten::failed("another broker process writes this role's Deny policy")),
            // INVARIANT: stop-always-works.
            Err(error) => {
                tracing::warn!(role.arn = self.arn, %error, "writing a Deny policy without the store");
                Ok(None)
            }
        }
    }

    /// `unsure` says that it may be another broker's role: then nothing on it is lost by what is written.
    async fn write_and_read_back(
        &mut self,
        term: Option<u64>,
        unsure: bool,
    ) -> Result<Timestamp, NotWritten> {
        if let Err(error) = self.read_store().await {
            tracing::warn!(role.arn = self.arn, %error, "the Deny policy is made from memory");
        }
        self.adopt(unsure).await?;
        let live: Vec<LiveEntry> =
            self.live.iter().copied().filter(|live| !self.held.contains(live.lease)).collect();
        let wall = self.common.clock.wall();
        let desired = deny_document(&self.held.entries(), &live, wall, self.held.issued_before());
        // SECURITY: the names of our leases harm no stranger, even in an unknown account; a date denies whoever it finds.
        if unsure && desired.level > Level::Listed {
            return Err(NotWritten::failed(
                "there are too many revocations to list, and no watermark is written before it is known whose role it is",
            ));
        }
        if unsure && desired.text.is_none() {
            return Err(NotWritten::failed("it is not known whose role it is"));
        }
        self.alarm(&desired);
        // Before it is written: what is minted from here on would be born dead.
        let shut = desired.watermark.map_or(0, Timestamp::seconds);
        self.shut_until.fetch_max(shut, Ordering::SeqCst);
        // What IAM took before is looked at first; what is new is written first. An IAM that takes a call now and then is
        // not asked to take the same write again.
        let known = [&self.confirmed, &self.taken];
        let mut must_write = !known.iter().any(|document| document.as_ref() == Some(&desired));
        for _ in 0..WRITES_AT_MOST {
            if must_write {
                // The calls before this one may have taken longer than the right to write lasts.
                if term.is_some() && self.hold().await?.is_some_and(|held| Some(held) != term) {
                    return Err(NotWritten::failed(
                        "another broker process wrote this role's Deny policy meanwhile",
                    ));
                }
                write(&self.revoker.iam, &self.name, desired.text.as_deref()).await?;
                self.taken = Some(desired.clone());
            }
            if same(self.read().await?.as_deref(), desired.text.as_deref()) {
                self.shut_until.store(shut, Ordering::SeqCst);
                self.confirmed = Some(desired);
                let at = self.common.now();
                // Of a role that may be a stranger's nothing is called done.
                if !unsure {
                    self.common.written.confirm(&self.held.entries(), at.wall, at.boot);
                }
                return Ok(at.wall);
            }
            if !must_write {
                tracing::warn!(
                    role.arn = self.arn,
                    "somebody changed the Deny policy of a role; it is written again"
                );
            }
            must_write = true;
        }
        (self.confirmed, self.taken) = (None, None);
        Err(NotWritten::failed(
            "the role's Deny policy was written and does not stay; see who else writes it",
        ))
    }

    async fn read_store(&mut self) -> Result<(), StoreError> {
        let filter = LeaseFilter { target: Some(self.arn.clone()), ..LeaseFilter::default() };
        let open = self.common.leases(LeaseFilter { open: true, ..filter.clone() }).await?;
        let revoked = self.common.leases(LeaseFilter { revoked: true, ..filter }).await?;
        self.live = open
            .iter()
            .filter(|lease| lease.state.is_live() && !is_revoked(lease))
            .map(|lease| LiveEntry { lease: lease.id, hard_end: lease.hard_end })
            .collect();
        // Read second: one that ended between the two is in both, and a lease that is both is denied.
        revoked.iter().for_each(|lease| self.revoke(entry(lease)));
        self.held.forget_dead(self.common.now().boot);
        self.known = true;
        Ok(())
    }

    /// Adopts what an earlier process left on the role, before anything is written over it: the store may not be
    /// readable, or may be a backup that does not know what was revoked since.
    async fn adopt(&mut self, unsure: bool) -> Result<(), NotWritten> {
        if self.adopted && !unsure {
            return Ok(());
        }
        match self.read_role(unsure).await {
            Ok(()) => (self.adopted, self.known) = (true, true),
            // SECURITY: after a restore only the role may know whom it denies. IAM throttles for seconds: one read that
            // fails frees nobody.
            // INVARIANT: stop-always-works. What the store knows is denied even when IAM refuses to read for good.
            Err(failed) if self.known && !unsure && self.unread >= UNREAD_AT_MOST => {
                tracing::warn!(
                    role.arn = self.arn,
                    deny.failed_reads = self.unread,
                    why = failed.why,
                    "a Deny policy is written over one that could not be read so many times in a row; whom only that one \
                     denied is free until the deadline of its session"
                );
            }
            Err(failed) => return Err(failed),
        }
        Ok(())
    }

    async fn read_role(&mut self, unsure: bool) -> Result<(), NotWritten> {
        let read = self.read().await;
        self.unread = if read.is_ok() { 0 } else { self.unread.saturating_add(1) };
        let Some(text) = read? else { return Ok(()) };
        let found = serde_json::from_str::<Value>(&text).ok().as_ref().and_then(read_back);
        match found {
            Some((leases, watermark)) => self.held.adopt(leases, watermark, self.common.now()),
            None if unsure => return Err(NotWritten::failed("the policy on the role is not one of ours")),
            None => tracing::warn!(
                role.arn = self.arn,
                "the policy on the role is not one of ours; it is replaced"
            ),
        }
        Ok(())
    }

    async fn read(&self) -> Result<Option<String>, NotWritten> {
        read(&self.revoker.iam, &self.name).await
    }

    fn alarm(&self, desired: &DenyDocument) {
        if desired.level > Level::Listed {
            tracing::error!(
                role.arn = self.arn,
                deny.level = ?desired.level,
                deny.entries = self.held.entries().len(),
                "too many revocations to list: the role's Deny policy uses a watermark; spread the work over more roles"
            );
        }
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = || StoreError::Unreadable(format!("no answer within {} s", STORE_TIMEOUT.as_secs()));
    tokio::time::timeout(STORE_TIMEOUT, asked).await.unwrap_or_else(|_| Err(late()))
}
