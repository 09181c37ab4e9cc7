//! Policy, catalog, directory and guardrails: what decides, read and checked together, swapped as one.

use std::collections::{BTreeMap, BTreeSet};

use super::ports::RulesDigests;
use crate::catalog::Catalog;
use crate::domain::directory::Directory;
use crate::domain::principal::{Environment, GroupSlug, PersonSlug, Role};
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

/// Where the rules do not fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Which part says what the others do not bear out.
    pub part: Part,
    /// Path in it, such as `break_glass.actions`; empty when the problem says it.
    pub path: String,
    /// What is wrong and what to do.
    pub problem: String,
}

/// Parts of the rules that name things of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The policy set.
    Policy,
    /// The guardrails.
    Guardrails,
}

impl Rules {
    /// Digests of all four.
    pub fn digests(&self) -> RulesDigests {
        RulesDigests {
            policy: self.policy.digest(),
            catalog: self.catalog.digest(),
            directory: self.directory.digest(),
            guardrails: self.guardrails.digest(),
        }
    }

    /// Where the four do not fit together; empty when they do.
    pub fn check(&self) -> Vec<Misfit> {
        let mut misfits = Vec::new();
        let authors = &self.guardrails.document().authors;
        for (id, rule) in self.policy.rules() {
            let policy = |what: String| Misfit {
                part: Part::Policy,
                path: String::new(),
                problem: format!("policy `{id}` {what}"),
            };
            misfits.extend(unfillable(rule, authors, &self.directory).map(policy));
        }
        let guardrails = self.guardrails_misfits();
        misfits.extend(guardrails.into_iter().map(|(path, problem)| Misfit {
            part: Part::Guardrails,
            path,
            problem,
        }));
        misfits
    }

    /// Path and problem of whatever the guardrails name and nobody else knows.
    fn guardrails_misfits(&self) -> Vec<(String, String)> {
        let document = self.guardrails.document();
        let authors = &document.authors;
        let mut misfits = Vec::new();
        let mut fail = |path: String, problem: String| misfits.push((path, problem));
        for author in authors.iter().filter(|author| self.directory.person(author).is_none()) {
            fail("authors".into(), format!("`{author}` is not a person of the directory"));
        }
        if let Some(why) = unfillable(&self.guardrails.unfreeze_rule(), authors, &self.directory) {
            fail("administration.unfreeze".into(), why);
        }
        if let Some(rule) = self.guardrails.break_glass() {
            let unfillable = unfillable(&rule.terms.rule, authors, &self.directory);
            let can_be_signed = unfillable.is_none();
            if let Some(why) = unfillable {
                fail("break_glass.signed_by".into(), why);
            }
            let owner = &rule.review.owner;
            let signers = rule.terms.rule.groups.get(owner).copied().unwrap_or(0);
            match u32::try_from(self.directory.members(owner).count()).unwrap_or(u32::MAX) {
                0 => fail(
                    "break_glass.review_owner".into(),
                    format!("`{owner}` is no group with people in it"),
                ),
                people if can_be_signed && people <= signers => fail(
                    "break_glass.review_owner".into(),
                    format!("all of `{owner}` sign, and nobody is left to review; name a larger group"),
                ),
                _ => {}
            }
            for action in rule.actions.iter().flatten().filter(|a| !self.catalog.actions().contains_key(*a)) {
                fail(
                    "break_glass.actions".into(),
                    format!("`{action}` is not an action type of the catalog"),
                );
            }
            for unknown in self.unknown_environments(&rule.environments) {
                fail("break_glass.environments".into(), unknown);
            }
        }
        for (name, budget) in &document.budgets {
            for unknown in budget.environments.iter().flat_map(|some| self.unknown_environments(some)) {
                fail(format!("budgets.{name}.environments"), unknown);
            }
        }
        // SECURITY: an agent or a person with a source's key could make the alert that starts a playbook.
        for (name, source) in &document.alerts {
            for kid in source.keys.iter().map(|key| key.thumbprint()) {
                let taken = self.directory.person_by_key(&kid).is_some()
                    || self.directory.agent_by_key(&kid).is_some();
                if taken {
                    let problem =
                        format!("key {kid} is already somebody's in the directory; every key has one owner");
                    fail(format!("alerts.{name}.keys"), problem);
                }
            }
        }
        misfits
    }

    fn unknown_environments(&self, named: &BTreeSet<Environment>) -> Vec<String> {
        let unknown = named.iter().filter(|environment| !self.catalog.has_environment(environment));
        unknown.map(|environment| format!("`{environment}` is not an environment of the catalog")).collect()
    }
}

/// A rule that nobody could ever satisfy is a mistake at load, not a surprise during an incident.
fn unfillable(rule: &Rule, authors: &BTreeSet<PersonSlug>, directory: &Directory) -> Option<String> {
    let unknown: Vec<&str> =
        rule.groups.keys().filter(|group| !directory.has_group(group)).map(GroupSlug::as_str).collect();
    if !unknown.is_empty() {
        let unknown = unknown.join("`, `");
        return Some(format!("asks for `{unknown}`, which is not a group of the directory"));
    }
    if rule.separate_authors && authors.is_empty() {
        return Some(
            "keeps the authors of the rules from signing, and nobody says who they are: say who wrote the rules in \
             `authors` of the guardrails"
                .into(),
        );
    }
    let no_authors = BTreeSet::new();
    let separated = if rule.separate_authors { authors } else { &no_authors };
    let missing = missing_without(rule, directory, separated, None);
    if !missing.is_empty() {
        let whose = if rule.separate_authors { " without the authors of the rules" } else { "" };
        return Some(format!("can never be satisfied{whose}: {}", lacking(&missing, rule)));
    }
    // An owner never approves what their agent asks.
    let agents = &directory.document().agents;
    let mut owners =
        agents.values().map(|agent| missing_without(rule, directory, separated, Some(&agent.owner)));
    let first = owners.next()?;
    (!first.is_empty() && owners.all(|missing| !missing.is_empty())).then(|| {
        format!(
            "can never be satisfied for any agent, because its owner does not count: {}",
            lacking(&first, rule)
        )
    })
}

/// Places of the rule that stay empty when everyone eligible but those left out has signed.
fn missing_without(
    rule: &Rule,
    directory: &Directory,
    authors: &BTreeSet<PersonSlug>,
    owner: Option<&PersonSlug>,
) -> BTreeMap<GroupSlug, u32> {
    let eligible = directory.document().people.iter().filter(|(slug, person)| {
        Some(*slug) != owner
            && !authors.contains(*slug)
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
