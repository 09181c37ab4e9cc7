//! The published log: a checkpoint is signed within a second of anything new, and kept before anybody sees it. What is
//! published never goes back: a store that is not trusted signs nothing.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use super::Broker;
use super::late_key::LateKey;
use super::ports::{KeySource, OwnKey, StoreError, StoredCheckpoint, Witness};
use super::refusal::{Code, Refusal};
use crate::domain::time::Timestamp;
use crate::ledger::checkpoint::{Checkpoint, FormerLogKey, LogKey, Origin, is_log_name};
use crate::ledger::note::SignedNote;
use crate::ledger::quorum::{BadWitnesses, Witnesses};
use crate::ledger::verifier_key::BadVerifierKey;

/// How the log is published.
pub struct Ledger {
    name: String,
    pub(super) key: LateKey,
    /// Signs beside the key, until everybody knows it.
    next: Option<LateKey>,
    former: Vec<FormerLogKey>,
    /// Whether the ledger tells of another key: not of one that is made for one life.
    pub(super) tells_its_key: bool,
    /// The log as others know it, once its key was opened and what former lives published was compared with it.
    pub(super) log: OnceLock<LogKey>,
    pub(super) witnesses: Vec<Arc<dyn Witness>>,
    pub(super) quorum: Witnesses,
    /// Seconds for which credentials are issued while too few witnesses cosign, or the key signs nothing.
    pub(super) max_age_seconds: i64,
    /// Days for which the bytes of entries are kept.
    pub(super) keep_days: u32,
    pub(super) newest: ArcSwapOption<StoredCheckpoint>,
    pub(super) changed: watch::Sender<u64>,
    /// The newest checkpoint that enough witnesses cosigned was the newest of all at this time.
    pub(super) witnessed_at: AtomicI64,
    /// When the oldest event came that no checkpoint covers; the greatest number while there is none.
    pub(super) unsigned_since: AtomicI64,
    /// What each witness holds of this origin, as far as we know.
    pub(super) held: Vec<AtomicU64>,
}

/// The keys of a log, or where they will be.
pub struct LogKeys {
    /// The one that signs.
    pub key: Arc<dyn KeySource>,
    /// Signs beside it, between two keys.
    pub next: Option<Arc<dyn KeySource>>,
    /// Those it had before.
    pub former: Vec<FormerLogKey>,
}

/// What is asked of witnesses, and of the log's key.
pub struct Witnessing {
    /// Who cosigns.
    pub witnesses: Vec<Arc<dyn Witness>>,
    /// How many of them must have seen the newest state.
    pub needed: usize,
    /// Seconds for which credentials are issued while fewer have, or while the log's key signs nothing.
    pub max_age_seconds: i64,
}

