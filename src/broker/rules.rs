//! Policy, catalog and directory: what decides, read and checked together, swapped as one.

use std::collections::{BTreeMap, BTreeSet};

use super::ports::RulesDigests;
use crate::catalog::Catalog;
use crate::domain::directory::Directory;
use crate::domain::principal::{GroupSlug, PersonSlug, Role};
use crate::domain::rule::Rule;
use crate::guardrails::Guardrails;
use crate::policy::PolicySet;

/// The rules in force.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Action types.
    pub catalog: Catalog,
    /// The policy set.
    pub policy: PolicySet,
    /// People, groups, keys and agents.
    pub directory: Directory,
    /// Budgets and the rules beside the policies.
    pub guardrails: Guardrails,
}

impl Rules {
    /// Digests of all three.
    pub fn digests(&self) -> RulesDigests {
        RulesDigests {
            policy: self.policy.digest(),
            catalog: self.catalog.digest(),
            directory: self.directory.digest(),
            guardrails: self.guardrails.digest(),
        }
    }

    /// Where the three do not fit together; empty when they do.
    pub fn check(&self) -> Vec<String> {
        self.policy.rules().filter_map(|(id, rule)| unfillable(id, rule, &self.directory)).collect()
    }
}

/// A rule that nobody could ever satisfy is a mistake at load, not a surprise during an incident.
fn unfillable(id: &str, rule: &Rule, directory: &Directory) -> Option<String> {
    let unknown: Vec<&str> =
        rule.groups.keys().filter(|group| !directory.has_group(group)).map(GroupSlug::as_str).collect();
    if !unknown.is_empty() {
        let unknown = unknown.join("`, `");
        return Some(format!("policy `{id}` asks for `{unknown}`, which is not a group of the directory"));
    }
    let missing = missing_without(rule, directory, None);
    if !missing.is_empty() {
        return Some(format!("policy `{id}` can never be satisfied: {}", lacking(&missing, rule)));
    }
    // An owner never approves what their agent asks.
    let agents = &directory.document().agents;
    let mut owners = agents.values().map(|agent| missing_without(rule, directory, Some(&agent.owner)));
    let first = owners.next()?;
    (!first.is_empty() && owners.all(|missing| !missing.is_empty())).then(|| {
        format!(
            "policy `{id}` can never be satisfied for any agent, because its owner does not count: {}",
            lacking(&first, rule)
        )
    })
}

/// Places of the rule that stay empty when everyone eligible but `left_out` has signed.
fn missing_without(
    rule: &Rule,
    directory: &Directory,
    left_out: Option<&PersonSlug>,
) -> BTreeMap<GroupSlug, u32> {
    let eligible = directory.document().people.iter().filter(|(slug, person)| {
        Some(*slug) != left_out
            && person.roles.contains(&Role::Approver)
            && person.keys.iter().any(|key| rule.custody.contains(&key.custody))
    });
    let signers: BTreeMap<PersonSlug, BTreeSet<GroupSlug>> = eligible
        .map(|(slug, _)| {
            let groups = rule.groups.keys().filter(|group| directory.is_member(slug, group)).cloned();
            (slug.clone(), groups.collect())
        })
        .collect();
    rule.outstanding(&signers)
}

fn lacking(missing: &BTreeMap<GroupSlug, u32>, rule: &Rule) -> String {
    let parts: Vec<String> = missing.iter().map(|(group, n)| format!("{n} more of `{group}`")).collect();
    let custody: Vec<&str> = rule.custody.iter().map(|custody| custody.name()).collect();
    format!(
        "it needs {} with the role approver and a key kept as {}",
        parts.join(" and "),
        custody.join(" or ")
    )
}
