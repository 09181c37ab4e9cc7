//! Receivers that fetch our security event tokens (RFC 8936): a token comes again until it is acknowledged. What was
//! acknowledged without a gap is kept in the store; what lies beyond a gap, in memory, so that a restart repeats it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::super::Broker;
use super::super::ports::{LoggedEvent, SignedSet};
use super::super::refusal::{Code, Refusal};
use super::BATCH;

/// Tokens given at a time.
pub const MOST_SETS: usize = 100;
/// Acknowledgements taken at a time.
pub const MOST_ACKS: usize = 1_000;
/// Acknowledgements beyond a gap that are remembered of one receiver.
const REMEMBERED: usize = 10_000;
/// Events looked at for one answer.
const MOST_EVENTS: u64 = 8_192;
/// How often the log is looked at while a receiver waits.
const LOOK: Duration = Duration::from_millis(250);

/// How often the metrics hear of receivers that do not poll.
const WATCH: Duration = Duration::from_secs(5);

/// A resource server that may fetch tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollReceiver {
    /// Its audience, which is that of its tokens too.
    pub audience: String,
    /// It hears of every session; otherwise of those whose credential is for its own audience.
    pub all: bool,
}

/// What a receiver asks.
#[derive(Debug, Default)]
pub struct PollAsked {
    /// At most so many tokens.
    pub most: usize,
    /// For how long it waits for the first one.
    pub wait: Duration,
    /// Ids of tokens it has for good, or refuses for good.
    pub settled: BTreeSet<String>,
}

/// What a receiver gets.
#[derive(Debug, Default)]
pub struct Polled {
    /// Tokens by id.
    pub sets: BTreeMap<String, String>,
    /// There are more.
    pub more: bool,
}

