//! What a proposal compiles to, and what is refused.

use serde_json::json;

use super::*;
use crate::catalog::iam::ActionTable;
use crate::catalog::{CatalogDocument, inverse_proposal};
use crate::domain::time::Timestamp;

const SHIPPED: &str = include_str!("../../../config/catalog.toml");

fn catalog(text: &str) -> Catalog {
    Catalog::check(&CatalogDocument::from_toml(text).unwrap(), ActionTable::embedded().unwrap()).unwrap()
}

fn ids() -> Ids {
    Ids { grant: GrantId::nil(), lease: LeaseId::nil(), claiming_agent: "sre-agent".parse().unwrap() }
}

fn proposal(action: &str, environment: &str, parameters: Value) -> Proposal {
    let claim_key = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
    let written = json!({
        "action": action, "environment": environment, "parameters": parameters, "claim_key": claim_key,
    });
    serde_json::from_value(written).unwrap()
}

fn refused(proposal: &Proposal) -> CompileError {
    compile(proposal, &ids(), &catalog(SHIPPED)).unwrap_err()
}

fn reboot(parameters: Value) -> Proposal {
    proposal("reboot-instance", "production", parameters)
}

#[test]
fn a_plan_names_the_role_the_arn_and_the_longest_work_time() {
    let plan = compile(&reboot(json!({"instance": "i-0abc1234"})), &ids(), &catalog(SHIPPED)).unwrap();
    let Credential::Aws(aws) = plan.credential() else { panic!() };
    assert!(aws.session_policy.contains("arn:aws:ec2:eu-central-1:111122223333:instance/i-0abc1234"));
    assert_eq!((aws.work_seconds, aws.revocability), (120, Revocability::Seconds));
    assert_eq!(plan.action().summary, "Reboot the EC2 instance i-0abc1234");
}

#[test]
fn unknown_types_and_other_environments_are_refused() {
    let good = json!({"instance": "i-0abc1234"});
    let unknown = refused(&proposal("reboot-planet", "production", good.clone()));
    assert_eq!(unknown, CompileError::UnknownType("reboot-planet".into()));
    for place in ["demo", "moon"] {
        let error = refused(&proposal("reboot-instance", place, good.clone()));
        assert!(matches!(error, CompileError::Environment { .. }), "{error}");
    }
}

#[test]
fn each_wrong_parameter_has_an_error_of_its_own() {
    let is = |parameters: Value, fits: fn(&CompileError) -> bool| {
        let error = refused(&reboot(parameters.clone()));
        assert!(fits(&error), "{parameters}: {error}");
    };
    is(json!({}), |e| matches!(e, CompileError::MissingParameter { .. }));
    is(json!({"instance": "i-0abc1234", "force": true}), |e| {
        matches!(e, CompileError::UnknownParameter { .. })
    });
    for value in [json!(7), json!(null), json!(true), json!(["i-0abc1234"]), json!({"a": 1})] {
        is(json!({"instance": value}), |e| matches!(e, CompileError::WrongType { .. }));
    }
    is(json!({"instance": "i-0"}), |e| matches!(e, CompileError::Pattern { .. }));
    is(json!({"instance": "i-".to_owned() + &"0".repeat(200)}), |e| {
        matches!(e, CompileError::TooLong { .. })
    });
    is(json!({"instance": "i-0abc1234*"}), |e| matches!(e, CompileError::Forbidden { .. }));
    let group = json!({"group_id": "6d2c0a5e-1f3b-4c7d-9e8f-0a1b2c3d4e5f", "group": "web", "desired": 51, "current": 3});
    let error = refused(&proposal("scale-asg", "production", group.clone()));
    assert!(matches!(error, CompileError::OutOfRange { min: 1, max: 50, .. }), "{error}");
    for number in [json!(3.5), json!("3"), json!(1e3), json!(u64::MAX)] {
        let mut group = group.clone();
        group["desired"] = number;
        let error = refused(&proposal("scale-asg", "production", group));
        assert!(matches!(error, CompileError::WrongType { .. }), "{error}");
    }
    let reason = json!({"service": "checkout", "reason_code": "because"});
    let error = refused(&proposal("restart-service", "demo", reason));
    assert!(matches!(error, CompileError::NotAChoice { .. }), "{error}");
}

#[test]
fn an_unknown_name_is_shown_with_its_hidden_characters() {
    let error = refused(&reboot(json!({"instance": "i-0abc1234", "a\u{202e}b": 1}))).to_string();
    assert!(error.contains("a\\u{202e}b") && !error.contains('\u{202e}'), "{error}");
}

