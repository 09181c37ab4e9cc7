//! `/v1/runs/{run}/evidence`: everything about one run in one file that others check without us.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde::Serialize;
use serde_json::Value;

use super::App;
use super::body::Id;
use super::problem::Problem;
use crate::domain::id::RunId;

/// An evidence pack, in the form of RFC 8785: the bytes of the answer are the file.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(value_type = Object)]
pub struct Evidence(Value);

/// GET /v1/runs/{run}/evidence
pub(super) async fn of_run(State(app): State<Arc<App>>, Id(run): Id<RunId>) -> Result<Response, Problem> {
    let pack = app.broker.evidence(run).await?;
    Ok(([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], pack).into_response())
}
