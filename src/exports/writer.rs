//! A thread of its own for writes that may hang (a full pipe, a disk that is away): whoever waits for one gives up, and
//! neither the runtime nor its end waits for it.

use std::io;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;

use tokio::sync::oneshot;

type Job = (Vec<u8>, oneshot::Sender<io::Result<()>>);

/// The thread's door.
pub(super) struct Writer {
    jobs: SyncSender<Job>,
}

impl Writer {
    /// Starts the thread, which writes what it is given with `write`.
    pub(super) fn start(
        name: &str,
        mut write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        // One may wait: a write that hangs is never followed by more than one other.
        let (jobs, waiting) = sync_channel::<Job>(1);
        thread::Builder::new().name(format!("export-{name}")).spawn(move || {
            while let Ok((bytes, done)) = waiting.recv() {
                // Whoever asked may have given up.
                let _ = done.send(write(&bytes));
            }
        })?;
        Ok(Self { jobs })
    }

    /// Writes, and returns once that is done.
    pub(super) async fn write(&self, bytes: Vec<u8>) -> Result<(), String> {
        let (done, answer) = oneshot::channel();
        self.jobs.try_send((bytes, done)).map_err(|error| match error {
            TrySendError::Full(_) => "an earlier write hangs".to_owned(),
            TrySendError::Disconnected(_) => "its thread is gone; restart the broker".to_owned(),
        })?;
        match answer.await {
            Ok(written) => written.map_err(|error| error.to_string()),
            Err(_) => Err("its thread is gone; restart the broker".to_owned()),
        }
    }
}
