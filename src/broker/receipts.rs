//! What outsiders read of the log: tiles, proofs between checkpoints, and receipts of single events.

use serde::{Deserialize, Serialize};

use super::Broker;
use super::ports::StoredCheckpoint;
use super::refusal::{Code, Refusal};
use crate::domain::digest::{Digest, encode};
use crate::domain::principal::AgentSlug;
use crate::ledger::events::ReadEvent;
use crate::ledger::hash::leaf_hash;
use crate::ledger::note::SignedNote;
use crate::ledger::tile::{self, Kind, Tile};
use crate::ledger::tlog_proof::TlogProof;

/// Proof that an event is in the log, checkable without us.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Receipt {
    /// Its index.
    pub index: u64,
    /// The exact bytes, base64url.
    pub event: String,
    /// Its leaf hash (RFC 6962).
    #[schema(value_type = String)]
    pub leaf: Digest,
    /// From the leaf to the root of the checkpoint, lowest first.
    #[schema(value_type = Vec<String>)]
    pub path: Vec<Digest>,
    /// The signed checkpoint, with the cosignatures of witnesses.
    pub checkpoint: String,
    /// Index, path and checkpoint in one text (C2SP tlog-proof).
    pub proof: String,
}

/// Proof that one state of the log is the beginning of another.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Continuation {
    /// Number of entries then.
    pub old: u64,
    /// Number of entries of the checkpoint.
    pub new: u64,
    /// The proof (RFC 6962 section 2.1.2).
    #[schema(value_type = Vec<String>)]
    pub path: Vec<Digest>,
    /// The newest signed checkpoint.
    pub checkpoint: String,
}

impl Broker {
    /// The newest checkpoint that was published.
    pub fn checkpoint(&self) -> Result<std::sync::Arc<StoredCheckpoint>, Refusal> {
        self.ledger().newest().ok_or_else(not_yet)
    }

    /// The bytes of a tile of the published tree; `None` when that has no such tile.
    pub async fn tile(&self, tile: Tile) -> Result<Option<Vec<u8>>, Refusal> {
        let size = self.checkpoint()?.size;
        if !tile.is_in(size) {
            return Ok(None);
        }
        let width = u64::from(tile.width());
        let first = tile.number().saturating_mul(u64::from(tile::WIDTH));
        let failed = |error| self.gate.store_failed(&error);
        match tile.kind() {
            Kind::Hashes(row) => {
                let hashes = self.store.row(row, first, width).await.map_err(failed)?;
                Ok((hashes.len() == usize::from(tile.width())).then(|| tile::encode_hashes(&hashes)))
            }
            Kind::Entries => {
                let entries = self.store.entries(first, width).await.map_err(failed)?;
                match entries.len() == usize::from(tile.width()) {
                    true => Ok(tile::encode_entries(&entries).ok()),
                    false => Err(pruned()),
                }
            }
        }
    }

    /// That the log of the newest checkpoint goes on from the one of `old` entries.
    pub async fn continuation(&self, old: u64) -> Result<Continuation, Refusal> {
        let newest = self.checkpoint()?;
        let path = self.store.consistency(old, newest.size).await.map_err(|e| self.gate.store_failed(&e))?;
        match path {
            Some(path) => {
                Ok(Continuation { old, new: newest.size, path, checkpoint: newest.cosigned_note() })
            }
            None => Err(Refusal::new(
                Code::NotFound,
                format!("the log has {} entries, and had no state of {old}", newest.size),
            )),
        }
    }

    /// The receipt of one event; an agent gets those of its own runs.
    pub async fn receipt(&self, index: u64, agent: Option<&AgentSlug>) -> Result<Receipt, Refusal> {
        let failed = |error| self.gate.store_failed(&error);
        let missing =
            || Refusal::new(Code::NotFound, format!("there is no entry {index}, or it is not yours"));
        if index >= self.checkpoint()?.size {
            let size = self.store.head().await.map_err(failed)?.size;
            return Err(if index < size { not_yet() } else { missing() });
        }
        let bytes = self.store.entries(index, 1).await.map_err(failed)?.pop();
        let bytes = match bytes {
            Some(bytes) => bytes,
            None if index < self.store.first_kept().await.map_err(failed)? => return Err(pruned()),
            None => return Err(missing()),
        };
        if let Some(agent) = agent {
            let run = ReadEvent::parse(&bytes).ok().and_then(|event| event.run).ok_or_else(missing)?;
            let run = self.store.run(run).await.map_err(failed)?;
            run.filter(|run| run.agent == *agent).ok_or_else(missing)?;
        }
        let checkpoint = self.checkpoint_over(index).await?;
        let path = self.store.inclusion(index, checkpoint.size).await.map_err(failed)?.ok_or_else(not_yet)?;
        let note = checkpoint.cosigned_note();
        let signed = SignedNote::parse(note.as_bytes()).map_err(|error| {
            tracing::error!(error = %error, "a kept checkpoint cannot be read");
            Refusal::new(
                Code::StoreUnavailable,
                "a kept checkpoint cannot be read; the broker's log says why",
            )
        })?;
        let proof = TlogProof { extra: None, index, path: path.clone(), checkpoint: signed }.to_string();
        let leaf = leaf_hash(&bytes);
        Ok(Receipt { index, event: encode(&bytes), leaf, path, checkpoint: note, proof })
    }

    /// The newest checkpoint over the entry that enough witnesses cosigned; without one, the newest of all.
    pub(super) async fn checkpoint_over(&self, index: u64) -> Result<StoredCheckpoint, Refusal> {
        let kept = self.store.checkpoints().await.map_err(|error| self.gate.store_failed(&error))?;
        let mut over = kept.into_iter().filter(|kept| kept.size > index).peekable();
        let newest = over.peek().cloned().ok_or_else(not_yet)?;
        Ok(over.find(|kept| self.ledger().is_witnessed(kept)).unwrap_or(newest))
    }
}

fn not_yet() -> Refusal {
    Refusal::new(Code::Conflict, "no checkpoint over this entry is signed yet; try again in a second")
        .retry_after(1)
}

fn pruned() -> Refusal {
    Refusal::new(
        Code::NotFound,
        "the bytes of these entries were pruned; their hashes, and every proof, are kept",
    )
}
