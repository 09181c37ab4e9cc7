//! What runs beside the server until it stops: the sweep, the log's publisher, the pruning, the turn of working keys, and a
//! task for each witness.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::broker::Broker;
use crate::broker::working_keys::WorkingKeys;

/// How often time is looked at.
pub(super) const SWEEP: Duration = Duration::from_millis(500);
/// How often something new in the ledger is looked for and signed.
const PUBLISH: Duration = Duration::from_millis(900);
/// How often entries older than is kept are looked for.
const RETAIN: Duration = Duration::from_secs(3_600);
/// How often it is asked whether the next working key is due.
const TURN_KEYS: Duration = Duration::from_secs(5);

/// How long a start waits for the broker's own keys, and for witnesses to be asked. What hangs for longer is waited for while
/// the broker serves.
const KEYS: Duration = Duration::from_secs(5);

/// Starts everything that runs beside the server: the sweep at once, because no end waits for a device. Comes back when the
/// keys were asked for once, or do not answer in time.
pub(super) async fn start(
    broker: &Arc<Broker>,
    keys: WorkingKeys,
    database: PathBuf,
    stopped: &watch::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
    let (first, mut asked) = mpsc::channel(1);
    let mut beside = vec![
        tokio::spawn(sweep(broker.clone(), database, stopped.clone())),
        tokio::spawn(ask_canaries(broker.clone(), stopped.clone())),
        tokio::spawn(publish(broker.clone(), first.clone(), stopped.clone())),
        tokio::spawn(retain(broker.clone(), stopped.clone())),
        tokio::spawn(turn_keys(keys, first, stopped.clone())),
    ];
    for at in 0..broker.ledger().witnesses() {
        beside.push(tokio::spawn(broker.clone().keep_witnessed(at, stopped.clone())));
    }
    // Both let go of it after their first look; nothing is ever sent.
    if tokio::time::timeout(KEYS, asked.recv()).await.is_err() {
        tracing::error!(
            "the broker's own keys, or its witnesses, do not answer yet; it serves meanwhile, and issues nothing"
        );
    }
    beside
}

async fn sweep(broker: Arc<Broker>, database: PathBuf, stopped: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(SWEEP);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stopped = std::pin::pin!(until(stopped));
    loop {
        tokio::select! {
            _ = tick.tick() => {
                broker.sweep().await;
                if let Ok(file) = tokio::fs::metadata(&database).await {
                    broker.metrics().store_bytes(file.len());
                }
            }
            () = &mut stopped => return,
        }
    }
}

/// Asks with the sessions that are held, and lets go of those that are over: also while the sweep waits for the store.
async fn ask_canaries(broker: Arc<Broker>, stopped: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(SWEEP);
    let mut stopped = std::pin::pin!(until(stopped));
    loop {
        tokio::select! {
            _ = tick.tick() => broker.ask_canaries(),
            () = &mut stopped => return,
        }
    }
}

/// Signs what is new, at least once a second.
async fn publish(broker: Arc<Broker>, first: mpsc::Sender<()>, stopped: watch::Receiver<bool>) {
    let mut first = Some(first);
    let mut tick = tokio::time::interval(PUBLISH);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stopped = std::pin::pin!(until(stopped));
    loop {
        tokio::select! {
            _ = tick.tick() => {
                broker.publish().await;
                drop(first.take());
            }
            () = &mut stopped => return,
        }
    }
}

/// Prunes what is older than is kept.
async fn retain(broker: Arc<Broker>, stopped: watch::Receiver<bool>) {
    // Not at once: a clock that jumped when the machine started may be right again by then.
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + RETAIN, RETAIN);
    let mut stopped = std::pin::pin!(until(stopped));
    loop {
        tokio::select! {
            _ = tick.tick() => broker.retain().await,
            () = &mut stopped => return,
        }
    }
}

/// Makes the next working key in time; while there is none, tries again and again.
async fn turn_keys(keys: WorkingKeys, first: mpsc::Sender<()>, stopped: watch::Receiver<bool>) {
    let mut first = Some(first);
    let mut tick = tokio::time::interval(TURN_KEYS);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stopped = std::pin::pin!(until(stopped));
    loop {
        tokio::select! {
            _ = tick.tick() => {
                keys.turn().await;
                drop(first.take());
            }
            () = &mut stopped => return,
        }
    }
}

/// Ends when the broker stops.
pub(super) async fn until(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
