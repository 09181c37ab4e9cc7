//! Ceilings of the shipped catalog, and catalogs that have none.

use serde_json::{Value, json};

use super::*;
use crate::catalog::document::CatalogDocument;
use crate::catalog::iam::ActionTable;

const SHIPPED: &str = include_str!("../../../config/catalog.toml");

fn catalog(text: &str) -> Catalog {
    Catalog::check(&CatalogDocument::from_toml(text).unwrap(), ActionTable::embedded().unwrap()).unwrap()
}

fn policy(made: &Ceilings, environment: &str, role: &str) -> Value {
    let one = &made.environments[&environment.parse().unwrap()].roles[role];
    serde_json::from_str(one.ceiling.as_deref().unwrap()).unwrap()
}

/// An entry of the shipped catalog's form, whose session may do `action` on `resource`.
fn entry(name: &str, class: &str, more: &str, statement: &str) -> String {
    format!(
        "\n[actions.{name}]\nsummary = \"x\"\nprovider = \"aws\"\nclass = \"{class}\"\nrollback = \"x\"\nchanges = 1\n\
         max_work_seconds = 60\nenvironments = [\"staging\"]\n{more}\n[[actions.{name}.statements]]\n{statement}\n"
    )
}

#[test]
fn a_ceiling_keeps_literal_parts_and_stays_in_its_account_and_region() {
    let made = ceilings(&catalog(SHIPPED)).unwrap();
    let execute = policy(&made, "staging", "execute").to_string();
    for part in [
        "arn:aws:ec2:eu-central-1:444455556666:instance/i-*",
        "arn:aws:ec2:eu-central-1:444455556666:network-interface/eni-*",
        "autoScalingGroup:????????-????-????-????-????????????:autoScalingGroupName/?*",
        r#""ArnLike":{"ecs:task-definition":["arn:aws:ecs:eu-central-1:444455556666:task-definition/?*:?*"]}"#,
        r#""Bool":{"rds:PubliclyAccessible":["false"]}"#,
    ] {
        assert!(execute.contains(part), "{part} is missing in {execute}");
    }
    for foreign in ["111122223333", "iam:", "secretsmanager", "ec2:DescribeI", "not_after", "restart-service"]
    {
        assert!(!execute.contains(foreign), "{foreign} is in {execute}");
    }
    let trust = policy(&made, "staging", "trust").to_string();
    assert!(trust.contains("iam:DetachRolePolicy") && trust.contains("secret:*-??????"), "{trust}");
    assert!(!trust.contains("ec2:Re") && !trust.contains("ec2:DescribeI"), "{trust}");
}

#[test]
fn a_role_of_which_the_catalog_says_nothing_has_no_ceiling() {
    let environments = SHIPPED.split("[actions.").next().unwrap();
    let made = ceilings(&catalog(environments)).unwrap();
    let production = &made.environments[&"production".parse().unwrap()];
    assert_eq!(
        production.roles.keys().map(String::as_str).collect::<Vec<_>>(),
        ["execute", "observe", "trust"]
    );
    assert!(production.roles.values().all(|role| role.ceiling.is_none()));
}

#[test]
fn what_every_boundary_denies_is_refused_and_iam_needs_trust() {
    let role = "actions = [\"iam:DeleteRole\"]\nresources = [\"arn:{partition}:iam::{account}:role/x\"]";
    let refused = ceilings(&catalog(&(SHIPPED.to_owned() + &entry("drop", "data", "", role)))).unwrap_err();
    assert!(
        matches!(&refused[..], [Refusal::Denied { entry, needs_trust: true, .. }] if entry == "drop"),
        "{refused:?}"
    );
    assert!(ceilings(&catalog(&(SHIPPED.to_owned() + &entry("drop", "trust", "", role)))).is_ok());
    let assume = "actions = [\"sts:AssumeRole\"]\nresources = [\"arn:{partition}:iam::{account}:role/x\"]";
    let named = "exceptions = [\"sts:AssumeRole\"]";
    for class in ["data", "trust"] {
        let text = SHIPPED.to_owned() + &entry("hop", class, named, assume);
        let refused = ceilings(&catalog(&text)).unwrap_err();
        assert!(refused[0].to_string().contains("`sts:AssumeRole`: leave it out"), "{refused:?}");
    }
}

