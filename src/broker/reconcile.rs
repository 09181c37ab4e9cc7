//! Approved versus done, written down: a person held the provider's own records against leases, and says what came of it.
//! It is their word, in their name; what it says of a lease stands beside that lease for good, and a later word is a
//! further event. What the guardrails name freezes the agent.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Broker;
use super::end::in_time;
use super::ports::EventFilter;
use super::refusal::{Code, Refusal};
use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind};
use crate::domain::id::{LeaseId, RunId};
use crate::domain::lease::{Lease, LeaseState};
use crate::domain::principal::{Actor, AgentSlug, PersonSlug};
use crate::domain::reconciliation::{Concern, Verdict};
use crate::domain::time::Timestamp;
use crate::ledger::events::ReadEvent;

/// Leases of one request, and incidents.
pub const MAX_TOLD: usize = 200;
/// Events of reconciliation in one run: its evidence has a largest size.
const MAX_OF_RUN: usize = 1_000;
/// Longest id of a record, and name of an incident's kind.
const MAX_EVENT_CHARS: usize = 64;
const MAX_KIND_CHARS: usize = 32;
/// Events of one page of a search.
const PAGE: u32 = 500;
/// Events looked at in one reading, and how many readings look for an incident that was written down before.
const LOOKED_AT_ONCE: u64 = 1_000;
const LOOK_BACK: usize = 100;

/// What was found, for the ledger.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reconciliation {
    /// SHA-256 of the whole report, which is kept elsewhere.
    #[schema(value_type = String)]
    pub report: Digest,
    /// Records that were read for it.
    pub records: u64,
    /// First instant of a record, by the provider's clock.
    #[schema(value_type = Option<i64>)]
    pub first: Option<Timestamp>,
    /// Last instant of a record.
    #[schema(value_type = Option<i64>)]
    pub last: Option<Timestamp>,
    /// Verdicts on leases, at most 200.
    pub leases: Vec<LeaseFound>,
    /// Incidents, at most 200.
    pub incidents: Vec<IncidentFound>,
}

/// What the records say of one lease.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseFound {
    /// Which.
    #[schema(value_type = String)]
    pub lease: LeaseId,
    /// `matched`, `extra_call`, `denied_attempt`, `no_use`, `late_use`, `unobservable` or `needs_review`.
    #[schema(value_type = String)]
    pub verdict: Verdict,
    /// Calls that went through.
    pub calls: u64,
    /// Calls that failed for another reason than a refusal.
    pub failed: u64,
    /// Calls that were refused.
    pub denied: u64,
    /// Things that a person should know.
    pub findings: u64,
    /// Whether the record of its mint is there.
    pub mint_seen: bool,
    /// Whether records of some hour of its life are missing.
    pub hours_missing: bool,
}

/// Something that no lease explains, or that a lease contradicts.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IncidentFound {
    /// What kind, such as `unrecorded_session`.
    pub kind: String,
    /// The lease it speaks of.
    #[schema(value_type = Option<String>)]
    pub lease: Option<LeaseId>,
    /// When, by the provider's clock.
    #[schema(value_type = i64)]
    pub at: Timestamp,
    /// Id of the record, or `sha256:` and the digest of one that is no plain id.
    pub event: String,
}

/// What became of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReconciliationTaken {
    /// Events that were written.
    pub recorded: u64,
    /// What the ledger said already, and what is about leases that never had a credential.
    pub unchanged: u64,
    /// What the guardrails froze because of it.
    pub frozen: Vec<String>,
}

