//! What is kept outside the store: its head, so that a restore to before somebody said no is noticed, and the ends
//! that it could not take, so that a restart does not forget them. Nobody waits long, and no end depends on it.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use super::Broker;
use super::end::in_time;
use super::ports::{Head, HeadError, JournalError, KeptEnds, KeptStop, LeaseChange, LeaseStep};
use crate::domain::freeze::FreezeKey;
use crate::domain::stop::StopTarget;
use crate::domain::time::Timestamp;

/// How long an answer waits for these files; what they could not keep, the next sweep keeps.
const PATIENCE: Duration = Duration::from_secs(2);

impl Broker {
    /// After a refusal by people: a store restored to before it needs a fence.
    pub(super) async fn keep_head(&self) {
        let Some(head) = self.head_to_keep().await else { return };
        match tokio::time::timeout(PATIENCE, self.heads.advance(head)).await {
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

    /// INVARIANT: stop-always-works. An end that the store could not take: written when it can, and kept through a restart.
    pub(super) async fn keep_end(&self, change: LeaseChange) {
        if matches!(change.step, LeaseStep::Ended { .. }) {
            self.live.mark_unrecorded(change.id);
        }
        self.live.keep_unwritten(change);
        self.keep_journal().await;
    }

    /// Brings the journal up to what the store could not take. A journal that fails is tried again by the sweep.
    pub(super) async fn keep_journal(&self) {
        // One at a time, and each writes what is true by then.
        let kept = self.make_journal();
        let late = || Err(JournalError("its file does not answer".into()));
        if let Err(error) = tokio::time::timeout(PATIENCE, kept).await.unwrap_or_else(|_| late()) {
            tracing::error!(error = %error, "ends that the store could not take would be forgotten by a restart");
        }
    }

    /// What the former life could not record. INVARIANT: unknown-is-no. One that cannot be read, or is gone from beside
    /// a store in use, ends every credential that may be in use and every grant that waits, and freezes everything.
    pub(super) async fn kept_before(&self, store_is_fresh: bool, now: Timestamp) -> KeptEnds {
        let kept = match self.journal.kept().await {
            Ok(Some(ends)) => {
                *self.journaled.lock().await = Some(ends.clone());
                ends
            }
            Ok(None) if store_is_fresh => KeptEnds::default(),
            Ok(None) => unreadable("it is not there", now),
            Err(error) => unreadable(&error.to_string(), now),
        };
        // A damaged store may not take it in this life either: the journal keeps it until one can.
        *self.unresolved.lock().unwrap_or_else(PoisonError::into_inner) = kept.clone();
        kept
    }

    /// The store, or memory, has everything that the former life could not record.
    pub(super) fn resolved(&self) {
        *self.unresolved.lock().unwrap_or_else(PoisonError::into_inner) = KeptEnds::default();
    }

    /// The journal is made while there is room: from here on a full disk does not keep an end from being remembered.
    pub(super) async fn make_journal(&self) -> Result<(), JournalError> {
        let mut journaled = self.journaled.lock().await;
        let ends = self.unrecorded();
        if journaled.as_ref() != Some(&ends) {
            self.journal.keep(ends.clone()).await?;
            *journaled = Some(ends);
        }
        Ok(())
    }

    fn unrecorded(&self) -> KeptEnds {
        let mut ends = self.unresolved.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ends.leases.extend(self.live.unrecorded());
        for stop in self.live.stops().iter().map(|stop| stop.kept()) {
            if !ends.stops.contains(&stop) {
                ends.stops.push(stop);
            }
        }
        ends.freezes.extend(self.frozen.unrecorded().into_iter().map(|(key, asked)| (key, asked.at)));
        ends
    }

    /// A store that needs a fence, or is damaged, is never called the newest.
    async fn head_to_keep(&self) -> Option<Head> {
        if self.is_distrusted() {
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

/// Whoever was stopped or frozen in a former life is not let live because nobody can read that.
fn unreadable(why: &str, now: Timestamp) -> KeptEnds {
    tracing::error!(
        why,
        "the journal of unrecorded ends cannot be read: every credential issued before this start is ended, every grant cancelled, and everything is frozen until people sign `phasebroker unfreeze everything`"
    );
    let everything = KeptStop { target: StopTarget::Everything, at: now };
    KeptEnds {
        leases: BTreeSet::new(),
        all: true,
        stops: vec![everything],
        freezes: [(FreezeKey::Everything, now)].into(),
    }
}

fn told(kept: Result<(), HeadError>) {
    if let Err(error) = kept {
        tracing::error!(error = %error, "a restored store might not be noticed until the head is kept again");
    }
}
