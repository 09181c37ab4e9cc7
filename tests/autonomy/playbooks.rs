//! What lies inside a playbook runs without a signature of its own; everything else waits for people.

use phasebroker::domain::grant::GrantState;
use phasebroker::domain::id::GrantId;
use serde_json::{Value, json};

use super::world::World;
use crate::broker::flow::restart;

#[tokio::test(flavor = "multi_thread")]
async fn inside_a_playbook_an_agent_claims_without_a_signature_and_the_ledger_says_under_which() {
    let world = World::start().await;
    let sheet = world.in_force().await;
    let mark = world.b.mark().await;
    let it = world.ask().await;
    world.runs_by_itself(&it, &sheet);
    assert_eq!(it.proposed.eligible, Default::default());
    assert!(it.proposed.claim_until.is_some());
    let claimed = world.claim(&it).await.good();
    let opened = world.events(mark, "lease.intent").await;
    let intent = opened.iter().find(|event| event["grant"] == it.grant.to_string()).unwrap();
    assert_eq!(intent["facts"]["authority"], "playbook");
    assert_eq!(intent["facts"]["approvals"].as_array().unwrap().len(), 2, "{intent}");
    let sealed = world.events(mark, "grant.sealed").await;
    assert_eq!(sealed[0]["facts"]["playbook"], sheet.sealed.digest().to_string());
    world.complete(&it, &claimed).await;
    assert_eq!(world.listed(&sheet).await["uses"], 1);
    world.claim(&it).await.refused(409, "grant_spent", "propose again");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ordinary_client_claims_inside_a_playbook() {
    let world = World::start().await;
    world.in_force().await;
    let it = world.ask().await;
    let claimed = world.b.agent("fixer").claim(it.grant, &it.claim_key, &[], None).await;
    assert_eq!(claimed.map(|claimed| claimed.lease).unwrap(), it.sealed.grant().time.lease);
}

#[tokio::test(flavor = "multi_thread")]
async fn until_a_playbook_is_fully_signed_people_sign_each_grant() {
    let world = World::start().await;
    world.waits_for_people(&world.ask().await, "no playbook is for it").await;
    let sheet = world.proposed_by("olga", &world.draft()).await;
    world.waits_for_people(&world.ask().await, "no playbook is for it").await;
    world.sign(&sheet, "bob").await.good();
    let before = world.ask().await;
    world.waits_for_people(&before, "no playbook is for it").await;
    world.sign(&sheet, "erin").await.good();
    world.runs_by_itself(&world.ask().await, &sheet);
    // What waited before goes on waiting: it names no playbook.
    world.claim(&before).await.refused(409, "grant_not_open", "pending");
    let approved = world.b.approve(before, &["erin", "sam"]).await;
    world.b.claim_with(&approved, &approved.tokens).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_of_its_parameters_people_sign() {
    let world = World::start().await;
    let sheet = world.in_force().await;
    for (service, reason) in
        [("search", "memory-leak"), ("checkout", "stuck-deploy"), ("billing", "memory-leak")]
    {
        let parameters = json!({"service": service, "reason_code": reason});
        let it = world.ask_for("demo", parameters, |_| {}).await;
        let why = if service == "billing" { "people" } else { "lies outside of it" };
        world.waits_for_people(&it, why).await;
    }
    world.runs_by_itself(&world.ask_for("demo", restart("cart"), |_| {}).await, &sheet);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_environment_or_longer_work_needs_people() {
    let world = World::start().await;
    let sheet = world.signed(&world.draft_with(|d| d["work_seconds"] = json!(30))).await;
    let seconds =
        |seconds: u32| move |p: &mut phasebroker::domain::proposal::Proposal| p.work_seconds = Some(seconds);
    world
        .waits_for_people(
            &world.ask_for("stage", restart("checkout"), seconds(30)).await,
            "no playbook is for it",
        )
        .await;
    world
        .waits_for_people(&world.ask_for("demo", restart("checkout"), seconds(31)).await, "it allows 30 s")
        .await;
    world.waits_for_people(&world.ask().await, "it allows 30 s").await;
    world.runs_by_itself(&world.ask_for("demo", restart("checkout"), seconds(30)).await, &sheet);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_it_does_not_name_neither_proposes_nor_claims_under_it() {
    let world = World::start().await;
    let fixers = world.in_force().await;
    let other =
        |p: &mut phasebroker::domain::proposal::Proposal| p.claiming_agent = Some("twin".parse().unwrap());
    world.waits(&world.ask_for("demo", restart("checkout"), other).await, "it is not for `twin`");
    world.suspend(&fixers).await;
    let twins = world.signed(&world.draft_with(|d| d["agents"] = json!(["twin"]))).await;
    world.waits(&world.ask_for("demo", restart("checkout"), other).await, "it is not for `fixer`");
    world.waits(&world.ask().await, "it is not for `fixer`");
    world.suspend(&twins).await;
    let both = world.signed(&world.draft_with(|d| d["agents"] = json!(["fixer", "twin"]))).await;
    let it = world.ask_for("demo", restart("checkout"), other).await;
    world.runs_by_itself(&it, &both);
    world.claim(&it).await.refused(403, "wrong_claimant", "another claiming agent");
    let path = it.path("claim");
    let key = it.claim_key.signing_key();
    world.b.by_agent("twin", key, "POST", &path, Some(&json!({}))).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_its_end_it_covers_nothing() {
    let world = World::start().await;
    let end = world.b.clock.wall().plus(1000);
    let sheet = world.signed(&world.draft_with(|d| d["not_after"] = json!(end))).await;
    world.b.clock.pass(950);
    let it = world.ask().await;
    world.runs_by_itself(&it, &sheet);
    world.b.clock.pass(50);
    world.refuses_the_claim(&it, 422, "approvals_missing", "it ended at").await;
    world.waits_for_people(&world.ask().await, "it ended at").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_uses_within_the_window_and_in_all_run_out() {
    let world = World::start().await;
    let sheet = world.in_force().await;
    let (first, second, third) = (world.ask().await, world.ask().await, world.ask().await);
    world.run(&first).await;
    world.run(&second).await;
    // It was inside when it was sealed. A try is a use only once it is claimed.
    world.runs_by_itself(&third, &sheet);
    world.refuses_the_claim(&third, 429, "limit_reached", "used up").await;
    world.waits_for_people(&world.ask().await, "its 2 uses within 3600 s").await;
    world.b.clock.pass(3600);
    let (again, last) = (world.ask().await, world.ask().await);
    world.runs_by_itself(&again, &sheet);
    world.run(&again).await;
    world.refuses_the_claim(&last, 422, "approvals_missing", "all its 3 uses are used up").await;
    world.waits_for_people(&world.ask().await, "all its 3 uses are used up").await;
    let listed = world.listed(&sheet).await;
    assert_eq!((&listed["uses"], &listed["state"]), (&json!(3), &json!("active")));
    assert!(listed["why_out"].as_str().unwrap().contains("used up"), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_playbook_covers_nothing_and_never_comes_back() {
    let world = World::start().await;
    let sheet = world.in_force().await;
    let it = world.ask().await;
    let path = format!("/v1/playbooks/{}/suspend", sheet.grant);
    let body = json!({"reason": "it restarts too much"});
    world.b.by_person("audrey", "POST", &path, Some(&body)).await.refused(403, "forbidden", "role");
    let unknown = format!("/v1/playbooks/{}/suspend", GrantId::generate(world.b.clock.wall()));
    world.b.by_person("bob", "POST", &unknown, Some(&body)).await.refused(404, "not_found", "no grant");
    let mark = world.b.mark().await;
    world.b.by_person("bob", "POST", &path, Some(&body)).await.good();
    assert_eq!(world.events(mark, "playbook.suspended").await[0]["grant"], sheet.grant.to_string());
    world.b.by_person("bob", "POST", &path, Some(&body)).await.refused(409, "conflict", "suspended already");
    world.refuses_the_claim(&it, 422, "approvals_missing", "it is suspended").await;
    world.waits_for_people(&world.ask().await, "it is suspended").await;
    world.sign(&sheet, "sam").await.refused(409, "grant_not_open", "");
    world.waits_for_people(&world.ask().await, "it is suspended").await;
    // Only people bring it back, by signing another one.
    let another = world.in_force().await;
    world.runs_by_itself(&world.ask().await, &another);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_in_force_cannot_be_taken_twice() {
    let world = World::start().await;
    let sheet = world.in_force().await;
    let again = world.put_forward("olga", &world.draft()).await;
    again.refused(422, "proposal_invalid", "is in force already");
    world.suspend(&sheet).await;
    world.put_forward("olga", &world.draft()).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_under_a_playbook_takes_no_signature_and_no_approval_token() {
    let world = World::start().await;
    world.in_force().await;
    let it = world.ask().await;
    let token = world.b.approval("bob", &it.sealed);
    world.b.answer(&it, &token).await.refused(409, "grant_not_open", "");
    let reply = world.b.claim_with(&it, &[token]).await;
    reply.refused(422, "approval_invalid", "present no approvals");
    assert_eq!(world.b.grant_state(it.grant).await, GrantState::Approved);
    world.run(&it).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_can_still_say_no_to_a_grant_under_a_playbook() {
    let world = World::start().await;
    world.in_force().await;
    let it = world.ask().await;
    let deny = world.b.claims("bob", &it.sealed, phasebroker::domain::approval::Answer::Deny);
    world.b.answer_with_reason(&it, &world.b.signed("bob", &deny)).await.good();
    world.claim(&it).await.refused(409, "grant_not_open", "denied");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_a_playbook_and_what_was_used_of_it() {
    let world = World::start().await;
    let sheet = world.in_force().await;
    world.run(&world.ask().await).await;
    let waiting = world.ask().await;
    let world = world.restarted().await;
    assert_eq!(world.listed(&sheet).await["uses"], 1);
    world.run(&waiting).await;
    world.waits_for_people(&world.ask().await, "its 2 uses within 3600 s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_ends_every_playbook() {
    let world = World::start().await;
    let sheet = world.in_force().await;
    let it = world.ask().await;
    world.runs_by_itself(&it, &sheet);
    let World { b, health, pager, grafana } = world;
    let world = World { b: b.fenced().await, health, pager, grafana };
    world.claim(&it).await.refused(422, "grant_foreign", "older epoch");
    world.waits_for_people(&world.ask().await, "it is suspended").await;
    assert_eq!(world.listed(&sheet).await["state"], "suspended");
    world.in_force().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_claims_at_once_no_more_succeed_than_the_playbook_has_uses() {
    let world = World::start().await;
    let one = world.draft_with(|d| {
        d["budget"]["uses"] = json!(1);
        d["agents"] = json!(["fixer", "twin"]);
    });
    world.signed(&one).await;
    let twin =
        |p: &mut phasebroker::domain::proposal::Proposal| p.claiming_agent = Some("twin".parse().unwrap());
    let (mine, its) = (world.ask().await, world.ask_for("demo", restart("cart"), twin).await);
    let path = its.path("claim");
    let empty: Value = json!({});
    let (a, b) = tokio::join!(
        world.claim(&mine),
        world.b.by_agent("twin", its.claim_key.signing_key(), "POST", &path, Some(&empty))
    );
    let mut statuses = [a.status, b.status];
    statuses.sort();
    assert_eq!(statuses, [200, 429], "{} {}", a.text, b.text);
}
