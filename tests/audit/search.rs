//! `GET /v1/events`: each filter lets through what it names and nothing else, and pages lose nothing.

use phasebroker::domain::approval::Answer;
use phasebroker::domain::digest::Digest;
use serde_json::{Value, json};

use super::life::{found, lived, only, text};
use crate::world::{World, key};

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|one| text(&one["event"], "type")).collect()
}

#[tokio::test]
async fn each_filter_lets_through_what_it_names_and_nothing_else() {
    let world = World::start().await;
    let life = lived(&world).await;
    let (run, grant, lease) = (&life.run, &life.grant, &life.lease);
    let stranger = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let all = found(&world, "").await;
    let of_run = all.iter().filter(|one| one["event"]["run"] == **run).count();
    for (query, count) in [
        (format!("&run={run}"), of_run),
        (format!("&run={stranger}"), 0),
        ("&agent=pay-bot".into(), of_run),
        ("&agent=other-bot".into(), 0),
        ("&environment=demo".into(), of_run),
        ("&environment=production".into(), 0),
        ("&person=alice".into(), 1),
        ("&person=bob".into(), 0),
        // Sealed, signed, approved; opened, minted, released, ended.
        ("&action=restart-service".into(), 7),
        ("&action=reboot-instance".into(), 0),
        (format!("&grant={grant}"), 7),
        (format!("&grant={stranger}"), 0),
        (format!("&lease={lease}"), 4),
        (format!("&lease={stranger}"), 0),
        ("&decision=needs_approval".into(), 7),
        ("&decision=autonomous".into(), 0),
        ("&outcome=succeeded".into(), 1),
        ("&outcome=failed".into(), 0),
        ("&type=lease.minted,lease.released&action=restart-service".into(), 2),
        ("&type=unfrozen".into(), 0),
        (format!("&run={run}&person=alice&type=approval.received"), 1),
        (format!("&run={run}&person=alice&type=lease.ended"), 0),
    ] {
        assert_eq!(found(&world, &query).await.len(), count, "{query}: {:?}", kinds(&all));
    }
}

#[tokio::test]
async fn time_begins_with_since_and_ends_before_until() {
    let world = World::start().await;
    lived(&world).await;
    let at = text_at(&only(&world, "approval.received").await);
    let in_range = |events: Vec<Value>| kinds(&events).contains(&"approval.received");
    assert!(in_range(found(&world, &format!("&since={at}&until={}", at + 1)).await));
    assert!(!in_range(found(&world, &format!("&since={}", at + 1)).await));
    assert!(!in_range(found(&world, &format!("&until={at}")).await));
}

fn text_at(entry: &Value) -> i64 {
    entry["event"]["at"].as_i64().unwrap()
}

#[tokio::test]
async fn pages_lose_nothing_and_repeat_nothing() {
    let world = World::start().await;
    lived(&world).await;
    let whole = found(&world, "").await;
    assert!(whole.len() > 12, "{}", whole.len());
    assert_eq!(found(&world, "&limit=3").await, whole);
    assert_eq!(found(&world, "&limit=1&type=phase.entered").await.len(), 3);
    let beyond = world.by_person("audrey", "GET", "/v1/events?from=99999", None).await.good();
    assert_eq!((beyond["events"].clone(), beyond["next"].clone()), (json!([]), json!(99_999)));
}

#[tokio::test]
async fn a_filter_that_cannot_be_meant_is_a_clear_mistake() {
    let world = World::start().await;
    for (query, says) in [
        ("type=lease.dead", "lease.dead"),
        ("since=5&until=5", "before `until`"),
        ("run=x", "is not an id"),
        ("agent=Not%20A%20Slug", "is not a slug"),
        ("decision=maybe", "unknown variant"),
        ("outcome=fine", "unknown variant"),
        ("since=yesterday", "invalid digit"),
        ("colour=red", "unknown field"),
    ] {
        let answered = world.by_person("audrey", "GET", &format!("/v1/events?{query}"), None).await;
        answered.refused(400, "bad_request");
        assert!(text(&answered.body, "detail").contains(says), "{query}: {}", answered.text);
    }
    let other =
        format!("/v1/runs/{id}/events?run=01ARZ3NDEKTSV4RRFFQ69G5FAW", id = "01ARZ3NDEKTSV4RRFFQ69G5FAV");
    world.by_person("audrey", "GET", &other, None).await.refused(400, "bad_request");
}

#[tokio::test]
async fn what_policy_refused_is_found_as_denied() {
    let world = World::start().await;
    let (run, token, decide_key) = world.deciding().await;
    let mut proposal = world.proposal(&key());
    proposal["environment"] = json!("production");
    world.by_token(&token, &decide_key, "POST", "/v1/proposals", Some(&proposal)).await;
    let refused = found(&world, &format!("&run={run}&type=refused")).await;
    let denied = found(&world, "&decision=deny").await;
    let by_policy = refused.iter().filter(|one| one["event"]["facts"]["code"] == "policy_denied").count();
    assert_eq!(denied.len(), by_policy);
}

#[tokio::test]
async fn the_prompt_the_reason_and_the_time_to_sign_are_recorded() {
    let world = World::start().await;
    lived(&world).await;
    let opened = only(&world, "run.opened").await;
    assert_eq!(opened["event"]["facts"]["prompt"], json!(Digest::of(b"prompt")));
    assert_eq!(opened["texts"]["purpose"], "checkout is slow");
    let signed = only(&world, "approval.received").await;
    assert_eq!(signed["event"]["facts"]["seconds_to_sign"], 20);
    let approved = only(&world, "grant.approved").await;
    assert!(approved["event"]["facts"]["claim_until"].as_i64().unwrap() > text_at(&approved));

    let (_, token, decide_key) = world.deciding().await;
    let proposal = world.proposal(&key());
    let proposed = world.by_token(&token, &decide_key, "POST", "/v1/proposals", Some(&proposal)).await.good();
    world.clock.advance(7);
    let reason = "the graph says otherwise";
    let denied = world.approval("bob", text(&proposed, "document"), Answer::Deny, Some(reason));
    let answer = format!("/v1/grants/{}/approvals", text(&proposed, "grant"));
    world.call("POST", &answer, &[], Some(&json!({"token": denied, "reason": reason}))).await.good();
    let denied = only(&world, "grant.denied").await;
    assert_eq!(denied["event"]["facts"]["seconds_to_sign"], 7);
    assert_eq!(denied["texts"]["reason"], reason);
    assert!(!denied["event"].to_string().contains("graph"), "the words stand beside the event");
}
