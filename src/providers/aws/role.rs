//! One role's Deny policy: what it should say (from the store, memory and the role itself), and bringing that about.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_iam::error::{ProvideErrorMetadata, SdkError};
use serde_json::Value;

use crate::broker::ports::{Clock, LeaseFilter, Store, StoreError};
use crate::domain::id::LeaseId;
use crate::domain::lease::Lease;
use crate::domain::plan::ProviderKind;
use crate::domain::time::Timestamp;

use super::deny::{DenyDocument, DenyEntry, Level, LiveEntry, deny_document, read_back};
use super::errors::chain;
use super::revoker::{NotOurs, Revoker};
use super::writer::{POLICY_NAME, entry, is_revoked};

/// Most leases that [`Store::leases`] gives at once.
const STORE_LISTS: usize = 1_000;
/// Seconds for which the right to write a role is held: longer than a round of calls usually takes, and short, since
/// after a crash nobody can write until it ends. Two writers at once would heal: both read back what they wrote.
const HOLD_SECONDS: i64 = 20;
/// How long a store may take before it counts as unreadable: revocation does not wait for a disk that hangs.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// Seconds that a session of unknown age may still live.
const UNKNOWN_AGE_SECONDS: i64 = 930;
const WRITES_AT_MOST: u32 = 2;

/// A role, and what this process knows of it.
pub(super) struct Role {
    arn: String,
    name: String,
    iam: aws_sdk_iam::Client,
    revoker: Arc<Revoker>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    holder: String,
    /// Revocations asked of this process, and those once read: never forgotten before their hard end.
    entries: HashMap<LeaseId, DenyEntry>,
    live: Vec<LiveEntry>,
    /// Whether `entries` holds every entry that matters.
    complete: bool,
    /// Whether store or role were ever read: without either, a write could wipe out entries of an earlier process.
    known: bool,
    /// Whether what an earlier process left on the role was taken over.
    adopted: bool,
    /// Until when the role's policy denied sessions that it did not name, and that nobody here knows.
    unnamed_until: Option<Timestamp>,
    confirmed: Option<DenyDocument>,
}

impl Role {
    pub(super) fn new(
        arn: String,
        name: String,
        iam: aws_sdk_iam::Client,
        revoker: Arc<Revoker>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        holder: String,
    ) -> Self {
        Self {
            arn,
            name,
            iam,
            revoker,
            store,
            clock,
            holder,
            entries: HashMap::new(),
            live: Vec::new(),
            complete: true,
            known: false,
            adopted: false,
            unnamed_until: None,
            confirmed: None,
        }
    }

    pub(super) fn arn(&self) -> &str {
        &self.arn
    }

    pub(super) fn revoke(&mut self, entry: DenyEntry) {
        self.entries.insert(entry.lease, entry);
    }

    pub(super) fn has_entries(&self) -> bool {
        !self.entries.is_empty() || self.unnamed_until.is_some()
    }

    /// Makes the role's policy what it should be; the instant at which it was read back and was so.
    pub(super) async fn bring_about(&mut self) -> Result<Timestamp, String> {
        // SECURITY: a role of the same name in another account is not touched, and nothing there counts as denied.
        let owned = self.revoker.owns(&self.arn).await;
        if let Err(NotOurs::Elsewhere(why)) = owned {
            return Err(why);
        }
        let right = format!("aws-deny:{}", self.arn);
        let now = self.clock.wall();
        match in_time(self.store.hold_writer(&right, &self.holder, now, now.plus(HOLD_SECONDS))).await {
            Ok(Some(_)) => {}
            Ok(None) => return Err("another broker process writes this role's Deny policy".into()),
            Err(error) => {
                tracing::warn!(role.arn = self.arn, %error, "writing a Deny policy without the store")
            }
        }
        let outcome = self.write_and_read_back(now).await;
        // Given back at once, so that a process started after a crash need not wait for this one's right to end.
        let now = self.clock.wall();
        if let Err(error) = in_time(self.store.hold_writer(&right, &self.holder, now, now)).await {
            tracing::debug!(role.arn = self.arn, %error, "the right to write was not given back");
        }
        // INVARIANT: stop-always-works. Whose role it is may be unknown: it is written all the same, and not called done.
        match owned {
            Err(NotOurs::Unknown(why)) => Err(why),
            _ => outcome,
        }
    }

    async fn write_and_read_back(&mut self, now: Timestamp) -> Result<Timestamp, String> {
        if let Err(error) = self.read_store(now).await {
            tracing::warn!(role.arn = self.arn, %error, "the Deny policy is made from memory");
        }
        self.entries.retain(|_, entry| !entry.hard_end.has_passed(now));
        self.unnamed_until = self.unnamed_until.filter(|until| !until.has_passed(now));
        self.adopt(now).await?;
        let live: Vec<LiveEntry> =
            self.live.iter().copied().filter(|live| !self.entries.contains_key(&live.lease)).collect();
        let entries: Vec<DenyEntry> = self.entries.values().copied().collect();
        let desired = deny_document(&entries, &live, now, self.complete && self.unnamed_until.is_none());
        self.alarm(&desired);
        // What was confirmed before is looked at first; what is new is written first.
        let mut must_write = self.confirmed.as_ref() != Some(&desired);
        for _ in 0..WRITES_AT_MOST {
            if must_write {
                self.write(desired.text.as_deref()).await?;
            }
            if same(self.read().await?.as_deref(), desired.text.as_deref()) {
                self.confirmed = Some(desired);
                return Ok(self.clock.wall());
            }
            if !must_write {
                tracing::warn!(
                    role.arn = self.arn,
                    "somebody changed the Deny policy of a role; it is written again"
                );
            }
            must_write = true;
        }
        self.confirmed = None;
        Err("the role's Deny policy was written and does not stay; see who else writes it".into())
    }

