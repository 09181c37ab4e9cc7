//! From the catalog as written to the catalog in force: whole, or not at all with every mistake named by its path.

mod action;
mod digests;
mod environment;
mod inverse;
mod observe;
mod web_identity;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::document::{CatalogDocument, StatementDocument};
use super::iam::ActionTable;
use super::permission::{Permission, Purpose};
use super::resolved::{Catalog, Target};
use super::template::Filling;
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
        checker.one_way_in(&environments);
        let mut actions = BTreeMap::new();
        for (name, written) in &document.actions {
            let path = format!("actions.{name}");
            if let Some(name) = checker.slug::<ActionType>(&path, name)
                && let Some(entry) = checker.action(&path, &name, written, &environments)
            {
                actions.insert(name, entry);
            }
        }
        checker.web_identities(&environments, &actions);
        checker.inverses(document, &mut actions);
        checker.templates(document, &mut actions);
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
mod tests;
