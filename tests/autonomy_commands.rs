//! Playbooks, reviews, freezes, break-glass and bound plans, by the commands that people and agents type against the
//! broker of `phasebroker dev`: what goes through, what does not, and what each mistake is answered with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod dev_world;
mod peers;

use dev_world::{DevWorld, Ran};
use serde_json::Value;

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("`{member}` of {value}"))
}

/// The agent restarts a service of the demo, and says so.
fn restart(world: &DevWorld, service: &str) -> Ran {
    let service = format!("service={service}");
    let action = ["--action", "restart-service", "--param", &service, "--param", "reason_code=memory-leak"];
    world.exec(&[&action[..], &["--wait", "1", "--", "echo", "restarted"]].concat())
}

/// Olga proposes the shipped playbook; gives its grant and short code.
fn proposed(world: &DevWorld) -> (String, String) {
    let file = world.path("playbook.toml").display().to_string();
    let answer = world.json("olga", &["playbooks", "propose", "--file", &file]);
    (text(&answer, "grant").to_owned(), text(&answer, "short_code").to_owned())
}

/// Olga proposes and bob signs; gives its grant.
fn in_force(world: &DevWorld) -> String {
    let (grant, code) = proposed(world);
    let said = world.typing("bob", &["playbooks", "sign", &grant], &code).ends(0);
    assert!(said.contains("it is in force"), "{said}");
    grant
}

fn state(world: &DevWorld, grant: &str) -> String {
    let list = world.json("bob", &["playbooks", "list"]);
    let all = list["playbooks"].as_array().unwrap();
    let found = all.iter().find(|one| one["grant"] == grant);
    found.map_or("absent".to_owned(), |one| text(one, "state").to_owned())
}

fn open_review(world: &DevWorld) -> Value {
    let list = world.json("erin", &["reviews", "list", "--open"]);
    let [only] = list["reviews"].as_array().unwrap().as_slice() else { panic!("one review: {list}") };
    only.clone()
}

