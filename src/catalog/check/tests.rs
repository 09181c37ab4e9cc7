//! Mistakes in a catalog, each made in the shipped one.

use super::*;
use crate::domain::observation::Trust;

const SHIPPED: &str = include_str!("../../../config/catalog.toml");

fn errors(text: &str) -> Vec<CatalogError> {
    let document = CatalogDocument::from_toml(text).unwrap();
    Catalog::check(&document, ActionTable::embedded().unwrap()).err().unwrap_or_default()
}

/// Replaces `from`, which must stand in the shipped catalog, and returns the one mistake that makes.
fn mistake(from: &str, to: &str) -> CatalogError {
    assert!(SHIPPED.contains(from), "{from}");
    let found = errors(&SHIPPED.replacen(from, to, 1));
    assert!(!found.is_empty(), "accepted: {to}");
    found.into_iter().next().unwrap()
}

#[test]
fn every_mistake_of_an_action_is_named_by_its_path() {
    let instance = "arn:{partition}:ec2:{region}:{account}:instance/{instance}";
    let seconds = "max_work_seconds = 120";
    for (from, to, path, problem) in [
        ("ec2:RebootInstances", "ec2:RebootPlanets", "statements[0].actions[0]", "no such action"),
        ("ec2:RebootInstances", "ec2:Reboot*", "statements[0].actions[0]", "wildcards"),
        ("[\"ec2:RebootInstances\"]", "[]", "statements[0].actions", "names no action"),
        (instance, "*", "statements[0].resources", "wildcard"),
        (instance, "arn:aws:ec2:{region}:{account}:instance/*", "statements[0].resources[0]", "`*`"),
        (
            instance,
            "arn:aws:ec2:{region}:{account}:volume/{instance}",
            "statements[0].resources",
            "no resource",
        ),
        (
            instance,
            "arn:aws:ec2:{region}:{account}:instance/{machine}",
            "statements[0].resources[0]",
            "{machine}",
        ),
        ("instance {instance}\"", "instance {machine}\"", "summary", "{machine}"),
        ("i-[0-9a-f]{8,17}", "i-.*", "parameters.instance.pattern", "any character"),
        ("i-[0-9a-f]{8,17}", "i-(", "parameters.instance.pattern", "regular expression"),
        ("i-[0-9a-f]{8,17}", "[a-z]*", "parameters.instance.pattern", "empty"),
        (seconds, "max_work_seconds = 0", "max_work_seconds", "1 to 600"),
        (seconds, "max_work_seconds = 601", "max_work_seconds", "1 to 600"),
        ("changes = 1", "changes = 0", "changes", "one thing"),
        ("[\"production\", \"staging\"]", "[]", "environments", "nowhere"),
        ("[\"production\", \"staging\"]", "[\"moon\"]", "environments[0]", "no environment `moon`"),
        ("[\"production\", \"staging\"]", "[\"demo\"]", "environments[0]", "no `aws` target"),
        ("settles = \"Nothing to undo: the instance", "rollback = \"\" #", "rollback", "1 to 512"),
        ("settles = \"Nothing to undo: the instance", "settles = \"\" #", "settles", "1 to 512"),
        (seconds, "max_work_seconds = 9\nservice = \"\"", "service", "1 to 64"),
        (seconds, "max_work_seconds = 9\nservice = \"{machine}\"", "service", "no parameter"),
        (seconds, "max_work_seconds = 9\nservice = \"{account}\"", "service", "no parameter"),
        (seconds, "max_work_seconds = 9\nservice = \"{instance}\"", "service", "max_length"),
        (seconds, "max_work_seconds = 9\nservice = \"a*\"", "service", "may not stand"),
        (seconds, "max_work_seconds = 9\nexceptions = [\"iam:PassRole\"]", "exceptions[0]", "remove it"),
    ] {
        let error = mistake(from, to);
        assert_eq!(error.path, format!("actions.reboot-instance.{path}"), "{error}");
        assert!(error.problem.contains(problem), "{error}");
    }
}

#[test]
fn a_required_resource_type_without_arn_is_refused() {
    let error = mistake("    \"arn:{partition}:rds:{region}:{account}:og:{option_group}\",\n", "");
    assert_eq!(error.path, "actions.restore-snapshot.statements[0].resources");
    assert!(error.problem.contains("`og`"), "{error}");
}

