//! Checks guardrails whole: every mistake is named, and nothing half-valid is ever used.

mod probe;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::{
    BreakGlass, BreakGlassDocument, Budget, Dimension, Guardrails, GuardrailsDocument, Privilege, SignedBy,
};
use crate::domain::alert::AlertSource;
use crate::domain::decision::Terms;
use crate::domain::digest::Digest;
use crate::domain::key::Thumbprint;
use crate::domain::playbook::ReviewTerms;
use crate::domain::principal::Name;
use crate::domain::rule::Rule;

/// People who sign that something goes on again, or break the glass.
const LEAST_PEOPLE: u32 = 2;
/// Largest sum, and largest weight times changes, that is counted.
const LARGEST_SUM: u64 = 1_000_000_000;

/// A mistake in the guardrails; `path` names where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct GuardrailsError {
    /// For example `budgets.agent-hour.limit`.
    pub path: String,
    /// What is wrong and what to do.
    pub problem: String,
}

pub(super) fn check(document: GuardrailsDocument) -> Result<Guardrails, Vec<GuardrailsError>> {
    let mut checker = Checker::default();
    checker.within("taint.window_seconds", document.taint.window_seconds, 60..=604_800);
    checker.privilege(&document.privilege);
    for (name, budget) in &document.budgets {
        checker.budget(&format!("budgets.{name}"), budget);
    }
    let unfreeze = checker.signed_by("administration.unfreeze", &document.administration.unfreeze);
    checker.within("administration.approve_seconds", document.administration.approve_seconds, 60..=86_400);
    let break_glass = document.break_glass.as_ref().map(|written| checker.break_glass(written));
    let mut probes = BTreeMap::new();
    for (name, written) in &document.probes {
        if let Some(probe) = checker.probe(&format!("probes.{name}"), written) {
            probes.insert(name.clone(), probe);
        }
    }
    checker.alerts(&document.alerts);
    let mut value = serde_json::to_value(&document).unwrap_or_else(|error| {
        checker.fail("guardrails", format!("cannot be written as JSON: {error}"));
        serde_json::Value::Null
    });
    value.sort_all_objects();
    let digest = Digest::tagged("phasebroker-guardrails-v1", value.to_string().as_bytes());
    match checker.errors.is_empty() {
        true => Ok(Guardrails { document, unfreeze, break_glass, probes, digest }),
        false => Err(checker.errors),
    }
}

#[derive(Default)]
struct Checker {
    errors: Vec<GuardrailsError>,
}

impl Checker {
    fn fail(&mut self, path: impl Into<String>, problem: impl Into<String>) {
        self.errors.push(GuardrailsError { path: path.into(), problem: problem.into() });
    }

    fn within<N: PartialOrd + std::fmt::Display>(&mut self, path: &str, number: N, range: RangeInclusive<N>) {
        if !range.contains(&number) {
            self.fail(path, format!("{number} is not within {} to {}", range.start(), range.end()));
        }
    }

    fn privilege(&mut self, written: &Privilege) {
        for (key, weight) in [
            ("availability", written.availability),
            ("data", written.data),
            ("trust", written.trust),
            ("irreversible_times", written.irreversible_times),
        ] {
            self.within(&format!("privilege.{key}"), weight, 1..=1_000);
        }
    }

    fn budget(&mut self, path: &str, budget: &Budget) {
        match budget.seconds {
            Some(seconds) => self.within(&format!("{path}.seconds"), seconds, 1..=31_536_000),
            None if budget.per.contains(&Dimension::Run) => {}
            None => self.fail(
                format!("{path}.seconds"),
                "is absent, so this would count for ever and once be used up for good; name a window, or count per `run`",
            ),
        }
        for (key, sum) in [("step_up_at", budget.step_up_at), ("limit", budget.limit)] {
            if let Some(sum) = sum {
                self.within(&format!("{path}.{key}"), sum, 1..=LARGEST_SUM);
            }
        }
        match (budget.step_up_at, budget.limit) {
            (None, None) => self.fail(path, "changes nothing: give `step_up_at`, `limit` or both"),
            (Some(step), Some(limit)) if step >= limit => self.fail(
                format!("{path}.step_up_at"),
                format!("{step} is not below `limit`, {limit}, so it would never count"),
            ),
            _ => {}
        }
        if budget.environments.as_ref().is_some_and(|environments| environments.is_empty()) {
            self.fail(
                format!("{path}.environments"),
                "names none, so this would count nothing; leave it out to count everywhere",
            );
        }
    }

    /// The rule, which more than one person signs.
    fn signed_by(&mut self, path: &str, written: &SignedBy) -> Rule {
        let rule = Rule {
            groups: written.approvals.clone(),
            custody: written.custody.clone(),
            separate_authors: written.separate_authors,
        };
        if written.custody.is_empty() {
            self.fail(format!("{path}.custody"), "names no custody, so no key would count");
        } else if let Err(bad) = rule.check() {
            self.fail(format!("{path}.approvals"), bad.to_string());
        } else if rule.people() < LEAST_PEOPLE {
            self.fail(
                format!("{path}.approvals"),
                format!("asks for one person; at least {LEAST_PEOPLE} people must sign this"),
            );
        }
        rule
    }

    fn break_glass(&mut self, written: &BreakGlassDocument) -> BreakGlass {
        let rule = self.signed_by("break_glass.signed_by", &written.signed_by);
        self.within("break_glass.approve_seconds", written.approve_seconds, 60..=900);
        self.within("break_glass.claim_seconds", written.claim_seconds, 10..=120);
        self.within("break_glass.work_seconds", written.work_seconds, 10..=300);
        self.within("break_glass.review_seconds", written.review_seconds, 300..=604_800);
        if written.environments.is_empty() {
            self.fail("break_glass.environments", "names none; leave out [break_glass] to have no such rule");
        }
        if written.actions.as_ref().is_some_and(|actions| actions.is_empty()) {
            self.fail("break_glass.actions", "names none; leave it out to cover all action types");
        }
        BreakGlass {
            terms: Terms {
                rule,
                approve_seconds: written.approve_seconds,
                claim_seconds: written.claim_seconds,
                work_seconds: written.work_seconds,
            },
            environments: written.environments.clone(),
            actions: written.actions.clone(),
            review: ReviewTerms { owner: written.review_owner.clone(), due_seconds: written.review_seconds },
        }
    }

    fn alerts(&mut self, sources: &BTreeMap<Name, AlertSource>) {
        let mut owners: BTreeMap<Thumbprint, &Name> = BTreeMap::new();
        for (name, source) in sources {
            let path = format!("alerts.{name}");
            self.within(&format!("{path}.fresh_seconds"), source.fresh_seconds, 30..=3_600);
            if source.keys.is_empty() {
                self.fail(format!("{path}.keys"), "needs at least one key to sign with");
            }
            for kid in source.keys.iter().map(|key| key.thumbprint()) {
                if let Some(other) = owners.insert(kid, name) {
                    let problem = format!(
                        "key {kid} is already registered for alerts.{other}; every key has one owner"
                    );
                    self.fail(format!("{path}.keys"), problem);
                }
            }
        }
    }
}
