//! The small resource of the demo: a few services, shown to observers and restarted by exactly the approved token.
//! It does what any resource server should: checks the DPoP proof, asks the broker, and obeys `authorization_details`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::world::World;
use crate::authn::dpop::{Expected, NonceRule};
use crate::authn::{Authn, Settings};
use crate::broker::ports::Clock;
use crate::cli::clock::SystemClock;
use crate::cli::keys::agent_key::read_agent_key;
use crate::domain::action::ParameterValue;
use crate::domain::id::ApprovalId;
use crate::domain::jws::{self, KeyHeader};
use crate::domain::key::SigningKey;
use crate::domain::token::TokenClaims;

struct Resource {
    audience: String,
    issuer: String,
    key: SigningKey,
    authn: Authn,
    http: reqwest::Client,
    services: Mutex<BTreeMap<String, Service>>,
}

#[derive(Clone, serde::Serialize)]
struct Service {
    state: &'static str,
    restarts: u32,
}

/// Serves the resource until its task is dropped.
pub fn serve(world: &World, listener: TcpListener) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    let clock = SystemClock;
    let settings = Settings {
        issuer: world.audience.clone(),
        issuers: Vec::new(),
        resources: Vec::new(),
        dev: true,
        started_at: clock.wall(),
    };
    let services = [("checkout", "degraded"), ("payments", "healthy"), ("search", "healthy")];
    let resource = Arc::new(Resource {
        audience: world.audience.clone(),
        issuer: world.issuer.clone(),
        key: read_agent_key(&world.agent_key("resource"))?,
        authn: Authn::new(settings).context("the demo resource")?,
        http: reqwest::Client::builder().no_proxy().build()?,
        services: Mutex::new(
            services
                .into_iter()
                .map(|(name, state)| (name.to_owned(), Service { state, restarts: 0 }))
                .collect(),
        ),
    });
    let app = Router::new()
        .route("/services", get(list))
        .route("/health/{name}", get(health))
        .route("/services/{name}/restart", post(restart))
        .with_state(resource);
    Ok(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(error = %error, "the demo resource stopped");
        }
    }))
}

type Answer = (StatusCode, Json<Value>);

async fn list(State(resource): State<Arc<Resource>>, headers: HeaderMap) -> Answer {
    match resource.caller(&headers, Method::GET, "/services").await {
        Ok(claims) if claims.scope == "phase:observe" => {
            let services = resource.services.lock().unwrap_or_else(PoisonError::into_inner);
            (StatusCode::OK, Json(json!({ "services": *services })))
        }
        Ok(claims) => {
            no(StatusCode::FORBIDDEN, "insufficient_scope", &format!("`{}` cannot look", claims.scope))
        }
        Err(answer) => answer,
    }
}

/// How a service is, for whoever asks: what the broker's probe reads.
async fn health(State(resource): State<Arc<Resource>>, Path(name): Path<String>) -> Answer {
    let services = resource.services.lock().unwrap_or_else(PoisonError::into_inner);
    match services.get(&name) {
        Some(service) => (StatusCode::OK, Json(json!({ "service": name, "state": service.state }))),
        None => no(StatusCode::NOT_FOUND, "not_found", &format!("there is no service `{name}`")),
    }
}

async fn restart(
    State(resource): State<Arc<Resource>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let claims = match resource.caller(&headers, Method::POST, &format!("/services/{name}/restart")).await {
        Ok(claims) => claims,
        Err(answer) => return answer,
    };
    let approved = claims.scope == "phase:execute"
        && matches!(claims.authorization_details.as_slice(), [only]
            if only.action.as_str() == "restart-service"
                && only.parameters.get("service") == Some(&ParameterValue::Text(name.clone())));
    if !approved {
        return no(
            StatusCode::FORBIDDEN,
            "insufficient_scope",
            &format!("this token was not approved for restarting `{name}`"),
        );
    }
    let mut services = resource.services.lock().unwrap_or_else(PoisonError::into_inner);
    match services.get_mut(&name) {
        Some(service) => {
            *service = Service { state: "healthy", restarts: service.restarts.saturating_add(1) };
            (
                StatusCode::OK,
                Json(json!({ "service": name, "state": service.state, "restarts": service.restarts })),
            )
        }
        None => no(StatusCode::NOT_FOUND, "not_found", &format!("there is no service `{name}`")),
    }
}

impl Resource {
    /// Who calls: proof of possession, an active token of ours, and the same key in both.
    async fn caller(&self, headers: &HeaderMap, method: Method, path: &str) -> Result<TokenClaims, Answer> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let token = header("authorization").and_then(|value| value.strip_prefix("DPoP "));
        let (Some(token), Some(proof)) = (token, header("dpop")) else {
            return Err(no(StatusCode::UNAUTHORIZED, "invalid_token", "a DPoP-bound access token is needed"));
        };
        let url = format!("{}{path}", self.audience);
        let expected = Expected {
            method: method.as_str(),
            url: &url,
            access_token: Some(token),
            nonce: NonceRule::NotNeeded,
        };
        let proof = self
            .authn
            .dpop(proof, &expected, SystemClock.wall())
            .map_err(|e| no(StatusCode::UNAUTHORIZED, "invalid_dpop_proof", &e.to_string()))?;
        let claims = self.introspect(token).await;
        let claims =
            claims.map_err(|e| no(StatusCode::SERVICE_UNAVAILABLE, "cannot_decide", &e.to_string()))?;
        match claims {
            Some(claims) if claims.cnf.jkt == proof.key => Ok(claims),
            _ => Err(no(StatusCode::UNAUTHORIZED, "invalid_token", "the token is not active")),
        }
    }

    async fn introspect(&self, token: &str) -> anyhow::Result<Option<TokenClaims>> {
        let now = SystemClock.wall();
        let assertion = jws::sign(
            "JWT",
            &self.key,
            KeyHeader::Kid,
            &json!({
                "iss": self.audience, "sub": self.audience, "aud": self.issuer,
                "iat": now, "exp": now.plus(60), "jti": ApprovalId::generate(now),
            }),
        )?;
        let form = [
            ("token", token),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", &assertion),
        ];
        let answer = self.http.post(format!("{}/introspect", self.issuer)).form(&form).send().await?;
        let mut claims: Value = answer.error_for_status()?.json().await?;
        let members = claims.as_object_mut().context("introspection answered no object")?;
        if members.remove("active") != Some(Value::Bool(true)) {
            return Ok(None);
        }
        members.remove("token_type");
        Ok(Some(serde_json::from_value(claims)?))
    }
}

fn no(status: StatusCode, error: &str, text: &str) -> Answer {
    (status, Json(json!({ "error": error, "error_description": text })))
}
