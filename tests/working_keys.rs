//! The keys that sign tokens, over days that a test lets pass: each is vouched for and published before it signs, and no
//! resource server that keeps the published keys as long as it may ever refuses a token.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;
mod receiver;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use broker::{Setup, TestBroker, fresh};
use phasebroker::broker::exporting::Export;
use phasebroker::broker::gate::BrokerClock;
use phasebroker::broker::ports::{KeySource, OwnKey, SignError, Signer};
use phasebroker::broker::working_keys::WorkingKeys;
use phasebroker::domain::digest::encode;
use phasebroker::domain::grant::GrantState;
use phasebroker::domain::id::{LeaseId, RunId};
use phasebroker::domain::jws::{KeyHeader, Unverified};
use phasebroker::domain::key::{Jwk, PublicKey, SigningKey};
use phasebroker::domain::key_certificate::{KeyCertificate, KeyUse};
use phasebroker::domain::key_ring::{JWKS_MAX_AGE_SECONDS, KEPT_SECONDS};
use phasebroker::domain::phase::Phase;
use phasebroker::domain::time::Timestamp;
use phasebroker::domain::token::{ACCESS_TOKEN_TYP, Confirmation, TokenClaims};
use phasebroker::exports::Post;
use phasebroker::exports::caep::CaepPush;
use receiver::{Receiver, until};
use serde_json::{Value, json};
use tokio::sync::watch;

/// Life of a working key, seconds.
const LIFE: u32 = 3_600;
/// Life of a token: the longest there is.
const TOKEN: i64 = 900;

async fn broker() -> TestBroker {
    TestBroker::with(Setup { vouches: true, ..Setup::default() }).await
}

async fn keys(b: &TestBroker) -> WorkingKeys {
    keys_of(b, b.keys.copy("token"), vec![]).await
}

/// Working keys that `own` vouches for, after their first turn.
async fn keys_of(b: &TestBroker, own: impl Into<OwnKey>, former: Vec<PublicKey>) -> WorkingKeys {
    let keys = WorkingKeys::new(b.broker.clone(), Arc::new(own.into()), former, LIFE);
    keys.turn().await;
    keys
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
    assert_eq!(kinds, ["key.changed", "key.certified"]);
    assert_eq!(events[1]["facts"]["certificate"], certificate);
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
    let (public, old) = (other.public().clone(), b.keys.of("token").public().clone());
    let _keys = keys_of(&b, other, vec![old.clone()]).await;
    let events = b.events_since(mark).await;
    assert_eq!(events[0]["type"], "key.changed");
    assert_eq!(events[0]["facts"]["key"], public.thumbprint().to_string());
    assert_eq!(events[0]["facts"]["old_key"], old.thumbprint().to_string());
    let newest = signed(&b).unwrap();
    let published = jwks(&b).await;
    assert!(believes(&published, &newest) && believes(&published, &token), "nothing is refused meanwhile");
    let kid = Unverified::parse(&newest, ACCESS_TOKEN_TYP, KeyHeader::Kid).unwrap().kid().unwrap();
    let jwk = published.iter().find(|jwk| jwk["kid"] == kid.to_string().as_str()).unwrap();
    assert_eq!(jwk["alg"], "ES256", "as the key that vouches");
    KeyCertificate::open(jwk["certificate"].as_str().unwrap(), &public, &b.issuer).unwrap();
}

#[tokio::test]
async fn what_a_former_token_key_vouched_for_verifies_only_while_the_configuration_names_that_key() {
    let b = broker().await;
    drop(keys(&b).await);
    let token = signed(&b).unwrap();
    let b = b.restart().await;
    drop(keys_of(&b, fresh(), vec![fresh().public().clone()]).await);
    assert!(!believes(&jwks(&b).await, &token));
    assert!(b.signer.verify(&token, b.clock.wall()).is_err());
    let b = b.restart().await;
    let _keys = keys_of(&b, fresh(), vec![b.keys.of("token").public().clone()]).await;
    assert!(believes(&jwks(&b).await, &token));
    b.signer.verify(&token, b.clock.wall()).unwrap();
}

