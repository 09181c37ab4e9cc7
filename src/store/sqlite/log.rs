//! The log's port, method by method.

use async_trait::async_trait;

use super::{SqliteStore, checkpoints, prune, recorded, rows, tree, verify};
use crate::broker::ports::{
    Cosigned, Damage, Log, PruneEvent, Pruned, RecordedEvent, RecordedOf, StoreError, StoredCheckpoint,
};
use crate::domain::digest::Digest;
use crate::domain::run::Run;
use crate::domain::time::Timestamp;

#[async_trait]
impl Log for SqliteStore {
    async fn damage(&self) -> Result<Option<Damage>, StoreError> {
        self.readers.read(verify::damage).await
    }

    async fn root_at(&self, size: u64) -> Result<Option<Digest>, StoreError> {
        self.readers.read(move |conn| tree::root_at(conn, size)).await
    }

    async fn inclusion(&self, index: u64, size: u64) -> Result<Option<Vec<Digest>>, StoreError> {
        self.readers.read(move |conn| tree::inclusion(conn, index, size)).await
    }

    async fn consistency(&self, old: u64, new: u64) -> Result<Option<Vec<Digest>>, StoreError> {
        self.readers.read(move |conn| tree::consistency(conn, old, new)).await
    }

    async fn row(&self, row: u8, first: u64, count: u64) -> Result<Vec<Digest>, StoreError> {
        self.readers.read(move |conn| tree::row(conn, row, first, count)).await
    }

    async fn entries(&self, first: u64, count: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        self.readers.read(move |conn| tree::entries(conn, first, count)).await
    }

    async fn recorded(&self, of: RecordedOf, limit: u32) -> Result<Vec<RecordedEvent>, StoreError> {
        self.readers.read(move |conn| recorded::recorded(conn, of, limit)).await
    }

    async fn keep_checkpoint(&self, checkpoint: StoredCheckpoint) -> Result<(), StoreError> {
        self.put(move |tx| checkpoints::keep(tx.conn, &checkpoint)).await.map(|_| ())
    }

    async fn keep_cosignature(&self, size: u64, cosigned: Cosigned) -> Result<(), StoreError> {
        self.put(move |tx| checkpoints::cosign(tx.conn, size, &cosigned)).await.map(|_| ())
    }

    async fn checkpoints(&self) -> Result<Vec<StoredCheckpoint>, StoreError> {
        self.readers.read(checkpoints::all).await
    }

    async fn prune(
        &self,
        before: Timestamp,
        limit: u64,
        event: PruneEvent,
    ) -> Result<Option<Pruned>, StoreError> {
        let pruned = self.put(move |tx| prune::prune(tx, before, limit, event)).await?.value;
        if pruned.is_some_and(|pruned| pruned.entries < limit) {
            self.empty_wal().await;
        }
        Ok(pruned)
    }

    async fn open_runs_of(&self, before: Timestamp) -> Result<Vec<Run>, StoreError> {
        self.readers.read(move |conn| rows::runs_open_since(conn, before)).await
    }

    async fn first_kept(&self) -> Result<u64, StoreError> {
        self.readers.read(prune::first_kept).await
    }
}
