//! The people, groups, keys and agents that count: loaded as a whole, known by its digest.
//! Who can write it can approve; it is checked whole, and nothing half-valid is ever used.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::key::{Custody, PublicKey, Thumbprint};
use super::principal::{AgentSlug, GroupSlug, PersonSlug, Role};

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// Name shown to other people.
    pub name: String,
    /// What the person may do.
    #[serde(default)]
    pub roles: BTreeSet<Role>,
    /// Enrolled keys.
    #[serde(default)]
    pub keys: Vec<EnrolledKey>,
}

/// A person's key, with how it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolledKey {
    /// The public key.
    pub jwk: PublicKey,
    /// How the private half is kept.
    pub custody: Custody,
}

/// A group of people; groups nest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Direct members.
    #[serde(default)]
    pub people: BTreeSet<PersonSlug>,
    /// Groups whose members are members.
    #[serde(default)]
    pub groups: BTreeSet<GroupSlug>,
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Owner of record, who can never approve what this agent asks.
    pub owner: PersonSlug,
    /// Groups that policy sees.
    #[serde(default)]
    pub groups: BTreeSet<GroupSlug>,
    /// Registered keys for client assertions.
    #[serde(default)]
    pub keys: Vec<PublicKey>,
    /// Workload identities that are this agent, matched exactly.
    #[serde(default)]
    pub workloads: BTreeSet<Workload>,
}

/// A subject of a configured token issuer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// `iss`, exactly.
    pub issuer: String,
    /// `sub`, exactly.
    pub subject: String,
}

/// A directory as written; [`Directory::check`] makes it one that may be used.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryDocument {
    /// People by slug.
    #[serde(default)]
    pub people: BTreeMap<PersonSlug, Person>,
    /// Groups by slug.
    #[serde(default)]
    pub groups: BTreeMap<GroupSlug, Group>,
    /// Agents by slug.
    #[serde(default)]
    pub agents: BTreeMap<AgentSlug, Agent>,
}

/// A directory that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    document: DirectoryDocument,
    digest: Digest,
    members: BTreeMap<GroupSlug, BTreeSet<PersonSlug>>,
    people_by_key: BTreeMap<Thumbprint, PersonSlug>,
    agents_by_key: BTreeMap<Thumbprint, AgentSlug>,
}

/// A mistake in a directory; `path` names where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct DirectoryError {
    /// For example `agents.pay-bot.owner`.
    pub path: String,
    /// What is wrong and what to do.
    pub problem: String,
}

