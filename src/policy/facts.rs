//! Everything a policy can see, in one owned document that is recorded with each decision and asked again by a replay.
//!
//! No text of the agent is in it: not the diagnosis, the evidence or the reason, nor a name or value it made up. What an
//! agent chooses reaches a policy only as parameters that matched the catalog's types, and as names of preconditions that
//! were checked before. Two proposals that differ in words alone give the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::action::ActionClass;
use crate::domain::grant::Who;
use crate::domain::plan::{Credential, Plan, ProviderKind};
use crate::domain::principal::{
    ActionType, AgentSlug, Attestation, Environment, GroupSlug, Name, PersonSlug,
};
use crate::domain::sent::is_canary;
use crate::domain::time::Timestamp;

/// The resource of a statement that reaches everything, or that cannot be read.
const EVERYTHING: &str = "*";

/// What is asked: all of it, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The agent that proposes: Cedar's principal.
    pub agent: AgentSlug,
    /// The agent that will claim.
    pub claiming_agent: AgentSlug,
    /// Groups of the proposing agent.
    pub agent_groups: BTreeSet<GroupSlug>,
    /// How the proposing agent proved who it is.
    pub attestation: Attestation,
    /// The person of record.
    pub requester: PersonSlug,
    /// Groups of the person of record.
    pub requester_groups: BTreeSet<GroupSlug>,
    /// Whether that person asked in person, by a verified assertion.
    pub asked_in_person: bool,
    /// Where it is done.
    pub environment: Environment,
    /// The catalog entry: Cedar's resource.
    pub action: ActionType,
    /// Kind of harm.
    pub class: ActionClass,
    /// Whether there is a way back.
    pub reversible: bool,
    /// What it is done to, as limits count it.
    pub service: String,
    /// Who mints its credential.
    pub provider: ProviderKind,
    /// The account (`aws`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The region (`aws`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The audience (`jwt`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// How many things are changed.
    pub changes: u32,
    /// Longest work time of the plan, seconds.
    pub work_seconds: u32,
    /// Checked parameters, as text.
    pub parameters: BTreeMap<String, String>,
    /// Names of the parameters that the provider does not enforce.
    pub unenforced: BTreeSet<String>,
    /// Exceptions the catalog entry names, such as `iam:PassRole`.
    pub exceptions: BTreeSet<String>,
    /// AWS actions that no ARN narrows.
    pub unscopable: BTreeSet<String>,
    /// Every resource that the credential allows something on: ARNs (`aws`; `*` is everything), or the audience (`jwt`).
    pub resources: BTreeSet<String>,
    /// Names of what must still hold at the claim.
    pub preconditions: BTreeSet<String>,
    /// Whether an external plan is bound by its digest.
    pub plan_digest: bool,
    /// Whether it takes back an earlier grant.
    pub voucher: bool,
    /// Whether the agent may have read something untrusted lately.
    pub tainted: bool,
    /// What happened in the run so far.
    pub history: History,
    /// Every budget that counts this action.
    pub budgets: BTreeMap<Name, BudgetFact>,
    /// What is frozen, as [`FreezeKey`](crate::domain::freeze::FreezeKey) spells it.
    pub freezes: BTreeSet<String>,
    /// When it is asked.
    pub now: Timestamp,
}

/// What happened in a run so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// Observe credentials issued.
    pub observations: u64,
    /// Grants sealed.
    pub proposals: u64,
    /// Execute credentials issued.
    pub claims: u64,
}

/// Where one budget stands, and what this action would add.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetFact {
    /// Counted so far.
    pub used: u64,
    /// What this action adds.
    pub amount: u64,
    /// Beyond this sum policies see it crossed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_up_at: Option<u64>,
    /// Beyond this sum the answer is no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// What is known beside the plan and who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Around {
    /// Groups of the proposing agent.
    pub agent_groups: BTreeSet<GroupSlug>,
    /// Groups of the person of record.
    pub requester_groups: BTreeSet<GroupSlug>,
    /// Whether the agent may have read something untrusted lately.
    pub tainted: bool,
    /// What happened in the run so far.
    pub history: History,
    /// Every budget that counts this action.
    pub budgets: BTreeMap<Name, BudgetFact>,
    /// What is frozen.
    pub freezes: BTreeSet<String>,
    /// Whether it takes back an earlier grant.
    pub voucher: bool,
    /// When it is asked.
    pub now: Timestamp,
}

