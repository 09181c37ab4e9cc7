//! How much anybody may have written down or looked at: each record costs a flush of the disk, each look a request to
//! the world, and whoever could cause them without limit could slow down everybody's claims.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::refusal::{Code, Refusal};
use super::told::Told;
use crate::domain::principal::AgentSlug;
use crate::domain::time::Timestamp;

/// Refused answers to one grant, whose senders nobody knows, that are written down in a minute. What goes beyond is
/// still refused, and counted in the metrics instead.
pub const PER_GRANT: i64 = 30;
/// Refusals, and denied decisions, of one known caller that are written down in a minute.
pub const PER_CALLER: i64 = 240;
/// Failed logins in the name of one agent or person, whose senders nobody knows, that are written down in a minute.
pub const PER_NAMED: i64 = 30;
/// Failed logins in anybody's name that are written down in a minute.
pub const FAILED_LOGINS: i64 = 120;
/// Steps of its runs that one agent may tell in an hour.
pub const STEPS_PER_HOUR: i64 = 3_600;
/// Suggestions of one agent in an hour: more than one a minute no person reads.
pub const SUGGESTIONS_PER_HOUR: i64 = 60;
/// Reports of one agent in an hour of what it read elsewhere: one taints it already, the rest only tell people more.
pub const OBSERVATIONS_PER_HOUR: i64 = 600;
/// Conditions of one agent that are looked at in an hour: an agent that chooses what is compared learns a little by each.
pub const LOOKS_PER_HOUR: i64 = 120;
const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;
/// Names remembered at a time; those that used up nothing lately are forgotten first.
const NAMES: usize = 8_192;

/// A token bucket per name, kept as the time at which it is full again.
pub(super) struct Allowance {
    amount: i64,
    seconds: i64,
    names: usize,
    /// When the name has its whole allowance again, in `1 / amount` seconds.
    full_at: Mutex<HashMap<String, i64>>,
}

impl Allowance {
    /// So many a minute for each name, and no more than that at once.
    pub(super) fn new(per_minute: i64) -> Self {
        Self { amount: per_minute, seconds: MINUTE, names: NAMES, full_at: Mutex::default() }
    }

    fn per_hour(amount: i64) -> Self {
        Self { seconds: HOUR, ..Self::new(amount) }
    }

    /// Takes one for `name`; false when nothing is left, or too many names are in use.
    pub(super) fn take(&self, name: &str, now: Timestamp) -> bool {
        let now = now.seconds().saturating_mul(self.amount);
        let whole = self.seconds.saturating_mul(self.amount);
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= self.names && !full_at.contains_key(name) {
            full_at.retain(|_, at| *at > now);
            if full_at.len() >= self.names {
                return false;
            }
        }
        let at = full_at.entry(name.to_owned()).or_insert(now);
        let next = (*at).max(now).saturating_add(self.seconds);
        let left = next.saturating_sub(now) <= whole;
        if left {
            *at = next;
        }
        left
    }

    /// Takes one for an agent, or refuses with what is used up and when there is one more.
    fn take_or_refuse(&self, agent: &AgentSlug, what: &str, now: Timestamp) -> Result<(), Refusal> {
        if self.take(agent.as_str(), now) {
            return Ok(());
        }
        let one_more = u32::try_from(self.seconds / self.amount.max(1)).unwrap_or(u32::MAX);
        let text = format!("{what}: {} in {} s are used up; wait", self.amount, self.seconds);
        Err(Refusal::new(Code::LimitReached, text).retry_after(one_more.max(1)))
    }
}

/// What each agent may cause in an hour, and tell of a run.
pub(super) struct AgentAllowances {
    suggestions: Allowance,
    observations: Allowance,
    looks: Allowance,
    steps: Allowance,
    pub(super) steps_of_run: Told,
    pub(super) observations_of_run: Told,
}

impl Default for AgentAllowances {
    fn default() -> Self {
        Self {
            suggestions: Allowance::per_hour(SUGGESTIONS_PER_HOUR),
            observations: Allowance::per_hour(OBSERVATIONS_PER_HOUR),
            looks: Allowance::per_hour(LOOKS_PER_HOUR),
            steps: Allowance::per_hour(STEPS_PER_HOUR),
            steps_of_run: Told::steps(),
            observations_of_run: Told::observations(),
        }
    }
}

impl AgentAllowances {
    /// Room for one more suggestion.
    pub(super) fn suggestion(&self, agent: &AgentSlug, now: Timestamp) -> Result<(), Refusal> {
        self.suggestions.take_or_refuse(agent, "your suggestions for people", now)
    }

    /// Room for one more report of what was read elsewhere.
    pub(super) fn observation(&self, agent: &AgentSlug, now: Timestamp) -> Result<(), Refusal> {
        self.observations.take_or_refuse(agent, "your reports of what you read", now)
    }

    /// Room for one more step of a run.
    pub(super) fn step(&self, agent: &AgentSlug, now: Timestamp) -> Result<(), Refusal> {
        self.steps.take_or_refuse(agent, "the steps you record", now)
    }

    /// Room for one more look at a condition.
    pub(super) fn look(&self, agent: &AgentSlug, now: Timestamp) -> Result<(), Refusal> {
        self.looks.take_or_refuse(agent, "looks at your conditions", now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_000);

    fn taken(allowance: &Allowance, name: &str, tries: usize, now: Timestamp) -> usize {
        (0..tries).filter(|_| allowance.take(name, now)).count()
    }

    #[test]
    fn an_allowance_is_used_up_and_comes_back_with_time() {
        let allowance = Allowance::new(30);
        assert_eq!(taken(&allowance, "a", 100, NOW), 30);
        assert_eq!(taken(&allowance, "a", 100, NOW.plus(2)), 1);
        assert_eq!(taken(&allowance, "a", 100, NOW.plus(62)), 30);
    }

    #[test]
    fn one_name_does_not_use_up_the_allowance_of_another() {
        let allowance = Allowance::new(2);
        assert_eq!(taken(&allowance, "a", 9, NOW), 2);
        assert_eq!(taken(&allowance, "b", 9, NOW), 2);
    }

    #[test]
    fn an_agent_that_used_up_its_hour_is_refused_until_there_is_one_more() {
        let (allowances, busy) = (AgentAllowances::default(), "busy".parse().unwrap());
        for _ in 0..SUGGESTIONS_PER_HOUR {
            allowances.suggestion(&busy, NOW).unwrap();
        }
        let refused = allowances.suggestion(&busy, NOW).unwrap_err();
        assert_eq!((refused.code, refused.retry_after), (Code::LimitReached, Some(60)));
        allowances.suggestion(&"idle".parse().unwrap(), NOW).unwrap();
        allowances.observation(&busy, NOW).unwrap();
        allowances.look(&busy, NOW).unwrap();
        allowances.step(&busy, NOW).unwrap();
        assert!(allowances.suggestion(&busy, NOW.plus(59)).is_err());
        allowances.suggestion(&busy, NOW.plus(60)).unwrap();
    }

    #[test]
    fn names_are_bounded_and_only_idle_ones_are_forgotten() {
        let allowance = Allowance { names: 2, ..Allowance::new(2) };
        assert!(allowance.take("a", NOW) && allowance.take("b", NOW));
        assert!(!allowance.take("c", NOW));
        assert!(allowance.take("c", NOW.plus(60)));
    }
}
