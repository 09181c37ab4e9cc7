//! Who could sign: everybody eligible with a key of an accepted custody. Too few is a refusal before anyone is asked.

use std::collections::{BTreeMap, BTreeSet};

use super::Broker;
use super::refusal::{Code, Refusal};
use super::rules::Rules;
use crate::domain::approval::{Signable, eligible};
use crate::domain::directory::Person;
use crate::domain::principal::{GroupSlug, PersonSlug};

/// Everyone who could sign, by group; an error when they are too few for the rule to be met at all.
pub(super) fn signers(
    signed: &Signable<'_>,
    rules: &Rules,
) -> Result<BTreeMap<GroupSlug, Vec<PersonSlug>>, Refusal> {
    let rule = signed.rule;
    let mut by_group: BTreeMap<GroupSlug, Vec<PersonSlug>> = BTreeMap::new();
    let mut by_person: BTreeMap<PersonSlug, BTreeSet<GroupSlug>> = BTreeMap::new();
    for group in rule.groups.keys() {
        for person in rules.directory.members(group) {
            let has_key = |p: &Person| p.keys.iter().any(|k| rule.custody.contains(&k.custody));
            if eligible(person, signed, &rules.directory).is_ok()
                && rules.directory.person(person).is_some_and(has_key)
            {
                by_group.entry(group.clone()).or_default().push(person.clone());
                by_person.entry(person.clone()).or_default().insert(group.clone());
            }
        }
    }
    match rule.outstanding(&by_person).is_empty() {
        true => Ok(by_group),
        false => Err(Refusal::new(
            Code::PolicyDenied,
            format!(
                "nobody could ever approve this: it needs {rule}, and too few people other than its requester, the agent's owner and whoever else is a party to it qualify"
            ),
        )),
    }
}

impl Broker {
    /// Who wrote any part of the rules in force, or put it in force, as far as is known.
    pub(super) fn authors(&self, rules: &Rules) -> BTreeSet<PersonSlug> {
        rules.guardrails.document().authors.union(&self.in_force_by.load().all()).cloned().collect()
    }
}
