//! The log's key: opened when it is there, and then held against what former lives published. Until that is done, and again
//! when it has signed nothing for too long, nothing is issued; ends and revocations ask no key.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Broker;
use super::ports::{KeptKey, StoreError, StoredCheckpoint};
use super::publish::Ledger;
use super::refusal::{Code, Refusal};

use crate::ledger::checkpoint::LogKey;
use crate::ledger::events::ReadEvent;

/// How long an opening waits for witnesses: longer than one of them may take for an answer.
const WITNESS_PATIENCE: Duration = Duration::from_secs(7);

impl Broker {
    /// At start: a key that is there is taken up at once; for any other the gate stays shut until the publisher opened it,
    /// and what former lives published is shown as it is kept.
    pub(super) async fn begin_log(&self) {
        if self.ledger.has_key() {
            return self.publish().await;
        }
        self.gate.before_keys(true);
        if let Err(error) = self.take_up_checkpoints(None).await {
            tracing::error!(error = %error, "the kept checkpoints cannot be read");
        }
    }

    /// Opens the log's key where that was not done, and takes up what was published under it; whether it is done.
    pub(super) async fn open_log(&self) -> bool {
        if self.ledger.log().is_some() {
            return true;
        }
        let Ok(key) = self.ledger.key.open(|| self.gate.since_boot()).await else { return false };
        let taken_up = match self.ledger.log_of(key) {
            Ok(log) => self.take_up_log(log).await,
            Err(why) => Err(why.to_string()),
        };
        if let Err(why) = &taken_up {
            tracing::error!(why, "the log is not taken up; the next seconds try again");
        }
        taken_up.is_ok()
    }

    async fn take_up_log(&self, log: LogKey) -> Result<(), String> {
        self.former_keys_end_within(&log).await?;
        self.take_up_checkpoints(Some(&log)).await.map_err(|error| error.to_string())?;
        if !self.is_distrusted() {
            if self.ledger.tells_its_key {
                let kept = self.store.kept_keys().await.map_err(|error| error.to_string())?;
                let noted = self.note_own_key(&kept.keys, KeptKey::Log(log.key().clone())).await;
                noted.map_err(|error| error.to_string())?;
            }
            self.sign_newest().await.map_err(|error| error.to_string())?;
            // Witnesses know the head, too: one that has seen more is heard before anything is issued.
            let asked = tokio::time::timeout(WITNESS_PATIENCE, self.ask_witnesses()).await;
            if asked.is_err() {
                tracing::warn!("a witness does not answer; it is asked again while the broker serves");
            }
        }
        // Once only: whoever was first says the same.
        let _ = self.ledger.log.set(log);
        Ok(())
    }

    /// A last checkpoint of a former key that lies beyond the log would let whoever steals that key go on with it.
    async fn former_keys_end_within(&self, log: &LogKey) -> Result<(), String> {
        let head = self.store.head().await.map_err(|error| error.to_string())?;
        match log.beyond(head.epoch, head.size) {
            None => Ok(()),
            Some(former) => Err(format!(
                "[[keys.former_log]] names {} entries of epoch {} as the last checkpoint of a former key, and the log holds {} of epoch {}: write what `phasebroker audit check` says",
                former.size, former.epoch, head.size, head.epoch
            )),
        }
    }

    /// Takes up what a former life published, and, once the log's key is there, finds out whether it is the log's.
    async fn take_up_checkpoints(&self, log: Option<&LogKey>) -> Result<(), StoreError> {
        let kept = self.store.checkpoints().await?;
        let origin = self.origin().map(|origin| origin.to_string());
        let of_this_epoch = || kept.iter().filter(|kept| Some(&kept.origin) == origin.as_ref());
        let foreign = |log: &LogKey| of_this_epoch().find(|kept| !Ledger::is_ours(log, kept)).cloned();
        if let Some(foreign) = log.and_then(foreign) {
            let why = format!(
                "the kept checkpoint of {} entries is not signed by the log's key (was the key, or the checkpoint, replaced?); an operator must bring back the key (`log-key.pem`, or what [keys.log] names), name its former one under [[keys.former_log]], or begin an epoch under the new one with `phasebroker store fence` and give it to whoever verifies",
                foreign.size
            );
            tracing::error!(why, "nothing is issued");
            self.distrust();
            self.gate.close(Refusal::new(Code::FenceNeeded, why));
        }
        for (held, witness) in self.ledger.held.iter().zip(&self.ledger.witnesses) {
            let by = |kept: &&StoredCheckpoint| {
                kept.cosignatures.iter().any(|line| line.witness == witness.key().name())
            };
            held.store(of_this_epoch().find(by).map_or(0, |kept| kept.size), Ordering::Release);
        }
        // A log that enough witnesses never saw issues nothing until they have; a restart gives nobody more patience.
        let witnessed = kept.iter().find(|kept| self.ledger.is_witnessed(kept));
        let since = witnessed.map_or(i64::MIN, |kept| kept.at.seconds());
        self.ledger.witnessed_at.store(since, Ordering::Release);
        self.ledger.newest.store(of_this_epoch().next().cloned().map(Arc::new));
        Ok(())
    }

    /// Issuance goes on while the log's key is away, up to the age that witnesses are given too; but not before it was there
    /// once.
    pub(super) async fn judge_unsigned(&self, signed: bool) {
        let (now, since) = (self.gate.now().seconds(), &self.ledger.unsigned_since);
        if signed {
            since.store(i64::MAX, Ordering::Release);
        } else if since.load(Ordering::Acquire) == i64::MAX {
            // By the event itself: a restart gives nobody more patience.
            since.store(self.first_unsigned().await.unwrap_or(now), Ordering::Release);
        }
        let age = now.saturating_sub(since.load(Ordering::Acquire)).max(0);
        self.metrics.unsigned_age(age);
        let most = self.ledger.max_age_seconds;
        self.gate.log(match (self.ledger.log().is_none(), age > most) {
            (true, _) => Some(away()),
            (false, true) => Some(unsigned(format!(
                "no checkpoint has covered the newest of the ledger for more than {most} s; an operator must bring back the log's key (the broker's log says why)"
            ))),
            (false, false) => None,
        });
    }

    /// When the first event came that the newest checkpoint does not cover.
    async fn first_unsigned(&self) -> Option<i64> {
        let covered = self.ledger.newest().map_or(0, |newest| newest.size);
        let events = self.store.events(None, covered, 1).await.ok()?;
        Some(ReadEvent::parse(&events.first()?.bytes).ok()?.at.seconds())
    }
}

fn away() -> Refusal {
    unsigned("the log's key is not there; an operator must bring it back (the broker's log says why)".into())
}

fn unsigned(why: String) -> Refusal {
    Refusal::new(Code::LogUnsigned, why).retry_after(10)
}