#[test]
fn conditions_only_narrow_with_keys_that_the_action_knows() {
    let condition = "ArnEquals = { \"iam:PolicyARN\"";
    for (to, path) in [
        ("ArnNotEquals = { \"iam:PolicyARN\"", "conditions.ArnNotEquals"),
        ("ArnEqualsIfExists = { \"iam:PolicyARN\"", "conditions.ArnEqualsIfExists"),
        ("\"ForAllValues:ArnEquals\" = { \"iam:PolicyARN\"", "conditions.ForAllValues:ArnEquals"),
        ("ArnEquals = { \"iam:PolicyArn2\"", "conditions.ArnEquals.\"iam:PolicyArn2\""),
    ] {
        assert_eq!(mistake(condition, to).path, format!("actions.detach-policy.statements[0].{path}"));
    }
}

#[test]
fn a_condition_that_takes_other_values_too_enforces_no_parameter() {
    let condition = "conditions = { Bool = { \"rds:PubliclyAccessible\" = [\"false\"] } }";
    let unenforced = |to: &str| {
        let text = SHIPPED.replacen("db:{new_instance}", "db:restored", 1).replacen(condition, to, 1);
        let document = CatalogDocument::from_toml(&text).unwrap();
        let catalog = Catalog::check(&document, ActionTable::embedded().unwrap()).unwrap();
        catalog.actions[&"restore-snapshot".parse().unwrap()].unenforced().to_vec()
    };
    let tag = "\"aws:RequestTag/name\"";
    let with = |values: &str| format!("conditions = {{ StringEquals = {{ {tag} = [{values}] }} }}");
    assert_eq!(unenforced(&with("\"{new_instance}\"")), [""; 0]);
    assert_eq!(unenforced(&with("\"{new_instance}\", \"other\"")), ["new_instance"]);
    let most = format!("conditions = {{ NumericLessThanEquals = {{ {tag} = [\"{{new_instance}}\"] }} }}");
    assert_eq!(unenforced(&most), ["new_instance"]);
    assert!(mistake("[\"false\"]", "[\"{snapshot}\"]").problem.contains("`true` or `false`"));
}

#[test]
fn an_action_that_vends_or_runs_needs_an_exception_by_name() {
    let function = "arn:{partition}:lambda:{region}:{account}:function:{instance}";
    let invoke = SHIPPED.replacen("ec2:RebootInstances", "lambda:InvokeFunction", 1).replacen(
        "arn:{partition}:ec2:{region}:{account}:instance/{instance}",
        function,
        1,
    );
    let found = errors(&invoke);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].path, "actions.reboot-instance.exceptions");
    let named = "max_work_seconds = 120\nexceptions = [\"lambda:InvokeFunction\"]";
    assert_eq!(errors(&invoke.replacen("max_work_seconds = 120", named, 1)), []);
}

#[test]
fn changing_permissions_is_of_the_class_trust_with_a_role_of_its_own() {
    let detach = "[actions.detach-policy]";
    let (before, after) = SHIPPED.split_once(detach).unwrap();
    let found = errors(&format!("{before}{detach}{}", after.replacen("\"trust\"", "\"data\"", 1)));
    assert_eq!(found[0].path, "actions.detach-policy.class");
    let role = "trust_role = \"arn:aws:iam::111122223333:role/phasebroker-trust\"";
    assert_eq!(mistake(role, "").path, "actions.detach-policy.class");
}

/// The shipped catalog with an action that takes no ARN in place of the reboot.
fn unscopable() -> String {
    SHIPPED.replacen("ec2:RebootInstances", "ec2:EnableEbsEncryptionByDefault", 1).replacen(
        "[\"arn:{partition}:ec2:{region}:{account}:instance/{instance}\"]",
        "[\"*\"]\nconditions = { StringEquals = { \"ec2:Region\" = [\"{region}\"] } }",
        1,
    )
}

const MARK: &str = "max_work_seconds = 120\nunscopable = [\"ec2:EnableEbsEncryptionByDefault\"]";