    async fn read_store(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let filter = LeaseFilter {
            provider: Some(ProviderKind::Aws),
            target: Some(self.arn.clone()),
            hard_end_after: Some(now),
            ..LeaseFilter::default()
        };
        let open = in_time(self.store.leases(LeaseFilter { open: true, ..filter.clone() })).await?;
        let all = in_time(self.store.leases(filter)).await?;
        self.complete = all.len() < STORE_LISTS && open.len() < STORE_LISTS;
        self.live = open
            .iter()
            .filter(|lease| lease.state.is_live() && !is_revoked(lease))
            .map(|lease| LiveEntry { lease: lease.id, hard_end: lease.hard_end })
            .collect();
        let revoked = open.iter().chain(&all).filter(|lease: &&Lease| is_revoked(lease));
        self.entries.extend(revoked.map(|lease| (lease.id, entry(lease))));
        self.known = true;
        Ok(())
    }

    /// Adopts what an earlier process left on the role, before anything is written over it: the store may not be
    /// readable, or may be a backup that does not know what was revoked since.
    async fn adopt(&mut self, now: Timestamp) -> Result<(), String> {
        if self.adopted {
            return Ok(());
        }
        match self.read_role(now).await {
            Ok(()) => (self.adopted, self.known) = (true, true),
            // INVARIANT: stop-always-works. What the store knows is denied even when the role cannot be read.
            Err(why) if self.known => {
                tracing::warn!(
                    role.arn = self.arn,
                    why,
                    "a Deny policy is written over one that was not read"
                );
            }
            Err(why) => return Err(why),
        }
        Ok(())
    }

    async fn read_role(&mut self, now: Timestamp) -> Result<(), String> {
        if let Some(text) = self.read().await? {
            let found = serde_json::from_str::<Value>(&text).ok().as_ref().and_then(read_back);
            let (leases, watermark) = found.unwrap_or_else(|| {
                tracing::warn!(
                    role.arn = self.arn,
                    "the policy on the role is not one of ours; it is replaced"
                );
                (Vec::new(), false)
            });
            let hard_end = now.plus(UNKNOWN_AGE_SECONDS);
            for lease in leases {
                self.entries.entry(lease).or_insert(DenyEntry { lease, issued_at: now, hard_end });
            }
            self.unnamed_until = watermark.then_some(hard_end);
        }
        Ok(())
    }

    async fn write(&self, text: Option<&str>) -> Result<(), String> {
        let Some(text) = text else {
            let gone =
                self.iam.delete_role_policy().role_name(&self.name).policy_name(POLICY_NAME).send().await;
            return match gone {
                Err(error) if !is_absent(&error) => Err(said("DeleteRolePolicy", &error)),
                _ => Ok(()),
            };
        };
        let put =
            self.iam.put_role_policy().role_name(&self.name).policy_name(POLICY_NAME).policy_document(text);
        put.send().await.map(drop).map_err(|error| said("PutRolePolicy", &error))
    }

    async fn read(&self) -> Result<Option<String>, String> {
        match self.iam.get_role_policy().role_name(&self.name).policy_name(POLICY_NAME).send().await {
            Ok(found) => Ok(Some(percent_decoded(found.policy_document()))),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(said("GetRolePolicy", &error)),
        }
    }

    fn alarm(&self, desired: &DenyDocument) {
        if desired.level > Level::Listed {
            tracing::error!(
                role.arn = self.arn,
                deny.level = ?desired.level,
                deny.entries = self.entries.len(),
                "too many revocations to list: the role's Deny policy uses a watermark; spread the work over more roles"
            );
        }
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = || StoreError::Unreadable(format!("no answer within {} s", STORE_TIMEOUT.as_secs()));
    tokio::time::timeout(STORE_TIMEOUT, asked).await.unwrap_or_else(|_| Err(late()))
}

fn is_absent<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    error.code() == Some("NoSuchEntity")
}

fn said<E, R>(call: &str, error: &SdkError<E, R>) -> String
where
    E: ProvideErrorMetadata,
    SdkError<E, R>: std::error::Error + 'static,
{
    let code = error.code().map_or_else(|| "no answer".to_owned(), str::to_owned);
    format!("{call} failed ({code}): {}", chain(error))
}

/// Whether two policies say the same, however they are spelled.
fn same(found: Option<&str>, desired: Option<&str>) -> bool {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).ok();
    match (found, desired) {
        (None, None) => true,
        (Some(found), Some(desired)) => parsed(found).is_some_and(|found| Some(found) == parsed(desired)),
        _ => false,
    }
}

/// IAM gives policies percent-encoded (RFC 3986).
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let coded = (first == b'%').then(|| after.get(..2)).flatten();
        let byte = coded
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_compared_by_what_they_say() {
        let encoded = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%5D%7D";
        let desired = r#"{ "Statement": [], "Version": "2012-10-17" }"#;
        assert!(same(Some(&percent_decoded(encoded)), Some(desired)));
        assert!(!same(Some("{}"), Some(desired)));
        assert!(!same(Some("not json"), Some("not json")));
        assert!(same(None, None) && !same(None, Some(desired)) && !same(Some(desired), None));
    }

    #[test]
    fn a_stray_percent_sign_is_left_alone() {
        assert_eq!(percent_decoded("100%25 %zz %"), "100% %zz %");
    }
}
