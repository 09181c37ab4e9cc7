//! `/v1/events`: what happened, by filter and in pages, and the erasing of a text beside an event.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::App;
use super::body::{Id, Json, Query, bad, ok};
use super::callers::PersonCaller;
use super::problem::Problem;
use crate::broker::ports::{EventFilter, StoredEvent};
use crate::broker::redact::Redact;
use crate::domain::decision::Tier;
use crate::domain::event::EventKind;
use crate::domain::id::{GrantId, LeaseId, RunId};
use crate::domain::lease::Outcome;
use crate::domain::principal::{ActionType, AgentSlug, Environment, PersonSlug};
use crate::domain::time::Timestamp;

/// Most events of one answer.
const MOST_EVENTS: u32 = 200;

/// What narrows the events, and where to begin; each with its meaning.
pub(super) const QUERY: &[(&str, &str)] = &[
    ("from", "Index to begin at; `next` of the page before."),
    ("limit", "At most so many events, and at most 200."),
    ("since", "At or after this time, in seconds since the epoch."),
    ("until", "Before this time, in seconds since the epoch."),
    ("type", "Of one of these kinds, with commas between."),
    ("run", "Of this run."),
    ("grant", "About this grant."),
    ("lease", "About this lease."),
    ("agent", "Done by this agent, in its run, or about a grant or lease of its."),
    ("person", "Done by this person."),
    ("environment", "In this environment."),
    ("action", "About a grant or lease for this action type."),
    (
        "decision",
        "About a grant that policy decided so: `needs_approval`, `autonomous`, `suggest_only`; or `deny`.",
    ),
    ("outcome", "Ends of work with this outcome: `succeeded`, `failed` or `uncertain`."),
];

/// A page of events, in order. A search looks at a bounded number of events: go on from `next` until it is `head`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Events {
    events: Vec<EventEntry>,
    /// Where to go on.
    next: u64,
    /// Number of events in the ledger.
    head: u64,
}

/// One event.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct EventEntry {
    /// Its place in the ledger.
    index: u64,
    /// The immutable bytes, parsed.
    #[schema(value_type = Object)]
    event: Value,
    /// Texts beside it that were not erased.
    texts: BTreeMap<String, String>,
}

/// A query, as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    from: Option<u64>,
    limit: Option<u32>,
    since: Option<i64>,
    until: Option<i64>,
    #[serde(rename = "type")]
    kinds: Option<String>,
    run: Option<RunId>,
    grant: Option<GrantId>,
    lease: Option<LeaseId>,
    agent: Option<AgentSlug>,
    person: Option<PersonSlug>,
    environment: Option<Environment>,
    action: Option<ActionType>,
    decision: Option<Tier>,
    outcome: Option<Outcome>,
}

/// GET /v1/runs/{run}/events
pub(super) async fn of_run(
    State(app): State<Arc<App>>,
    Id(run): Id<RunId>,
    Query(asked): Query<Asked>,
) -> Result<Response, Problem> {
    if asked.run.is_some_and(|other| other != run) {
        return Err(bad("`run` is another run than the path names"));
    }
    search(&app, Asked { run: Some(run), ..asked }).await
}

/// GET /v1/events
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Query(asked): Query<Asked>,
) -> Result<Response, Problem> {
    search(&app, asked).await
}

/// POST /v1/events/{index}/redact
pub(super) async fn redact(
    State(app): State<Arc<App>>,
    caller: PersonCaller,
    Id(index): Id<u64>,
    Json(asked): Json<Redact>,
) -> Result<Response, Problem> {
    Ok(ok(&app.broker.redact(&caller.person, index, asked).await?))
}

async fn search(app: &App, asked: Asked) -> Result<Response, Problem> {
    let (from, limit) = (asked.from.unwrap_or(0), asked.limit.unwrap_or(MOST_EVENTS).clamp(1, MOST_EVENTS));
    let page = app.broker.find_events(filter(asked)?, from, limit).await?;
    let events = page.events.into_iter().map(EventEntry::from).collect();
    Ok(ok(&Events { events, next: page.next, head: page.head }))
}

fn filter(asked: Asked) -> Result<EventFilter, Problem> {
    let mut kinds = Vec::new();
    for name in asked.kinds.iter().flat_map(|list| list.split(',')) {
        let named = EventKind::from_name(name);
        let shown: String = name.chars().take(64).collect();
        kinds.push(named.ok_or_else(|| {
            bad(format!("`type` names no kind of event this broker knows: `{}`", shown.escape_default()))
        })?);
    }
    if let (Some(since), Some(until)) = (asked.since, asked.until)
        && since >= until
    {
        return Err(bad("`since` must lie before `until`"));
    }
    Ok(EventFilter {
        since: asked.since.map(Timestamp::from_seconds),
        until: asked.until.map(Timestamp::from_seconds),
        kinds,
        run: asked.run,
        grant: asked.grant,
        lease: asked.lease,
        agent: asked.agent,
        person: asked.person,
        environment: asked.environment,
        action: asked.action,
        decision: asked.decision,
        outcome: asked.outcome,
    })
}

impl From<StoredEvent> for EventEntry {
    fn from(stored: StoredEvent) -> Self {
        Self {
            index: stored.index,
            event: serde_json::from_slice(&stored.bytes).unwrap_or(Value::Null),
            texts: stored.texts.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(kinds: &str) -> Asked {
        Asked { kinds: Some(kinds.to_owned()), ..Asked::default() }
    }

    #[test]
    fn kinds_are_named_exactly_or_refused_by_name() {
        let found = filter(asked("lease.ended,refused")).unwrap();
        assert_eq!(found.kinds, [EventKind::LeaseEnded, EventKind::Refused]);
        for wrong in ["", "lease", "lease.ended,", "lease.ended, refused", "LEASE.ENDED"] {
            assert!(filter(asked(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_empty_stretch_of_time_is_a_mistake() {
        let stretch = |since, until| Asked { since: Some(since), until: Some(until), ..Asked::default() };
        assert!(filter(stretch(1, 2)).is_ok());
        assert!(filter(stretch(2, 2)).is_err());
        assert!(filter(stretch(3, 2)).is_err());
    }
}
