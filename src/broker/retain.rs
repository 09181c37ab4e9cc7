//! Retention: the bytes of old entries, and the texts beside them, go after the configured days; their leaves stay.

use super::Broker;
use super::ports::Pruned;
use crate::domain::event::{Event, EventKind};
use crate::domain::principal::Actor;
use crate::domain::time::Timestamp;

/// Entries that go in one transaction, so that nothing waits long behind it.
pub const PRUNED_AT_A_TIME: u64 = 1_000;
/// Transactions of one round; what is left waits for the next.
const ROUNDS: usize = 1_000;

impl Broker {
    /// Takes away what is older than is kept, a little at a time.
    pub async fn retain(&self) {
        if self.is_distrusted() {
            return;
        }
        let before = self.gate.now().plus(-i64::from(self.ledger.keep_days) * 86_400);
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
}

/// What the ledger says of a pruning.
pub fn pruned_event(pruned: Pruned, at: Timestamp) -> Event {
    Event::new(EventKind::LogPruned, Actor::Broker, at)
        .fact("first_kept", pruned.first_kept)
        .fact("entries", pruned.entries)
}
