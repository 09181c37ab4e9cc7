//! Logins in somebody's name that prove nothing: an event when that somebody is known, and not without end.

use serde_json::{Value, json};

use super::life::{found, text};
use crate::world::{World, key};

/// The same token under another's signature.
fn forged(token: &str, other: &str) -> String {
    let (signed, _) = token.rsplit_once('.').unwrap();
    let (_, signature) = other.rsplit_once('.').unwrap();
    format!("{signed}.{signature}")
}

async fn as_agent(world: &World, assertion: String) {
    let proof = world.proof(&key(), "POST", "/v1/runs", None, None);
    let headers = [("client-assertion", assertion), ("dpop", proof)];
    let body = json!({"environment": "demo", "purpose": "p"});
    world.call("POST", "/v1/runs", &headers, Some(&body)).await.refused(401, "unauthenticated");
}

async fn failed(world: &World) -> Vec<Value> {
    found(world, "&type=login.failed").await
}

#[tokio::test]
async fn a_forged_login_of_a_known_agent_is_an_event_that_accuses_nobody() {
    let world = World::start().await;
    as_agent(&world, forged(&world.assertion("pay-bot"), &world.assertion("pay-bot"))).await;
    let all = failed(&world).await;
    let [event] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!(text(&event["event"], "actor"), "broker");
    assert_eq!(event["event"]["facts"], json!({"claimed": "agent:pay-bot", "code": "unauthenticated"}));
    assert_eq!(found(&world, "&agent=pay-bot").await.len(), 1, "it is found by the name it used");
    // A key that nobody registered names nobody.
    as_agent(&world, world.assertion("resource")).await;
    assert_eq!(failed(&world).await.len(), 1);
}

#[tokio::test]
async fn a_forged_login_of_a_known_person_is_an_event_and_a_replayed_one_is_theirs() {
    let world = World::start().await;
    let assertion = || world.person("alice", "GET", "/v1/leases");
    let ask = async |token: String| {
        world.call("GET", "/v1/leases", &[("authorization", format!("Bearer {token}"))], None).await
    };
    ask(forged(&assertion(), &assertion())).await.refused(401, "unauthenticated");
    assert_eq!(failed(&world).await[0]["event"]["facts"]["claimed"], "person:alice");
    let good = assertion();
    ask(good.clone()).await.good();
    ask(good).await.refused(401, "unauthenticated");
    assert_eq!(failed(&world).await.len(), 1);
    assert_eq!(found(&world, "&type=refused&person=alice").await.len(), 1, "she signed that one");
}

#[tokio::test]
async fn nobody_fills_the_log_with_anothers_name() {
    let world = World::start().await;
    for _ in 0..40 {
        as_agent(&world, forged(&world.assertion("pay-bot"), &world.assertion("pay-bot"))).await;
    }
    assert_eq!(failed(&world).await.len(), 30);
    world.clock.advance(60);
    as_agent(&world, forged(&world.assertion("pay-bot"), &world.assertion("pay-bot"))).await;
    assert_eq!(failed(&world).await.len(), 31);
}
