//! Records as they come, on standard input: bare, in log files, or inside events of EventBridge. Before any of them is
//! judged the ledger is asked again, since what explains a session was written there before AWS was asked for it.

use std::io::Read as _;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::known::Known;
use super::send::Sent;
use super::shown;
use crate::cli::person::PersonClient;
use crate::reconcile::{MAX_RECORD_BYTES, Splitter, Trail};

/// How long what came may wait for more.
const WAIT: Duration = Duration::from_secs(1);
/// How often the broker is told what was found so far.
const TELL: Duration = Duration::from_secs(60);
/// Bytes that may wait.
const MAX_WAITING: usize = 8 * MAX_RECORD_BYTES;
/// Bytes read at once, and how many such pieces may wait for us.
const PIECE_BYTES: usize = 1 << 16;
const PIECES: usize = 16;

/// Cuts a stream; what is no record is counted, and the next line is read as if nothing had been.
#[derive(Default)]
pub(super) struct Lines {
    splitter: Splitter,
    skipping: bool,
}

impl Lines {
    /// Takes the next piece.
    pub(super) fn feed(&mut self, piece: &[u8], trail: &mut Trail) {
        for line in piece.split_inclusive(|byte| *byte == b'\n') {
            let ends = line.ends_with(b"\n");
            if self.skipping {
                self.skipping = !ends;
                continue;
            }
            if let Err(error) = self.splitter.feed(line, &mut |record| trail.take(record)) {
                trail.spoilt(&error.to_string());
                (self.splitter, self.skipping) = (Splitter::default(), !ends);
            }
        }
    }

    /// The stream ended; a record that was not whole is told.
    pub(super) fn end(mut self, trail: &mut Trail) {
        if let Err(error) = self.splitter.end() {
            trail.spoilt(&error.to_string());
        }
    }
}

/// Follows standard input until it ends or somebody interrupts. Says incidents on standard error as they come.
pub(super) async fn follow(
    client: &PersonClient,
    known: &mut Known,
    trail: &mut Trail,
    mut sent: Option<&mut Sent>,
) -> anyhow::Result<()> {
    let mut pieces = pieces();
    let (mut lines, mut waiting, mut told) = (Lines::default(), Vec::new(), Instant::now());
    let (mut said, mut ended, mut asked) = (0, false, Instant::now());
    while !ended {
        let piece = tokio::select! {
            piece = tokio::time::timeout(WAIT, pieces.recv()) => piece,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                eprintln!("interrupted; this is what was found so far");
                break;
            }
        };
        let idle = match piece {
            Ok(Some(piece)) => {
                waiting.extend(piece?);
                false
            }
            Ok(None) => {
                ended = true;
                true
            }
            Err(_) => true,
        };
        if waiting.is_empty() || !(idle || waiting.len() >= MAX_WAITING || asked.elapsed() > WAIT) {
            continue;
        }
        // Asked after what is judged was read, so that nothing of it can be younger than the answer.
        trail.learn(known.refresh(client).await?);
        asked = Instant::now();
        lines.feed(&waiting, trail);
        waiting.clear();
        for incident in trail.incidents().iter().skip(said) {
            eprintln!("{}", shown::incident(incident));
        }
        said = trail.incidents().len();
        if let Some(sent) = sent.as_deref_mut().filter(|_| told.elapsed() > TELL) {
            sent.tell(client, &trail.finish(client.now(), sent.settle())).await?;
            told = Instant::now();
        }
    }
    if ended {
        lines.end(trail);
    }
    trail.learn(known.refresh(client).await?);
    Ok(())
}

/// Reads standard input on a thread of its own, which ends with the process.
fn pieces() -> mpsc::Receiver<std::io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(PIECES);
    std::thread::spawn(move || {
        let (mut input, mut piece) = (std::io::stdin().lock(), vec![0; PIECE_BYTES]);
        loop {
            let read = input.read(&mut piece).map(|read| piece.get(..read).unwrap_or_default().to_vec());
            let is_end = read.as_ref().map_or(true, Vec::is_empty);
            let closed = match is_end && read.is_ok() {
                true => true,
                false => sender.blocking_send(read).is_err(),
            };
            if closed || is_end {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::Scope;

    const RECORD: &str =
        r#"{"eventID":"a","eventTime":"2026-11-26T01:00:00Z","eventSource":"s","eventName":"n"}"#;

    fn read(text: &str, piece: usize) -> (u64, u64) {
        let mut trail = Trail::new(Vec::new(), [], Scope::default());
        let mut lines = Lines::default();
        text.as_bytes().chunks(piece).for_each(|piece| lines.feed(piece, &mut trail));
        lines.end(&mut trail);
        let report = trail.finish(crate::domain::time::Timestamp::from_seconds(0), 0);
        (report.records, report.unreadable)
    }

    #[test]
    fn what_is_no_record_is_counted_and_the_next_line_is_read() {
        for piece in [1, 13, 10_000] {
            assert_eq!(read(&format!("{RECORD}\n\n{RECORD}\n"), piece), (2, 0), "{piece}");
            assert_eq!(read(&format!("{RECORD}\nhello {RECORD}\n{RECORD}\n"), piece), (3, 1), "{piece}");
            assert_eq!(read(&format!("{RECORD}\n{{\"cut"), piece), (2, 1), "{piece}");
            assert_eq!(read(&format!("{{\"Records\":[{RECORD},{RECORD}]}}\n"), piece), (2, 0), "{piece}");
        }
    }
}
