//! Retention: the bytes of old entries, and the texts beside them, go after the configured days; their leaves stay.

use std::sync::Arc;

use super::Broker;
use super::ports::Pruned;
use crate::domain::event::{Event, EventKind};
use crate::domain::principal::Actor;
use crate::domain::time::Timestamp;

/// Entries that go in one transaction, so that nothing waits long behind it.
pub const PRUNED_AT_A_TIME: u64 = 1_000;
/// Transactions of one round; what is left waits for the next.
const ROUNDS: usize = 1_000;

const DAY_SECONDS: i64 = 86_400;
/// The longest break between two lives of a broker after which the wall clock alone is believed.
pub const LONGEST_BREAK_SECONDS: i64 = 30 * DAY_SECONDS;

impl Broker {
    /// Takes away what is older than is kept, a little at a time.
    pub async fn retain(self: &Arc<Self>) {
        if self.is_distrusted() {
            return;
        }
        let before = self.plausible_now().plus(-i64::from(self.ledger.keep_days) * DAY_SECONDS);
        self.close_idle_runs(before).await;
        for _ in 0..ROUNDS {
            match self.store.prune(before, PRUNED_AT_A_TIME, pruned_event).await {
                Ok(Some(pruned)) => {
                    tracing::info!(entries = pruned.entries, first_kept = pruned.first_kept, "pruned");
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(error = %error, "old entries could not be pruned; the next round tries again");
                    return;
                }
            }
        }
    }

    /// SECURITY: what goes is gone. A clock that jumped years ahead must not take everything: time is believed as far as
    /// this process lasts, and a month beyond what the former life recorded.
    fn plausible_now(&self) -> Timestamp {
        let (recorded, boot) = self.former;
        let lasted = self.gate.since_boot().saturating_sub(boot);
        self.gate.now().min(recorded.plus(LONGEST_BREAK_SECONDS.saturating_add(lasted)))
    }

    /// A run that nobody closed would keep everything after it for good.
    async fn close_idle_runs(self: &Arc<Self>, before: Timestamp) {
        let idle = match self.store.open_runs_of(before).await {
            Ok(idle) => idle,
            Err(error) => {
                tracing::warn!(error = %error, "runs that nobody closed cannot be found");
                return;
            }
        };
        for run in idle {
            let id = run.id;
            if let Err(refusal) = self.close_as(run, Actor::Broker).await {
                tracing::warn!(run.id = %id, why = %refusal, "a run that nobody closed stays open");
            }
        }
    }
}

/// What the ledger says of a pruning.
pub fn pruned_event(pruned: Pruned, at: Timestamp) -> Event {
    Event::new(EventKind::LogPruned, Actor::Broker, at)
        .fact("first_kept", pruned.first_kept)
        .fact("entries", pruned.entries)
}
