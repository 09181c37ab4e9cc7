//! Searching events: one pass from a place on, over a bounded number of them. What an event itself does not say (the
//! agent of its run, the action of its grant) comes from the records it belongs to.

use std::collections::HashMap;

use rusqlite::{Connection, params};
use serde::Deserialize;
use serde_json::Value;

use super::fault::Fault;
use super::ledger;
use super::rows::{self, count, number};
use crate::broker::ports::{EventFilter, EventPage, SEARCHED_AT_ONCE, StoredEvent};
use crate::domain::decision::Tier;
use crate::domain::event::EventKind;
use crate::domain::id::{GrantId, LeaseId, RunId};
use crate::domain::principal::Actor;
use crate::ledger::events::ReadEvent;

/// Events from `from` on that `filter` lets through.
pub(super) fn find(
    conn: &Connection,
    filter: &EventFilter,
    from: u64,
    limit: u32,
) -> Result<EventPage, Fault> {
    let head = ledger::head(conn)?.size;
    let mut page = EventPage { events: Vec::new(), next: head.max(from), head };
    let narrow = run_of(conn, filter)?;
    let sql = match narrow {
        Some(_) => "SELECT place, bytes FROM events WHERE run = ?1 AND place >= ?2 ORDER BY place LIMIT ?3",
        None => "SELECT place, bytes FROM events WHERE ?1 IS NULL AND place >= ?2 ORDER BY place LIMIT ?3",
    };
    let from = i64::try_from(from).unwrap_or(i64::MAX);
    let most = number(SEARCHED_AT_ONCE)?;
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params![narrow.map(|run| run.to_string()), from, most])?;
    let (mut joined, mut seen) = (Joined::new(conn), 0_u64);
    while let Some(row) = rows.next()? {
        let place = count(row.get("place")?)?;
        seen += 1;
        let bytes = row.get_ref("bytes")?.as_blob().map_err(|e| Fault::Unreadable(e.to_string()))?;
        if lets_through(filter, place, bytes, &mut joined)? {
            page.events.push(StoredEvent { index: place, bytes: bytes.to_vec(), texts: Vec::new() });
        }
        if seen == SEARCHED_AT_ONCE || u32::try_from(page.events.len()).is_ok_and(|found| found >= limit) {
            page.next = place + 1;
            break;
        }
    }
    for event in &mut page.events {
        event.texts = ledger::texts(conn, event.index)?;
    }
    Ok(page)
}

/// The run that everything searched for belongs to, where that is certain: it has an index.
fn run_of(conn: &Connection, filter: &EventFilter) -> Result<Option<RunId>, Fault> {
    let named = match (filter.run, filter.grant, filter.lease) {
        (Some(run), _, _) => return Ok(Some(run)),
        (None, Some(grant), _) => {
            rows::one_text(conn, "SELECT run FROM grants WHERE id = ?1", [grant.to_string()])?
        }
        (None, None, Some(lease)) => {
            rows::one_text(conn, "SELECT run FROM leases WHERE id = ?1", [lease.to_string()])?
        }
        (None, None, None) => None,
    };
    named.map(|run| rows::parse(&run, "run")).transpose()
}

/// What is looked at first: the members that nearly every event has, and no facts.
#[derive(Deserialize)]
struct Outline<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
    at: i64,
    run: Option<RunId>,
    grant: Option<GrantId>,
    lease: Option<LeaseId>,
}

fn lets_through(
    filter: &EventFilter,
    place: u64,
    bytes: &[u8],
    joined: &mut Joined<'_>,
) -> Result<bool, Fault> {
    let unreadable = |why: String| Fault::Unreadable(format!("event {place}: {why}"));
    let outline: Outline<'_> = serde_json::from_slice(bytes).map_err(|e| unreadable(e.to_string()))?;
    let outside = filter.since.is_some_and(|since| outline.at < since.seconds())
        || filter.until.is_some_and(|until| outline.at >= until.seconds());
    let other_kind = !filter.kinds.is_empty() && !filter.kinds.iter().any(|kind| kind.name() == outline.kind);
    if outside
        || other_kind
        || filter.run.is_some_and(|run| outline.run != Some(run))
        || filter.grant.is_some_and(|grant| outline.grant != Some(grant))
        || filter.lease.is_some_and(|lease| outline.lease != Some(lease))
    {
        return Ok(false);
    }
    let by_outline = filter.agent.is_none()
        && filter.person.is_none()
        && filter.environment.is_none()
        && filter.action.is_none()
        && filter.decision.is_none()
        && filter.outcome.is_none();
    if by_outline {
        return Ok(true);
    }
    let event = ReadEvent::parse(bytes).map_err(|e| unreadable(e.to_string()))?;
    joined.lets_through(filter, &event)
}

