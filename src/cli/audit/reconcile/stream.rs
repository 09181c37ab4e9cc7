//! Records as they come, on standard input, each on a line of its own: bare, as a log file, or inside an event of
//! EventBridge. Before any of them is judged the ledger is asked again, since what explains a session was written there
//! before AWS was asked for it.

use std::io::Read as _;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::asked::{ATTEMPTS, Asked, Waits};
use super::shown;
use crate::reconcile::{MAX_RECORD_BYTES, Splitter, Trail};

/// How long what came may wait for more.
const WAIT: Duration = Duration::from_secs(1);
/// How often the broker is told what was found so far.
pub(super) const TELL: Duration = Duration::from_secs(60);
/// Bytes that may wait.
const MAX_WAITING: usize = 8 * MAX_RECORD_BYTES;
/// Bytes read at once, and how many such pieces may wait for us.
const PIECE_BYTES: usize = 1 << 16;
const PIECES: usize = 16;

/// Pieces of a stream.
pub(super) type Pieces = mpsc::Receiver<std::io::Result<Vec<u8>>>;

/// Cuts a stream into lines; what is no record is counted, and the next line is read as if nothing had been.
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
                trail.spoilt(&error.to_string(), &self.splitter.give_up());
                self.skipping = !ends;
            }
            // SECURITY: what is open at the end of a line would swallow every line after it.
            if ends && self.splitter.is_open() {
                trail.spoilt("its line ends in the middle", &self.splitter.give_up());
            }
        }
    }

    /// The stream ended; a record that was not whole is told.
    pub(super) fn end(mut self, trail: &mut Trail) {
        if self.splitter.is_open() {
            trail.spoilt("it ends in the middle; it was cut off", &self.splitter.give_up());
        }
    }
}

/// What came and was not judged yet.
struct Input {
    pieces: Pieces,
    waiting: Vec<u8>,
    ended: bool,
}

impl Input {
    /// Takes the next piece; whether nothing more comes for now. While the broker is away no more is taken than may wait.
    async fn take(&mut self, not_before: Instant, trail: &mut Trail) -> bool {
        if self.ended || self.waiting.len() >= MAX_WAITING {
            tokio::time::sleep_until(not_before.into()).await;
            return true;
        }
        match tokio::time::timeout(WAIT, self.pieces.recv()).await {
            Ok(Some(Ok(piece))) => {
                self.waiting.extend(piece);
                return false;
            }
            Ok(Some(Err(error))) => trail.spoilt(&format!("standard input: {error}"), &[]),
            Ok(None) => self.ended = true,
            Err(_) => {}
        }
        true
    }
}

/// Follows a stream until it ends or somebody interrupts. Says incidents on standard error as they come. A broker that
/// does not answer is asked again, and what came meanwhile is kept.
pub(super) async fn follow(
    pieces: Pieces,
    asked: &mut impl Asked,
    trail: &mut Trail,
    waits: Waits,
    tell_every: Duration,
) -> anyhow::Result<()> {
    let mut input = Input { pieces, waiting: Vec::new(), ended: false };
    let (mut lines, mut said, mut last_ask) = (Lines::default(), (0, 0), Instant::now());
    let (mut asking, mut not_before) = (waits, Instant::now());
    let (mut telling, mut tell_at) = (waits, Instant::now() + tell_every);
    while !input.ended || !input.waiting.is_empty() {
        let idle = tokio::select! {
            idle = input.take(not_before, trail) => idle,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                eprintln!("interrupted; this is what was found so far");
                break;
            }
        };
        // A stream that is quiet is told of as well: leases settle, and new ones come.
        if Instant::now() >= tell_at {
            tell_at = Instant::now() + tell_every;
            match tell(asked, trail).await {
                Ok(()) => telling = waits,
                Err(error) => tell_at = Instant::now() + telling.after(&error),
            }
        }
        let is_due = idle || input.waiting.len() >= MAX_WAITING || last_ask.elapsed() > WAIT;
        if input.waiting.is_empty() || !is_due || Instant::now() < not_before {
            continue;
        }
        last_ask = Instant::now();
        // Asked after what is judged was read, so that nothing of it can be younger than the answer.
        match asked.refresh().await {
            Ok(leases) => trail.learn(leases),
            Err(error) => {
                not_before = Instant::now() + asking.after(&error);
                if input.ended && asking.failures >= ATTEMPTS {
                    break;
                }
                continue;
            }
        }
        (asking, not_before) = (waits, Instant::now());
        lines.feed(&input.waiting, trail);
        input.waiting.clear();
        said = say(trail, said);
    }
    if !input.waiting.is_empty() {
        trail.spoilt(&format!("{} bytes came that were not judged", input.waiting.len()), &[]);
    }
    if input.ended {
        lines.end(trail);
    }
    trail.learn(asked.refresh_patiently(waits).await?);
    Ok(())
}

