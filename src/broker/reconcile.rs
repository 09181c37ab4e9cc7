//! Approved versus done, written down: a person held the provider's own records against leases, and says what came of it.
//! It is their word, in their name; what it says of a lease stands beside that lease for good, and a later word is a
//! further event. What the guardrails name freezes the agent, before anything is written and whether or not it can be.

mod before;
mod events;
mod told;

pub use before::Remembered;
pub use told::{IncidentFound, LeaseFound, MAX_TOLD, NotWritten, Reconciliation, ReconciliationTaken};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::Broker;
use super::end::in_time;
use super::refusal::{Code, Refusal};
use crate::domain::digest::Digest;
use crate::domain::event::Event;
use crate::domain::id::{LeaseId, RunId};
use crate::domain::lease::Lease;
use crate::domain::principal::{AgentSlug, PersonSlug};
use crate::domain::reconciliation::{Concern, Verdict};
use crate::ledger::events::ReadEvent;
use events::{about_lease, counted_event, had_credential, incident_event};

/// Events of reconciliation in one run: its evidence has a largest size.
const MAX_OF_RUN: usize = 1_000;
/// How many there may be before what merely names a lease: whoever spells its name must not fill the room of what it did.
const MAX_BEFORE_NAMED: usize = MAX_OF_RUN / 2;
/// What is remembered of tellings that could not be written.
const MAX_REMEMBERED: usize = 10_000;
/// How long one waits for another who tells something.
const TURN: Duration = Duration::from_secs(20);

/// What was judged, and is about to be written.
#[derive(Default)]
struct Found {
    events: Vec<Event>,
    unchanged: u64,
    concerns: BTreeMap<AgentSlug, BTreeMap<Concern, LeaseId>>,
    notices: Vec<(&'static str, String, String)>,
    incidents: BTreeSet<Digest>,
    not_written: Vec<NotWritten>,
    /// The store did not say what was told before.
    failed: Option<Refusal>,
    histories: BTreeMap<RunId, Vec<ReadEvent>>,
    /// Events of this telling, by run.
    of_run: BTreeMap<RunId, usize>,
}

impl Broker {
    /// A person tells what the provider's records say of leases. Telling it again changes nothing.
    pub async fn reconcile(
        self: &Arc<Self>,
        person: &PersonSlug,
        told: Reconciliation,
    ) -> Result<ReconciliationTaken, Refusal> {
        told::check(&told)?;
        // One after the other: two who tell the same at once write it once.
        let turn = tokio::time::timeout(TURN, self.reconciling.lock()).await;
        let busy = "others are telling what they found; send it again";
        let mut remembered = turn.map_err(|_| Refusal::new(Code::Conflict, busy).retry_after(5))?;
        let mut found = Found::default();
        for one in &told.leases {
            if let Err(failed) = self.judge_lease(&mut found, &mut remembered, one, &told, person).await {
                found.failed.get_or_insert(failed);
            }
        }
        for one in &told.incidents {
            if let Err(failed) = self.judge_incident(&mut found, &mut remembered, one, &told, person).await {
                found.failed.get_or_insert(failed);
            }
        }
        if told.more_incidents > 0 {
            let key = format!("more\0{}\0{}", told.report, told.more_incidents);
            let key = Digest::tagged("phasebroker-incident-v1", key.as_bytes());
            match self.is_known(&mut remembered.incidents, key).await {
                Ok(true) => found.unchanged = found.unchanged.saturating_add(1),
                Ok(false) => {
                    found.events.push(counted_event(&told, person, key, self.gate.now()));
                    found.incidents.insert(key);
                }
                Err(failed) => drop(found.failed.get_or_insert(failed)),
            }
        }
        // INVARIANT: stop-always-works. Before anything is written, and whether or not it can be.
        let frozen = self.freeze_for(&found, &told, person).await;
        let recorded = u64::try_from(found.events.len()).unwrap_or(u64::MAX);
        if !found.events.is_empty() {
            self.write(found.events).await?;
        }
        // What was not written is not known.
        remembered.incidents.get_or_insert_default().extend(found.incidents);
        for (kind, id, path) in found.notices {
            self.tell(kind, id, path);
        }
        match found.failed {
            Some(failed) => Err(failed),
            None => Ok(ReconciliationTaken {
                recorded,
                unchanged: found.unchanged,
                frozen,
                not_written: found.not_written,
            }),
        }
    }

