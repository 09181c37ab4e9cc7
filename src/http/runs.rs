//! `/v1/runs`: opening, reading and closing a run, and what its agent tells of its way.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use hyper::StatusCode;

use super::App;
use super::body::{Id, Json, ok, reply};
use super::callers::{AgentCaller, Caller, refused};
use super::problem::Problem;
use crate::broker::observe::ReadElsewhere;
use crate::broker::runs::OpenRun;
use crate::broker::steps::Step;
use crate::domain::id::RunId;
use crate::domain::principal::Actor;

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

/// POST /v1/runs/{run}/steps
pub(super) async fn step(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(run): Id<RunId>,
    Json(step): Json<Step>,
) -> Result<Response, Problem> {
    Ok(reply(StatusCode::CREATED, &app.broker.record_step(run, &caller.agent, step).await?))
}