#[test]
fn an_unscopable_action_needs_its_mark_and_a_condition_that_asks_for_a_value() {
    let text = unscopable();
    let found = errors(&text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].path, "actions.reboot-instance.unscopable");
    assert!(found[0].problem.contains("mark it"), "{found:?}");
    let marked = text.replacen("max_work_seconds = 120", MARK, 1);
    assert_eq!(errors(&marked), []);
    for condition in ["", "conditions = { Null = { \"ec2:Region\" = [\"true\"] } }"] {
        let written = "conditions = { StringEquals = { \"ec2:Region\" = [\"{region}\"] } }";
        let found = errors(&marked.replacen(written, condition, 1));
        assert_eq!(found[0].path, "actions.reboot-instance.statements[0].conditions", "{found:?}");
    }
}

#[test]
fn a_needless_mark_is_refused() {
    let error = mistake("max_work_seconds = 120", MARK);
    assert_eq!(error.path, "actions.reboot-instance.unscopable[0]");
    assert!(error.problem.contains("remove the mark"), "{error}");
    let scoped = "max_work_seconds = 120\nunscopable = [\"ec2:RebootInstances\"]";
    assert_eq!(mistake("max_work_seconds = 120", scoped).path, "actions.reboot-instance.unscopable[0]");
    let token = mistake(
        "provider = \"jwt\"\nservice = \"{service}\"",
        "provider = \"jwt\"\nunscopable = [\"ec2:RebootInstances\"]",
    );
    assert_eq!(token.path, "actions.restart-service.unscopable[0]");
}

#[test]
fn reversibility_is_derived_and_never_written() {
    let back = |text: &str, action: &str| {
        let document = CatalogDocument::from_toml(text).unwrap();
        let catalog = Catalog::check(&document, ActionTable::embedded().unwrap()).unwrap();
        let entry = &catalog.actions[&action.parse().unwrap()];
        (entry.reversible(), entry.inverse().map(|inverse| inverse.action().to_string()))
    };
    assert_eq!(back(SHIPPED, "reboot-instance"), (true, None));
    assert_eq!(back(SHIPPED, "scale-asg"), (true, Some("scale-asg".into())));
    assert_eq!(
        back(SHIPPED, "detach-policy"),
        (false, None),
        "a `rollback` for people makes nothing reversible"
    );
    assert_eq!(back(&SHIPPED.replacen("settles = \"", "rollback = \"", 1), "reboot-instance"), (false, None));
    assert!(
        CatalogDocument::from_toml(&SHIPPED.replacen("changes = 1", "changes = 1\nreversible = true", 1))
            .is_err()
    );
    let both = "action = \"scale-asg\"\nparameters";
    let (before, after) = SHIPPED.split_once("[actions.scale-asg]\n").unwrap();
    let found = errors(&format!("{before}[actions.scale-asg]\nsettles = \"By itself\"\n{after}"));
    assert!(SHIPPED.contains(both) && found[0].path == "actions.scale-asg.inverse", "{found:?}");
}

#[test]
fn an_inverse_always_has_a_value_for_each_parameter() {
    let whole = "{ group_id = \"{group_id}\", group = \"{group}\", desired = \"{current}\", current = \"{desired}\" }";
    let with = |parameters: &str| mistake(whole, parameters);
    for (parameters, key, problem) in [
        (
            "{ group_id = \"{group_id}\", group = \"{group}\", desired = \"{current}\" }",
            "",
            "also needs `current`",
        ),
        (&whole.replace(" }", ", more = 1 }"), ".more", "no such parameter"),
        (&whole.replace("{current}", "{before}"), ".desired", "no parameter of this action"),
        (&whole.replace("\"{current}\"", "51"), ".desired", "within 1 to 50"),
        (&whole.replace("\"{current}\"", "\"3\""), ".desired", "a whole number"),
        (&whole.replace("{current}", "{group}"), ".desired", "pattern"),
        (&whole.replace("\"{group}\"", "\"{desired}\""), ".group", "no whole number"),
        (&whole.replace("\"{group}\"", "\"web-{group}\""), ".group", "holds the character"),
        (&whole.replace("\"{group}\"", "\"a b\""), ".group", "does not match"),
        (&whole.replace("\"{group}\"", "\"{group_id}\""), ".group", "same pattern"),
    ] {
        let error = with(parameters);
        assert_eq!(error.path, format!("actions.scale-asg.inverse.parameters{key}"), "{error}");
        assert!(error.problem.contains(problem), "{error}");
    }
    assert_eq!(
        errors(&SHIPPED.replacen(whole, &whole.replace("\"{current}\"", "3"), 1)),
        [],
        "a literal that fits"
    );
    // Every value of the forward parameter is one of the inverse's, not only some.
    let wider = SHIPPED.replacen(
        "[actions.scale-asg.parameters.current]\ntype = \"integer\"\nmin = 1",
        "[actions.scale-asg.parameters.current]\ntype = \"integer\"\nmin = 0",
        1,
    );
    assert_eq!(errors(&wider)[0].path, "actions.scale-asg.inverse.parameters.desired");
}

