//! `/v1/reviews`: what ran without a signature of its own and must be looked at; `/v1/decisions`: what policy answered.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::App;
use super::body::{Id, Json, Query, ok};
use super::callers::PersonCaller;
use super::problem::Problem;
use crate::broker::reviews::{ReviewView, Reviewed};
use crate::domain::id::ReviewId;
use crate::domain::time::Timestamp;

/// Reviews, oldest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Reviews {
    reviews: Vec<ReviewView>,
}

/// Which reviews.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    #[serde(default)]
    open: bool,
}

/// Which decisions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Since {
    since: Option<i64>,
    #[serde(default)]
    skip: u64,
}

/// GET /v1/reviews
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Query(which): Query<Which>,
) -> Result<Response, Problem> {
    Ok(ok(&Reviews { reviews: app.broker.reviews(which.open).await? }))
}

/// GET /v1/reviews/{review}
pub(super) async fn show(State(app): State<Arc<App>>, Id(review): Id<ReviewId>) -> Result<Response, Problem> {
    Ok(ok(&app.broker.review(review).await?))
}

/// POST /v1/reviews/{review}
pub(super) async fn decide(
    State(app): State<Arc<App>>,
    caller: PersonCaller,
    Id(review): Id<ReviewId>,
    Json(reviewed): Json<Reviewed>,
) -> Result<Response, Problem> {
    Ok(ok(&app.broker.decide_review(&caller.person, review, reviewed).await?))
}

/// GET /v1/decisions
pub(super) async fn decisions(
    State(app): State<Arc<App>>,
    Query(which): Query<Since>,
) -> Result<Response, Problem> {
    let since = Timestamp::from_seconds(which.since.unwrap_or(0));
    Ok(ok(&app.broker.decisions(since, which.skip).await?))
}
