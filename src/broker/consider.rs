//! Asking the policy about a plan: everything it can see is gathered here, in one reading, and what the answer rests on
//! is kept, so that a replay can ask another policy set the same question.

use std::collections::BTreeMap;

use super::Broker;
use super::ports::{Counted, DecisionEntry, Inquiry, Reservation};
use super::refusal::{Code, Refusal};
use super::rules::Rules;
use crate::domain::decision::Decision;
use crate::domain::grant::Who;
use crate::domain::id::{DecisionId, GrantId};
use crate::domain::plan::Plan;
use crate::domain::principal::{Environment, Name};
use crate::domain::time::Timestamp;
use crate::guardrails::Spending;
use crate::policy::{Around, BudgetFact, Facts, History};

/// A plan the policy was asked about.
pub(super) struct Considered {
    pub(super) facts: Facts,
    pub(super) decision: Decision,
    spending: Vec<Spending>,
}

/// What is asked about, and when.
#[derive(Clone, Copy)]
pub(super) struct Matter<'a> {
    pub(super) rules: &'a Rules,
    pub(super) plan: &'a Plan,
    pub(super) environment: &'a Environment,
    pub(super) who: &'a Who,
    /// It takes back an earlier grant.
    pub(super) voucher: bool,
    pub(super) now: Timestamp,
}

impl Broker {
    /// Gathers what the policy can see, and asks it. Nothing of the agent's free text is among it.
    pub(super) async fn consider(&self, matter: Matter<'_>) -> Result<Considered, Refusal> {
        let Matter { rules, plan, environment, who, voucher, now } = matter;
        let guardrails = &rules.guardrails;
        let spending = guardrails.spending(plan, environment, &who.proposing_agent, who.run);
        let inquiry = Inquiry {
            counted: spending.iter().map(|one| counted(one, now)).collect(),
            run: who.run,
            agents: vec![who.proposing_agent.clone(), who.claiming_agent.clone()],
            untrusted_since: now.plus(-i64::from(guardrails.document().taint.window_seconds)),
        };
        let stands = self.store.stands(inquiry).await.map_err(|e| self.gate.store_failed(&e))?;
        let budgets: BTreeMap<Name, BudgetFact> = spending
            .iter()
            .zip(&stands.used)
            .map(|(one, used)| (one.name.clone(), fact(one, *used)))
            .collect();
        if budgets.len() != stands.used.len() || budgets.len() != spending.len() {
            return Err(Refusal::new(
                Code::PolicyDenied,
                "what was spent cannot be told apart; nothing is issued",
            ));
        }
        let agent = rules.directory.agent(&who.proposing_agent);
        let around = Around {
            agent_groups: agent.map(|agent| agent.groups.clone()).unwrap_or_default(),
            requester_groups: rules.directory.groups_of(&who.requester),
            tainted: stands.last_untrusted.is_some(),
            history: History {
                observations: stands.history.observations,
                proposals: stands.history.proposals,
                claims: stands.history.claims,
            },
            budgets,
            freezes: self.frozen.keys().iter().map(ToString::to_string).collect(),
            voucher,
            now,
        };
        let facts = Facts::of(plan, environment, who, around);
        let decision = rules.policy.decide(&facts);
        Ok(Considered { facts, decision, spending })
    }
}

impl Considered {
    /// What the opening transaction must find still so. INVARIANT: re-decided. A line that was not crossed when policy
    /// was asked must not be crossed by the time it counts; whoever crosses it meanwhile is asked about again.
    pub(super) fn reservations(&self, now: Timestamp, beyond_limits: bool) -> Vec<Reservation> {
        let limit = |one: &Spending| {
            let fact = self.facts.budgets.get(&one.name);
            let crossed = fact.is_none_or(BudgetFact::crossed);
            let line = one.step_up_at.filter(|_| !crossed);
            let limit = one.limit.filter(|_| !beyond_limits);
            line.into_iter().chain(limit).min().unwrap_or(u64::MAX)
        };
        let reserve = |one: &Spending| {
            let Counted { key, since } = counted(one, now);
            Reservation { key, amount: one.amount, since, limit: limit(one) }
        };
        self.spending.iter().map(reserve).collect()
    }

    /// As it is kept.
    pub(super) fn entry(
        &self,
        id: DecisionId,
        grant: GrantId,
        moment: &'static str,
        now: Timestamp,
    ) -> Result<DecisionEntry, Refusal> {
        let facts = serde_json::to_string(&self.facts)
            .map_err(|_| Refusal::new(Code::PolicyDenied, "the decision cannot be written down"))?;
        Ok(DecisionEntry {
            id,
            at: now,
            grant,
            moment: moment.into(),
            facts,
            tier: self.decision.tier(),
            reasons: self.decision.reasons.clone(),
        })
    }
}

fn counted(one: &Spending, now: Timestamp) -> Counted {
    Counted { key: one.key.clone(), since: one.seconds.map(|seconds| now.plus(-i64::from(seconds))) }
}

fn fact(one: &Spending, used: u64) -> BudgetFact {
    BudgetFact { used, amount: one.amount, step_up_at: one.step_up_at, limit: one.limit }
}
