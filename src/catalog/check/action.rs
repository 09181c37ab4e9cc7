//! Action types: parameters, texts and numbers, statements, and what reaches further than its own resource.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, built_in_samples};
use crate::catalog::document::ActionDocument;
use crate::catalog::entry::{Read, service_of};
use crate::catalog::iam::{AccessLevel, ActionFacts, vends_or_runs};
use crate::catalog::parameter::ParameterType;
use crate::catalog::permission::{Permission, Purpose, unknown_name};
use crate::catalog::resolved::{Entry, Target};
use crate::catalog::template::{Filling, Template, is_name};
use crate::domain::action::ActionClass;
use crate::domain::plan::ProviderKind;
use crate::domain::principal::{ActionType, Environment};

/// Longest work time that a catalog may allow, seconds.
const MAX_WORK_SECONDS: u32 = 600;
/// Longest name of a service, in characters.
const LONGEST_SERVICE: usize = 64;

impl Checker<'_> {
    pub(super) fn action(
        &mut self,
        path: &str,
        name: &ActionType,
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
        // Statements that were refused would make their marks look needless.
        if permissions.len() == written.statements.len() {
            self.reach(path, written, &permissions);
            self.unscopable(path, written, &permissions);
        }
        if written.canary && written.provider != ProviderKind::Aws {
            let problem = "a canary asks AWS: an entry of another provider has none";
            self.fail(format!("{path}.canary"), problem);
        }
        let service = self.service(path, name, written, &parameters);
        if written.class == ActionClass::Trust && written.provider == ProviderKind::Aws {
            for place in &places {
                let aws = environments.get(place).and_then(|target| target.aws.as_ref());
                if aws.is_some_and(|aws| aws.trust_role.is_none()) {
                    self.fail(format!("{path}.class"), format!("`trust` needs a `trust_role` in `{place}`"));
                }
            }
        }
        let (summary, service) = (summary?, service?);
        let read = Read { parameters, permissions, summary, service };
        (self.errors.len() == before).then(|| Entry::of(written, places, read))
    }

    /// What limits count the action under; whatever fills its names, it fits.
    fn service(
        &mut self,
        path: &str,
        name: &ActionType,
        written: &ActionDocument,
        parameters: &BTreeMap<String, ParameterType>,
    ) -> Option<Template> {
        let path = format!("{path}.service");
        let text = service_of(name, written)?;
        let template = Template::parse(text).map_err(|problem| self.fail(&path, problem)).ok()?;
        if let Some(unknown) = template.names().find(|name| !parameters.contains_key(*name)) {
            self.fail(&path, format!("`{{{unknown}}}` is no parameter"));
            return None;
        }
        let longest = template.longest(|name| parameters.get(name).map(ParameterType::longest));
        if text.is_empty() || longest.is_none_or(|longest| longest > LONGEST_SERVICE) {
            let problem = format!(
                "it has 1 to {LONGEST_SERVICE} characters whatever its parameters are: give each a `max_length`"
            );
            self.fail(&path, problem);
            return None;
        }
        Some(template)
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
        if written.settles.as_ref().is_some_and(|text| !printable(text)) {
            self.fail(format!("{path}.settles"), "it has 1 to 512 characters of printable ASCII");
        }
        if written.settles.is_some() && written.inverse.is_some() {
            let problem = "what comes back by itself needs no inverse: keep one of `settles` and `inverse`";
            self.fail(format!("{path}.inverse"), problem);
        }
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

    /// Actions that no ARN narrows are marked; marks need such an action.
    fn unscopable(&mut self, path: &str, written: &ActionDocument, permissions: &[Permission]) {
        let open = permissions.iter().flat_map(Permission::actions).filter(|facts| facts.is_unscopable());
        let open: BTreeSet<String> = open.map(ActionFacts::full_name).collect();
        for action in open.iter().filter(|action| !written.unscopable.contains(action)) {
            let problem = format!(
                "`{action}` cannot be narrowed to a resource: leave it out, or mark it as `unscopable = [\"{action}\"]` for approvers to see"
            );
            self.fail(format!("{path}.unscopable"), problem);
        }
        for (at, mark) in written.unscopable.iter().enumerate() {
            if !open.contains(mark) {
                let problem = format!(
                    "no statement has an action `{}` that its resources do not narrow: remove the mark",
                    mark.escape_default()
                );
                self.fail(format!("{path}.unscopable[{at}]"), problem);
            }
        }
    }
}
