//! Ending leases: complete, cancel, give back. Ending never waits for permission to record: what cannot be written is
//! revoked first and written when it can (INVARIANT: stop-always-works).

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Broker;
use super::ports::{ChangeRefused, GrantChange, LeaseChange, LeaseFilter, LeaseStep, StoreError};
use super::refusal::{Code, Refusal};
use super::views::EndView;
use crate::domain::event::{Event, EventKind, SaltedText};
use crate::domain::grant::GrantState;
use crate::domain::id::{GrantId, LeaseId, RunId};
use crate::domain::lease::{EndReason, Ended, Lease, LeaseState, Outcome, Revocation};
use crate::domain::phase::Phase;
use crate::domain::principal::{Actor, AgentSlug};
use crate::domain::time::Timestamp;
use crate::domain::token::TokenClaims;

/// Longest note of a completion or reason of a stop, in bytes.
pub(super) const MAX_NOTE_BYTES: usize = 2048;
/// How long a caller waits for the provider before revocation goes on in the background.
pub(super) const INLINE_REVOKE: Duration = Duration::from_secs(8);

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

/// How long an end waits for the store before it goes on without: revocation does not wait for a disk that hangs.
const STORE_PATIENCE: Duration = Duration::from_secs(5);

/// The store's answer, or that it gave none. What it was asked may still come to pass.
pub(super) async fn in_time<T, E: From<StoreError>>(
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let late = || E::from(StoreError::Unwritable("it does not answer".into()));
    tokio::time::timeout(STORE_PATIENCE, asked).await.unwrap_or_else(|_| Err(late()))
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
        match self.lease_or_memory(claims.jti).await {
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
                self.gate.store_recorded(now);
                self.waits.wake(id);
                self.cancel_other(&record).await;
                self.keep_head().await;
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
        let mut change = self.end_change(&lease, reason, outcome, actor, now);
        if let Some(note) = note {
            change.events = change.events.into_iter().map(|event| event.text(note.clone())).collect();
        }
        match in_time(self.store.change_lease(change.clone())).await {
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
        lease.state = LeaseState::Ended;
        let revoke = async {
            let Revocation::Pending { .. } = lease.revocation else { return None };
            let provider = self.provider(lease.provider).ok()?;
            tokio::time::timeout(INLINE_REVOKE, provider.revoke(&lease, now)).await.ok()?.ok()
        };
        // The provider waits for no file, and the file for no provider.
        let (done, ()) = tokio::join!(revoke, self.keep_end(change));
        if let Some(done) = done {
            lease.revocation = Revocation::Done { at: done.at, effective_by: done.effective_by, seen: None };
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
            let ended = Lease { revocation: self.end_revocation(&ended, now), ..ended };
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

    pub(super) fn count_end(&self, phase: Phase, seconds: i64) {
        if phase == Phase::Execute {
            self.metrics.claim_to_end(seconds);
        }
    }

    async fn own_execute_lease(&self, id: LeaseId, login: &TokenClaims) -> Result<Lease, Refusal> {
        if login.jti != id || login.phase() != Some(Phase::Execute) {
            return Err(Refusal::new(Code::Forbidden, "the execute token is good for its own lease only"));
        }
        let lease = self.lease_or_memory(id).await;
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

    /// A lease by the store, or from memory when the store cannot be read.
    async fn lease_or_memory(&self, id: LeaseId) -> Option<Lease> {
        match in_time(self.store.lease(id)).await {
            Ok(lease) => lease,
            Err(error) => {
                self.gate.store_failed(&error);
                self.live.all().into_iter().map(|entry| entry.lease).find(|lease| lease.id == id)
            }
        }
    }
}
