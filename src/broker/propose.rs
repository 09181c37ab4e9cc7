//! A proposal becomes a sealed grant: parameters checked, plan compiled, policy asked, document sealed. It waits for
//! signatures, or is a suggestion, or lies inside a playbook that people signed before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Broker;
use super::consider::{Considered, Matter};
use super::freeze::keys_of_action;
use super::ports::Sealing;
use super::refusal::{Code, Refusal};
use super::rules::Rules;
use super::signers::signers;
use crate::catalog;
use crate::domain::approval::Signable;
use crate::domain::decision::{Decision, Terms, Tier, Verdict};
use crate::domain::digest::{Digest, encode};
use crate::domain::grant::{Circumstances, GrantState, Inverse, SealedGrant, Standing, Who};
use crate::domain::id::{DecisionId, GrantId, LeaseId};
use crate::domain::phase::{Phase, RunPhase};
use crate::domain::principal::{Actor, AgentSlug, Environment, GroupSlug, PersonSlug};
use crate::domain::proposal::{Evidence, Proposal};
use crate::domain::rule::Rule;
use crate::domain::run::Run;
use crate::domain::time::Timestamp;
use crate::domain::token::TokenClaims;

/// A proposal that was sealed.
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
    /// `pending`; `suggested` (a person may carry it out, nothing can be claimed); `approved` (inside a playbook).
    #[schema(value_type = String)]
    pub state: GrantState,
    /// Signatures count until here.
    #[schema(value_type = i64)]
    pub approve_by: Timestamp,
    /// It can be claimed until here, when it is approved already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub claim_until: Option<Timestamp>,
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
    /// The grant of the way back, made with it; the same people sign both. Never inside a playbook, nor of a suggestion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub inverse: Option<GrantId>,
    /// What people will be told beside the document: that the policy may soon not fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What the answer of the policy makes of a plan.
