//! The claim: an approved grant becomes one credential, once. The order of `design.md` section 5, top to bottom.

use std::sync::Arc;

use super::Broker;
use super::freeze::keys_of_action;
use super::grants::active;
use super::outcome::Recorded;
use super::ports::{CredentialSecret, GrantRecord, OpenRefused, Opening};
use super::recall::UnderWay;
use super::record::{intent, intent_event, mint_lost};
use super::redecide::Redecided;
use super::refusal::{Code, Refusal};
use super::rules::Rules;
use crate::domain::approval::{Approval, Signable};
use crate::domain::authority::Authority;
use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind};
use crate::domain::grant::GrantState;
use crate::domain::id::{DecisionId, GrantId, LeaseId, RunId};
use crate::domain::key::Thumbprint;
use crate::domain::lease::{EndReason, Lease, OpenedLease, Prepared};
use crate::domain::phase::{Phase, RunPhase, moves};
use crate::domain::plan::{Credential, ProviderKind, Revocability};
use crate::domain::principal::{Actor, AgentSlug};
use crate::domain::run::Run;
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;

/// How often a claim that met a line crossed by another is decided again.
const TRIES: usize = 4;

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
    pub secret: Arc<CredentialSecret>,
    /// The request it was minted from.
    pub credential: Credential,
    /// How soon it can be ended early.
    pub revocability: Revocability,
    /// A lost reply can be asked for again until here.
    pub recall_until: Timestamp,
}

/// What an agent presents to claim.
#[derive(Debug, Default)]
pub struct Presented {
    /// The approval tokens; none under a playbook.
    pub approvals: Vec<String>,
    /// Digest of the external plan it is about to carry out, where the grant binds one.
    pub plan_digest: Option<Digest>,
}

