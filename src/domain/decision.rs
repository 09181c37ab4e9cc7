//! The policy's answer to a plan, always with its reasons.

use std::fmt;

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

    /// Under which terms people sign, where they may.
    pub fn terms(&self) -> Option<&Terms> {
        match &self.verdict {
            Verdict::NeedsApproval(terms) | Verdict::Autonomous(terms) => Some(terms),
            Verdict::Deny | Verdict::SuggestOnly => None,
        }
    }
}

impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, approve_seconds, claim_seconds, work_seconds } = self;
        write!(f, "{rule}; approve {approve_seconds} s, claim {claim_seconds} s, work {work_seconds} s")
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.tier().name())?;
        if let Some(terms) = self.terms() {
            write!(f, ": {terms}")?;
        }
        write!(f, " [{}]", self.reasons.join(", "))
    }
}
