//! What had an effect has it once: tokens of one transmitter that were acted upon, and those that are being acted upon.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::super::replay::{ExpiringSet, Inserted};
use super::{EventRefused, SecurityEvent};
use crate::domain::digest::Digest;
use crate::domain::time::Timestamp;

/// Tokens remembered of one transmitter, so that none counts twice.
const REMEMBERED: usize = 1 << 16;

/// The tokens of one transmitter: no other can fill this memory.
pub(super) struct Once {
    used: ExpiringSet,
    under_way: Mutex<BTreeSet<Digest>>,
}

/// A token that is being acted upon. Dropped, also by a caller that went away, it may come again.
pub struct Attempt<'a> {
    once: &'a Once,
    id: Digest,
    begun_at: Timestamp,
    done: bool,
}

impl Default for Once {
    fn default() -> Self {
        Self::of_size(REMEMBERED)
    }
}

impl Once {
    fn of_size(capacity: usize) -> Self {
        Self { used: ExpiringSet::new(capacity), under_way: Mutex::default() }
    }

    /// `None` when the token was acted upon before, which is no mistake of its transmitter's.
    pub(super) fn begin(
        &self,
        event: &SecurityEvent,
        now: Timestamp,
    ) -> Result<Option<Attempt<'_>>, EventRefused> {
        let unavailable = |why: &str| Err(EventRefused::Unavailable { why: why.into() });
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        // SECURITY: whoever is told that it was taken does not send it again, and the first may still fail.
        if under_way.contains(&event.id) {
            return unavailable("this event is being acted upon; send it again");
        }
        match self.used.insert(event.id, event.until, now) {
            Inserted::New => {
                under_way.insert(event.id);
                Ok(Some(Attempt { once: self, id: event.id, begun_at: now, done: false }))
            }
            Inserted::Present => Ok(None),
            Inserted::Full => unavailable("too many events of this transmitter at once; try again"),
        }
    }
}

impl Attempt<'_> {
    /// It had its effect, and is remembered.
    pub fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut under_way = self.once.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.remove(&self.id);
        if !self.done {
            self.once.used.take(&self.id, self.begun_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_000);

    fn event(id: &str) -> SecurityEvent {
        SecurityEvent {
            transmitter: "https://idp.test".into(),
            people: true,
            kind: None,
            issuer: String::new(),
            subject: String::new(),
            harmless: false,
            id: Digest::of(id.as_bytes()),
            issued_at: NOW,
            until: NOW.plus(60),
        }
    }

    fn unavailable(begun: Result<Option<Attempt<'_>>, EventRefused>) -> bool {
        matches!(begun, Err(EventRefused::Unavailable { .. }))
    }

    #[test]
    fn a_token_that_is_being_acted_upon_is_not_taken_until_that_is_decided() {
        let once = Once::default();
        let first = once.begin(&event("a"), NOW).unwrap().unwrap();
        assert!(unavailable(once.begin(&event("a"), NOW)));
        assert!(once.begin(&event("b"), NOW).unwrap().is_some(), "another one is not held up");
        first.done();
        assert!(once.begin(&event("a"), NOW).unwrap().is_none());
    }

    #[test]
    fn a_token_whose_first_attempt_failed_comes_again() {
        let once = Once::default();
        drop(once.begin(&event("a"), NOW).unwrap().unwrap());
        once.begin(&event("a"), NOW).unwrap().unwrap().done();
        assert!(once.begin(&event("a"), NOW).unwrap().is_none());
    }

    #[test]
    fn what_had_no_effect_takes_no_room_and_what_had_one_is_never_forgotten_for_another() {
        let once = Once::of_size(1);
        for n in 0..10 {
            drop(once.begin(&event(&n.to_string()), NOW).unwrap().unwrap());
        }
        once.begin(&event("a"), NOW).unwrap().unwrap().done();
        assert!(unavailable(once.begin(&event("b"), NOW)));
        assert!(once.begin(&event("a"), NOW).unwrap().is_none());
        assert!(once.begin(&event("b"), NOW.plus(60)).unwrap().is_some(), "it is over by its age alone");
    }
}