/// What receivers acknowledged beyond a gap, and which of them wait.
#[derive(Default)]
pub(in super::super) struct Polls {
    settled: Mutex<BTreeMap<String, BTreeSet<String>>>,
    turns: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Broker {
    /// Where a receiver that never polled begins: at the end of the log as it is at start.
    pub async fn begin_polls(&self, receivers: &[PollReceiver]) -> Result<(), Refusal> {
        for receiver in receivers {
            let name = cursor(receiver);
            if self.store.cursor(&name).await.map_err(|error| self.gate.store_failed(&error))?.is_none() {
                let head = self.store.head().await.map_err(|error| self.gate.store_failed(&error))?;
                let kept = self.store.keep_cursor(&name, head.size).await;
                kept.map_err(|error| self.gate.store_failed(&error))?;
            }
        }
        Ok(())
    }

    /// Shows how far receivers are behind, also while they do not poll.
    pub async fn watch_polls(
        self: Arc<Self>,
        receivers: Vec<PollReceiver>,
        mut stopped: watch::Receiver<bool>,
    ) {
        while !receivers.is_empty() && !*stopped.borrow() {
            for name in receivers.iter().map(cursor) {
                if let (Ok(head), Ok(Some(place))) = (self.store.head().await, self.store.cursor(&name).await)
                {
                    self.metrics.export_lag(&name, head.size.saturating_sub(place));
                }
            }
            super::pause(WATCH, &mut stopped).await;
        }
    }

    /// Takes acknowledgements and gives tokens, waiting for the first one as long as the receiver does.
    pub async fn poll(&self, receiver: &PollReceiver, asked: PollAsked) -> Result<Polled, Refusal> {
        // One at a time: two could move the cursor over one another, and a second one that waits would hold a connection.
        let turn = self.polls.turn(&receiver.audience);
        let Ok(_alone) = turn.try_lock() else {
            let busy = "another poll of this receiver is being answered; wait for it";
            return Err(Refusal::new(Code::LimitReached, busy).retry_after(1));
        };
        self.polls.settle(&receiver.audience, asked.settled);
        let until = tokio::time::Instant::now() + asked.wait;
        loop {
            let polled = self.poll_now(receiver, asked.most).await?;
            if !polled.sets.is_empty() || asked.most == 0 || tokio::time::Instant::now() >= until {
                return Ok(polled);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn poll_now(&self, receiver: &PollReceiver, most: usize) -> Result<Polled, Refusal> {
        let name = cursor(receiver);
        let failed = |error| self.gate.store_failed(&error);
        let head = self.store.head().await.map_err(failed)?;
        let kept = self.store.cursor(&name).await.map_err(failed)?.unwrap_or(head.size);
        let (mut begun, mut next, mut done) = (kept, kept, kept);
        let mut gap = false;
        let mut polled = Polled::default();
        'log: while next < head.size && next - begun < MOST_EVENTS {
            let stored = self.store.events(None, next, BATCH).await.map_err(failed)?;
            let Some(first) = stored.first().map(|one| one.index) else { break };
            if !gap && first > next {
                self.tell_of_gap(&name, next, first);
                // The cursor is kept below, so that it is told once.
                (begun, next, done) = (first, first, first);
            }
            for one in stored {
                let unreadable = |why: String| {
                    tracing::error!(index = one.index, why, "an event cannot be told to a receiver");
                    Refusal::new(Code::StoreUnavailable, "the log cannot be read right now; try again")
                };
                let event = self.logged_event(head.epoch, &one).await.map_err(unreadable)?;
                if let Some(set) = self.set_for(receiver, &event)? {
                    if !self.polls.is_settled(&receiver.audience, &set.jti) {
                        gap = true;
                        if polled.sets.len() >= most {
                            polled.more = true;
                            break 'log;
                        }
                        polled.sets.insert(set.jti, set.token);
                    } else if !gap {
                        self.polls.forget(&receiver.audience, &set.jti);
                    }
                }
                next = one.index + 1;
                if !gap {
                    done = next;
                }
            }
        }
        polled.more |= next < head.size;
        if !gap && next >= head.size {
            self.polls.forget_all(&receiver.audience);
        }
        if done != kept {
            self.store.keep_cursor(&name, done).await.map_err(failed)?;
        }
        self.metrics.export_lag(&name, head.size.saturating_sub(done));
        Ok(polled)
    }

    /// The token of an event, where it tells of a session that this receiver may hear of.
    fn set_for(&self, receiver: &PollReceiver, event: &LoggedEvent) -> Result<Option<SignedSet>, Refusal> {
        // SECURITY: a resource learns of its own sessions; who else uses which agent is none of its business.
        let own = event.about.as_ref().is_some_and(|lease| lease.target == receiver.audience);
        if !receiver.all && !own {
            return Ok(None);
        }
        event.set(&self.signer, &receiver.audience, self.gate.now()).transpose().map_err(|error| {
            tracing::error!(index = event.index, %error, "a security event token cannot be signed");
            Refusal::new(Code::StoreUnavailable, "a token cannot be made right now; try again")
        })
    }
}

fn cursor(receiver: &PollReceiver) -> String {
    format!("poll:{}", receiver.audience)
}

impl Polls {
    fn turn(&self, audience: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.entry(audience.to_owned()).or_default().clone()
    }

    fn settle(&self, audience: &str, ids: BTreeSet<String>) {
        let mut all = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let settled = all.entry(audience.to_owned()).or_default();
        let room = REMEMBERED.saturating_sub(settled.len());
        // What is forgotten is given again.
        settled.extend(ids.into_iter().take(room));
    }

    fn is_settled(&self, audience: &str, id: &str) -> bool {
        let all = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(audience).is_some_and(|settled| settled.contains(id))
    }

    /// Nothing waits to be acknowledged: whatever else was, is none of ours.
    fn forget_all(&self, audience: &str) {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).remove(audience);
    }

    fn forget(&self, audience: &str, id: &str) {
        let mut all = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(settled) = all.get_mut(audience) {
            settled.remove(id);
        }
    }
}
