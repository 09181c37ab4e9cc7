//! The claim: an approved grant becomes one credential, once. The order of `design.md` section 5, top to bottom.

use std::sync::Arc;

use super::Broker;
use super::grants::active;
use super::outcome::Recorded;
use super::ports::{CredentialSecret, GrantRecord, Opening};
use super::propose::decide;
use super::recall::UnderWay;
use super::record::{ascii, intent, intent_event, mint_lost};
use super::refusal::{Code, Refusal};
use super::rules::Rules;
use crate::catalog;
use crate::domain::approval::{Approval, ApprovedGrant};
use crate::domain::authority::Authority;
use crate::domain::event::{Event, EventKind, SaltedText};
use crate::domain::grant::GrantState;
use crate::domain::id::{GrantId, LeaseId, RunId};
use crate::domain::key::Thumbprint;
use crate::domain::lease::{EndReason, OpenedLease};
use crate::domain::phase::{Phase, RunPhase, moves};
use crate::domain::plan::{Credential, ProviderKind, Revocability};
use crate::domain::principal::{Actor, AgentSlug};
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;

/// An execute credential, on its way to its agent. Held for at most a minute for a lost reply, then wiped.
#[derive(Debug)]
pub struct Claimed {
    /// The lease.
    pub lease: LeaseId,
    /// Its run.
    pub run: RunId,
    /// Useless from here on.
    pub not_after: Timestamp,
    /// The provider's own floor.
    pub hard_end: Timestamp,
    /// Good for recall, complete and cancel of this lease only.
    pub execute_token: Secret,
    /// Which provider.
    pub provider: ProviderKind,
    /// The credential.
    pub secret: CredentialSecret,
    /// The request it was minted from.
    pub credential: Credential,
    /// How soon it can be ended early.
    pub revocability: Revocability,
    /// A lost reply can be asked for again until here.
    pub recall_until: Timestamp,
}

impl Broker {
    /// Claims a grant: `agent` proved its login and the key `key`, and presents `tokens`.
    pub async fn claim(
        self: &Arc<Self>,
        id: GrantId,
        agent: &AgentSlug,
        key: Thumbprint,
        tokens: Vec<String>,
    ) -> Result<Arc<Claimed>, Refusal> {
        let (run, outcome) = match self.record_of(id).await {
            Ok(record) => {
                (Some(record.sealed.grant().who.run), self.try_claim(record, agent, key, tokens).await)
            }
            Err(refusal) => (None, Err(refusal)),
        };
        if let Err(refusal) = &outcome {
            self.record_refusal(Actor::Agent(agent.clone()), run, Some(id), refusal).await;
        }
        outcome
    }

