//! A proposal becomes a sealed grant: parameters checked, plan compiled, policy asked, document sealed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Broker;
use super::ports::{LeaseFilter, Notice, OpenCount, SealRefused};
use super::refusal::{Code, Refusal};
use super::reserved::Aim;
use super::rules::Rules;
use crate::catalog;
use crate::domain::approval::eligible;
use crate::domain::decision::{Decision, Terms, Verdict};
use crate::domain::digest::{Digest, encode};
use crate::domain::event::{Event, EventKind};
use crate::domain::grant::{Circumstances, Grant, GrantState, SealedGrant, Who};
use crate::domain::id::{DecisionId, GrantId, LeaseId, RunId};
use crate::domain::phase::{Phase, RunPhase};
use crate::domain::plan::Plan;
use crate::domain::principal::{Actor, AgentSlug, Environment, GroupSlug, PersonSlug};
use crate::domain::proposal::{Evidence, Proposal};
use crate::domain::rule::Rule;
use crate::domain::time::Timestamp;
use crate::domain::token::TokenClaims;
use crate::policy::{Around, Facts, History};

/// A proposal that was sealed and waits for signatures.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Proposed {
    /// The grant's id.
    #[schema(value_type = String)]
    pub grant: GrantId,
    /// SHA-256 of the document.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// The code people compare.
    pub short_code: String,
    /// The exact bytes, base64url.
    pub document: String,
    /// `pending`.
    #[schema(value_type = String)]
    pub state: GrantState,
    /// Signatures count until here.
    #[schema(value_type = i64)]
    pub approve_by: Timestamp,
    /// Who must sign.
    #[schema(value_type = Object)]
    pub rule: Rule,
    /// The same in words.
    pub rule_text: String,
    /// Seconds of work once claimed.
    pub work_seconds: u32,
    /// The policies that decided.
    pub reasons: Vec<String>,
    /// Who could sign, by group.
    #[schema(value_type = Object)]
    pub eligible: BTreeMap<GroupSlug, Vec<PersonSlug>>,
}

impl Broker {
    /// Seals what an agent asks for while deciding. `login` are the claims of its decide token.
    pub async fn propose(&self, login: &TokenClaims, proposal: Proposal) -> Result<Proposed, Refusal> {
        let outcome = self.try_propose(login, proposal).await;
        if let Err(refusal) = &outcome {
            self.record_refusal(Actor::Agent(login.client_id.clone()), Some(login.txn), None, refusal).await;
        }
        outcome
    }

    async fn try_propose(&self, login: &TokenClaims, proposal: Proposal) -> Result<Proposed, Refusal> {
        let now = self.gate.may_issue()?;
        self.usable_lease(login, Phase::Decide, now)?;
        let run = self.run_of(login.txn, Some(&login.client_id)).await?;
        if run.phase != RunPhase::Decide {
            return Err(Refusal::new(
                Code::PhaseOrder,
                format!("a proposal is made while deciding; the run is in `{}`", run.phase),
            ));
        }
        self.room_for_one_more(&login.client_id).await?;
        let rules = self.rules();
        let claiming_agent = proposal.claiming_agent.clone().unwrap_or_else(|| login.client_id.clone());
        self.check_asked(login, &run.environment, &proposal, &claiming_agent, &rules)?;
        let ids = catalog::Ids {
            grant: GrantId::generate(now),
            lease: LeaseId::generate(now),
            claiming_agent: claiming_agent.clone(),
        };
        let plan = catalog::compile(&proposal, &ids, &rules.catalog)
            .map_err(|e| Refusal::new(Code::ProposalInvalid, e.to_string()))?;
        // Nobody is asked to sign what this broker could never mint.
        self.provider(plan.credential().provider())?;
        let who = Who {
            run: run.id,
            proposing_agent: login.client_id.clone(),
            claiming_agent,
            claim_key: proposal.claim_key,
            requester: run.requester.clone(),
            asked_in_person: run.asked_in_person,
            attestation: run.attestation,
        };
        let decision = decide(&rules, &plan, &run.environment, &who, now);
        let terms = self.terms(&decision)?;
        let evidence = Evidence::new(proposal.story);
        let around = Circumstances {
            id: ids.grant,
            lease: ids.lease,
            epoch: self.gate.epoch(),
            issuer: self.settings.issuer.clone(),
            environment: run.environment.clone(),
            who,
            decision: DecisionId::generate(now),
            reasons: decision.reasons.clone(),
            policy: rules.policy.digest(),
            catalog: rules.catalog.digest(),
            directory: rules.directory.digest(),
            guardrails: rules.guardrails.digest(),
            standing: crate::domain::grant::Standing::default(),
            evidence: evidence.digest(),
            now,
        };
        let sealed = SealedGrant::seal(&plan, &terms, around)
            .map_err(|e| Refusal::new(Code::ProposalInvalid, format!("the grant cannot be sealed: {e}")))?;
        let eligible = signers(&sealed, &rules)?;
        let proposed = proposed(&sealed, eligible);
        let event = sealed_event(&sealed, run.id, now);
        self.claim_key_is_fresh(sealed.grant()).await?;
        let key = sealed.grant().who.claim_key;
        if !self.reserved.reserve(sealed.grant(), false) {
            return Err(Refusal::new(
                Code::KeyReused,
                "another grant names this `claim_key`; make a fresh key for each claim",
            ));
        }
        if let Err(refused) = {
            let sealing =
                super::ports::Sealing { sealed, evidence, state: GrantState::Pending, claim_until: None };
            self.store.seal(vec![sealing], self.open_limits(), None, vec![event]).await
        } {
            self.reserved.free(&key);
            return Err(self.seal_refused(refused));
        }
        self.reserved.sealed(&key);
        self.gate.store_recorded(now);
        self.notifier.notify(Notice {
            kind: "approval_needed",
            id: proposed.grant.to_string(),
            link: format!("{}/v1/grants/{}", self.settings.issuer, proposed.grant),
        });
        Ok(proposed)
    }