impl Facts {
    /// Everything of the action comes from the plan, never from the proposal it was compiled from.
    pub fn of(plan: &Plan, environment: &Environment, who: &Who, around: Around) -> Self {
        let (action, credential) = (plan.action(), plan.credential());
        let (account, region, audience) = match credential {
            Credential::Aws(aws) => (Some(aws.account.clone()), Some(aws.region.clone()), None),
            Credential::Jwt(jwt) => (None, None, Some(jwt.audience.clone())),
        };
        Self {
            agent: who.proposing_agent.clone(),
            claiming_agent: who.claiming_agent.clone(),
            agent_groups: around.agent_groups,
            attestation: who.attestation,
            requester: who.requester.clone(),
            requester_groups: around.requester_groups,
            asked_in_person: who.asked_in_person,
            environment: environment.clone(),
            action: action.action_type.clone(),
            class: action.class,
            reversible: action.reversible,
            service: action.service.clone(),
            provider: credential.provider(),
            account,
            region,
            audience,
            changes: action.changes,
            work_seconds: credential.work_seconds(),
            parameters: action.parameters.iter().map(|(name, v)| (name.clone(), v.to_string())).collect(),
            unenforced: action.unenforced.iter().cloned().collect(),
            exceptions: action.exceptions.iter().cloned().collect(),
            unscopable: action.unscopable.iter().cloned().collect(),
            resources: resources(credential),
            preconditions: action.preconditions.iter().map(|one| one.name.clone()).collect(),
            plan_digest: action.plan_digest.is_some(),
            voucher: around.voucher,
            tainted: around.tainted,
            history: around.history,
            budgets: around.budgets,
            freezes: around.freezes,
            now: around.now,
        }
    }

    /// The budgets whose step-up line this action would cross.
    pub fn crossed(&self) -> impl Iterator<Item = &Name> {
        self.budgets.iter().filter(|(_, fact)| fact.crossed()).map(|(name, _)| name)
    }

    /// The budgets that have no room for this action.
    pub fn exhausted(&self) -> impl Iterator<Item = &Name> {
        self.budgets.iter().filter(|(_, fact)| fact.exhausted()).map(|(name, _)| name)
    }

    /// Hour of the day in UTC, 0 to 23.
    pub fn hour(&self) -> i64 {
        self.now.seconds().rem_euclid(86_400) / 3_600
    }

    /// Day of the week in UTC, 1 (Monday) to 7, as ISO 8601 counts.
    pub fn weekday(&self) -> i64 {
        // 1970-01-01 was a Thursday.
        (self.now.seconds().div_euclid(86_400) + 3).rem_euclid(7) + 1
    }
}

impl BudgetFact {
    /// Whether this action would cross the step-up line.
    pub fn crossed(&self) -> bool {
        self.step_up_at.is_some_and(|line| self.used.saturating_add(self.amount) > line)
    }

    /// Whether there is no room for this action.
    pub fn exhausted(&self) -> bool {
        self.limit.is_some_and(|line| self.used.saturating_add(self.amount) > line)
    }
}

fn resources(credential: &Credential) -> BTreeSet<String> {
    match credential {
        Credential::Jwt(jwt) => [jwt.audience.clone()].into(),
        Credential::Aws(aws) => allowed(&aws.session_policy),
    }
}

/// Resources of the Allow statements.
// SECURITY: a statement that cannot be read counts as one that reaches everything, so that no policy takes it for none.
fn allowed(session_policy: &str) -> BTreeSet<String> {
    let policy: Value = serde_json::from_str(session_policy).unwrap_or_default();
    let Some(statements) = policy.get("Statement").and_then(Value::as_array) else {
        return [EVERYTHING.to_owned()].into();
    };
    let mut found = BTreeSet::new();
    for statement in statements {
        // What a canary reaches is no resource that the action is about.
        if statement.get("Effect").and_then(Value::as_str) == Some("Deny") || is_canary(statement) {
            continue;
        }
        match statement.get("Resource") {
            Some(Value::String(one)) => {
                found.insert(one.clone());
            }
            Some(Value::Array(many)) if !many.is_empty() => {
                found.extend(many.iter().map(|one| one.as_str().unwrap_or(EVERYTHING).to_owned()));
            }
            _ => {
                found.insert(EVERYTHING.to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_crossed_only_beyond_it() {
        let fact = |used, amount| BudgetFact { used, amount, step_up_at: Some(3), limit: Some(5) };
        assert!(!fact(2, 1).crossed() && fact(3, 1).crossed());
        assert!(!fact(4, 1).exhausted() && fact(5, 1).exhausted());
        assert!(fact(u64::MAX, u64::MAX).exhausted());
        let without = BudgetFact { used: 99, amount: 9, step_up_at: None, limit: None };
        assert!(!without.crossed() && !without.exhausted());
    }

    #[test]
    fn every_resource_of_every_allow_is_found_and_none_of_the_closing_deny() {
        let policy = r#"{"Version":"2012-10-17","Statement":[
            {"Effect":"Allow","Action":["a:B"],"Resource":["arn:one","arn:two"]},
            {"Effect":"Allow","Action":["a:C"],"Resource":"arn:three"},
            {"Effect":"Deny","Action":"*","Resource":"*"}]}"#;
        assert_eq!(allowed(policy), ["arn:one", "arn:three", "arn:two"].map(str::to_owned).into());
    }

    #[test]
    fn what_cannot_be_read_reaches_everything() {
        let everything: BTreeSet<String> = [EVERYTHING.to_owned()].into();
        for policy in [
            "",
            "{}",
            r#"{"Statement":[{"Effect":"Allow","NotResource":"arn:one"}]}"#,
            r#"{"Statement":[{"Effect":"Allow","Resource":[]}]}"#,
            r#"{"Statement":[{"Effect":"Allow","Resource":[7]}]}"#,
        ] {
            assert_eq!(allowed(policy), everything, "{policy}");
        }
    }
}
