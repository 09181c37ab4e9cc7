//! Facts for questions that nobody asked: of an entry with sample parameters, or of a proposal in a file.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::broker::rules::Rules;
use crate::catalog::{self, Ids};
use crate::domain::action::{Action, ActionClass};
use crate::domain::decision::Decision;
use crate::domain::grant::Who;
use crate::domain::id::{GrantId, LeaseId, RunId};
use crate::domain::plan::Plan;
use crate::domain::principal::{
    ActionType, AgentSlug, Attestation, Environment, GroupSlug, Name, PersonSlug,
};
use crate::domain::proposal::{Proposal, Story};
use crate::domain::time::Timestamp;
use crate::guardrails::Counts;
use crate::policy::{Around, BudgetFact, Facts, History};

/// Thumbprint of no key: it is part of a proposal, and no policy sees it.
const NO_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// Stands for any agent and any person where only groups matter.
const ANYBODY: &str = "anybody";

/// Who asks.
#[derive(Debug, Clone)]
pub struct Asker {
    /// The agent.
    pub agent: AgentSlug,
    /// Its groups.
    pub groups: BTreeSet<GroupSlug>,
    /// How it proves itself.
    pub attestation: Attestation,
    /// The person of record.
    pub requester: PersonSlug,
    /// Groups of that person.
    pub requester_groups: BTreeSet<GroupSlug>,
}

impl Asker {
    /// An agent of the directory, on its owner's behalf.
    pub fn named(slug: &AgentSlug, rules: &Rules) -> Option<Self> {
        let agent = rules.directory.agent(slug)?;
        let groups = rules.directory.document().groups.keys();
        let of_owner = groups.filter(|group| rules.directory.is_member(&agent.owner, group)).cloned();
        Some(Self {
            agent: slug.clone(),
            groups: agent.groups.clone(),
            attestation: match agent.keys.is_empty() {
                true => Attestation::Workload,
                false => Attestation::RegisteredKey,
            },
            requester: agent.owner.clone(),
            requester_groups: of_owner.collect(),
        })
    }

    /// Any agent of `group` (or of none) with a registered key, on behalf of somebody without groups.
    pub fn of_group(group: Option<&GroupSlug>) -> anyhow::Result<Self> {
        Ok(Self {
            agent: ANYBODY.parse()?,
            groups: group.into_iter().cloned().collect(),
            attestation: Attestation::RegisteredKey,
            requester: ANYBODY.parse()?,
            requester_groups: BTreeSet::new(),
        })
    }
}

/// A proposal of `action` with a sample of every parameter.
pub fn sample(action: &ActionType, environment: &Environment, rules: &Rules) -> anyhow::Result<Proposal> {
    let entry = rules
        .catalog
        .actions()
        .get(action)
        .ok_or_else(|| anyhow::anyhow!("the catalog has no action `{action}`"))?;
    let parameters = entry
        .sample_parameters()
        .map_err(|name| anyhow::anyhow!("no sample was found for the pattern of its parameter `{name}`"))?;
    Ok(Proposal {
        action: action.clone(),
        environment: environment.clone(),
        parameters,
        work_seconds: None,
        claiming_agent: None,
        claim_key: NO_KEY.parse()?,
        plan_digest: None,
        preconditions: Vec::new(),
        alert: None,
        inverse_claim_key: None,
        break_glass: false,
        story: Story::default(),
    })
}

/// What a policy would see of the proposal, in an untainted run that has just observed, with every budget untouched.
pub fn facts(proposal: &Proposal, asker: &Asker, rules: &Rules, now: Timestamp) -> anyhow::Result<Facts> {
    let claiming_agent = proposal.claiming_agent.clone().unwrap_or_else(|| asker.agent.clone());
    let ids = Ids { grant: GrantId::nil(), lease: LeaseId::nil(), claiming_agent: claiming_agent.clone() };
    let plan = catalog::compile(proposal, &ids, &rules.catalog)?;
    let who = Who {
        run: RunId::nil(),
        proposing_agent: asker.agent.clone(),
        claiming_agent,
        claim_key: proposal.claim_key,
        requester: asker.requester.clone(),
        asked_in_person: false,
        attestation: asker.attestation,
    };
    let around = Around {
        agent_groups: asker.groups.clone(),
        requester_groups: asker.requester_groups.clone(),
        tainted: false,
        history: History { observations: 1, ..History::default() },
        budgets: budgets(&plan, &proposal.environment, rules),
        freezes: BTreeSet::new(),
        voucher: false,
        now,
    };
    Ok(Facts::of(&plan, &proposal.environment, &who, around))
}

/// The same facts with the budget's step-up line crossed; as they are when it has none that could be.
pub fn crossing(facts: &Facts, names: impl IntoIterator<Item = Name>) -> Facts {
    let mut crossed = facts.clone();
    for name in names {
        if let Some(fact) = crossed.budgets.get_mut(&name)
            && let Some(line) = fact.step_up_at
        {
            fact.used = line;
            fact.amount = fact.amount.max(1);
        }
    }
    crossed
}

/// A decision for machines.
pub fn json(decision: &Decision) -> Value {
    let terms = decision.terms();
    json!({
        "tier": decision.tier().name(),
        "rule": terms.map(|terms| &terms.rule),
        "approve_seconds": terms.map(|terms| terms.approve_seconds),
        "claim_seconds": terms.map(|terms| terms.claim_seconds),
        "work_seconds": terms.map(|terms| terms.work_seconds),
        "reasons": decision.reasons,
    })
}

fn budgets(plan: &Plan, environment: &Environment, rules: &Rules) -> BTreeMap<Name, BudgetFact> {
    let document = rules.guardrails.document();
    let here = document
        .budgets
        .iter()
        .filter(|(_, budget)| budget.environments.as_ref().is_none_or(|only| only.contains(environment)));
    here.map(|(name, budget)| {
        let amount = match budget.counts {
            Counts::Uses => 1,
            Counts::Changes => plan.action().changes.into(),
            Counts::Privilege => privilege(plan.action(), rules),
        };
        let fact = BudgetFact { used: 0, amount, step_up_at: budget.step_up_at, limit: budget.limit };
        (name.clone(), fact)
    })
    .collect()
}

fn privilege(action: &Action, rules: &Rules) -> u64 {
    let weights = rules.guardrails.document().privilege;
    let class = match action.class {
        ActionClass::Availability => weights.availability,
        ActionClass::Data => weights.data,
        ActionClass::Trust => weights.trust,
    };
    let times = if action.reversible { 1 } else { weights.irreversible_times };
    u64::from(action.changes).saturating_mul(class.into()).saturating_mul(times.into())
}