/// A row of `own_keys`, as somebody writes it who can write the file.
struct Row {
    key: PublicKey,
    jwk: String,
    times: (Timestamp, Timestamp),
    certificate: String,
}

impl Row {
    /// Vouched for by `by`.
    fn by(by: &SigningKey, working: &SigningKey, issuer: &str, now: Timestamp) -> Self {
        let claims = KeyCertificate {
            iss: issuer.into(),
            sub: working.public().thumbprint(),
            jwk: working.public().clone(),
            usage: KeyUse::Token,
            epoch: 1,
            iat: now,
            nbf: now,
            exp: now.plus(i64::from(LIFE)),
        };
        let input = claims.signing_input(by.public()).unwrap();
        Self {
            key: working.public().clone(),
            jwk: serde_json::to_string(&working.public().jwk()).unwrap(),
            times: (claims.nbf, claims.exp),
            certificate: format!("{input}.{}", encode(&by.sign(input.as_bytes()).unwrap())),
        }
    }
}

fn write(folder: &std::path::Path, rows: &[Row]) {
    let store = rusqlite::Connection::open(folder.join("store.sqlite")).unwrap();
    for row in rows {
        let sql = "INSERT INTO own_keys (purpose, thumbprint, jwk, begins, ends, certificate) VALUES ('working', ?1, ?2, ?3, ?4, ?5)";
        let (begins, ends) = (row.times.0.seconds(), row.times.1.seconds());
        let id = row.key.thumbprint().to_string();
        store.execute(sql, rusqlite::params![id, row.jwk, begins, ends, row.certificate]).unwrap();
    }
}

