//! What was told before of a run, and which incidents: telling it again writes nothing.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};

use super::super::Broker;
use super::super::end::in_time;
use super::super::ports::EventFilter;
use super::super::refusal::Refusal;
use crate::domain::digest::Digest;
use crate::domain::event::EventKind;
use crate::domain::id::RunId;
use crate::ledger::events::ReadEvent;

/// Events of one page of a search.
const PAGE: u32 = 500;
/// Events looked at in one reading, and how many readings look for an incident that was written down before.
const LOOKED_AT_ONCE: u64 = 1_000;
const LOOK_BACK: usize = 100;

/// What is remembered between two tellings.
#[derive(Debug, Default)]
pub struct Remembered {
    /// Incidents that are written down, as far as is looked back.
    pub(super) incidents: Option<BTreeSet<Digest>>,
    /// What froze an agent and could not be written: a freeze that people lifted stays lifted when it is told again.
    pub(super) not_written: BTreeSet<Digest>,
}

impl Broker {
    /// What was told of a run before, read once for all of a request.
    pub(super) async fn history<'h>(
        &self,
        histories: &'h mut BTreeMap<RunId, Vec<ReadEvent>>,
        run: RunId,
    ) -> Result<&'h Vec<ReadEvent>, Refusal> {
        match histories.entry(run) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => Ok(place.insert(self.told_of_run(run).await?)),
        }
    }

    async fn told_of_run(&self, run: RunId) -> Result<Vec<ReadEvent>, Refusal> {
        let kinds = vec![EventKind::Reconciled, EventKind::IncidentFound];
        let filter = EventFilter { run: Some(run), kinds, ..EventFilter::default() };
        let (mut from, mut found) = (0, Vec::new());
        loop {
            let page = in_time(self.store.find_events(filter.clone(), from, PAGE)).await;
            let page = page.map_err(|error| self.gate.store_failed(&error))?;
            found.extend(page.events.iter().filter_map(|event| ReadEvent::parse(&event.bytes).ok()));
            if page.next >= page.head {
                return Ok(found);
            }
            from = page.next;
        }
    }

    /// Whether an incident was written down before; of a former life of the broker, as far as is looked back.
    pub(super) async fn is_known(
        &self,
        known: &mut Option<BTreeSet<Digest>>,
        key: Digest,
    ) -> Result<bool, Refusal> {
        if known.is_none() {
            *known = Some(self.incidents_before().await?);
        }
        Ok(known.as_ref().is_some_and(|known| known.contains(&key)))
    }

    async fn incidents_before(&self) -> Result<BTreeSet<Digest>, Refusal> {
        let failed = |error| self.gate.store_failed(&error);
        let mut found = BTreeSet::new();
        let mut end = in_time(self.store.head()).await.map_err(failed)?.size;
        for _ in 0..LOOK_BACK {
            let from = end.saturating_sub(LOOKED_AT_ONCE);
            let count = u32::try_from(end - from).unwrap_or(u32::MAX);
            let events = in_time(self.store.events(None, from, count)).await.map_err(failed)?;
            for event in events.iter().filter_map(|event| ReadEvent::parse(&event.bytes).ok()) {
                if event.is(EventKind::IncidentFound) {
                    found.extend(event.fact_digest("incident"));
                }
            }
            end = from;
            if end == 0 {
                break;
            }
        }
        Ok(found)
    }
}
