//! From the catalog as written to the catalog in force: whole, or not at all with every mistake named by its path.

mod action;
mod environment;
mod observe;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::document::{CatalogDocument, StatementDocument};
use super::iam::ActionTable;
use super::permission::{Permission, Purpose};
use super::resolved::{Catalog, Target};
use super::template::Filling;
use crate::domain::digest::Digest;
use crate::domain::plan::ProviderKind;
use crate::domain::principal::{ActionType, Environment};

/// One mistake in a catalog.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct CatalogError {
    /// Where: `actions.reboot-instance.statements[0].actions[0]`.
    pub path: String,
    /// What is wrong, and what to do.
    pub problem: String,
}

impl fmt::Display for CatalogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

impl Catalog {
    /// Checks the whole document against the table of AWS actions.
    pub fn check(document: &CatalogDocument, table: &ActionTable) -> Result<Self, Vec<CatalogError>> {
        let mut checker = Checker { table, errors: Vec::new() };
        let environments: BTreeMap<Environment, Target> = document
            .environments
            .iter()
            .filter_map(|(name, written)| checker.environment(name, written))
            .collect();
        let mut actions = BTreeMap::new();
        for (name, written) in &document.actions {
            let path = format!("actions.{name}");
            if let Some(name) = checker.slug::<ActionType>(&path, name)
                && let Some(entry) = checker.action(&path, written, &environments)
            {
                actions.insert(name, entry);
            }
        }
        let mut observe = BTreeMap::new();
        for (name, written) in &document.observe {
            let path = format!("observe.{name}");
            if let Some(name) = checker.slug::<ActionType>(&path, name)
                && let Some(set) = checker.observe(&path, written, &environments)
            {
                observe.insert(name, set);
            }
        }
        let digest = checker.digest(document);
        match (checker.errors.is_empty(), digest) {
            (true, Some(digest)) => Ok(Self { environments, actions, observe, digest }),
            _ => Err(checker.errors),
        }
    }
}

struct Checker<'a> {
    table: &'a ActionTable,
    errors: Vec<CatalogError>,
}

impl Checker<'_> {
    fn fail(&mut self, path: impl Into<String>, problem: impl Into<String>) {
        self.errors.push(CatalogError { path: path.into(), problem: problem.into() });
    }

    fn slug<T: std::str::FromStr<Err: fmt::Display>>(&mut self, path: &str, name: &str) -> Option<T> {
        name.parse().map_err(|error: T::Err| self.fail(path, error.to_string())).ok()
    }

    /// SHA-256 over the sorted JSON of the document.
    fn digest(&mut self, document: &CatalogDocument) -> Option<Digest> {
        let sorted = serde_json::to_value(document).and_then(|mut value| {
            value.sort_all_objects();
            serde_json::to_vec(&value)
        });
        match sorted {
            Ok(bytes) => Some(Digest::tagged("phasebroker-catalog-v1", &bytes)),
            Err(error) => {
                self.fail("catalog", format!("it cannot be written as JSON: {error}"));
                None
            }
        }
    }

    /// The environments in which `provider` has a target.
    fn places(
        &mut self,
        path: &str,
        written: &[String],
        provider: ProviderKind,
        environments: &BTreeMap<Environment, Target>,
    ) -> BTreeSet<Environment> {
        if written.is_empty() {
            self.fail(format!("{path}.environments"), "it is allowed nowhere: name an environment");
        }
        let mut places = BTreeSet::new();
        for (at, name) in written.iter().enumerate() {
            let path = format!("{path}.environments[{at}]");
            let found = name.parse().ok().and_then(|name: Environment| environments.get_key_value(&name));
            match found {
                None => self.fail(path, format!("there is no environment `{}`", name.escape_default())),
                Some((name, target)) => {
                    let has = match provider {
                        ProviderKind::Aws => target.aws.is_some(),
                        ProviderKind::Jwt => target.jwt.is_some(),
                    };
                    if !has {
                        self.fail(path, format!("the environment `{name}` has no `{provider}` target"));
                    }
                    places.insert(name.clone());
                }
            }
        }
        places
    }

    fn permissions(
        &mut self,
        path: &str,
        written: &[StatementDocument],
        provider: ProviderKind,
        samples: &Filling,
        purpose: Purpose,
    ) -> Vec<Permission> {
        match (provider, written.is_empty()) {
            (ProviderKind::Aws, true) => {
                self.fail(format!("{path}.statements"), "an `aws` entry needs statements")
            }
            (ProviderKind::Jwt, false) => {
                self.fail(format!("{path}.statements"), "a `jwt` entry has no statements")
            }
            _ => {}
        }
        let mut permissions = Vec::new();
        for (at, statement) in written.iter().enumerate() {
            match Permission::check(statement, self.table, samples, purpose) {
                Ok(permission) => permissions.push(permission),
                Err(errors) => {
                    for (key, problem) in errors {
                        self.fail(format!("{path}.statements[{at}].{key}"), problem);
                    }
                }
            }
        }
        permissions
    }
}

