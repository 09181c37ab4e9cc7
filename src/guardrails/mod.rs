//! The guardrails: the operator's numbers beside the policies. What is counted and up to where, how long a taint lasts,
//! who signs administration, the break-glass rule, what the broker may look at itself. Loaded whole, known by a digest.

mod answer;
mod check;
mod document;
mod percent;
mod probe;
mod spending;
mod template;
#[cfg(test)]
mod tests;

pub use check::GuardrailsError;
pub use document::{
    AdministrationRules, AwsRead, BreakGlassDocument, Budget, Counts, Dimension, GuardrailsDocument,
    HttpRead, Privilege, ProbeDocument, ReconcileRules, SignedBy, Taint,
};
pub use probe::{AwsCall, NoQuestion, Probe, Question};
pub use spending::Spending;

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::alert::AlertSource;
use crate::domain::decision::Terms;
use crate::domain::digest::Digest;
use crate::domain::playbook::{ReviewTerms, Trigger};
use crate::domain::principal::{ActionType, Environment, Name};
use crate::domain::rule::Rule;

/// Guardrails that passed every check. It has no public constructor but [`Guardrails::check`].
#[derive(Debug, Clone)]
pub struct Guardrails {
    document: GuardrailsDocument,
    unfreeze: Rule,
    break_glass: Option<BreakGlass>,
    probes: BTreeMap<Name, Probe>,
    digest: Digest,
}

/// The break-glass rule: who signs when policy would say no and there is no time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakGlass {
    /// Who signs, and for how long.
    pub terms: Terms,
    /// Where it may be used.
    pub environments: BTreeSet<Environment>,
    /// For which action types; `None`: for all.
    pub actions: Option<BTreeSet<ActionType>>,
    /// Who reviews every use, and by when.
    pub review: ReviewTerms,
}

impl Guardrails {
    /// Checks a document whole; every mistake is named.
    pub fn check(document: GuardrailsDocument) -> Result<Self, Vec<GuardrailsError>> {
        check::check(document)
    }

    /// What the document says.
    pub fn document(&self) -> &GuardrailsDocument {
        &self.document
    }

    /// Digest of the document.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Who signs that something may go on again.
    pub fn unfreeze_rule(&self) -> Rule {
        self.unfreeze.clone()
    }

    /// The break-glass rule, where there is one.
    pub fn break_glass(&self) -> Option<&BreakGlass> {
        self.break_glass.as_ref()
    }

    /// Names of what is counted, which policies may speak of.
    pub fn budget_names(&self) -> BTreeSet<Name> {
        self.document.budgets.keys().cloned().collect()
    }

    /// What the broker may look at itself, by name.
    pub fn probes(&self) -> &BTreeMap<Name, Probe> {
        &self.probes
    }

    /// Who may send signed alerts, by name.
    pub fn alert_sources(&self) -> &BTreeMap<Name, AlertSource> {
        &self.document.alerts
    }

    /// Sorted JSON of what a trigger names: its probes, or the alert source with its keys. `None` where one is missing.
    pub fn trigger_source(&self, trigger: &Trigger) -> Option<String> {
        let mut source = match trigger {
            Trigger::Probes(conditions) => {
                let mut probes = serde_json::Map::new();
                for condition in conditions {
                    let written = self.document.probes.get(&condition.name.parse::<Name>().ok()?)?;
                    probes.insert(condition.name.clone(), serde_json::to_value(written).ok()?);
                }
                serde_json::json!({ "probes": probes })
            }
            Trigger::Alert { source, .. } => {
                serde_json::json!({ "alerts": { source.as_str(): self.document.alerts.get(source)? } })
            }
        };
        source.sort_all_objects();
        Some(source.to_string())
    }
}

impl BreakGlass {
    /// Whether it may be used for this action there.
    pub fn covers(&self, environment: &Environment, action: &ActionType) -> bool {
        self.environments.contains(environment)
            && self.actions.as_ref().is_none_or(|actions| actions.contains(action))
    }
}