/// What the records say of the runs, grants and leases that events name.
struct Joined<'a> {
    conn: &'a Connection,
    runs: HashMap<RunId, Option<OfRun>>,
    grants: HashMap<GrantId, Option<OfGrant>>,
    leases: HashMap<LeaseId, Option<OfLease>>,
}

#[derive(Clone)]
struct OfRun {
    agent: String,
    environment: String,
}

#[derive(Clone)]
struct OfGrant {
    agents: [String; 2],
    environment: String,
    action: String,
    tier: String,
}

#[derive(Clone)]
struct OfLease {
    agent: String,
    action: Option<String>,
}

impl<'a> Joined<'a> {
    fn new(conn: &'a Connection) -> Self {
        Self { conn, runs: HashMap::new(), grants: HashMap::new(), leases: HashMap::new() }
    }

    fn lets_through(&mut self, filter: &EventFilter, event: &ReadEvent) -> Result<bool, Fault> {
        if let Some(person) = &filter.person
            && event.person() != Some(person)
        {
            return Ok(false);
        }
        if let Some(outcome) = filter.outcome
            && !(event.is(EventKind::LeaseEnded) && event.fact_text("outcome") == Some(outcome.name()))
        {
            return Ok(false);
        }
        let run = event.run.map(|id| self.run(id)).transpose()?.flatten();
        let grant = event.grant.map(|id| self.grant(id)).transpose()?.flatten();
        let lease = event.lease.map(|id| self.lease(id)).transpose()?.flatten();
        if let Some(agent) = &filter.agent {
            let name = agent.as_str();
            let does = event.actor == Actor::Agent(agent.clone())
                || event.fact_text("claimed") == Some(&Actor::Agent(agent.clone()).to_string());
            let of = run.as_ref().is_some_and(|run| run.agent == name)
                || grant.as_ref().is_some_and(|grant| grant.agents.iter().any(|known| known == name))
                || lease.as_ref().is_some_and(|lease| lease.agent == name);
            if !does && !of {
                return Ok(false);
            }
        }
        if let Some(environment) = &filter.environment {
            let name = Some(environment.as_str());
            let in_it = event.fact_text("environment") == name
                || run.as_ref().map(|run| run.environment.as_str()) == name
                || grant.as_ref().map(|grant| grant.environment.as_str()) == name;
            if !in_it {
                return Ok(false);
            }
        }
        if let Some(action) = &filter.action {
            let name = Some(action.as_str());
            let about = event.fact_text("action") == name
                || grant.as_ref().map(|grant| grant.action.as_str()) == name
                || lease.as_ref().and_then(|lease| lease.action.as_deref()) == name;
            if !about {
                return Ok(false);
            }
        }
        Ok(match filter.decision {
            None => true,
            // Nothing was sealed: what is left of it is the refusal.
            Some(Tier::Deny) => {
                event.is(EventKind::Refused) && event.fact_text("code") == Some("policy_denied")
            }
            Some(tier) => grant.is_some_and(|grant| grant.tier == tier.name()),
        })
    }

    fn run(&mut self, id: RunId) -> Result<Option<OfRun>, Fault> {
        if let Some(known) = self.runs.get(&id) {
            return Ok(known.clone());
        }
        let found = rows::run(self.conn, id)?
            .map(|run| OfRun { agent: run.agent.to_string(), environment: run.environment.to_string() });
        self.runs.insert(id, found.clone());
        Ok(found)
    }

    fn grant(&mut self, id: GrantId) -> Result<Option<OfGrant>, Fault> {
        if let Some(known) = self.grants.get(&id) {
            return Ok(known.clone());
        }
        // Documents of every version there was say these, and nothing is decided by them here.
        let documents =
            rows::all(self.conn, "SELECT bytes FROM grants WHERE id = ?1", [id.to_string()], |row| {
                let bytes: Vec<u8> = row.get("bytes")?;
                let document: Value = serde_json::from_slice(&bytes)
                    .map_err(|e| Fault::Unreadable(format!("the document of grant {id}: {e}")))?;
                let text = |at| document.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
                Ok(OfGrant {
                    agents: [text("/who/proposing_agent"), text("/who/claiming_agent")],
                    environment: text("/environment"),
                    action: text("/action/type"),
                    tier: text("/decision/tier"),
                })
            })?;
        let found = documents.into_iter().next();
        self.grants.insert(id, found.clone());
        Ok(found)
    }

    fn lease(&mut self, id: LeaseId) -> Result<Option<OfLease>, Fault> {
        if let Some(known) = self.leases.get(&id) {
            return Ok(known.clone());
        }
        let found = rows::lease_by_id(self.conn, id)?.map(|lease| OfLease {
            agent: lease.agent.to_string(),
            action: lease.action.map(|action| action.to_string()),
        });
        self.leases.insert(id, found.clone());
        Ok(found)
    }
}
