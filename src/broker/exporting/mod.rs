//! Copies of the log to sinks: each sink has a task, a cursor and a patience of its own, so that one that is slow or
//! gone holds up neither issuance nor another. At least once, in order, resumed by index.

pub(super) mod counts;
pub mod polls;
mod read;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Broker;
use super::ports::{LoggedEvent, Sink};

/// Events read at a time.
pub(super) const BATCH: u32 = 256;
/// A batch is cut where its events together are larger.
const BATCH_BYTES: usize = 1 << 20;
/// How often the log is looked at while nothing is new.
const IDLE: Duration = Duration::from_millis(250);
/// For one batch to be taken.
const PATIENCE: Duration = Duration::from_secs(60);
/// Waits between tries: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// One sink, and where it begins.
pub struct Export {
    /// Where the copies go.
    pub sink: Arc<dyn Sink>,
    /// A sink that is new begins with the first event there is, instead of the next.
    pub from_start: bool,
}

/// How far a sink has come, here and in the store.
struct Place {
    next: u64,
    kept: u64,
    /// Events given at a time: fewer after a failure, for a receiver that is slow or refuses what is large.
    batch: u32,
}

impl Broker {
    /// Copies the log to one sink until `stopped`; then what is left, as far as the sink takes it.
    pub async fn export(self: Arc<Self>, export: Export, mut stopped: watch::Receiver<bool>) {
        let name = format!("sink:{}", export.sink.name());
        let mut place: Option<Place> = None;
        let mut wait = BACKOFF.0;
        loop {
            let moved = match &mut place {
                None => match self.begin(&name, export.from_start).await {
                    Ok(begun) => {
                        place = Some(begun);
                        Ok(true)
                    }
                    Err(why) => Err(why),
                },
                Some(place) => self.export_some(&export, &name, place).await,
            };
            let ending = *stopped.borrow();
            match moved {
                Ok(true) => wait = BACKOFF.0,
                Ok(false) if ending => return,
                Ok(false) => pause(IDLE, &mut stopped).await,
                Err(why) => {
                    self.metrics.export_failed(export.sink.name());
                    tracing::warn!(
                        sink = export.sink.name(),
                        why,
                        "the log was not copied; it is tried again"
                    );
                    self.show_lag(&export, place.as_ref()).await;
                    if ending {
                        return;
                    }
                    pause(wait, &mut stopped).await;
                    wait = wait.saturating_mul(2).min(BACKOFF.1);
                }
            }
        }
    }

    /// Where the sink stands: where it left off, or, when it is new, at the end or the beginning of the log.
    async fn begin(&self, name: &str, from_start: bool) -> Result<Place, String> {
        if let Some(kept) = self.store.cursor(name).await.map_err(|error| error.to_string())? {
            return Ok(Place { next: kept, kept, batch: BATCH });
        }
        let head = self.store.head().await.map_err(|error| error.to_string())?;
        let next = match from_start {
            // A new sink misses nothing of what was pruned before it was there.
            true => self.store.first_kept().await.map_err(|error| error.to_string())?,
            false => head.size,
        };
        self.store.keep_cursor(name, next).await.map_err(|error| error.to_string())?;
        Ok(Place { next, kept: next, batch: BATCH })
    }

    /// Copies one batch; false when there was nothing to do.
    async fn export_some(&self, export: &Export, name: &str, place: &mut Place) -> Result<bool, String> {
        let head = self.store.head().await.map_err(|error| error.to_string())?;
        self.metrics.export_lag(export.sink.name(), head.size.saturating_sub(place.next));
        if place.next < head.size {
            let (events, end) = self.logged(head.epoch, place.next, place.batch).await?;
            if let Some(first) = events.first().map(|event| event.index).filter(|first| *first > place.next) {
                self.tell_of_gap(export.sink.name(), place.next, first);
                // Kept with whatever is taken, so that it is told once.
                place.next = first;
            }
            let asked = tokio::time::timeout(PATIENCE, export.sink.deliver(&events)).await;
            let (taken, refused, failure) = match asked {
                Ok(Ok(delivered)) => (delivered.taken, delivered.refused, None),
                Ok(Err(error)) => (error.taken, error.refused, Some(error.why)),
                Err(_) => (0, 0, Some(format!("not taken within {} s", PATIENCE.as_secs()))),
            };
            if taken > 0 {
                place.next = events.get(taken).map_or(end, |event| event.index);
            }
            place.batch = match failure {
                Some(_) => (place.batch / 4).max(1),
                None => place.batch.saturating_mul(2).min(BATCH),
            };
            self.metrics.export_refused(export.sink.name(), refused);
            self.metrics.export_lag(export.sink.name(), head.size.saturating_sub(place.next));
            self.keep_place(name, place).await?;
            return failure.map_or(Ok(true), Err);
        }
        self.keep_place(name, place).await?;
        Ok(false)
    }

    /// Events from `from` on, bounded in number and size, and the index after the last. What was pruned is not there.
    async fn logged(&self, epoch: u64, from: u64, most: u32) -> Result<(Vec<LoggedEvent>, u64), String> {
        let stored = self.store.events(None, from, most).await.map_err(|error| error.to_string())?;
        let (mut events, mut bytes, mut end) = (Vec::with_capacity(stored.len()), 0, from);
        for one in stored {
            bytes += one.bytes.len();
            if bytes > BATCH_BYTES && !events.is_empty() {
                break;
            }
            end = one.index + 1;
            events.push(self.logged_event(epoch, &one).await?);
        }
        match events.is_empty() {
            true => Err("the log ends before its head".into()),
            false => Ok((events, end)),
        }
    }

    /// A copier that was away for longer than the log keeps its entries gets the rest, but not in silence.
    fn tell_of_gap(&self, name: &str, from: u64, first_kept: u64) {
        self.metrics.export_failed(name);
        tracing::error!(
            sink = name,
            skipped = first_kept.saturating_sub(from),
            from,
            first_kept,
            "events were pruned before they were copied; this sink never gets them"
        );
    }

    async fn keep_place(&self, name: &str, place: &mut Place) -> Result<(), String> {
        if place.kept != place.next {
            self.store.keep_cursor(name, place.next).await.map_err(|error| error.to_string())?;
            place.kept = place.next;
        }
        Ok(())
    }

    async fn show_lag(&self, export: &Export, place: Option<&Place>) {
        if let (Some(place), Ok(head)) = (place, self.store.head().await) {
            self.metrics.export_lag(export.sink.name(), head.size.saturating_sub(place.next));
        }
    }
}

/// Waits, but not for longer than until the end.
async fn pause(time: Duration, stopped: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same as a stop.
    let _ = tokio::time::timeout(time, stopped.wait_for(|stopped| *stopped)).await;
}