impl Directory {
    /// Checks a directory whole; every mistake is named.
    pub fn check(document: DirectoryDocument) -> Result<Self, Vec<DirectoryError>> {
        let mut errors = Vec::new();
        let mut complain = |path: String, problem: String| errors.push(DirectoryError { path, problem });
        let mut owners: BTreeMap<Thumbprint, String> = BTreeMap::new();
        let mut people_by_key = BTreeMap::new();
        let mut agents_by_key = BTreeMap::new();
        for (slug, person) in &document.people {
            for key in &person.keys {
                let kid = key.jwk.thumbprint();
                if let Some(other) = owners.insert(kid, format!("people.{slug}")) {
                    complain(
                        format!("people.{slug}.keys"),
                        format!("key {kid} is already registered for {other}; every key has one owner"),
                    );
                }
                people_by_key.insert(kid, slug.clone());
            }
            if person.roles.contains(&Role::Approver) && person.keys.is_empty() {
                complain(format!("people.{slug}.keys"), "an approver needs at least one enrolled key".into());
            }
        }
        for (slug, agent) in &document.agents {
            for key in &agent.keys {
                let kid = key.thumbprint();
                // SECURITY: an agent that holds a person's key could approve its own proposals.
                if let Some(other) = owners.insert(kid, format!("agents.{slug}")) {
                    complain(
                        format!("agents.{slug}.keys"),
                        format!(
                            "key {kid} is already registered for {other}; a person and an agent never share a key"
                        ),
                    );
                }
                agents_by_key.insert(kid, slug.clone());
            }
            if !document.people.contains_key(&agent.owner) {
                complain(
                    format!("agents.{slug}.owner"),
                    format!("`{}` is not a person of this directory", agent.owner),
                );
            }
            if agent.keys.is_empty() && agent.workloads.is_empty() {
                complain(
                    format!("agents.{slug}"),
                    "has neither keys nor workloads, so it can never log in".into(),
                );
            }
            for other in document
                .agents
                .iter()
                .filter(|(s, a)| *s > slug && !a.workloads.is_disjoint(&agent.workloads))
            {
                complain(
                    format!("agents.{}.workloads", other.0),
                    format!("a workload is already registered for agents.{slug}"),
                );
            }
        }
        for (slug, group) in &document.groups {
            for person in group.people.iter().filter(|p| !document.people.contains_key(*p)) {
                complain(
                    format!("groups.{slug}.people"),
                    format!("`{person}` is not a person of this directory"),
                );
            }
            for inner in group.groups.iter().filter(|g| !document.groups.contains_key(*g)) {
                complain(
                    format!("groups.{slug}.groups"),
                    format!("`{inner}` is not a group of this directory"),
                );
            }
            if reaches(&document.groups, group, slug, 0) {
                complain(format!("groups.{slug}.groups"), "the group contains itself".into());
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let members =
            document.groups.keys().map(|slug| (slug.clone(), members(&document.groups, slug))).collect();
        let mut value = serde_json::to_value(&document).unwrap_or_default();
        value.sort_all_objects();
        let digest = Digest::tagged("phasebroker-directory-v1", value.to_string().as_bytes());
        Ok(Self { document, digest, members, people_by_key, agents_by_key })
    }

    /// Digest of the whole directory.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The directory as written.
    pub fn document(&self) -> &DirectoryDocument {
        &self.document
    }

    /// A person by slug.
    pub fn person(&self, slug: &PersonSlug) -> Option<&Person> {
        self.document.people.get(slug)
    }

    /// An agent by slug.
    pub fn agent(&self, slug: &AgentSlug) -> Option<&Agent> {
        self.document.agents.get(slug)
    }

    /// The person who enrolled the key, and the enrolment.
    pub fn person_by_key(&self, kid: &Thumbprint) -> Option<(&PersonSlug, &EnrolledKey)> {
        let slug = self.people_by_key.get(kid)?;
        let key = self.person(slug)?.keys.iter().find(|key| key.jwk.thumbprint() == *kid)?;
        Some((slug, key))
    }

    /// The agent that registered the key, and the key.
    pub fn agent_by_key(&self, kid: &Thumbprint) -> Option<(&AgentSlug, &PublicKey)> {
        let slug = self.agents_by_key.get(kid)?;
        let key = self.agent(slug)?.keys.iter().find(|key| key.thumbprint() == *kid)?;
        Some((slug, key))
    }

    /// The agent a workload identity is, matched exactly.
    pub fn agent_by_workload(&self, issuer: &str, subject: &str) -> Option<&AgentSlug> {
        let wanted = Workload { issuer: issuer.to_owned(), subject: subject.to_owned() };
        self.document.agents.iter().find(|(_, agent)| agent.workloads.contains(&wanted)).map(|(slug, _)| slug)
    }

    /// Everyone in a group, nested groups resolved; empty for a group that does not exist.
    pub fn members(&self, group: &GroupSlug) -> impl Iterator<Item = &PersonSlug> {
        self.members.get(group).into_iter().flatten()
    }

    /// Whether the group exists.
    pub fn has_group(&self, group: &GroupSlug) -> bool {
        self.members.contains_key(group)
    }

    /// Whether the person is in the group, directly or through nested groups.
    pub fn is_member(&self, person: &PersonSlug, group: &GroupSlug) -> bool {
        self.members.get(group).is_some_and(|people| people.contains(person))
    }

    /// Every group the person is in, directly or through nested groups.
    pub fn groups_of(&self, person: &PersonSlug) -> BTreeSet<GroupSlug> {
        self.members
            .iter()
            .filter(|(_, people)| people.contains(person))
            .map(|(slug, _)| slug.clone())
            .collect()
    }

    /// Whether the person has the role.
    pub fn has_role(&self, person: &PersonSlug, role: Role) -> bool {
        self.person(person).is_some_and(|p| p.roles.contains(&role))
    }
}

fn reaches(groups: &BTreeMap<GroupSlug, Group>, from: &Group, target: &GroupSlug, depth: usize) -> bool {
    depth > groups.len()
        || from.groups.iter().any(|inner| {
            inner == target
                || groups.get(inner).is_some_and(|group| reaches(groups, group, target, depth + 1))
        })
}

fn members(groups: &BTreeMap<GroupSlug, Group>, slug: &GroupSlug) -> BTreeSet<PersonSlug> {
    let Some(group) = groups.get(slug) else { return BTreeSet::new() };
    let nested = group.groups.iter().flat_map(|inner| members(groups, inner));
    group.people.iter().cloned().chain(nested).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key::SigningKey;

    fn slug<T: std::str::FromStr>(text: &str) -> T
    where
        T::Err: std::fmt::Debug,
    {
        text.parse().unwrap()
    }

    fn document() -> DirectoryDocument {
        let key = |custody| EnrolledKey { jwk: SigningKey::generate().unwrap().public().clone(), custody };
        let person =
            || Person { name: "A".into(), roles: [Role::Approver].into(), keys: vec![key(Custody::File)] };
        let agent = Agent {
            owner: slug("alice"),
            groups: [].into(),
            keys: vec![SigningKey::generate().unwrap().public().clone()],
            workloads: [].into(),
        };
        DirectoryDocument {
            people: [(slug("alice"), person()), (slug("bob"), person())].into(),
            groups: [
                (slug("sre"), Group { people: [slug("alice")].into(), groups: [slug("oncall")].into() }),
                (slug("oncall"), Group { people: [slug("bob")].into(), groups: [].into() }),
            ]
            .into(),
            agents: [(slug("bot"), agent)].into(),
        }
    }

    #[test]
    fn nested_groups_are_resolved() {
        let directory = Directory::check(document()).unwrap();
        assert!(directory.is_member(&slug("bob"), &slug("sre")));
        assert!(!directory.is_member(&slug("alice"), &slug("oncall")));
    }

    #[test]
    fn a_key_shared_by_a_person_and_an_agent_is_refused() {
        let mut shared = document();
        let key = shared.people[&slug::<PersonSlug>("alice")].keys[0].jwk.clone();
        shared.agents.get_mut(&slug::<AgentSlug>("bot")).unwrap().keys.push(key);
        let errors = Directory::check(shared).unwrap_err();
        assert!(errors[0].to_string().contains("never share a key"), "{errors:?}");
    }

    #[test]
    fn circles_unknown_owners_and_unknown_members_are_named() {
        let mut wrong = document();
        wrong.groups.get_mut(&slug::<GroupSlug>("oncall")).unwrap().groups.insert(slug("sre"));
        wrong.groups.get_mut(&slug::<GroupSlug>("oncall")).unwrap().people.insert(slug("nobody"));
        wrong.agents.get_mut(&slug::<AgentSlug>("bot")).unwrap().owner = slug("ghost");
        let text =
            Directory::check(wrong).unwrap_err().iter().map(|e| e.to_string()).collect::<Vec<_>>().join("\n");
        for path in ["groups.sre.groups", "groups.oncall.people", "agents.bot.owner"] {
            assert!(text.contains(path), "{text}");
        }
    }
}
