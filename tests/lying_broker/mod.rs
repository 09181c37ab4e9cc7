//! A broker as an approver's client sees it, which tells exactly one lie.
#![allow(dead_code, reason = "each integration test compiles this module and uses its own part of it")]

use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use phasebroker::broker::ports::Clock as _;
use phasebroker::cli::clock::SystemClock;
use phasebroker::domain::approval::{APPROVAL_TYP, ApprovalClaims};
use phasebroker::domain::canonical;
use phasebroker::domain::digest::{Digest, encode};
use phasebroker::domain::directory::{Agent, Directory, DirectoryDocument, EnrolledKey, Group, Person};
use phasebroker::domain::grant::SealedGrant;
use phasebroker::domain::id::{DecisionId, GrantId, LeaseId, RunId};
use phasebroker::domain::jws::{KeyHeader, Unverified};
use phasebroker::domain::key::{Custody, PublicKey, SigningKey};
use phasebroker::domain::principal::Role;
use phasebroker::domain::proposal::{Evidence, Story};
use phasebroker::domain::time::Timestamp;
use serde_json::{Value, json};

/// The one lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    None,
    Digest,
    ShortCode,
    Bytes,
    NotCanonicalBytes,
    OtherGrant,
    OtherGrantUnderThisId,
    OtherIssuer,
    Story,
    NoStory,
    NoSalt,
    NotListed,
    SwapAfterShown,
    AnswersAboutAnother,
}

struct Stage {
    lie: Lie,
    issuer: String,
    true_bytes: Vec<u8>,
    other_bytes: Vec<u8>,
    documents_given: Mutex<u32>,
    tokens: Mutex<Vec<String>>,
}

/// A running double.
pub struct LyingBroker(Arc<Stage>);

fn evidence() -> Evidence {
    let text = |text: &str| text.to_owned();
    Evidence {
        salt: [7; 16],
        story: Story { diagnosis: text("web is slow"), evidence: text("p99"), reason: text("scale it") },
    }
}

/// Canonical bytes of a grant of `issuer` that `ana` may sign.
pub fn grant(issuer: &str, now: Timestamp) -> Vec<u8> {
    let digest = Digest::of(b"x");
    canonical::to_bytes(&json!({
        "version": 1, "type": "credential", "id": GrantId::generate(now), "epoch": 1,
        "issuer": issuer, "environment": "demo",
        "who": {"run": RunId::generate(now), "proposing_agent": "bot", "claiming_agent": "bot",
            "claim_key": digest, "requester": "rita", "asked_in_person": false, "attestation": "registered_key"},
        "action": {"type": "flip-flag", "service": "flags", "summary": "Flip the flag", "parameters": {"flag": "a"}, "unenforced": [],
            "class": "availability", "reversible": true, "changes": 1, "exceptions": [], "preconditions": []},
        "credential": {"provider": "jwt", "audience": "https://flags.example", "authorization_details": [],
            "work_seconds": 60, "revocability": "immediate"},
        "decision": {"id": DecisionId::generate(now), "tier": "needs_approval",
            "rule": {"groups": {"sre": 1}, "custody": ["file", "ssh_agent"]}, "reasons": ["demo"],
            "policy": digest, "catalog": digest, "directory": digest, "guardrails": digest},
        "evidence": evidence().digest(),
        "time": {"lease": LeaseId::generate(now), "sealed_at": now, "approve_by": now.plus(900),
            "claim_seconds": 300, "claim_by": now.plus(1200), "work_seconds": 60, "nonce": "AAAAAAAAAAAAAAAAAAAAAA"}
    }))
    .unwrap()
}

/// A directory in which `ana` of group `sre` enrolled `key`.
pub fn directory_with(key: &PublicKey, custody: Custody) -> Directory {
    let person = |roles: &[Role], keys| Person {
        name: "A person".into(),
        roles: roles.iter().copied().collect(),
        keys,
    };
    let ana = person(&[Role::Approver], vec![EnrolledKey { jwk: key.clone(), custody }]);
    let agent = Agent {
        owner: "rita".parse().unwrap(),
        groups: [].into(),
        keys: vec![SigningKey::generate().unwrap().public().clone()],
        workloads: [].into(),
    };
    Directory::check(DirectoryDocument {
        people: [("ana".parse().unwrap(), ana), ("rita".parse().unwrap(), person(&[], vec![]))].into(),
        groups: [(
            "sre".parse().unwrap(),
            Group { people: ["ana".parse().unwrap()].into(), groups: [].into() },
        )]
        .into(),
        agents: [("bot".parse().unwrap(), agent)].into(),
    })
    .unwrap()
}