/// Tells what was found so far, of what the ledger says by now.
async fn tell(asked: &mut impl Asked, trail: &mut Trail) -> anyhow::Result<()> {
    trail.learn(asked.refresh().await?);
    asked.tell(trail).await
}

/// Says the incidents that are new, and of how many no more is said.
fn say(trail: &Trail, (listed, more): (usize, u64)) -> (usize, u64) {
    for incident in trail.incidents().iter().skip(listed) {
        eprintln!("{}", shown::incident(incident));
    }
    if trail.more_incidents() > more {
        eprintln!("and {} more incidents, of which only the number is kept", trail.more_incidents());
    }
    (trail.incidents().len(), trail.more_incidents())
}

/// Reads standard input on a thread of its own, which ends with the process.
pub(super) fn standard_input() -> Pieces {
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
    use crate::cli::audit::reconcile::asked::Fake;
    use crate::domain::time::Timestamp;
    use crate::reconcile::Scope;

    const RECORD: &str =
        r#"{"eventID":"a","eventTime":"2026-11-26T01:00:00Z","eventSource":"s","eventName":"n"}"#;

    fn read(text: &str, piece: usize) -> (u64, u64) {
        let mut trail = Trail::new(Vec::new(), [], Scope::default());
        let mut lines = Lines::default();
        text.as_bytes().chunks(piece).for_each(|piece| lines.feed(piece, &mut trail));
        lines.end(&mut trail);
        let report = trail.finish(Timestamp::from_seconds(0), 0);
        (report.records, report.unreadable)
    }

    #[test]
    fn what_is_no_record_is_counted_and_the_next_line_is_read() {
        for piece in [1, 13, 10_000] {
            assert_eq!(read(&format!("{RECORD}\n\n{RECORD}\n"), piece), (2, 0), "{piece}");
            assert_eq!(read(&format!("{RECORD}\nhello {RECORD}\n{RECORD}\n"), piece), (3, 1), "{piece}");
            assert_eq!(read(&format!("{RECORD}\n{{\"cut"), piece), (2, 1), "{piece}");
            assert_eq!(read(&format!("{{\"Records\":[{RECORD},{RECORD}]}}\n"), piece), (2, 0), "{piece}");
            assert_eq!(read(&format!("{RECORD}{RECORD}\n"), piece), (2, 0), "{piece}");
        }
    }

    #[test]
    fn a_line_that_is_cut_or_without_measure_blinds_nobody_for_the_next() {
        let long = format!("{{\"a\":\"{}", "x".repeat(MAX_RECORD_BYTES + 10));
        for cut in ["{\"eventID\":\"a", "{\"a\":{", "{", "{\"Records\":[", "{\"Records\":[{\"a\":1},", &long]
        {
            let text = format!("{RECORD}\n{cut}\n{RECORD}\n{RECORD}\n");
            let whole = u64::from(cut.contains("1}"));
            for piece in [7, 100_000] {
                let start: String = cut.chars().take(20).collect();
                assert_eq!(read(&text, piece), (4 + whole, 1 + whole), "{start} {piece}");
            }
        }
    }

    async fn followed(away: u32) -> (anyhow::Result<()>, u64, u64) {
        let (sender, pieces) = mpsc::channel(PIECES);
        for _ in 0..3 {
            sender.send(Ok(format!("{RECORD}\n").into_bytes())).await.unwrap();
        }
        drop(sender);
        let mut trail = Trail::new(Vec::new(), [], Scope::default());
        let mut fake = Fake { away, ..Fake::default() };
        let done = follow(pieces, &mut fake, &mut trail, Waits::none(), TELL).await;
        let report = trail.finish(Timestamp::from_seconds(0), 0);
        (done, report.records, report.unreadable)
    }

    #[tokio::test]
    async fn a_stream_on_which_nothing_comes_is_told_of_all_the_same() {
        let (sender, pieces) = mpsc::channel(PIECES);
        sender.send(Ok(Vec::new())).await.unwrap();
        // It ends once it was told of.
        let mut fake = Fake { until_told: Some(sender), ..Fake::default() };
        let mut trail = Trail::new(Vec::new(), [], Scope::default());
        let done = follow(pieces, &mut fake, &mut trail, Waits::none(), Duration::ZERO);
        tokio::time::timeout(Duration::from_secs(20), done).await.unwrap().unwrap();
        assert!(fake.told > 0 && fake.asked > fake.told, "asked before it is told");
    }

    #[tokio::test]
    async fn a_broker_that_is_away_for_a_while_ends_no_following_and_loses_nothing() {
        for away in [0, 1, ATTEMPTS - 1] {
            let (done, records, unreadable) = followed(away).await;
            assert_eq!((done.is_ok(), records, unreadable), (true, 3, 0), "{away}");
        }
        // One that stays away is told, and so is what was not judged.
        let (done, records, unreadable) = followed(u32::MAX).await;
        assert_eq!((done.is_ok(), records, unreadable), (false, 1, 1));
    }
}
