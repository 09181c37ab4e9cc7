//! The endpoint, asked by a small client as a child would.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::*;
use crate::authn::dpop::{DPOP_TYP, ProofClaims};
use crate::cli::agent::PhaseKey;
use crate::domain::digest::Digest;
use crate::domain::jws::{KeyHeader, Unverified};
use crate::domain::time::Timestamp;

const END: i64 = 2_000_000_000;
const ISSUER: &str = "https://broker.example";

struct Set(AtomicI64);
impl Clock for Set {
    fn wall(&self) -> Timestamp {
        Timestamp::from_seconds(self.0.load(Ordering::Relaxed))
    }
    fn since_boot(&self) -> i64 {
        0
    }
}

fn held(credential: Value) -> (Arc<Held>, Arc<PhaseKey>) {
    let claimed = json!({
        "lease": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "not_after": END, "hard_end": END + 900, "execute_token": "exec",
        "credential": credential, "revocability": "seconds", "recall_until": END,
    });
    let key = Arc::new(PhaseKey::generate().unwrap());
    (Arc::new(Held::Execute(Arc::new(serde_json::from_value(claimed).unwrap()), key.clone())), key)
}

fn aws() -> Value {
    json!({
        "type": "aws", "access_key_id": "ASIAEXAMPLE", "secret_access_key": "s3cret", "session_token": "t0ken",
        "expiration": "2033-05-18T03:33:20Z", "region": "eu-west-1", "account": "123456789012",
    })
}

fn token() -> Value {
    json!({"type": "token", "access_token": "at", "audience": "https://resource.example"})
}

struct Child {
    surface: Surface,
    clock: Arc<Set>,
    key: Arc<PhaseKey>,
    http: reqwest::Client,
}

