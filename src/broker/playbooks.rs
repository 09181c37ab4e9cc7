//! Playbooks: proposed by a person, signed by people under the rule a single grant of its kind would need, listed, and
//! taken out of use. Editing configuration never widens one: what it covers stands in the signed bytes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Broker;
use super::administer::{AdministrationProposed, Asked};
use super::ports::{ChangeRefused, Counted, PlaybookRecord};
use super::refusal::{Code, Refusal};
use super::reviews::somebody_reviews;
use super::rules::Rules;
use super::runs::conflict;
use crate::catalog::{self, Ids};
use crate::domain::administration::Subject;
use crate::domain::decision::Verdict;
use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind, SaltedText};
use crate::domain::grant::Who;
use crate::domain::id::{GrantId, LeaseId, RunId};
use crate::domain::key::Thumbprint;
use crate::domain::playbook::{
    MAX_COMBINATIONS, ParameterRange, Playbook, PlaybookBudget, PlaybookState, ReviewTerms, Trigger,
};
use crate::domain::principal::{ActionType, Actor, AgentSlug, Attestation, Environment, Name, PersonSlug};
use crate::domain::proposal::{Proposal, Story};
use crate::domain::rule::Rule;
use crate::domain::time::Timestamp;
use crate::policy::{Around, Facts, History};

/// Longest life of a playbook: a year.
const LONGEST_SECONDS: i64 = 366 * 86_400;
/// Longest window of its budget: a month.
const LONGEST_WINDOW_SECONDS: u32 = 31 * 86_400;

/// A playbook as a person writes it; the broker adds the digest of what it is about.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaybookDraft {
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
    /// Where.
    #[schema(value_type = String)]
    pub environment: Environment,
    /// The one action type.
    #[schema(value_type = String)]
    pub action: ActionType,
    /// The agents that may propose and claim.
    #[schema(value_type = Vec<String>)]
    pub agents: BTreeSet<AgentSlug>,
    /// Every parameter with what it may be: `{"values": ["a", "b"]}` or `{"integers": {"min": 1, "max": 3}}`.
    #[schema(value_type = Object)]
    pub parameters: BTreeMap<String, ParameterRange>,
    /// Longest work time of one use, seconds.
    pub work_seconds: u32,
    /// At most so many uses within any so many seconds.
    #[schema(value_type = Object)]
    pub budget: PlaybookBudget,
    /// How often in all.
    pub max_uses: u32,
    /// `{"probes": [{"name": "…", "value": "…"}]}` or `{"alert": {"source": "…", "alert": "…"}}`.
    #[schema(value_type = Object)]
    pub trigger: Trigger,
    /// It covers nothing from here on, seconds since the epoch.
    #[schema(value_type = i64)]
    pub not_after: Timestamp,
    /// Who reviews each use, and by when.
    #[schema(value_type = Object)]
    pub review: ReviewTerms,
    /// Why, in the person's words.
    pub reason: String,
}

/// A playbook, for people.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlaybookView {
    /// The administration grant that put it in force.
    #[schema(value_type = String)]
    pub grant: GrantId,
    /// What grants under it name.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
    /// Where.
    #[schema(value_type = String)]
    pub environment: Environment,
    /// The one action type.
    #[schema(value_type = String)]
    pub action: ActionType,
    /// The agents that may use it.
    #[schema(value_type = Vec<String>)]
    pub agents: BTreeSet<AgentSlug>,
    /// `active` or `suspended`.
    #[schema(value_type = String)]
    pub state: PlaybookState,
    /// Why it covers nothing now, although it is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_out: Option<String>,
    /// It covers nothing from here on.
    #[schema(value_type = i64)]
    pub not_after: Timestamp,
    /// Uses so far.
    pub uses: u64,
    /// Uses in all.
    pub max_uses: u32,
    /// Reviews past due.
    pub overdue_reviews: u64,
}

impl Broker {
    /// A person proposes a playbook; people sign it under the rule that a single grant of its kind would need.
    pub async fn propose_playbook(
        &self,
        person: &PersonSlug,
        draft: PlaybookDraft,
    ) -> Result<AdministrationProposed, Refusal> {
        let now = self.gate.may_issue()?;
        let rules = self.rules();
        let reason = draft.reason.clone();
        let (playbook, combinations) = self.checked(person, draft, &rules, now)?;
        let name_taken = self.store.playbooks(now).await.map_err(|e| self.gate.store_failed(&e))?;
        if name_taken.iter().any(|record| is_current(record, &playbook.name, now)) {
            return Err(invalid(format!(
                "a playbook `{}` is in force already; suspend it first, or choose another name",
                playbook.name
            )));
        }
        let (rule, reasons) = self.single_grant_rule(&playbook, &combinations, &rules, now)?;
        let agents = playbook.agents.clone();
        let subject = Subject::Playbook(Box::new(playbook));
        self.administer(person, Asked { subject, agents, rule, reasons, reason }, &rules).await
    }