#[tokio::test]
async fn whoever_writes_the_store_file_adds_no_key_and_keeps_no_broker_from_starting() {
    let b = broker().await;
    drop(keys(&b).await);
    let token = signed(&b).unwrap();
    let (own, now) = (b.keys.copy("token"), b.clock.wall());
    let issuer = b.issuer.clone();
    let row = |by: &SigningKey, issuer: &str| Row::by(by, &fresh(), issuer, now);
    let forged = [
        // By a key of its own; for another issuer; under the certificate of another key; for longer than was vouched for.
        Row::by(&fresh(), &fresh(), &issuer, now),
        row(&own, "https://elsewhere.test"),
        Row { jwk: serde_json::to_string(&fresh().public().jwk()).unwrap(), ..row(&own, &issuer) },
        Row { times: (now, now.plus(i64::from(LIFE) * 9)), ..row(&own, &issuer) },
        // Unreadable.
        Row { jwk: "no key".into(), ..row(&own, &issuer) },
        Row { certificate: "no certificate".into(), ..row(&own, &issuer) },
    ];
    let honest = row(&own, &issuer);
    let kid = honest.key.thumbprint().to_string();
    let b = b
        .restart_after(|folder| {
            write(folder, &forged);
            write(folder, &[honest]);
        })
        .await;
    let _keys = keys(&b).await;
    let published = jwks(&b).await;
    assert_eq!(
        published.len(),
        3,
        "the former life's, the one of now, and what the token key vouched for: {published:?}"
    );
    assert!(published.iter().any(|jwk| jwk["kid"] == kid.as_str()));
    assert!(believes(&published, &token) && b.broker.gate().may_issue().is_ok());
    let metrics = b.call("GET", "/metrics", &[], None).await.text;
    assert!(metrics.contains("phasebroker_distrusted_keys 6"), "{metrics}");
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
    let keys = keys_of(&b, own, vec![]).await;
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

#[tokio::test]
async fn nothing_is_opened_for_which_no_token_could_be_signed() {
    let b = broker().await;
    let keys = keys(&b).await;
    b.clock.pass(i64::from(LIFE) - 30);
    let approved = b.run_to_approved().await;
    // The key ends, and nobody has looked yet.
    b.clock.pass(30);
    assert!(b.broker.gate().may_issue().is_ok());
    let mark = b.mark().await;
    b.claim_with(&approved, &approved.tokens).await.refused(503, "no_signing_key", "sign a token");
    assert_eq!(b.kinds_since(mark).await, ["refused"], "nothing was opened, and nothing minted");
    assert_eq!(b.grant_state(approved.grant).await, GrantState::Approved);
    keys.turn().await;
    b.claim(&approved).await.map(drop).unwrap();
}

/// A place from which a device can be taken away.
struct Socket(Arc<Device>);

#[async_trait]
impl KeySource for Socket {
    async fn open(&self) -> Result<OwnKey, SignError> {
        match self.0.1.load(Ordering::SeqCst) {
            true => Err(SignError("nothing is plugged in".into())),
            false => Ok(OwnKey::new(self.0.clone())),
        }
    }
}

fn socket(key: SigningKey) -> (Arc<Socket>, Arc<AtomicBool>) {
    let away = Arc::new(AtomicBool::new(true));
    (Arc::new(Socket(Arc::new(Device(key, away.clone())))), away)
}

#[tokio::test]
async fn a_token_key_that_is_away_at_start_is_used_when_it_comes_and_tokens_of_before_verify_then() {
    let b = broker().await;
    drop(keys(&b).await);
    let token = signed(&b).unwrap();
    let b = b.restart().await;
    let (socket, away) = socket(b.keys.copy("token"));
    let keys = WorkingKeys::new(b.broker.clone(), socket, vec![], LIFE);
    keys.turn().await;
    assert_eq!(b.broker.gate().may_issue().unwrap_err().code.name(), "no_signing_key");
    assert!(b.signer.verify(&token, b.clock.wall()).is_err(), "nobody vouches for its key yet");
    let all = json!({"everything": true, "reason": "done"});
    b.by_person("olga", "POST", "/v1/stop", Some(&all)).await.good();
    away.store(false, Ordering::SeqCst);
    b.clock.pass(5);
    keys.turn().await;
    assert!(b.broker.gate().may_issue().is_ok() && signed(&b).is_some());
    b.signer.verify(&token, b.clock.wall()).unwrap();
}

#[tokio::test]
async fn another_token_key_that_is_away_at_its_first_start_vouches_when_it_comes() {
    let b = broker().await;
    drop(keys(&b).await);
    let b = b.restart().await;
    let other = fresh();
    let (public, (socket, away)) = (other.public().clone(), socket(other));
    let keys = WorkingKeys::new(b.broker.clone(), socket, vec![], LIFE);
    keys.turn().await;
    away.store(false, Ordering::SeqCst);
    b.clock.pass(5);
    keys.turn().await;
    let published = jwks(&b).await;
    let vouched =
        |jwk: &Value| KeyCertificate::open(jwk["certificate"].as_str().unwrap(), &public, &b.issuer).is_ok();
    assert!(signed(&b).is_some() && published.iter().any(vouched), "{published:?}");
}

#[tokio::test]
async fn a_session_that_was_revoked_without_a_key_is_told_when_there_is_one() {
    let b = broker().await;
    let away = Arc::new(AtomicBool::new(false));
    let keys = keys_of(&b, OwnKey::new(Arc::new(Device(b.keys.copy("token"), away.clone()))), vec![]).await;
    b.clock.pass(i64::from(LIFE) - 10);
    b.run_to_deciding("demo").await;
    away.store(true, Ordering::SeqCst);
    b.clock.pass(10);
    keys.turn().await;
    let all = json!({"everything": true, "reason": "done"});
    b.by_person("olga", "POST", "/v1/stop", Some(&all)).await.good();
    let receiver = Receiver::start(202).await;
    let post = Post::new(receiver.url.clone(), None).unwrap();
    let clock = Arc::new(BrokerClock(b.broker.clone()));
    let push = CaepPush::new("push".into(), post, "https://rs.test".into(), b.signer.clone(), clock);
    let (stop, stopped) = watch::channel(false);
    let task =
        tokio::spawn(b.broker.clone().export(Export { sink: Arc::new(push), from_start: true }, stopped));
    let failed = "phasebroker_export_failures_total{sink=\"push\"}";
    until("a try in vain", async || {
        b.call("GET", "/metrics", &[], None).await.text.contains(failed).then_some(())
    })
    .await;
    assert!(receiver.posted().is_empty());
    away.store(false, Ordering::SeqCst);
    b.clock.pass(5);
    keys.turn().await;
    // Within what the gate allows, and before the key begins: the broker's own time counts.
    b.clock.step_wall(-3);
    let told = |event: &str| {
        let claims = receiver.taken().into_iter().map(|set| {
            let payload = set.split('.').nth(1).unwrap().to_owned();
            String::from_utf8(phasebroker::domain::digest::decode(&payload).unwrap()).unwrap()
        });
        claims.filter(|claims| claims.contains(event)).count()
    };
    until("the revocation", async || (told("session-revoked") >= 2).then_some(())).await;
    stop.send_replace(true);
    task.await.unwrap();
}

async fn with_log(log: Arc<dyn KeySource>) -> TestBroker {
    let b = TestBroker::with(Setup { log: Some(log), max_age_seconds: 60, ..Setup::default() }).await;
    b.broker.publish().await;
    b
}

#[tokio::test]
async fn a_log_key_that_signs_nothing_for_too_long_closes_the_gate_and_opens_it_again() {
    let lies = Arc::new(AtomicBool::new(false));
    let b = with_log(Arc::new(OwnKey::new(Arc::new(Device(fresh(), lies.clone()))))).await;
    let closed = |b: &TestBroker| b.broker.gate().may_issue().err().map(|refusal| refusal.code.name());
    assert_eq!(closed(&b), None);
    let signed = b.broker.ledger().newest().unwrap().size;
    lies.store(true, Ordering::SeqCst);
    b.clock.pass(1_000);
    b.broker.publish().await;
    assert_eq!(closed(&b), None, "nothing new is unsigned");
    b.run_to_deciding("demo").await;
    b.clock.pass(60);
    b.broker.publish().await;
    assert_eq!(closed(&b), None);
    b.clock.pass(1);
    b.broker.publish().await;
    assert_eq!(closed(&b), Some("log_unsigned"));
    assert_eq!(b.broker.ledger().newest().unwrap().size, signed);
    let metrics = b.call("GET", "/metrics", &[], None).await.text;
    assert!(metrics.contains("phasebroker_unsigned_age_seconds 61"), "{metrics}");
    let all = json!({"everything": true, "reason": "done"});
    b.by_person("olga", "POST", "/v1/stop", Some(&all)).await.good();
    let b = b.restart().await;
    b.broker.publish().await;
    assert_eq!(closed(&b), Some("log_unsigned"), "a restart gives nobody more patience");
    lies.store(false, Ordering::SeqCst);
    b.broker.publish().await;
    assert_eq!(closed(&b), None);
    assert!(b.broker.ledger().newest().unwrap().size > signed);
}

#[tokio::test]
async fn a_log_key_that_is_away_at_start_stops_issuance_until_it_comes_and_nothing_else() {
    let (socket, away) = socket(fresh());
    away.store(false, Ordering::SeqCst);
    let b = with_log(socket).await;
    let newest = b.broker.ledger().newest().unwrap();
    away.store(true, Ordering::SeqCst);
    let b = b.restart().await;
    b.broker.publish().await;
    assert_eq!(b.broker.gate().may_issue().unwrap_err().code.name(), "log_unsigned");
    assert_eq!(b.broker.ledger().newest().unwrap().note, newest.note, "what was published is still shown");
    let all = json!({"everything": true, "reason": "done"});
    b.by_person("olga", "POST", "/v1/stop", Some(&all)).await.good();
    away.store(false, Ordering::SeqCst);
    b.clock.pass(5);
    b.broker.publish().await;
    assert!(b.broker.gate().may_issue().is_ok());
    assert!(b.broker.ledger().newest().unwrap().size > newest.size);
}
