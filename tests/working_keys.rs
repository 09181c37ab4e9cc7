//! The keys that sign tokens, over days that a test lets pass: each is vouched for and published before it signs, and no
//! resource server that keeps the published keys as long as it may ever refuses a token.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use broker::{Setup, TestBroker, fresh};
use phasebroker::broker::ports::{OwnKey, SignError, Signer};
use phasebroker::broker::working_keys::WorkingKeys;
use phasebroker::domain::id::{LeaseId, RunId};
use phasebroker::domain::jws::{KeyHeader, Unverified};
use phasebroker::domain::key::{Jwk, PublicKey, SigningKey};
use phasebroker::domain::key_certificate::KeyCertificate;
use phasebroker::domain::key_ring::{JWKS_MAX_AGE_SECONDS, KEPT_SECONDS};
use phasebroker::domain::phase::Phase;
use phasebroker::domain::time::Timestamp;
use phasebroker::domain::token::{ACCESS_TOKEN_TYP, Confirmation, TokenClaims};
use serde_json::{Value, json};

/// Life of a working key, seconds.
const LIFE: u32 = 3_600;
/// Life of a token: the longest there is.
const TOKEN: i64 = 900;

async fn broker() -> TestBroker {
    TestBroker::with(Setup { vouches: true, ..Setup::default() }).await
}

async fn keys(b: &TestBroker) -> WorkingKeys {
    WorkingKeys::start(b.broker.clone(), b.keys.copy("token").into(), LIFE).await.unwrap()
}

async fn jwks(b: &TestBroker) -> Vec<Value> {
    let answer = b.call("GET", "/jwks.json", &[], None).await.good();
    answer["keys"].as_array().unwrap().clone()
}

fn signed(b: &TestBroker) -> Option<String> {
    let now = b.clock.wall();
    let claims = TokenClaims {
        iss: b.issuer.clone(),
        aud: "https://api.test".into(),
        sub: "alice".into(),
        client_id: "fixer".parse().unwrap(),
        act: TokenClaims::actor(&"fixer".parse().unwrap(), Phase::Decide),
        scope: Phase::Decide.scope().into(),
        txn: RunId::generate(now),
        jti: LeaseId::generate(now),
        cnf: Confirmation { jkt: fresh().public().thumbprint() },
        iat: now,
        nbf: now,
        exp: now.plus(TOKEN),
        authorization_details: vec![],
    };
    b.broker.signer().sign(&claims).ok().map(|token| token.expose().to_owned())
}

/// As a resource server does that knows nothing of certificates.
fn believes(keys: &[Value], token: &str) -> bool {
    let unverified = Unverified::parse(token, ACCESS_TOKEN_TYP, KeyHeader::Kid).unwrap();
    let kid = unverified.kid().unwrap().to_string();
    keys.iter().filter(|jwk| jwk["kid"] == kid.as_str()).any(|jwk| {
        let member = |name: &str| jwk.get(name).and_then(Value::as_str).map(str::to_owned);
        let (kty, crv) = (member("kty").unwrap(), member("crv").unwrap());
        let public = Jwk { kty, crv, x: member("x").unwrap(), y: member("y") };
        unverified.verify::<TokenClaims>(&PublicKey::try_from(public).unwrap()).is_ok()
    })
}

#[tokio::test]
async fn no_token_is_ever_refused_while_keys_follow_one_another() {
    let b = broker().await;
    let keys = keys(&b).await;
    let (mut kids, mut alive) = (std::collections::BTreeSet::new(), Vec::<(Timestamp, String)>::new());
    // Two resource servers, each of which reads the keys as seldom as it may, half a span apart.
    let mut caches = [(b.clock.wall(), jwks(&b).await), (b.clock.wall(), jwks(&b).await)];
    caches[1].0 = caches[1].0.plus(-JWKS_MAX_AGE_SECONDS / 2);
    for _ in 0..(4 * LIFE / 50) {
        b.clock.pass(50);
        keys.turn().await;
        let now = b.clock.wall();
        for (read, cache) in &mut caches {
            if now.since(*read) >= JWKS_MAX_AGE_SECONDS {
                (*read, *cache) = (now, jwks(&b).await);
            }
        }
        let token = signed(&b).unwrap();
        let kid = Unverified::parse(&token, ACCESS_TOKEN_TYP, KeyHeader::Kid).unwrap().kid().unwrap();
        kids.insert(kid.to_string());
        alive.push((now, token));
        alive.retain(|(at, _)| now.since(*at) < TOKEN);
        for (at, token) in &alive {
            assert!(
                caches.iter().all(|(_, cache)| believes(cache, token)),
                "signed at {at}, refused at {now}"
            );
            b.broker.signer().verify(token, now).unwrap();
        }
    }
    assert!(kids.len() >= 4, "keys followed one another: {}", kids.len());
    assert!(jwks(&b).await.len() <= 4, "old keys go");
}

#[tokio::test]
async fn every_published_key_is_vouched_for_and_the_ledger_has_the_certificate() {
    let b = broker().await;
    let mark = b.mark().await;
    let _keys = keys(&b).await;
    let own = b.keys.of("token").public().clone();
    let published = jwks(&b).await;
    assert_eq!(published.len(), 1, "the key that vouches signs no token: {published:?}");
    let certificate = published[0]["certificate"].as_str().unwrap();
    let claims = KeyCertificate::open(certificate, &own, &b.issuer).unwrap();
    assert_eq!(claims.sub.to_string(), published[0]["kid"].as_str().unwrap());
    assert_eq!((claims.epoch, claims.exp), (1, claims.nbf.plus(i64::from(LIFE))));
    assert!(claims.covers(b.clock.wall()));
    let events = b.events_since(mark).await;
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["key.changed", "key.changed", "key.certified"]);
    assert_eq!(events[2]["facts"]["certificate"], certificate);
    let stranger = fresh();
    assert!(KeyCertificate::open(certificate, stranger.public(), &b.issuer).is_err());
}

