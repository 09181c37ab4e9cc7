//! What a plan takes from the budgets. Pure: how much is left is the store's to count.

use super::percent::encoded;
use super::{Budget, Counts, Dimension, Guardrails, Privilege};
use crate::domain::action::{Action, ActionClass};
use crate::domain::id::RunId;
use crate::domain::plan::{Credential, Plan};
use crate::domain::principal::{AgentSlug, Environment, Name};

/// What one budget is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spending {
    /// The budget.
    pub name: Name,
    /// The one count of it that this adds to; never that of another budget or of other dimensions.
    pub key: String,
    /// Length of the sliding window, seconds; `None`: for ever.
    pub seconds: Option<u32>,
    /// How much this adds.
    pub amount: u64,
    /// Beyond this sum policy sees the budget's name.
    pub step_up_at: Option<u64>,
    /// Beyond this sum the answer is no.
    pub limit: Option<u64>,
}

impl Guardrails {
    /// What `plan`, proposed by `agent` in `run`, takes from every budget that applies there.
    pub fn spending(
        &self,
        plan: &Plan,
        environment: &Environment,
        agent: &AgentSlug,
        run: RunId,
    ) -> Vec<Spending> {
        let action = plan.action();
        let value = |dimension: &Dimension| match dimension {
            Dimension::Run => run.to_string(),
            Dimension::Agent => agent.to_string(),
            Dimension::Environment => environment.to_string(),
            Dimension::Account => account(plan.credential()),
            Dimension::Service => action.service.clone(),
            Dimension::Action => action.action_type.to_string(),
        };
        let applies = |budget: &Budget| {
            budget.environments.as_ref().is_none_or(|environments| environments.contains(environment))
        };
        let budgets = self.document.budgets.iter().filter(|(_, budget)| applies(budget));
        budgets
            .map(|(name, budget)| Spending {
                name: name.clone(),
                key: key(name, budget, value),
                seconds: budget.seconds,
                amount: amount(budget.counts, &self.document.privilege, action),
                step_up_at: budget.step_up_at,
                limit: budget.limit,
            })
            .collect()
    }
}

/// Every part is escaped or a word, so `/` and `=` only ever separate: two different counts never share a key. What is
/// counted is part of it, so that a budget that counts something else starts anew.
fn key(name: &Name, budget: &Budget, value: impl Fn(&Dimension) -> String) -> String {
    let mut key = format!("budget/{name}/{}", budget.counts.name());
    for dimension in &budget.per {
        key.push_str(&format!("/{}={}", dimension.name(), encoded(&value(dimension))));
    }
    key
}

/// An account never looks like an audience.
fn account(credential: &Credential) -> String {
    match credential {
        Credential::Aws(aws) => format!("aws:{}", aws.account),
        Credential::Jwt(jwt) => format!("jwt:{}", jwt.audience),
    }
}

fn amount(counts: Counts, privilege: &Privilege, action: &Action) -> u64 {
    let changes = u64::from(action.changes);
    match counts {
        Counts::Uses => 1,
        Counts::Changes => changes,
        Counts::Privilege => {
            let weight = match action.class {
                ActionClass::Availability => privilege.availability,
                ActionClass::Data => privilege.data,
                ActionClass::Trust => privilege.trust,
            };
            let times = if action.reversible { 1 } else { privilege.irreversible_times };
            changes.saturating_mul(u64::from(weight)).saturating_mul(u64::from(times))
        }
    }
}

impl Counts {
    fn name(self) -> &'static str {
        match self {
            Self::Uses => "uses",
            Self::Changes => "changes",
            Self::Privilege => "privilege",
        }
    }
}

impl Dimension {
    fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Agent => "agent",
            Self::Environment => "environment",
            Self::Account => "account",
            Self::Service => "service",
            Self::Action => "action",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::plan::{JwtCredential, Revocability};
    use crate::domain::time::Timestamp;
    use crate::guardrails::GuardrailsDocument;

    const BUDGETS: &str = r#"
[taint]
window_seconds = 3600
[privilege]
availability = 1
data = 5
trust = 10
irreversible_times = 3
[budgets.uses]
counts = "uses"
per = []
seconds = 60
limit = 5
[budgets.changes]
counts = "changes"
per = ["agent", "service"]
seconds = 3600
step_up_at = 3
[budgets.privilege]
counts = "privilege"
per = ["run"]
limit = 100
environments = ["production"]
[administration]
approve_seconds = 900
[administration.unfreeze]
approvals = { sre = 2 }
custody = ["file"]
"#;

    fn guardrails() -> Guardrails {
        Guardrails::check(GuardrailsDocument::from_toml(BUDGETS).unwrap()).unwrap()
    }