    async fn judge_lease(
        &self,
        found: &mut Found,
        remembered: &mut Remembered,
        one: &LeaseFound,
        told: &Reconciliation,
        person: &PersonSlug,
    ) -> Result<(), Refusal> {
        let Some(lease) = self.lease_told_of(one.lease).await? else {
            found.not_written.push(no_lease(one.lease, None));
            return Ok(());
        };
        if !had_credential(&lease) {
            found.unchanged = found.unchanged.saturating_add(1);
            return Ok(());
        }
        // What merely names a lease is nothing that its agent did.
        let concern =
            one.verdict.concern().filter(|_| !(one.named_only && one.verdict == Verdict::NeedsReview));
        let history = match self.history(&mut found.histories, lease.run).await {
            Ok(history) => history,
            Err(failed) => {
                found.concern(&lease, concern);
                return Err(failed);
            }
        };
        let Some(event) = about_lease(history, &lease, one, told, person, self.gate.now()) else {
            found.unchanged = found.unchanged.saturating_add(1);
            return Ok(());
        };
        if let Some(why) = found.no_room(lease.run, MAX_OF_RUN) {
            let key = format!("{}\0{}\0{}\0{}", lease.id, one.verdict.name(), one.calls, one.findings);
            if remembered.is_new(Digest::tagged("phasebroker-not-written-v1", key.as_bytes())) {
                found.concern(&lease, concern);
            }
            found.not_written.push(NotWritten { lease: Some(lease.id), event: None, why });
            return Ok(());
        }
        found.concern(&lease, concern);
        found.add(lease.run, event);
        if one.verdict.concern().is_some() {
            let path = format!("v1/runs/{}/events", lease.run);
            found.notices.push(("reconciliation", lease.id.to_string(), path));
        }
        Ok(())
    }

    async fn judge_incident(
        &self,
        found: &mut Found,
        remembered: &mut Remembered,
        one: &IncidentFound,
        told: &Reconciliation,
        person: &PersonSlug,
    ) -> Result<(), Refusal> {
        let lease = match one.lease {
            Some(id) => match self.lease_told_of(id).await? {
                Some(lease) => Some(lease),
                None => {
                    found.not_written.push(no_lease(id, Some(&one.event)));
                    return Ok(());
                }
            },
            None => None,
        };
        // SECURITY: only a key that the ledger holds is the lease's own. Its name may be spelled by anybody, who could
        // freeze any agent by it.
        let own = lease
            .as_ref()
            .filter(|lease| had_credential(lease) && one.key.is_some() && lease.reference == one.key);
        let of = lease.as_ref().map(|lease| lease.id.to_string()).unwrap_or_default();
        let key = format!("{}\0{}\0{of}", one.kind, one.event);
        let key = Digest::tagged("phasebroker-incident-v1", key.as_bytes());
        let known = match self.is_known(&mut remembered.incidents, key).await {
            Ok(known) => known || found.incidents.contains(&key),
            Err(failed) => {
                own.into_iter().for_each(|lease| found.concern(lease, Some(Concern::Incident)));
                return Err(failed);
            }
        };
        if known {
            found.unchanged = found.unchanged.saturating_add(1);
            return Ok(());
        }
        let run = lease.as_ref().filter(|lease| had_credential(lease)).map(|lease| lease.run);
        if let Some(run) = run {
            let history = self.history(&mut found.histories, run).await.map(|_| ());
            let why = match &history {
                Ok(()) => found.no_room(run, if own.is_some() { MAX_OF_RUN } else { MAX_BEFORE_NAMED }),
                Err(_) => None,
            };
            if history.is_err() || (why.is_some() && remembered.is_new(key)) {
                own.into_iter().for_each(|lease| found.concern(lease, Some(Concern::Incident)));
            }
            history?;
            if let Some(why) = why {
                found.not_written.push(NotWritten { lease: one.lease, event: Some(one.event.clone()), why });
                return Ok(());
            }
        }
        own.into_iter().for_each(|lease| found.concern(lease, Some(Concern::Incident)));
        let event = incident_event(lease.as_ref(), one, told, person, key, self.gate.now());
        match run {
            Some(run) => found.add(run, event),
            None => found.events.push(event),
        }
        let path = lease.map_or("v1/events".to_owned(), |lease| format!("v1/runs/{}/events", lease.run));
        found.notices.push(("incident", one.event.clone(), path));
        found.incidents.insert(key);
        Ok(())
    }

