//! The way back: whatever the forward action is asked for, its inverse has a value that its own type takes.

use std::collections::BTreeMap;

use super::Checker;
use crate::catalog::document::{CatalogDocument, InverseDocument};
use crate::catalog::inverse::{Argument, Inverse, as_written};
use crate::catalog::parameter::ParameterType;
use crate::catalog::resolved::Entry;
use crate::domain::action::Parameters;
use crate::domain::principal::{ActionType, Environment};

/// Seconds to claim an inverse.
const CLAIM_SECONDS: std::ops::RangeInclusive<u32> = 60..=86_400;

impl Checker<'_> {
    /// Gives every entry its inverse, once all entries are known.
    pub(super) fn inverses(&mut self, document: &CatalogDocument, actions: &mut BTreeMap<ActionType, Entry>) {
        let mut found = Vec::new();
        for (name, entry) in &*actions {
            let Some(written) = document.actions.get(name.as_str()).and_then(|one| one.inverse.as_ref())
            else {
                continue;
            };
            let path = format!("actions.{name}.inverse");
            if !document.actions.contains_key(&written.action) {
                let unknown = written.action.escape_default();
                self.fail(format!("{path}.action"), format!("the catalog has no action `{unknown}`"));
                continue;
            }
            // An entry that is itself refused is told by its own mistakes.
            let Some((action, back)) = written.action.parse().ok().and_then(|a| actions.get_key_value(&a))
            else {
                continue;
            };
            let parameters = self.inverse(&path, written, entry, back);
            found.push((
                name.clone(),
                Inverse { action: action.clone(), parameters, claim_seconds: written.claim_seconds },
            ));
        }
        for (name, inverse) in found {
            if let Some(entry) = actions.get_mut(&name) {
                entry.inverse = Some(inverse);
            }
        }
    }

    fn inverse(
        &mut self,
        path: &str,
        written: &InverseDocument,
        forward: &Entry,
        back: &Entry,
    ) -> BTreeMap<String, Argument> {
        if !CLAIM_SECONDS.contains(&written.claim_seconds) {
            self.fail(format!("{path}.claim_seconds"), "it must be within 60 to 86400");
        }
        let missing: Vec<&str> =
            forward.environments.difference(&back.environments).map(Environment::as_str).collect();
        if !missing.is_empty() {
            let problem = format!(
                "`{}` is not allowed in {}: the way back must be open wherever the action is",
                written.action,
                missing.join(", ")
            );
            self.fail(format!("{path}.action"), problem);
        }
        for name in back.parameters.keys().filter(|name| !written.parameters.contains_key(*name)) {
            self.fail(format!("{path}.parameters"), format!("`{}` also needs `{name}`", written.action));
        }
        let mut arguments = BTreeMap::new();
        for (name, value) in &written.parameters {
            let argument = Argument::of(value);
            let problem = match back.parameters.get(name) {
                Some(kind) => argument_problem(&argument, name, kind, forward),
                None => Some(format!("`{}` has no such parameter", written.action)),
            };
            if let Some(problem) = problem {
                self.fail(format!("{path}.parameters.{name}"), problem);
            }
            arguments.insert(name.clone(), argument);
        }
        arguments
    }
}

/// Why `argument` may not always be a value of `kind`.
fn argument_problem(
    argument: &Argument,
    name: &str,
    kind: &ParameterType,
    forward: &Entry,
) -> Option<String> {
    match argument {
        Argument::Forward(from) => match forward.parameters.get(from) {
            Some(given) => given.within(kind).err(),
            None => Some(format!(
                "`{{{}}}` is no parameter of this action: write one alone, or a literal",
                from.escape_default()
            )),
        },
        Argument::Literal(value) => {
            let one = as_written(&Parameters::from([(name.to_owned(), value.clone())]));
            one.get(name).and_then(|value| kind.value(name, value).err()).map(|error| error.to_string())
        }
    }
}
