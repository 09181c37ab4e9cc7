//! A lost reply is a state: the answer is held in memory for at most a minute and given again only to the same key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Broker;
use super::claim::Claimed;
use super::refusal::{Code, Refusal};
use crate::domain::event::{Event, EventKind};
use crate::domain::id::LeaseId;
use crate::domain::key::Thumbprint;
use crate::domain::lease::{EndReason, LeaseState};
use crate::domain::phase::Phase;
use crate::domain::principal::{Actor, AgentSlug};
use crate::domain::time::Timestamp;

/// Answers held for a lost reply.
#[derive(Default)]
pub struct HeldReplies {
    held: Mutex<HashMap<LeaseId, (Thumbprint, Arc<Claimed>)>>,
    /// Claims that have not come to their answer yet, by lease.
    under_way: Mutex<HashMap<LeaseId, usize>>,
}

impl HeldReplies {
    /// Holds an answer until its `recall_until`.
    pub fn hold(&self, key: Thumbprint, claimed: Arc<Claimed>) {
        lock(&self.held).insert(claimed.lease, (key, claimed));
    }

    /// The answer, for the same key and in time.
    pub fn again(&self, lease: LeaseId, key: Thumbprint, now: Timestamp) -> Option<Arc<Claimed>> {
        let held = lock(&self.held);
        let (owner, claimed) = held.get(&lease)?;
        (*owner == key && !claimed.recall_until.has_passed(now)).then(|| claimed.clone())
    }

    /// Wipes an answer.
    pub fn forget(&self, lease: LeaseId) {
        lock(&self.held).remove(&lease);
    }

    /// Wipes every answer whose time is over.
    pub fn sweep(&self, now: Timestamp) {
        lock(&self.held).retain(|_, (_, c)| !c.recall_until.has_passed(now));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A claim under way, until it is dropped: its answer is not lost, only not there yet.
pub struct UnderWay {
    broker: Arc<Broker>,
    lease: LeaseId,
}

impl UnderWay {
    /// From before the intent until the answer is held.
    pub(super) fn begin(broker: &Arc<Broker>, lease: LeaseId) -> Self {
        *lock(&broker.replies.under_way).entry(lease).or_default() += 1;
        Self { broker: broker.clone(), lease }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut under_way = lock(&self.broker.replies.under_way);
        let claims = under_way.get(&self.lease).copied().unwrap_or_default();
        match claims {
            0 | 1 => drop(under_way.remove(&self.lease)),
            more => drop(under_way.insert(self.lease, more - 1)),
        }
    }
}

impl Broker {
    /// Gives a lost reply again. The caller proved the claim key with a fresh proof over a single-use nonce of ours.
    pub async fn recall(
        self: &Arc<Self>,
        id: LeaseId,
        agent: &AgentSlug,
        key: Thumbprint,
    ) -> Result<Arc<Claimed>, Refusal> {
        let now = self.gate.now();
        let lease = self.store.lease(id).await.map_err(|e| self.gate.store_failed(&e))?;
        let lease = lease.filter(|l| l.agent == *agent && l.key == key && l.phase == Phase::Execute);
        let lease = lease.ok_or_else(|| Refusal::new(Code::NotFound, format!("no lease `{id}` of yours")))?;
        let actor = Actor::Agent(agent.clone());
        let event = |outcome: &str| {
            Event::new(EventKind::LeaseRecalled, actor.clone(), now)
                .run(lease.run)
                .lease(id)
                .fact("outcome", outcome)
        };
        if lock(&self.replies.under_way).contains_key(&id) {
            // Looked at first: what is no longer under way is held. Ending it now would throw away what is about to come.
            let wait = "the claim is still under way; ask again in a second";
            return Err(Refusal::new(Code::Conflict, wait).retry_after(1));
        }
        if self.live.usable(id, now, self.gate.since_boot()).is_some()
            && let Some(claimed) = self.replies.again(id, key, now)
        {
            // INVARIANT: logged-before-released, also the second time.
            let head = self
                .store
                .record(vec![event("given_again")])
                .await
                .map_err(|e| self.gate.store_failed(&e))?;
            self.gate.committed(head);
            return Ok(claimed);
        }
        if !lease.state.is_live() {
            return Err(Refusal::new(Code::LeaseEnded, "the lease is over; propose again"));
        }
        if let Ok(head) = self.store.record(vec![event("credential_lost")]).await {
            self.gate.committed(head);
        }
        // An UNKNOWN one is being starved already, and counts as existing until its hard end.
        if lease.state != LeaseState::Unknown {
            self.end_lease(lease, EndReason::Cancelled, None, &actor, None).await?;
        }
        Err(Refusal::new(
            Code::CredentialLost,
            "the reply is not held any more: the lease is revoked and the grant stays spent; propose again",
        ))
    }
}
