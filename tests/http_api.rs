//! The API over a real broker: each route lets in whom its row names, leaves the event its row names, and answers
//! hostile requests with one clear refusal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod autonomy_routes;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use hyper::Request;
use phasebroker::domain::approval::Answer;
use phasebroker::domain::digest;
use serde_json::{Value, json};
use world::{Answered, World, key};

/// Every (method, path) with the events it may leave.
fn routes() -> BTreeMap<(String, String), Vec<String>> {
    let document = phasebroker::http::openapi::document();
    let mut routes = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let events = operation["x-ledger-events"].as_array().cloned().unwrap_or_default();
            let events = events.iter().map(|kind| kind.as_str().unwrap().to_owned()).collect();
            routes.insert((method.to_uppercase(), path.clone()), events);
        }
    }
    routes
}

/// Watches that each successful change leaves an event that its row names.
struct Watch {
    next: u64,
    seen: BTreeSet<String>,
}

impl Watch {
    async fn good(&mut self, world: &World, path: &str, answered: Answered) -> Value {
        let body = answered.good();
        let (kinds, next) = world.events(self.next).await;
        self.next = next;
        let expected = &routes()[&("POST".to_owned(), path.to_owned())];
        assert!(
            expected.iter().any(|kind| kinds.contains(kind)),
            "{path} left {kinds:?}, not one of {expected:?}"
        );
        self.seen.insert(path.to_owned());
        body
    }
}

