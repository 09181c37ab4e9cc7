//! Asks the policy set about the facts and combines every policy that determined the answer into the strictest.

use cedar_policy::Authorizer;

use super::facts::Facts;
use super::floor;
use super::load::PolicySet;
use super::terms::Answer;
use crate::domain::decision::{Decision, Terms, Verdict};
use crate::domain::printable::printable;

/// Longest reason, in characters: reasons go into documents of printable ASCII.
const REASON_CHARS: usize = 300;

impl PolicySet {
    /// The strictest answer of all policies that determined it; deny when none permits, any errs, or a budget is spent.
    pub fn decide(&self, facts: &Facts) -> Decision {
        let spent = floor::spent(facts);
        if !spent.is_empty() {
            return deny(spent);
        }
        let (request, entities) = match self.kinds.ask(facts, &self.schema) {
            Ok(asked) => asked,
            Err(problem) => {
                return deny(vec![printable(
                    &format!("the question cannot be put: {problem}"),
                    REASON_CHARS,
                )]);
            }
        };
        let response =
            Authorizer::new().is_authorized(&request, self.split.of(facts.action.as_str()), &entities);
        // INVARIANT: re-decided. Cedar skips a policy that errs, so any error is a denial, whatever the rest says.
        let mut errors: Vec<String> = response
            .diagnostics()
            .errors()
            .map(|error| printable(&error.to_string(), REASON_CHARS))
            .collect();
        if !errors.is_empty() {
            errors.sort();
            return deny(errors);
        }
        let mut reasons: Vec<String> = response.diagnostics().reason().map(|id| id.to_string()).collect();
        reasons.sort();
        if response.decision() != cedar_policy::Decision::Allow {
            if reasons.is_empty() {
                reasons.push("no policy permits it".into());
            }
            return deny(reasons);
        }
        floor::applied(facts, self.strictest(reasons))
    }

    /// `suggest_only` before everything; then approval if any permit asks for it; autonomous only if every permit is.
    /// The terms are those of all permits together, those of autonomous ones included.
    fn strictest(&self, reasons: Vec<String>) -> Decision {
        let (mut suggest, mut autonomous) = (false, true);
        let mut combined: Option<Terms> = None;
        for id in &reasons {
            match self.annotated.get(id).map(|annotated| &annotated.answer) {
                Some(Answer::SuggestOnly) => suggest = true,
                Some(answer @ (Answer::NeedsApproval(terms) | Answer::Autonomous(terms))) => {
                    autonomous &= matches!(answer, Answer::Autonomous(_));
                    combined = Some(match combined {
                        None => terms.clone(),
                        Some(other) => both(&other, terms),
                    });
                }
                Some(Answer::Forbid) | None => {
                    return deny(vec![format!("policy `{id}` permitted without an answer")]);
                }
            }
        }
        let verdict = match combined {
            _ if suggest => Verdict::SuggestOnly,
            None => return deny(vec!["no policy permits it".into()]),
            Some(terms) => match terms.rule.check() {
                Err(bad) => return deny(vec![format!("{} (policies: {})", bad, reasons.join(", "))]),
                Ok(()) if autonomous => Verdict::Autonomous(terms),
                Ok(()) => Verdict::NeedsApproval(terms),
            },
        };
        Decision { verdict, reasons }
    }
}

/// Per group the larger number, all groups, custodies both accept, the shorter of each time.
fn both(one: &Terms, other: &Terms) -> Terms {
    Terms {
        rule: one.rule.and(&other.rule),
        approve_seconds: one.approve_seconds.min(other.approve_seconds),
        claim_seconds: one.claim_seconds.min(other.claim_seconds),
        work_seconds: one.work_seconds.min(other.work_seconds),
    }
}

fn deny(reasons: Vec<String>) -> Decision {
    Decision { verdict: Verdict::Deny, reasons }
}
