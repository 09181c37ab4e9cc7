//! Storing what was sealed: within the limits of open grants, under claim keys that nothing else uses.

use super::Broker;
use super::freeze::frozen_refusal;
use super::ports::{DecisionEntry, LeaseFilter, OpenCount, SealRefused, Sealing};
use super::refusal::{Code, Refusal};
use super::reserved::Aim;
use crate::domain::event::{Event, EventKind};
use crate::domain::grant::{Grant, GrantState};
use crate::domain::id::GrantId;
use crate::domain::principal::{Actor, AgentSlug};
use crate::domain::time::Timestamp;

impl Broker {
    /// Stores what was sealed, with the keys it will be claimed with spoken for; `stops` is how many stops there were
    /// before anything was read for it.
    pub(super) async fn seal(
        &self,
        sealings: Vec<Sealing>,
        decisions: Vec<DecisionEntry>,
        stops: usize,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let mut keys = Vec::new();
        let mut events = Vec::new();
        for sealing in &sealings {
            let grant = sealing.sealed.grant();
            events.extend(sealed_events(sealing, now));
            if !sealing.state.is_open() {
                continue;
            }
            let fresh = match self.claim_key_is_fresh(grant).await {
                Ok(()) if self.reserved.reserve(grant, false) => {
                    keys.push(grant.who.claim_key);
                    Ok(())
                }
                Ok(()) => Err(Refusal::new(
                    Code::KeyReused,
                    "another grant names this `claim_key`; make a fresh key for each claim",
                )),
                Err(refusal) => Err(refusal),
            };
            if let Err(refusal) = fresh {
                keys.iter().for_each(|key| self.reserved.free(key));
                return Err(refusal);
            }
        }
        let sealed = sealings.clone();
        if let Err(refused) = self.store.seal(sealings, self.open_limits(), decisions, events).await {
            keys.iter().for_each(|key| self.reserved.free(key));
            return Err(self.seal_refused(refused));
        }
        keys.iter().for_each(|key| self.reserved.sealed(key));
        self.gate.store_recorded(now);
        self.not_stopped_meanwhile(&sealed, stops).await
    }

    /// INVARIANT: stop-always-works. Of a stop that lists open grants and this look at memory, one sees the other: what
    /// was stopped or frozen while it was sealed is not handed out, and cancelled.
    async fn not_stopped_meanwhile(&self, sealings: &[Sealing], stops: usize) -> Result<(), Refusal> {
        let open = || sealings.iter().filter(|sealing| sealing.state.is_open());
        let allowed = open().try_for_each(|sealing| {
            self.not_stopped_since(stops, sealing.sealed.grant())?;
            self.not_frozen(&sealing.freezes)
        });
        if allowed.is_err() {
            for sealing in open() {
                self.cancel_unasked(sealing.sealed.grant().id).await;
            }
        }
        allowed
    }

    /// Cancels an open grant on the broker's own account. When the store cannot, it lapses, and no claim of it succeeds.
    pub(super) async fn cancel_unasked(&self, id: GrantId) {
        let cancelled = match self.store.grant(id).await {
            Ok(Some(record)) => self.cancel_stopped(record, &Actor::Broker).await,
            Ok(None) => return,
            Err(error) => Err(error),
        };
        match cancelled {
            Ok(_) => self.waits.wake(id),
            Err(error) => {
                self.gate.store_failed(&error);
            }
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

    pub(super) async fn room_for_one_more(&self, agent: &AgentSlug) -> Result<(), Refusal> {
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
            SealRefused::Frozen(key) => frozen_refusal(&key),
            SealRefused::Store(error) => self.gate.store_failed(&error),
        }
    }
}

fn sealed_events(sealing: &Sealing, now: Timestamp) -> Vec<Event> {
    let (sealed, grant) = (&sealing.sealed, sealing.sealed.grant());
    let actor = Actor::Agent(grant.who.proposing_agent.clone());
    let kind = if sealing.state == GrantState::Suggested {
        EventKind::GrantSuggested
    } else {
        EventKind::GrantSealed
    };
    let mut event = Event::new(kind, actor.clone(), now)
        .run(grant.who.run)
        .grant(grant.id)
        .fact("digest", sealed.digest().to_string())
        .fact("action", grant.action.action_type.as_str())
        .fact("environment", grant.environment.as_str())
        .fact("class", grant.action.class.name())
        .fact("claiming_agent", grant.who.claiming_agent.as_str())
        .fact("tier", grant.decision.tier.name())
        .fact("rule", grant.decision.rule.to_string())
        .fact("reasons", grant.decision.reasons.clone())
        .fact("policy", grant.decision.policy.to_string())
        .fact("catalog", grant.decision.catalog.to_string())
        .fact("directory", grant.decision.directory.to_string())
        .fact("guardrails", grant.decision.guardrails.to_string())
        .fact("evidence", grant.evidence.to_string());
    if let Some(playbook) = grant.decision.playbook {
        event = event.fact("playbook", playbook.to_string());
    }
    if !grant.action.exceptions.is_empty() {
        event = event.fact("exceptions", grant.action.exceptions.clone());
    }
    if let Some(until) = sealing.claim_until {
        event = event.fact("claim_until", until.seconds());
    }
    if let Some(forward) = grant.time.inverse_of {
        event = event.fact("inverse_of", forward.to_string());
    }
    let glass = grant.decision.break_glass.then(|| {
        Event::new(EventKind::BreakGlassAsked, actor, now)
            .run(grant.who.run)
            .grant(grant.id)
            .fact("requester", grant.who.requester.as_str())
    });
    [event].into_iter().chain(glass).collect()
}
