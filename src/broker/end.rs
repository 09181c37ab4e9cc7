//! Ending leases: complete, cancel, stop. Ending never waits for permission to record: what cannot be written is
//! revoked first and written when it can (INVARIANT: stop-always-works).

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Broker;
use super::phases::end_change;
use super::ports::{ChangeRefused, GrantChange, LeaseChange, LeaseFilter, LeaseStep, Notice};
use super::refusal::{Code, Refusal};
use super::views::EndView;
use crate::domain::event::{Event, EventKind, SaltedText};
use crate::domain::grant::GrantState;
use crate::domain::id::{GrantId, LeaseId, RunId};
use crate::domain::lease::{EndReason, Ended, Lease, LeaseState, Outcome, Revocation};
use crate::domain::phase::Phase;
use crate::domain::principal::{Actor, AgentSlug, PersonSlug, Role};
use crate::domain::time::Timestamp;
use crate::domain::token::TokenClaims;

/// Longest note of a completion or reason of a stop, in bytes.
const MAX_NOTE_BYTES: usize = 2048;
/// How long a caller waits for the provider before revocation goes on in the background.
const INLINE_REVOKE: Duration = Duration::from_secs(8);
/// Waits between attempts to revoke, seconds; the last one repeats.
const RETRY_SECONDS: [i64; 6] = [1, 2, 4, 8, 15, 30];

/// How an agent ends its work.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Complete {
    /// What came of it.
    #[schema(value_type = String)]
    pub outcome: Outcome,
    /// The agent's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What a person stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopTarget {
    /// One lease.
    #[schema(value_type = String)]
    Lease(LeaseId),
    /// Everything of one run.
    #[schema(value_type = String)]
    Run(RunId),
    /// Everything of one agent.
    #[schema(value_type = String)]
    Agent(AgentSlug),
    /// Everything.
    Everything,
}

/// What a stop did.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Stopped {
    /// Ended leases.
    pub leases: Vec<EndView>,
    /// Cancelled grants.
    #[schema(value_type = Vec<String>)]
    pub grants: Vec<GrantId>,
    /// By when the last of the credentials is useless.
    #[schema(value_type = i64)]
    pub effective_by: Timestamp,
    /// Leases of unknown outcome, which are starved at the provider until their hard end.
    #[schema(value_type = Vec<String>)]
    pub unknown: Vec<LeaseId>,
    /// Whether everything was written down at once; if not, it is written when the store can.
    pub recorded: bool,
}

impl Broker {
    /// The agent says it is done. `login` are the claims of the execute token.
    pub async fn complete(
        self: &Arc<Self>,
        id: LeaseId,
        login: &TokenClaims,
        done: Complete,
    ) -> Result<EndView, Refusal> {
        if done.note.as_ref().is_some_and(|note| note.len() > MAX_NOTE_BYTES) {
            return Err(Refusal::new(Code::BadRequest, format!("`note` has at most {MAX_NOTE_BYTES} bytes")));
        }
        let lease = self.own_execute_lease(id, login).await?;
        let note = done.note.map(|note| SaltedText::new("note", note));
        let actor = Actor::Agent(login.client_id.clone());
        self.end_lease(lease, EndReason::Completed, Some(done.outcome), &actor, note).await
    }

    /// The agent gives the credential back.
    pub async fn cancel_lease(
        self: &Arc<Self>,
        id: LeaseId,
        login: &TokenClaims,
    ) -> Result<EndView, Refusal> {
        let lease = self.own_execute_lease(id, login).await?;
        self.end_lease(lease, EndReason::Cancelled, None, &Actor::Agent(login.client_id.clone()), None).await
    }

    /// RFC 7009: the holder ends its own token's lease, whatever its phase.
    pub async fn revoke_token(self: &Arc<Self>, claims: &TokenClaims) -> Result<(), Refusal> {
        let lease = self.store.lease(claims.jti).await.map_err(|e| self.gate.store_failed(&e))?;
        match lease {
            Some(lease) if lease.state.is_live() => {
                let actor = Actor::Agent(claims.client_id.clone());
                self.end_lease(lease, EndReason::Cancelled, None, &actor, None).await.map(|_| ())
            }
            _ => Ok(()),
        }
    }

