//! Having checkpoints cosigned: each witness in its own time, so that one that is down holds up nobody. A witness also
//! knows the head: when it has seen more than the store holds, or something else, nothing is issued any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::Broker;
use super::ports::{Cosigned, Head, StoredCheckpoint, Witness, WitnessAnswer};
use super::refusal::{Code, Refusal};
use crate::domain::canonical::MAX_SAFE_INTEGER;
use crate::ledger::note::{SignatureLine, SignedNote};
use crate::ledger::witness::AddCheckpoint;

/// How often one checkpoint is sent again after the witness told which size it holds.
const TURNS: usize = 4;
/// The shortest wait after a failure; doubled up to the longest.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Why a checkpoint was not cosigned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotCosigned {
    /// It cannot be reached, or failed; later perhaps.
    #[error("{0}")]
    Failed(String),
    /// It has seen another log than the store holds.
    #[error("{0}")]
    Contradicted(String),
}

/// How often it is looked whether the log is taken up.
const TAKEN_UP: Duration = Duration::from_millis(100);

impl Broker {
    /// Has every new checkpoint cosigned by the `at`th witness, until `stopped`.
    pub async fn keep_witnessed(self: Arc<Self>, at: usize, mut stopped: watch::Receiver<bool>) {
        // Whoever takes the log up asks first, and before anything is issued.
        while self.ledger.log().is_none() {
            tokio::select! {
                () = tokio::time::sleep(TAKEN_UP) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
        }
        let mut changed = self.ledger.changed.subscribe();
        // The first question is about what is published already: nobody knows whether anything comes after it.
        let mut wait = Some(Duration::ZERO);
        loop {
            let next = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => drop(changed.changed().await),
                }
            };
            tokio::select! {
                () = next => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            wait = match self.ask_witness(at).await {
                Ok(()) => None,
                Err(_) => Some(longer(wait)),
            };
        }
    }

    /// Asks every witness once, at the same time; how many cosigned.
    pub async fn ask_witnesses(&self) -> usize {
        let all = (0..self.ledger.witnesses.len()).map(|at| self.ask_witness(at));
        let cosigned = futures_util::future::join_all(all).await.iter().filter(|asked| asked.is_ok()).count();
        self.judge_witnesses(self.gate.now()).await;
        cosigned
    }

    /// Has the newest checkpoint cosigned by the `at`th witness.
    pub async fn ask_witness(&self, at: usize) -> Result<(), NotCosigned> {
        let (Some(witness), Some(held)) = (self.ledger.witnesses.get(at), self.ledger.held.get(at)) else {
            return Err(NotCosigned::Failed("there is no such witness".into()));
        };
        let Some(newest) = self.ledger.newest().filter(|_| !self.is_distrusted()) else { return Ok(()) };
        let name = witness.key().name();
        let mut asked = self.have_cosigned(witness, held, &newest).await;
        if let Err(NotCosigned::Contradicted(_)) = asked {
            // Nothing signs this answer, so that it must be given twice.
            asked = self.have_cosigned(witness, held, &newest).await;
        }
        if let Err(why) = &asked {
            self.metrics.witness_failed(name);
            tracing::error!(witness = name, why = %why, "a checkpoint was not cosigned");
            if let NotCosigned::Contradicted(_) = why {
                self.contradicted(name).await;
            }
        }
        asked
    }

    async fn have_cosigned(
        &self,
        witness: &Arc<dyn Witness>,
        held: &AtomicU64,
        newest: &StoredCheckpoint,
    ) -> Result<(), NotCosigned> {
        let mut old = held.load(Ordering::Acquire);
        for _ in 0..TURNS {
            match self.submit(witness, newest, old).await? {
                None => {
                    held.store(newest.size, Ordering::Release);
                    return Ok(());
                }
                // It holds less than we thought, or more that we also have.
                Some(other) => old = other,
            }
        }
        Err(NotCosigned::Failed("it tells another size each time".into()))
    }