#[test]
fn work_is_at_least_a_second_and_at_most_what_the_catalog_allows() {
    let catalog = catalog(SHIPPED);
    for (seconds, good) in [(0, false), (1, true), (120, true), (121, false)] {
        let mut proposal = reboot(json!({"instance": "i-0abc1234"}));
        proposal.work_seconds = Some(seconds);
        assert_eq!(compile(&proposal, &ids(), &catalog).is_ok(), good, "{seconds}");
    }
}

#[test]
fn an_arn_of_another_type_account_or_region_is_refused() {
    let nested = SHIPPED.replacen("i-[0-9a-f]{8,17}", "i-[0-9a-f/]{8,17}", 1);
    let error = compile(&reboot(json!({"instance": "i-0abc/1234"})), &ids(), &catalog(&nested)).unwrap_err();
    assert!(matches!(error, CompileError::Resource(_)), "{error}");
    for (written, member) in [
        ("arn:aws:ec2:{region}:999988887777:instance/{instance}", "account"),
        ("arn:aws:ec2:us-east-1:{account}:instance/{instance}", "region"),
        ("arn:aws-cn:ec2:{region}:{account}:instance/{instance}", "partition"),
    ] {
        let text = SHIPPED.replacen("arn:{partition}:ec2:{region}:{account}:instance/{instance}", written, 1);
        let error = compile(&reboot(json!({"instance": "i-0abc1234"})), &ids(), &catalog(&text)).unwrap_err();
        assert!(matches!(&error, CompileError::Foreign { member: m, .. } if *m == member), "{error}");
    }
}

#[test]
fn no_action_touches_our_own_roles_or_the_boundary_in_any_case() {
    for (role, policy) in [
        ("phasebroker-execute", "harmless"),
        ("PhaseBroker-Observe", "harmless"),
        ("phasebroker-revoker", "harmless"),
        ("app", "phasebroker-production-trust-boundary"),
    ] {
        let error =
            refused(&proposal("detach-policy", "production", json!({"role": role, "policy": policy})));
        assert!(matches!(error, CompileError::Protected { .. }), "{role}: {error}");
    }
}

#[test]
fn a_lease_is_of_one_shard_whoever_compiles_it_and_leases_spread_over_all() {
    let role = "execute_role = \"arn:aws:iam::111122223333:role/phasebroker-execute\"";
    assert!(SHIPPED.contains(role));
    let sharded = catalog(&SHIPPED.replacen(role, &format!("{role}\nshards = 3"), 1));
    let role_of = |catalog: &Catalog, ids: &Ids| {
        let plan = compile(&reboot(json!({"instance": "i-0abc1234"})), ids, catalog).unwrap();
        let Credential::Aws(aws) = plan.credential() else { panic!() };
        aws.role_arn.rsplit('/').next().unwrap().to_owned()
    };
    // Fixed for ever: a verifier with another build finds the same.
    let fixed = Ids { lease: "01JD0000000000000000000000".parse().unwrap(), ..ids() };
    assert_eq!(role_of(&sharded, &fixed), "phasebroker-execute");
    let now = Timestamp::from_seconds(1_700_000_000);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let ids = Ids { lease: LeaseId::generate(now), ..ids() };
        let role = role_of(&sharded, &ids);
        assert_eq!(role, role_of(&sharded, &ids));
        seen.insert(role);
    }
    let all = ["phasebroker-execute", "phasebroker-execute-1", "phasebroker-execute-2"].map(str::to_owned);
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), all);
    assert_eq!(role_of(&catalog(SHIPPED), &fixed), "phasebroker-execute", "without shards there is one");
}

#[test]
fn a_policy_that_sts_would_refuse_is_refused_here() {
    let more = "arn:{partition}:ec2:{region}:{account}:instance/{instance}";
    let many: Vec<String> = (0..40).map(|n| format!("\"{more}{n}\"")).collect();
    let text = SHIPPED.replacen(&format!("\"{more}\""), &many.join(", "), 1);
    let error = compile(&reboot(json!({"instance": "i-0abc1234"})), &ids(), &catalog(&text)).unwrap_err();
    let CompileError::PolicyTooLong { characters, longest, of_it } = &error else { panic!("{error}") };
    assert!(*characters > 2048 && of_it < characters && *of_it > 2_000, "{error}");
    assert_eq!(longest, "ec2:RebootInstances");
    assert!(error.to_string().contains(&characters.to_string()), "{error}");
}