    /// The requester stops asking.
    pub async fn cancel_grant(&self, id: GrantId, agent: &AgentSlug) -> Result<GrantState, Refusal> {
        let record = self.record_of(id).await?;
        let grant = record.sealed.grant();
        if grant.who.proposing_agent != *agent {
            return Err(Refusal::new(Code::NotFound, format!("no grant `{id}` of yours")));
        }
        if !record.state.is_open() {
            return Err(Refusal::new(Code::GrantNotOpen, format!("the grant is `{}`", record.state)));
        }
        let now = self.gate.now();
        let event = Event::new(EventKind::GrantCancelled, Actor::Agent(agent.clone()), now)
            .run(grant.who.run)
            .grant(id);
        let change = GrantChange {
            id,
            revision: record.revision,
            state: GrantState::Cancelled,
            claim_until: None,
            approval: None,
            events: vec![event.fact("why", "requester")],
        };
        match self.store.change_grant(change).await {
            Ok(()) => {
                self.changed.notify_waiters();
                Ok(GrantState::Cancelled)
            }
            Err(ChangeRefused::Store(error)) => Err(self.gate.store_failed(&error)),
            Err(_) => Err(super::runs::conflict()),
        }
    }

    /// Leases, for people.
    pub async fn leases(&self, run: Option<RunId>, open: bool) -> Result<Vec<Lease>, Refusal> {
        let filter = LeaseFilter { run, open, ..LeaseFilter::default() };
        self.store.leases(filter).await.map_err(|e| self.gate.store_failed(&e))
    }

    /// A person stops something. Any approver or operator may; it works with an unreadable store, from memory.
    pub async fn stop(
        self: &Arc<Self>,
        person: &PersonSlug,
        target: StopTarget,
        reason: String,
    ) -> Result<Stopped, Refusal> {
        let rules = self.rules();
        if ![Role::Approver, Role::Operator].iter().any(|role| rules.directory.has_role(person, *role)) {
            return Err(Refusal::new(Code::Forbidden, "stopping needs the role approver or operator"));
        }
        if reason.len() > MAX_NOTE_BYTES {
            return Err(Refusal::new(
                Code::BadRequest,
                format!("`reason` has at most {MAX_NOTE_BYTES} bytes"),
            ));
        }
        let now = self.gate.now();
        let actor = Actor::Person(person.clone());
        let event = Event::new(EventKind::Stopped, actor.clone(), now).fact("target", target_text(&target));
        let mut recorded =
            self.store.record(vec![event.text(SaltedText::new("reason", reason))]).await.is_ok();
        let (leases, read) = self.live_leases().await;
        recorded &= read;
        let mut stopped = Vec::new();
        let mut unknown = Vec::new();
        let mut effective_by = now;
        for lease in leases.into_iter().filter(|lease| concerns(&target, lease)) {
            match lease.state {
                LeaseState::Minted | LeaseState::Released => {
                    let end = self.end_lease(lease, EndReason::Stopped, None, &actor, None).await?;
                    effective_by = effective_by.max(end.effective_by);
                    stopped.push(end);
                }
                _ => {
                    effective_by = effective_by.max(lease.not_after);
                    unknown.push(lease.id);
                }
            }
        }
        let (grants, cancelled) = self.cancel_open_grants(&target, &actor, now).await;
        recorded &= cancelled;
        Ok(Stopped { leases: stopped, grants, effective_by, unknown, recorded })
    }

    async fn live_leases(&self) -> (Vec<Lease>, bool) {
        let filter = LeaseFilter { open: true, ..LeaseFilter::default() };
        match self.store.leases(filter).await {
            Ok(leases) => (leases.into_iter().filter(|l| l.state.is_live()).collect(), true),
            Err(error) => {
                self.gate.store_failed(&error);
                (self.live.all().into_iter().map(|entry| entry.lease).collect(), false)
            }
        }
    }

    async fn cancel_open_grants(
        &self,
        target: &StopTarget,
        actor: &Actor,
        now: Timestamp,
    ) -> (Vec<GrantId>, bool) {
        let Ok(open) = self.store.open_grants(None).await else { return (Vec::new(), false) };
        let mut cancelled = Vec::new();
        let mut recorded = true;
        for record in open {
            let grant = record.sealed.grant();
            let concerned = match target {
                StopTarget::Lease(_) => false,
                StopTarget::Run(run) => grant.who.run == *run,
                StopTarget::Agent(agent) => {
                    grant.who.proposing_agent == *agent || grant.who.claiming_agent == *agent
                }
                StopTarget::Everything => true,
            };
            if !concerned {
                continue;
            }
            let event =
                Event::new(EventKind::GrantCancelled, actor.clone(), now).run(grant.who.run).grant(grant.id);
            let change = GrantChange {
                id: grant.id,
                revision: record.revision,
                state: GrantState::Cancelled,
                claim_until: None,
                approval: None,
                events: vec![event.fact("why", "stopped")],
            };
            match self.store.change_grant(change).await {
                Ok(()) => cancelled.push(grant.id),
                Err(_) => recorded = false,
            }
        }
        self.changed.notify_waiters();
        (cancelled, recorded)
    }

