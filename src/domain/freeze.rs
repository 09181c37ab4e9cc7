//! What can be frozen: from then on nothing of its kind is issued, until people sign that it may be again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::principal::{ActionType, Actor, AgentSlug, BadSlug, Environment};
use super::time::Timestamp;

/// One kind of thing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FreezeKey {
    /// Everything.
    Everything,
    /// One agent, in every phase.
    Agent(AgentSlug),
    /// One action type: its proposals, grants and execute credentials.
    Action(ActionType),
    /// One environment, in every phase.
    Environment(Environment),
}

impl fmt::Display for FreezeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("everything"),
            Self::Agent(slug) => write!(f, "agent:{slug}"),
            Self::Action(slug) => write!(f, "action:{slug}"),
            Self::Environment(slug) => write!(f, "environment:{slug}"),
        }
    }
}

impl FromStr for FreezeKey {
    type Err = BadSlug;
    fn from_str(text: &str) -> Result<Self, BadSlug> {
        match text.split_once(':') {
            None if text == "everything" => Ok(Self::Everything),
            Some(("agent", slug)) => slug.parse().map(Self::Agent),
            Some(("action", slug)) => slug.parse().map(Self::Action),
            Some(("environment", slug)) => slug.parse().map(Self::Environment),
            _ => Err(BadSlug(text.chars().take(40).collect::<String>().escape_default().to_string())),
        }
    }
}

impl TryFrom<String> for FreezeKey {
    type Error = BadSlug;
    fn try_from(text: String) -> Result<Self, BadSlug> {
        text.parse()
    }
}

impl From<FreezeKey> for String {
    fn from(key: FreezeKey) -> String {
        key.to_string()
    }
}

/// A freeze in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    /// What is frozen.
    pub key: FreezeKey,
    /// Who froze it.
    pub by: Actor,
    /// Since when.
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_spelling() {
        for text in ["everything", "agent:pay-bot", "action:reboot-instance", "environment:production"] {
            assert_eq!(text.parse::<FreezeKey>().unwrap().to_string(), text);
        }
        for bad in ["", "all", "agent:", "agent:A", "person:bob", "everything:x"] {
            assert!(bad.parse::<FreezeKey>().is_err(), "{bad}");
        }
    }
}