/// A log that cannot be published so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLedger {
    /// The name cannot stand in an origin, or the key is no Ed25519 key.
    #[error("the log's name or key: {0}")]
    Log(#[from] BadVerifierKey),
    /// The witnesses cannot be those of a log.
    #[error(transparent)]
    Witnesses(#[from] BadWitnesses),
}

/// Days for which the bytes of entries are kept unless an operator says otherwise.
pub const DEFAULT_KEEP_DAYS: u32 = 400;

impl Ledger {
    /// Its base name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A log without witnesses, under the defaults.
    pub fn unwitnessed(name: &str, key: impl Into<OwnKey>) -> Result<Self, BadLedger> {
        let none = Witnessing { witnesses: Vec::new(), needed: 0, max_age_seconds: 0 };
        Self::new(name, key, none, DEFAULT_KEEP_DAYS)
    }

    /// A log of this name whose key is there.
    pub fn new(
        name: &str,
        key: impl Into<OwnKey>,
        seen: Witnessing,
        keep_days: u32,
    ) -> Result<Self, BadLedger> {
        let key = key.into();
        LogKey::new(name, key.public().clone())?;
        let keys = LogKeys { key: Arc::new(key.clone()), next: None, former: Vec::new() };
        let late = Self::late(name, keys, seen, keep_days)?;
        Ok(Self { key: LateKey::there(key), tells_its_key: false, ..late })
    }

    /// A log of this name whose keys may come later: until then nothing of it is signed, and nothing issued.
    pub fn late(name: &str, keys: LogKeys, seen: Witnessing, keep_days: u32) -> Result<Self, BadLedger> {
        if !is_log_name(name) {
            return Err(BadVerifierKey::Name.into());
        }
        let Witnessing { witnesses, needed, max_age_seconds } = seen;
        let cosign = witnesses.iter().map(|witness| witness.key().clone()).collect();
        Ok(Self {
            name: name.to_owned(),
            key: LateKey::new(keys.key),
            next: keys.next.map(LateKey::new),
            former: keys.former,
            tells_its_key: true,
            log: OnceLock::new(),
            quorum: Witnesses::new(cosign, needed)?,
            held: witnesses.iter().map(|_| AtomicU64::new(0)).collect(),
            witnesses,
            max_age_seconds,
            keep_days,
            newest: ArcSwapOption::empty(),
            changed: watch::Sender::new(0),
            witnessed_at: AtomicI64::new(i64::MIN),
            unsigned_since: AtomicI64::new(i64::MAX),
        })
    }

    /// The log as others know it, once its key is there.
    pub fn log(&self) -> Option<&LogKey> {
        self.log.get()
    }

    /// Whether the key is there, so that nobody waits for a device.
    pub(super) fn has_key(&self) -> bool {
        self.key.opened().is_some()
    }

    /// Number of witnesses.
    pub fn witnesses(&self) -> usize {
        self.witnesses.len()
    }

    /// The newest published checkpoint.
    pub fn newest(&self) -> Option<Arc<StoredCheckpoint>> {
        self.newest.load_full()
    }

    /// The log under this key.
    pub(super) fn log_of(&self, key: &OwnKey) -> Result<LogKey, BadVerifierKey> {
        LogKey::new(&self.name, key.public().clone())?.with_former(self.former.clone())
    }

    /// Whether the log signed this checkpoint, as it is kept. One of its epoch that it did not sign stops issuance.
    pub fn is_ours(log: &LogKey, kept: &StoredCheckpoint) -> bool {
        let note = SignedNote::parse(kept.note.as_bytes());
        note.ok().and_then(|note| Checkpoint::open(&note, log).ok()).is_some_and(|signed| {
            (signed.size, signed.root, signed.origin.to_string())
                == (kept.size, kept.root, kept.origin.clone())
        })
    }

    /// Whether enough witnesses cosigned.
    pub(super) fn is_witnessed(&self, checkpoint: &StoredCheckpoint) -> bool {
        checkpoint.cosignatures.len() >= self.quorum.needed()
            && SignedNote::parse(checkpoint.cosigned_note().as_bytes())
                .is_ok_and(|note| self.quorum.satisfied(&note).is_ok())
    }
}

impl Broker {
    /// How the log is published.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Signs and keeps a checkpoint when there is something new, and judges how long that has failed, and how far witnesses
    /// are behind. Called at least once a second, by one caller at a time.
    pub async fn publish(&self) {
        if self.is_distrusted() {
            return;
        }
        let mut signed = false;
        // Opening finds out, too, whether the log is to be trusted.
        if self.open_log().await && !self.is_distrusted() {
            match self.sign_newest().await {
                Ok(()) => signed = true,
                Err(error) => {
                    tracing::error!(error = %error, "the newest checkpoint cannot be published; the next second tries again");
                }
            }
        }
        self.judge_unsigned(signed).await;
        self.judge_witnesses(self.gate.now()).await;
    }

    /// At the end of a life: the head is kept first, because no device can hold that up, and then what was recorded since
    /// the last second is published.
    pub async fn close_books(&self) {
        self.keep_head().await;
        self.publish().await;
    }

    pub(super) fn origin(&self) -> Option<Origin> {
        Origin::new(&self.ledger.name, self.gate.epoch()).ok()
    }

    pub(super) async fn sign_newest(&self) -> Result<(), StoreError> {
        let head = self.store.head().await?;
        let newest = self.ledger.newest();
        if head.size == 0 || newest.is_some_and(|newest| newest.size >= head.size) {
            return Ok(());
        }
        let unsignable =
            |why: String| StoreError::Unwritable(format!("a checkpoint cannot be signed: {why}"));
        let origin = Origin::new(&self.ledger.name, head.epoch).map_err(|e| unsignable(e.to_string()))?;
        let checkpoint = Checkpoint { origin, size: head.size, root: head.root };
        let text = checkpoint.text();
        let mut signatures = Vec::new();
        // Both or nothing: whoever knows the next key only must not find a checkpoint without it.
        for key in std::iter::once(&self.ledger.key).chain(&self.ledger.next) {
            let key = key.open(|| self.gate.since_boot()).await.map_err(|e| unsignable(e.to_string()))?;
            let signature = key.sign(text.as_bytes()).await.map_err(|e| unsignable(e.to_string()))?;
            signatures.push((key.public(), signature));
        }
        let note = checkpoint.signed(signatures).map_err(|e| unsignable(e.to_string()))?;
        let stored = StoredCheckpoint {
            size: head.size,
            origin: checkpoint.origin.to_string(),
            root: head.root,
            note: note.to_string(),
            at: self.gate.now(),
            cosignatures: Vec::new(),
        };
        self.store.keep_checkpoint(stored.clone()).await?;
        self.ledger.newest.store(Some(Arc::new(stored)));
        self.metrics.checkpoint(head.size);
        self.ledger.changed.send_replace(head.size);
        Ok(())
    }

    /// Issuance goes on while witnesses are down, up to the configured age.
    pub(super) async fn judge_witnesses(&self, now: Timestamp) {
        if self.ledger.witnesses.is_empty() {
            return;
        }
        let kept = match self.store.checkpoints().await {
            Ok(kept) => kept,
            Err(error) => {
                tracing::warn!(error = %error, "nobody can see what witnesses cosigned");
                return;
            }
        };
        if let (Some(shown), Some(kept)) = (self.ledger.newest(), kept.first())
            && shown.size == kept.size
        {
            self.ledger.newest.store(Some(Arc::new(kept.clone())));
        }
        if let Some((at, witnessed)) =
            kept.iter().enumerate().find(|(_, kept)| self.ledger.is_witnessed(kept))
        {
            let since = if at == 0 { now } else { witnessed.at };
            self.ledger.witnessed_at.fetch_max(since.seconds(), Ordering::AcqRel);
        }
        let age = now.seconds().saturating_sub(self.ledger.witnessed_at.load(Ordering::Acquire));
        self.metrics.witnessed_age(age);
        let needed = self.ledger.quorum.needed();
        self.gate.witnesses(match needed > 0 && age > self.ledger.max_age_seconds {
            true => Some(Refusal::new(
                Code::WitnessesMissing,
                format!(
                    "fewer than {needed} witnesses have seen the ledger within {} s; an operator must bring them back",
                    self.ledger.max_age_seconds
                ),
            )),
            false => None,
        });
    }
}
