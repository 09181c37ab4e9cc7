//! `/introspect` (RFC 7662): a registered resource server asks whether a token for it may be used right now.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::App;
use super::body::{Form, ok};
use super::callers::{refused, unauthenticated};
use super::problem::{OAuthProblem, Problem};
use super::token::ASSERTION_TYPE;
use crate::domain::token::TokenClaims;

/// What a resource server asks.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub struct IntrospectRequest {
    /// The token it was given.
    token: String,
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`.
    client_assertion_type: String,
    /// Its own assertion: iss and sub are its audience.
    client_assertion: String,
}

/// RFC 7662 section 2.2. For anything but a live token of the asker's own audience: `{"active": false}`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct IntrospectReply {
    active: bool,
    /// `DPoP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'static str>,
    #[serde(flatten)]
    #[schema(value_type = Option<Object>)]
    claims: Option<TokenClaims>,
}

/// POST /introspect
pub(super) async fn introspect(
    State(app): State<Arc<App>>,
    form: Result<Form<IntrospectRequest>, Problem>,
) -> Result<Response, OAuthProblem> {
    let Form(asked) = form?;
    if asked.client_assertion_type != ASSERTION_TYPE {
        return Err(unauthenticated(format!("`client_assertion_type` must be `{ASSERTION_TYPE}`")).into());
    }
    let now = app.broker.gate().now();
    let resource = app.authn.resource_login(&asked.client_assertion, "/introspect", now).map_err(refused)?;
    let claims = app.broker.introspect(&asked.token, &resource.audience);
    let active = claims.is_some();
    Ok(ok(&IntrospectReply { active, token_type: active.then_some("DPoP"), claims }))
}
