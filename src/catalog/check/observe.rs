//! Read-only sets: every action only reads or lists, none returns what an agent must not see, and stored data is read
//! only where the set says so.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, built_in_samples};
use crate::catalog::document::ObserveDocument;
use crate::catalog::iam::{AccessLevel, data_read, is_telemetry, never_read};
use crate::catalog::permission::{Permission, Purpose};
use crate::catalog::resolved::{ObserveSet, Target};
use crate::domain::observation::Trust;
use crate::domain::principal::Environment;

impl Checker<'_> {
    pub(super) fn observe(
        &mut self,
        path: &str,
        written: &ObserveDocument,
        environments: &BTreeMap<Environment, Target>,
    ) -> Option<ObserveSet> {
        let before = self.errors.len();
        let places = self.places(path, &written.environments, written.provider, environments);
        if !(60..=900).contains(&written.seconds) {
            self.fail(format!("{path}.seconds"), "it must be within 60 to 900");
        }
        let samples = built_in_samples().into_iter().collect();
        let permissions =
            self.permissions(path, &written.statements, written.provider, &samples, Purpose::Observe);
        // Statements that were refused would make what they list look needless.
        if permissions.len() == written.statements.len() {
            self.reads(path, written, &permissions);
        }
        (self.errors.len() == before).then_some(ObserveSet {
            provider: written.provider,
            environments: places,
            seconds: written.seconds,
            trust: written.trust,
            permissions,
        })
    }

    /// Every action only reads. Stored data is read where it is listed, from resources that are named; secrets never.
    fn reads(&mut self, path: &str, written: &ObserveDocument, permissions: &[Permission]) {
        let mut needed = BTreeSet::new();
        for (permission, facts) in
            permissions.iter().flat_map(|one| one.actions().map(move |facts| (one, facts)))
        {
            let action = facts.full_name();
            let statements = format!("{path}.statements");
            if !matches!(facts.access_level, AccessLevel::Read | AccessLevel::List) {
                self.fail(&statements, format!("`{action}` does not only read or list"));
            } else if let Some(reason) = never_read(&action) {
                self.fail(&statements, format!("`{action}` {reason}: it is no observation"));
            } else if let Some(reason) = data_read(&action) {
                if !written.data_reads.contains(&action) {
                    let problem = format!(
                        "`{action}` {reason}: leave it out, or list it in `data_reads` if that is tolerable"
                    );
                    self.fail(format!("{path}.data_reads"), problem);
                }
                if permission.is_everything() && !facts.is_unscopable() {
                    self.fail(&statements, format!("`{action}` {reason}: name the exact resources, not `*`"));
                }
                needed.insert(action);
            } else if written.trust == Trust::Trusted && is_telemetry(&action) {
                let problem =
                    format!("`{action}` shows what anyone may have written: its set is not trusted");
                self.fail(format!("{path}.trust"), problem);
            }
        }
        if written.trust == Trust::Trusted && !written.data_reads.is_empty() {
            self.fail(
                format!("{path}.trust"),
                "anyone may have written stored data: a set that reads it is not trusted",
            );
        }
        for (at, action) in written.data_reads.iter().enumerate() {
            if !needed.contains(action) {
                let problem =
                    format!("no statement reads stored data with `{}`: remove it", action.escape_default());
                self.fail(format!("{path}.data_reads[{at}]"), problem);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SHIPPED, catalog, errors, mistake};
    use super::*;
    use crate::catalog::document::CatalogDocument;

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
        for secret in [
            "secretsmanager:GetSecretValue",
            "ssm:GetParameter",
            "lambda:GetFunction",
            "rds:DescribeDBInstances",
        ] {
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
            let catalog = catalog(text);
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
}
