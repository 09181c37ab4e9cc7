//! A few connections that cannot write, and the thread that checkpoints in quiet moments from one of its own.

use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::Semaphore;

use super::fault::Fault;
use super::schema;
use crate::broker::ports::StoreError;

/// Read connections; more readers than this wait for one another.
const CONNECTIONS: usize = 4;
/// For how long a store that is let go of waits for the reads of callers who went away.
const LAST_READS: Duration = Duration::from_secs(5);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(1);

/// The read connections.
#[derive(Debug)]
pub(super) struct Readers {
    places: Semaphore,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    /// Opens them all.
    pub(super) fn open(path: &Path) -> Result<Self, Fault> {
        let idle = (0..CONNECTIONS).map(|_| schema::reader(path)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { places: Semaphore::new(CONNECTIONS), idle: Arc::new(Mutex::new(idle)) })
    }

    /// Reads inside one transaction, so that what belongs together is of one moment.
    pub(super) async fn read<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let gone = || StoreError::Unreadable("a reader stopped; restart the broker".into());
        let _place = self.places.acquire().await.map_err(|_| gone())?;
        let idle = Arc::clone(&self.idle);
        let work = move || {
            let taken = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut conn) = taken else { return Err(gone()) };
            let outcome = conn
                .transaction_with_behavior(TransactionBehavior::Deferred)
                .map_err(Fault::Sql)
                .and_then(|tx| query(&tx));
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
            outcome.map_err(Fault::on_read)
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| gone())?
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let looks = LAST_READS.as_millis() / LOOK.as_millis();
        for _ in 0..looks {
            if Arc::strong_count(&self.idle) == 1 {
                return;
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Starts the thread that moves the WAL into the file whenever it is told that all is quiet; it ends with its sender.
pub(super) fn checkpointer(path: &Path) -> Result<(SyncSender<()>, JoinHandle<()>), Fault> {
    let conn = schema::connect(path)?;
    let (quiet, calls) = sync_channel::<()>(1);
    let work = move || {
        while calls.recv().is_ok() {
            // PASSIVE waits for nobody and blocks nobody (https://sqlite.org/c3ref/wal_checkpoint_v2.html).
            if let Err(error) = conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
                tracing::warn!(error = %error, "a checkpoint failed; the next quiet moment tries again");
            }
        }
    };
    let thread = std::thread::Builder::new().name("store-checkpoint".into()).spawn(work);
    Ok((quiet, thread.map_err(|e| Fault::Unstorable(e.to_string()))?))
}
