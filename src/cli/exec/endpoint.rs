//! The loopback endpoint at which the child fetches its credential: the container-credentials protocol of the AWS
//! SDKs, or for tokens a document and fresh DPoP proofs. A GET is cheap, never mints, and after the end says so.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::held::{Credential, Held, Source};
use crate::broker::ports::Clock;
use crate::domain::digest::encode;
use crate::domain::secret::Secret;
use crate::http::listen::{Limits, serve};

/// A listening endpoint.
pub struct Endpoint {
    door: Arc<Door>,
    url: String,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<std::io::Result<()>>,
}

struct Door {
    source: Arc<dyn Source>,
    clock: Arc<dyn Clock>,
    /// What proofs are never made for: the broker itself.
    issuer: String,
    token: Secret,
    host: String,
    ended: Mutex<Option<String>>,
}

impl Endpoint {
    /// Listens on a loopback port of the kernel's choice, under a random path and behind a random token.
    pub async fn start(
        source: Arc<dyn Source>,
        clock: Arc<dyn Clock>,
        issuer: &str,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let host = listener.local_addr()?.to_string();
        let path = format!("/{}", encode(&rand::random::<[u8; 16]>()));
        let door = Arc::new(Door {
            source,
            clock,
            issuer: issuer.to_owned(),
            token: Secret::new(encode(&rand::random::<[u8; 32]>())),
            host: host.clone(),
            ended: Mutex::new(None),
        });
        let routes = Router::new()
            .route(&path, get(credential))
            .route(&format!("{path}/proof"), get(proof))
            .route(&format!("{path}/headers"), get(headers))
            .with_state(door.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let limits = Limits { drain_timeout: std::time::Duration::from_secs(1), ..Limits::default() };
        let serving = tokio::spawn(serve(listener, None, routes, limits, async {
            let _ = stopped.await;
        }));
        Ok(Self { door, url: format!("http://{host}{path}"), stop: Some(stop), serving })
    }

    /// Where the credential is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What the child must send as `Authorization`.
    pub fn token(&self) -> &Secret {
        &self.door.token
    }

    /// From now on every answer is this sentence.
    pub fn end(&self, why: &str) {
        *self.door.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
    }

    /// Stops listening.
    pub async fn close(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let _ = (&mut self.serving).await;
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Door {
    /// Who may come in, and what is there for them.
    async fn open(&self, headers: &HeaderMap) -> Result<Arc<Held>, Response> {
        let given = |name| headers.get(name).map(|value| value.as_bytes()).unwrap_or_default();
        // SECURITY: a web page that names a host of its own for 127.0.0.1 (DNS rebinding) ends here.
        if given(HOST) != self.host.as_bytes() {
            return Err(no(
                StatusCode::FORBIDDEN,
                "forbidden",
                "this endpoint answers to its own address only",
            ));
        }
        if verify_slices_are_equal(given(AUTHORIZATION), self.token.expose().as_bytes()).is_err() {
            return Err(no(
                StatusCode::FORBIDDEN,
                "forbidden",
                "the authorization token is missing or wrong",
            ));
        }
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(why) = ended {
            return Err(no(StatusCode::GONE, "credential_ended", &why));
        }
        let held = self.source.current().await;
        let held = held.map_err(|why| no(StatusCode::FORBIDDEN, "no_credential", &why))?;
        match held.not_after().has_passed(self.clock.wall()) {
            false => Ok(held),
            true => {
                let why = format!("the credential ended at {}, its deadline", held.not_after());
                Err(no(StatusCode::GONE, "credential_ended", &why))
            }
        }
    }
}

/// The container-credentials answer.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AwsAnswer<'a> {
    access_key_id: &'a str,
    secret_access_key: &'a str,
    token: &'a str,
    expiration: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<&'a str>,
}

/// The token's own document.
#[derive(Serialize)]
struct TokenAnswer<'a> {
    access_token: &'a str,
    token_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    audience: Option<&'a str>,
    not_after: i64,
}

/// What a proof is wanted for.
#[derive(Deserialize)]
struct Wanted {
    method: String,
    url: String,
}

async fn credential(State(door): State<Arc<Door>>, headers: HeaderMap) -> Response {
    let held = match door.open(&headers).await {
        Ok(held) => held,
        Err(refused) => return refused,
    };
    match held.credential() {
        // The deadline, not the session's own end: SDKs must not keep using keys that are dead.
        Credential::Aws(session) => json_answer(&AwsAnswer {
            access_key_id: &session.access_key_id,
            secret_access_key: session.secret_access_key.expose(),
            token: session.session_token.expose(),
            expiration: held.not_after().rfc3339(),
            account_id: session.account.as_deref(),
        }),
        Credential::Token { access_token, audience, .. } => json_answer(&TokenAnswer {
            access_token: access_token.expose(),
            token_type: "DPoP",
            audience,
            not_after: held.not_after().seconds(),
        }),
    }
}

async fn proof(State(door): State<Arc<Door>>, headers: HeaderMap, Query(wanted): Query<Wanted>) -> Response {
    match door.prove(&headers, &wanted).await {
        Ok((authorization, dpop)) => {
            json_answer(&json!({ "authorization": authorization.expose(), "dpop": dpop }))
        }
        Err(refused) => refused,
    }
}

/// The same as two header lines, for `curl --header @-`.
async fn headers(
    State(door): State<Arc<Door>>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Response {
    match door.prove(&headers, &wanted).await {
        Ok((authorization, dpop)) => {
            let lines = format!("Authorization: {}\nDPoP: {dpop}\n", authorization.expose());
            answer(StatusCode::OK, "text/plain", lines.into_bytes())
        }
        Err(refused) => refused,
    }
}

impl Door {
    async fn prove(&self, headers: &HeaderMap, wanted: &Wanted) -> Result<(Secret, String), Response> {
        let held = self.open(headers).await?;
        let bad = |why: &str| no(StatusCode::BAD_REQUEST, "bad_request", why);
        let Credential::Token { access_token, key, .. } = held.credential() else {
            return Err(bad("an AWS session needs no proofs"));
        };
        let url = wanted.url.split(['?', '#']).next().unwrap_or_default();
        // SECURITY: the key also ends and recalls the lease; what it proves at the broker is ours to say.
        if is_of_broker(url, &self.issuer) {
            return Err(bad("no proofs are made for the broker itself"));
        }
        let now = self.clock.wall();
        let proof = key
            .proof(&wanted.method, url, Some(access_token.expose()), None, now)
            .map_err(|error| bad(&error.to_string()))?;
        Ok((Secret::new(format!("DPoP {}", access_token.expose())), proof))
    }
}

/// Whether `url` could be taken for one of the broker's, which compares URLs and not their spellings (RFC 3986
/// section 6.2): upper case, a default port, a user name and dot segments all lead there. What is no URL could, too.
fn is_of_broker(url: &str, issuer: &str) -> bool {
    let (Ok(url), Ok(issuer)) = (reqwest::Url::parse(url), reqwest::Url::parse(issuer)) else { return true };
    let same_host =
        (url.host_str(), url.port_or_known_default()) == (issuer.host_str(), issuer.port_or_known_default());
    let prefix = issuer.path().trim_end_matches('/');
    same_host && url.path().strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn json_answer<T: Serialize>(body: &T) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => answer(StatusCode::OK, "application/json", bytes),
        Err(_) => no(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the answer cannot be written"),
    }
}

/// A refusal as the SDKs show it: `code` and `message`.
fn no(status: StatusCode, code: &str, message: &str) -> Response {
    answer(status, "application/json", json!({ "code": code, "message": message }).to_string().into_bytes())
}

fn answer(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, axum::http::HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, axum::http::HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_of_the_brokers_url_gets_a_proof() {
        for issuer in ["https://broker.test", "https://broker.test/pb"] {
            for url in [
                format!("{issuer}/v1/runs"),
                issuer.to_owned(),
                format!("{issuer}/x/../v1/runs").to_uppercase().replace("/PB", "/pb"),
                issuer.replace("broker.test", "broker.test:443") + "/v1/runs",
                issuer.replace("broker.test", "me@broker.test") + "/v1/runs",
                "no url".to_owned(),
            ] {
                assert!(is_of_broker(&url, issuer), "{url}");
            }
        }
        for url in
            ["https://api.test/v1/runs", "https://broker.test:8443/v1/runs", "https://broker.test.evil/"]
        {
            assert!(!is_of_broker(url, "https://broker.test"), "{url}");
        }
        assert!(!is_of_broker("https://broker.test/pbx/v1", "https://broker.test/pb"));
    }
}
