//! Stored events as those who get a copy see them.

use super::super::Broker;
use super::super::ports::{LoggedEvent, StoredEvent};
use crate::domain::event::EventKind;

impl Broker {
    /// An event read back, with its lease where it is about one. Unreadable is an error: no event is left out.
    pub(super) async fn logged_event(&self, epoch: u64, stored: &StoredEvent) -> Result<LoggedEvent, String> {
        let mut event = LoggedEvent::read(self.ledger.name(), epoch, stored.index, &stored.bytes)
            .map_err(|error| error.to_string())?;
        if let (true, Some(lease)) = (tells_of_a_lease(event.kind), event.lease) {
            event.about = self.store.lease(lease).await.map_err(|error| error.to_string())?.map(Box::new);
        }
        Ok(event)
    }
}

fn tells_of_a_lease(kind: EventKind) -> bool {
    kind.name().starts_with("lease.") || kind.name().starts_with("revocation.")
}