#[test]
fn preconditions_are_plain_and_each_named_once() {
    let with = |preconditions: &[(&str, &str)]| {
        let mut proposal = reboot(json!({"instance": "i-0abc1234"}));
        let plain =
            |(name, value): &(&str, &str)| Precondition { name: (*name).into(), value: (*value).into() };
        proposal.preconditions = preconditions.iter().map(plain).collect();
        compile(&proposal, &ids(), &catalog(SHIPPED))
    };
    assert_eq!(with(&[("state", "impaired")]).unwrap().action().preconditions.len(), 1);
    for bad in [&[("", "x")][..], &[("a", "")], &[("a", "{{not_after}}")], &[("a", "1"), ("a", "2")]] {
        assert!(matches!(with(bad), Err(CompileError::Precondition { .. })), "{bad:?}");
    }
    assert!(with(&[("a", "x"); 17]).is_err());
}

fn scale(desired: i64, current: i64) -> Proposal {
    let group = "6d2c0a5e-1f3b-4c7d-9e8f-0a1b2c3d4e5f";
    let parameters = json!({"group_id": group, "group": "web", "desired": desired, "current": current});
    proposal("scale-asg", "production", parameters)
}

#[test]
fn the_inverse_of_a_plan_compiles_and_its_inverse_is_the_plan_again() {
    let catalog = catalog(SHIPPED);
    let plan = compile(&scale(12, 8), &ids(), &catalog).unwrap();
    assert!(plan.action().reversible);
    let words =
        "scale-asg with current=12, desired=8, group=web, group_id=6d2c0a5e-1f3b-4c7d-9e8f-0a1b2c3d4e5f";
    assert_eq!(plan.action().rollback.as_deref(), Some(words));
    let place = "production".parse().unwrap();
    let (key, agent) = (scale(1, 1).claim_key, ids().claiming_agent);
    let back = |plan: &Plan| inverse_proposal(plan, &place, key, &agent, &catalog).unwrap();
    let (inverse, claim_seconds) = back(&plan).unwrap();
    assert_eq!(
        (claim_seconds, inverse.work_seconds, &inverse.claiming_agent),
        (14_400, None, &Some(agent.clone()))
    );
    assert_eq!((inverse.claim_key, &inverse.story), (key, &Story::default()));
    assert_eq!(inverse.parameters, scale(8, 12).parameters);
    let inverse = compile(&inverse, &ids(), &catalog).unwrap();
    let again = compile(&back(&inverse).unwrap().0, &ids(), &catalog).unwrap();
    assert_eq!(again.action(), plan.action());
    let reboot = compile(&reboot(json!({"instance": "i-0abc1234"})), &ids(), &catalog).unwrap();
    assert_eq!(back(&reboot), None, "what settles by itself has no inverse");
}

#[test]
fn the_way_back_in_words_is_the_operators_before_ours() {
    let way_back = |text: &str| {
        let instance = json!({"instance": "i-0abc1234"});
        let plan = compile(&reboot(instance), &ids(), &catalog(text)).unwrap();
        (plan.action().reversible, plan.action().rollback.clone())
    };
    let settles = "settles = \"Nothing to undo: the instance keeps its disks and addresses and comes up again by itself\"";
    assert_eq!(
        way_back(&SHIPPED.replacen(settles, "settles = \"By itself\"", 1)),
        (true, Some("By itself".into()))
    );
    let both = "settles = \"By itself\"\nrollback = \"Look at it\"";
    assert_eq!(way_back(&SHIPPED.replacen(settles, both, 1)), (true, Some("Look at it".into())));
    assert_eq!(way_back(&SHIPPED.replacen(settles, "rollback = \"Look\"", 1)), (false, Some("Look".into())));
    assert_eq!(way_back(&SHIPPED.replacen(settles, "", 1)), (false, None));
}

#[test]
fn a_plan_names_the_service_it_counts_under() {
    let catalog = catalog(&SHIPPED.replacen("service = \"{service}\"\nclass", "class", 1));
    let service = |proposal: &Proposal| compile(proposal, &ids(), &catalog).unwrap().action().service.clone();
    assert_eq!(service(&reboot(json!({"instance": "i-0abc1234"}))), "ec2");
    assert_eq!(service(&scale(2, 1)), "autoscaling");
    let restart = json!({"service": "checkout", "reason_code": "memory-leak"});
    assert_eq!(service(&proposal("restart-service", "demo", restart)), "restart-service");
    let scale = json!({"service": "checkout", "replicas": 2, "current": 1});
    assert_eq!(service(&proposal("scale-service", "demo", scale)), "checkout");
}

