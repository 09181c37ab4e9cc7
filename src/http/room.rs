//! The listener's connection slots. SECURITY: loopback, and a proxy, have no limit of their own; when slots become
//! scarce, idle connections go, oldest first, and answers close theirs, so that a new connection is always taken.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::patience::Patience;

/// Slots, and the connections that hold them.
pub(super) struct Room {
    slots: Arc<Semaphore>,
    connections: usize,
    reserved: usize,
    held: Mutex<Vec<Weak<Patience>>>,
}

impl Room {
    /// So many connections, of which so many, at most a quarter, are kept free.
    pub(super) fn new(connections: usize, reserved: usize) -> Self {
        let reserved = reserved.min(connections / 4);
        Self { slots: Arc::new(Semaphore::new(connections)), connections, reserved, held: Mutex::default() }
    }

    /// Waits for a slot; what can go to make one free, goes.
    pub(super) async fn slot(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        if self.slots.available_permits() == 0 {
            self.make_room();
        }
        self.slots.clone().acquire_owned().await
    }

    /// A connection holds a slot for as long as its patience lives.
    pub(super) fn admit(&self, patience: &Arc<Patience>) {
        // Before the new one is among them: it is the one that must not go.
        if self.is_scarce() {
            self.make_room();
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= self.connections.saturating_mul(2) {
            held.retain(|patience| patience.strong_count() > 0);
        }
        held.push(Arc::downgrade(patience));
    }

    /// Whether the last free slots are in use.
    pub(super) fn is_scarce(&self) -> bool {
        self.slots.available_permits() < self.reserved
    }

    fn make_room(&self) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = held
            .iter()
            .filter_map(Weak::upgrade)
            .filter_map(|patience| Some((patience.dispensable()?, patience)))
            .min_by_key(|(dispensable, _)| *dispensable);
        if let Some((_, patience)) = oldest {
            patience.make_room();
        }
    }
}