/// What is about to be written.
#[derive(Default)]
struct Found {
    events: Vec<Event>,
    unchanged: u64,
    concerns: BTreeMap<AgentSlug, BTreeSet<Concern>>,
    notices: Vec<(&'static str, String, String)>,
}

impl Broker {
    /// A person tells what the provider's records say of leases. Telling it again changes nothing.
    pub async fn reconcile(
        self: &Arc<Self>,
        person: &PersonSlug,
        told: Reconciliation,
    ) -> Result<ReconciliationTaken, Refusal> {
        check(&told)?;
        // One after the other: two who tell the same at once write it once.
        let mut known = self.reconciling.lock().await;
        let (mut histories, mut new) = (BTreeMap::new(), BTreeSet::new());
        let mut found = Found::default();
        for one in &told.leases {
            let lease = self.lease_told_of(one.lease).await?;
            if !had_credential(&lease) {
                found.unchanged = found.unchanged.saturating_add(1);
                continue;
            }
            let history = self.history(&mut histories, lease.run).await?;
            match about_lease(history, &lease, one, &told, person, self.gate.now()) {
                Some(event) => {
                    has_room(history, lease.run)?;
                    found.lease(&lease, one.verdict, event);
                }
                None => found.unchanged = found.unchanged.saturating_add(1),
            }
        }
        for one in &told.incidents {
            let lease = match one.lease {
                Some(lease) => Some(self.lease_told_of(lease).await?),
                None => None,
            };
            let of = lease.as_ref().map(|lease| lease.id.to_string()).unwrap_or_default();
            let key = format!("{}\0{}\0{of}", one.kind, one.event);
            let key = Digest::tagged("phasebroker-incident-v1", key.as_bytes());
            if new.contains(&key) || self.is_known(&mut known, key).await? {
                found.unchanged = found.unchanged.saturating_add(1);
                continue;
            }
            if let Some(lease) = lease.as_ref().filter(|lease| had_credential(lease)) {
                has_room(self.history(&mut histories, lease.run).await?, lease.run)?;
            }
            let event = incident_event(lease.as_ref(), one, &told, person, key, self.gate.now());
            found.incident(lease.as_ref(), one, event);
            new.insert(key);
        }
        let count = u64::try_from(found.events.len()).unwrap_or(u64::MAX);
        let mut taken = ReconciliationTaken { unchanged: found.unchanged, ..ReconciliationTaken::default() };
        let written = match found.events.is_empty() {
            true => Ok(()),
            false => self.write(found.events).await,
        };
        // INVARIANT: stop-always-works. What cannot be written down freezes all the same, and is told again by whoever
        // hears that it was not.
        let rules = self.rules();
        let freeze_on = &rules.guardrails.document().reconcile.freeze_on;
        for (agent, concerns) in &found.concerns {
            if let Some(concern) = concerns.intersection(freeze_on).max() {
                taken.frozen.extend(self.freeze_by_rule(agent, concern.name()).await);
            }
        }
        written?;
        // What was not written is not known.
        known.get_or_insert_default().extend(new);
        for (kind, id, path) in found.notices {
            self.tell(kind, id, path);
        }
        taken.recorded = count;
        Ok(taken)
    }

    async fn write(&self, events: Vec<Event>) -> Result<(), Refusal> {
        let head =
            in_time(self.store.record(events)).await.map_err(|error| self.gate.store_failed(&error))?;
        self.gate.committed(head);
        Ok(())
    }

    async fn lease_told_of(&self, id: LeaseId) -> Result<Lease, Refusal> {
        let found = self.store.lease(id).await.map_err(|error| self.gate.store_failed(&error))?;
        found.ok_or_else(|| Refusal::new(Code::NotFound, format!("no lease `{id}`; nothing was written")))
    }

    /// What was told of a run before, read once for all of a request.
    async fn history<'h>(
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
            let page = self.store.find_events(filter.clone(), from, PAGE).await;
            let page = page.map_err(|error| self.gate.store_failed(&error))?;
            found.extend(page.events.iter().filter_map(|event| ReadEvent::parse(&event.bytes).ok()));
            if page.next >= page.head {
                return Ok(found);
            }
            from = page.next;
        }
    }

    /// Whether an incident was written down before; of a former life of the broker, as far as is looked back.
    async fn is_known(&self, known: &mut Option<BTreeSet<Digest>>, key: Digest) -> Result<bool, Refusal> {
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

impl Found {
    fn lease(&mut self, lease: &Lease, verdict: Verdict, event: Event) {
        self.events.push(event);
        let Some(concern) = verdict.concern() else { return };
        self.concerns.entry(lease.agent.clone()).or_default().insert(concern);
        self.notices.push(("reconciliation", lease.id.to_string(), format!("v1/runs/{}/events", lease.run)));
    }

    fn incident(&mut self, lease: Option<&Lease>, one: &IncidentFound, event: Event) {
        self.events.push(event);
        if let Some(lease) = lease {
            self.concerns.entry(lease.agent.clone()).or_default().insert(Concern::Incident);
        }
        let path = lease.map_or("v1/events".to_owned(), |lease| format!("v1/runs/{}/events", lease.run));
        self.notices.push(("incident", one.event.clone(), path));
    }
}

fn check(told: &Reconciliation) -> Result<(), Refusal> {
    let bad = |why: String| Err(Refusal::new(Code::BadRequest, why));
    if told.leases.len() > MAX_TOLD || told.incidents.len() > MAX_TOLD {
        return bad(format!(
            "at most {MAX_TOLD} leases and {MAX_TOLD} incidents at once; send the rest after them"
        ));
    }
    if told.leases.is_empty() && told.incidents.is_empty() {
        return bad("`leases` and `incidents` are both empty; there is nothing to write".into());
    }
    let twice = told.leases.iter().map(|one| one.lease).collect::<BTreeSet<_>>().len() != told.leases.len();
    if twice {
        return bad("a lease is there twice".into());
    }
    if told.leases.iter().any(|one| one.verdict == Verdict::Settling) {
        return bad("`settling` is no verdict; send it once it has settled".into());
    }
    let is_kind = |kind: &str| {
        (1..=MAX_KIND_CHARS).contains(&kind.len())
            && kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    let is_id = |id: &str| {
        (1..=MAX_EVENT_CHARS).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b':'))
    };
    match told.incidents.iter().all(|one| is_kind(&one.kind) && is_id(&one.event)) {
        true => Ok(()),
        false => {
            bad("`kind` is a word of a-z and _, `event` an id of at most 64 letters, digits, -, _ and :"
                .into())
        }
    }
}

