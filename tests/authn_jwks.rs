//! Issuer keys by URL, against a real server on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use jsonwebtoken::Algorithm;
use phasebroker::authn::AuthnError;
use phasebroker::authn::jwks::{Issuer, IssuerSettings, JwksError, KeySet, KeySource, MAX_JWKS_BYTES};
use phasebroker::domain::key::SigningKey;
use phasebroker::domain::time::Timestamp;
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

#[derive(Clone)]
enum Answer {
    Keys(String),
    Fails,
    Redirects(String),
}

struct Publisher {
    url: String,
    asked: Arc<AtomicUsize>,
    answer: Arc<Mutex<Answer>>,
}

impl Publisher {
    async fn start(answer: Answer) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let answer = Arc::new(Mutex::new(answer));
        let (count, says) = (Arc::clone(&asked), Arc::clone(&answer));
        let app = axum::Router::new().fallback(move || {
            count.fetch_add(1, Ordering::SeqCst);
            let answer = says.lock().unwrap().clone();
            async move {
                tokio::time::sleep(Duration::from_millis(30)).await;
                match answer {
                    Answer::Keys(text) => text.into_response(),
                    Answer::Fails => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
                    Answer::Redirects(to) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
                }
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, asked, answer }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn says(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }
}

fn settings(url: &str) -> IssuerSettings {
    IssuerSettings {
        issuer: "https://issuer.test".into(),
        audience: "https://broker.test".into(),
        algorithms: vec![Algorithm::EdDSA],
        keys: KeySource::Url(url.into()),
        longest_life_seconds: 3600,
        ttl_seconds: 60,
        max_age_seconds: 600,
    }
}

fn issuer(url: &str) -> Issuer {
    Issuer::new(settings(url), true).unwrap()
}

fn key(kid: &str) -> Value {
    let mut jwk = serde_json::to_value(SigningKey::generate().unwrap().public().jwk()).unwrap();
    jwk["kid"] = kid.into();
    jwk
}

fn keys(names: &[&str]) -> Answer {
    Answer::Keys(json!({"keys": names.iter().map(|kid| key(kid)).collect::<Vec<_>>()}).to_string())
}

async fn outcome(issuer: &Issuer, kid: &str, now: Timestamp) -> &'static str {
    match issuer.key(kid, Algorithm::EdDSA, now).await {
        Ok(_) => "key",
        Err(AuthnError::Unauthenticated { .. }) => "refused",
        Err(AuthnError::Unavailable { .. }) => "unavailable",
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn an_unknown_key_is_looked_for_at_most_every_ten_seconds() {
    let publisher = Publisher::start(keys(&["k1"])).await;
    let issuer = issuer(&publisher.url);
    assert_eq!(outcome(&issuer, "k1", NOW).await, "key");
    for _ in 0..20 {
        assert_eq!(outcome(&issuer, "k2", NOW.plus(9)).await, "refused");
    }
    assert_eq!(publisher.asked(), 1);
    publisher.says(keys(&["k2"]));
    assert_eq!(outcome(&issuer, "k2", NOW.plus(10)).await, "key");
    assert_eq!(outcome(&issuer, "k1", NOW.plus(11)).await, "refused");
    assert_eq!(publisher.asked(), 2);
}

#[tokio::test]
async fn many_who_wait_for_keys_fetch_them_once() {
    let publisher = Publisher::start(keys(&["k1"])).await;
    let issuer = issuer(&publisher.url);
    let all = futures_util::future::join_all((0..50).map(|_| outcome(&issuer, "k1", NOW))).await;
    assert!(all.iter().all(|one| *one == "key"), "{all:?}");
    assert_eq!(publisher.asked(), 1);
}

#[tokio::test]
async fn keys_that_cannot_be_read_are_unavailable_and_never_an_answer() {
    let publisher = Publisher::start(Answer::Fails).await;
    let issuer = issuer(&publisher.url);
    assert_eq!(outcome(&issuer, "k1", NOW).await, "unavailable");
    assert_eq!(outcome(&issuer, "k1", NOW.plus(1)).await, "unavailable");
    assert_eq!(publisher.asked(), 1);
    publisher.says(keys(&["k1"]));
    assert_eq!(outcome(&issuer, "k1", NOW.plus(10)).await, "key");
    let nobody = self::issuer("http://127.0.0.1:1/jwks");
    assert_eq!(outcome(&nobody, "k1", NOW).await, "unavailable");
}

#[tokio::test]
async fn stale_keys_serve_for_a_bounded_time_while_the_issuer_is_down() {
    let publisher = Publisher::start(keys(&["k1"])).await;
    let issuer = issuer(&publisher.url);
    assert_eq!(outcome(&issuer, "k1", NOW).await, "key");
    publisher.says(Answer::Fails);
    assert_eq!(outcome(&issuer, "k1", NOW.plus(60)).await, "key");
    assert_eq!(outcome(&issuer, "k2", NOW.plus(61)).await, "unavailable");
    assert_eq!(outcome(&issuer, "k1", NOW.plus(599)).await, "key");
    assert_eq!(outcome(&issuer, "k1", NOW.plus(600)).await, "unavailable");
}

#[tokio::test]
async fn a_key_that_the_issuer_dropped_is_gone_after_its_time_to_live() {
    let publisher = Publisher::start(keys(&["k1"])).await;
    let issuer = issuer(&publisher.url);
    assert_eq!(outcome(&issuer, "k1", NOW).await, "key");
    publisher.says(keys(&["k2"]));
    assert_eq!(outcome(&issuer, "k1", NOW.plus(59)).await, "key");
    assert_eq!(outcome(&issuer, "k1", NOW.plus(60)).await, "refused");
}

#[tokio::test]
async fn redirects_and_oversized_answers_are_not_followed_or_read() {
    let honest = Publisher::start(keys(&["k1"])).await;
    let redirecting = Publisher::start(Answer::Redirects(honest.url.clone())).await;
    assert_eq!(outcome(&issuer(&redirecting.url), "k1", NOW).await, "unavailable");
    assert_eq!(honest.asked(), 0);
    let padded = format!("{{\"keys\":[]}}{}", " ".repeat(MAX_JWKS_BYTES));
    let oversized = Publisher::start(Answer::Keys(padded)).await;
    assert_eq!(outcome(&issuer(&oversized.url), "k1", NOW).await, "unavailable");
}

#[test]
fn a_key_set_with_a_private_part_is_refused_whole() {
    let set = |extra: Value| KeySet::parse(json!({"keys": [key("k1"), extra]}).to_string().as_bytes());
    let mut private = key("k2");
    private["d"] = "AAAA".into();
    assert!(matches!(set(private), Err(JwksError::Refused(why)) if why.contains("private")));
    assert!(set(json!({"kty": "oct", "kid": "k2", "k": "AAAA"})).is_err());
    assert!(set(json!({"kty": "OKP", "crv": "Ed25519", "kid": "k2", "x": "AAAA"})).is_err());
    assert!(set(json!({"kty": "AKP", "kid": "k2"})).unwrap().names("k1"));
    let mut other_use = key("k2");
    other_use["use"] = "enc".into();
    assert!(!set(other_use).unwrap().names("k2"));
    assert!(KeySet::parse(br#"{"keys":[],"keys":[]}"#).is_err());
}

#[tokio::test]
async fn two_keys_of_one_name_are_ambiguous_and_refused() {
    let publisher = Publisher::start(keys(&["k1", "k1"])).await;
    assert_eq!(outcome(&issuer(&publisher.url), "k1", NOW).await, "refused");
}

#[test]
fn keys_come_over_https_or_from_loopback_in_a_dev_configuration() {
    let accepts = |url: &str, dev| Issuer::new(settings(url), dev).is_ok();
    assert!(accepts("https://issuer.test/jwks", false));
    assert!(accepts("http://127.0.0.1:9/jwks", true));
    assert!(accepts("http://[::1]:9/jwks", true));
    assert!(!accepts("http://127.0.0.1:9/jwks", false));
    assert!(!accepts("http://issuer.test/jwks", true));
    assert!(!accepts("http://127.0.0.1.issuer.test/jwks", true));
    assert!(!accepts("file:///etc/keys", true));
}

#[test]
fn an_issuer_with_a_shared_secret_or_no_algorithm_is_a_configuration_error() {
    for algorithms in [vec![], vec![Algorithm::HS256], vec![Algorithm::EdDSA, Algorithm::HS512]] {
        let wrong = IssuerSettings { algorithms, ..settings("https://issuer.test/jwks") };
        assert!(matches!(Issuer::new(wrong, false), Err(JwksError::Settings(_))));
    }
}
