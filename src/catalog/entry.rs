//! An entry from its document, once its parts were read: by the catalog's check, or from what people signed.

use std::collections::{BTreeMap, BTreeSet};

use super::document::ActionDocument;
use super::iam::ActionFacts;
use super::inverse::Argument;
use super::parameter::ParameterType;
use super::permission::Permission;
use super::resolved::Entry;
use super::template::Template;
use crate::domain::plan::ProviderKind;
use crate::domain::principal::{ActionType, Environment};

/// The parts of an entry that are more than their text.
pub(super) struct Read {
    pub(super) parameters: BTreeMap<String, ParameterType>,
    pub(super) permissions: Vec<Permission>,
    pub(super) summary: Template,
    pub(super) service: Template,
}

impl Entry {
    /// The entry; its inverse and templates come when all entries are known.
    pub(super) fn of(written: &ActionDocument, environments: BTreeSet<Environment>, read: Read) -> Self {
        let Read { parameters, permissions, summary, service } = read;
        Self {
            unenforced: unenforced(written, &parameters, &permissions, [&summary, &service]),
            summary,
            provider: written.provider,
            service,
            class: written.class,
            settles: written.settles.clone(),
            inverse: None,
            rollback: written.rollback.clone(),
            changes: written.changes,
            max_work_seconds: written.max_work_seconds,
            environments,
            exceptions: written.exceptions.clone(),
            unscopable: written.unscopable.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect(),
            canary: written.canary,
            dependents: dependents(&permissions),
            parameters,
            permissions,
            templates: BTreeMap::new(),
        }
    }
}

/// What limits count an action under, as text; `None` where an AWS entry names no action.
pub(super) fn service_of<'a>(name: &'a ActionType, written: &'a ActionDocument) -> Option<&'a str> {
    match (&written.service, written.provider) {
        (Some(text), _) => Some(text),
        (None, ProviderKind::Jwt) => Some(name.as_str()),
        (None, ProviderKind::Aws) => {
            let first = written.statements.first().and_then(|statement| statement.actions.first())?;
            first.split_once(':').map(|(service, _)| service)
        }
    }
}

/// The parameters that the credential could be used with another value of. One that only the inverse uses is none: the
/// forward credential does nothing with it.
fn unenforced(
    written: &ActionDocument,
    parameters: &BTreeMap<String, ParameterType>,
    permissions: &[Permission],
    shown: [&Template; 2],
) -> Vec<String> {
    if written.provider == ProviderKind::Jwt {
        // The resource that takes our token is told every parameter and enforces them.
        return Vec::new();
    }
    let enforced: BTreeSet<&str> = permissions.iter().flat_map(Permission::enforced).collect();
    let forward = permissions.iter().flat_map(Permission::names);
    let forward: BTreeSet<&str> = forward.chain(shown.into_iter().flat_map(Template::names)).collect();
    let back: BTreeSet<String> = written
        .inverse
        .iter()
        .flat_map(|inverse| inverse.parameters.values())
        .filter_map(|value| match Argument::of(value) {
            Argument::Forward(name) => Some(name),
            Argument::Literal(_) => None,
        })
        .collect();
    // SECURITY: whatever the summary, the service or a statement speaks of is part of what is approved.
    let open = |name: &&String| {
        let name = name.as_str();
        !enforced.contains(name) && (forward.contains(name) || !back.contains(name))
    };
    parameters.keys().filter(open).cloned().collect()
}

/// What AWS may ask for beside the statements' own actions; told to the approver, never added.
fn dependents(permissions: &[Permission]) -> Vec<String> {
    let actions = || permissions.iter().flat_map(Permission::actions);
    let given: BTreeSet<String> =
        actions().map(ActionFacts::full_name).map(|name| name.to_ascii_lowercase()).collect();
    let needed: BTreeSet<&str> =
        actions().flat_map(|facts| facts.dependent_actions.iter().copied()).collect();
    let missing = needed.into_iter().filter(|action| !given.contains(&action.to_ascii_lowercase()));
    missing.map(str::to_owned).collect()
}