impl Broker {
    /// Claims a grant: `agent` proved its login and the key `key`.
    pub async fn claim(
        self: &Arc<Self>,
        id: GrantId,
        agent: &AgentSlug,
        key: Thumbprint,
        presented: Presented,
    ) -> Result<Arc<Claimed>, Refusal> {
        let (run, outcome) = match self.record_of(id).await {
            Ok(record) => {
                (Some(record.sealed.grant().who.run), self.try_claim(record, agent, key, presented).await)
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
        presented: Presented,
    ) -> Result<Arc<Claimed>, Refusal> {
        let now = self.may_issue()?;
        // INVARIANT: re-decided. One reading of the rules decides, and the opening fails when others are in force by then.
        let rules = self.rules();
        self.claimable(&record, now)?;
        let approvals = self.presented(&record, presented.approvals, &rules)?;
        let grant = record.sealed.grant();
        // INVARIANT: one-phase. The key named in the signed bytes, and no other, claims.
        if grant.who.claiming_agent != *agent || grant.who.claim_key != key {
            return Err(Refusal::new(Code::WrongClaimant, "the grant names another claiming agent or key"));
        }
        let run = self.run_of(grant.who.run, None).await?;
        moves(run.phase, RunPhase::Execute).map_err(|e| Refusal::new(Code::PhaseOrder, e.to_string()))?;
        if grant.action.plan_digest != presented.plan_digest {
            return Err(Refusal::new(
                Code::PreconditionFailed,
                "`plan_digest` is not the one in the grant: the plan that was signed, and no other, is carried out",
            ));
        }
        let (action, environment) = (&grant.action, &grant.environment);
        self.conditions_hold(&action.preconditions, action, environment, agent, &rules).await?;
        let provider = self.provider(grant.credential.provider())?.clone();
        let after = self.taken_back(&record).await?;
        let left = self.leases_of_run(run.id).await?;
        let under_way = UnderWay::begin(self, grant.time.lease);
        for _ in 0..TRIES {
            // What is looked at may have taken seconds, and so may the try before.
            let now = self.may_issue()?;
            self.claimable(&record, now)?;
            self.way_back_is_ready(grant, now).await?;
            let redecided = self.redecide(&record, approvals.clone(), &rules, now).await?;
            let prepared = provider
                .prepare(grant.time.lease, &grant.credential, redecided.work_seconds, now)
                .await
                .map_err(|e| Refusal::new(Code::ProviderNotReady, e.to_string()).retry_after(5))?;
            let opening = self.opening(&record, &redecided, prepared, &run, &left, after, &rules, now)?;
            let review = opening.review.as_ref().map(|review| review.id);
            // INVARIANT: one-use. Consume and INTENT are one transaction; whoever loses it gets nothing.
            let opened = match self.store.open_lease(opening).await {
                Ok(opened) => opened,
                // Somebody else's claim crossed a line meanwhile: what policy says of that is asked again.
                Err(OpenRefused::LimitReached(_)) => continue,
                Err(refused) => return Err(self.open_refused(refused)),
            };
            self.gate.committed(opened.head);
            self.metrics.approval_to_claim(now.since(approved_at(&record)));
            if redecided.authority.name() == "break_glass" {
                self.tell_people("break_glass", grant.id);
            }
            if let Some(review) = review {
                self.tell("review_opened", review.to_string(), format!("v1/reviews/{review}"));
            }
            let (broker, authority) = (self.clone(), redecided.authority);
            // From here to the record of the outcome nothing may be abandoned, even when the caller hangs up.
            let rest = tokio::spawn(async move {
                broker.after_ends(left, EndReason::PhaseLeft, now).await;
                let head = opened.head;
                let answer = broker.mint_execute(opened.value, authority, head, now).await;
                drop(under_way);
                answer
            });
            return rest.await.map_err(|_| mint_lost())?;
        }
        Err(Refusal::new(Code::LimitReached, "a budget, or the uses of a playbook, are used up")
            .retry_after(10))
    }

    #[allow(clippy::too_many_arguments)] // Everything the one transaction rests on.
    fn opening(
        &self,
        record: &GrantRecord,
        redecided: &Redecided,
        prepared: Prepared,
        run: &Run,
        left: &[Lease],
        after: Option<LeaseId>,
        rules: &Rules,
        now: Timestamp,
    ) -> Result<Opening, Refusal> {
        let grant = record.sealed.grant();
        let (id, agent, key) = (grant.time.lease, &grant.who.claiming_agent, grant.who.claim_key);
        let mut lease =
            intent(id, Some(grant.id), run, agent, Phase::Execute, &grant.credential, &prepared, key, now);
        lease.action = Some(grant.action.action_type.clone());
        lease.proposing_agent = Some(grant.who.proposing_agent.clone());
        let actor = Actor::Agent(agent.clone());
        let entered = Event::new(EventKind::PhaseEntered, actor.clone(), now).run(run.id);
        let authority = &redecided.authority;
        let jtis: Vec<String> = authority.approvals().iter().map(|a| a.claims.jti.to_string()).collect();
        let intent = intent_event(&lease, &actor, now)
            .grant(grant.id)
            .fact("grant_digest", record.sealed.digest().to_string())
            .fact("authority", authority.name())
            .fact("approvals", jtis)
            .fact("reasons", redecided.considered.decision.reasons.clone())
            .fact("epoch", grant.epoch);
        let mut events = vec![entered.fact("from", run.phase.name()).fact("to", "execute")];
        if authority.name() == "break_glass" {
            let used = Event::new(EventKind::BreakGlassUsed, actor.clone(), now).run(run.id).grant(grant.id);
            events.push(used.lease(lease.id));
        }
        let review = redecided.review.as_ref().map(|terms| {
            let playbook = grant.decision.playbook;
            super::reviews::opened(grant, playbook, terms.owner.clone(), terms.due_seconds, now)
        });
        let review = review.map(|(review, event)| {
            events.push(event);
            review
        });
        events.push(intent);
        let agents = [&grant.who.proposing_agent, agent];
        Ok(Opening {
            prepared,
            run_from: run.phase,
            run_to: RunPhase::Execute,
            spends: Some((grant.id, record.revision)),
            ends: self.end_changes(left, EndReason::PhaseLeft, &actor, now)?,
            reservations: redecided.reservations(now),
            freezes: keys_of_action(agents, &grant.action.action_type, &grant.environment),
            after,
            playbook: redecided.playbook.clone(),
            review,
            observation: None,
            decision: Some(redecided.considered.entry(DecisionId::generate(now), grant.id, "claim", now)?),
            digests: rules.digests(),
            epoch: self.gate.epoch(),
            now,
            events,
            lease,
        })
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
        self.refuse_if_stopped(lease, Some(authority.sealed().grant()), now).await?;
        let grant = authority.sealed().grant();
        // Before anything is minted: a session whose token cannot be signed would be nobody's.
        let execute_token = self.signed_first(lease, grant.who.requester.to_string(), now).await?;
        let provider = self.provider(lease.provider)?.clone();
        let outcome = provider.mint_execute(&opened, &authority).await;
        let minted = match self.record_outcome(lease, outcome, now).await? {
            Recorded::Minted(minted) => minted,
            Recorded::Refused(refusal) => return Err(refusal),
        };
        self.metrics.issued(lease.phase, lease.provider);
        let secret = Arc::new(minted.secret);
        self.keep_for_canary(lease, &secret, &grant.credential);
        let claimed = Arc::new(Claimed {
            lease: lease.id,
            run: lease.run,
            not_after: lease.not_after,
            hard_end: lease.hard_end,
            execute_token,
            provider: lease.provider,
            secret,
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
        let grant = record.sealed.grant();
        self.not_stopped(grant)?;
        let agents = [&grant.who.proposing_agent, &grant.who.claiming_agent];
        self.not_frozen(&keys_of_action(agents, &grant.action.action_type, &grant.environment))?;
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
        if record.sealed.grant().decision.playbook.is_some() {
            return match tokens.is_empty() {
                true => Ok(Vec::new()),
                false => Err(Refusal::new(
                    Code::ApprovalInvalid,
                    "the grant lies inside a playbook and nobody signs it: present no approvals",
                )),
            };
        }
        if tokens.is_empty() || tokens.len() > 64 {
            return Err(Refusal::new(
                Code::ApprovalsMissing,
                "present the approval tokens of this grant (1 to 64)",
            ));
        }
        let mut presented: Vec<Approval> = Vec::new();
        let signed = Signable::from(&record.sealed);
        for token in &tokens {
            let received = super::approve::received(&counting, token, &signed, &rules.directory);
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
}

fn approved_at(record: &GrantRecord) -> Timestamp {
    record.approvals.last().map_or(record.sealed.grant().time.sealed_at, |a| a.received_at)
}
