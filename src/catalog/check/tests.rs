//! Mistakes in a catalog, each made in the shipped one.

use super::*;

pub(super) const SHIPPED: &str = include_str!("../../../config/catalog.toml");

/// A catalog without a mistake.
pub(super) fn catalog(text: &str) -> Catalog {
    let document = CatalogDocument::from_toml(text).unwrap();
    Catalog::check(&document, ActionTable::embedded().unwrap()).unwrap()
}

/// Every mistake of a catalog.
pub(super) fn errors(text: &str) -> Vec<CatalogError> {
    let document = CatalogDocument::from_toml(text).unwrap();
    Catalog::check(&document, ActionTable::embedded().unwrap()).err().unwrap_or_default()
}

/// Replaces `from`, which must stand in the shipped catalog, and returns the one mistake that makes.
pub(super) fn mistake(from: &str, to: &str) -> CatalogError {
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
        let catalog = catalog(&text);
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
fn an_account_that_one_environment_closes_to_the_brokers_host_is_not_opened_by_another() {
    let web = |place: &str| {
        format!(
            "\n[environments.{place}.aws.web_identity]\nissuer = \"https://approvers.example.com/oidc\"\n\
             audience = \"sts.amazonaws.com\"\n"
        )
    };
    // Staging in the account of production, with roles of its own.
    let same = SHIPPED
        .replace("444455556666:role/", "444455556666:role/staging/")
        .replace("444455556666", "111122223333");
    assert_eq!(errors(&same), []);
    for (closed, open) in [("production", "staging"), ("staging", "production")] {
        let found = errors(&(same.clone() + &web(closed)));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].path, format!("environments.{open}.aws.web_identity"));
        assert!(found[0].problem.contains(&format!("`{closed}` in the same account")), "{found:?}");
        assert!(found[0].problem.contains("give it the same `web_identity`, or an account"), "{found:?}");
        assert_eq!(errors(&(SHIPPED.to_owned() + &web(closed))), [], "two accounts");
        // An account has its number in one partition.
        let elsewhere =
            same.replace("arn:aws:iam::111122223333:role/staging/", "arn:aws-cn:iam::111122223333:role/");
        assert_eq!(errors(&(elsewhere + &web(closed))), [], "two partitions");
    }
    assert_eq!(errors(&(same + &web("production") + &web("staging"))), []);
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