#[test]
fn an_inverse_is_an_action_of_the_catalog_open_wherever_the_action_is() {
    let claim = "claim_seconds = 86400";
    for (seconds, good) in [("59", false), ("60", true), ("86400", true), ("86401", false)] {
        let found = errors(&SHIPPED.replacen(claim, &format!("claim_seconds = {seconds}"), 1));
        assert_eq!(found.is_empty(), good, "{seconds}: {found:?}");
        assert!(found.iter().all(|error| error.path == "actions.isolate-instance.inverse.claim_seconds"));
    }
    let named = "[actions.isolate-instance.inverse]\naction = \"isolate-instance\"";
    let other = |name: &str| format!("[actions.isolate-instance.inverse]\naction = \"{name}\"");
    let error = mistake(named, &other("heal-instance"));
    assert_eq!(error.path, "actions.isolate-instance.inverse.action");
    assert!(error.problem.contains("no action `heal-instance`"), "{error}");
    let heal = |places: &str| {
        let group = "{ type = \"string\", pattern = \"sg-[0-9a-f]{8,17}\" }";
        let interface = "{ type = \"string\", pattern = \"eni-[0-9a-f]{8,17}\" }";
        let arn = "arn:{partition}:ec2:{region}:{account}";
        format!(
            "[actions.heal-instance]\nsummary = \"Heal {{interface}}\"\nprovider = \"aws\"\nclass = \"availability\"\n\
             changes = 1\nmax_work_seconds = 9\nenvironments = [{places}]\nparameters = {{ interface = {interface}, \
             quarantine_group = {group}, previous_group = {group} }}\n[[actions.heal-instance.statements]]\nactions = \
             [\"ec2:ModifyNetworkInterfaceAttribute\"]\nresources = [\"{arn}:network-interface/{{interface}}\", \
             \"{arn}:security-group/{{quarantine_group}}\"]\n"
        )
    };
    let both = |heal: &str| format!("{}\n{heal}", SHIPPED.replacen(named, &other("heal-instance"), 1));
    assert_eq!(errors(&both(&heal("\"production\", \"staging\""))), []);
    let found = errors(&both(&heal("\"production\"")));
    assert_eq!(found[0].path, "actions.isolate-instance.inverse.action");
    assert!(found[0].problem.contains("staging"), "{found:?}");
}

#[test]
fn what_only_the_inverse_uses_is_not_told_as_unenforced() {
    let unenforced = |text: &str| {
        let document = CatalogDocument::from_toml(text).unwrap();
        let catalog = Catalog::check(&document, ActionTable::embedded().unwrap()).unwrap();
        catalog.actions[&"scale-asg".parse().unwrap()].unenforced().to_vec()
    };
    assert_eq!(unenforced(SHIPPED), ["desired"]);
    // Named in the summary, it is part of what people approve; used by nothing, it is told as well.
    assert_eq!(
        unenforced(&SHIPPED.replacen("{group} to {desired}", "{group} from {current} to {desired}", 1)),
        ["current", "desired"]
    );
    let unused = SHIPPED.replacen("desired = \"{current}\"", "desired = 3", 1);
    assert_eq!(unenforced(&unused), ["current", "desired"]);
}

#[test]
fn an_arn_without_account_needs_the_account_as_a_condition() {
    let text = SHIPPED.replacen("ec2:RebootInstances", "s3:PutBucketVersioning", 1).replacen(
        "arn:{partition}:ec2:{region}:{account}:instance/{instance}",
        "arn:{partition}:s3:::{instance}",
        1,
    );
    let found = errors(&text);
    assert!(found[0].problem.contains("aws:ResourceAccount"), "{found:?}");
    let bucket = "resources = [\"arn:{partition}:s3:::{instance}\"]";
    let owned = format!(
        "{bucket}\nconditions = {{ StringEquals = {{ \"aws:ResourceAccount\" = [\"{{account}}\"] }} }}"
    );
    assert_eq!(errors(&text.replacen(bucket, &owned, 1)), []);
}

