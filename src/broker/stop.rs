//! Stop: a person ends a lease, a run, an agent, or everything. It works with an unreadable store, from memory.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Broker;
use super::end::MAX_NOTE_BYTES;
use super::ports::{GrantChange, LeaseFilter};
use super::refusal::{Code, Refusal};
use super::views::EndView;
use crate::domain::event::{Event, EventKind, SaltedText};
use crate::domain::grant::GrantState;
use crate::domain::id::{GrantId, LeaseId, RunId};
use crate::domain::lease::{EndReason, Lease, LeaseState};
use crate::domain::principal::{Actor, AgentSlug, PersonSlug, Role};
use crate::domain::time::Timestamp;

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
