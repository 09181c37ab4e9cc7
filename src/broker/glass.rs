//! Break-glass: a rule of its own for when policy would say no and there is no time. Two people at least sign, it is
//! short, loud and always reviewed; it lifts no freeze, no deadline and no floor of the quorum.

use super::Broker;
use super::consider::Matter;
use super::propose::Standpoint;
use super::refusal::{Code, Refusal};
use super::rules::Rules;
use crate::domain::grant::{Grant, Standing};
use crate::domain::playbook::ReviewTerms;
use crate::domain::rule::Rule;
use crate::domain::run::Run;
use crate::guardrails::BreakGlass;
use crate::policy::floor;

impl Broker {
    /// The break-glass rule in the place of the policy's answer, whose reasons are kept.
    pub(super) fn ask_under_break_glass(
        &self,
        matter: Matter<'_>,
        run: &Run,
        decided: Vec<String>,
    ) -> Result<Standpoint, Refusal> {
        if !run.asked_in_person {
            return Err(Refusal::new(
                Code::PolicyDenied,
                "break-glass is asked for by a person: open the run with a `requester_token`",
            ));
        }
        let action = matter.plan.action();
        let glass = rule(matter.rules, matter.environment, &action.action_type)?;
        floor::holds(action.class, action.reversible, &glass.terms.rule)
            .map_err(|why| Refusal::new(Code::PolicyDenied, format!("break-glass: {why}")))?;
        tracing::error!(
            run.id = %run.id,
            action = %action.action_type,
            environment = %matter.environment,
            "BREAK-GLASS is asked for: people are to sign past the policy"
        );
        let mut reasons = vec!["break-glass".to_owned()];
        reasons.extend(decided.into_iter().map(|reason| format!("set aside: {reason}")));
        let standing = Standing { break_glass: true, ..Standing::default() };
        Ok(Standpoint { terms: glass.terms.clone(), standing, reasons })
    }

    /// At the claim: today's break-glass rule and who reviews the use.
    pub(super) fn still_glass(
        &self,
        grant: &Grant,
        rules: &Rules,
    ) -> Result<(Rule, u32, ReviewTerms), Refusal> {
        let glass = rule(rules, &grant.environment, &grant.action.action_type)?;
        floor::holds(grant.action.class, grant.action.reversible, &glass.terms.rule)
            .map_err(|why| Refusal::new(Code::PolicyDenied, format!("break-glass: {why}")))?;
        Ok((glass.terms.rule.clone(), glass.terms.work_seconds, glass.review.clone()))
    }
}

fn rule<'a>(
    rules: &'a Rules,
    environment: &crate::domain::principal::Environment,
    action: &crate::domain::principal::ActionType,
) -> Result<&'a BreakGlass, Refusal> {
    rules.guardrails.break_glass().filter(|glass| glass.covers(environment, action)).ok_or_else(|| {
        Refusal::new(
            Code::PolicyDenied,
            format!("there is no break-glass rule for `{action}` in `{environment}`"),
        )
    })
}