    /// Playbooks that were ever in force, newest first.
    pub async fn playbooks(&self) -> Result<Vec<PlaybookView>, Refusal> {
        let now = self.gate.now();
        let rules = self.rules();
        let records = self.store.playbooks(now).await.map_err(|e| self.gate.store_failed(&e))?;
        let mut views = Vec::with_capacity(records.len());
        for record in &records {
            let digest = record.administration.sealed.digest();
            let Some(playbook) = record.administration.sealed.playbook() else { continue };
            let used = self.used(Counted { key: uses_key(digest), since: None }).await?;
            let why_out = match record.state {
                PlaybookState::Suspended => None,
                PlaybookState::Active => self.in_use(record, playbook, used, &rules, now).err(),
            };
            views.push(PlaybookView {
                grant: record.administration.sealed.document().id,
                digest,
                name: playbook.name.clone(),
                environment: playbook.environment.clone(),
                action: playbook.action.clone(),
                agents: playbook.agents.clone(),
                state: record.state,
                why_out,
                not_after: playbook.not_after,
                uses: used,
                max_uses: playbook.max_uses,
                overdue_reviews: record.overdue,
            });
        }
        Ok(views)
    }

    /// A person takes a playbook out of use, for good. Any approver or operator may, as with a stop.
    pub async fn suspend_playbook(
        &self,
        person: &PersonSlug,
        grant: GrantId,
        reason: String,
    ) -> Result<PlaybookState, Refusal> {
        self.may_stop(person, &reason)?;
        let record = self.administration_of(grant).await?;
        if record.sealed.playbook().is_none() {
            return Err(Refusal::new(Code::BadRequest, format!("`{grant}` is no playbook")));
        }
        let now = self.gate.now();
        let event = Event::new(EventKind::PlaybookSuspended, Actor::Person(person.clone()), now)
            .grant(grant)
            .fact("digest", record.sealed.digest().to_string())
            .text(SaltedText::new("reason", reason));
        match self.store.suspend_playbook(record.sealed.digest(), event).await {
            Ok(()) => {
                self.gate.store_recorded(now);
                self.keep_head().await;
                Ok(PlaybookState::Suspended)
            }
            Err(ChangeRefused::Store(error)) => Err(self.gate.store_failed(&error)),
            Err(ChangeRefused::Moved) => Err(Refusal::new(Code::Conflict, "it is suspended already")),
            Err(ChangeRefused::Missing) => Err(Refusal::new(
                Code::GrantNotOpen,
                format!("`{grant}` is not in force; deny it instead (`phasebroker approvals deny`)"),
            )),
        }
    }

    /// Whether a playbook covers anything now, apart from what an action asks for; otherwise why not.
    pub(super) fn in_use(
        &self,
        record: &PlaybookRecord,
        playbook: &Playbook,
        used: u64,
        rules: &Rules,
        now: Timestamp,
    ) -> Result<(), String> {
        let document = record.administration.sealed.document();
        if record.state != PlaybookState::Active {
            return Err("it is suspended".into());
        }
        if document.epoch != self.gate.epoch() || document.issuer != self.settings.issuer {
            return Err("it was signed for another epoch or broker; sign a new one".into());
        }
        if playbook.not_after.has_passed(now) {
            return Err(format!("it ended at {}", playbook.not_after));
        }
        if rules.catalog.template(&playbook.action, &playbook.environment) != Some(playbook.template) {
            return Err("the catalog entry is not the one that people signed; sign a new one".into());
        }
        if record.overdue > 0 {
            return Err(format!("{} reviews of it are overdue", record.overdue));
        }
        match used < u64::from(playbook.max_uses) {
            true => Ok(()),
            false => Err(format!("all its {} uses are used up", playbook.max_uses)),
        }
    }

    /// The draft, checked whole, and every combination of parameters it covers.
    fn checked(
        &self,
        person: &PersonSlug,
        draft: PlaybookDraft,
        rules: &Rules,
        now: Timestamp,
    ) -> Result<(Playbook, Vec<BTreeMap<String, serde_json::Value>>), Refusal> {
        let entry = rules.catalog.actions().get(&draft.action);
        let entry = entry.ok_or_else(|| invalid(format!("the catalog has no `{}`", draft.action)))?;
        let template = rules.catalog.template(&draft.action, &draft.environment).ok_or_else(|| {
            invalid(format!("`{}` is not allowed in `{}`", draft.action, draft.environment))
        })?;
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
        let playbook = Playbook {
            name: draft.name,
            environment: draft.environment,
            action: draft.action,
            template,
            agents: draft.agents,
            parameters: draft.parameters,
            work_seconds: draft.work_seconds,
            budget: draft.budget,
            max_uses: draft.max_uses,
            trigger: draft.trigger,
            not_after: draft.not_after,
            review: draft.review,
        };
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
    fn single_grant_rule(
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

    /// What counts of one key.
    pub(super) async fn used(&self, counted: Counted) -> Result<u64, Refusal> {
        let used = self.store.used(counted).await.map_err(|e| self.gate.store_failed(&e))?;
        Ok(used)
    }
}

/// What all uses of a playbook are counted under.
pub(super) fn uses_key(playbook: Digest) -> String {
    format!("playbook:{playbook}:uses")
}

/// What the uses within its window are counted under.
pub(super) fn window_key(playbook: Digest) -> String {
    format!("playbook:{playbook}:window")
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

fn is_current(record: &PlaybookRecord, name: &Name, now: Timestamp) -> bool {
    record.state == PlaybookState::Active
        && record
            .administration
            .sealed
            .playbook()
            .is_some_and(|playbook| playbook.name == *name && !playbook.not_after.has_passed(now))
}

fn invalid(problem: String) -> Refusal {
    Refusal::new(Code::ProposalInvalid, problem)
}
