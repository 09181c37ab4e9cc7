//! What starts a playbook: the broker looks itself, or a source signed an alert. The word of an agent starts nothing,
//! and what cannot be seen is a no.

use phasebroker::domain::alert::ALERT_TYP;
use phasebroker::domain::id::AlertId;
use phasebroker::domain::jws::{self, KeyHeader};
use phasebroker::domain::key::SigningKey;
use serde_json::{Value, json};

use super::world::{Sheet, World};
use crate::broker::flow::restart;
use crate::broker::health::Mood;

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_with_the_right_value_starts_it_and_is_looked_at_again_at_the_claim() {
    let world = World::start().await;
    let sheet = world.in_force().await;
    let it = world.ask().await;
    world.runs_by_itself(&it, &sheet);
    assert_eq!(world.health.asked(), ["/health/checkout"]);
    world.run(&it).await;
    assert_eq!(world.health.asked(), ["/health/checkout", "/health/checkout"]);
    world.runs_by_itself(&world.ask_for("demo", restart("cart"), |_| {}).await, &sheet);
    assert_eq!(world.health.asked()[2], "/health/cart");
}

/// One wording for what is not so and what cannot be seen: an agent reads nothing through the broker.
const NOT_SO: &str = "does not hold, or cannot be looked at";
/// Whoever edits what starts a playbook needs it signed again.
const CHANGED: &str = "its trigger changed since it was signed";