    /// Freezes what the guardrails name; what was frozen by it.
    async fn freeze_for(
        self: &Arc<Self>,
        found: &Found,
        told: &Reconciliation,
        person: &PersonSlug,
    ) -> Vec<String> {
        let rules = self.rules();
        let freeze_on = &rules.guardrails.document().reconcile.freeze_on;
        let mut frozen = Vec::new();
        for (agent, concerns) in &found.concerns {
            let worst = concerns.iter().rfind(|(concern, _)| freeze_on.contains(*concern));
            if let Some((concern, lease)) = worst {
                let facts = [
                    ("told_by", person.to_string()),
                    ("lease", lease.to_string()),
                    ("report", told.report.to_string()),
                ];
                frozen.extend(self.freeze_by_rule(agent, concern.name(), facts).await);
            }
        }
        frozen
    }

    async fn write(&self, events: Vec<Event>) -> Result<(), Refusal> {
        let head =
            in_time(self.store.record(events)).await.map_err(|error| self.gate.store_failed(&error))?;
        self.gate.committed(head);
        Ok(())
    }

    async fn lease_told_of(&self, id: LeaseId) -> Result<Option<Lease>, Refusal> {
        in_time(self.store.lease(id)).await.map_err(|error| self.gate.store_failed(&error))
    }
}

impl Remembered {
    /// Whether this was not told before of what could not be written. What is not remembered counts as new.
    fn is_new(&mut self, key: Digest) -> bool {
        if self.not_written.len() >= MAX_REMEMBERED {
            return !self.not_written.contains(&key);
        }
        self.not_written.insert(key)
    }
}

impl Found {
    fn concern(&mut self, lease: &Lease, concern: Option<Concern>) {
        if let Some(concern) = concern {
            self.concerns.entry(lease.agent.clone()).or_default().entry(concern).or_insert(lease.id);
        }
    }

    fn add(&mut self, run: RunId, event: Event) {
        self.events.push(event);
        let count = self.of_run.entry(run).or_default();
        *count = count.saturating_add(1);
    }

    /// Why no event of a run fits any more, whose history was read.
    fn no_room(&self, run: RunId, most: usize) -> Option<String> {
        let before = self.histories.get(&run).map_or(0, Vec::len);
        let count = before.saturating_add(self.of_run.get(&run).copied().unwrap_or(0));
        (count >= most).then(|| match most {
            MAX_OF_RUN => {
                format!("{most} reconciliations of run `{run}` are recorded, and no more fit its evidence")
            }
            _ => format!("{most} reconciliations of run `{run}` are recorded; the room that is left is for its own keys"),
        })
    }
}

fn no_lease(id: LeaseId, event: Option<&str>) -> NotWritten {
    let event = event.map(str::to_owned);
    NotWritten { lease: Some(id), event, why: format!("the broker knows no lease `{id}`") }
}
