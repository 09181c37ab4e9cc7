//! The log as C2SP tlog-tiles serves it, and proofs made for those who fetch no tiles. Hashes tell nothing and are
//! anyone's; entries are for people.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde::Deserialize;

use super::App;
use super::body::{Id, Query, ok};
use super::callers::Caller;
use super::problem::Problem;
use crate::broker::refusal::{Code, Refusal};
use crate::ledger::tile::{Kind, Tile};

const TEXT: &str = "text/plain; charset=utf-8";

/// GET /log/checkpoint
pub(super) async fn checkpoint(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let note = app.broker.checkpoint()?.cosigned_note();
    Ok(([(CONTENT_TYPE, TEXT), (CACHE_CONTROL, "no-store")], note).into_response())
}

/// GET /log/tile/{level}/{*place}
pub(super) async fn hashes(
    State(app): State<Arc<App>>,
    Path((level, place)): Path<(String, String)>,
) -> Result<Response, Problem> {
    tile(&app, &level, &place).await
}

/// GET /log/tile/entries/{*place}
pub(super) async fn entries(
    State(app): State<Arc<App>>,
    Path(place): Path<String>,
) -> Result<Response, Problem> {
    tile(&app, "entries", &place).await
}

async fn tile(app: &App, kind: &str, place: &str) -> Result<Response, Problem> {
    let tile =
        Tile::from_parts(kind, place).map_err(|error| Refusal::new(Code::BadRequest, error.to_string()))?;
    let bytes = app.broker.tile(tile).await?.ok_or_else(|| {
        Refusal::new(
            Code::NotFound,
            "the published log has no such tile; `/log/checkpoint` says how large it is",
        )
    })?;
    // A tile never changes; one of entries is not for a cache that others share.
    let caching = match tile.kind() {
        Kind::Hashes(_) => "public, max-age=31536000, immutable",
        Kind::Entries => "no-store",
    };
    Ok(([(CONTENT_TYPE, "application/octet-stream"), (CACHE_CONTROL, caching)], bytes).into_response())
}

/// From which state on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Since {
    old: u64,
}

/// GET /log/consistency
pub(super) async fn consistency(
    State(app): State<Arc<App>>,
    Query(since): Query<Since>,
) -> Result<Response, Problem> {
    Ok(ok(&app.broker.continuation(since.old).await?))
}

/// GET /v1/receipts/{index}
pub(super) async fn receipt(
    State(app): State<Arc<App>>,
    caller: Caller,
    Id(index): Id<u64>,
) -> Result<Response, Problem> {
    let agent = match &caller {
        Caller::Agent(caller) => Some(&caller.agent),
        _ => None,
    };
    Ok(ok(&app.broker.receipt(index, agent).await?))
}
