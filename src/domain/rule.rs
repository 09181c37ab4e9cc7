//! Who must sign: approvals per group, combined with AND, by distinct people. Counting is all it does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::key::Custody;
use super::principal::{GroupSlug, PersonSlug};

/// A quorum rule: every group's number, each approval by a different person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Approvals needed per group; never empty, never zero.
    pub groups: BTreeMap<GroupSlug, u32>,
    /// Custodies accepted; never empty.
    pub custody: BTreeSet<Custody>,
    /// Whether the authors of the rules in force may not sign.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub separate_authors: bool,
}

/// A rule that would be an open door, or could never be met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadRule(pub String);

impl Rule {
    /// Largest number of people one rule may ask for.
    pub const MAX_PEOPLE: u32 = 16;

    /// The rule of what nobody signs, a suggestion: it satisfies [`Rule::check`] never, so nothing is minted under it.
    pub fn nobody() -> Self {
        Self { groups: BTreeMap::new(), custody: BTreeSet::new(), separate_authors: false }
    }

    /// INVARIANT: no-self-approval. Zero or missing quorum is an error, never an open door.
    pub fn check(&self) -> Result<(), BadRule> {
        if self.groups.is_empty() {
            return Err(BadRule("a rule names no group; at least one approval is needed".into()));
        }
        if let Some((group, _)) = self.groups.iter().find(|(_, n)| **n == 0) {
            return Err(BadRule(format!("group `{group}` needs zero approvals; at least one is needed")));
        }
        if self.people() > Self::MAX_PEOPLE {
            return Err(BadRule(format!("a rule asks for more than {} people", Self::MAX_PEOPLE)));
        }
        if self.custody.is_empty() {
            return Err(BadRule("no key custody satisfies all policies that decided".into()));
        }
        Ok(())
    }

    /// How many different people must sign.
    pub fn people(&self) -> u32 {
        self.groups.values().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// The stricter of both in every part: the larger number per group, all groups, only custodies both accept.
    pub fn and(&self, other: &Rule) -> Rule {
        let mut groups = self.groups.clone();
        for (group, count) in &other.groups {
            let slot = groups.entry(group.clone()).or_insert(0);
            *slot = (*slot).max(*count);
        }
        Rule {
            groups,
            custody: self.custody.intersection(&other.custody).copied().collect(),
            separate_authors: self.separate_authors || other.separate_authors,
        }
    }

    /// What is missing when each of `signers` (a person with the groups they count for) has signed.
    /// One person fills one place, so a person in two groups never satisfies both.
    pub fn outstanding(
        &self,
        signers: &BTreeMap<PersonSlug, BTreeSet<GroupSlug>>,
    ) -> BTreeMap<GroupSlug, u32> {
        let places: Vec<&GroupSlug> = self
            .groups
            .iter()
            .flat_map(|(group, n)| (0..*n.min(&Self::MAX_PEOPLE)).map(move |_| group))
            .collect();
        let people: Vec<&BTreeSet<GroupSlug>> = signers.values().collect();
        let mut taken: Vec<Option<usize>> = vec![None; places.len()];
        for person in 0..people.len() {
            seat(person, &people, &places, &mut taken, &mut BTreeSet::new());
        }
        let mut missing = BTreeMap::new();
        for (group, _) in places.iter().zip(&taken).filter(|(_, person)| person.is_none()) {
            *missing.entry((*group).clone()).or_insert(0) += 1;
        }
        missing
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups: Vec<String> = self.groups.iter().map(|(group, n)| format!("{n} of {group}")).collect();
        let custody: Vec<&str> = self.custody.iter().map(|c| c.name()).collect();
        write!(f, "{} (key kept as: {}", groups.join(" and "), custody.join(" or "))?;
        f.write_str(if self.separate_authors { "; no author of the rules in force)" } else { ")" })
    }
}

/// Finds `person` a place, moving others who can sit elsewhere (augmenting path of a bipartite matching).
fn seat(
    person: usize,
    people: &[&BTreeSet<GroupSlug>],
    places: &[&GroupSlug],
    taken: &mut Vec<Option<usize>>,
    visited: &mut BTreeSet<usize>,
) -> bool {
    for (at, group) in places.iter().enumerate() {
        if !people.get(person).is_some_and(|groups| groups.contains(*group)) || !visited.insert(at) {
            continue;
        }
        let free = match taken.get(at).copied().flatten() {
            None => true,
            Some(other) => seat(other, people, places, taken, visited),
        };
        if free {
            if let Some(slot) = taken.get_mut(at) {
                *slot = Some(person);
            }
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(groups: &[(&str, u32)]) -> Rule {
        Rule {
            groups: groups.iter().map(|(g, n)| (g.parse().unwrap(), *n)).collect(),
            custody: [Custody::File].into(),
            separate_authors: false,
        }
    }

    fn signers(people: &[(&str, &[&str])]) -> BTreeMap<PersonSlug, BTreeSet<GroupSlug>> {
        people
            .iter()
            .map(|(p, groups)| (p.parse().unwrap(), groups.iter().map(|g| g.parse().unwrap()).collect()))
            .collect()
    }

    #[test]
    fn one_person_in_two_groups_fills_one_place() {
        let both = rule(&[("sre", 1), ("security", 1)]);
        assert!(!both.outstanding(&signers(&[("alice", &["sre", "security"])])).is_empty());
        assert!(both.outstanding(&signers(&[("alice", &["sre", "security"]), ("bob", &["sre"])])).is_empty());
        assert!(!both.outstanding(&signers(&[("carol", &["sre"]), ("bob", &["sre"])])).is_empty());
    }

    #[test]
    fn quorum_counts_people() {
        let two = rule(&[("sre", 2)]);
        assert_eq!(two.outstanding(&signers(&[("alice", &["sre"])])).values().sum::<u32>(), 1);
        assert!(two.outstanding(&signers(&[("alice", &["sre"]), ("bob", &["sre"])])).is_empty());
    }

    #[test]
    fn zero_and_missing_quorum_are_errors() {
        assert!(rule(&[]).check().is_err());
        assert!(rule(&[("sre", 0)]).check().is_err());
        assert!(rule(&[("sre", 1)]).check().is_ok());
    }

    #[test]
    fn combining_takes_the_stricter_of_every_part() {
        let both = rule(&[("sre", 2)]).and(&rule(&[("sre", 1), ("security", 1)]));
        assert_eq!(both.groups, rule(&[("sre", 2), ("security", 1)]).groups);
    }
}
