//! What anyone may read: health, counters, keys, and the descriptions of this API.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use serde_json::{Value, json};

use super::App;
use super::body::{ok, reply};
use super::openapi;
use super::problem::Problem;
use crate::domain::key_ring::{JWKS_MAX_AGE_SECONDS, PublishedKey};
use crate::domain::phase::Phase;

/// Whether something can be issued now.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Readiness {
    ready: bool,
    /// Why not.
    reasons: Vec<String>,
}

/// GET /healthz: the process answers.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// GET /readyz: something can be issued.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let reasons: Vec<String> = app.broker.gate().not_ready().into_iter().collect();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    reply(status, &Readiness { ready: reasons.is_empty(), reasons })
}

/// GET /metrics
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let text = app.broker.metrics().render().map_err(|_| {
        Problem::of_transport(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the counters cannot be written")
    })?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(CONTENT_TYPE, kind)], text).into_response())
}

/// GET /openapi.json
pub(super) async fn openapi() -> Response {
    ok(&openapi::document())
}

/// GET /jwks.json (RFC 7517): the keys that sign tokens, signed tokens that still live, or will sign next. The member
/// `certificate` says who vouches for a key; whoever does not know it ignores it (RFC 7517 section 4).
pub(super) async fn jwks(State(app): State<Arc<App>>) -> Response {
    let now = app.broker.gate().now();
    let ring = app.broker.signer().ring();
    let keys: Vec<Value> = ring.published(now).map(published).collect();
    let mut response = ok(&json!({ "keys": keys }));
    // Resource servers verify many tokens by them; no key signs before it was here for so long.
    let max_age = format!("public, max-age={JWKS_MAX_AGE_SECONDS}");
    if let Ok(value) = HeaderValue::from_str(&max_age) {
        response.headers_mut().insert(CACHE_CONTROL, value);
    }
    response
}

fn published(public: &PublishedKey) -> Value {
    let key = &public.key;
    let mut jwk = json!(key.jwk());
    if let Value::Object(members) = &mut jwk {
        members.insert("kid".into(), json!(key.thumbprint().to_string()));
        members.insert("alg".into(), json!(key.algorithm().name()));
        members.insert("use".into(), json!("sig"));
        if let Some(certificate) = &public.certificate {
            members.insert("certificate".into(), json!(certificate));
        }
    }
    jwk
}

/// GET /.well-known/oauth-authorization-server (RFC 8414)
pub(super) async fn authorization_server(State(app): State<Arc<App>>) -> Response {
    let issuer = &app.broker.settings().issuer;
    let algorithms = ["EdDSA", "ES256"];
    ok(&json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}/token"),
        "introspection_endpoint": format!("{issuer}/introspect"),
        "revocation_endpoint": format!("{issuer}/revoke"),
        "jwks_uri": format!("{issuer}/jwks.json"),
        "response_types_supported": [],
        "grant_types_supported": ["client_credentials"],
        "scopes_supported": [Phase::Observe.scope(), Phase::Decide.scope()],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "introspection_endpoint_auth_methods_supported": ["private_key_jwt"],
        "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
        "revocation_endpoint_auth_methods_supported": ["private_key_jwt"],
        "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
        "dpop_signing_alg_values_supported": algorithms,
    }))
}