/// A server in this mood starts nothing, and stops what had started.
async fn starts_nothing(moods: Vec<Mood>) {
    let world = World::start().await;
    let sheet = world.in_force().await;
    let it = world.ask().await;
    world.runs_by_itself(&it, &sheet);
    for mood in moods {
        world.health.is(mood);
        world.waits_for_people(&world.ask().await, NOT_SO).await;
        world.refuses_the_claim(&it, 422, "precondition_failed", NOT_SO).await;
    }
    world.health.says(json!({"status": "down"}));
    world.run(&it).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_value_is_a_no() {
    starts_nothing(vec![
        Mood::Says(200, r#"{"status":"up"}"#.into()),
        Mood::Says(200, r#"{"status":""}"#.into()),
        Mood::Says(200, r#"{"status":null}"#.into()),
        Mood::Says(200, r#"{"status":["down"]}"#.into()),
        Mood::Says(200, r#"{"state":"down"}"#.into()),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_and_what_is_not_json_are_a_no() {
    starts_nothing(vec![
        Mood::Says(500, r#"{"status":"down"}"#.into()),
        Mood::Says(404, r#"{"status":"down"}"#.into()),
        Mood::Says(202, r#"{"status":"down"}"#.into()),
        Mood::Says(200, "down".into()),
        Mood::Says(200, String::new()),
        Mood::Says(200, r#"{"status":"up","status":"down"}"#.into()),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_server_is_a_no() {
    starts_nothing(vec![Mood::Hangs]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_at_the_port_is_a_no() {
    let world = World::start().await;
    let sheet = world.in_force().await;
    let it = world.ask().await;
    world.runs_by_itself(&it, &sheet);
    world.health.close().await;
    world.waits_for_people(&world.ask().await, NOT_SO).await;
    world.refuses_the_claim(&it, 422, "precondition_failed", NOT_SO).await;
    world.health.reopen().await;
    world.run(&it).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_is_true_at_the_proposal_and_false_at_the_claim_spends_nothing() {
    let world = World::start().await;
    world.in_force().await;
    let it = world.ask().await;
    world.health.says(json!({"status": "up"}));
    world.refuses_the_claim(&it, 422, "precondition_failed", NOT_SO).await;
    assert_eq!(world.b.by_person("bob", "GET", "/v1/reviews", None).await.good()["reviews"], json!([]));
    world.health.says(json!({"status": "down"}));
    world.run(&it).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_probe_of_a_playbook_must_agree() {
    let world = World::start().await;
    let added = format!(
        "\n[probes.load]\npointer = \"/load\"\n[probes.load.http]\nurl = \"{}/load\"\n",
        world.health.url()
    );
    world.b.reload(|written| written.guardrails.push_str(&added)).await;
    let both = json!({"probes": [{"name": "health", "value": "down"}, {"name": "load", "value": "99"}]});
    let sheet = world.signed(&world.draft_with(|d| d["trigger"] = both)).await;
    world.waits(&world.ask().await, NOT_SO);
    world.health.says(json!({"status": "down", "load": 98}));
    world.waits(&world.ask().await, NOT_SO);
    world.health.says(json!({"status": "down", "load": 99}));
    world.runs_by_itself(&world.ask().await, &sheet);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_left_the_guardrails_starts_nothing() {
    let world = World::start().await;
    world.in_force().await;
    let it = world.ask().await;
    world
        .b
        .reload(|written| written.guardrails = written.guardrails.replace("probes.health", "probes.other"))
        .await;
    world.refuses_the_claim(&it, 422, "approvals_missing", CHANGED).await;
    world.waits_for_people(&world.ask().await, CHANGED).await;
}

// --------------------------------------------------------------------------------------------------------- alerts

/// A playbook that `CheckoutDown` of `pager` starts.
async fn by_alert(world: &World) -> Sheet {
    let trigger = json!({"alert": {"source": "pager", "alert": "CheckoutDown"}});
    world.signed(&world.draft_with(|d| d["trigger"] = trigger)).await
}

fn claims(world: &World) -> Value {
    let now = world.b.clock.wall();
    json!({
        "iss": "pager", "aud": world.b.issuer, "alert": "CheckoutDown", "environment": "demo",
        "iat": now, "exp": now.plus(300), "jti": AlertId::generate(now),
    })
}

fn signed(key: &SigningKey, claims: &Value) -> String {
    jws::sign(ALERT_TYP, key, KeyHeader::Kid, claims).unwrap()
}

/// The right alert, with something changed.
fn alert_with(world: &World, change: impl FnOnce(&mut Value)) -> String {
    let mut claims = claims(world);
    change(&mut claims);
    signed(&world.pager, &claims)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_alert_starts_it() {
    let world = World::start().await;
    let sheet = by_alert(&world).await;
    let it = world.ask_with_alert(&alert_with(&world, |_| {})).await;
    world.runs_by_itself(&it, &sheet);
    assert_eq!(it.sealed.grant().decision.alert.as_ref().unwrap().source.as_str(), "pager");
    world.run(&it).await;
    assert!(world.health.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_alert_and_every_other_alert_wait_for_people() {
    let world = World::start().await;
    let sheet = by_alert(&world).await;
    world.waits_for_people(&world.ask().await, "it starts with a signed alert").await;
    let other = "another one than it starts with";
    let grafana = |change: fn(&mut Value)| {
        let mut claims = claims(&world);
        change(&mut claims);
        signed(&world.grafana, &claims)
    };
    for (alert, why) in [
        (alert_with(&world, |c| c["alert"] = json!("CartDown")), other),
        (alert_with(&world, |c| c["alert"] = json!("checkoutdown")), other),
        (alert_with(&world, |c| c["environment"] = json!("stage")), other),
        (grafana(|_| {}), "is not registered for its source"),
        (grafana(|c| c["iss"] = json!("grafana")), other),
        (alert_with(&world, |c| c["iss"] = json!("nobody")), "no configured source"),
        (alert_with(&world, |c| c["aud"] = json!("https://another.example")), "for another broker"),
        (alert_with(&world, |c| c["iat"] = json!(world.b.clock.wall().plus(-301))), "too long ago"),
        (alert_with(&world, |c| c["exp"] = json!(world.b.clock.wall())), "expired"),
        (alert_with(&world, |c| c["iat"] = json!(world.b.clock.wall().plus(61))), "in the future"),
        (
            jws::sign("approval+jwt", &world.pager, KeyHeader::Kid, &claims(&world)).unwrap(),
            "not well formed",
        ),
        ("CheckoutDown".to_owned(), "not well formed"),
        (String::new(), "not well formed"),
    ] {
        world.waits_for_people(&world.ask_with_alert(&alert).await, why).await;
    }
    world.runs_by_itself(&world.ask_with_alert(&alert_with(&world, |_| {})).await, &sheet);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_alert_starts_one_thing_once() {
    let world = World::start().await;
    let sheet = by_alert(&world).await;
    let mut said = claims(&world);
    let alert = signed(&world.pager, &said);
    let (first, second) = (world.ask_with_alert(&alert).await, world.ask_with_alert(&alert).await);
    world.runs_by_itself(&first, &sheet);
    world.runs_by_itself(&second, &sheet);
    world.run(&first).await;
    world.refuses_the_claim(&second, 429, "limit_reached", "used up").await;
    // What was used has an id; a new signature around it makes no new alert of it.
    said["iat"] = json!(world.b.clock.wall().plus(-1));
    let again = signed(&world.pager, &said);
    let used = "the alert has started something already";
    for alert in [&alert, &again] {
        world.waits_for_people(&world.ask_with_alert(alert).await, used).await;
    }
    let world = world.restarted().await;
    world.waits_for_people(&world.ask_with_alert(&alert).await, used).await;
    world.refuses_the_claim(&second, 429, "limit_reached", "used up").await;
    let fresh = world.ask_with_alert(&alert_with(&world, |_| {})).await;
    world.runs_by_itself(&fresh, &sheet);
    world.run(&fresh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_claims_at_once_one_alert_pays_for_one() {
    let world = World::start().await;
    let trigger = json!({"alert": {"source": "pager", "alert": "CheckoutDown"}});
    let draft = world.draft_with(|d| {
        d["trigger"] = trigger;
        d["agents"] = json!(["fixer", "twin"]);
    });
    world.signed(&draft).await;
    let alert = alert_with(&world, |_| {});
    let mine = world.ask_with_alert(&alert).await;
    let its = world
        .ask_for("demo", restart("cart"), |p| {
            p.alert = Some(alert.clone());
            p.claiming_agent = Some("twin".parse().unwrap());
        })
        .await;
    let (path, empty) = (its.path("claim"), json!({}));
    let (a, b) = tokio::join!(
        world.claim(&mine),
        world.b.by_agent("twin", its.claim_key.signing_key(), "POST", &path, Some(&empty))
    );
    let mut statuses = [a.status, b.status];
    statuses.sort();
    assert_eq!(statuses, [200, 429], "{} {}", a.text, b.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_of_a_source_that_was_removed_starts_nothing() {
    let world = World::start().await;
    by_alert(&world).await;
    let alert = alert_with(&world, |_| {});
    let it = world.ask_with_alert(&alert).await;
    world
        .b
        .reload(|written| written.guardrails = written.guardrails.replace("alerts.pager", "alerts.beeper"))
        .await;
    world.refuses_the_claim(&it, 422, "approvals_missing", CHANGED).await;
    world.waits_for_people(&world.ask_with_alert(&alert).await, CHANGED).await;
}
