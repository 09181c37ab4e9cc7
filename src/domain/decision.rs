//! The policy's answer to a plan, always with its reasons.

use serde::{Deserialize, Serialize};

use super::rule::Rule;

/// The four answers, strictest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// No.
    Deny,
    /// A person may carry it out; nothing can be claimed.
    SuggestOnly,
    /// People must sign.
    NeedsApproval,
    /// Inside a playbook that people signed.
    Autonomous,
}

impl Tier {
    /// The spelling used everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::SuggestOnly => "suggest_only",
            Self::NeedsApproval => "needs_approval",
            Self::Autonomous => "autonomous",
        }
    }
}

/// Under which terms people may approve: the strictest of all policies that decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Who must sign.
    pub rule: Rule,
    /// Seconds to collect the signatures.
    pub approve_seconds: u32,
    /// Seconds to claim, after the approval that completed the rule.
    pub claim_seconds: u32,
    /// Longest work time, seconds.
    pub work_seconds: u32,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// No.
    Deny,
    /// A person may carry it out.
    SuggestOnly,
    /// People must sign.
    NeedsApproval(Terms),
    /// No signature on this grant, if it lies inside a playbook that people signed; which one is not policy's to say.
    /// The terms are those of a single grant of its kind: who signs the playbook, and who signs outside of one.
    Autonomous(Terms),
}

/// The policy's answer and the names of the policies that gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The answer.
    pub verdict: Verdict,
    /// `@id` of every policy that determined it, or why none did.
    pub reasons: Vec<String>,
}

impl Decision {
    /// Which of the four answers it is.
    pub fn tier(&self) -> Tier {
        match self.verdict {
            Verdict::Deny => Tier::Deny,
            Verdict::SuggestOnly => Tier::SuggestOnly,
            Verdict::NeedsApproval(_) => Tier::NeedsApproval,
            Verdict::Autonomous(_) => Tier::Autonomous,
        }
    }
}