    /// The terms people may approve under, or the refusal that the decision is.
    pub(super) fn terms(&self, decision: &Decision) -> Result<Terms, Refusal> {
        let reasons = decision.reasons.join(", ");
        match &decision.verdict {
            Verdict::NeedsApproval(terms) => Ok(terms.clone()),
            Verdict::Deny => Err(Refusal::new(Code::PolicyDenied, format!("policy says no: {reasons}"))),
            _ => Err(Refusal::new(
                Code::NotEnabled,
                format!(
                    "policy answers `{}` ({reasons}), which this broker does not enable",
                    decision.tier().name()
                ),
            )),
        }
    }

    /// A key that logs in, or that proved another phase, could never claim: said now, not after people signed.
    async fn claim_key_is_fresh(&self, grant: &Grant) -> Result<(), Refusal> {
        let key = grant.who.claim_key;
        self.key_is_free(&key, Aim::Other).await?;
        let used = LeaseFilter { run: Some(grant.who.run), ..LeaseFilter::default() };
        let used = self.store.leases(used).await.map_err(|e| self.gate.store_failed(&e))?;
        let rules = self.rules();
        let agent = rules.directory.agent(&grant.who.claiming_agent);
        let logs_in = agent.is_some_and(|agent| agent.keys.iter().any(|known| known.thumbprint() == key));
        match logs_in || used.iter().any(|lease| lease.key == key) {
            true => Err(Refusal::new(
                Code::KeyReused,
                "`claim_key` is a login key, or proved another phase of this run; make a fresh key for the claim",
            )),
            false => Ok(()),
        }
    }

    async fn room_for_one_more(&self, agent: &AgentSlug) -> Result<(), Refusal> {
        let open = self.store.open_count(agent).await.map_err(|e| self.gate.store_failed(&e))?;
        let limits = self.open_limits();
        match open.own >= limits.own || open.all >= limits.all {
            true => Err(self.seal_refused(SealRefused::TooManyOpen(open))),
            false => Ok(()),
        }
    }

    /// Looked at early, to spare work; what counts is the count inside the transaction that seals.
    fn open_limits(&self) -> OpenCount {
        let most = |limit: usize| u64::try_from(limit).unwrap_or(u64::MAX);
        OpenCount { own: most(self.settings.open_per_agent), all: most(self.settings.open_in_all) }
    }

    fn seal_refused(&self, refused: SealRefused) -> Refusal {
        let text = refused.to_string();
        match refused {
            SealRefused::RunMoved(_) => Refusal::new(Code::PhaseOrder, format!("{text}; open another run")),
            SealRefused::Missing => Refusal::new(Code::NotFound, text),
            SealRefused::TooManyOpen(_) => Refusal::new(
                Code::TooManyOpen,
                format!("{text}; cancel one, or wait until one is signed or lapses"),
            )
            .retry_after(30),
            SealRefused::KeyReused => Refusal::new(Code::KeyReused, text),
            SealRefused::Store(error) => self.gate.store_failed(&error),
        }
    }