#[tokio::test]
async fn every_route_that_changes_something_leaves_its_event() {
    let world = World::start().await;
    let mut watch = Watch { next: world.events(0).await.1, seen: BTreeSet::new() };
    let body = json!({"environment": "demo", "purpose": "checkout is slow"});
    let opened = world.by_agent(&key(), "POST", "/v1/runs", Some(&body)).await;
    let opened = watch.good(&world, "/v1/runs", opened).await;
    let run = opened["run"].as_str().unwrap();
    assert_eq!(opened["requester"], "grace");

    let observe_key = key();
    let observe =
        world.enter(run, &observe_key, &[("scope", "phase:observe"), ("resource", "service-status")]).await;
    let observe = watch.good(&world, "/token", observe).await;
    assert_eq!(observe["token_type"], "DPoP");
    let revoked = world
        .form("/revoke", "pay-bot", Some(&observe_key), &[("token", text(&observe, "access_token"))])
        .await;
    watch.good(&world, "/revoke", revoked).await;
    let decide_key = key();
    let decide = world.enter(run, &decide_key, &[("scope", "phase:decide")]).await;
    let decide = watch.good(&world, "/token", decide).await;
    let decide_token = text(&decide, "access_token");

    // One grant that is cancelled, one that is claimed.
    let claim_key = key();
    let mut grants = Vec::new();
    for claim_with in [&key(), &claim_key] {
        let proposal = world.proposal(claim_with);
        let proposed =
            world.by_token(decide_token, &decide_key, "POST", "/v1/proposals", Some(&proposal)).await;
        grants.push(watch.good(&world, "/v1/proposals", proposed).await);
    }
    let cancel = format!("/v1/grants/{}/cancel", text(&grants[0], "grant"));
    let cancelled = world.by_agent(&key(), "POST", &cancel, None).await;
    watch.good(&world, "/v1/grants/{grant}/cancel", cancelled).await;
    let (grant, document) = (text(&grants[1], "grant"), text(&grants[1], "document"));
    let shown = world.by_person("alice", "GET", &format!("/v1/grants/{grant}/document"), None).await.good();
    assert_eq!(shown["document"], document);
    assert_eq!(shown["story"]["diagnosis"], "it leaks");
    let lines = world.by_person("alice", "GET", "/v1/approvals", None).await.good();
    assert_eq!(lines["approvals"][0]["you_may_sign"], true);

    let approvals = format!("/v1/grants/{grant}/approvals");
    let token = world.approval("alice", document, Answer::Approve, None);
    let signed = world.call("POST", &approvals, &[], Some(&json!({"token": token}))).await;
    let signed = watch.good(&world, "/v1/grants/{grant}/approvals", signed).await;
    assert_eq!(signed["state"], "approved");
    let status = world.by_agent(&key(), "GET", &format!("/v1/grants/{grant}?wait=5"), None).await.good();
    let tokens: Vec<&str> =
        status["approvals"].as_array().unwrap().iter().map(|a| text(a, "token")).collect();

    let claim = format!("/v1/grants/{grant}/claim");
    let claimed = world.by_agent(&claim_key, "POST", &claim, Some(&json!({"approvals": tokens}))).await;
    assert_eq!(claimed.headers["cache-control"], "no-store");
    let claimed = watch.good(&world, "/v1/grants/{grant}/claim", claimed).await;
    let lease = text(&claimed, "lease");
    let again = world.by_agent(&claim_key, "POST", &claim, Some(&json!({"approvals": tokens}))).await;
    again.refused(409, "grant_spent");

    let recalled = recall(&world, lease, &claim_key).await;
    let recalled = watch.good(&world, "/v1/leases/{lease}/recall", recalled).await;
    assert_eq!(recalled, claimed, "the reply is given again as it was");

    let credential = text(&claimed["credential"], "access_token");
    let active = |answered: Value| answered["active"].as_bool().unwrap();
    let asked = world.form("/introspect", "resource", None, &[("token", credential)]).await.good();
    assert_eq!(asked["txn"], *run);
    assert!(active(asked));
    let execute_token = text(&claimed, "execute_token");
    let complete = format!("/v1/leases/{lease}/complete");
    let done = json!({"outcome": "succeeded"});
    let ended = world.by_token(execute_token, &claim_key, "POST", &complete, Some(&done)).await;
    let ended = watch.good(&world, "/v1/leases/{lease}/complete", ended).await;
    assert!(text(&ended, "how").starts_with("revoked"), "{ended}");
    assert!(!active(world.form("/introspect", "resource", None, &[("token", credential)]).await.good()));

    let found = json!({
        "report": phasebroker::domain::digest::Digest::of(b"report"), "records": 1, "first": null, "last": null,
        "incidents": [], "more_incidents": 0, "leases": [{"lease": lease, "verdict": "matched", "calls": 1, "failed": 0, "denied": 0,
            "findings": 0, "mint_seen": true, "hours_missing": false, "reach_covered": true, "untold": false, "named_only": false}],
    });
    let told = world.by_person("audrey", "POST", "/v1/reconciliations", Some(&found)).await;
    watch.good(&world, "/v1/reconciliations", told).await;

    let close = format!("/v1/runs/{run}/close");
    let closed = world.by_agent(&key(), "POST", &close, None).await;
    watch.good(&world, "/v1/runs/{run}/close", closed).await;

    let claimed = executing(&world).await;
    watch.next = world.events(watch.next).await.1;
    let cancel = format!("/v1/leases/{}/cancel", text(&claimed.0, "lease"));
    let cancelled =
        world.by_token(text(&claimed.0, "execute_token"), &claimed.1, "POST", &cancel, None).await;
    watch.good(&world, "/v1/leases/{lease}/cancel", cancelled).await;

    autonomy_routes::every_route(&world, &mut watch).await;

    watch.next = world.events(watch.next).await.1;
    let stopped = world
        .by_person("alice", "POST", "/v1/stop", Some(&json!({"everything": true, "reason": "drill"})))
        .await;
    watch.good(&world, "/v1/stop", stopped).await;
    let reloaded = world.by_person("olga", "POST", "/v1/reload", None).await;
    let reloaded = watch.good(&world, "/v1/reload", reloaded).await;
    assert_eq!(reloaded["changed"], json!(["directory"]));

    // A security event needs a transmitter, which `tests/caep.rs` has.
    let due: BTreeSet<String> = routes()
        .into_iter()
        .filter(|((_, path), events)| !events.is_empty() && path != "/v1/caep/events")
        .map(|((_, path), _)| path)
        .collect();
    assert_eq!(watch.seen, due, "each route that changes something was tried");
}

