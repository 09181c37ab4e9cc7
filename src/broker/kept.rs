//! The head kept outside the store, kept up with what people and requesters said no to, so that a store restored to
//! before it is noticed. Nobody waits long for it, and what ends never depends on it.

use std::time::Duration;

use super::Broker;
use super::end::in_time;
use super::ports::{Head, HeadError};

/// How long an answer waits for the head file; what it could not keep, the next sweep keeps.
const HEAD_PATIENCE: Duration = Duration::from_secs(2);

impl Broker {
    /// After a refusal by people: a store restored to before it needs a fence.
    pub(super) async fn keep_head(&self) {
        let Some(head) = self.head_to_keep().await else { return };
        match tokio::time::timeout(HEAD_PATIENCE, self.heads.advance(head)).await {
            Ok(kept) => told(kept),
            Err(_) => told(Err(HeadError("its file does not answer".into()))),
        }
    }

    /// Keeps up with everything else, one write at a time and beside the sweep: a file that hangs holds up no end.
    pub(super) async fn keep_head_soon(&self) {
        let Ok(alone) = self.keeping.clone().try_lock_owned() else { return };
        let Some(head) = self.head_to_keep().await else { return };
        let heads = self.heads.clone();
        tokio::spawn(async move {
            told(heads.advance(head).await);
            drop(alone);
        });
    }

    /// A store that needs a fence is never called the newest.
    async fn head_to_keep(&self) -> Option<Head> {
        if self.needs_fence {
            return None;
        }
        match in_time(self.store.head()).await {
            Ok(head) => Some(head),
            Err(error) => {
                tracing::warn!(error = %error, "the head cannot be kept outside the store: the store cannot be read");
                None
            }
        }
    }
}

fn told(kept: Result<(), HeadError>) {
    if let Err(error) = kept {
        tracing::error!(error = %error, "a restored store might not be noticed until the head is kept again");
    }
}
