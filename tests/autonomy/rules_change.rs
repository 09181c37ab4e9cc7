//! Rules that change under a playbook: configuration takes autonomy away, and never gives any.

use serde_json::json;

use super::world::World;
use crate::broker::fresh;
use crate::broker::rules::Written;

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_says_autonomous_runs_nothing_without_a_playbook() {
    let world = World::start().await;
    world.waits_for_people(&world.ask().await, "no playbook is for it").await;
    world
        .b
        .reload(|written| {
            written.policy = r#"
@id("everything")
@decision("autonomous")
@approvals("on-call: 1, data-owners: 1")
@custody("file")
permit (principal, action == Action::"execute", resource);
"#
            .into();
        })
        .await;
    let it = world.ask().await;
    world.waits_for_people(&it, "no playbook is for it").await;
    assert_eq!(it.proposed.reasons[0], "everything");
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_of_somebody_who_left_cover_nothing() {
    let world = World::start().await;
    let sheet = world.in_force().await;
    let it = world.ask().await;
    world.runs_by_itself(&it, &sheet);
    world.b.reload(|written| written.remove("erin")).await;
    world.refuses_the_claim(&it, 422, "approvals_missing", "missing: 1 of on-call").await;
    world.waits_for_people(&world.ask().await, "its signatures do not suffice today").await;
    // Whoever did not sign it may leave.
    let other = World::start().await;
    let sheet = other.in_force().await;
    other.b.reload(|written| written.remove("rita")).await;
    other.runs_by_itself(&other.ask().await, &sheet);
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_of_somebody_who_left_the_group_or_changed_the_key_cover_nothing() {
    let changes: [fn(&mut Written); 2] = [
        |written| written.directory["groups"]["on-call"]["people"] = json!(["alice", "bob", "sam"]),
        |written| {
            let key = |person: &str| written.directory["people"][person]["keys"].clone();
            let (erins, ritas) = (key("erin"), key("rita"));
            written.directory["people"]["erin"]["keys"] = ritas;
            written.directory["people"]["rita"]["keys"] = erins;
        },
    ];
    for change in changes {
        let world = World::start().await;
        world.in_force().await;
        let it = world.ask().await;
        world.b.reload(change).await;
        world.refuses_the_claim(&it, 422, "approvals_missing", "missing: 1 of on-call").await;
        world.waits_for_people(&world.ask().await, "its signatures do not suffice today").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stricter_rule_afterwards_makes_old_signatures_too_few() {
    for stricter in ["on-call: 3", "on-call: 2, data-owners: 1"] {
        let world = World::start().await;
        let sheet = world.in_force().await;
        let it = world.ask().await;
        world.runs_by_itself(&it, &sheet);
        world.b.reload(|written| written.policy = written.policy.replacen("on-call: 2", stricter, 1)).await;
        world.refuses_the_claim(&it, 422, "approvals_missing", "its signatures do not suffice today").await;
        world.waits_for_people(&world.ask().await, "its signatures do not suffice today").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_laxer_rule_afterwards_takes_nothing_from_the_signed_one() {
    let world = World::start().await;
    let half = world.proposed_by("olga", &world.draft()).await;
    world.sign(&half, "bob").await.good();
    world.b.reload(|written| written.policy = written.policy.replacen("on-call: 2", "on-call: 1", 1)).await;
    // One signature is what policy asks for today; two are what the document says.
    world.waits_for_people(&world.ask().await, "no playbook is for it").await;
    world.sign(&half, "erin").await.good();
    world.runs_by_itself(&world.ask().await, &half);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_author_who_signed_does_not_count_once_policy_separates_authors() {
    let world = World::start().await;
    let sheet = world.in_force().await;
    let it = world.ask().await;
    world.runs_by_itself(&it, &sheet);
    world
        .b
        .reload(|written| {
            written.guardrails = written.guardrails.replace("authors = [\"audrey\"]", "authors = [\"erin\"]");
        })
        .await;
    world.runs_by_itself(&world.ask().await, &sheet);
    world
        .b
        .reload(|written| {
            let separate = "@approvals(\"on-call: 2\")\n@separate(\"authors\")";
            written.policy = written.policy.replacen("@approvals(\"on-call: 2\")", separate, 1);
        })
        .await;
    world.refuses_the_claim(&it, 422, "approvals_missing", "missing: 1 of on-call").await;
    world.waits_for_people(&world.ask().await, "its signatures do not suffice today").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_catalog_entry_is_not_the_one_that_people_signed() {
    let entry = "summary = \"Restart the service {service} ({reason_code})\"\nprovider = \"jwt\"\nclass = \"availability\"\nsettles = \"None needed\"\nchanges = 1";
    let edits = [
        (entry, entry.replace("changes = 1", "changes = 2")),
        (entry, entry.replace("Restart the service", "Restart everything of")),
        (entry, entry.replace("settles = \"None needed\"", "settles = \"By itself\"")),
        ("values = [\"high-latency\", ", "values = [".to_owned()),
        (
            "audience = \"http://127.0.0.1:8478\"\nintrospects = true",
            "audience = \"http://127.0.0.1:8478\"".into(),
        ),
    ];
    for (was, is) in edits {
        let world = World::start().await;
        let sheet = world.in_force().await;
        world.runs_by_itself(&world.ask().await, &sheet);
        let it = world.ask().await;
        world
            .b
            .reload(|written| {
                assert!(written.catalog.contains(was), "{was}");
                written.catalog = written.catalog.replacen(was, &is, 1);
            })
            .await;
        let reply = world.claim(&it).await;
        assert!(matches!(reply.code(), "plan_changed" | "approvals_missing"), "{is}: {}", reply.text);
        world.waits_for_people(&world.ask().await, "its catalog entry changed since it was signed").await;
        // An entry of something else is none of its business.
        let reason = world.listed(&sheet).await["why_out"].clone();
        assert!(reason.as_str().unwrap().contains("catalog entry"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_changes_elsewhere_leaves_a_playbook_in_force() {
    let world = World::start().await;
    let sheet = world.in_force().await;
    world
        .b
        .reload(|written| {
            written.catalog =
                written.catalog.replacen("Reboot the EC2 instance", "Restart the EC2 instance", 1);
        })
        .await;
    let it = world.ask().await;
    world.runs_by_itself(&it, &sheet);
    world.run(&it).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_the_class_data_is_covered_by_nothing() {
    let world = World::start().await;
    world.in_force().await;
    let it = world.ask().await;
    world
        .b
        .reload(|written| {
            written.catalog = written.catalog.replacen("class = \"availability\"", "class = \"data\"", 1);
            written.policy = written.policy.replacen("on-call: 2", "on-call: 1, data-owners: 1", 1);
        })
        .await;
    let reply = world.claim(&it).await;
    assert!(matches!(reply.code(), "plan_changed" | "approvals_missing"), "{}", reply.text);
    world.waits_for_people(&world.ask().await, "floor.data").await;
}

/// Policy that asks people where `when` holds.
fn step_up(written: &mut Written, when: &str) {
    written.policy.push_str(&format!(
        "\n@id(\"step-up\")\n@decision(\"needs_approval\")\n@approvals(\"on-call: 1, data-owners: 1\")\n\
         @custody(\"file\")\npermit (principal, action == Action::\"execute\", resource){when};\n"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_asks_for_people_afterwards_refuses_the_claim() {
    let world = World::start().await;
    world.in_force().await;
    let it = world.ask().await;
    world.b.reload(|written| step_up(written, "")).await;
    world.refuses_the_claim(&it, 422, "approvals_missing", "policy asks for people now").await;
    world.waits(&world.ask().await, "step-up");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_read_something_untrusted_meanwhile_does_not_claim_by_itself() {
    let world = World::start().await;
    world.b.reload(|written| step_up(written, " when { context.tainted }")).await;
    let sheet = world.in_force().await;
    let it = world.ask().await;
    world.runs_by_itself(&it, &sheet);
    let run = it.deciding.run;
    let (path, read) = (format!("/v1/runs/{run}/observations"), json!({"source": "a web page"}));
    world.b.by_agent("fixer", &fresh(), "POST", &path, Some(&read)).await.good();
    world.refuses_the_claim(&it, 422, "approvals_missing", "step-up").await;
    world.waits(&world.ask().await, "step-up");
    world.b.clock.pass(3601);
    world.runs_by_itself(&world.ask().await, &sheet);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_whose_line_was_crossed_meanwhile_asks_for_people() {
    let world = World::start().await;
    world
        .b
        .reload(|written| {
            written.guardrails = written.guardrails.replace("step_up_at = 10000\n", "step_up_at = 1\n");
            step_up(written, " when { context.crossed.contains(Budget::\"agent-hour\") }");
        })
        .await;
    let sheet = world.in_force().await;
    let (first, second) = (world.ask().await, world.ask().await);
    world.runs_by_itself(&first, &sheet);
    world.runs_by_itself(&second, &sheet);
    world.run(&first).await;
    world.refuses_the_claim(&second, 422, "approvals_missing", "step-up").await;
    world.waits(&world.ask().await, "step-up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_holds_up_what_lies_inside_a_playbook() {
    let world = World::start().await;
    world.in_force().await;
    let it = world.ask().await;
    let body = json!({"key": "action:restart-service", "reason": "wait"});
    world.b.by_person("olga", "POST", "/v1/freezes", Some(&body)).await.good();
    world.claim(&it).await.refused(403, "frozen", "is frozen");
}
