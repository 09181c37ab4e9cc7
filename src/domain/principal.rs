//! Who acts: agents and people, by slug. A slug is what AWS and every document see; it fits all their alphabets.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Text that is not a slug.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a slug: 2 to 32 characters of a-z, 0-9 and inner hyphens")]
pub struct BadSlug(pub String);

macro_rules! slugs {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The slug.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadSlug;
            fn from_str(text: &str) -> Result<Self, BadSlug> {
                match is_slug(text) {
                    true => Ok(Self(text.to_owned())),
                    false => Err(BadSlug(text.chars().take(40).collect::<String>().escape_default().to_string())),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadSlug;
            fn try_from(text: String) -> Result<Self, BadSlug> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(slug: $name) -> String {
                slug.0
            }
        }
    )+};
}

slugs! {
    /// An agent: an authenticated workload; its OAuth `client_id`.
    AgentSlug,
    /// A person of the directory.
    PersonSlug,
    /// A group of people, or of agents.
    GroupSlug,
    /// An environment such as `production`.
    Environment,
    /// An operator-defined action type, or a read-only set for observing.
    ActionType,
    /// A playbook, a budget, a probe or a source of alerts, as its operator calls it.
    Name,
}

fn is_slug(text: &str) -> bool {
    (2..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// How an agent proved who it is, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attestation {
    /// By a key registered for it, wherever that key is kept.
    RegisteredKey,
    /// By a workload token: the platform it runs on vouches for it.
    Workload,
}

impl Attestation {
    /// The spelling used everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::RegisteredKey => "registered_key",
            Self::Workload => "workload",
        }
    }

    /// Reads [`Attestation::name`] back.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::RegisteredKey, Self::Workload].into_iter().find(|one| one.name() == name)
    }
}

/// What a person may do. No role can mint; only a signature approves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Signs grants, and may stop things.
    Approver,
    /// Reads everything, changes nothing.
    Auditor,
    /// Runs the broker: reloads, stops; signs nothing.
    Operator,
}

/// Who did something, as an event records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// An agent.
    Agent(AgentSlug),
    /// A person.
    Person(PersonSlug),
    /// The broker itself: a deadline, a restart, a retry.
    Broker,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(slug) => write!(f, "agent:{slug}"),
            Self::Person(slug) => write!(f, "person:{slug}"),
            Self::Broker => f.write_str("broker"),
        }
    }
}

/// Text that names no actor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no actor: `broker`, `agent:SLUG` or `person:SLUG` is expected")]
pub struct BadActor(pub String);

impl FromStr for Actor {
    type Err = BadActor;
    fn from_str(text: &str) -> Result<Self, BadActor> {
        let bad = |_| BadActor(text.chars().take(48).collect::<String>().escape_default().to_string());
        match text.split_once(':') {
            None if text == "broker" => Ok(Self::Broker),
            Some(("agent", slug)) => slug.parse().map(Self::Agent).map_err(bad),
            Some(("person", slug)) => slug.parse().map(Self::Person).map_err(bad),
            _ => Err(bad(BadSlug(String::new()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_fit_every_alphabet_they_pass_through() {
        assert!("sre-agent-1".parse::<AgentSlug>().is_ok());
        for bad in ["a", "-ab", "ab-", "A-b", "a_b", "a b", "a*", "", &"x".repeat(33)] {
            assert!(bad.parse::<AgentSlug>().is_err(), "{bad}");
        }
    }
}
