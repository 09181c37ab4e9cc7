//! How long a connection may keep us waiting: briefly for a header that has begun, longer between requests.
//! hyper's own header timer runs from the last answer on, and so cannot give the two different times.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

/// What we wait for.
#[derive(Debug, Clone, Copy)]
enum Waiting {
    /// The rest of a header (or the first one).
    Header(Instant),
    /// The next request.
    Idle(Instant),
    /// Nothing of the peer's: a request is being answered.
    Answering,
    /// Nothing: its place is needed.
    Over,
}

/// The clock of one connection.
pub(super) struct Patience {
    header: Duration,
    idle: Duration,
    waiting: Mutex<Waiting>,
    changed: Notify,
}

/// A request is being answered for as long as this lives.
pub(super) struct Asked<'a>(&'a Patience);

impl Patience {
    /// A new connection, from which a header is expected.
    pub(super) fn new(header: Duration, idle: Duration) -> Self {
        let waiting = Mutex::new(Waiting::Header(Instant::now()));
        Self { header, idle, waiting, changed: Notify::new() }
    }

    /// Since when the peer has had nothing of us to wait for, idle ones before those that have begun to ask.
    pub(super) fn dispensable(&self) -> Option<(bool, Instant)> {
        match self.waiting() {
            Waiting::Idle(since) => Some((false, since)),
            Waiting::Header(since) => Some((true, since)),
            Waiting::Answering | Waiting::Over => None,
        }
    }

    /// Ends the connection, unless a request is being answered by now.
    pub(super) fn make_room(&self) {
        if self.dispensable().is_some() {
            self.set(Waiting::Over);
        }
    }

    /// The handshake is done; a header is expected from now on.
    pub(super) fn shook_hands(&self) {
        self.set(Waiting::Header(Instant::now()));
    }

    /// A whole header has arrived.
    pub(super) fn asked(&self) -> Asked<'_> {
        self.set(Waiting::Answering);
        Asked(self)
    }

    /// Resolves when the peer has kept us waiting for too long.
    pub(super) async fn ends(&self) {
        loop {
            let changed = self.changed.notified();
            let deadline = match self.waiting() {
                Waiting::Header(since) => since + self.header,
                Waiting::Idle(since) => since + self.idle,
                Waiting::Over => return,
                Waiting::Answering => {
                    changed.await;
                    continue;
                }
            };
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return,
                () = changed => {}
            }
        }
    }

    fn heard(&self) {
        if let Waiting::Idle(_) = self.waiting() {
            self.set(Waiting::Header(Instant::now()));
        }
    }

    fn waiting(&self) -> Waiting {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, waiting: Waiting) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = waiting;
        self.changed.notify_one();
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        // From here on the peer has the idle time to take the answer and ask again.
        self.0.set(Waiting::Idle(Instant::now()));
    }
}

/// A stream whose reads are noticed.
pub(super) struct Watched<S> {
    stream: S,
    patience: Arc<Patience>,
}

impl<S> Watched<S> {
    /// Watches `stream`.
    pub(super) fn new(stream: S, patience: Arc<Patience>) -> Self {
        Self { stream, patience }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.patience.heard();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