    /// Ends one lease: dead here at once, then recorded, then told to the provider.
    pub(super) async fn end_lease(
        self: &Arc<Self>,
        lease: Lease,
        reason: EndReason,
        outcome: Option<Outcome>,
        actor: &Actor,
        note: Option<SaltedText>,
    ) -> Result<EndView, Refusal> {
        let now = self.gate.now();
        self.live.kill(lease.id);
        self.replies.forget(lease.id);
        let mut change = end_change(&lease, reason, outcome, actor, now);
        if let Some(note) = note {
            change.events = change.events.into_iter().map(|event| event.text(note.clone())).collect();
        }
        match self.store.change_lease(change.clone()).await {
            Ok(done) => {
                self.gate.committed(done.head);
                self.live.put(&done.value, now, self.gate.since_boot());
                self.count_end(done.value.phase, now.since(done.value.opened_at));
                let lease = self.try_revoke(done.value, now).await;
                Ok(EndView::of(&lease, reason, now))
            }
            Err(ChangeRefused::Store(error)) => {
                self.gate.store_failed(&error);
                self.end_unrecorded(lease, change, reason, now).await
            }
            Err(_) => {
                self.live.unkill(lease.id);
                Err(Refusal::new(
                    Code::LeaseEnded,
                    "the lease is over already, or changed meanwhile; read it again",
                ))
            }
        }
    }

    /// The store cannot record: the provider is told first, the record follows when it can.
    async fn end_unrecorded(
        self: &Arc<Self>,
        mut lease: Lease,
        change: LeaseChange,
        reason: EndReason,
        now: Timestamp,
    ) -> Result<EndView, Refusal> {
        if let LeaseStep::Ended { ended, revocation } = &change.step {
            (lease.ended, lease.revocation) = (Some(*ended), *revocation);
        }
        self.live.keep_unwritten(change);
        lease.state = LeaseState::Ended;
        if matches!(lease.revocation, Revocation::Pending { .. })
            && let Ok(provider) = self.provider(lease.provider)
            && let Ok(Ok(done)) = tokio::time::timeout(INLINE_REVOKE, provider.revoke(&lease, now)).await
        {
            lease.revocation = Revocation::Done { at: done.at, effective_by: done.effective_by };
        }
        Ok(EndView::of(&lease, reason, now))
    }

    /// After leases were ended inside another transaction: dead here, told to their providers.
    pub(super) async fn after_ends(
        self: &Arc<Self>,
        left: Vec<Lease>,
        reason: EndReason,
        now: Timestamp,
    ) -> Vec<EndView> {
        let mut views = Vec::new();
        for lease in left.into_iter().filter(|l| matches!(l.state, LeaseState::Minted | LeaseState::Released))
        {
            let ended = Lease {
                state: LeaseState::Ended,
                ended: Some(Ended { at: now, reason, outcome: None }),
                ..lease
            };
            let ended = Lease { revocation: end_revocation(&ended, now), ..ended };
            self.live.put(&ended, now, self.gate.since_boot());
            self.replies.forget(ended.id);
            self.count_end(ended.phase, now.since(ended.opened_at));
            let ended = match ended.revocation {
                // The next phase does not wait for the provider; claims check `dead_by` in the store.
                Revocation::Pending { .. } => {
                    let (broker, lease) = (self.clone(), ended.clone());
                    tokio::spawn(async move { broker.try_revoke(lease, now).await });
                    ended
                }
                _ => ended,
            };
            views.push(EndView::of(&ended, reason, now));
        }
        views
    }

