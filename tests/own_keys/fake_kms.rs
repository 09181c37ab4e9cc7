//! KMS as far as a broker asks it: two keys, `token` (P-256) and `ledger` (Ed25519), and every way to misbehave. moto signs
//! with P-256 only, and never lies.

use std::sync::{Arc, Mutex};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use phasebroker::domain::key::SigningKey;
use serde_json::{Value, json};

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Honest,
    SignsWithAnotherKey,
    AnswersRubbish,
    Denies,
    Throttles,
    /// Shows no key either.
    Away,
    /// Never answers.
    Hangs,
}

/// The server.
pub struct FakeKms {
    inner: Arc<Inner>,
    url: String,
}

struct Inner {
    token: SigningKey,
    ledger: SigningKey,
    others: [SigningKey; 2],
    mood: Mutex<Mood>,
}

impl FakeKms {
    pub async fn start() -> Self {
        let (p256, ed25519) = (|| SigningKey::generate_p256().unwrap(), || SigningKey::generate().unwrap());
        let inner = Arc::new(Inner {
            token: p256(),
            ledger: ed25519(),
            others: [p256(), ed25519()],
            mood: Mutex::new(Mood::Honest),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().route("/", post(answer)).with_state(inner.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { inner, url }
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    pub fn is(&self, mood: Mood) {
        *self.inner.mood.lock().unwrap() = mood;
    }
}

type Answer = (StatusCode, [(&'static str, &'static str); 1], Json<Value>);

async fn answer(State(kms): State<Arc<Inner>>, headers: HeaderMap, body: String) -> Answer {
    let asked: Value = serde_json::from_str(&body).unwrap();
    let mood = *kms.mood.lock().unwrap();
    let (key, other) = match asked["KeyId"].as_str().unwrap() {
        "token" => (&kms.token, &kms.others[0]),
        "ledger" => (&kms.ledger, &kms.others[1]),
        _ => return fails("NotFoundException"),
    };
    match headers["x-amz-target"].to_str().unwrap() {
        _ if mood == Mood::Away => fails("AccessDeniedException"),
        _ if mood == Mood::Hangs => std::future::pending().await,
        "TrentService.GetPublicKey" => says(json!({
            "KeyId": asked["KeyId"], "KeyUsage": "SIGN_VERIFY", "PublicKey": STANDARD.encode(info(key)),
        })),
        "TrentService.Sign" => {
            assert_eq!(asked["MessageType"], "RAW");
            let algorithm = if asked["KeyId"] == "token" { "ECDSA_SHA_256" } else { "ED25519_SHA_512" };
            assert_eq!(asked["SigningAlgorithm"], algorithm);
            let message = STANDARD.decode(asked["Message"].as_str().unwrap()).unwrap();
            let signature = match mood {
                Mood::Honest => key.sign(&message).unwrap(),
                Mood::SignsWithAnotherKey => other.sign(&message).unwrap(),
                Mood::AnswersRubbish => return says(json!({"Signature": STANDARD.encode("rubbish")})),
                Mood::Denies => return fails("AccessDeniedException"),
                Mood::Throttles => return fails("ThrottlingException"),
                Mood::Away | Mood::Hangs => panic!("answered above"),
            };
            let signature = if asked["KeyId"] == "token" { der(&signature) } else { signature };
            says(json!({"Signature": STANDARD.encode(signature), "SigningAlgorithm": algorithm}))
        }
        other => panic!("{other}"),
    }
}

fn says(body: Value) -> Answer {
    (StatusCode::OK, [("content-type", "application/x-amz-json-1.1")], Json(body))
}

fn fails(code: &str) -> Answer {
    let body = json!({"__type": code, "message": "not today"});
    (StatusCode::BAD_REQUEST, [("content-type", "application/x-amz-json-1.1")], Json(body))
}

fn info(key: &SigningKey) -> Vec<u8> {
    let head = match key.public().raw().len() {
        32 => "302a300506032b6570032100",
        _ => "3059301306072a8648ce3d020106082a8648ce3d030107034200",
    };
    let byte = |at: usize| u8::from_str_radix(&head[2 * at..2 * at + 2], 16).unwrap();
    (0..head.len() / 2).map(byte).chain(key.public().raw().iter().copied()).collect()
}

fn der(fixed: &[u8]) -> Vec<u8> {
    let integer = |half: &[u8]| {
        let digits: Vec<u8> = half.iter().copied().skip_while(|byte| *byte == 0).collect();
        let sign = if digits[0] >= 0x80 { vec![0] } else { vec![] };
        let number = [sign, digits].concat();
        [vec![0x02, number.len() as u8], number].concat()
    };
    let body = [integer(&fixed[..32]), integer(&fixed[32..])].concat();
    [vec![0x30, body.len() as u8], body].concat()
}