fn has_room(history: &[ReadEvent], run: RunId) -> Result<(), Refusal> {
    if history.len() < MAX_OF_RUN {
        return Ok(());
    }
    let why =
        format!("{MAX_OF_RUN} reconciliations of run `{run}` are recorded, and no more fit its evidence");
    Err(Refusal::new(Code::LimitReached, why))
}

fn had_credential(lease: &Lease) -> bool {
    !matches!(lease.state, LeaseState::Intent | LeaseState::Refused)
}

/// The event about one lease; nothing where the ledger says the same already.
fn about_lease(
    history: &[ReadEvent],
    lease: &Lease,
    one: &LeaseFound,
    told: &Reconciliation,
    person: &PersonSlug,
    now: Timestamp,
) -> Option<Event> {
    let of = |event: &&ReadEvent| event.is(EventKind::Reconciled) && event.lease == Some(lease.id);
    let same = |event: &ReadEvent| {
        let number = |name| event.fact_number(name).and_then(|number| u64::try_from(number).ok());
        let is = |name: &str| event.facts.get(name) == Some(&serde_json::Value::Bool(true));
        event.fact_text("verdict") == Some(one.verdict.name())
            && number("calls") == Some(one.calls)
            && number("failed") == Some(one.failed)
            && number("denied") == Some(one.denied)
            && number("findings") == Some(one.findings)
            && is("mint_seen") == one.mint_seen
            && is("hours_missing") == one.hours_missing
    };
    let before = history.iter().rfind(of);
    let told_before = history
        .iter()
        .filter(of)
        .any(|event| event.fact_digest("report") == Some(told.report) && same(event));
    if told_before || before.is_some_and(same) {
        return None;
    }
    let event = Event::new(EventKind::Reconciled, Actor::Person(person.clone()), now)
        .run(lease.run)
        .lease(lease.id)
        .fact("verdict", one.verdict.name())
        .fact("calls", one.calls)
        .fact("failed", one.failed)
        .fact("denied", one.denied)
        .fact("findings", one.findings)
        .fact("mint_seen", one.mint_seen)
        .fact("hours_missing", one.hours_missing)
        .fact("report", told.report.to_string())
        .fact("records", told.records);
    let event = match lease.grant {
        Some(grant) => event.grant(grant),
        None => event,
    };
    let event = told.first.into_iter().fold(event, |event, at| event.fact("first", at.seconds()));
    let event = told.last.into_iter().fold(event, |event, at| event.fact("last", at.seconds()));
    Some(match before.and_then(|event| event.fact_text("verdict")) {
        Some(before) => event.fact("before", before),
        None => event,
    })
}

fn incident_event(
    lease: Option<&Lease>,
    one: &IncidentFound,
    told: &Reconciliation,
    person: &PersonSlug,
    key: Digest,
    now: Timestamp,
) -> Event {
    let event = Event::new(EventKind::IncidentFound, Actor::Person(person.clone()), now)
        .fact("kind", one.kind.as_str())
        .fact("event", one.event.as_str())
        .fact("at", one.at.seconds())
        .fact("incident", key.to_string())
        .fact("report", told.report.to_string());
    match lease {
        // Its grant may still be claimed under the same lease: what is told now is not of that credential.
        Some(lease) if !had_credential(lease) => event.fact("of", lease.id.to_string()),
        Some(lease) => {
            let event = event.run(lease.run).lease(lease.id);
            lease.grant.into_iter().fold(event, Event::grant)
        }
        None => event,
    }
}