    fn plan(class: ActionClass, reversible: bool, changes: u32) -> Plan {
        let action = Action {
            action_type: "restore-data".parse().unwrap(),
            service: "checkout/eu".into(),
            summary: String::new(),
            parameters: [].into(),
            unenforced: vec![],
            class,
            reversible,
            rollback: None,
            changes,
            exceptions: vec![],
            unscopable: vec![],
            dependents: vec![],
            plan_digest: None,
            preconditions: vec![],
        };
        let credential = Credential::Jwt(JwtCredential {
            audience: "http://127.0.0.1:8478".into(),
            authorization_details: vec![],
            work_seconds: 60,
            revocability: Revocability::Immediate,
        });
        Plan::compiled(action, credential)
    }

    fn spent(environment: &str, plan: &Plan) -> Vec<Spending> {
        guardrails().spending(plan, &environment.parse().unwrap(), &"pay-bot".parse().unwrap(), RunId::nil())
    }

    #[test]
    fn each_budget_counts_its_own_and_only_where_it_applies() {
        let plan = plan(ActionClass::Data, false, 4);
        let there = spent("production", &plan);
        let amounts: Vec<(&str, u64)> = there.iter().map(|one| (one.name.as_str(), one.amount)).collect();
        assert_eq!(amounts, [("changes", 4), ("privilege", 4 * 5 * 3), ("uses", 1)]);
        assert_eq!(spent("staging", &plan).len(), 2);
        assert_eq!((there[0].step_up_at, there[0].limit, there[0].seconds), (Some(3), None, Some(3600)));
        assert_eq!((there[1].limit, there[1].seconds), (Some(100), None));
    }

    #[test]
    fn what_can_be_taken_back_weighs_its_class_alone() {
        let weight = |class, reversible| spent("production", &plan(class, reversible, 2))[1].amount;
        assert_eq!(weight(ActionClass::Availability, true), 2);
        assert_eq!(weight(ActionClass::Trust, true), 20);
        assert_eq!(weight(ActionClass::Trust, false), 60);
    }

    #[test]
    fn a_key_names_budget_unit_and_dimensions() {
        let keys: Vec<String> =
            spent("production", &plan(ActionClass::Data, true, 1)).into_iter().map(|one| one.key).collect();
        assert_eq!(keys[0], "budget/changes/changes/agent=pay-bot/service=checkout%2Feu");
        assert_eq!(keys[1], format!("budget/privilege/privilege/run={}", RunId::nil()));
        assert_eq!(keys[2], "budget/uses/uses");
        assert_ne!(RunId::nil(), RunId::generate(Timestamp::from_seconds(1)));
    }

    const ALL: [Dimension; 6] = [
        Dimension::Run,
        Dimension::Agent,
        Dimension::Environment,
        Dimension::Account,
        Dimension::Service,
        Dimension::Action,
    ];

    fn counted(name: &str, per: &BTreeSet<Dimension>, values: &[String]) -> String {
        let budget = Budget {
            counts: Counts::Changes,
            per: per.clone(),
            seconds: None,
            step_up_at: None,
            limit: Some(1),
            environments: None,
        };
        let at = |dimension: &Dimension| ALL.iter().position(|one| one == dimension).unwrap();
        key(&name.parse().unwrap(), &budget, |dimension| values[at(dimension)].clone())
    }

    fn values() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec("[a-c/=%:.-]{0,6}", 6)
    }

    fn dimensions() -> impl Strategy<Value = BTreeSet<Dimension>> {
        prop::sample::subsequence(ALL.to_vec(), 0..=6).prop_map(|some| some.into_iter().collect())
    }

    proptest! {
        #[test]
        fn two_different_counts_never_share_a_key(
            names in ("[a-c]{2,3}", "[a-c]{2,3}"),
            per in (dimensions(), dimensions()),
            values in (values(), values()),
        ) {
            let used = |per: &BTreeSet<Dimension>, values: &[String]| -> Vec<(Dimension, String)> {
                let all = ALL.iter().zip(values);
                all.filter(|(one, _)| per.contains(one)).map(|(one, v)| (*one, v.clone())).collect()
            };
            let same = names.0 == names.1 && used(&per.0, &values.0) == used(&per.1, &values.1);
            let (first, second) = (counted(&names.0, &per.0, &values.0), counted(&names.1, &per.1, &values.1));
            prop_assert_eq!(first == second, same, "{} {}", first, second);
        }

        #[test]
        fn one_other_value_is_another_count(per in dimensions(), values in values(), at in 0usize..6, other in "[a-c/=%]{0,6}") {
            let mut changed = values.clone();
            changed[at] = other;
            let counts = per.contains(&ALL[at]) && changed != values;
            prop_assert_eq!(counted("ab", &per, &values) != counted("ab", &per, &changed), counts);
        }
    }
}
