//! A login that fails although its signature verified: the caller is known, so it is one event.

use phasebroker::domain::jws::{self, KeyHeader};
use serde_json::{Value, json};

use super::*;
use crate::broker::calls::unique;
use crate::broker::fresh;

/// Signed by the right key; `change` makes one claim wrong.
fn token(b: &TestBroker, typ: &str, who: &str, mut claims: Value, change: Value) -> String {
    let now = b.clock.wall();
    claims["iss"] = json!(who);
    claims["aud"] = json!(b.issuer);
    claims["iat"] = json!(now);
    claims["exp"] = json!(now.plus(60));
    claims["jti"] = json!(unique());
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    jws::sign(typ, b.keys.of(who), KeyHeader::Kid, &claims).unwrap()
}

/// The one event since `mark` names `actor`.
async fn holds(b: &TestBroker, mark: u64, reply: &Reply, no: &Refusal<'_>, actor: &str) {
    no.holds(b, mark, reply, None).await;
    assert_eq!(b.events_since(mark).await[0]["actor"], actor);
}

#[tokio::test]
async fn a_failed_login_of_a_known_agent_is_one_event() {
    let b = TestBroker::start().await;
    let approved = b.run_to_approved().await;
    let (claim, body) = (approved.path("claim"), json!({"approvals": approved.tokens}));
    let key = approved.claim_key.signing_key();
    let proof = || b.proof(key, "POST", &claim, None, None);
    let now = b.clock.wall();
    let other_broker = json!({"aud": "https://other.example"});
    let used = b.assertion("fixer");
    let run = format!("/v1/runs/{}", approved.deciding.run);
    let first = [("client-assertion", used.clone()), ("dpop", b.proof(&fresh(), "GET", &run, None, None))];
    b.call("GET", &run, &first, None).await.good();
    let assertion = |change: Value| token(&b, "JWT", "fixer", json!({"sub": "fixer"}), change);
    for (assertion, telling) in [
        (used, "used already"),
        (assertion(other_broker), "aud"),
        (assertion(json!({"iat": now.plus(-200), "exp": now})), "exp"),
        (assertion(json!({"sub": "twin"})), "sub"),
    ] {
        let mark = b.mark().await;
        let headers = [("client-assertion", assertion), ("dpop", proof())];
        let reply = b.call("POST", &claim, &headers, Some(&body)).await;
        holds(&b, mark, &reply, &refusal(401, "unauthenticated", telling), "agent:fixer").await;
    }
    for (proof, telling) in [
        (b.proof(key, "GET", &claim, None, None), "`htm`"),
        (b.proof(key, "POST", "/v1/runs", None, None), "`htu`"),
        (b.proof(key, "POST", &claim, Some("a"), None), "`ath`"),
        (b.proof(b.keys.of("fixer"), "POST", &claim, None, None), "login key"),
        ("a.b.c".into(), "proof"),
    ] {
        let mark = b.mark().await;
        let headers = [("client-assertion", b.assertion("fixer")), ("dpop", proof)];
        let reply = b.call("POST", &claim, &headers, Some(&body)).await;
        holds(&b, mark, &reply, &refusal(401, "invalid_dpop_proof", telling), "agent:fixer").await;
    }
    // A grant that is not there, asked for by somebody who is.
    let mark = b.mark().await;
    let nothing = format!("/v1/grants/{}/claim", unique());
    let reply = b.by_agent("fixer", &fresh(), "POST", &nothing, Some(&body)).await;
    holds(&b, mark, &reply, &refusal(404, "not_found", "no grant"), "agent:fixer").await;
    still_claimable(&b, &approved).await;
}

#[tokio::test]
async fn a_failed_login_of_a_known_person_is_one_event() {
    let b = TestBroker::start().await;
    let approved = b.run_to_approved().await;
    let stop = json!({"everything": true, "reason": "r"});
    let now = b.clock.wall();
    let used = b.person_token("bob", "GET", "/v1/approvals");
    let get = [("authorization", format!("Bearer {used}"))];
    b.call("GET", "/v1/approvals", &get, None).await.good();
    let claims = || json!({"htm": "POST", "htu": format!("{}/v1/stop", b.issuer)});
    let person = |change: Value| token(&b, "person+jwt", "bob", claims(), change);
    for (assertion, telling) in [
        (used, "another method or URL"),
        (person(json!({"aud": "https://other.example"})), "aud"),
        (person(json!({"htu": format!("{}/v1/reload", b.issuer)})), "another method or URL"),
        (person(json!({"iat": now.plus(-61), "exp": now.plus(-1)})), "exp"),
        (person(json!({"exp": now.plus(61)})), "60"),
    ] {
        let mark = b.mark().await;
        let headers = [("authorization", format!("Bearer {assertion}"))];
        let reply = b.call("POST", "/v1/stop", &headers, Some(&stop)).await;
        holds(&b, mark, &reply, &refusal(401, "unauthenticated", telling), "person:bob").await;
    }
    let mark = b.mark().await;
    let reply = b.call("GET", "/v1/approvals", &get, None).await;
    holds(&b, mark, &reply, &refusal(401, "unauthenticated", "used already"), "person:bob").await;
    // Known, and without the role.
    let mark = b.mark().await;
    let reply = b.by_person("audrey", "POST", "/v1/stop", Some(&stop)).await;
    holds(&b, mark, &reply, &refusal(403, "forbidden", "needs the role"), "person:audrey").await;
    still_claimable(&b, &approved).await;
}
