//! A playbook: a narrow pattern of grants that people signed beforehand. It moves the signature earlier, never away.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::action::{Action, ParameterValue, Precondition};
use super::principal::{ActionType, AgentSlug, Environment, GroupSlug, Name};
use super::time::Timestamp;

/// Combinations of parameters that one playbook may cover: each is compiled and asked about before people sign.
pub const MAX_COMBINATIONS: usize = 256;
/// Longest text of the rules inside a playbook, in bytes: two of them, escaped, fit into one signed document.
pub const MAX_SOURCE_BYTES: usize = 24 * 1024;

/// What may be done without a further signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Playbook {
    /// Its operator's name for it.
    pub name: Name,
    /// Where.
    pub environment: Environment,
    /// The one action type.
    pub action: ActionType,
    /// The catalog's canonical JSON of the entry, its target and the same of its inverse: what each use may mint. When
    /// the catalog says otherwise, the playbook covers nothing.
    pub template: String,
    /// The agents that may propose and claim.
    pub agents: BTreeSet<AgentSlug>,
    /// Every parameter with what it may be.
    pub parameters: BTreeMap<String, ParameterRange>,
    /// Longest work time of one use, seconds.
    pub work_seconds: u32,
    /// How often in how long.
    pub budget: PlaybookBudget,
    /// How often in all.
    pub max_uses: u32,
    /// What the broker itself must find before each use.
    pub trigger: Trigger,
    /// The guardrails' canonical JSON of the probes or the alert source that the trigger names. When the guardrails say
    /// otherwise, the playbook covers nothing.
    pub trigger_source: String,
    /// It covers nothing from here on.
    pub not_after: Timestamp,
    /// Who looks at each use afterwards, and by when.
    pub review: ReviewTerms,
}

/// At most `uses` within any `seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaybookBudget {
    /// Uses; at least one.
    pub uses: u32,
    /// Length of the sliding window, seconds.
    pub seconds: u32,
}

/// What a parameter may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ParameterRange {
    /// One of these words.
    Values(BTreeSet<String>),
    /// A whole number within both bounds.
    Integers {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
}

/// What starts a use. The agent's word is none of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Trigger {
    /// Each probe, read by the broker itself, gives its value.
    Probes(Vec<Precondition>),
    /// An alert that its source signed, used once.
    Alert {
        /// A configured source.
        source: Name,
        /// The alert's name, exactly.
        alert: String,
    },
}

/// Who reviews what was done without a signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewTerms {
    /// A group of people; any member who is no party to it.
    pub owner: GroupSlug,
    /// Seconds after the claim at which it is overdue.
    pub due_seconds: u32,
}

impl Playbook {
    /// Whether an action lies inside; otherwise why not.
    pub fn covers(
        &self,
        action: &Action,
        environment: &Environment,
        work_seconds: u32,
    ) -> Result<(), String> {
        if *environment != self.environment {
            return Err(format!("it is for `{}`", self.environment));
        }
        if action.action_type != self.action {
            return Err(format!("it is for `{}`", self.action));
        }
        if work_seconds > self.work_seconds {
            return Err(format!("it allows {} s of work", self.work_seconds));
        }
        if action.parameters.len() != self.parameters.len() {
            return Err("it names other parameters".into());
        }
        for (name, value) in &action.parameters {
            match self.parameters.get(name) {
                Some(range) if range.holds(value) => {}
                _ => return Err(format!("`{name}` lies outside of it")),
            }
        }
        Ok(())
    }

    /// Whether the texts of the rules inside can be shown and signed; otherwise why not.
    pub fn check_sources(&self) -> Result<(), String> {
        for (what, text) in [("catalog entry", &self.template), ("trigger", &self.trigger_source)] {
            if text.len() > MAX_SOURCE_BYTES {
                return Err(format!(
                    "the text of the {what} has {} bytes; at most {MAX_SOURCE_BYTES} are signed",
                    text.len()
                ));
            }
            if !text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
                return Err(format!("the text of the {what} holds a character outside printable ASCII"));
            }
        }
        Ok(())
    }

    /// Whether the rules in force say what was signed, to the byte; otherwise which part does not.
    pub fn matches_sources(&self, template: Option<&str>, trigger: Option<&str>) -> Result<(), String> {
        let parts = [("catalog entry", template, &self.template), ("trigger", trigger, &self.trigger_source)];
        match parts.into_iter().find(|(_, now, signed)| *now != Some(signed.as_str())) {
            Some((what, ..)) => Err(format!("its {what} changed since it was signed; sign it again")),
            None => Ok(()),
        }
    }

    /// Whether the agent may use it; otherwise why not.
    pub fn names(&self, agent: &AgentSlug) -> Result<(), String> {
        match self.agents.contains(agent) {
            true => Ok(()),
            false => Err(format!("it is not for `{agent}`")),
        }
    }
}

impl ParameterRange {
    /// Whether the value lies inside.
    pub fn holds(&self, value: &ParameterValue) -> bool {
        match (self, value) {
            (Self::Values(words), ParameterValue::Text(text)) => words.contains(text),
            (Self::Integers { min, max }, ParameterValue::Integer(number)) => (min..=max).contains(&number),
            _ => false,
        }
    }
}

/// Where a playbook stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlaybookState {
    /// People signed it.
    Active,
    /// A person, a rejected review or a new epoch took it out of use, for good: nothing new starts under it. A lease
    /// that already runs is not ended by this; it ends at its deadline.
    Suspended,
}

impl PlaybookState {
    /// The spelling used everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }

    /// Reads [`PlaybookState::name`] back.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Active, Self::Suspended].into_iter().find(|state| state.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_its_own_kind_of_value_between_its_bounds() {
        let words = ParameterRange::Values(["checkout".to_owned()].into());
        assert!(words.holds(&ParameterValue::Text("checkout".into())));
        assert!(!words.holds(&ParameterValue::Text("checkout2".into())));
        let numbers = ParameterRange::Integers { min: 2, max: 4 };
        for (number, held) in [(1, false), (2, true), (4, true), (5, false)] {
            assert_eq!(numbers.holds(&ParameterValue::Integer(number)), held, "{number}");
        }
        assert!(!numbers.holds(&ParameterValue::Text("3".into())));
        assert!(!words.holds(&ParameterValue::Integer(3)));
    }
}