    fn check_asked(
        &self,
        login: &TokenClaims,
        environment: &Environment,
        proposal: &Proposal,
        claiming_agent: &AgentSlug,
        rules: &Rules,
    ) -> Result<(), Refusal> {
        let invalid = |text: String| Err(Refusal::new(Code::ProposalInvalid, text));
        if proposal.environment != *environment {
            return invalid(format!(
                "the run works in `{environment}`; it cannot propose for `{}`",
                proposal.environment
            ));
        }
        if rules.directory.agent(claiming_agent).is_none() {
            return invalid(format!("`claiming_agent`: `{claiming_agent}` is not an agent of the directory"));
        }
        if proposal.claim_key == login.cnf.jkt {
            return Err(Refusal::new(
                Code::KeyReused,
                "`claim_key` is the key of this phase; make a fresh key for the claim",
            ));
        }
        if let Some(name) = proposal.story.too_long() {
            return invalid(format!(
                "`story.{name}` is longer than {} bytes",
                crate::domain::proposal::MAX_TEXT_BYTES
            ));
        }
        if !proposal.preconditions.is_empty() || proposal.plan_digest.is_some() {
            return Err(Refusal::new(
                Code::NotEnabled,
                "`preconditions` and `plan_digest` are not checked by this broker yet, so it does not accept them",
            ));
        }
        Ok(())
    }
}

/// Asks the policy about a plan.
pub(super) fn decide(
    rules: &Rules,
    plan: &Plan,
    environment: &Environment,
    who: &Who,
    now: Timestamp,
) -> Decision {
    let agent = rules.directory.agent(&who.proposing_agent);
    let groups = rules.directory.document().groups.keys();
    let around = Around {
        agent_groups: agent.map(|agent| agent.groups.clone()).unwrap_or_default(),
        requester_groups: groups
            .filter(|group| rules.directory.is_member(&who.requester, group))
            .cloned()
            .collect(),
        tainted: true,
        history: History::default(),
        budgets: BTreeMap::new(),
        freezes: BTreeSet::new(),
        voucher: false,
        now,
    };
    rules.policy.decide(&Facts::of(plan, environment, who, around))
}

/// Everyone who could sign, by group; an error when they are too few for the rule to be met at all.
fn signers(sealed: &SealedGrant, rules: &Rules) -> Result<BTreeMap<GroupSlug, Vec<PersonSlug>>, Refusal> {
    let rule = &sealed.grant().decision.rule;
    let mut by_group: BTreeMap<GroupSlug, Vec<PersonSlug>> = BTreeMap::new();
    let mut by_person: BTreeMap<PersonSlug, BTreeSet<GroupSlug>> = BTreeMap::new();
    for group in rule.groups.keys() {
        for person in rules.directory.members(group) {
            let has_key = |p: &crate::domain::directory::Person| {
                p.keys.iter().any(|k| rule.custody.contains(&k.custody))
            };
            if eligible(person, &sealed.into(), &rules.directory).is_ok()
                && rules.directory.person(person).is_some_and(has_key)
            {
                by_group.entry(group.clone()).or_default().push(person.clone());
                by_person.entry(person.clone()).or_default().insert(group.clone());
            }
        }
    }
    match rule.outstanding(&by_person).is_empty() {
        true => Ok(by_group),
        false => Err(Refusal::new(
            Code::PolicyDenied,
            format!(
                "nobody could ever approve this: it needs {rule}, and too few people other than its requester and the agent's owner qualify"
            ),
        )),
    }
}

fn proposed(sealed: &SealedGrant, eligible: BTreeMap<GroupSlug, Vec<PersonSlug>>) -> Proposed {
    let grant = sealed.grant();
    Proposed {
        grant: grant.id,
        digest: sealed.digest(),
        short_code: sealed.digest().short_code(),
        document: encode(sealed.bytes()),
        state: GrantState::Pending,
        approve_by: grant.time.approve_by,
        rule: grant.decision.rule.clone(),
        rule_text: grant.decision.rule.to_string(),
        work_seconds: grant.time.work_seconds,
        reasons: grant.decision.reasons.clone(),
        eligible,
    }
}

fn sealed_event(sealed: &SealedGrant, run: RunId, now: Timestamp) -> Event {
    let grant = sealed.grant();
    Event::new(EventKind::GrantSealed, Actor::Agent(grant.who.proposing_agent.clone()), now)
        .run(run)
        .grant(grant.id)
        .fact("digest", sealed.digest().to_string())
        .fact("action", grant.action.action_type.as_str())
        .fact("environment", grant.environment.as_str())
        .fact("class", grant.action.class.name())
        .fact("claiming_agent", grant.who.claiming_agent.as_str())
        .fact("rule", grant.decision.rule.to_string())
        .fact("reasons", grant.decision.reasons.clone())
        .fact("policy", grant.decision.policy.to_string())
        .fact("catalog", grant.decision.catalog.to_string())
        .fact("directory", grant.decision.directory.to_string())
        .fact("evidence", grant.evidence.to_string())
}
