//! The one thread that writes. It takes whatever is queued into one transaction (group commit), with a savepoint per
//! operation, and answers only after the commit. A refusal waits too: it may rest on an operation of the same batch.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::ffi::ErrorCode;
use tokio::sync::oneshot;

use super::fault::{Abort, Fault, Reach};
use super::ledger::Tx;
use crate::broker::ports::{Committed, Head, StoreError};

/// Most operations in one transaction.
const MAX_BATCH: usize = 512;
/// Most operations waiting; more are refused at once instead of growing without bound.
const MAX_QUEUE: usize = 4096;
/// Quiet time after which a checkpoint is asked for.
const QUIET: Duration = Duration::from_millis(200);

/// The queue to the writer thread.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<SyncSender<Box<dyn Job>>>,
    /// The writer, and then the checkpointer, which ends with it.
    threads: Vec<JoinHandle<()>>,
}

/// One queued operation: tried inside the batch, answered after its commit.
trait Job: Send {
    fn attempt(&mut self, tx: &mut Tx<'_>) -> Attempt;
    fn answer(self: Box<Self>, outcome: Result<Head, StoreError>);
}

enum Attempt {
    /// Keep what it wrote.
    Done,
    /// Undo what it wrote.
    Undo,
    /// The transaction is lost.
    Lost(StoreError, Reach),
}

struct Queued<T, R, F> {
    operation: Option<F>,
    result: Option<Result<T, R>>,
    answer: oneshot::Sender<Result<Committed<T>, R>>,
}

impl<T, R, F> Job for Queued<T, R, F>
where
    T: Send,
    R: From<StoreError> + Send,
    F: FnOnce(&mut Tx<'_>) -> Result<T, Abort<R>> + Send,
{
    fn attempt(&mut self, tx: &mut Tx<'_>) -> Attempt {
        let Some(operation) = self.operation.take() else { return Attempt::Undo };
        match operation(tx) {
            Ok(value) => {
                self.result = Some(Ok(value));
                Attempt::Done
            }
            Err(Abort::Refused(why)) => {
                self.result = Some(Err(why));
                Attempt::Undo
            }
            Err(Abort::Fault(fault)) => match fault.reach() {
                Reach::Operation => {
                    self.result = Some(Err(fault.on_write().into()));
                    Attempt::Undo
                }
                reach => Attempt::Lost(fault.on_write(), reach),
            },
        }
    }

    fn answer(self: Box<Self>, outcome: Result<Head, StoreError>) {
        let answer = match (outcome, self.result) {
            (Ok(head), Some(Ok(value))) => Ok(Committed { value, head }),
            (Ok(_), Some(Err(why))) => Err(why),
            (Ok(_), None) => Err(StoreError::Unwritable("the operation was not run".into()).into()),
            (Err(error), _) => Err(error.into()),
        };
        // The caller may have gone away; what is committed stays committed.
        let _ = self.answer.send(answer);
    }
}

impl Writer {
    /// Starts the thread. The checkpointer is told when a checkpoint would disturb nobody; `grows` says whether a tree is kept.
    pub(super) fn start(
        conn: Connection,
        (quiet, checkpointer): (SyncSender<()>, JoinHandle<()>),
        grows: bool,
    ) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(MAX_QUEUE);
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || work(&conn, &jobs, &quiet, grows))?;
        Ok(Self { queue: Some(queue), threads: vec![thread, checkpointer] })
    }

    /// Runs one operation inside the next transaction; returns after its commit.
    pub(super) async fn write<T, R, F>(&self, operation: F) -> Result<Committed<T>, R>
    where
        T: Send + 'static,
        R: From<StoreError> + Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, Abort<R>> + Send + 'static,
    {
        let gone = || R::from(StoreError::Unwritable("the writer stopped; restart the broker".into()));
        let (answer, answered) = oneshot::channel();
        let job = Box::new(Queued { operation: Some(operation), result: None, answer });
        match self.queue.as_ref().map(|queue| queue.try_send(job)) {
            Some(Ok(())) => {}
            Some(Err(TrySendError::Full(_))) => {
                return Err(
                    StoreError::Unwritable("busy: too many writes are waiting; try again".into()).into()
                );
            }
            Some(Err(TrySendError::Disconnected(_))) | None => return Err(gone()),
        }
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn work(conn: &Connection, jobs: &Receiver<Box<dyn Job>>, quiet: &SyncSender<()>, grows: bool) {
    let mut poison: Option<StoreError> = None;
    let mut written = false;
    loop {
        let first = match jobs.recv_timeout(QUIET) {
            Ok(job) => job,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                if std::mem::take(&mut written) {
                    let _ = quiet.try_send(());
                }
                match jobs.recv() {
                    Ok(job) => job,
                    Err(_) => return,
                }
            }
        };
        let mut batch = vec![first];
        batch.extend(jobs.try_iter().take(MAX_BATCH - 1));
        let outcome = match &poison {
            Some(error) => Err(error.clone()),
            None => commit(conn, &mut batch, grows).map_err(|(error, reach)| {
                tracing::error!(error = %error, poisoned = reach == Reach::Writer, "a transaction was lost");
                if reach == Reach::Writer {
                    poison = Some(StoreError::Unwritable(format!(
                        "an earlier write failed and nobody knows what the disk holds ({error}); restart the broker"
                    )));
                }
                error
            }),
        };
        written |= outcome.is_ok();
        for job in batch {
            job.answer(outcome.clone());
        }
    }
}

/// One transaction for the whole batch; the head it reached.
fn commit(conn: &Connection, batch: &mut [Box<dyn Job>], grows: bool) -> Result<Head, (StoreError, Reach)> {
    let outcome = transact(conn, batch, grows);
    if outcome.is_err() && !conn.is_autocommit() {
        // SQLite has often rolled back by itself already; a failed rollback leaves a connection nobody may use.
        if let Err(error) = conn.execute_batch("ROLLBACK") {
            return Err((Fault::Sql(error).on_write(), Reach::Writer));
        }
    }
    outcome
}

fn transact(conn: &Connection, batch: &mut [Box<dyn Job>], grows: bool) -> Result<Head, (StoreError, Reach)> {
    let lost = |fault: Fault| {
        let reach = fault.reach().max_batch();
        (fault.on_write(), reach)
    };
    let run = |sql: &str| {
        conn.prepare_cached(sql).and_then(|mut s| s.execute([])).map_err(|error| lost(Fault::Sql(error)))
    };
    run("BEGIN IMMEDIATE")?;
    let mut tx = Tx::begin(conn, grows).map_err(lost)?;
    let before = tx.head;
    for job in batch {
        let mark = tx.mark();
        run("SAVEPOINT operation")?;
        match job.attempt(&mut tx) {
            Attempt::Done => {}
            Attempt::Undo => {
                run("ROLLBACK TO operation")?;
                tx.back_to(&mark);
            }
            Attempt::Lost(error, reach) => return Err((error, reach)),
        }
        run("RELEASE operation")?;
    }
    let head = match tx.head == before {
        true => before,
        false => tx.keep().map_err(lost)?,
    };
    match conn.execute_batch("COMMIT") {
        Ok(()) => Ok(head),
        Err(error) => {
            let reach = match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy) => Reach::Batch,
                _ => Reach::Writer,
            };
            Err((Fault::Sql(error).on_write(), reach))
        }
    }
}

impl Reach {
    /// A failure of the transaction's own statements is at least the batch's.
    fn max_batch(self) -> Self {
        if self == Reach::Writer { self } else { Reach::Batch }
    }
}
