//! Allow statements that hold every statement of their kind, and their union as one policy text.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::catalog::document::Conditions;
use crate::catalog::iam::ActionFacts;
use crate::catalog::permission::Permission;
use crate::catalog::resolved::AwsTarget;
use crate::catalog::template::{Filling, Template};
use crate::domain::sent::CANARY_ACTION;
use crate::domain::web_identity::ACTION_TAG;

/// More texts of one template than this are not written out: each name then stands for `*`.
const MOST_TEXTS: usize = 8;

/// What each parameter can be at most, by name.
type Globs = BTreeMap<String, Vec<String>>;
type Set = BTreeSet<String>;

/// A union of Allow statements, without duplicates.
#[derive(Debug, Default)]
pub(super) struct Statements(BTreeSet<(Set, Conditions, Set)>);

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Allow<'a> {
    effect: &'static str,
    action: &'a Set,
    resource: &'a Set,
    #[serde(skip_serializing_if = "Conditions::is_empty")]
    condition: &'a Conditions,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Policy<'a> {
    version: &'static str,
    statement: Vec<Allow<'a>>,
}

impl Statements {
    /// Adds what `permission` can become in this account.
    pub(super) fn add(&mut self, permission: &Permission, globs: &Globs, target: &AwsTarget) {
        let actions = permission.actions.iter().map(ActionFacts::full_name).collect();
        let built_in = target.filling();
        let values = |name: &str| match (built_in.get(name), globs.get(name)) {
            (Some(value), _) => vec![value.clone()],
            (None, Some(globs)) => globs.clone(),
            (None, None) => vec!["*".to_owned()],
        };
        let resources: Set = match &permission.resources {
            None => Set::from(["*".to_owned()]),
            Some(templates) => templates
                .iter()
                .flat_map(|template| texts(template, &values))
                .map(|arn| in_account(&arn, target))
                // What names another account, or us, never compiles here.
                .filter(|arn| target.owns(arn).is_ok())
                .collect(),
        };
        if !resources.is_empty() {
            self.0.insert((resources, conditions(permission, &values), actions));
        }
    }

    /// Adds what a canary may do; where sessions carry their action as a tag, only in those of this entry.
    pub(super) fn add_canary(&mut self, of: Option<&str>) {
        let mut conditions = Conditions::new();
        if let Some(name) = of {
            let tag = format!("aws:PrincipalTag/{ACTION_TAG}");
            conditions.entry("StringEquals".to_owned()).or_default().insert(tag, vec![name.to_owned()]);
        }
        let (everything, action) = (Set::from(["*".to_owned()]), Set::from([CANARY_ACTION.to_owned()]));
        self.0.insert((everything, conditions, action));
    }

    /// Adds what `permission` of the entry `name` is for a session that carries its parameters as tags: nothing else.
    pub(super) fn add_by_tag(
        &mut self,
        name: &str,
        permission: &Permission,
        variables: &Filling,
        target: &AwsTarget,
    ) {
        let actions = permission.actions.iter().map(ActionFacts::full_name).collect();
        let mut filling = target.filling();
        filling.extend(variables.clone());
        let fill = |template: &Template| template.fill(&filling).ok();
        let resources: Set = match &permission.resources {
            None => Set::from(["*".to_owned()]),
            Some(templates) => {
                templates.iter().filter_map(fill).filter(|arn| target.owns(arn).is_ok()).collect()
            }
        };
        let mut conditions = Conditions::new();
        for (operator, keys) in &permission.conditions {
            for (key, values) in keys {
                let values = values.iter().filter_map(fill).collect();
                conditions.entry(operator.clone()).or_default().insert(key.clone(), values);
            }
        }
        let action = conditions.entry("StringEquals".to_owned()).or_default();
        action.insert(format!("aws:PrincipalTag/{ACTION_TAG}"), vec![name.to_owned()]);
        if !resources.is_empty() {
            self.0.insert((resources, conditions, actions));
        }
    }

    /// Every action that is allowed.
    pub(super) fn actions(&self) -> Set {
        self.0.iter().flat_map(|(_, _, actions)| actions.iter().cloned()).collect()
    }

    /// The policy text; `None` when nothing is allowed.
    pub(super) fn text(&self) -> Option<String> {
        // Statements that differ in their actions alone, or in their resources alone, say the same as one.
        let mut by_resource: BTreeMap<(Set, Conditions), Set> = BTreeMap::new();
        for (resources, conditions, actions) in &self.0 {
            by_resource
                .entry((resources.clone(), conditions.clone()))
                .or_default()
                .extend(actions.iter().cloned());
        }
        let mut merged: BTreeMap<(Set, Conditions), Set> = BTreeMap::new();
        for ((resources, conditions), actions) in by_resource {
            merged.entry((actions, conditions)).or_default().extend(resources);
        }
        let statement: Vec<Allow<'_>> = merged
            .iter()
            .map(|((action, condition), resource)| Allow { effect: "Allow", action, resource, condition })
            .collect();
        match statement.is_empty() {
            true => None,
            false => serde_json::to_string(&Policy { version: "2012-10-17", statement }).ok(),
        }
    }
}

fn texts(template: &Template, values: &impl Fn(&str) -> Vec<String>) -> Vec<String> {
    let few = template.names().map(|name| values(name).len()).try_fold(1_usize, usize::checked_mul);
    let widest = |name: &str| match &values(name)[..] {
        [one] => vec![one.clone()],
        _ => vec!["*".to_owned()],
    };
    match few.is_some_and(|texts| texts <= MOST_TEXTS) {
        true => template.each(values),
        false => template.each(widest),
    }
}

/// A wildcard where an ARN names its partition, region or account stands for ours: no other one compiles.
fn in_account(arn: &str, target: &AwsTarget) -> String {
    let ours = [None, Some(&target.partition), None, Some(&target.region), Some(&target.account)];
    let parts = arn.splitn(6, ':').enumerate().map(|(at, part)| match ours.get(at) {
        Some(Some(own)) if part.contains(['*', '?']) => own.as_str(),
        _ => part,
    });
    parts.collect::<Vec<_>>().join(":")
}

/// Conditions that hold whenever those of the statement do. What has no such form is left to the presence of its key.
fn conditions(permission: &Permission, values: &impl Fn(&str) -> Vec<String>) -> Conditions {
    let mut kept = Conditions::new();
    for (operator, keys) in &permission.conditions {
        for (key, templates) in keys {
            let all: Vec<String> = templates.iter().flat_map(|template| texts(template, values)).collect();
            let literal = !all.iter().any(|text| text.contains(['*', '?']));
            let widened = match (operator.as_str(), literal) {
                (_, true) => operator.as_str(),
                ("StringEquals", false) => "StringLike",
                ("ArnEquals", false) => "ArnLike",
                _ => {
                    kept.entry("Null".to_owned())
                        .or_default()
                        .entry(key.clone())
                        .or_insert_with(|| vec!["false".to_owned()]);
                    continue;
                }
            };
            kept.entry(widened.to_owned()).or_default().insert(key.clone(), all);
        }
    }
    kept
}
