//! `/v1/reconciliations`: what a provider's own records say was done with credentials, told by whoever held them against
//! the ledger.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::App;
use super::body::{Json, ok};
use super::callers::PersonCaller;
use super::problem::Problem;
use crate::broker::reconcile::Reconciliation;

/// POST /v1/reconciliations
pub(super) async fn tell(
    State(app): State<Arc<App>>,
    caller: PersonCaller,
    Json(told): Json<Reconciliation>,
) -> Result<Response, Problem> {
    Ok(ok(&app.broker.reconcile(&caller.person, told).await?))
}