#[tokio::test]
async fn every_route_that_is_not_public_refuses_a_stranger_and_leaves_no_event() {
    let world = World::start().await;
    let before = world.events(0).await.1;
    let public = ["/healthz", "/readyz", "/metrics", "/openapi.json", "/jwks.json", "/log/checkpoint"];
    for (method, path) in routes().into_keys() {
        let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let real =
            path.replace("{run}", id).replace("{grant}", id).replace("{lease}", id).replace("{review}", id);
        let real = real.replace("{index}", "0").replace("{level}", "0").replace("{*place}", "000.p/1");
        let answered = world.call(&method, &real, &[], Some(&json!({"token": "x"}))).await;
        let expected = match path.as_str() {
            path if public.contains(&path) || path.starts_with("/.well-known") => 200,
            // A form endpoint reads its form first; a signature names its grant.
            "/token" | "/revoke" | "/introspect" => 400,
            // RFC 8935 says so of whatever is no security event token.
            "/v1/caep/events" => 400,
            "/v1/grants/{grant}/approvals" => 404,
            // Hashes are anyone's; a proof needs to know since when.
            "/log/tile/{level}/{*place}" => 200,
            "/log/consistency" => 400,
            _ => 401,
        };
        assert_eq!(answered.status, expected, "{method} {path}: {}", answered.text);
        let rubbish = [
            ("client-assertion", "a.b.c".to_owned()),
            ("dpop", "a.b.c".to_owned()),
            ("authorization", "Bearer a.b.c".to_owned()),
        ];
        let answered = world.call(&method, &real, &rubbish, None).await;
        assert!(answered.status >= 400 || expected == 200, "{method} {path}: {}", answered.text);
    }
    for path in ["/token", "/revoke"] {
        let members = "grant_type=client_credentials&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=a.b.c&scope=phase%3Adecide&run=x&token=x";
        let request = Request::post(path)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("dpop", "a.b.c")
            .body(Body::from(members))
            .unwrap();
        let answered = world.send(request).await;
        assert_eq!(
            (answered.status, answered.body["error"].as_str()),
            (401, Some("invalid_client")),
            "{path}"
        );
    }
    // A signature over a grant that is not there names that grant and nobody: the one event of it all.
    let (kinds, _) = world.events(before).await;
    assert!(kinds.iter().all(|kind| kind == "refused") && kinds.len() <= 1, "{kinds:?}");
    let metrics = world.call("GET", "/metrics", &[], None).await.text;
    assert!(!metrics.contains("phasebroker_unauthenticated_total 0\n"), "rubbish is counted");
}

#[tokio::test]
async fn a_failed_login_of_a_known_agent_is_one_event_and_of_a_stranger_none() {
    let world = World::start().await;
    let before = world.events(0).await.1;
    let body = json!({"environment": "demo", "purpose": "p"});
    let dpop = key();
    let headers = |assertion: String| {
        [("client-assertion", assertion), ("dpop", world.proof(&dpop, "POST", "/v1/runs", None, None))]
    };
    let assertion = world.assertion("pay-bot");
    world.call("POST", "/v1/runs", &headers(assertion.clone()), Some(&body)).await.good();
    let replayed = world.call("POST", "/v1/runs", &headers(assertion), Some(&body)).await;
    replayed.refused(401, "unauthenticated");
    assert_eq!(world.events(before).await.0, ["run.opened", "refused"]);
    // Signed by a key that nobody registered.
    let next = world.events(before).await.1;
    world
        .call("POST", "/v1/runs", &headers(world.assertion("resource")), Some(&body))
        .await
        .refused(401, "unauthenticated");
    assert!(world.events(next).await.0.is_empty());
}

#[tokio::test]
async fn the_login_key_is_refused_as_a_proof_key() {
    let world = World::start().await;
    let body = json!({"environment": "demo", "purpose": "p"});
    let answered = world.by_agent(&world.keys["pay-bot"], "POST", "/v1/runs", Some(&body)).await;
    answered.refused(401, "invalid_dpop_proof");
    assert!(answered.headers["www-authenticate"].to_str().unwrap().contains("invalid_dpop_proof"));
}