    /// One request; the size that the witness holds, when that is another than `old`.
    async fn submit(
        &self,
        witness: &Arc<dyn Witness>,
        newest: &StoredCheckpoint,
        old: u64,
    ) -> Result<Option<u64>, NotCosigned> {
        let failed = |why: &dyn std::fmt::Display| NotCosigned::Failed(why.to_string());
        let contradicted = |why: String| Err(NotCosigned::Contradicted(why));
        let proof = match old {
            0 => Some(Vec::new()),
            _ => self.store.consistency(old, newest.size).await.map_err(|e| failed(&e))?,
        };
        let Some(proof) = proof else {
            // A later checkpoint than this one was cosigned meanwhile, or the store is behind.
            let size = self.store.head().await.map_err(|e| failed(&e))?.size;
            return match old <= size {
                true => Err(NotCosigned::Failed("it holds a newer checkpoint already".into())),
                false => contradicted(format!("it has seen {old} entries, and the store holds {size}")),
            };
        };
        let checkpoint = SignedNote::parse(newest.note.as_bytes()).map_err(|e| failed(&e))?;
        let request = AddCheckpoint { old, proof, checkpoint: checkpoint.clone() }.to_string();
        let WitnessAnswer { status, content_type, body } =
            witness.add_checkpoint(request).await.map_err(|e| failed(&e))?;
        // What a proxy says in a witness's place is no word about the log.
        let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match (status, media_type.as_str()) {
            (200, _) => {
                let line = self.cosignature(witness, &checkpoint, &body)?;
                self.store.keep_cosignature(newest.size, line).await.map_err(|e| failed(&e))?;
                Ok(None)
            }
            (409, "text/x.tlog.size") => {
                let held = body.trim_end().parse().map_err(|_| failed(&"its answer holds no size"))?;
                match held == old {
                    // The very size that it says it holds: only the root can be another.
                    true if held == newest.size => contradicted("it holds another tree of this size".into()),
                    true => Err(failed(&"it refuses the size that it told")),
                    false => Ok(Some(held)),
                }
            }
            // SECURITY: our proof is right about our store; a witness that it does not convince has seen another one.
            (409, "text/plain") => {
                contradicted("it cosigned another tree, or a later epoch, of this log".into())
            }
            (422, "text/plain") => contradicted("the store does not continue what it cosigned".into()),
            (status, _) => Err(failed(&format!("it answered {status}"))),
        }
    }

    /// The witness's own line, verified; lines of others are not ours to keep.
    fn cosignature(
        &self,
        witness: &Arc<dyn Witness>,
        checkpoint: &SignedNote,
        answer: &str,
    ) -> Result<Cosigned, NotCosigned> {
        let failed = |why: &dyn std::fmt::Display| NotCosigned::Failed(why.to_string());
        let lines = SignatureLine::parse_all(answer).map_err(|e| failed(&e))?;
        let line = lines.into_iter().find(|line| line.is_by(witness.key()));
        let line = line.ok_or_else(|| failed(&"its answer is signed by another key than is configured"))?;
        let note = checkpoint.with_lines(std::slice::from_ref(&line)).map_err(|e| failed(&e))?;
        note.verify(std::slice::from_ref(witness.key())).map_err(|e| failed(&e))?;
        Ok(Cosigned { witness: witness.key().name().to_owned(), line: line.to_string(), at: self.gate.now() })
    }

    /// INVARIANT: one-use, across restores that take the head kept outside back, too.
    async fn contradicted(&self, witness: &str) {
        self.distrust();
        // The next start may not reach this witness: what it said is kept where a start looks, until a fence.
        let known = self.store.head().await.map(|head| Head { size: MAX_SAFE_INTEGER, ..head });
        let kept = match known {
            Ok(known) => self.heads.advance(known).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = kept {
            tracing::error!(error, "fence the store before the next restart, which might not ask for it");
        }
        self.gate.close(Refusal::new(
            Code::FenceNeeded,
            format!(
                "witness `{witness}` has seen another ledger than the broker's store holds (was a backup restored, or the store copied?); an operator must run `phasebroker store fence`"
            ),
        ));
    }
}

/// How long to wait after a failure that came `last` after the one before.
fn longer(last: Option<Duration>) -> Duration {
    last.unwrap_or_default().saturating_mul(2).clamp(SHORTEST_WAIT, LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_that_fails_is_never_asked_again_at_once_and_never_given_up() {
        let mut wait = longer(Some(Duration::ZERO));
        assert_eq!(wait, SHORTEST_WAIT, "the first question comes without a wait, its repetition does not");
        assert_eq!(longer(None), SHORTEST_WAIT);
        for _ in 0..10 {
            assert!(longer(Some(wait)) >= wait);
            wait = longer(Some(wait));
        }
        assert_eq!(wait, LONGEST_WAIT);
    }
}