impl Child {
    async fn of(credential: Value) -> Self {
        let (held, key) = held(credential);
        let clock = Arc::new(Set(AtomicI64::new(END - 60)));
        let endpoints = ["s3=http://127.0.0.1:1".parse().unwrap()];
        let source = Arc::new(Fixed(held.clone()));
        let surface = Surface::open(source, &held, clock.clone(), ISSUER, &endpoints).await.unwrap();
        Self { surface, clock, key, http: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    fn variable(&self, name: &str) -> Option<String> {
        let found = self.surface.variables().iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.to_str().unwrap().to_owned())
    }

    fn url(&self) -> String {
        self.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI")
            .or_else(|| self.variable("PHASEBROKER_CREDENTIAL_URL"))
            .unwrap()
    }

    fn token_file(&self) -> PathBuf {
        self.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
            .or_else(|| self.variable("PHASEBROKER_CREDENTIAL_TOKEN_FILE"))
            .unwrap()
            .into()
    }

    async fn get(&self, more: &str, token: &str) -> (StatusCode, String) {
        let request = self.http.get(format!("{}{more}", self.url())).header("Authorization", token);
        let answer = request.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    async fn fetch(&self, more: &str) -> (StatusCode, String) {
        self.get(more, &std::fs::read_to_string(self.token_file()).unwrap()).await
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn the_right_token_gets_the_same_keys_every_time_with_the_deadline_as_their_end() {
    let child = Child::of(aws()).await;
    let (status, first) = child.fetch("").await;
    assert_eq!(status, StatusCode::OK);
    let keys: Value = serde_json::from_str(&first).unwrap();
    let expected = json!({
        "AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "s3cret", "Token": "t0ken",
        "Expiration": Timestamp::from_seconds(END).rfc3339(), "AccountId": "123456789012",
    });
    assert_eq!(keys, expected);
    assert_eq!(child.fetch("").await.1, first);
}

#[tokio::test]
async fn a_wrong_token_and_another_host_name_are_refused() {
    let child = Child::of(aws()).await;
    for wrong in ["", "x", "Bearer x"] {
        let (status, body) = child.get("", wrong).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert!(!body.contains("s3cret"), "{body}");
    }
    let token = std::fs::read_to_string(child.token_file()).unwrap();
    let rebound = child.http.get(child.url()).header("Authorization", token).header("Host", "evil.example");
    assert_eq!(rebound.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    let origin = child.url().rsplit_once('/').unwrap().0.to_owned();
    assert_eq!(child.http.get(origin).send().await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn after_the_end_and_at_the_deadline_the_answer_is_a_json_refusal() {
    let child = Child::of(aws()).await;
    child.clock.0.store(END, Ordering::Relaxed);
    let (status, body) = child.fetch("").await;
    assert_eq!(status, StatusCode::GONE);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["code"], "credential_ended");
    assert!(body["message"].as_str().unwrap().contains("deadline"));

    let child = Child::of(aws()).await;
    child.surface.endpoint().end("the work is over");
    let (status, body) = child.fetch("").await;
    assert_eq!((status, body.contains("the work is over")), (StatusCode::GONE, true));
}

#[tokio::test]
async fn the_files_are_their_owners_alone_without_line_feed_and_gone_at_the_end() {
    let child = Child::of(aws()).await;
    let file = child.token_file();
    let dir = file.parent().unwrap().to_owned();
    assert_eq!((mode(&dir), mode(&file)), (0o700, 0o600));
    assert!(!std::fs::read_to_string(&file).unwrap().contains('\n'));
    for empty in ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "BOTO_CONFIG"] {
        assert_eq!(std::fs::read(child.variable(empty).unwrap()).unwrap(), b"");
    }
    child.surface.close().await.unwrap();
    assert!(!dir.exists());
}

#[tokio::test]
async fn no_child_finds_an_aws_identity_of_the_machine_whatever_it_was_given() {
    for credential in [aws(), token()] {
        let child = Child::of(credential).await;
        for empty in ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "BOTO_CONFIG"] {
            assert_eq!(std::fs::read(child.variable(empty).unwrap()).unwrap(), b"");
        }
        assert_eq!(child.variable("AWS_EC2_METADATA_DISABLED").unwrap(), "true");
    }
}

#[tokio::test]
async fn the_childs_variables_hold_no_secret() {
    for credential in [aws(), token()] {
        let child = Child::of(credential).await;
        let secret = std::fs::read_to_string(child.token_file()).unwrap();
        for (name, value) in child.surface.variables() {
            let value = value.to_str().unwrap();
            assert!(!["s3cret", "t0ken", "at", "exec", secret.as_str()].contains(&value), "{name}");
        }
    }
    assert_eq!(Child::of(aws()).await.variable("AWS_ENDPOINT_URL_S3").unwrap(), "http://127.0.0.1:1");
}

#[tokio::test]
async fn a_token_comes_with_fresh_proofs_for_any_resource_but_never_for_the_broker() {
    let child = Child::of(token()).await;
    let (status, body) = child.fetch("").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["access_token"], "at");

    let wanted = "?method=POST&url=https%3A%2F%2Fresource.example%2Frestart%3Fx%3D1";
    let (_, body) = child.fetch(&format!("/proof{wanted}")).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["authorization"], "DPoP at");
    let proof = Unverified::parse(body["dpop"].as_str().unwrap(), DPOP_TYP, KeyHeader::Jwk).unwrap();
    let claims = proof.verify::<ProofClaims>(child.key.signing_key().public()).unwrap().claims;
    assert_eq!((claims.htm.as_str(), claims.htu.as_str()), ("POST", "https://resource.example/restart"));
    assert_eq!(claims.ath, Some(Digest::of(b"at")));

    let (_, lines) = child.fetch(&format!("/headers{wanted}")).await;
    assert!(lines.starts_with("Authorization: DPoP at\nDPoP: ey"), "{lines}");

    for own in ["https%3A%2F%2Fbroker.example%2Fv1%2Fleases", "https%3A%2F%2Fbroker.example"] {
        let (status, _) = child.fetch(&format!("/proof?method=POST&url={own}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{own}");
    }
}

#[test]
fn an_endpoint_names_a_service_and_a_url() {
    assert!("ecs=https://x".parse::<AwsEndpoint>().is_ok());
    for bad in ["ecs", "=https://x", "a/b=https://x", "ecs=ftp://x"] {
        assert!(bad.parse::<AwsEndpoint>().is_err(), "{bad}");
    }
}
