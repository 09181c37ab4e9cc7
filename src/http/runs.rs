//! `/v1/runs`: opening, reading and closing a run; `/v1/events`: what happened.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::App;
use super::body::{Id, Json, Query, ok, reply};
use super::callers::{AgentCaller, Caller, refused};
use super::problem::Problem;
use crate::broker::observe::ReadElsewhere;
use crate::broker::ports::StoredEvent;
use crate::broker::runs::OpenRun;
use crate::domain::id::RunId;
use crate::domain::principal::Actor;

/// Most events of one answer.
const MOST_EVENTS: u32 = 200;

/// Events in order.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Events {
    events: Vec<EventEntry>,
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

/// Which events.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Range {
    from: Option<u64>,
    limit: Option<u32>,
}

/// POST /v1/runs
pub(super) async fn open(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Json(asked): Json<OpenRun>,
) -> Result<Response, Problem> {
    let requester = match &asked.requester_token {
        None => None,
        Some(token) => {
            let rules = app.broker.rules();
            let url = format!("{}/v1/runs", app.broker.settings().issuer);
            let now = app.broker.gate().now();
            // Whoever failed to sign, the one who is refused is the agent that presented it.
            let login = app.authn.person(token, "POST", &url, &rules.directory, now);
            let agent = Actor::Agent(caller.agent.clone());
            Some(login.map_err(|e| refused(e).in_member("requester_token").of(agent))?.person)
        }
    };
    let opened = app.broker.open_run(&caller.agent, caller.attestation, requester, asked).await?;
    tracing::Span::current().record("run.id", tracing::field::display(opened.run));
    Ok(reply(StatusCode::CREATED, &opened))
}

/// GET /v1/runs/{run}
pub(super) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Id(run): Id<RunId>,
) -> Result<Response, Problem> {
    let agent = match &caller {
        Caller::Agent(caller) => Some(&caller.agent),
        _ => None,
    };
    Ok(ok(&app.broker.run_view(run, agent).await?))
}

/// POST /v1/runs/{run}/close
pub(super) async fn close(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(run): Id<RunId>,
) -> Result<Response, Problem> {
    Ok(ok(&app.broker.close_run(run, &caller.agent).await?))
}

/// POST /v1/runs/{run}/observations
pub(super) async fn read_elsewhere(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(run): Id<RunId>,
    Json(read): Json<ReadElsewhere>,
) -> Result<Response, Problem> {
    Ok(reply(StatusCode::CREATED, &app.broker.read_elsewhere(run, &caller.agent, read).await?))
}

/// GET /v1/runs/{run}/events
pub(super) async fn events_of_run(
    State(app): State<Arc<App>>,
    Id(run): Id<RunId>,
    Query(range): Query<Range>,
) -> Result<Response, Problem> {
    events_in(&app, Some(run), range).await
}

/// GET /v1/events
pub(super) async fn events(
    State(app): State<Arc<App>>,
    Query(range): Query<Range>,
) -> Result<Response, Problem> {
    events_in(&app, None, range).await
}

async fn events_in(app: &App, run: Option<RunId>, range: Range) -> Result<Response, Problem> {
    let limit = range.limit.unwrap_or(MOST_EVENTS).min(MOST_EVENTS);
    let events = app.broker.events(run, range.from.unwrap_or(0), limit).await?;
    Ok(ok(&Events { events: events.into_iter().map(EventEntry::from).collect() }))
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