    async fn try_claim(
        self: &Arc<Self>,
        record: GrantRecord,
        agent: &AgentSlug,
        key: Thumbprint,
        tokens: Vec<String>,
    ) -> Result<Arc<Claimed>, Refusal> {
        let now = self.gate.may_issue()?;
        // INVARIANT: re-decided. One reading of the rules decides, and the opening fails when others are in force by then.
        let rules = self.rules();
        self.claimable(&record, now)?;
        let presented = self.presented(&record, tokens, &rules)?;
        let grant = record.sealed.grant();
        // INVARIANT: one-phase. The key named in the signed bytes, and no other, claims.
        if grant.who.claiming_agent != *agent || grant.who.claim_key != key {
            return Err(Refusal::new(Code::WrongClaimant, "the grant names another claiming agent or key"));
        }
        let run = self.run_of(grant.who.run, None).await?;
        moves(run.phase, RunPhase::Execute).map_err(|e| Refusal::new(Code::PhaseOrder, e.to_string()))?;
        if !grant.action.preconditions.is_empty() {
            return Err(Refusal::new(
                Code::PreconditionFailed,
                "preconditions cannot be checked by this broker",
            ));
        }
        let (approved, work_seconds) = self.redecide(&record, presented, &rules, now).await?;
        let provider = self.provider(grant.credential.provider())?.clone();
        let prepared = provider
            .prepare(grant.time.lease, &grant.credential, work_seconds, now)
            .await
            .map_err(|e| Refusal::new(Code::ProviderNotReady, e.to_string()).retry_after(5))?;
        let (id, spends, execute) = (grant.time.lease, Some(grant.id), Phase::Execute);
        let lease = intent(id, spends, &run, agent, execute, &grant.credential, &prepared, key, now);
        let actor = Actor::Agent(agent.clone());
        let left = self.leases_of_run(run.id).await?;
        let entered = Event::new(EventKind::PhaseEntered, actor.clone(), now).run(run.id);
        let jtis: Vec<String> = approved.approvals().iter().map(|a| a.claims.jti.to_string()).collect();
        let intent = intent_event(&lease, &actor, now)
            .grant(grant.id)
            .fact("grant_digest", record.sealed.digest().to_string())
            .fact("approvals", jtis)
            .fact("epoch", grant.epoch);
        let opening = Opening {
            prepared,
            run_from: run.phase,
            run_to: RunPhase::Execute,
            spends: Some((grant.id, record.revision)),
            ends: self.end_changes(&left, EndReason::PhaseLeft, &actor, now)?,
            reservations: Vec::new(),
            freezes: Vec::new(),
            after: None,
            playbook: None,
            review: None,
            observation: None,
            digests: rules.digests(),
            epoch: self.gate.epoch(),
            now,
            events: vec![entered.fact("from", run.phase.name()).fact("to", "execute"), intent],
            lease,
        };
        let under_way = UnderWay::begin(self, grant.time.lease);
        // INVARIANT: one-use. Consume and INTENT are one transaction; whoever loses it gets nothing.
        let opened = self.store.open_lease(opening).await.map_err(|e| self.open_refused(e))?;
        self.gate.committed(opened.head);
        self.metrics.approval_to_claim(now.since(approved_at(&record)));
        let (broker, authority) = (self.clone(), Authority::SignedGrant(Box::new(approved)));
        // From here to the record of the outcome nothing may be abandoned, even when the caller hangs up.
        let rest = tokio::spawn(async move {
            broker.after_ends(left, EndReason::PhaseLeft, now).await;
            let head = opened.head;
            let answer = broker.mint_execute(opened.value, authority, head, now).await;
            drop(under_way);
            answer
        });
        rest.await.map_err(|_| mint_lost())?
    }

    async fn mint_execute(
        self: Arc<Self>,
        opened: OpenedLease,
        authority: Authority,
        head: super::ports::Head,
        now: Timestamp,
    ) -> Result<Arc<Claimed>, Refusal> {
        let lease = opened.lease();
        if let Err(error) = self.heads.advance(head).await {
            // Nothing was asked of the provider: certainly nothing minted.
            let event = Event::new(EventKind::LeaseRefused, Actor::Broker, self.gate.now())
                .run(lease.run)
                .lease(lease.id);
            let event =
                lease.grant.iter().fold(event.fact("code", "head_not_kept"), |e, grant| e.grant(*grant));
            self.refused(lease, event, now).await?;
            let failed = super::ports::StoreError::Unwritable(error.to_string());
            return Err(self.gate.store_failed(&failed));
        }
        let provider = self.provider(lease.provider)?.clone();
        let outcome = provider.mint_execute(&opened, &authority).await;
        let minted = match self.record_outcome(lease, outcome, now).await? {
            Recorded::Minted(minted) => minted,
            Recorded::Refused(refusal) => return Err(refusal),
        };
        self.metrics.issued(lease.phase, lease.provider);
        let grant = authority.sealed().grant();
        let claimed = Arc::new(Claimed {
            lease: lease.id,
            run: lease.run,
            not_after: lease.not_after,
            hard_end: lease.hard_end,
            execute_token: self.broker_token(lease, grant.who.requester.to_string(), now)?,
            provider: lease.provider,
            secret: minted.secret,
            credential: grant.credential.clone(),
            revocability: lease.revocability,
            recall_until: now.plus(i64::from(self.settings.reply_seconds)),
        });
        self.replies.hold(lease.key, claimed.clone());
        Ok(claimed)
    }

    /// State, epoch and clocks; read again inside the consuming transaction.
    fn claimable(&self, record: &GrantRecord, now: Timestamp) -> Result<(), Refusal> {
        self.same_world(record)?;
        self.not_stopped(record.sealed.grant())?;
        match record.state {
            GrantState::Approved => {}
            GrantState::Claimed => {
                return Err(Refusal::new(Code::GrantSpent, "the grant has been used; propose again"));
            }
            GrantState::Lapsed => {
                return Err(Refusal::new(Code::GrantExpired, "the grant's time ran out; propose again"));
            }
            state => {
                return Err(Refusal::new(
                    Code::GrantNotOpen,
                    format!("the grant is `{state}`, not approved"),
                ));
            }
        }
        match record.claim_until {
            Some(until) if !until.has_passed(now) => Ok(()),
            _ => Err(Refusal::new(Code::GrantExpired, "the time to claim ran out; propose again")),
        }
    }

