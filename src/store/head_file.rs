//! The ledger's head in a file outside the store, so that a restored backup is noticed (design section 5, Restore).
//! One write at a time serves everybody who waits; the file is replaced whole, and never goes back but by a fence.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as Shared, PoisonError};

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::whole_file::replace_file;
use crate::broker::ports::{Head, HeadError, HeadKeeper};
use crate::domain::canonical;

/// Keeps the head in one JSON file.
#[derive(Debug)]
pub struct HeadFile {
    path: PathBuf,
    /// The newest head anybody asked to keep.
    wanted: Arc<Shared<Option<Head>>>,
    /// What the file holds, once read; whoever holds this lock writes for all who wait.
    kept: Arc<Mutex<Option<Head>>>,
}

impl HeadFile {
    /// Keeps the head at `path`; the file is made by the first advance.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), wanted: Arc::default(), kept: Arc::default() }
    }

    /// Works on the file alone. The lock goes along, so that a caller who gives up leaves no half-done write to others.
    async fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path, &mut Option<Head>) -> Result<T, HeadError> + Send + 'static,
    ) -> Result<T, HeadError> {
        let mut kept = Arc::clone(&self.kept).lock_owned().await;
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || work(&path, &mut kept))
            .await
            .map_err(|_| HeadError("its writer stopped; restart the broker".into()))?
    }
}

/// The order of heads: a later epoch, then more events.
fn rank(head: &Head) -> (u64, u64) {
    (head.epoch, head.size)
}

#[async_trait]
impl HeadKeeper for HeadFile {
    async fn known(&self) -> Result<Option<Head>, HeadError> {
        self.alone(|path, _| read(path)).await
    }

    async fn advance(&self, head: Head) -> Result<(), HeadError> {
        {
            let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            *wanted = Some(newer(*wanted, head));
        }
        let wanted = Arc::clone(&self.wanted);
        self.alone(move |path, kept| {
            if kept.is_none() {
                *kept = read(path)?;
            }
            if kept.is_some_and(|kept| rank(&kept) >= rank(&head)) {
                return Ok(());
            }
            // Whoever came while the last write was under way is served by this one.
            let newest = newer(*wanted.lock().unwrap_or_else(PoisonError::into_inner), head);
            write(path, &newest)?;
            *kept = Some(newest);
            Ok(())
        })
        .await
    }

    async fn replace(&self, head: Head) -> Result<(), HeadError> {
        let wanted = Arc::clone(&self.wanted);
        self.alone(move |path, kept| {
            write(path, &head)?;
            *wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(head);
            *kept = Some(head);
            Ok(())
        })
        .await
    }
}

fn newer(known: Option<Head>, head: Head) -> Head {
    known.filter(|known| rank(known) >= rank(&head)).unwrap_or(head)
}

fn failed(path: &Path, what: &str, error: &dyn std::fmt::Display) -> HeadError {
    HeadError(format!("`{}` cannot be {what}: {error}", path.display()))
}

fn read(path: &Path) -> Result<Option<Head>, HeadError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, "read", &error)),
    };
    // INVARIANT: unknown-is-no. A head that cannot be understood is not a missing one.
    canonical::from_bytes(&bytes).map(Some).map_err(|error| failed(path, "understood", &error))
}

/// Replaces the file whole: a crash leaves the old head or the new one.
fn write(path: &Path, head: &Head) -> Result<(), HeadError> {
    let bytes = canonical::to_bytes(head).map_err(|error| failed(path, "written", &error))?;
    replace_file(path, &bytes).map_err(|error| failed(path, "written", &error))
}
