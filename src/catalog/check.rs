//! From the catalog as written to the catalog in force: whole, or not at all with every mistake named by its path.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::document::{
    ActionDocument, AwsTargetDocument, CatalogDocument, EnvironmentDocument, JwtTarget, ObserveDocument,
    StatementDocument,
};
use super::iam::{AccessLevel, ActionTable, fits, sensitive_read, vends_or_runs};
use super::parameter::ParameterType;
use super::permission::{Permission, Purpose, unknown_name};
use super::resolved::{AwsTarget, Catalog, Entry, ObserveSet, Target};
use super::template::{Filling, Template, forbidden_in, is_name};
use crate::domain::action::ActionClass;
use crate::domain::digest::Digest;
use crate::domain::plan::ProviderKind;
use crate::domain::principal::{ActionType, Environment};

/// Longest work time that a catalog may allow, seconds.
const MAX_WORK_SECONDS: u32 = 600;

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

    fn environment(&mut self, name: &str, written: &EnvironmentDocument) -> Option<(Environment, Target)> {
        let path = format!("environments.{name}");
        let slug = self.slug::<Environment>(&path, name)?;
        if written.aws.is_none() && written.jwt.is_none() {
            self.fail(&path, "it has no target: add `aws` or `jwt`");
        }
        let aws = written.aws.as_ref().map(|aws| self.aws(&format!("{path}.aws"), aws));
        if let Some(jwt) = &written.jwt {
            self.jwt(&format!("{path}.jwt"), jwt);
        }
        Some((slug, Target { aws, jwt: written.jwt.clone() }))
    }

    fn aws(&mut self, path: &str, written: &AwsTargetDocument) -> AwsTarget {
        if written.account.len() != 12 || !written.account.bytes().all(|b| b.is_ascii_digit()) {
            self.fail(format!("{path}.account"), "an account has twelve digits");
        }
        let in_region = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if written.region.is_empty() || !written.region.bytes().all(in_region) {
            self.fail(format!("{path}.region"), "a region is written such as `eu-central-1`");
        }
        let partition = written.execute_role.split(':').nth(1).unwrap_or_default().to_owned();
        if !matches!(partition.as_str(), "aws" | "aws-cn" | "aws-us-gov" | "aws-eusc") {
            self.fail(format!("{path}.execute_role"), "it names no partition of AWS that is known");
        }
        let roles = [
            ("execute_role", Some(&written.execute_role)),
            ("trust_role", written.trust_role.as_ref()),
            ("observe_role", Some(&written.observe_role)),
        ];
        let mut seen = BTreeSet::new();
        let pattern = format!("arn:{partition}:iam::{}:role/${{RoleNameWithPath}}", written.account);
        for (key, role) in roles {
            let Some(role) = role else { continue };
            if !fits(&pattern, role) || role.len() > 2048 {
                let problem =
                    format!("`{}` is no role of account {}", role.escape_default(), written.account);
                self.fail(format!("{path}.{key}"), problem);
            }
            if !seen.insert(role.to_ascii_lowercase()) {
                self.fail(
                    format!("{path}.{key}"),
                    "every phase has a role of its own: this one is used twice",
                );
            }
        }
        if let Some(id) = &written.external_id {
            let taken = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@:/-_".contains(&b);
            if !(2..=1224).contains(&id.len()) || !id.bytes().all(taken) {
                self.fail(
                    format!("{path}.external_id"),
                    "it has 2 to 1224 characters of A-Z a-z 0-9 + = , . @ : / - _",
                );
            }
        }
        for (at, arn) in written.protected.iter().enumerate() {
            if !arn.starts_with("arn:") || forbidden_in(arn).is_some() {
                self.fail(format!("{path}.protected[{at}]"), "it is no exact ARN");
            }
        }
        AwsTarget {
            partition,
            account: written.account.clone(),
            region: written.region.clone(),
            execute_role: written.execute_role.clone(),
            trust_role: written.trust_role.clone(),
            observe_role: written.observe_role.clone(),
            external_id: written.external_id.clone(),
            protected: written.protected.clone(),
        }
    }

    fn jwt(&mut self, path: &str, written: &JwtTarget) {
        let audience = &written.audience;
        let loopback = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
        let on_loopback = loopback.iter().any(|host| {
            audience.strip_prefix(host).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
        });
        if !(on_loopback || audience.strip_prefix("https://").is_some_and(|rest| !rest.is_empty())) {
            self.fail(format!("{path}.audience"), "it must be an https URL, or an http URL on loopback");
        }
        if audience.len() > 512 || audience.contains(' ') || forbidden_in(audience).is_some() {
            self.fail(format!("{path}.audience"), "it holds a character that no URL of an audience may hold");
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

    fn action(
        &mut self,
        path: &str,
        written: &ActionDocument,
        environments: &BTreeMap<Environment, Target>,
    ) -> Option<Entry> {
        let before = self.errors.len();
        let places = self.places(path, &written.environments, written.provider, environments);
        let mut parameters = BTreeMap::new();
        let mut samples = Filling::new();
        for (name, kind) in &written.parameters {
            let path = format!("{path}.parameters.{name}");
            if !is_name(name) || ["account", "region", "partition"].contains(&name.as_str()) {
                self.fail(
                    &path,
                    "a name is 1 to 32 of a-z, 0-9 and _, begins with a letter and is not built in",
                );
            }
            match ParameterType::check(kind) {
                Ok(kind) => {
                    samples.insert(name.clone(), kind.sample());
                    parameters.insert(name.clone(), kind);
                }
                Err((key, problem)) => {
                    samples.insert(name.clone(), "x".to_owned());
                    self.fail(format!("{path}.{key}"), problem);
                }
            }
        }
        if written.provider == ProviderKind::Aws {
            samples.extend(built_in_samples());
        }
        let summary = self.summary(path, &written.summary, &samples);
        self.numbers_and_texts(path, written);
        let permissions =
            self.permissions(path, &written.statements, written.provider, &samples, Purpose::Execute);
        self.reach(path, written, &permissions);
        if written.class == ActionClass::Trust && written.provider == ProviderKind::Aws {
            for place in &places {
                let aws = environments.get(place).and_then(|target| target.aws.as_ref());
                if aws.is_some_and(|aws| aws.trust_role.is_none()) {
                    self.fail(format!("{path}.class"), format!("`trust` needs a `trust_role` in `{place}`"));
                }
            }
        }
        let enforced: BTreeSet<&str> = permissions.iter().flat_map(Permission::enforced).collect();
        // The resource that takes our token is told every parameter and enforces them.
        let open =
            |name: &&String| written.provider == ProviderKind::Aws && !enforced.contains(name.as_str());
        let unenforced = parameters.keys().filter(open).cloned().collect();
        (self.errors.len() == before).then_some(Entry {
            summary: summary?,
            provider: written.provider,
            class: written.class,
            reversible: written.reversible,
            rollback: written.rollback.clone(),
            changes: written.changes,
            max_work_seconds: written.max_work_seconds,
            environments: places,
            exceptions: written.exceptions.clone(),
            parameters,
            unenforced,
            permissions,
        })
    }

    fn summary(&mut self, path: &str, written: &str, samples: &Filling) -> Option<Template> {
        let path = format!("{path}.summary");
        if !(1..=160).contains(&written.len()) {
            self.fail(&path, "it has 1 to 160 characters");
        }
        match Template::parse(written) {
            Ok(template) => {
                for name in template.names().filter(|name| !samples.contains_key(*name)) {
                    self.fail(&path, unknown_name(name));
                }
                Some(template)
            }
            Err(problem) => {
                self.fail(&path, problem);
                None
            }
        }
    }

    fn numbers_and_texts(&mut self, path: &str, written: &ActionDocument) {
        if !(1..=MAX_WORK_SECONDS).contains(&written.max_work_seconds) {
            self.fail(
                format!("{path}.max_work_seconds"),
                format!("it must be within 1 to {MAX_WORK_SECONDS}"),
            );
        }
        if written.changes == 0 {
            self.fail(format!("{path}.changes"), "an action changes one thing at least");
        }
        let printable =
            |text: &String| (1..=512).contains(&text.len()) && text.bytes().all(|b| matches!(b, b' '..=b'~'));
        if written.rollback.as_ref().is_some_and(|text| !printable(text)) {
            self.fail(format!("{path}.rollback"), "it has 1 to 512 characters of printable ASCII");
        }
        if written.reversible && written.rollback.is_none() {
            self.fail(format!("{path}.rollback"), "a reversible action says what the way back is");
        }
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

    /// Actions that reach further than their own resource need an exception; exceptions need such an action.
    fn reach(&mut self, path: &str, written: &ActionDocument, permissions: &[Permission]) {
        let mut needed = BTreeSet::new();
        for facts in permissions.iter().flat_map(Permission::actions) {
            let action = facts.full_name();
            if facts.access_level == AccessLevel::PermissionsManagement && written.class != ActionClass::Trust
            {
                self.fail(
                    format!("{path}.class"),
                    format!("`{action}` changes who may do what: use `trust`"),
                );
            }
            let Some(reason) = vends_or_runs(&action) else { continue };
            if !written.exceptions.contains(&action) {
                let problem = format!(
                    "`{action}` {reason}: leave it out, or name it in `exceptions` for approvers to see"
                );
                self.fail(format!("{path}.exceptions"), problem);
            }
            needed.insert(action);
        }
        for (at, exception) in written.exceptions.iter().enumerate() {
            if !needed.contains(exception) {
                let problem =
                    format!("no statement needs the exception `{}`: remove it", exception.escape_default());
                self.fail(format!("{path}.exceptions[{at}]"), problem);
            }
        }
    }

    fn observe(
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
        for facts in permissions.iter().flat_map(Permission::actions) {
            let action = facts.full_name();
            if !matches!(facts.access_level, AccessLevel::Read | AccessLevel::List) {
                self.fail(format!("{path}.statements"), format!("`{action}` does not only read or list"));
            }
            if let Some(reason) = sensitive_read(&action) {
                self.fail(format!("{path}.statements"), format!("`{action}` {reason}: it is no observation"));
            }
        }
        (self.errors.len() == before).then_some(ObserveSet {
            provider: written.provider,
            environments: places,
            seconds: written.seconds,
            permissions,
        })
    }
}

fn built_in_samples() -> [(String, String); 3] {
    [("account", "111122223333"), ("region", "eu-central-1"), ("partition", "aws")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
}