    /// Verifies every presented token; each must be one the broker received, still counting.
    fn presented(
        &self,
        record: &GrantRecord,
        tokens: Vec<String>,
        rules: &Rules,
    ) -> Result<Vec<Approval>, Refusal> {
        let counting = active(&record.approvals);
        if tokens.is_empty() || tokens.len() > 64 {
            return Err(Refusal::new(
                Code::ApprovalsMissing,
                "present the approval tokens of this grant (1 to 64)",
            ));
        }
        let mut presented: Vec<Approval> = Vec::new();
        for token in &tokens {
            let received = super::approve::received(&counting, token, record, &rules.directory);
            let Some(received) = received else {
                let why = Approval::verify(token, &record.sealed, &rules.directory, self.gate.now());
                return Err(match why {
                    Err(error) => super::approve::refusal(error),
                    Ok(_) => Refusal::new(
                        Code::ApprovalInvalid,
                        "this approval was withdrawn, or never reached the broker",
                    ),
                });
            };
            if !presented.iter().any(|old| old.claims.jti == received.claims.jti) {
                presented.push(received.clone());
            }
        }
        Ok(presented)
    }

    /// INVARIANT: re-decided. The plan recompiles to the same bytes, and both rules are satisfied.
    async fn redecide(
        &self,
        record: &GrantRecord,
        presented: Vec<Approval>,
        rules: &Rules,
        now: Timestamp,
    ) -> Result<(ApprovedGrant, u32), Refusal> {
        let grant = record.sealed.grant();
        let changed = |what: String| {
            Refusal::new(
                Code::PlanChanged,
                format!("the plan compiles differently today ({what}); propose again"),
            )
        };
        let plan = catalog::recompile(grant, &rules.catalog).map_err(|e| changed(e.to_string()))?;
        if let Some(member) = catalog::difference(&plan, &grant.action, &grant.credential) {
            return Err(changed(member));
        }
        let terms = self.terms(&decide(rules, &plan, &grant.environment, &grant.who, now))?;
        let sealed_under = self.directory_at(grant.decision.directory).await?;
        let directories = [&*sealed_under, &rules.directory];
        let approved = ApprovedGrant::check(record.sealed.clone(), presented, &[&terms.rule], &directories)
            .map_err(|missing| {
            let missing: Vec<String> = missing.0.iter().map(|(group, n)| format!("{n} of {group}")).collect();
            Refusal::new(
                Code::ApprovalsMissing,
                format!("the approvals do not satisfy the rule; missing: {}", missing.join(", ")),
            )
        })?;
        Ok((approved, grant.time.work_seconds.min(terms.work_seconds)))
    }

    /// Records that a known caller was refused; a store that cannot record does not hide the refusal. False when too
    /// many were recorded lately and this one was only counted.
    pub async fn record_refusal(
        &self,
        actor: Actor,
        run: Option<RunId>,
        grant: Option<GrantId>,
        refusal: &Refusal,
    ) -> bool {
        self.metrics.refused(refusal.code);
        if matches!(refusal.code, Code::StoreUnavailable | Code::FenceNeeded) {
            return true;
        }
        let now = self.gate.now();
        // SECURITY: a record costs a flush of the disk. Nobody may cause them without limit, least of all somebody who
        // needs no login but only the id of a grant.
        let left = match (&actor, grant) {
            (Actor::Broker, Some(grant)) => self.refused_answers.take(&grant.to_string(), now),
            (known, _) => self.refused_callers.take(&known.to_string(), now),
        };
        if !left {
            self.metrics.refusal_not_recorded();
            return false;
        }
        let mut event = Event::new(EventKind::Refused, actor, now)
            .fact("code", refusal.code.name())
            // Beside the ledger: it may quote what an agent wrote, and must stay erasable.
            .text(SaltedText::new("why", ascii(&refusal.message)));
        if let Some(run) = run {
            event = event.run(run);
        }
        if let Some(grant) = grant {
            event = event.grant(grant);
        }
        match self.store.record(vec![event]).await {
            Ok(head) => self.gate.committed(head),
            Err(error) => {
                self.gate.store_failed(&error);
            }
        }
        true
    }
}

fn approved_at(record: &GrantRecord) -> Timestamp {
    record.approvals.last().map_or(record.sealed.grant().time.sealed_at, |a| a.received_at)
}
