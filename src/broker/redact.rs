//! Reading the log by filter, and erasing a text beside an event: the words go, the proof stays.

use serde::{Deserialize, Serialize};

use super::Broker;
use super::end::MAX_NOTE_BYTES;
use super::ports::{ChangeRefused, EventFilter, EventPage};
use super::refusal::{Code, Refusal};
use crate::domain::event::{Event, EventKind, SaltedText};
use crate::domain::principal::{Actor, PersonSlug};
use crate::ledger::events::ReadEvent;

/// What to erase, and why.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Redact {
    /// Name of the text, as in the event's `texts`; `evidence` for the agent's words beside a grant.
    pub text: String,
    /// Why; it is recorded.
    pub reason: String,
}

/// What was erased.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Redacted {
    /// The event it stood beside; the event itself and its digest of the text stay.
    pub index: u64,
    /// Name of the text.
    pub text: String,
}

impl Broker {
    /// Events that `filter` lets through, for people.
    pub async fn find_events(
        &self,
        filter: EventFilter,
        from: u64,
        limit: u32,
    ) -> Result<EventPage, Refusal> {
        self.store.find_events(filter, from, limit).await.map_err(|e| self.gate.store_failed(&e))
    }

    /// Erases a text beside an event for good.
    pub async fn redact(&self, person: &PersonSlug, index: u64, asked: Redact) -> Result<Redacted, Refusal> {
        if asked.reason.trim().is_empty() || asked.reason.len() > MAX_NOTE_BYTES {
            let why = format!("`reason` says why, in 1 to {MAX_NOTE_BYTES} bytes");
            return Err(Refusal::new(Code::BadRequest, why));
        }
        let nothing = || {
            let name: String = asked.text.chars().take(64).collect();
            Refusal::new(Code::NotFound, format!("event {index} has no text `{}`", name.escape_default()))
        };
        let found = self.store.events(None, index, 1).await.map_err(|e| self.gate.store_failed(&e))?;
        let about = found.into_iter().find(|stored| stored.index == index).ok_or_else(nothing)?;
        let about = ReadEvent::parse(&about.bytes).map_err(|_| nothing())?;
        if !about.texts.contains_key(&asked.text) && !about.facts.contains_key(&asked.text) {
            return Err(nothing());
        }
        let now = self.gate.now();
        let mut event = Event::new(EventKind::TextRedacted, Actor::Person(person.clone()), now)
            .fact("index", index)
            .fact("name", asked.text.as_str())
            .text(SaltedText::new("reason", asked.reason.clone()));
        if let Some(run) = about.run {
            event = event.run(run);
        }
        if let Some(grant) = about.grant {
            event = event.grant(grant);
        }
        match self.store.erase_text(index, asked.text.clone(), event).await {
            Ok(head) => {
                self.gate.committed(head);
                Ok(Redacted { index, text: asked.text })
            }
            Err(ChangeRefused::Missing) => Err(nothing()),
            Err(ChangeRefused::Moved) => Err(Refusal::new(
                Code::Conflict,
                format!("the text `{}` of event {index} is erased already", asked.text),
            )),
            Err(ChangeRefused::Store(error)) => Err(self.gate.store_failed(&error)),
        }
    }
}
