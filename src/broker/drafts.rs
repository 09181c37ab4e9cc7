//! A playbook's draft, checked whole before anybody is asked to sign it: what it covers exists, its trigger and its
//! reviewers are there, and policy lets every combination of it run by itself.

use std::collections::{BTreeMap, BTreeSet};

use super::Broker;
use super::playbooks::{PlaybookDraft, invalid};
use super::refusal::Refusal;
use super::reviews::somebody_reviews;
use super::rules::Rules;
use super::runs::conflict;
use crate::catalog::{self, Ids};
use crate::domain::authority::WEB_IDENTITY_NEEDS_PEOPLE;
use crate::domain::decision::Verdict;
use crate::domain::digest::Digest;
use crate::domain::grant::Who;
use crate::domain::id::{GrantId, LeaseId, RunId};
use crate::domain::key::Thumbprint;
use crate::domain::playbook::{MAX_COMBINATIONS, Playbook, Trigger};
use crate::domain::principal::{AgentSlug, Attestation, Name, PersonSlug};
use crate::domain::proposal::{Proposal, Story};
use crate::domain::rule::Rule;
use crate::domain::time::Timestamp;
use crate::policy::{Around, Facts, History};

/// Longest life of a playbook: a year.
const LONGEST_SECONDS: i64 = 366 * 86_400;
/// Longest window of its budget: a month.
const LONGEST_WINDOW_SECONDS: u32 = 31 * 86_400;
/// Longest reason to propose one, in bytes.
const MAX_REASON_BYTES: usize = 512;

impl Broker {
    /// The draft, checked whole, and every combination of parameters it covers.
    pub(super) fn checked(
        &self,
        person: &PersonSlug,
        draft: PlaybookDraft,
        rules: &Rules,
        now: Timestamp,
    ) -> Result<(Playbook, Vec<BTreeMap<String, serde_json::Value>>), Refusal> {
        if draft.reason.len() > MAX_REASON_BYTES {
            return Err(invalid(format!("`reason` has at most {MAX_REASON_BYTES} bytes")));
        }
        let entry = rules.catalog.actions().get(&draft.action);
        let entry = entry.ok_or_else(|| invalid(format!("the catalog has no `{}`", draft.action)))?;
        let template = rules.catalog.template(&draft.action, &draft.environment).ok_or_else(|| {
            invalid(format!("`{}` is not allowed in `{}`", draft.action, draft.environment))
        })?;
        if rules.catalog.web_identity(&draft.action, &draft.environment).is_some() {
            let place = &draft.environment;
            return Err(invalid(format!("nothing runs by itself in `{place}`: {WEB_IDENTITY_NEEDS_PEOPLE}")));
        }
        let combinations = entry.check_ranges(&draft.parameters).map_err(invalid)?;
        if draft.agents.is_empty() || combinations.len().saturating_mul(draft.agents.len()) > MAX_COMBINATIONS
        {
            return Err(invalid(format!(
                "agents times combinations of parameters must be within 1 to {MAX_COMBINATIONS}"
            )));
        }
        if let Some(agent) = draft.agents.iter().find(|agent| rules.directory.agent(agent).is_none()) {
            return Err(invalid(format!("`{agent}` is no agent of the directory")));
        }
        let within = |what: &str, number: i64, least: i64, most: i64| match (least..=most).contains(&number) {
            true => Ok(()),
            false => Err(invalid(format!("`{what}` is {number}; it must be within {least} to {most}"))),
        };
        within("work_seconds", draft.work_seconds.into(), 1, entry.max_work_seconds().into())?;
        within("budget.uses", draft.budget.uses.into(), 1, 1_000)?;
        within("budget.seconds", draft.budget.seconds.into(), 60, LONGEST_WINDOW_SECONDS.into())?;
        within("max_uses", draft.max_uses.into(), 1, 10_000)?;
        within("review.due_seconds", draft.review.due_seconds.into(), 60, 30 * 86_400)?;
        within("not_after", draft.not_after.since(now), 60, LONGEST_SECONDS)
            .map_err(|_| invalid("`not_after` must lie between a minute and a year from now".into()))?;
        self.check_trigger(&draft.trigger, &draft, rules)?;
        // Whoever signs it is left out, too, when the last of them does.
        somebody_reviews(&draft.review.owner, &draft.agents, person, &[], &rules.directory)
            .map_err(|why| invalid(format!("`review.owner`: {why}")))?;
        let trigger_source = rules.guardrails.trigger_source(&draft.trigger);
        let trigger_source =
            trigger_source.ok_or_else(|| invalid("the guardrails have no such trigger".into()))?;
        let playbook = Playbook {
            name: draft.name,
            environment: draft.environment,
            action: draft.action,
            template: template.to_owned(),
            agents: draft.agents,
            parameters: draft.parameters,
            work_seconds: draft.work_seconds,
            budget: draft.budget,
            max_uses: draft.max_uses,
            trigger: draft.trigger,
            trigger_source,
            not_after: draft.not_after,
            review: draft.review,
        };
        playbook.check_sources().map_err(invalid)?;
        Ok((playbook, combinations))
    }