#[test]
fn dependent_actions_are_told_and_never_added() {
    let restore = json!({"snapshot": "old", "new_instance": "new", "subnet_group": "private",
        "option_group": "default:postgres-17", "parameter_group": "default.postgres17"});
    let restore = proposal("restore-snapshot", "staging", restore);
    let plan = compile(&restore, &ids(), &catalog(SHIPPED)).unwrap();
    assert_eq!(
        plan.action().dependents,
        ["iam:PassRole", "rds:AddTagsToResource", "rds:CreateTenantDatabase"]
    );
    let Credential::Aws(aws) = plan.credential() else { panic!() };
    assert!(!aws.session_policy.contains("PassRole") && !aws.session_policy.contains("AddTags"));
    let tagging = "\n[[actions.restore-snapshot.statements]]\nactions = [\"rds:AddTagsToResource\"]\n\
                   resources = [\"arn:{partition}:rds:{region}:{account}:db:{new_instance}\"]\n";
    let plan = compile(&restore, &ids(), &catalog(&format!("{SHIPPED}{tagging}"))).unwrap();
    assert_eq!(
        plan.action().dependents,
        ["iam:PassRole", "rds:CreateTenantDatabase"],
        "what is given is not missing"
    );
    assert!(compile(&scale(2, 1), &ids(), &catalog(SHIPPED)).unwrap().action().dependents.is_empty());
}

#[test]
fn an_unscopable_action_is_named_in_the_plan() {
    let marked = "max_work_seconds = 120\nunscopable = [\"ec2:EnableEbsEncryptionByDefault\"]";
    let text = SHIPPED
        .replacen("max_work_seconds = 120", marked, 1)
        .replacen("ec2:RebootInstances", "ec2:EnableEbsEncryptionByDefault", 1)
        .replacen(
            "[\"arn:{partition}:ec2:{region}:{account}:instance/{instance}\"]",
            "[\"*\"]\nconditions = { StringEquals = { \"ec2:Region\" = [\"{region}\"] } }",
            1,
        );
    let plan = compile(&reboot(json!({"instance": "i-0abc1234"})), &ids(), &catalog(&text)).unwrap();
    assert_eq!(plan.action().unscopable, ["ec2:EnableEbsEncryptionByDefault"]);
    let plan = compile(&reboot(json!({"instance": "i-0abc1234"})), &ids(), &catalog(SHIPPED)).unwrap();
    assert!(plan.action().unscopable.is_empty());
}

/// The shipped catalog, whose reboots have a canary.
fn with_canary() -> String {
    let class = "class = \"availability\"\nsettles = \"Nothing to undo: the instance";
    assert!(SHIPPED.contains(class));
    SHIPPED.replacen(class, &format!("canary = true\n{class}"), 1)
}

#[test]
fn a_canary_adds_its_one_statement_before_the_deadline_and_nothing_else() {
    let asked = reboot(json!({"instance": "i-0abc1234"}));
    let policy = |text: &str| {
        let plan = compile(&asked, &ids(), &catalog(text)).unwrap();
        let Credential::Aws(aws) = plan.credential() else { panic!() };
        aws.session_policy.clone()
    };
    let (plain, marked) = (policy(SHIPPED), policy(&with_canary()));
    let statement = format!("{},", crate::domain::sent::CANARY_STATEMENT);
    assert_eq!(marked.replacen(&statement, "", 1), plain);
    assert!(crate::domain::sent::has_canary(&marked) && !crate::domain::sent::has_canary(&plain));
    assert!(crate::domain::sent::ends_itself(&marked), "{marked}");
}

#[test]
fn what_a_canary_may_do_is_a_read_of_the_table_and_an_entry_of_our_own_tokens_has_none() {
    use crate::catalog::iam::AccessLevel;
    let facts = ActionTable::embedded().unwrap().action(crate::domain::sent::CANARY_ACTION).unwrap();
    assert!(matches!(facts.access_level, AccessLevel::Read | AccessLevel::List) && facts.is_unscopable());
    let provider = "provider = \"jwt\"\nservice = \"{service}\"";
    let text = SHIPPED.replacen(provider, &format!("{provider}\ncanary = true"), 1);
    let document = CatalogDocument::from_toml(&text).unwrap();
    let errors = Catalog::check(&document, ActionTable::embedded().unwrap()).unwrap_err();
    assert_eq!(errors[0].path, "actions.restart-service.canary");
}