#[test]
fn a_catalog_that_no_boundary_holds_is_refused_and_its_largest_entries_are_named() {
    let mut text = SHIPPED.to_owned();
    for at in 0..40 {
        let long = "x".repeat(80);
        text += &entry(
            &format!("restart-{at}"),
            "availability",
            "",
            &format!(
                "actions = [\"ecs:UpdateService\"]\nresources = [\"arn:{{partition}}:ecs:{{region}}:{{account}}:service/{long}/s{at}\"]"
            ),
        );
    }
    let refused = ceilings(&catalog(&text)).unwrap_err();
    let [Refusal::TooLong { role: "execute", characters, largest, .. }] = &refused[..] else {
        panic!("{refused:?}")
    };
    assert!(*characters > MANAGED_POLICY_CHARS && largest.len() == NAMED, "{refused:?}");
    let told = refused[0].to_string();
    assert!(told.contains(&largest[0].0) && told.contains("into another environment"), "{told}");
    assert!(told.contains("with the same `web_identity`"), "{told}");
}

#[test]
fn environments_that_share_a_role_are_refused() {
    let text = SHIPPED.replace("444455556666", "111122223333");
    let refused = ceilings(&catalog(&text)).unwrap_err();
    assert!(
        refused.iter().all(|one| matches!(one, Refusal::SharedRole { .. })) && refused.len() == 3,
        "{refused:?}"
    );
    assert!(refused[0].to_string().contains("roles of its own"));
}

#[test]
fn every_shard_of_the_execute_role_has_the_same_ceiling() {
    let role = "execute_role = \"arn:aws:iam::444455556666:role/phasebroker-execute\"";
    let made = ceilings(&catalog(&SHIPPED.replace(role, &format!("{role}\nshards = 3")))).unwrap();
    let staging = &made.environments[&"staging".parse().unwrap()];
    let roles: Vec<&str> = staging.roles.keys().map(String::as_str).collect();
    assert_eq!(roles, ["execute", "execute-1", "execute-2", "observe", "trust"]);
    assert_eq!(staging.roles["execute-2"].arn, "arn:aws:iam::444455556666:role/phasebroker-execute-2");
    assert_eq!(staging.roles["execute-1"].ceiling, staging.roles["execute"].ceiling);
    assert!(made.environments[&"production".parse().unwrap()].roles.len() == 3, "the others have none");
}

#[test]
fn without_an_account_there_is_nothing_to_set_up() {
    let text = "[environments.demo.jwt]\naudience = \"http://127.0.0.1:8478\"\n";
    assert_eq!(ceilings(&catalog(text)).unwrap_err(), [Refusal::NoAccount]);
}

#[test]
fn a_role_may_do_what_a_canary_does_only_when_one_of_its_entries_has_one() {
    let class = "class = \"trust\"\nrollback = \"The previous version";
    let marked = SHIPPED.replacen(class, &format!("canary = true\n{class}"), 1);
    assert_ne!(marked, SHIPPED);
    let canary = json!({"Effect": "Allow", "Action": ["ec2:DescribeRegions"], "Resource": ["*"]});
    let has = |text: &str, role: &str| {
        let policy = policy(&ceilings(&catalog(text)).unwrap(), "staging", role);
        policy["Statement"].as_array().unwrap().contains(&canary)
    };
    assert!(has(&marked, "trust"));
    for (text, role) in [(marked.as_str(), "execute"), (&marked, "observe"), (SHIPPED, "trust")] {
        assert!(!has(text, role), "{role}");
    }
}