#[tokio::test]
async fn a_hostile_body_is_one_clear_refusal_and_one_event() {
    let world = World::start().await;
    for body in [
        r#"{"environment":"demo","purpose":"p","purpose":"q"}"#,
        r#"{"environment":"demo","purpose":"p","role":"operator"}"#,
        r#"{"environment":"demo","purpose":1.5}"#,
        r#"{"environment":"demo""#,
        r#"[]"#,
        "",
    ] {
        let next = world.events(0).await.1;
        let request = Request::post("/v1/runs")
            .header("content-type", "application/json")
            .header("client-assertion", world.assertion("pay-bot"))
            .header("dpop", world.proof(&key(), "POST", "/v1/runs", None, None))
            .body(Body::from(body))
            .unwrap();
        let answered = world.send(request).await;
        answered.refused(400, "bad_request");
        assert_eq!(world.events(next).await.0, ["refused"], "{body}");
    }
}

#[tokio::test]
async fn a_token_of_one_phase_opens_no_door_of_another() {
    let world = World::start().await;
    let (claimed, claim_key) = executing(&world).await;
    let (lease, execute_token) = (text(&claimed, "lease"), text(&claimed, "execute_token"));
    let proposal = world.proposal(&key());
    let answered = world.by_token(execute_token, &claim_key, "POST", "/v1/proposals", Some(&proposal)).await;
    answered.refused(401, "unauthenticated");
    let (_, decide, decide_key) = World::start().await.deciding().await;
    let complete = format!("/v1/leases/{lease}/complete");
    let done = json!({"outcome": "succeeded"});
    world
        .by_token(&decide, &decide_key, "POST", &complete, Some(&done))
        .await
        .refused(401, "unauthenticated");
    // The right token in the wrong hands.
    world
        .by_token(execute_token, &key(), "POST", &complete, Some(&done))
        .await
        .refused(401, "unauthenticated");
    world.by_token(execute_token, &claim_key, "POST", &complete, Some(&done)).await.good();
}

#[tokio::test]
async fn a_phase_that_is_skipped_is_refused_once_and_recorded_once() {
    let world = World::start().await;
    let body = json!({"environment": "demo", "purpose": "p"});
    let opened = world.by_agent(&key(), "POST", "/v1/runs", Some(&body)).await.good();
    let next = world.events(0).await.1;
    let answered = world.enter(text(&opened, "run"), &key(), &[("scope", "phase:decide")]).await;
    answered.refused(400, "phase_order");
    assert_eq!(answered.body["error"], "invalid_request");
    assert_eq!(world.events(next).await.0, ["refused"]);
    let answered = world.enter(text(&opened, "run"), &key(), &[("scope", "phase:execute")]).await;
    answered.refused(400, "phase_order");
    assert_eq!(answered.body["error"], "invalid_scope");
}

#[tokio::test]
async fn roles_are_kept_apart() {
    let world = World::start().await;
    let stop = json!({"everything": true, "reason": "r"});
    for (person, path, body, status) in [
        ("audrey", "/v1/stop", Some(&stop), 403),
        ("olga", "/v1/stop", Some(&stop), 200),
        ("alice", "/v1/reload", None, 403),
        ("olga", "/v1/reload", None, 200),
    ] {
        let next = world.events(0).await.1;
        let answered = world.by_person(person, "POST", path, body).await;
        assert_eq!(answered.status, status, "{person} {path}: {}", answered.text);
        if status == 403 {
            assert_eq!(world.events(next).await.0, ["refused"]);
        }
    }
    for person in ["audrey", "olga", "alice"] {
        world.by_person(person, "GET", "/v1/leases?open=true", None).await.good();
        world.by_person(person, "GET", "/v1/events?from=0&limit=5", None).await.good();
    }
}

#[tokio::test]
async fn a_recall_needs_a_nonce_of_ours_and_the_claim_key() {
    let world = World::start().await;
    let (claimed, claim_key) = executing(&world).await;
    let path = format!("/v1/leases/{}/recall", text(&claimed, "lease"));
    let next = world.events(0).await.1;
    let without = world.by_agent(&claim_key, "POST", &path, None).await;
    without.refused(401, "use_dpop_nonce");
    assert!(world.events(next).await.0.is_empty(), "asking for a nonce is no fault");
    let nonce = without.headers["dpop-nonce"].to_str().unwrap();
    let with = |nonce: &str| {
        [
            ("client-assertion", world.assertion("pay-bot")),
            ("dpop", world.proof(&claim_key, "POST", &path, None, Some(nonce))),
        ]
    };
    assert_eq!(world.call("POST", &path, &with(nonce), None).await.good(), claimed);
    world.call("POST", &path, &with(nonce), None).await.refused(401, "use_dpop_nonce");
    recall(&world, text(&claimed, "lease"), &key()).await.refused(404, "not_found");
}

