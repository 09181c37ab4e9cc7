//! `/v1/leases`: a lost reply, the end of an action, and what is alive.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::App;
use super::body::{Id, Json, Query, ok};
use super::callers::{AgentCaller, TokenCaller};
use super::grants::ClaimReply;
use super::problem::Problem;
use crate::broker::end::Complete;
use crate::broker::refusal::Code;
use crate::broker::views::LeaseView;
use crate::domain::id::{LeaseId, RunId};

/// Leases, newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Leases {
    leases: Vec<LeaseView>,
}

/// Which leases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    #[serde(default)]
    open: bool,
    run: Option<RunId>,
}

/// POST /v1/leases/{lease}/recall
pub(super) async fn recall(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(lease): Id<LeaseId>,
) -> Result<Response, Problem> {
    let claimed =
        app.broker.recall(lease, &caller.agent, caller.key).await.map_err(|refusal| match refusal.code {
            // Told by `lease.recalled` and `lease.ended` already.
            Code::CredentialLost => {
                app.broker.metrics().refused(refusal.code);
                Problem::recorded(refusal)
            }
            _ => refusal.into(),
        })?;
    Ok(ok(&ClaimReply::of(&claimed)))
}

/// POST /v1/leases/{lease}/complete
pub(super) async fn complete(
    State(app): State<Arc<App>>,
    caller: TokenCaller,
    Id(lease): Id<LeaseId>,
    Json(done): Json<Complete>,
) -> Result<Response, Problem> {
    Ok(ok(&app.broker.complete(lease, &caller.claims, done).await?))
}

/// POST /v1/leases/{lease}/cancel
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    caller: TokenCaller,
    Id(lease): Id<LeaseId>,
) -> Result<Response, Problem> {
    Ok(ok(&app.broker.cancel_lease(lease, &caller.claims).await?))
}

/// GET /v1/leases
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Query(which): Query<Which>,
) -> Result<Response, Problem> {
    let leases = app.broker.leases(which.run, which.open).await?;
    Ok(ok(&Leases { leases: leases.iter().map(|lease| app.broker.lease_view(lease)).collect() }))
}