    /// One attempt to end a credential at its provider; failures are recorded and tried again by the sweep.
    pub(super) async fn try_revoke(self: &Arc<Self>, lease: Lease, now: Timestamp) -> Lease {
        let Revocation::Pending { attempts, .. } = lease.revocation else { return lease };
        let outcome = match self.provider(lease.provider) {
            Ok(provider) => match tokio::time::timeout(INLINE_REVOKE, provider.revoke(&lease, now)).await {
                Ok(Ok(done)) => Ok(done),
                Ok(Err(failed)) => Err(failed.0),
                Err(_) => Err("the provider did not answer in time".to_owned()),
            },
            Err(refusal) => Err(refusal.message),
        };
        let at = self.gate.now();
        let event = |kind| {
            let event = Event::new(kind, Actor::Broker, at).run(lease.run).lease(lease.id);
            lease.grant.iter().fold(event, |e, grant| e.grant(*grant))
        };
        let (revocation, event) = match outcome {
            Ok(done) => (
                Revocation::Done { at: done.at, effective_by: done.effective_by },
                event(EventKind::RevocationDone).fact("effective_by", done.effective_by.seconds()),
            ),
            Err(_) if lease.hard_end.has_passed(at) => (
                Revocation::OutlivedIt { attempts: attempts.saturating_add(1) },
                event(EventKind::RevocationOutlived).fact("attempts", attempts.saturating_add(1)),
            ),
            Err(why) => {
                let attempts = attempts.saturating_add(1);
                let step = usize::try_from(attempts.saturating_sub(1))
                    .unwrap_or(usize::MAX)
                    .min(RETRY_SECONDS.len() - 1);
                let wait = RETRY_SECONDS.get(step).copied().unwrap_or(30);
                self.metrics.revocation_failed(lease.provider);
                tracing::warn!(lease.id = %lease.id, attempts, why = %why, "revocation failed; it will be tried again");
                self.notifier.notify(Notice {
                    kind: "revocation_failed",
                    id: lease.id.to_string(),
                    link: format!("{}/v1/leases?open=true", self.settings.issuer),
                });
                let next_at = at.plus(wait);
                (
                    Revocation::Pending { attempts, next_at },
                    event(EventKind::RevocationFailed)
                        .fact("attempts", attempts)
                        .fact("why", super::phases::ascii(&why)),
                )
            }
        };
        let change = LeaseChange {
            id: lease.id,
            from: lease.state,
            step: LeaseStep::Revocation(revocation),
            events: vec![event],
        };
        match self.store.change_lease(change.clone()).await {
            Ok(done) => {
                self.gate.committed(done.head);
                done.value
            }
            Err(ChangeRefused::Store(error)) => {
                self.gate.store_failed(&error);
                self.live.keep_unwritten(change);
                Lease { revocation, ..lease }
            }
            Err(_) => Lease { revocation, ..lease },
        }
    }

    pub(super) fn count_end(&self, phase: Phase, seconds: i64) {
        if phase == Phase::Execute {
            self.metrics.claim_to_end(seconds);
        }
    }

    async fn own_execute_lease(&self, id: LeaseId, login: &TokenClaims) -> Result<Lease, Refusal> {
        if login.jti != id || login.phase() != Some(Phase::Execute) {
            return Err(Refusal::new(Code::Forbidden, "the execute token is good for its own lease only"));
        }
        let lease = self.store.lease(id).await;
        let lease = match lease {
            Ok(lease) => lease,
            Err(error) => {
                self.gate.store_failed(&error);
                self.live.all().into_iter().map(|entry| entry.lease).find(|lease| lease.id == id)
            }
        };
        let lease = lease.ok_or_else(|| Refusal::new(Code::NotFound, format!("no lease `{id}` of yours")))?;
        match lease.ended {
            Some(ended) => {
                let view = EndView::of(&lease, ended.reason, ended.at);
                let next = view.next_step.map(|next| format!(". {next}")).unwrap_or_default();
                Err(Refusal::new(
                    Code::LeaseEnded,
                    format!("the lease ended at {} ({}){next}", ended.at, ended.reason),
                ))
            }
            None => Ok(lease),
        }
    }
}

fn end_revocation(lease: &Lease, now: Timestamp) -> Revocation {
    match end_change(lease, EndReason::PhaseLeft, None, &Actor::Broker, now).step {
        LeaseStep::Ended { revocation, .. } => revocation,
        _ => lease.revocation,
    }
}

fn concerns(target: &StopTarget, lease: &Lease) -> bool {
    match target {
        StopTarget::Lease(id) => lease.id == *id,
        StopTarget::Run(run) => lease.run == *run,
        StopTarget::Agent(agent) => lease.agent == *agent,
        StopTarget::Everything => true,
    }
}

fn target_text(target: &StopTarget) -> String {
    match target {
        StopTarget::Lease(id) => format!("lease:{id}"),
        StopTarget::Run(run) => format!("run:{run}"),
        StopTarget::Agent(agent) => format!("agent:{agent}"),
        StopTarget::Everything => "everything".to_owned(),
    }
}
