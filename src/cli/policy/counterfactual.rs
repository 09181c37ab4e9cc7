//! What would change an answer: one circumstance at a time is made another, and the same question asked again.

use super::asked::{self, Asker};
use crate::broker::rules::Rules;
use crate::domain::decision::Decision;
use crate::domain::principal::{Attestation, GroupSlug, Name};
use crate::domain::proposal::Proposal;
use crate::domain::time::Timestamp;
use crate::policy::Facts;

const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
/// Numbers of changes that are tried besides one more and one less.
const CHANGES: [u32; 4] = [1, 2, 10, 100];

/// A question, put together from its parts so that each can be another.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) proposal: Proposal,
    pub(super) asker: Asker,
    pub(super) tainted: bool,
    /// Budgets whose line is crossed.
    pub(super) crossed: Vec<Name>,
    pub(super) at: Timestamp,
}

/// A circumstance, and the answer it would give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counterfactual {
    /// What would be otherwise.
    pub(super) when: String,
    /// What the answer would be.
    pub(super) decision: Decision,
}

impl Setting {
    /// What a policy would see.
    pub(super) fn facts(&self, rules: &Rules) -> anyhow::Result<Facts> {
        let facts = asked::facts(&self.proposal, &self.asker, rules, self.at)?;
        Ok(Facts { tainted: self.tainted, ..asked::crossing(&facts, self.crossed.iter().cloned()) })
    }

    /// Every circumstance that changes the tier or the rule.
    pub(super) fn counterfactuals(&self, rules: &Rules) -> anyhow::Result<Vec<Counterfactual>> {
        let facts = self.facts(rules)?;
        let is = rules.policy.decide(&facts);
        let mut tried = self.circumstances(&facts, rules);
        tried.extend(self.places(rules));
        let mut found: Vec<Counterfactual> = tried
            .into_iter()
            .map(|(when, facts)| Counterfactual { when, decision: rules.policy.decide(&facts) })
            .filter(|other| differs(&is, &other.decision))
            .collect();
        found.extend(hours(&facts, &is, rules));
        found.extend(weekdays(&facts, &is, rules));
        Ok(found)
    }

    /// The same plan, other circumstances.
    fn circumstances(&self, facts: &Facts, rules: &Rules) -> Vec<(String, Facts)> {
        let other = |change: &dyn Fn(&mut Facts)| {
            let mut other = facts.clone();
            change(&mut other);
            other
        };
        let mut tried = vec![
            (
                match facts.tainted {
                    true => "the agent were not tainted".to_owned(),
                    false => "the agent were tainted".to_owned(),
                },
                other(&|facts| facts.tainted = !facts.tainted),
            ),
            match facts.attestation {
                Attestation::RegisteredKey => (
                    "its platform vouched for the agent".to_owned(),
                    other(&|facts| facts.attestation = Attestation::Workload),
                ),
                Attestation::Workload => (
                    "the agent had a registered key alone".to_owned(),
                    other(&|facts| facts.attestation = Attestation::RegisteredKey),
                ),
            },
            ("the requester asked in person".to_owned(), other(&|facts| facts.asked_in_person = true)),
            ("it took an earlier grant back".to_owned(), other(&|facts| facts.voucher = true)),
        ];
        for (name, fact) in &facts.budgets {
            if fact.step_up_at.is_none() {
                continue;
            }
            tried.push(match fact.crossed() {
                false => (format!("the budget {name} were crossed"), asked::crossing(facts, [name.clone()])),
                true => (
                    format!("the budget {name} were not crossed"),
                    other(&|facts| {
                        if let Some(fact) = facts.budgets.get_mut(name) {
                            (fact.used, fact.amount) = (0, 0);
                        }
                    }),
                ),
            });
        }
        for changes in CHANGES.into_iter().filter(|changes| *changes != facts.changes) {
            tried.push((format!("it made {changes} changes"), other(&|facts| facts.changes = changes)));
        }
        let agents = rules.directory.document().agents.values();
        let groups: std::collections::BTreeSet<&GroupSlug> = agents.flat_map(|agent| &agent.groups).collect();
        let alone = |group: Option<&GroupSlug>| group.into_iter().cloned().collect();
        for group in groups {
            let when = format!("the agent were of the group {group} alone");
            tried.push((when, other(&|facts| facts.agent_groups = alone(Some(group)))));
        }
        tried.push((
            "the agent were of no group".to_owned(),
            other(&|facts| facts.agent_groups = alone(None)),
        ));
        tried
    }

    /// The same proposal elsewhere, compiled for there.
    fn places(&self, rules: &Rules) -> Vec<(String, Facts)> {
        let entry = rules.catalog.actions().get(&self.proposal.action);
        let elsewhere = entry.into_iter().flat_map(|entry| entry.environments());
        let elsewhere = elsewhere.filter(|environment| **environment != self.proposal.environment);
        elsewhere
            .filter_map(|environment| {
                let mut there = self.clone();
                there.proposal.environment = environment.clone();
                Some((format!("it were in {environment}"), there.facts(rules).ok()?))
            })
            .collect()
    }
}

/// Tier or rule is another; a policy more among the reasons alone is not a change.
fn differs(one: &Decision, other: &Decision) -> bool {
    let rule = |decision: &Decision| decision.terms().map(|terms| terms.rule.clone());
    one.tier() != other.tier() || rule(one) != rule(other)
}

/// Other hours of the same day, runs of the same answer together.
fn hours(facts: &Facts, is: &Decision, rules: &Rules) -> Vec<Counterfactual> {
    let mut runs: Vec<(i64, i64, Decision)> = Vec::new();
    for hour in 0..24 {
        let now = facts.now.plus((hour - facts.hour()) * 3_600);
        let decision = rules.policy.decide(&Facts { now, ..facts.clone() });
        match runs.last_mut() {
            Some((_, last, same)) if *same == decision => *last = hour,
            _ => runs.push((hour, hour, decision)),
        }
    }
    let changed = runs.into_iter().filter(|(_, _, decision)| differs(is, decision));
    changed
        .map(|(first, last, decision)| Counterfactual {
            when: format!("it were between {first:02}:00 and {last:02}:59 UTC"),
            decision,
        })
        .collect()
}

/// The same hour on other days of the week.
fn weekdays(facts: &Facts, is: &Decision, rules: &Rules) -> Vec<Counterfactual> {
    let mut found: Vec<Counterfactual> = Vec::new();
    for (day, name) in (1..).zip(WEEKDAYS) {
        let now = facts.now.plus((day - facts.weekday()) * 86_400);
        let decision = rules.policy.decide(&Facts { now, ..facts.clone() });
        match found.last_mut() {
            _ if !differs(is, &decision) => {}
            Some(last) if last.decision == decision => last.when.push_str(&format!(" or {name}")),
            _ => found.push(Counterfactual { when: format!("it were {name}"), decision }),
        }
    }
    found
}
