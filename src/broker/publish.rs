//! The published log: a checkpoint is signed within a second of anything new, and kept before anybody sees it. What is
//! published never goes back: a store that is not trusted signs nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use super::Broker;
use super::ports::{OwnKey, StoreError, StoredCheckpoint, Witness};
use super::refusal::{Code, Refusal};
use crate::domain::time::Timestamp;
use crate::ledger::checkpoint::{Checkpoint, FormerLogKey, LogKey, Origin};
use crate::ledger::note::SignedNote;
use crate::ledger::quorum::{BadWitnesses, Witnesses};
use crate::ledger::verifier_key::BadVerifierKey;

/// How the log is published.
pub struct Ledger {
    log: LogKey,
    key: OwnKey,
    /// Signs beside the key, until everybody knows it.
    next: Option<OwnKey>,
    pub(super) witnesses: Vec<Arc<dyn Witness>>,
    pub(super) quorum: Witnesses,
    /// Seconds for which credentials are issued while too few witnesses cosign.
    max_age_seconds: i64,
    /// Days for which the bytes of entries are kept.
    pub(super) keep_days: u32,
    newest: ArcSwapOption<StoredCheckpoint>,
    pub(super) changed: watch::Sender<u64>,
    /// The newest checkpoint that enough witnesses cosigned was the newest of all at this time.
    witnessed_at: AtomicI64,
    /// What each witness holds of this origin, as far as we know.
    pub(super) held: Vec<AtomicU64>,
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
        self.log.name()
    }

    /// A log without witnesses, under the defaults.
    pub fn unwitnessed(name: &str, key: impl Into<OwnKey>) -> Result<Self, BadLedger> {
        Self::new(name, key, Vec::new(), 0, 0, DEFAULT_KEEP_DAYS)
    }

    /// A log of this name, of which `needed` of the witnesses must have seen the newest state within `max_age_seconds`.
    pub fn new(
        name: &str,
        key: impl Into<OwnKey>,
        witnesses: Vec<Arc<dyn Witness>>,
        needed: usize,
        max_age_seconds: i64,
        keep_days: u32,
    ) -> Result<Self, BadLedger> {
        let key = key.into();
        let log = LogKey::new(name, key.public().clone())?;
        let keys = witnesses.iter().map(|witness| witness.key().clone()).collect();
        Ok(Self {
            log,
            key,
            next: None,
            quorum: Witnesses::new(keys, needed)?,
            held: witnesses.iter().map(|_| AtomicU64::new(0)).collect(),
            witnesses,
            max_age_seconds,
            keep_days,
            newest: ArcSwapOption::empty(),
            changed: watch::Sender::new(0),
            witnessed_at: AtomicI64::new(i64::MIN),
        })
    }

    /// The log between two keys: `next` signs beside the key, and what the `former` signed in their time is still ours.
    pub fn rotating(mut self, next: Option<OwnKey>, former: Vec<FormerLogKey>) -> Result<Self, BadLedger> {
        if let Some(next) = &next {
            LogKey::new(self.log.name(), next.public().clone())?;
        }
        self.log = self.log.with_former(former)?;
        self.next = next;
        Ok(self)
    }

    /// The log as others know it.
    pub fn log(&self) -> &LogKey {
        &self.log
    }

    /// Number of witnesses.
    pub fn witnesses(&self) -> usize {
        self.witnesses.len()
    }

    /// The newest published checkpoint.
    pub fn newest(&self) -> Option<Arc<StoredCheckpoint>> {
        self.newest.load_full()
    }

    /// Whether our key signed this checkpoint, as it is kept.
    fn is_ours(&self, kept: &StoredCheckpoint) -> bool {
        let note = SignedNote::parse(kept.note.as_bytes());
        note.ok().and_then(|note| Checkpoint::open(&note, &self.log).ok()).is_some_and(|signed| {
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

    /// Takes up what a former life published.
    pub(super) async fn take_up_checkpoints(&self) -> Result<(), StoreError> {
        let kept = self.store.checkpoints().await?;
        let origin = self.origin().map(|origin| origin.to_string());
        let of_this_epoch = || kept.iter().filter(|kept| Some(&kept.origin) == origin.as_ref());
        if let Some(foreign) = of_this_epoch().find(|kept| !self.ledger.is_ours(kept)) {
            let why = format!(
                "the kept checkpoint of {} entries is not signed by the log's key (was the key, or the checkpoint, replaced?); an operator must bring back the key (`log-key.pem`, or what [keys.log] names), name its former one under [[keys.former_log]], or begin an epoch under the new one with `phasebroker store fence` and give it to whoever verifies",
                foreign.size
            );
            tracing::error!(why, "nothing is issued");
            self.distrust();
            self.gate.close(Refusal::new(Code::FenceNeeded, why));
        }
        for (held, witness) in self.ledger.held.iter().zip(&self.ledger.witnesses) {
            let cosigned = kept
                .iter()
                .filter(|kept| Some(&kept.origin) == origin.as_ref())
                .find(|kept| kept.cosignatures.iter().any(|line| line.witness == witness.key().name()));
            held.store(cosigned.map_or(0, |kept| kept.size), Ordering::Release);
        }
        // A log that enough witnesses never saw issues nothing until they have; a restart gives nobody more patience.
        let witnessed = kept.iter().find(|kept| self.ledger.is_witnessed(kept));
        let since = witnessed.map_or(i64::MIN, |kept| kept.at.seconds());
        self.ledger.witnessed_at.store(since, Ordering::Release);
        self.ledger.newest.store(of_this_epoch().next().cloned().map(Arc::new));
        Ok(())
    }

    /// Signs and keeps a checkpoint when there is something new, and judges how far witnesses are behind. Called at
    /// least once a second, by one caller at a time.
    pub async fn publish(&self) {
        if self.is_distrusted() {
            return;
        }
        if let Err(error) = self.sign_newest().await {
            tracing::error!(error = %error, "the newest checkpoint cannot be published; the next second tries again");
        }
        self.judge_witnesses(self.gate.now()).await;
    }

    /// At the end of a life: what was recorded since the last second is published, and its head kept, too.
    pub async fn close_books(&self) {
        self.publish().await;
        self.keep_head().await;
    }

    fn origin(&self) -> Option<Origin> {
        Origin::new(self.ledger.log.name(), self.gate.epoch()).ok()
    }

    async fn sign_newest(&self) -> Result<(), StoreError> {
        let head = self.store.head().await?;
        let newest = self.ledger.newest();
        if head.size == 0 || newest.is_some_and(|newest| newest.size >= head.size) {
            return Ok(());
        }
        let unsignable =
            |why: String| StoreError::Unwritable(format!("a checkpoint cannot be signed: {why}"));
        let origin =
            Origin::new(self.ledger.log.name(), head.epoch).map_err(|e| unsignable(e.to_string()))?;
        let checkpoint = Checkpoint { origin, size: head.size, root: head.root };
        let text = checkpoint.text();
        let mut signatures = Vec::new();
        // Both or nothing: whoever knows the next key only must not find a checkpoint without it.
        for key in std::iter::once(&self.ledger.key).chain(&self.ledger.next) {
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
