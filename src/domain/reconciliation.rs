//! Approved versus done, in words that everybody shares: what became of a credential at AWS, and what of that may freeze
//! its agent.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What became of a lease at AWS; the last that fits counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing was done with it, though everything it allows would have been told.
    NoUse,
    /// Nothing is told, and nothing need have been: data events, or a trail that does not reach.
    Unobservable,
    /// CloudTrail may still deliver.
    Settling,
    /// What was done is what was approved.
    Matched,
    /// AWS refused something that was tried.
    DeniedAttempt,
    /// A person must look.
    NeedsReview,
    /// Something was done that nobody approved.
    ExtraCall,
    /// Something was done after its end.
    LateUse,
}

impl Verdict {
    /// The spelling used everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoUse => "no_use",
            Self::Unobservable => "unobservable",
            Self::Settling => "settling",
            Self::Matched => "matched",
            Self::DeniedAttempt => "denied_attempt",
            Self::NeedsReview => "needs_review",
            Self::ExtraCall => "extra_call",
            Self::LateUse => "late_use",
        }
    }

    /// Reads [`Verdict::name`] back.
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::NoUse,
            Self::Unobservable,
            Self::Settling,
            Self::Matched,
            Self::DeniedAttempt,
            Self::NeedsReview,
            Self::ExtraCall,
            Self::LateUse,
        ]
        .into_iter()
        .find(|verdict| verdict.name() == name)
    }

    /// Whether somebody must act on it.
    pub fn is_bad(self) -> bool {
        self >= Self::NeedsReview
    }

    /// What of it may freeze the agent.
    pub fn concern(self) -> Option<Concern> {
        match self {
            Self::NeedsReview => Some(Concern::NeedsReview),
            Self::ExtraCall => Some(Concern::ExtraCall),
            Self::LateUse => Some(Concern::LateUse),
            _ => None,
        }
    }
}

/// What may freeze an agent, as the guardrails write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Concern {
    /// The verdict `needs_review`.
    NeedsReview,
    /// The verdict `extra_call`.
    ExtraCall,
    /// The verdict `late_use`.
    LateUse,
    /// An incident that names a lease of the agent.
    Incident,
}

impl Concern {
    /// The spelling used everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::NeedsReview => "needs_review",
            Self::ExtraCall => "extra_call",
            Self::LateUse => "late_use",
            Self::Incident => "incident",
        }
    }
}

/// What an event about a lease says that keeps its verdict from covering all the credential did, in words; each begins
/// with a comma. A fact that is not there is not taken for a good one.
pub fn open<'f>(fact: impl Fn(&str) -> Option<&'f Value>) -> String {
    let says = |name: &str, answer: bool| fact(name).and_then(Value::as_bool) != Some(answer);
    [
        (says("mint_seen", true), ", no record of its mint"),
        (says("reach_covered", true), ", the records end before it did"),
        (says("hours_missing", false), ", hours are missing"),
        (says("untold", false), ", records of its actions need not be there"),
    ]
    .into_iter()
    .filter_map(|(is_so, why)| is_so.then_some(why))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_has_one_spelling_and_only_a_bad_one_may_freeze() {
        for name in ["no_use", "unobservable", "settling", "matched", "denied_attempt"] {
            let verdict = Verdict::from_name(name).unwrap();
            assert_eq!((verdict.name(), verdict.concern(), verdict.is_bad()), (name, None, false));
        }
        for name in ["needs_review", "extra_call", "late_use"] {
            let verdict = Verdict::from_name(name).unwrap();
            assert_eq!((verdict.concern().unwrap().name(), verdict.is_bad()), (name, true));
            assert_eq!(serde_json::to_value(verdict).unwrap(), name);
        }
        assert_eq!(Verdict::from_name("fine"), None);
    }
}
