//! Security events: ours are pushed and fetched as signed tokens that the broker's key set verifies, each until it is
//! taken; those of others end what rests on whom they are about, once, and only when they are what they seem.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;
mod receiver;
mod world;

#[path = "autonomy/world.rs"]
#[allow(dead_code, reason = "the tests of autonomy use the rest")]
mod autonomy;

#[path = "caep/playbooks.rs"]
mod playbooks;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use axum::body::Body;
use hyper::Request;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use phasebroker::authn::jwks::{IssuerSettings, KeySource};
use phasebroker::authn::transmitter::TransmitterSettings;
use phasebroker::broker::exporting::Export;
use phasebroker::broker::exporting::polls::PollReceiver;
use phasebroker::broker::ports::{LeaseFilter, Store};
use phasebroker::domain::approval::Answer;
use phasebroker::domain::digest::{Digest, encode};
use phasebroker::domain::key::SigningKey;
use phasebroker::domain::lease::{Lease, LeaseState};
use phasebroker::domain::phase::Phase;
use phasebroker::exports::Post;
use phasebroker::exports::caep::CaepPush;
use receiver::{Receiver, until};
use serde_json::{Value, json};
use tokio::sync::watch;
use world::{Answered, ISSUER, RESOURCE, WORKLOADS, World, key};

const IDP: &str = "https://idp.test";
const PLATFORM: &str = "https://platform.test";

fn uri(name: &str) -> String {
    format!("https://schemas.openid.net/secevent/caep/event-type/{name}")
}

/// A grant that people have signed, and with what it is claimed.
struct Approved {
    path: String,
    claim: Value,
    key: SigningKey,
}

/// A sealed grant: its path and document.
async fn sealed(world: &World, claim_key: &SigningKey) -> (String, String) {
    let (_, decide, decide_key) = world.deciding().await;
    let proposal = world.proposal(claim_key);
    let proposed =
        world.by_token(&decide, &decide_key, "POST", "/v1/proposals", Some(&proposal)).await.good();
    let path = format!("/v1/grants/{}", proposed["grant"].as_str().unwrap());
    (path, proposed["document"].as_str().unwrap().to_owned())
}

async fn sign(world: &World, path: &str, token: &str) -> Answered {
    world.call("POST", &format!("{path}/approvals"), &[], Some(&json!({ "token": token }))).await
}

async fn approved(world: &World, person: &'static str) -> Approved {
    let key = key();
    let (path, document) = sealed(world, &key).await;
    let token = world.approval(person, &document, Answer::Approve, None);
    sign(world, &path, &token).await.good();
    Approved { path, claim: json!({ "approvals": [token] }), key }
}

async fn claim(world: &World, grant: &Approved) -> Answered {
    world.by_agent(&grant.key, "POST", &format!("{}/claim", grant.path), Some(&grant.claim)).await
}

async fn state(world: &World, path: &str) -> String {
    let status = world.by_agent(&key(), "GET", path, None).await.good();
    status["state"].as_str().unwrap().to_owned()
}

async fn leases(world: &World) -> Vec<Lease> {
    world.store.leases(LeaseFilter::default()).await.unwrap()
}

async fn live(world: &World) -> Vec<Phase> {
    leases(world).await.into_iter().filter(|lease| lease.state.is_live()).map(|lease| lease.phase).collect()
}

/// Claims of a token, by the key set that the broker publishes and a library that is not ours.
async fn verified(world: &World, token: &str, audience: &str) -> Value {
    let published = world.call("GET", "/jwks.json", &[], None).await.good();
    let keys: JwkSet = serde_json::from_value(published).unwrap();
    let header = jsonwebtoken::decode_header(token).unwrap();
    assert_eq!(header.typ.as_deref(), Some("secevent+jwt"));
    let key = DecodingKey::from_jwk(keys.find(&header.kid.unwrap()).unwrap()).unwrap();
    let mut rules = Validation::new(Algorithm::EdDSA);
    rules.required_spec_claims = ["iss", "aud"].map(str::to_owned).into();
    rules.set_issuer(&[ISSUER]);
    rules.set_audience(&[audience]);
    let claims = jsonwebtoken::decode::<Value>(token, &key, &rules).unwrap().claims;
    assert_eq!(claims["events"].as_object().unwrap().len(), 1);
    assert!(claims["exp"].is_null() && claims["sub"].is_null());
    claims
}

