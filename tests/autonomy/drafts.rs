//! What cannot become a playbook, and who can sign one.

use serde_json::{Value, json};

use super::world::World;
use crate::broker::people::REASON;
use phasebroker::cli::approvals::sign_with;
use phasebroker::domain::approval::Answer;

type Change = fn(&mut Value);

/// Each of these changes of the usual draft is refused, and says why.
async fn refused(world: &World, changes: &[(Change, &str)]) {
    world.put_forward("olga", &world.draft()).await.good();
    for (change, why) in changes {
        let reply = world.put_forward("olga", &world.draft_with(change)).await;
        assert!(matches!(reply.code(), "proposal_invalid" | "bad_request"), "{why}: {}", reply.text);
        assert!(matches!(reply.status, 400 | 422), "{why}: {}", reply.text);
        assert!(reply.detail().contains(why), "does not say `{why}`: {}", reply.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_without_a_trigger_that_exists_is_no_playbook() {
    let world = World::start().await;
    refused(
        &world,
        &[
            (|d| d["trigger"] = json!({"probes": []}), "needs a trigger"),
            (|d| drop(d.as_object_mut().unwrap().remove("trigger")), "trigger"),
            (|d| d["trigger"] = json!("always"), "expected `probes` or `alert`"),
            (|d| d["trigger"]["probes"][0]["name"] = json!("weather"), "`weather` is no probe"),
            (|d| d["trigger"]["probes"][0]["name"] = json!("Not A Name"), "`Not A Name` is no probe"),
            (
                |d| d["trigger"] = json!({"alert": {"source": "nobody", "alert": "Down"}}),
                "`nobody` is no source of alerts",
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_without_bounds_is_no_playbook() {
    let world = World::start().await;
    refused(
        &world,
        &[
            (|d| d["max_uses"] = json!(0), "`max_uses` is 0"),
            (|d| d["max_uses"] = json!(10_001), "`max_uses` is 10001"),
            (|d| d["budget"]["uses"] = json!(0), "`budget.uses` is 0"),
            (|d| d["budget"]["seconds"] = json!(0), "`budget.seconds` is 0"),
            (|d| d["work_seconds"] = json!(0), "`work_seconds` is 0"),
            (|d| d["work_seconds"] = json!(61), "`work_seconds` is 61"),
            (|d| d["not_after"] = json!(1_799_999_000), "`not_after` must lie"),
            (|d| d["not_after"] = json!(1_800_000_000 + 367 * 86_400), "`not_after` must lie"),
            (|d| d["not_after"] = json!(i64::from(u32::MAX) << 20), "`not_after`"),
            (|d| d["agents"] = json!([]), "agents"),
            (|d| d["agents"] = json!(["ghost"]), "`ghost` is no agent"),
            (|d| d["review"]["owner"] = json!("nobodies"), "`review.owner`"),
            (|d| d["review"]["due_seconds"] = json!(0), "`review.due_seconds` is 0"),
            (|d| d["extra"] = json!(1), "extra"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_for_what_the_catalog_does_not_have_is_no_playbook() {
    let world = World::start().await;
    refused(
        &world,
        &[
            (|d| d["action"] = json!("no-such-action"), "the catalog has no `no-such-action`"),
            (|d| d["environment"] = json!("cloud"), "is not allowed in `cloud`"),
            (|d| d["environment"] = json!("nowhere"), "is not allowed in `nowhere`"),
            (|d| d["parameters"]["service"] = json!({"values": ["NOT a service"]}), "service"),
            (|d| d["parameters"]["service"] = json!({"values": []}), "the range of `service` is empty"),
            (|d| d["parameters"]["service"] = json!({"integers": {"min": 1, "max": 2}}), "service"),
            (
                |d| drop(d["parameters"].as_object_mut().unwrap().remove("service")),
                "the parameter `service` has no range",
            ),
            (|d| d["parameters"]["other"] = json!({"values": ["x"]}), "`other` is no parameter"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_which_policy_lets_one_combination_not_run_is_no_playbook() {
    let world = World::start().await;
    let services = |words: Value| world.draft_with(|d| d["parameters"]["service"] = json!({"values": words}));
    let reply = world.put_forward("olga", &services(json!(["cart", "checkout", "billing"]))).await;
    reply.refused(422, "proposal_invalid", "policy answers `needs_approval` to fixer");
    assert!(reply.detail().contains("billing"), "{}", reply.text);
    world.put_forward("olga", &services(json!(["cart", "checkout"]))).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_lose_data_change_trust_or_not_be_undone_never_becomes_a_playbook() {
    let world = World::start().await;
    let data = world.draft_with(|d| {
        d["action"] = json!("restore-data");
        d["parameters"] = json!({"service": {"values": ["checkout"]}, "snapshot": {"values": ["snap-12ab"]}});
    });
    // Policy itself would let it run: the floor does not.
    world.put_forward("olga", &data).await.refused(422, "proposal_invalid", "floor.data");
    for (was, is, floor) in [
        (
            "class = \"availability\"\nsettles = \"None needed\"\nchanges = 1\nmax_work_seconds = 60",
            "class = \"availability\"\nchanges = 1\nmax_work_seconds = 60",
            "floor.irreversible",
        ),
        (
            "class = \"availability\"\nchanges = 1\nmax_work_seconds = 60",
            "class = \"trust\"\nsettles = \"None needed\"\nchanges = 1\nmax_work_seconds = 60",
            "floor.trust",
        ),
    ] {
        world
            .b
            .reload(|written| {
                assert!(written.catalog.contains(was));
                written.catalog = written.catalog.replacen(was, is, 1);
                // Policy that lets whatever it is run by itself.
                written.policy = written
                    .policy
                    .replace("@approvals(\"on-call: 2\")", "@approvals(\"on-call: 1, data-owners: 1\")");
            })
            .await;
        world.put_forward("olga", &world.draft()).await.refused(422, "proposal_invalid", floor);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_an_agent_and_a_stranger_propose_no_playbook() {
    let world = World::start().await;
    world.put_forward("audrey", &world.draft()).await.refused(403, "forbidden", "role");
    let fixer = world.b.keys.of("fixer");
    let by_agent = world.b.by_agent("fixer", fixer, "POST", "/v1/playbooks", Some(&world.draft())).await;
    assert_eq!(by_agent.status, 401, "{}", by_agent.text);
    let nobody = world.b.call("POST", "/v1/playbooks", &[], Some(&world.draft())).await;
    assert_eq!(nobody.status, 401, "{}", nobody.text);
    assert_eq!(world.b.by_person("bob", "GET", "/v1/playbooks", None).await.good()["playbooks"], json!([]));
    world.put_forward("olga", &world.draft()).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn its_requester_does_not_sign_a_playbook() {
    let world = World::start().await;
    let sheet = world.proposed_by("bob", &world.draft()).await;
    world.sign(&sheet, "bob").await.refused(403, "approver_ineligible", "they requested it");
    assert_eq!(world.sign(&sheet, "erin").await.good()["state"], "pending");
    assert_eq!(world.sign(&sheet, "sam").await.good()["state"], "approved");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_an_agent_does_not_sign_its_playbook() {
    let world = World::start().await;
    let sheet = world.proposed_by("olga", &world.draft()).await;
    world.sign(&sheet, "alice").await.refused(403, "approver_ineligible", "they own the agent");
    // In none of the groups, and no approver.
    world.sign(&sheet, "rita").await.refused(403, "approver_ineligible", "in none of the groups");
    world.sign(&sheet, "audrey").await.refused(403, "approver_ineligible", "not an approver");
    assert_eq!(world.sign(&sheet, "sam").await.good()["state"], "pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_author_of_the_rules_does_not_sign_where_policy_separates_them() {
    let world = World::start().await;
    world
        .b
        .reload(|written| {
            written.guardrails = written.guardrails.replace("authors = [\"audrey\"]", "authors = [\"erin\"]");
        })
        .await;
    let open = world.proposed_by("olga", &world.draft()).await;
    world.sign(&open, "erin").await.good();
    world
        .b
        .reload(|written| {
            let separate = "@approvals(\"on-call: 2\")\n@separate(\"authors\")";
            written.policy = written.policy.replacen("@approvals(\"on-call: 2\")", separate, 1);
        })
        .await;
    let separated = world.proposed_by("olga", &world.draft()).await;
    world.sign(&separated, "erin").await.refused(403, "approver_ineligible", "separation of duties");
    world.sign(&separated, "bob").await.good();
    assert_eq!(world.sign(&separated, "sam").await.good()["state"], "approved");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_keys_of_one_person_are_no_quorum_for_a_playbook() {
    let world = World::start().await;
    let sheet = world.proposed_by("olga", &world.draft()).await;
    world.sign(&sheet, "bob").await.good();
    world.sign_with_key(&sheet, "bob", "bob2").await.refused(409, "already_answered", "different people");
    world.waits_for_people(&world.ask().await, "no playbook is for it").await;
    assert_eq!(world.sign(&sheet, "erin").await.good()["state"], "approved");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_denial_ends_a_playbook_that_waits() {
    let world = World::start().await;
    let sheet = world.proposed_by("olga", &world.draft()).await;
    world.sign(&sheet, "bob").await.good();
    let token = world.b.signed("erin", &world.claims(&sheet, "erin", Answer::Deny));
    let denied = world.answer(&sheet, &json!({"token": token, "reason": REASON})).await.good();
    assert_eq!(denied["state"], "denied");
    world.sign(&sheet, "sam").await.refused(409, "grant_not_open", "denied");
    assert_eq!(world.listed(&sheet).await, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_over_a_single_grant_signs_no_playbook() {
    let world = World::start().await;
    let sheet = world.proposed_by("olga", &world.draft()).await;
    let it = world.ask().await;
    let token = world.b.approval("bob", &it.sealed);
    world.answer(&sheet, &json!({ "token": token })).await.refused(422, "approval_invalid", "another");
    let mut claims = world.claims(&sheet, "bob", Answer::Approve);
    claims.sub = "fixer".into();
    let token = world.b.signed("bob", &claims);
    world.answer(&sheet, &json!({ "token": token })).await.refused(422, "approval_invalid", "another agent");
    world.sign(&sheet, "bob").await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn people_sign_a_playbook_with_the_ordinary_command_and_read_what_it_lets_run() {
    let world = World::start().await;
    let sheet = world.proposed_by("olga", &world.draft()).await;
    let mut shown = Vec::new();
    for person in ["bob", "erin"] {
        let client = world.b.person(person).await;
        let mut yes = |text: &str, _: &str| {
            shown.push(text.to_owned());
            true
        };
        sign_with(&client, sheet.grant, &mut yes).await.unwrap();
    }
    for told in
        ["night-restarts", "restart-service", "checkout", "cart", "memory-leak", "fixer", "health", "down"]
    {
        assert!(shown.iter().all(|text| text.contains(told)), "`{told}` is not shown: {}", shown[0]);
    }
    let it = world.ask().await;
    world.runs_by_itself(&it, &sheet);
    world.run(&it).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playbook_that_nobody_signed_in_time_lapses() {
    let world = World::start().await;
    let sheet = world.proposed_by("olga", &world.draft()).await;
    world.sign(&sheet, "bob").await.good();
    world.b.clock.pass(901);
    world.sign(&sheet, "erin").await.refused(422, "approval_invalid", "it could be signed until");
    world.b.sweep().await;
    world.sign(&sheet, "erin").await.refused(422, "approval_invalid", "it could be signed until");
    assert_eq!(world.listed(&sheet).await, Value::Null);
}
