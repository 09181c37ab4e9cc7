//! `/v1/proposals`: what an agent asks for while deciding.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use hyper::StatusCode;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};

use super::App;
use super::body::{Json, reply};
use super::callers::TokenCaller;
use super::problem::Problem;
use crate::domain::proposal::Proposal;

/// POST /v1/proposals
pub(super) async fn propose(
    State(app): State<Arc<App>>,
    caller: TokenCaller,
    Json(proposal): Json<Proposal>,
) -> Result<Response, Problem> {
    let proposed = app.broker.propose(&caller.claims, proposal).await.map_err(Problem::recorded)?;
    tracing::Span::current().record("grant.id", tracing::field::display(proposed.grant));
    Ok(reply(StatusCode::CREATED, &proposed))
}

/// The schema of a proposal. The type lives in `domain`, which knows no OpenAPI.
pub(super) fn schema() -> Schema {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let object = || ObjectBuilder::new().schema_type(Type::Object);
    let story = object()
        .property("diagnosis", text())
        .property("evidence", text())
        .property("reason", text())
        .description(Some("The agent's own words; shown apart, marked untrusted."));
    let condition = object().property("name", text()).property("value", text());
    let conditions = ArrayBuilder::new()
        .items(condition)
        .description(Some("Probes of the guardrails and the values they must give, now and at the claim."));
    object()
        .property("action", text().description(Some("The catalog entry asked for.")))
        .property("environment", text())
        .property("parameters", object().description(Some("By name; checked against the catalog entry.")))
        .property("work_seconds", ObjectBuilder::new().schema_type(Type::Integer))
        .property("claiming_agent", text().description(Some("The proposing agent when absent.")))
        .property(
            "claim_key",
            text().description(Some("RFC 7638 thumbprint of the DPoP key the claim will be made with.")),
        )
        .property(
            "plan_digest",
            text().description(Some("Base64url SHA-256 of an external plan; presented again at the claim.")),
        )
        .property("preconditions", conditions)
        .property("alert", text().description(Some("A signed alert that may start a playbook.")))
        .property(
            "inverse_claim_key",
            text().description(Some(
                "Asks for the way back as a grant of its own, to be claimed with this key.",
            )),
        )
        .property(
            "break_glass",
            ObjectBuilder::new()
                .schema_type(Type::Boolean)
                .description(Some("Asks people to sign under the break-glass rule.")),
        )
        .property("story", story)
        .required("action")
        .required("environment")
        .required("claim_key")
        .into()
}