#[test]
fn a_signed_playbook_needs_no_further_signature_and_a_proposed_one_does() {
    let world = DevWorld::start();
    let (grant, code) = proposed(&world);
    let shown = world.person("bob", &["playbooks", "show", &grant]).ends(0);
    for part in ["restart-degraded", "checkout", "service-state", "degraded"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    world.typing("bob", &["playbooks", "sign", &grant], "yes").ends(4);
    assert_eq!(state(&world, &grant), "absent", "nobody signed it");
    let said = restart(&world, "checkout").ends(126);
    assert!(said.contains("waiting for 1 of on-call") && !said.contains("restarted"), "{said}");

    world.typing("bob", &["playbooks", "sign", &grant], &code).ends(0);
    assert_eq!(state(&world, &grant), "active");
    let ran = restart(&world, "checkout");
    assert_eq!(ran.out, "restarted\n", "{ran:?}");
    assert!(ran.ends(0).contains("lies inside a playbook"));
    let table = world.person("bob", &["playbooks", "list"]).ends(0);
    assert!(table.contains("1 of 20") && table.contains("restart-degraded"), "{table}");
    // Healthy, so that nothing starts the playbook: people are asked.
    let said = restart(&world, "payments").ends(126);
    assert!(said.contains("waiting for 1 of on-call") && !said.contains("restarted"), "{said}");
}

#[test]
fn a_review_is_accepted_by_no_party_to_the_action_and_a_rejected_one_ends_the_playbook() {
    let world = DevWorld::start();
    let grant = in_force(&world);
    restart(&world, "checkout").ends(0);
    let first = text(&open_review(&world), "review").to_owned();
    let shown = world.person("erin", &["reviews", "show", &first]).ends(0);
    assert!(shown.contains("under the playbook") && shown.contains("state open"), "{shown}");
    let refused = world.person("alice", &["reviews", "accept", &first, "--note", "fine"]).ends(1);
    assert!(refused.contains("`alice` may not review this"), "{refused}");
    let answer = world.json("erin", &["reviews", "accept", &first, "--note", "it was degraded"]);
    assert_eq!((text(&answer, "state"), text(&answer, "by")), ("accepted", "erin"));
    let again = world.person("erin", &["reviews", "reject", &first, "--note", "no"]).ends(1);
    assert!(again.contains("decided already"), "{again}");
    assert_eq!(state(&world, &grant), "active");

    restart(&world, "checkout").ends(0);
    let second = text(&open_review(&world), "review").to_owned();
    assert_ne!(first, second);
    let said = world.person("erin", &["reviews", "reject", &second, "--note", "it was fine"]).ends(0);
    assert!(said.contains("is rejected") && said.contains("is suspended"), "{said}");
    assert_eq!(state(&world, &grant), "suspended");
    restart(&world, "checkout").ends(126);
    let table = world.person("erin", &["reviews", "list"]).ends(0);
    assert!(table.contains("accepted") && table.contains("rejected"), "{table}");
}

#[test]
fn a_suspended_playbook_covers_nothing_and_another_can_take_its_name() {
    let world = DevWorld::start();
    let grant = in_force(&world);
    let file = world.path("playbook.toml").display().to_string();
    let taken = world.person("olga", &["playbooks", "propose", "--file", &file]).ends(1);
    assert!(taken.contains("in force already"), "{taken}");
    let suspend = ["playbooks", "suspend", &grant, "--reason", "drill"];
    world.json("bob", &suspend);
    assert_eq!(state(&world, &grant), "suspended");
    restart(&world, "checkout").ends(126);
    let again = world.person("bob", &suspend).ends(1);
    assert!(again.contains("suspended already"), "{again}");
    let next = in_force(&world);
    assert_eq!((state(&world, &next), state(&world, &grant)), ("active".into(), "suspended".into()));
    restart(&world, "checkout").ends(0);
}

#[test]
fn a_freeze_is_one_persons_word_and_lifting_it_takes_two() {
    let world = DevWorld::start();
    in_force(&world);
    let none = world.person("olga", &["freezes", "list"]).ends(0);
    assert!(none.contains("nothing is frozen"), "{none}");
    let frozen = world.json("olga", &["freeze", "--agent", "fixer", "--reason", "drill"]);
    assert_eq!((text(&frozen, "key"), &frozen["recorded"]), ("agent:fixer", &Value::Bool(true)));
    let refused = restart(&world, "checkout").ends(126);
    assert!(refused.contains("frozen") && refused.contains("agent:fixer"), "{refused}");

    let unfreeze = ["unfreeze", "--agent", "fixer", "--reason", "over"];
    let asked = world.json("olga", &unfreeze);
    let (grant, code) = (text(&asked, "grant"), text(&asked, "short_code"));
    let list = world.person("bob", &["approvals", "list"]).ends(0);
    assert!(list.contains(grant) && list.contains("administration"), "{list}");
    let said = world.typing("bob", &["approvals", "sign", grant], code).ends(0);
    assert!(said.contains("still missing: 1 of data-owners"), "{said}");
    assert_eq!(world.json("olga", &["freezes", "list"])["freezes"][0]["key"], "agent:fixer");
    restart(&world, "checkout").ends(126);
    let said = world.typing("dana", &["approvals", "sign", grant], code).ends(0);
    assert!(said.contains("it is in force"), "{said}");
    assert_eq!(world.json("olga", &["freezes", "list"])["freezes"], serde_json::json!([]));
    restart(&world, "checkout").ends(0);
    let nothing = world.person("olga", &unfreeze).ends(1);
    assert!(nothing.contains("`agent:fixer` is not frozen"), "{nothing}");
}

#[test]
fn what_is_only_suggested_runs_past_the_policy_when_a_person_asks_and_two_sign() {
    let world = DevWorld::start();
    let scale = ["--action", "scale-service", "--param", "service=checkout", "--param", "replicas=3"];
    let suggested = world.exec(&[&scale[..], &["--", "echo", "scaled"]].concat()).ends(126);
    assert!(suggested.contains("is a suggestion") && !suggested.contains("scaled\n"), "{suggested}");
    let list = world.json("bob", &["approvals", "list", "--suggested"]);
    assert_eq!(list["approvals"][0]["summary"], "Run 3 replicas of checkout");
    assert_eq!(world.json("bob", &["approvals", "list"])["approvals"], serde_json::json!([]));

    let token = world.person("olga", &["requester-token"]);
    let asked = world.file("asked", &token.out);
    let key = world.path("claim.key").display().to_string();
    let glass =
        ["--break-glass", "--requester-token-file", &asked, "--propose-only", "--claim-key-file", &key];
    let ran = world.exec(&[&scale[..], &glass[..]].concat());
    let grant = ran.out.trim().to_owned();
    ran.ends(0);
    let again = world.exec(&[&scale[..], &glass[..]].concat());
    assert!(again.out.is_empty(), "one token opens one run: {again:?}");
    again.ends(126);

    let list = world.json("bob", &["approvals", "list"]);
    let code = text(&list["approvals"][0], "short_code").to_owned();
    assert_eq!(list["approvals"][0]["grant"], grant.as_str());
    let own = world.typing("olga", &["approvals", "sign", &grant], &code).ends(4);
    assert!(own.contains("no self-approval"), "{own}");
    let claim = ["--grant", &grant, "--claim-key-file", &key, "--wait", "1", "--", "echo", "scaled"];
    world.typing("bob", &["approvals", "sign", &grant], &code).ends(0);
    let one = world.exec(&claim);
    assert!(one.out.is_empty(), "one of two has signed: {one:?}");
    one.ends(126);
    world.typing("dana", &["approvals", "sign", &grant], &code).ends(0);
    let both = world.exec(&claim);
    assert_eq!(both.out, "scaled\n", "{both:?}");
    both.ends(0);
    let reviews = world.person("erin", &["reviews", "list"]).ends(0);
    assert!(reviews.contains("BREAK-GLASS") && reviews.contains("open"), "{reviews}");
}

#[test]
fn a_plan_that_changed_after_people_signed_is_refused_and_the_signed_one_is_not() {
    let world = DevWorld::start();
    let plan = world.file("tf.plan", "replace one node\n");
    let key = world.path("claim.key").display().to_string();
    let restart = ["--action", "restart-service", "--param", "service=checkout"];
    let more = ["--param", "reason_code=memory-leak", "--only-while", "service-state=degraded"];
    let bound = ["--plan", &plan, "--propose-only", "--claim-key-file", &key];
    let ran = world.exec(&[&restart[..], &more[..], &bound[..]].concat());
    let grant = ran.out.trim().to_owned();
    ran.ends(0);
    let list = world.json("bob", &["approvals", "list"]);
    let code = text(&list["approvals"][0], "short_code").to_owned();
    world.typing("bob", &["approvals", "sign", &grant], &code).ends(0);

    let claim = |more: &[&str]| {
        let grant = ["--grant", &grant, "--claim-key-file", &key];
        world.exec(&[&grant[..], more, &["--", "echo", "applied"]].concat())
    };
    world.file("tf.plan", "replace every node\n");
    for (more, code) in [(&["--plan", &plan][..], 126), (&[][..], 126), (&["--plan", "/no/plan"][..], 2)] {
        let refused = claim(more);
        assert!(refused.out.is_empty() && refused.err.contains("plan"), "{more:?}: {refused:?}");
        refused.ends(code);
    }
    world.file("tf.plan", "replace one node\n");
    let ran = claim(&["--plan", &plan]);
    assert_eq!(ran.out, "applied\n", "{ran:?}");
    ran.ends(0);
}

#[test]
fn every_mistake_of_a_person_has_its_exit_code_and_says_what_it_is() {
    let world = DevWorld::start();
    let shipped = std::fs::read_to_string(world.path("playbook.toml")).unwrap();
    let changed = |name: &str, from: &str, to: &str| world.file(name, &shipped.replacen(from, to, 1));
    let unknown_key = changed("a", "max_uses = 20", "max_use = 20");
    let no_date = changed("b", "not_after = \"2", "not_after = \"soon 2");
    let no_probe = changed("c", "\"service-state\"", "\"weather\"");
    let no_agent = changed("d", "[\"fixer\"]", "[\"nobody\"]");
    let out_of_range = changed("e", "\"memory-leak\"]", "\"whim\"]");
    let reason = r#"reason_code = { values = ["high-latency", "memory-leak"] }"#;
    let snapshot = r#"snapshot = { values = ["snap-0a1b"] }"#;
    let data = shipped.replace("restart-service", "restore-data").replace(reason, snapshot);
    let data = world.file("f", &data);
    let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let propose = |file| vec!["playbooks", "propose", "--file", file];
    let cases: Vec<(Vec<&str>, i32, &str)> = vec![
        (propose("/no/such.toml"), 2, "/no/such.toml"),
        (propose(&unknown_key), 2, "max_use"),
        (propose(&no_date), 2, "not_after"),
        (propose(&no_probe), 1, "`weather` is no probe"),
        (propose(&no_agent), 1, "`nobody` is no agent"),
        (propose(&out_of_range), 1, "reason_code"),
        (propose(&data), 1, "policy answers `needs_approval`"),
        (vec!["playbooks", "sign", id], 1, "grant"),
        (vec!["playbooks", "show", "x"], 2, "invalid value 'x'"),
        (vec!["playbooks", "suspend", id, "--reason", "r"], 1, id),
        (vec!["playbooks", "suspend", id], 2, "--reason"),
        (vec!["reviews", "show", id], 1, "no review"),
        (vec!["reviews", "accept", id], 2, "--note"),
        (vec!["reviews", "reject", id, "--note", " "], 2, "say what you found"),
        (vec!["freeze", "--agent", "nobody", "--reason", "r"], 1, "nobody"),
        (vec!["freeze", "--everything", "--agent", "fixer", "--reason", "r"], 2, "cannot be used with"),
        (vec!["freeze", "--everything"], 2, "--reason"),
        (vec!["unfreeze", "--action", "restart-service", "--reason", "r"], 1, "is not frozen"),
    ];
    for (words, code, telling) in cases {
        let said = world.person("olga", &words).ends(code);
        assert!(said.contains(telling), "{words:?}: {said}");
    }
}

#[test]
fn every_mistake_of_an_agents_command_is_found_before_it_runs() {
    let world = DevWorld::start();
    let empty = world.file("empty", "\n");
    let forged = world.file("forged", "a.b.c\n");
    let restart = ["--action", "restart-service", "--param", "service=checkout"];
    let reason = ["--param", "reason_code=memory-leak", "--wait", "1"];
    for (more, code, telling) in [
        (&["--only-while", "service-state"][..], 2, "PROBE=VALUE"),
        (&["--only-while", "weather=fine"][..], 126, "is no probe of this broker"),
        (&["--only-while", "service-state=healthy"][..], 126, "does not hold, or cannot be"),
        (&["--plan", "/no/plan"][..], 2, "/no/plan"),
        (&["--alert", "/no/alert"][..], 2, "/no/alert"),
        (&["--alert", &empty][..], 2, "is empty"),
        (&["--break-glass"][..], 2, "--requester-token-file"),
        (&["--requester-token-file", &empty][..], 2, "is empty"),
        (&["--requester-token-file", &forged][..], 126, "`requester_token`: not a compact JWS"),
    ] {
        let ran = world.exec(&[&restart[..], &reason, more, &["--", "echo", "ran"]].concat());
        assert!(ran.out.is_empty() && ran.err.contains(telling), "{more:?}: {ran:?}");
        ran.ends(code);
    }
    for more in [&["--only-while", "a=b"][..], &["--alert", &forged], &["--plan", &forged]] {
        let observe = ["--phase", "observe", "--set", "service-status"];
        let ran = world.exec(&[&observe[..], more, &["--", "echo", "ran"]].concat());
        assert!(ran.out.is_empty(), "what is not looked at is not taken: {more:?}: {ran:?}");
        ran.ends(2);
    }
}

#[test]
fn dev_prints_every_command_with_its_values() {
    let world = DevWorld::start();
    for part in ["playbooks propose --file", "--suggested", "requester-token", "--break-glass", "unfreeze"] {
        assert!(world.said.contains(part), "{part}: {}", world.said);
    }
    assert!(world.said.contains(&world.path("playbook.toml").display().to_string()), "{}", world.said);
}
