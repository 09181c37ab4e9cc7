//! `/v1/freezes`: what is frozen, freezing something, and asking people that it may go on again.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::App;
use super::body::{Json, ok, reply};
use super::callers::PersonCaller;
use super::problem::Problem;
use crate::broker::freeze::FreezeView;
use crate::domain::freeze::FreezeKey;

/// What is frozen.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Freezes {
    freezes: Vec<FreezeView>,
}

/// What to freeze, or to let go on again, and why.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FreezeRequest {
    /// `everything`, `agent:SLUG`, `action:SLUG` or `environment:SLUG`.
    #[schema(value_type = String)]
    key: FreezeKey,
    /// Why.
    reason: String,
}

/// GET /v1/freezes
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    Ok(ok(&Freezes { freezes: app.broker.freezes().await }))
}

/// POST /v1/freezes
pub(super) async fn freeze(
    State(app): State<Arc<App>>,
    caller: PersonCaller,
    Json(asked): Json<FreezeRequest>,
) -> Result<Response, Problem> {
    Ok(ok(&app.broker.freeze(&caller.person, asked.key, asked.reason).await?))
}

/// POST /v1/unfreeze
pub(super) async fn unfreeze(
    State(app): State<Arc<App>>,
    caller: PersonCaller,
    Json(asked): Json<FreezeRequest>,
) -> Result<Response, Problem> {
    let proposed = app.broker.ask_to_unfreeze(&caller.person, asked.key, asked.reason).await?;
    Ok(reply(StatusCode::CREATED, &proposed))
}
