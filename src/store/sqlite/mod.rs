//! The default store: one SQLite file (WAL, synchronous=FULL), one writing thread with group commit, a few readers.
//! A second process is refused by a lock. What cannot be read is an error, never "absent".

mod administrations;
pub mod audit;
mod changes;
mod checkpoints;
mod cursors;
mod decisions;
mod erasing;
mod fault;
mod freezes;
mod keys;
mod ledger;
mod listing;
mod lock;
mod log;
mod observations;
mod opening;
mod playbooks;
mod port;
mod prune;
mod readers;
mod recorded;
mod reservations;
mod reviews;
mod rows;
mod rules;
mod schema;
mod sealing;
mod search;
mod tables;
mod tree;
mod verify;
mod writer;

use std::path::Path;

pub use lock::ProcessLock;
pub(super) use schema::{copy_to, freezes_of, inspect, settle};

use crate::broker::ports::{Committed, StoreError};
use fault::{Abort, Fault};
use readers::Readers;
use writer::Writer;

/// Why a store could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("`{path}` is in use by process {pid}; stop that broker first, or give this one another file")]
    InUse {
        /// The store.
        path: String,
        /// The process that holds it; 0 when its lock file does not say.
        pid: u32,
    },
    /// It cannot be opened or created.
    #[error("`{path}` cannot be opened as a store: {why}")]
    Unusable {
        /// The store, or its lock file.
        path: String,
        /// Why.
        why: String,
    },
}

/// How a store is opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// The largest size the database file may grow to; when it is reached, writes are refused as on a full disk.
    pub max_bytes: Option<u64>,
    /// Keeps no tree, so that its cost can be measured. A store written so is damaged: no broker issues anything on it.
    pub without_tree: bool,
}

/// A store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    // In the order they are dropped. Nothing has the file open when the lock goes: whoever closes it last deletes the
    // write-ahead log, and by then that may be another's.
    writer: Writer,
    readers: Readers,
    lock: ProcessLock,
}

impl SqliteStore {
    /// Opens the store at `path`, creating it when it is not there.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(path, Options::default())
    }

    /// Opens the store with `options`.
    pub fn open_with(path: &Path, options: Options) -> Result<Self, OpenError> {
        Self::open_locked_with(ProcessLock::take(path)?, options)
    }

    /// Opens the store whose lock is held.
    pub fn open_locked(lock: ProcessLock) -> Result<Self, OpenError> {
        Self::open_locked_with(lock, Options::default())
    }

    fn open_locked_with(lock: ProcessLock, options: Options) -> Result<Self, OpenError> {
        let path = lock.path().to_owned();
        lock::create(&path)?;
        let unusable = |fault: Fault| OpenError::Unusable {
            path: path.display().to_string(),
            why: fault.on_write().to_string(),
        };
        let conn = schema::writer(&path, options.max_bytes).map_err(unusable)?;
        changes::release_writers(&conn).map_err(unusable)?;
        let readers = Readers::open(&path).map_err(unusable)?;
        let checkpointer = readers::checkpointer(&path).map_err(unusable)?;
        let writer = Writer::start(conn, checkpointer, !options.without_tree)
            .map_err(|e| unusable(Fault::Unstorable(e.to_string())))?;
        Ok(Self { writer, readers, lock })
    }

    /// Takes what was erased out of the WAL too, where the frames of earlier writes lie until they are overwritten.
    /// As good as it goes: a reader in the way leaves them there until a later checkpoint has room.
    async fn empty_wal(&self) {
        let path = self.lock.path().to_owned();
        let settled = tokio::task::spawn_blocking(move || schema::settle(&path)).await;
        if !matches!(settled, Ok(Ok(true))) {
            tracing::warn!("erased words may stay in the write-ahead log until it is next overwritten");
        }
    }

    /// Writes that can fail only with the store.
    async fn put<T, F>(&self, operation: F) -> Result<Committed<T>, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut ledger::Tx<'_>) -> Result<T, Fault> + Send + 'static,
    {
        self.writer.write(move |tx| operation(tx).map_err(Abort::<StoreError>::from)).await
    }
}