#[tokio::test]
async fn an_old_key_is_refused_after_its_time_and_goes() {
    let b = broker().await;
    let keys = keys(&b).await;
    let token = signed(&b).unwrap();
    let first = jwks(&b).await[0]["kid"].clone();
    b.clock.pass(TOKEN);
    assert!(b.broker.signer().verify(&token, b.clock.wall()).is_err(), "the token itself has ended");
    for _ in 0..=((i64::from(LIFE) + KEPT_SECONDS) / 600) {
        b.clock.pass(600);
        keys.turn().await;
    }
    assert!(jwks(&b).await.iter().all(|jwk| jwk["kid"] != first));
    assert!(!believes(&jwks(&b).await, &token));
}

#[tokio::test]
async fn tokens_of_a_former_life_verify_and_its_keys_sign_nothing_more() {
    let b = broker().await;
    let former = keys(&b).await;
    let token = signed(&b).unwrap();
    drop(former);
    let b = b.restart().await;
    assert!(b.broker.signer().verify(&token, b.clock.wall()).is_err(), "nothing is known yet");
    let mark = b.mark().await;
    let _keys = keys(&b).await;
    b.broker.signer().verify(&token, b.clock.wall()).unwrap();
    assert!(believes(&jwks(&b).await, &token));
    assert_eq!(b.kinds_since(mark).await, ["key.certified"], "its own keys are the same as before");
    let kid = |token: &str| Unverified::parse(token, ACCESS_TOKEN_TYP, KeyHeader::Kid).unwrap().kid();
    assert_ne!(kid(&signed(&b).unwrap()), kid(&token));
}

#[tokio::test]
async fn another_own_key_is_recorded_and_vouches_from_then_on() {
    let b = broker().await;
    let former = keys(&b).await;
    let token = signed(&b).unwrap();
    drop(former);
    let b = b.restart().await;
    let mark = b.mark().await;
    let other = SigningKey::generate_p256().unwrap();
    let (public, old) = (other.public().clone(), b.keys.of("token").public().thumbprint());
    let _keys = WorkingKeys::start(b.broker.clone(), other.into(), LIFE).await.unwrap();
    let events = b.events_since(mark).await;
    assert_eq!(events[0]["type"], "key.changed");
    assert_eq!(events[0]["facts"]["key"], public.thumbprint().to_string());
    assert_eq!(events[0]["facts"]["old_key"], old.to_string());
    let newest = signed(&b).unwrap();
    let published = jwks(&b).await;
    assert!(believes(&published, &newest) && believes(&published, &token), "nothing is refused meanwhile");
    let kid = Unverified::parse(&newest, ACCESS_TOKEN_TYP, KeyHeader::Kid).unwrap().kid().unwrap();
    let jwk = published.iter().find(|jwk| jwk["kid"] == kid.to_string().as_str()).unwrap();
    assert_eq!(jwk["alg"], "ES256", "as the key that vouches");
    KeyCertificate::open(jwk["certificate"].as_str().unwrap(), &public, &b.issuer).unwrap();
}

/// A device that can be taken away.
struct Device(SigningKey, Arc<AtomicBool>);

#[async_trait]
impl Signer for Device {
    fn public(&self) -> &PublicKey {
        self.0.public()
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        match self.1.load(Ordering::SeqCst) {
            true => Err(SignError("nobody is there".into())),
            false => Signer::sign(&self.0, message).await,
        }
    }
}

#[tokio::test]
async fn a_device_may_be_away_for_a_while_and_without_a_key_nothing_is_issued_but_stopping_works() {
    let b = broker().await;
    let away = Arc::new(AtomicBool::new(false));
    let own = OwnKey::new(Arc::new(Device(b.keys.copy("token"), away.clone())));
    let keys = WorkingKeys::start(b.broker.clone(), own, LIFE).await.unwrap();
    away.store(true, Ordering::SeqCst);
    b.clock.pass(i64::from(LIFE) - 1);
    keys.turn().await;
    assert!(b.broker.gate().may_issue().is_ok() && signed(&b).is_some(), "the key lives to its end");
    b.clock.pass(1);
    keys.turn().await;
    let refused = b.broker.gate().may_issue().unwrap_err();
    assert_eq!(refused.code.name(), "no_signing_key");
    assert!(
        !refused.to_string().contains("nobody is there"),
        "the device's words are for the log: {refused}"
    );
    assert!(signed(&b).is_none());
    let all = json!({"everything": true, "reason": "done"});
    b.by_person("olga", "POST", "/v1/stop", Some(&all)).await.good();
    away.store(false, Ordering::SeqCst);
    keys.turn().await;
    assert!(b.broker.gate().may_issue().is_ok() && signed(&b).is_some());
}

#[tokio::test]
async fn a_key_that_the_store_did_not_take_signs_nothing() {
    let b = broker().await;
    let keys = keys(&b).await;
    let first = jwks(&b).await.len();
    b.disk.fill();
    b.clock.pass(i64::from(LIFE) - 10);
    keys.turn().await;
    assert_eq!(jwks(&b).await.len(), first, "nobody sees a key that a later life would not know");
    b.clock.pass(10);
    keys.turn().await;
    assert!(signed(&b).is_none());
    b.disk.mend();
    keys.turn().await;
    assert!(signed(&b).is_some());
}