#[tokio::test]
async fn what_anyone_may_read_describes_this_broker() {
    let world = World::start().await;
    assert_eq!(world.call("GET", "/healthz", &[], None).await.text, "ok\n");
    assert_eq!(world.call("GET", "/readyz", &[], None).await.good()["ready"], true);
    let metadata = world.call("GET", "/.well-known/oauth-authorization-server", &[], None).await.good();
    assert_eq!(metadata["issuer"], world::ISSUER);
    let keys = world.call("GET", "/jwks.json", &[], None).await.good();
    assert_eq!(keys["keys"][0]["kid"], world.broker.signer().public().unwrap().thumbprint().to_string());
    assert!(keys["keys"][0].get("d").is_none());
    let missing = world.call("GET", "/v2", &[], None).await;
    missing.refused(404, "not_found");
    world.call("POST", "/healthz", &[], None).await.refused(405, "method_not_allowed");
    world.broker.shut_down();
    let red = world.call("GET", "/readyz", &[], None).await;
    assert_eq!((red.status, &red.body["ready"]), (503, &json!(false)));
}

async fn recall(world: &World, lease: &str, key: &phasebroker::domain::key::SigningKey) -> Answered {
    let path = format!("/v1/leases/{lease}/recall");
    let first = world.by_agent(key, "POST", &path, None).await;
    let nonce = first.headers["dpop-nonce"].to_str().unwrap();
    let headers = [
        ("client-assertion", world.assertion("pay-bot")),
        ("dpop", world.proof(key, "POST", &path, None, Some(nonce))),
    ];
    world.call("POST", &path, &headers, None).await
}

/// A fresh run brought to execute: the claim's reply and its key.
async fn executing(world: &World) -> (Value, phasebroker::domain::key::SigningKey) {
    let (_, decide, decide_key) = world.deciding().await;
    let claim_key = key();
    let proposal = world.proposal(&claim_key);
    let proposed =
        world.by_token(&decide, &decide_key, "POST", "/v1/proposals", Some(&proposal)).await.good();
    let token = world.approval("alice", text(&proposed, "document"), Answer::Approve, None);
    let grant = format!("/v1/grants/{}", text(&proposed, "grant"));
    let body = json!({"token": token});
    world.call("POST", &format!("{grant}/approvals"), &[], Some(&body)).await.good();
    let body = json!({"approvals": [token]});
    let claimed = world.by_agent(&claim_key, "POST", &format!("{grant}/claim"), Some(&body)).await.good();
    (claimed, claim_key)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("`{name}` is missing in {value}"))
}

#[tokio::test]
async fn an_approval_dated_at_the_earliest_instant_of_all_is_refused() {
    let world = World::start().await;
    let (_, decide, decide_key) = world.deciding().await;
    let proposal = world.proposal(&key());
    let proposed =
        world.by_token(&decide, &decide_key, "POST", "/v1/proposals", Some(&proposal)).await.good();
    let path = format!("/v1/grants/{}/approvals", text(&proposed, "grant"));
    let good = world.approval("alice", text(&proposed, "document"), Answer::Approve, None);
    let parts: Vec<&str> = good.split('.').collect();
    let mut claims: Value = serde_json::from_slice(&digest::decode(parts[1]).unwrap()).unwrap();
    claims["iat"] = json!(i64::MIN);
    let input = format!("{}.{}", parts[0], digest::encode(claims.to_string().as_bytes()));
    let signature = world.keys["alice"].sign(input.as_bytes()).unwrap();
    let token = format!("{input}.{}", digest::encode(&signature));
    let refused = world.call("POST", &path, &[], Some(&json!({ "token": token }))).await;
    refused.refused(422, "approval_invalid");
    world.call("POST", &path, &[], Some(&json!({ "token": good }))).await.good();
}