#[test]
fn an_observe_set_only_reads_and_reads_no_secrets() {
    for (to, problem) in [
        ("ec2:RebootInstances", "does not only read"),
        ("secretsmanager:GetSecretValue", "no observation"),
        ("ec2:DescribeInstanceAttribute", "no observation"),
        ("ec2:Describe*", "wildcards"),
        ("cognito-idp:DescribeUserPoolClient", "no observation"),
    ] {
        let error = mistake("\"ec2:DescribeInstances\"", &format!("\"{to}\""));
        assert!(error.path.starts_with("observe.aws-basics.statements"), "{error}");
        assert!(error.problem.contains(problem), "{error}");
    }
    assert_eq!(mistake("seconds = 900", "seconds = 901").path, "observe.aws-basics.seconds");
    assert_eq!(mistake("seconds = 900", "seconds = 59").path, "observe.aws-basics.seconds");
}

#[test]
fn stored_data_is_read_only_where_it_is_listed_and_from_named_resources() {
    let reads = |rest: &str| {
        let set = format!("{rest}\n[[observe.orders.statements]]\nactions = [\"dynamodb:Query\"]\n");
        format!(
            "{SHIPPED}\n[observe.orders]\nprovider = \"aws\"\nenvironments = [\"staging\"]\nseconds = 300\n{set}"
        )
    };
    let table = "resources = [\"arn:{partition}:dynamodb:{region}:{account}:table/orders\"]";
    let listed = "data_reads = [\"dynamodb:Query\"]";
    assert_eq!(errors(&(reads(listed) + table)), []);
    let found = errors(&(reads("") + table));
    assert_eq!(found[0].path, "observe.orders.data_reads");
    assert!(
        found[0].problem.contains("returns stored data") && found[0].problem.contains("list it"),
        "{found:?}"
    );
    let found = errors(&(reads(listed) + "resources = [\"*\"]"));
    assert!(found[0].problem.contains("exact resources"), "{found:?}");
    let found = errors(&(reads(&format!("{listed}\ntrust = \"trusted\"")) + table));
    assert_eq!(found[0].path, "observe.orders.trust");
}

#[test]
fn listing_opens_no_secret_and_a_needless_listing_is_refused() {
    let listed = |action: &str| format!("trust = \"untrusted\"\ndata_reads = [\"{action}\"]");
    let error = mistake("trust = \"untrusted\"", &listed("dynamodb:Query"));
    assert_eq!(error.path, "observe.aws-telemetry.data_reads[0]", "{error}");
    for secret in
        ["secretsmanager:GetSecretValue", "ssm:GetParameter", "lambda:GetFunction", "rds:DescribeDBInstances"]
    {
        let text = SHIPPED.replacen("trust = \"untrusted\"", &listed(secret), 1);
        let found = errors(&text.replacen("\"cloudwatch:GetMetricData\"", &format!("\"{secret}\""), 1));
        assert!(
            found.iter().any(|error| error.path == "observe.aws-telemetry.data_reads[0]"),
            "{secret}: {found:?}"
        );
    }
}

#[test]
fn telemetry_is_never_trusted_and_untrusted_is_what_holds_when_nothing_is_said() {
    let error = mistake("trust = \"untrusted\"", "trust = \"trusted\"");
    assert_eq!(error.path, "observe.aws-telemetry.trust");
    let trust = |text: &str, set: &str| {
        let document = CatalogDocument::from_toml(text).unwrap();
        let catalog = Catalog::check(&document, ActionTable::embedded().unwrap()).unwrap();
        catalog.observe[&set.parse().unwrap()].trust()
    };
    assert_eq!(trust(SHIPPED, "aws-basics"), Trust::Trusted);
    assert_eq!(trust(SHIPPED, "aws-telemetry"), Trust::Untrusted);
    let silent = SHIPPED.replacen("\ntrust = \"trusted\"\n", "\n", 1);
    assert_eq!(trust(&silent, "aws-basics"), Trust::Untrusted);
    assert!(
        CatalogDocument::from_toml(&SHIPPED.replacen("\ntrust = \"trusted\"", "\ntrust = \"yes\"", 1))
            .is_err()
    );
}

