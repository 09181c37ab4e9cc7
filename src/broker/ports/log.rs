//! The log as others see it: its tree, its checkpoints, and what of it may go.

use std::fmt;

use async_trait::async_trait;

use super::store::StoreError;
use crate::domain::digest::Digest;
use crate::domain::event::Event;
use crate::domain::id::{GrantId, RunId};
use crate::domain::run::Run;
use crate::domain::time::Timestamp;
use crate::ledger::evidence::build::RecordedText;

/// Something in the recorded log is not what was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The first entry it touches.
    pub index: u64,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {}: {}", self.index, self.what)
    }
}

/// A checkpoint that the log's key signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCheckpoint {
    /// Number of entries.
    pub size: u64,
    /// Origin line: the log's name and its epoch.
    pub origin: String,
    /// Root hash.
    pub root: Digest,
    /// The signed note, without cosignatures.
    pub note: String,
    /// When it was signed.
    pub at: Timestamp,
    /// What witnesses added, by their names' order.
    pub cosignatures: Vec<Cosigned>,
}

/// One witness's line under a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigned {
    /// Name of the witness's key.
    pub witness: String,
    /// The signature line, without its newline.
    pub line: String,
    /// When it was received.
    pub at: Timestamp,
}

impl StoredCheckpoint {
    /// The note with every cosignature.
    pub fn cosigned_note(&self) -> String {
        let lines = self.cosignatures.iter().map(|cosigned| format!("{}\n", cosigned.line));
        std::iter::once(self.note.clone()).chain(lines).collect()
    }
}

/// What a pruning took away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// The first entry whose bytes are kept (the log's minimum index).
    pub first_kept: u64,
    /// Entries whose bytes went.
    pub entries: u64,
}

/// Of what everything recorded is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordedOf {
    /// A run.
    Run(RunId),
    /// An administration grant, whose events belong to no run.
    Administration(GrantId),
    /// The ends of epochs, each of which the store's fence recorded.
    Fences {
        /// Those behind this place.
        after: u64,
    },
}

/// An event with everything beside it.
#[derive(Debug, Clone)]
pub struct RecordedEvent {
    /// Its place in the ledger.
    pub index: u64,
    /// Its immutable bytes.
    pub bytes: Vec<u8>,
    /// Texts that were not erased, with their salts.
    pub texts: Vec<RecordedText>,
}

/// The recorded log. Every method is one transaction.
#[async_trait]
pub trait Log: Send + Sync {
    /// Compares the tree with the events, the kept checkpoints with the tree: the first thing that is wrong.
    async fn damage(&self) -> Result<Option<Damage>, StoreError>;
    /// Root hash of the first `size` entries; `None` when the log has fewer.
    async fn root_at(&self, size: u64) -> Result<Option<Digest>, StoreError>;
    /// Path of an entry in the tree of `size` entries; `None` when there is no such entry or tree.
    async fn inclusion(&self, index: u64, size: u64) -> Result<Option<Vec<Digest>>, StoreError>;
    /// That the tree of `old` entries is the beginning of the one of `new`; `None` when there are no such trees.
    async fn consistency(&self, old: u64, new: u64) -> Result<Option<Vec<Digest>>, StoreError>;
    /// Hashes of complete subtrees of `256^row` entries, `count` from the `first`th; fewer when there are no more.
    async fn row(&self, row: u8, first: u64, count: u64) -> Result<Vec<Digest>, StoreError>;
    /// Bytes of `count` entries from `first`; fewer when there are no more. Nothing of them when any was pruned.
    async fn entries(&self, first: u64, count: u64) -> Result<Vec<Vec<u8>>, StoreError>;

    /// Events of one thing in order, at most `limit`.
    async fn recorded(&self, of: RecordedOf, limit: u32) -> Result<Vec<RecordedEvent>, StoreError>;

    /// Keeps a signed checkpoint. Older ones go, except the newest, and the newest that witnesses cosigned.
    async fn keep_checkpoint(&self, checkpoint: StoredCheckpoint) -> Result<(), StoreError>;
    /// Keeps a witness's cosignature of the checkpoint of `size` entries, if that is still kept.
    async fn keep_cosignature(&self, size: u64, cosigned: Cosigned) -> Result<(), StoreError>;
    /// The checkpoints that are kept, newest first.
    async fn checkpoints(&self) -> Result<Vec<StoredCheckpoint>, StoreError>;

    /// Takes away the bytes and texts of entries recorded before `before`, as far as nothing open refers to them, at
    /// most `limit`; their leaves stay, so that every proof holds. With `event`, when anything goes.
    async fn prune(
        &self,
        before: Timestamp,
        limit: u64,
        event: PruneEvent,
    ) -> Result<Option<Pruned>, StoreError>;
    /// Runs opened before `before` that nobody closed, in which nothing is open or was issued since; at most 100.
    async fn open_runs_of(&self, before: Timestamp) -> Result<Vec<Run>, StoreError>;
    /// The first entry whose bytes are kept.
    async fn first_kept(&self) -> Result<u64, StoreError>;
}

/// Makes the event that tells of a pruning.
pub type PruneEvent = fn(Pruned, Timestamp) -> Event;
