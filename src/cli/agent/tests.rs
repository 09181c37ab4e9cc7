//! The client against a server that answers as a test says: proofs, lost replies and refusals.

use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::*;
use crate::authn::dpop::{DPOP_TYP, ProofClaims};
use crate::broker::ports::Clock;
use crate::broker::runs::OpenRun;
use crate::domain::digest::Digest;
use crate::domain::id::{GrantId, LeaseId};
use crate::domain::jws::{KeyHeader, Unverified};
use crate::domain::key::{SigningKey, Thumbprint};
use crate::domain::time::Timestamp;

const ISSUER: &str = "https://broker.example";
const LEASE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

struct Still;
impl Clock for Still {
    fn wall(&self) -> Timestamp {
        Timestamp::from_seconds(1_700_000_000)
    }
    fn since_boot(&self) -> i64 {
        5
    }
}

/// What the fake broker saw: path, proof, the proof's key.
type Seen = Arc<Mutex<Vec<(String, ProofClaims, Thumbprint)>>>;

fn note(seen: &Seen, path: &str, headers: &HeaderMap) -> ProofClaims {
    let proof = headers["dpop"].to_str().unwrap();
    let proof = Unverified::parse(proof, DPOP_TYP, KeyHeader::Jwk).unwrap();
    let key = proof.embedded_key().unwrap().clone();
    let claims = proof.verify::<ProofClaims>(&key).unwrap().claims;
    seen.lock().unwrap().push((path.to_owned(), claims.clone(), key.thumbprint()));
    claims
}

fn claimed() -> Value {
    json!({
        "lease": LEASE, "not_after": 10, "hard_end": 20, "execute_token": "exec", "provider": "jwt",
        "credential": {"type": "token", "access_token": "at", "audience": "https://r"},
        "revocability": "immediate", "recall_until": 60,
    })
}

async fn open(State(seen): State<Seen>, headers: HeaderMap) -> Response {
    note(&seen, "open", &headers);
    assert!(headers.contains_key("client-assertion") && !headers.contains_key("authorization"));
    (StatusCode::CREATED, Json(json!({"run": LEASE, "phase": "opened", "requester": "ana"}))).into_response()
}

async fn claim(State(seen): State<Seen>, Path(_): Path<String>, headers: HeaderMap) -> Response {
    note(&seen, "claim", &headers);
    StatusCode::GATEWAY_TIMEOUT.into_response()
}

async fn recall(State(seen): State<Seen>, Path(_): Path<String>, headers: HeaderMap) -> Response {
    match note(&seen, "recall", &headers).nonce.as_deref() {
        Some("n1") => Json(claimed()).into_response(),
        Some(_) => StatusCode::BAD_REQUEST.into_response(),
        None => {
            let body = Json(json!({"code": "use_dpop_nonce", "detail": "prove again"}));
            (StatusCode::UNAUTHORIZED, [("DPoP-Nonce", "n1")], body).into_response()
        }
    }
}

async fn complete(State(seen): State<Seen>, Path(_): Path<String>, headers: HeaderMap) -> Response {
    let proof = note(&seen, "complete", &headers);
    assert_eq!(headers["authorization"], "DPoP exec");
    assert_eq!(proof.ath, Some(Digest::of(b"exec")));
    let body = json!({"code": "lease_ended", "detail": "it is over"});
    (StatusCode::GONE, Json(body)).into_response()
}

async fn fake_broker(seen: Seen) -> String {
    let routes = Router::new()
        .route("/v1/runs", post(open))
        .route("/v1/grants/{id}/claim", post(claim))
        .route("/v1/leases/{id}/recall", post(recall))
        .route("/v1/leases/{id}/complete", post(complete))
        .with_state(seen);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

async fn client(seen: &Seen) -> AgentClient {
    let settings = AgentSettings {
        broker: fake_broker(seen.clone()).await,
        issuer: format!("{ISSUER}/"),
        login: Login::Key { agent: "bot-one".parse().unwrap(), key: SigningKey::generate().unwrap() },
        ca: None,
    };
    AgentClient::new(settings, Arc::new(Still)).unwrap()
}

#[tokio::test]
async fn proofs_name_the_issuer_and_not_where_the_broker_was_reached() {
    let seen = Seen::default();
    let asked = OpenRun {
        environment: "demo".parse().unwrap(),
        purpose: "p".into(),
        ticket: None,
        prompt_digest: None,
        requester_token: None,
    };
    client(&seen).await.open_run(&asked).await.unwrap();
    assert_eq!(seen.lock().unwrap()[0].1.htu, format!("{ISSUER}/v1/runs"));
}

#[tokio::test]
async fn a_lost_claim_reply_is_asked_for_again_with_the_same_key_over_the_nonce() {
    let seen = Seen::default();
    let key = PhaseKey::generate().unwrap();
    let lease: LeaseId = LEASE.parse().unwrap();
    let grant = GrantId::generate(Still.wall());
    let claimed = client(&seen).await.claim_or_recall(grant, lease, &key, &["t".into()], None).await.unwrap();
    assert_eq!(claimed.lease, lease);
    let seen = seen.lock().unwrap();
    let steps: Vec<_> =
        seen.iter().map(|(path, claims, _)| (path.as_str(), claims.nonce.as_deref())).collect();
    assert_eq!(steps, [("claim", None), ("recall", None), ("recall", Some("n1"))]);
    assert!(seen.iter().all(|(_, _, by)| *by == key.thumbprint()));
}

#[tokio::test]
async fn a_refusal_and_an_absent_broker_are_told_apart() {
    let seen = Seen::default();
    let (client, key) = (client(&seen).await, PhaseKey::generate().unwrap());
    let claimed: Claimed = serde_json::from_value(claimed()).unwrap();
    let outcome =
        crate::broker::end::Complete { outcome: crate::domain::lease::Outcome::Succeeded, note: None };
    let refused = client.complete(&claimed, &key, &outcome).await.unwrap_err();
    assert_eq!(refused.code(), Some("lease_ended"));

    let settings = AgentSettings {
        broker: "http://127.0.0.1:1".into(),
        issuer: ISSUER.into(),
        login: Login::Key { agent: "bot-one".parse().unwrap(), key: SigningKey::generate().unwrap() },
        ca: None,
    };
    let away = AgentClient::new(settings, Arc::new(Still)).unwrap();
    assert!(matches!(away.run(LEASE.parse().unwrap()).await, Err(AgentError::Unreachable { .. })));
}