impl LyingBroker {
    /// Starts one.
    pub async fn start(lie: Lie) -> LyingBroker {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let now = SystemClock.wall();
        let true_bytes = grant(&issuer, now);
        let other_bytes = match lie {
            Lie::OtherIssuer => with(&true_bytes, |grant| grant["issuer"] = json!("https://other.example")),
            Lie::OtherGrant | Lie::OtherGrantUnderThisId => grant(&issuer, now),
            _ => with(&true_bytes, |grant| grant["action"]["parameters"]["flag"] = json!("b")),
        };
        let (documents_given, tokens) = (Mutex::new(0), Mutex::new(Vec::new()));
        let stage = Arc::new(Stage { lie, issuer, true_bytes, other_bytes, documents_given, tokens });
        let router = Router::new()
            .route("/.well-known/oauth-authorization-server", get(metadata))
            .route("/v1/approvals", get(list))
            .route("/v1/grants/{grant}/document", get(document))
            .route("/v1/grants/{grant}/approvals", post(receive))
            .with_state(stage.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        LyingBroker(stage)
    }

    /// Where it listens; also its issuer.
    pub fn url(&self) -> String {
        self.0.issuer.clone()
    }

    /// The grant it has.
    pub fn sealed(&self) -> SealedGrant {
        SealedGrant::parse(&self.0.true_bytes).unwrap()
    }

    /// Its id.
    pub fn grant(&self) -> GrantId {
        self.sealed().grant().id
    }

    /// Every approval token that was posted.
    pub fn tokens(&self) -> Vec<String> {
        self.0.tokens.lock().unwrap().clone()
    }
}

fn with(bytes: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(bytes).unwrap();
    change(&mut value);
    canonical::to_bytes(&value).unwrap()
}

/// Whether the caller sent an assertion for exactly this request (whose signature only the real broker can check).
fn is_person(stage: &Stage, headers: &HeaderMap, path: &str) -> bool {
    let token = headers.get("authorization").and_then(|v| v.to_str().ok()?.strip_prefix("Bearer "));
    let parsed = token.and_then(|token| Unverified::parse(token, "person+jwt", KeyHeader::Kid).ok());
    let Some(claims) = parsed.and_then(|token| token.peek::<Value>().ok()) else { return false };
    let now = SystemClock.wall().seconds();
    let (iat, exp) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    claims["iss"] == "ana"
        && claims["aud"] == json!(stage.issuer)
        && claims["htm"] == "GET"
        && claims["htu"] == json!(format!("{}{path}", stage.issuer))
        && (now - iat).abs() < 30
        && exp <= iat + 60
        && claims["jti"].as_str().is_some_and(|id| id.len() == 26)
}

async fn metadata(State(stage): State<Arc<Stage>>) -> Json<Value> {
    Json(json!({ "issuer": stage.issuer }))
}

async fn list(State(stage): State<Arc<Stage>>, headers: HeaderMap) -> Result<Json<Value>, StatusCode> {
    if !is_person(&stage, &headers, "/v1/approvals") {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let sealed = SealedGrant::parse(&stage.true_bytes).unwrap();
    let mut row = json!({
        "grant": sealed.grant().id, "kind": "credential", "digest": sealed.digest(), "short_code": sealed.digest().short_code(),
        "action": "flip-flag", "summary": "Flip the flag", "environment": "demo", "class": "availability",
        "agent": "bot", "requester": "rita", "state": "pending", "sealed_at": 0,
        "approve_by": sealed.grant().time.approve_by, "rule_text": "1 of sre", "outstanding": {"sre": 1},
        "you_may_sign": true
    });
    match stage.lie {
        Lie::Digest => row["digest"] = json!(Digest::of(b"other")),
        Lie::ShortCode => row["short_code"] = json!("AAAA-AAAA"),
        Lie::NotListed => return Ok(Json(json!({ "approvals": [] }))),
        _ => {}
    }
    Ok(Json(json!({ "approvals": [row] })))
}

async fn document(
    State(stage): State<Arc<Stage>>,
    Path(asked): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, StatusCode> {
    if !is_person(&stage, &headers, &format!("/v1/grants/{asked}/document")) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let mut given = stage.documents_given.lock().unwrap();
    *given += 1;
    let swapped = match stage.lie {
        Lie::Bytes | Lie::OtherGrant | Lie::OtherGrantUnderThisId | Lie::OtherIssuer => true,
        Lie::SwapAfterShown => *given > 1,
        _ => false,
    };
    let mut bytes = if swapped { stage.other_bytes.clone() } else { stage.true_bytes.clone() };
    if stage.lie == Lie::NotCanonicalBytes {
        bytes.insert(1, b' ');
    }
    let Evidence { salt, story } = evidence();
    let mut answer = json!({
        "grant": asked, "document": encode(&bytes), "state": "pending", "approvals": [], "outstanding": {"sre": 1},
        "story": story, "evidence_salt": encode(&salt)
    });
    match stage.lie {
        Lie::OtherGrant => answer["grant"] = json!(SealedGrant::parse(&bytes).unwrap().grant().id),
        Lie::Story => answer["story"]["reason"] = json!("a harmless reason"),
        Lie::NoStory => answer["story"] = Value::Null,
        Lie::NoSalt => answer["evidence_salt"] = Value::Null,
        _ => {}
    }
    Ok(Json(answer))
}

async fn receive(
    State(stage): State<Arc<Stage>>,
    Path(asked): Path<String>,
    Json(body): Json<Value>,
) -> Json<Value> {
    let token = body["token"].as_str().unwrap();
    let claims =
        Unverified::parse(token, APPROVAL_TYP, KeyHeader::Kid).unwrap().peek::<ApprovalClaims>().unwrap();
    assert_eq!(claims.reason, body["reason"].as_str().map(|reason| Digest::of(reason.as_bytes())));
    stage.tokens.lock().unwrap().push(token.to_owned());
    let about = match stage.lie {
        Lie::AnswersAboutAnother => GrantId::generate(SystemClock.wall()).to_string(),
        _ => asked,
    };
    Json(
        json!({"grant": about, "state": "pending", "decision": claims.decision, "outstanding": {}, "claim_until": 60}),
    )
}
