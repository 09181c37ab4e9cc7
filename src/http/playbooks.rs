//! `/v1/playbooks`: proposing, listing and suspending them. They are signed where every grant is.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::App;
use super::body::{Id, Json, ok, reply};
use super::callers::PersonCaller;
use super::problem::Problem;
use crate::broker::playbooks::{PlaybookDraft, PlaybookView};
use crate::domain::id::GrantId;
use crate::domain::playbook::PlaybookState;

/// Playbooks, newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Playbooks {
    playbooks: Vec<PlaybookView>,
}

/// Why a playbook is taken out of use.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Suspend {
    /// Why.
    reason: String,
}

/// A playbook that was suspended.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Suspended {
    #[schema(value_type = String)]
    grant: GrantId,
    #[schema(value_type = String)]
    state: PlaybookState,
}

/// GET /v1/playbooks
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    Ok(ok(&Playbooks { playbooks: app.broker.playbooks().await? }))
}

/// POST /v1/playbooks
pub(super) async fn propose(
    State(app): State<Arc<App>>,
    caller: PersonCaller,
    Json(draft): Json<PlaybookDraft>,
) -> Result<Response, Problem> {
    let proposed = app.broker.propose_playbook(&caller.person, draft).await?;
    Ok(reply(StatusCode::CREATED, &proposed))
}

/// POST /v1/playbooks/{grant}/suspend
pub(super) async fn suspend(
    State(app): State<Arc<App>>,
    caller: PersonCaller,
    Id(grant): Id<GrantId>,
    Json(suspend): Json<Suspend>,
) -> Result<Response, Problem> {
    let state = app.broker.suspend_playbook(&caller.person, grant, suspend.reason).await?;
    Ok(ok(&Suspended { grant, state }))
}