/// What a token tells: kind, session and agent.
fn told(claims: &Value) -> (String, String, String) {
    let kind = claims["events"].as_object().unwrap().keys().next().unwrap();
    let subject = &claims["sub_id"];
    assert_eq!((&subject["format"], &subject["user"]["iss"]), (&json!("complex"), &json!(ISSUER)));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let kind = kind.rsplit('/').next().unwrap().to_owned();
    (kind, text(&subject["session"]["id"]), text(&subject["user"]["sub"]))
}

#[tokio::test]
async fn sessions_are_pushed_as_tokens_that_the_key_set_verifies() {
    let world = World::start().await;
    let receiver = Receiver::start(503).await;
    let post = Post::new(receiver.url.clone(), None).unwrap();
    let push = CaepPush::new("push".into(), post, IDP.into(), world.signer.clone(), world.clock.clone());
    let (stop, stopped) = watch::channel(false);
    let export = Export { sink: Arc::new(push), from_start: false };
    let task = tokio::spawn(world.broker.clone().export(export, stopped));
    until("the sink to begin", async || world.store.cursor("sink:push").await.unwrap()).await;
    let (run, _, _) = world.deciding().await;
    // What is answered with neither 202 nor an error of RFC 8935 comes again, and is the same token by its id.
    until("it to be sent twice", async || (receiver.posted().len() >= 2).then_some(())).await;
    receiver.answer(202, "");
    until("both sessions to be told", async || (receiver.taken().len() >= 3).then_some(())).await;
    stop.send_replace(true);
    task.await.unwrap();
    let first = &receiver.posted()[0];
    assert_eq!(first.headers["content-type"], "application/secevent+jwt");
    let refused = verified(&world, &first.body, IDP).await;
    let mut all = Vec::new();
    for token in receiver.taken() {
        let claims = verified(&world, &token, IDP).await;
        assert_eq!(claims["txn"], run);
        all.push((told(&claims), claims["jti"].clone()));
    }
    assert_eq!(all[0].1, refused["jti"], "the id of a token that is sent again");
    let (observe, decide) = (&leases(&world).await[1], &leases(&world).await[0]);
    let row = |kind: &str, lease: &Lease| (kind.to_owned(), lease.id.to_string(), "pay-bot".to_owned());
    let expected = [
        row("session-established", observe),
        row("session-revoked", observe),
        row("session-established", decide),
    ];
    assert_eq!(all.into_iter().map(|(row, _)| row).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_token_that_its_receiver_refuses_is_counted_and_not_sent_again() {
    let world = World::start().await;
    let receiver = Receiver::start(400).await;
    receiver.answer(400, r#"{"err": "invalid_audience", "description": "not me"}"#);
    let post = Post::new(receiver.url.clone(), None).unwrap();
    let push = CaepPush::new("push".into(), post, IDP.into(), world.signer.clone(), world.clock.clone());
    let (stop, stopped) = watch::channel(false);
    world.deciding().await;
    let export = Export { sink: Arc::new(push), from_start: true };
    let task = tokio::spawn(world.broker.clone().export(export, stopped));
    let counted = "phasebroker_export_refused_total{sink=\"push\"} 3";
    until("three refusals", async || {
        world.call("GET", "/metrics", &[], None).await.text.contains(counted).then_some(())
    })
    .await;
    stop.send_replace(true);
    task.await.unwrap();
    assert_eq!(receiver.posted().len(), 3);
    assert_eq!(world.store.cursor("sink:push").await.unwrap(), Some(world.store.head().await.unwrap().size));
}

async fn poll(world: &World, asked: Value) -> Answered {
    let headers = [("authorization", format!("Bearer {}", world.assertion("resource")))];
    world.call("POST", "/v1/caep/poll", &headers, Some(&asked)).await
}

async fn polling(all: bool) -> World {
    let receiver = PollReceiver { audience: RESOURCE.into(), all };
    World::start_among(|jwt| Arc::new(jwt), Vec::new(), vec![receiver]).await
}

fn sets(polled: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(polled["sets"].clone()).unwrap()
}

#[tokio::test]
async fn a_receiver_fetches_its_tokens_until_it_acknowledges_them() {
    let world = polling(true).await;
    let nothing = poll(&world, json!({"returnImmediately": true})).await.good();
    assert_eq!(nothing, json!({"sets": {}, "moreAvailable": false}));
    world.deciding().await;
    let one = poll(&world, json!({"returnImmediately": true, "maxEvents": 1})).await.good();
    assert_eq!((sets(&one).len(), &one["moreAvailable"]), (1, &json!(true)));
    let (first, token) = sets(&one).pop_first().unwrap();
    let claims = verified(&world, &token, RESOURCE).await;
    assert_eq!((told(&claims).0.as_str(), &claims["jti"]), ("session-established", &json!(first)));
    let all = poll(&world, json!({"returnImmediately": true})).await.good();
    assert_eq!((sets(&all).len(), &all["moreAvailable"]), (3, &json!(false)));
    assert!(sets(&all).contains_key(&first), "what was not acknowledged comes again");
    // Beyond a gap, and then the gap.
    let later: Vec<String> = sets(&all).into_keys().filter(|jti| *jti != first).collect();
    let left = poll(&world, json!({"returnImmediately": true, "ack": [later[0]]})).await.good();
    assert_eq!(sets(&left).len(), 2);
    let errors = json!({&first: {"err": "invalid_request", "description": "cannot be read"}});
    let left = poll(&world, json!({"returnImmediately": true, "setErrs": errors})).await.good();
    assert_eq!(sets(&left).into_keys().collect::<Vec<_>>(), [later[1].clone()]);
    let none = poll(&world, json!({"maxEvents": 0, "ack": [later[1]]})).await.good();
    assert_eq!(none, json!({"sets": {}, "moreAvailable": false}));
    let place = world.store.cursor(&format!("poll:{RESOURCE}")).await.unwrap();
    assert_eq!(place, Some(world.store.head().await.unwrap().size));
    let empty = poll(&world, json!({"returnImmediately": true})).await.good();
    assert!(sets(&empty).is_empty());
}

#[tokio::test]
async fn a_receiver_that_waits_is_answered_with_what_comes() {
    let world = Arc::new(polling(true).await);
    let waiting = world.clone();
    let waiting = tokio::spawn(async move { poll(&waiting, json!({})).await.good() });
    world.deciding().await;
    assert!(!sets(&waiting.await.unwrap()).is_empty());
}

#[tokio::test]
async fn a_resource_hears_of_sessions_for_itself_only_unless_it_may_hear_of_all() {
    let world = polling(false).await;
    world.deciding().await;
    let own = leases(&world).await.into_iter().filter(|lease| lease.target == RESOURCE).count();
    let polled = poll(&world, json!({"returnImmediately": true})).await.good();
    let expected = if own == 0 { 0 } else { 2 };
    assert_eq!(
        sets(&polled).len(),
        expected,
        "the observe session began and ended; decide is for the broker"
    );
    assert!(own == 1);
    let grant = approved(&world, "bob").await;
    claim(&world, &grant).await.good();
    let polled = poll(&world, json!({"returnImmediately": true})).await.good();
    let execute = leases(&world).await.into_iter().find(|lease| lease.phase == Phase::Execute).unwrap();
    let mut about = Vec::new();
    for token in sets(&polled).into_values() {
        about.push(told(&verified(&world, &token, RESOURCE).await).1);
    }
    assert!(about.contains(&execute.id.to_string()));
}

#[tokio::test]
async fn only_a_configured_resource_server_polls() {
    let world = World::start().await;
    let asked = json!({"returnImmediately": true});
    poll(&world, asked.clone()).await.refused(403, "forbidden");
    world.call("POST", "/v1/caep/poll", &[], Some(&asked)).await.refused(401, "unauthenticated");
    let agent = [("authorization", format!("Bearer {}", world.assertion("pay-bot")))];
    world.call("POST", "/v1/caep/poll", &agent, Some(&asked)).await.refused(401, "unauthenticated");
    let world = polling(true).await;
    poll(&world, json!({"returnImmediately": true, "more": 1})).await.refused(400, "bad_request");
    poll(&world, asked).await.good();
}

/// A broker that listens to an identity provider, for people, and to a platform, for workloads and our own agents.
struct Listening {
    world: World,
    idp: SigningKey,
    platform: SigningKey,
    _files: tempfile::TempDir,
}

impl Listening {
    async fn start() -> Self {
        let (idp, platform) = (key(), key());
        let files = tempfile::tempdir().unwrap();
        let transmitter = |name: &str, issuer: &str, key: &SigningKey, people, subjects: &[&str]| {
            let mut jwk = json!(key.public().jwk());
            jwk["kid"] = json!("k1");
            let file = files.path().join(name);
            std::fs::write(&file, json!({"keys": [jwk]}).to_string()).unwrap();
            let issuer = IssuerSettings {
                issuer: issuer.into(),
                audience: ISSUER.into(),
                algorithms: vec![Algorithm::EdDSA],
                keys: KeySource::File(file),
                longest_life_seconds: 3_600,
                ttl_seconds: 300,
                max_age_seconds: 3_600,
            };
            TransmitterSettings {
                issuer,
                people,
                subjects_of: subjects.iter().map(|s| (*s).to_owned()).collect(),
            }
        };
        let transmitters = vec![
            transmitter("idp", IDP, &idp, true, &[IDP]),
            transmitter("platform", PLATFORM, &platform, false, &[PLATFORM, WORKLOADS, ISSUER]),
        ];
        let world = World::start_among(|jwt| Arc::new(jwt), transmitters, Vec::new()).await;
        Self { world, idp, platform, _files: files }
    }

    fn claims(&self, from: &str, event: &str, iss: &str, sub: &str) -> Value {
        json!({"iss": from, "aud": ISSUER, "iat": self.world.clock.at(), "jti": format!("{event}-{iss}-{sub}"),
               "sub_id": {"format": "iss_sub", "iss": iss, "sub": sub},
               "events": {uri(event): {"event_timestamp": self.world.clock.at()}}})
    }

    async fn push_as(&self, media: &str, key: &SigningKey, claims: &Value) -> Answered {
        let header = json!({"typ": "secevent+jwt", "alg": "EdDSA", "kid": "k1"}).to_string();
        let input = format!("{}.{}", encode(header.as_bytes()), encode(claims.to_string().as_bytes()));
        let token = format!("{input}.{}", encode(&key.sign(input.as_bytes()).unwrap()));
        let request = Request::post("/v1/caep/events").header("content-type", media).body(Body::from(token));
        self.world.send(request.unwrap()).await
    }

    async fn push(&self, key: &SigningKey, claims: &Value) -> Answered {
        self.push_as("application/secevent+jwt", key, claims).await
    }

    /// One that is taken.
    async fn taken(&self, key: &SigningKey, claims: &Value) {
        let answer = self.push(key, claims).await;
        assert_eq!((answer.status, answer.text.as_str()), (202, ""));
    }

    /// How many signals were recorded, and the facts of the last.
    async fn signals(&self) -> (usize, Value) {
        let stored = self.world.store.events(None, 0, 1_000).await.unwrap();
        let read = stored.iter().map(|event| serde_json::from_slice::<Value>(&event.bytes).unwrap());
        let all: Vec<Value> = read.filter(|event| event["type"] == "signal.received").collect();
        (all.len(), all.last().map(|event| event["facts"].clone()).unwrap_or_default())
    }
}

#[tokio::test]
async fn a_revoked_session_of_an_agent_ends_its_leases_and_cancels_its_grants() {
    for (issuer, subject) in [(WORKLOADS, "pay/bot"), (ISSUER, "pay-bot")] {
        let it = Listening::start().await;
        let waiting = approved(&it.world, "bob").await;
        let used = approved(&it.world, "bob").await;
        claim(&it.world, &used).await.good();
        assert!(live(&it.world).await.contains(&Phase::Execute));
        it.taken(&it.platform, &it.claims(PLATFORM, "session-revoked", issuer, subject)).await;
        assert_eq!(live(&it.world).await, []);
        assert_eq!(state(&it.world, &waiting.path).await, "cancelled");
        claim(&it.world, &waiting).await.refused(409, "grant_not_open");
        let (count, facts) = it.signals().await;
        assert_eq!(
            (count, &facts["subject"], &facts["effect"]),
            (1, &json!("agent:pay-bot"), &json!("stopped"))
        );
        assert_eq!((&facts["transmitter"], &facts["signal"]), (&json!(PLATFORM), &json!("session-revoked")));
    }
}

#[tokio::test]
async fn a_changed_credential_of_an_approver_ends_what_rests_on_their_word_and_nothing_else() {
    let it = Listening::start().await;
    let (bobs, alices) = (approved(&it.world, "bob").await, approved(&it.world, "alice").await);
    let used = approved(&it.world, "bob").await;
    // Signed before the event, and still on its way when it comes.
    let (path, document) = sealed(&it.world, &key()).await;
    claim(&it.world, &used).await.good();
    let late = it.world.approval("bob", &document, Answer::Approve, None);
    it.taken(&it.idp, &it.claims(IDP, "credential-change", IDP, "bob")).await;
    assert_eq!(state(&it.world, &bobs.path).await, "cancelled");
    claim(&it.world, &bobs).await.refused(409, "grant_not_open");
    assert_eq!(state(&it.world, &alices.path).await, "approved");
    let execute = leases(&it.world).await.into_iter().find(|lease| lease.phase == Phase::Execute).unwrap();
    assert_eq!(execute.state, LeaseState::Ended);
    sign(&it.world, &path, &late).await.refused(403, "approver_ineligible");
    // What is signed after the event counts: the directory still knows them.
    it.world.clock.advance(1);
    let again = it.world.approval("bob", &document, Answer::Approve, None);
    sign(&it.world, &path, &again).await.good();
    claim(&it.world, &alices).await.good();
    assert_eq!(it.signals().await.1["subject"], "person:bob");
}

#[tokio::test]
async fn a_grant_that_waits_for_more_signatures_is_cancelled_with_its_requester() {
    let it = Listening::start().await;
    let (path, _) = sealed(&it.world, &key()).await;
    // Nobody signed it; its requester of record is the owner of the agent.
    it.taken(&it.idp, &it.claims(IDP, "session-revoked", IDP, "alice")).await;
    assert_eq!(state(&it.world, &path).await, "pending");
    it.taken(&it.idp, &it.claims(IDP, "session-revoked", IDP, "grace")).await;
    assert_eq!(state(&it.world, &path).await, "cancelled");
}

#[tokio::test]
async fn an_administration_grant_that_the_person_signed_is_cancelled() {
    let it = Listening::start().await;
    let body = json!({"key": "everything", "reason": "look"});
    it.world.by_person("olga", "POST", "/v1/freezes", Some(&body)).await.good();
    let asked = it.world.by_person("olga", "POST", "/v1/unfreeze", Some(&body)).await.good();
    let path = format!("/v1/grants/{}", asked["grant"].as_str().unwrap());
    let document = asked["document"].as_str().unwrap();
    let token = it.world.approval("alice", document, Answer::Approve, None);
    let first = sign(&it.world, &path, &token).await.good();
    assert_eq!(first["state"], "pending");
    it.taken(&it.idp, &it.claims(IDP, "session-revoked", IDP, "alice")).await;
    let token = it.world.approval("grace", document, Answer::Approve, None);
    sign(&it.world, &path, &token).await.refused(409, "grant_not_open");
}

#[tokio::test]
async fn a_repeated_event_is_taken_and_does_nothing() {
    let it = Listening::start().await;
    let claims = it.claims(PLATFORM, "session-revoked", ISSUER, "pay-bot");
    it.taken(&it.platform, &claims).await;
    let grant = approved(&it.world, "bob").await;
    it.taken(&it.platform, &claims).await;
    assert_eq!(it.signals().await.0, 1);
    claim(&it.world, &grant).await.good();
}

#[tokio::test]
async fn an_event_that_is_being_acted_upon_is_not_taken_again_until_it_is_done() {
    let it = Listening::start().await;
    let claims = it.claims(PLATFORM, "session-revoked", ISSUER, "pay-bot");
    // From here on the transmitter's key is known, so that the first thing that a push waits for is the store.
    it.taken(&it.platform, &it.claims(PLATFORM, "session-established", ISSUER, "pay-bot")).await;
    let mut first = Box::pin(it.push(&it.platform, &claims));
    let waits = poll_fn(|context| Poll::Ready(first.as_mut().poll(context).is_pending())).await;
    assert!(waits, "the first is under way");
    let second = it.push(&it.platform, &claims).await;
    second.refused(503, "cannot_verify");
    assert!(second.headers.contains_key("retry-after"));
    assert_eq!(first.await.status, 202);
    it.taken(&it.platform, &claims).await;
    let (count, facts) = it.signals().await;
    assert_eq!(
        (count, &facts["effect"]),
        (2, &json!("stopped")),
        "the first is acted upon, and nothing else"
    );
}

#[tokio::test]
async fn an_event_without_effect_is_not_remembered_and_may_have_one_later() {
    let it = Listening::start().await;
    let mut claims = it.claims(IDP, "risk-level-change", IDP, "bob");
    claims["events"][uri("risk-level-change")]["current_level"] = json!("LOW");
    for heard in 1..=2 {
        it.taken(&it.idp, &claims).await;
        assert_eq!((it.signals().await.0, &it.signals().await.1["effect"]), (heard, &json!("none")));
    }
    // The same token is not held against one of another transmitter, nor one with an effect.
    let worse = it.claims(IDP, "session-revoked", IDP, "bob");
    for _ in 0..2 {
        it.taken(&it.idp, &worse).await;
        assert_eq!((it.signals().await.0, &it.signals().await.1["effect"]), (3, &json!("stopped")));
    }
}

#[tokio::test]
async fn what_a_former_life_of_the_broker_heard_is_known_from_the_ledger() {
    let it = Listening::start().await;
    let mut claims = it.claims(PLATFORM, "session-revoked", ISSUER, "pay-bot");
    let made = it.world.clock.at().plus(-1_500);
    // Older than the process: it may come for the first time all the same, and counts.
    claims["iat"] = json!(made);
    it.taken(&it.platform, &claims).await;
    let (count, facts) = it.signals().await;
    assert_eq!((count, &facts["effect"]), (1, &json!("stopped")));
    let set = facts["set"].as_str().unwrap().parse().unwrap();
    assert!(it.world.broker.has_heard(&set, made).await.unwrap());
    assert!(!it.world.broker.has_heard(&Digest::of(b"another"), made).await.unwrap());
}

#[tokio::test]
async fn what_is_forged_foreign_or_stale_does_nothing() {
    let it = Listening::start().await;
    let grant = approved(&it.world, "bob").await;
    let good = it.claims(PLATFORM, "session-revoked", ISSUER, "pay-bot");
    let with = |member: &str, value: Value| {
        let mut claims = good.clone();
        claims[member] = value;
        claims
    };
    let stale = it.world.clock.at().plus(-3_601);
    let person_of_platform = it.claims(PLATFORM, "session-revoked", PLATFORM, "bob");
    let other_platform = it.claims(IDP, "session-revoked", WORKLOADS, "pay/bot");
    for (key, claims, err) in [
        (&it.idp, good.clone(), "authentication_failed"),
        (&it.platform, with("iss", json!(IDP)), "authentication_failed"),
        (&it.platform, with("iss", json!("https://nobody.test")), "invalid_issuer"),
        (&it.platform, with("aud", json!("https://other.test")), "invalid_audience"),
        (&it.platform, with("iat", json!(stale)), "invalid_request"),
        (&it.platform, with("exp", json!(it.world.clock.at().plus(60))), "invalid_request"),
        (&it.idp, other_platform, "access_denied"),
    ] {
        let answer = it.push(key, &claims).await;
        assert_eq!(
            (answer.status, answer.body["err"].as_str()),
            (400, Some(err)),
            "{claims}: {}",
            answer.text
        );
        assert!(answer.body["description"].is_string());
    }
    let answer = it.push_as("application/jwt", &it.platform, &good).await;
    assert_eq!((answer.status, answer.body["err"].as_str()), (400, Some("invalid_request")));
    // A transmitter that is not configured for people says nothing about them.
    it.taken(&it.platform, &person_of_platform).await;
    // Nobody whom the directory knows, and changes for the better: heard, and without effect.
    it.taken(&it.idp, &it.claims(IDP, "session-revoked", IDP, "stranger")).await;
    let mut better = it.claims(IDP, "assurance-level-change", IDP, "bob");
    better["events"][uri("assurance-level-change")]["change_direction"] = json!("increase");
    it.taken(&it.idp, &better).await;
    let (count, facts) = it.signals().await;
    assert_eq!((count, &facts["effect"]), (3, &json!("none")));
    claim(&it.world, &grant).await.good();
    // The same that was refused with another key is taken from its own transmitter.
    it.taken(&it.platform, &good).await;
    assert_eq!(live(&it.world).await, []);
}

#[tokio::test]
async fn refusals_of_strangers_are_counted_and_not_recorded() {
    let it = Listening::start().await;
    let before = it.world.store.head().await.unwrap().size;
    let mut claims = it.claims(PLATFORM, "session-revoked", ISSUER, "pay-bot");
    claims["iss"] = json!("https://nobody.test");
    for _ in 0..5 {
        assert_eq!(it.push(&it.platform, &claims).await.status, 400);
    }
    assert_eq!(it.world.store.head().await.unwrap().size, before);
    let shown = it.world.call("GET", "/metrics", &[], None).await.text;
    assert!(shown.contains("phasebroker_unauthenticated_total 5"), "{shown}");
    // Of one who signed it, a refusal is an event.
    let mut stale = it.claims(PLATFORM, "session-revoked", ISSUER, "pay-bot");
    stale["iat"] = json!(it.world.clock.at().plus(-9_000));
    assert_eq!(it.push(&it.platform, &stale).await.status, 400);
    let (kinds, _) = it.world.events(before).await;
    assert_eq!(kinds, ["refused"]);
}