fn built_in_samples() -> [(String, String); 3] {
    [("account", "111122223333"), ("region", "eu-central-1"), ("partition", "aws")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("rollback = \"None needed: the instance", "#", "rollback", "way back"),
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

    #[test]
    fn an_unscopable_action_needs_a_condition_that_asks_for_a_value() {
        let text = SHIPPED.replacen("ec2:RebootInstances", "ec2:EnableEbsEncryptionByDefault", 1).replacen(
            "[\"arn:{partition}:ec2:{region}:{account}:instance/{instance}\"]",
            "[\"*\"]",
            1,
        );
        let found = errors(&text);
        assert_eq!(found[0].path, "actions.reboot-instance.statements[0].conditions", "{found:?}");
        let region =
            "resources = [\"*\"]\nconditions = { StringEquals = { \"ec2:Region\" = [\"{region}\"] } }";
        assert_eq!(errors(&text.replacen("resources = [\"*\"]", region, 1)), []);
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
        ] {
            let error = mistake("\"ec2:DescribeInstances\"", &format!("\"{to}\""));
            assert!(error.path.starts_with("observe.aws-basics.statements"), "{error}");
            assert!(error.problem.contains(problem), "{error}");
        }
        assert_eq!(mistake("seconds = 900", "seconds = 901").path, "observe.aws-basics.seconds");
        assert_eq!(mistake("seconds = 900", "seconds = 59").path, "observe.aws-basics.seconds");
    }

    #[test]
    fn an_environment_names_its_own_account_and_one_role_per_phase() {
        let observe = "observe_role = \"arn:aws:iam::111122223333:role/phasebroker-observe\"";
        for (from, to, key) in [
            ("account = \"111122223333\"", "account = \"1111\"", "account"),
            ("region = \"eu-central-1\"", "region = \"EU\"", "region"),
            (
                observe,
                "observe_role = \"arn:aws:iam::999988887777:role/phasebroker-observe\"",
                "observe_role",
            ),
            (
                observe,
                "observe_role = \"arn:aws:iam::111122223333:role/phasebroker-execute\"",
                "observe_role",
            ),
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
        let text =
            SHIPPED.replacen("changes = 1", "changes = 0", 2).replacen("seconds = 900", "seconds = 1", 1);
        assert_eq!(errors(&text).len(), 3);
        assert!(
            CatalogDocument::from_toml(&SHIPPED.replacen("changes = 1", "changes = 1\nforce = true", 1))
                .is_err()
        );
        let kind = "type = \"choice\"";
        assert!(
            CatalogDocument::from_toml(&SHIPPED.replacen(kind, "type = \"choice\"\nmin = 1", 1)).is_err()
        );
    }

    #[test]
    fn the_digest_is_of_what_the_file_says_and_not_of_its_comments() {
        let digest = |text: &str| {
            let document = CatalogDocument::from_toml(text).unwrap();
            Catalog::check(&document, ActionTable::embedded().unwrap()).unwrap().digest()
        };
        assert_eq!(digest(SHIPPED), digest(&format!("# a comment\n{SHIPPED}")));
        assert_ne!(digest(SHIPPED), digest(&SHIPPED.replacen("max = 50", "max = 51", 1)));
    }
}