pub(super) struct Standpoint {
    pub(super) terms: Terms,
    pub(super) standing: Standing,
    pub(super) reasons: Vec<String>,
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
        let stops = self.live.stops_so_far();
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
        let who = who(&run, login, &proposal);
        self.check_asked(login, &run.environment, &proposal, &who.claiming_agent, &rules)?;
        let agents = [&who.proposing_agent, &who.claiming_agent];
        let freezes = keys_of_action(agents, &proposal.action, &run.environment);
        self.not_frozen(&freezes)?;
        let ids = catalog::Ids {
            grant: GrantId::generate(now),
            lease: LeaseId::generate(now),
            claiming_agent: who.claiming_agent.clone(),
        };
        let plan = catalog::compile(&proposal, &ids, &rules.catalog)
            .map_err(|e| Refusal::new(Code::ProposalInvalid, e.to_string()))?;
        // Nobody is asked to sign what this broker could never mint.
        self.provider(plan.credential().provider())?;
        let (action, environment) = (plan.action(), &run.environment);
        self.conditions_hold(&action.preconditions, action, environment, &login.client_id, &rules).await?;
        let matter = Matter { rules: &rules, plan: &plan, environment, who: &who, voucher: false, now };
        let considered = self.consider(matter).await?;
        let decision = DecisionId::generate(now);
        let entry = considered.entry(decision, ids.grant, "propose", now)?;
        let standpoint = match self.standpoint(matter, &considered, &proposal, &run).await {
            Ok(standpoint) => standpoint,
            Err(refusal) => {
                // What was refused is asked again by a replay, too. SECURITY: within limits, as every refusal.
                let caller = Actor::Agent(login.client_id.clone());
                if self.refused_callers.take(&caller.to_string(), now) {
                    let kept = self.store.keep_decision(entry, Vec::new()).await;
                    kept.map_err(|e| self.gate.store_failed(&e))?;
                }
                return Err(refusal);
            }
        };
        let Standpoint { mut terms, mut standing, reasons } = standpoint;
        if standing.suggested {
            self.allowances.suggestion(&login.client_id, now)?;
        }
        let evidence = Evidence::new(proposal.story);
        let around = Circumstances {
            id: ids.grant,
            lease: ids.lease,
            epoch: self.gate.epoch(),
            issuer: self.settings.issuer.clone(),
            environment: environment.clone(),
            who: who.clone(),
            decision,
            reasons,
            policy: rules.policy.digest(),
            catalog: rules.catalog.digest(),
            directory: rules.directory.digest(),
            guardrails: rules.guardrails.digest(),
            standing: Standing::default(),
            evidence: evidence.digest(),
            now,
        };
        let mut decisions = vec![entry];
        let back = match proposal.inverse_claim_key {
            Some(key) if !standing.suggested && standing.playbook.is_none() => {
                let (inverse, sealing, decision) =
                    self.seal_inverse(matter, ids.grant, key, &mut terms, around.clone()).await?;
                standing.inverse = Some(inverse);
                decisions.push(decision);
                Some(sealing)
            }
            _ => None,
        };
        if terms.rule.separate_authors {
            standing.authors = self.authors(&rules);
        }
        let sealed = SealedGrant::seal(&plan, &terms, Circumstances { standing, ..around })
            .map_err(|e| Refusal::new(Code::ProposalInvalid, format!("the grant cannot be sealed: {e}")))?;
        let warnings = self.packed_warning(&sealed.grant().action.action_type);
        let proposed = Proposed { warnings, ..proposed(&sealed, &rules)? };
        let (state, claim_until) = (proposed.state, proposed.claim_until);
        let sealing = Sealing { sealed, evidence, state, claim_until, freezes };
        let sealings: Vec<Sealing> = [sealing].into_iter().chain(back).collect();
        self.seal(sealings, decisions, stops, now).await?;
        if proposed.state == GrantState::Pending {
            self.tell_people("approval_needed", proposed.grant);
        }
        Ok(proposed)
    }

    /// What the answer makes of the plan; `Err` is the refusal that the answer is.
    async fn standpoint(
        &self,
        matter: Matter<'_>,
        considered: &Considered,
        proposal: &Proposal,
        run: &Run,
    ) -> Result<Standpoint, Refusal> {
        let mut reasons = considered.decision.reasons.clone();
        if proposal.break_glass {
            return self.ask_under_break_glass(matter, run, reasons);
        }
        match &considered.decision.verdict {
            Verdict::Deny => Err(denied(&considered.decision)),
            Verdict::SuggestOnly => Ok(Standpoint {
                terms: suggestion(matter.plan.credential().work_seconds()),
                standing: Standing { suggested: true, ..Standing::default() },
                reasons,
            }),
            Verdict::NeedsApproval(terms) => {
                Ok(Standpoint { terms: terms.clone(), standing: Standing::default(), reasons })
            }
            Verdict::Autonomous(terms) => {
                let standing = match self.covering(matter, terms, proposal.alert.as_deref()).await? {
                    Ok(covering) => Standing {
                        playbook: Some(covering.playbook.sealed().digest()),
                        alert: covering.alert,
                        ..Standing::default()
                    },
                    // INVARIANT: unknown-is-no. Outside of every playbook, people sign.
                    Err(why) => {
                        reasons.extend(why.iter().map(|text| super::record::ascii(text)));
                        Standing::default()
                    }
                };
                Ok(Standpoint { terms: terms.clone(), standing, reasons })
            }
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
        if proposal.inverse_claim_key == Some(proposal.claim_key) {
            return Err(Refusal::new(
                Code::KeyReused,
                "`inverse_claim_key` is `claim_key`; make a fresh key for each claim",
            ));
        }
        if [Some(proposal.claim_key), proposal.inverse_claim_key].contains(&Some(login.cnf.jkt)) {
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
        Ok(())
    }
}

/// The refusal that a denial is.
pub(super) fn denied(decision: &Decision) -> Refusal {
    Refusal::new(Code::PolicyDenied, format!("policy says no: {}", decision.reasons.join(", ")))
}

/// Terms of what nobody signs: it is kept for a day and never claimed.
fn suggestion(work_seconds: u32) -> Terms {
    Terms { rule: Rule::nobody(), approve_seconds: 86_400, claim_seconds: 0, work_seconds }
}

fn who(run: &Run, login: &TokenClaims, proposal: &Proposal) -> Who {
    Who {
        run: run.id,
        proposing_agent: login.client_id.clone(),
        claiming_agent: proposal.claiming_agent.clone().unwrap_or_else(|| login.client_id.clone()),
        claim_key: proposal.claim_key,
        requester: run.requester.clone(),
        asked_in_person: run.asked_in_person,
        attestation: run.attestation,
    }
}

/// What the agent is told; an error when too few people could ever sign.
fn proposed(sealed: &SealedGrant, rules: &Rules) -> Result<Proposed, Refusal> {
    let grant = sealed.grant();
    let (state, claim_until, eligible) = match grant.decision.tier {
        Tier::SuggestOnly | Tier::Deny => (GrantState::Suggested, None, BTreeMap::new()),
        Tier::Autonomous => {
            let until = grant.time.sealed_at.plus(i64::from(grant.time.claim_seconds));
            let until = until.min(grant.time.claim_by);
            let counts = grant.decision.alert.as_ref().map_or(until, |alert| alert.counts_until);
            (GrantState::Approved, Some(until.min(counts)), BTreeMap::new())
        }
        Tier::NeedsApproval => (GrantState::Pending, None, signers(&Signable::from(sealed), rules)?),
    };
    Ok(Proposed {
        grant: grant.id,
        digest: sealed.digest(),
        short_code: sealed.digest().short_code(),
        document: encode(sealed.bytes()),
        state,
        approve_by: grant.time.approve_by,
        claim_until,
        rule: grant.decision.rule.clone(),
        rule_text: match grant.decision.tier {
            Tier::NeedsApproval => grant.decision.rule.to_string(),
            Tier::Autonomous => "nobody: it lies inside a playbook that people signed".into(),
            Tier::SuggestOnly | Tier::Deny => "nobody: it is a suggestion for a person".into(),
        },
        work_seconds: grant.time.work_seconds,
        reasons: grant.decision.reasons.clone(),
        eligible,
        inverse: grant.time.inverse.map(|inverse: Inverse| inverse.grant),
        warnings: Vec::new(),
    })
}