#[test]
fn a_template_changes_with_everything_that_decides_what_is_minted() {
    let digest = |text: &str, action: &str, place: &str| {
        let document = CatalogDocument::from_toml(text).unwrap();
        let catalog = Catalog::check(&document, ActionTable::embedded().unwrap()).unwrap();
        catalog.template(&action.parse().unwrap(), &place.parse().unwrap())
    };
    let now = digest(SHIPPED, "scale-asg", "production");
    assert!(now.is_some());
    assert_ne!(now, digest(SHIPPED, "scale-asg", "staging"));
    assert_ne!(now, digest(SHIPPED, "reboot-instance", "production"));
    for (action, place) in [("scale-asg", "demo"), ("scale-asg", "moon"), ("scale-planet", "production")] {
        assert_eq!(digest(SHIPPED, action, place), None, "{action} in {place}");
    }
    for (from, to) in [
        ("role/phasebroker-execute", "role/phasebroker-other"),
        ("max = 50", "max = 51"),
        ("autoScalingGroupName/{group}", "autoScalingGroupName/{group}x"),
        ("claim_seconds = 14400\n\n[[actions.scale-asg", "claim_seconds = 14401\n\n[[actions.scale-asg"),
        ("Set the desired capacity of", "Change"),
    ] {
        assert!(SHIPPED.contains(from), "{from}");
        assert_ne!(now, digest(&SHIPPED.replace(from, to), "scale-asg", "production"), "{to}");
    }
    for (from, to) in [
        ("Reboot the EC2 instance", "Restart the EC2 instance"),
        ("444455556666:role/phasebroker-execute", "444455556666:role/phasebroker-other"),
        ("http://127.0.0.1:8478", "http://127.0.0.1:8479"),
        ("# -----", "# a comment"),
    ] {
        assert!(SHIPPED.contains(from), "{from}");
        assert_eq!(now, digest(&SHIPPED.replace(from, to), "scale-asg", "production"), "{to}");
    }
}

#[test]
fn an_environment_names_its_own_account_and_one_role_per_phase() {
    let observe = "observe_role = \"arn:aws:iam::111122223333:role/phasebroker-observe\"";
    for (from, to, key) in [
        ("account = \"111122223333\"", "account = \"1111\"", "account"),
        ("region = \"eu-central-1\"", "region = \"EU\"", "region"),
        (observe, "observe_role = \"arn:aws:iam::999988887777:role/phasebroker-observe\"", "observe_role"),
        (observe, "observe_role = \"arn:aws:iam::111122223333:role/phasebroker-execute\"", "observe_role"),
        (observe, "observe_role = \"arn:aws:iam::111122223333:role/*\"", "observe_role"),
    ] {
        assert_eq!(mistake(from, to).path, format!("environments.production.aws.{key}"));
    }
    for audience in ["http://example.com", "http://127.0.0.1.example.com", "https://", "https://a b"] {
        let error = mistake("http://127.0.0.1:8478", audience);
        assert_eq!(error.path, "environments.demo.jwt.audience");
    }
    assert_eq!(errors(&SHIPPED.replacen("http://127.0.0.1:8478", "https://ops.example", 1)), []);
}

#[test]
fn all_mistakes_are_told_at_once_and_unknown_keys_are_refused() {
    let text = SHIPPED.replacen("changes = 1", "changes = 0", 2).replacen("seconds = 900", "seconds = 1", 1);
    assert_eq!(errors(&text).len(), 3);
    assert!(
        CatalogDocument::from_toml(&SHIPPED.replacen("changes = 1", "changes = 1\nforce = true", 1)).is_err()
    );
    let kind = "type = \"choice\"";
    assert!(CatalogDocument::from_toml(&SHIPPED.replacen(kind, "type = \"choice\"\nmin = 1", 1)).is_err());
}

#[test]
fn the_digest_is_of_what_the_file_says_and_not_of_its_comments() {
    let digest = |text: &str| {
        let document = CatalogDocument::from_toml(text).unwrap();
        Catalog::check(&document, ActionTable::embedded().unwrap()).unwrap().digest()
    };
    assert_eq!(digest(SHIPPED), digest(&format!("# a comment\n{SHIPPED}")));
    assert_ne!(digest(SHIPPED), digest(&SHIPPED.replace("max = 50", "max = 51")));
}
