//! Action types: parameters, texts and numbers, statements, and what reaches further than its own resource.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, built_in_samples};
use crate::catalog::document::ActionDocument;
use crate::catalog::iam::{AccessLevel, vends_or_runs};
use crate::catalog::parameter::ParameterType;
use crate::catalog::permission::{Permission, Purpose, unknown_name};
use crate::catalog::resolved::{Entry, Target};
use crate::catalog::template::{Filling, Template, is_name};
use crate::domain::action::ActionClass;
use crate::domain::plan::ProviderKind;
use crate::domain::principal::Environment;

/// Longest work time that a catalog may allow, seconds.
const MAX_WORK_SECONDS: u32 = 600;

impl Checker<'_> {
    pub(super) fn action(
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
}