    fn check_trigger(&self, trigger: &Trigger, draft: &PlaybookDraft, rules: &Rules) -> Result<(), Refusal> {
        match trigger {
            Trigger::Probes(conditions) if conditions.is_empty() => {
                Err(invalid("a playbook needs a trigger: name a probe, or a signed alert".into()))
            }
            Trigger::Probes(conditions) => {
                for condition in conditions {
                    let name = condition.name.parse::<Name>().ok();
                    let Some(probe) = name.and_then(|name| rules.guardrails.probes().get(&name)) else {
                        return Err(invalid(format!("`{}` is no probe of the guardrails", condition.name)));
                    };
                    let unknown =
                        probe.parameters().into_iter().find(|name| !draft.parameters.contains_key(*name));
                    if let Some(unknown) = unknown {
                        return Err(invalid(format!(
                            "the probe `{}` asks for `{unknown}`, which `{}` has not",
                            condition.name, draft.action
                        )));
                    }
                }
                Ok(())
            }
            Trigger::Alert { source, .. } => match rules.guardrails.alert_sources().contains_key(source) {
                true => Ok(()),
                false => Err(invalid(format!("`{source}` is no source of alerts of the guardrails"))),
            },
        }
    }

    /// The rule a single grant of its kind would need: of every combination and agent, all of it.
    pub(super) fn single_grant_rule(
        &self,
        playbook: &Playbook,
        combinations: &[BTreeMap<String, serde_json::Value>],
        rules: &Rules,
        now: Timestamp,
    ) -> Result<(Rule, Vec<String>), Refusal> {
        let mut combined: Option<Rule> = None;
        let mut reasons = BTreeSet::new();
        for agent in &playbook.agents {
            for parameters in combinations {
                let facts = typical(playbook, agent, parameters, rules, now)?;
                let decision = rules.policy.decide(&facts);
                let Verdict::Autonomous(terms) = decision.verdict else {
                    return Err(invalid(format!(
                        "policy answers `{}` to {agent} with {} ({}); a playbook lies inside what policy lets run by itself",
                        decision.tier().name(),
                        serde_json::Value::from_iter(parameters.clone()),
                        decision.reasons.join(", ")
                    )));
                };
                reasons.extend(decision.reasons);
                combined = Some(match combined {
                    None => terms.rule,
                    Some(rule) => rule.and(&terms.rule),
                });
            }
        }
        let rule = combined.ok_or_else(|| invalid("it covers nothing".into()))?;
        rule.check().map_err(|bad| invalid(bad.to_string()))?;
        Ok((rule, reasons.into_iter().collect()))
    }
}

/// The question a quiet day would put: nothing read, nothing spent.
fn typical(
    playbook: &Playbook,
    agent: &AgentSlug,
    parameters: &BTreeMap<String, serde_json::Value>,
    rules: &Rules,
    now: Timestamp,
) -> Result<Facts, Refusal> {
    // Nobody claims with it: the plan does not depend on the key.
    let claim_key: Thumbprint = Digest::of(b"no key").to_string().parse().map_err(|_| conflict())?;
    let proposal = Proposal {
        action: playbook.action.clone(),
        environment: playbook.environment.clone(),
        parameters: parameters.clone(),
        work_seconds: Some(playbook.work_seconds),
        claiming_agent: Some(agent.clone()),
        claim_key,
        plan_digest: None,
        preconditions: Vec::new(),
        alert: None,
        inverse_claim_key: None,
        break_glass: false,
        story: Story::default(),
    };
    let ids = Ids { grant: GrantId::nil(), lease: LeaseId::nil(), claiming_agent: agent.clone() };
    let plan = catalog::compile(&proposal, &ids, &rules.catalog).map_err(|e| invalid(e.to_string()))?;
    let known = rules.directory.agent(agent).ok_or_else(|| invalid(format!("no agent `{agent}`")))?;
    let who = Who {
        run: RunId::nil(),
        proposing_agent: agent.clone(),
        claiming_agent: agent.clone(),
        claim_key,
        requester: known.owner.clone(),
        asked_in_person: false,
        attestation: match known.workloads.is_empty() {
            true => Attestation::RegisteredKey,
            false => Attestation::Workload,
        },
    };
    let around = Around {
        agent_groups: known.groups.clone(),
        requester_groups: rules.directory.groups_of(&known.owner),
        tainted: false,
        history: History::default(),
        budgets: BTreeMap::new(),
        freezes: BTreeSet::new(),
        voucher: false,
        now,
    };
    Ok(Facts::of(&plan, &playbook.environment, &who, around))
}
