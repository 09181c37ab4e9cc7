//! Runs: opening, reading, closing.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Broker;
use super::freeze::keys_of;
use super::ports::{ChangeRefused, GrantChange, LeaseFilter};
use super::refusal::{Code, Refusal};
use super::views::{EndView, LeaseView};
use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind, SaltedText};
use crate::domain::grant::GrantState;
use crate::domain::id::{GrantId, RunId};
use crate::domain::lease::EndReason;
use crate::domain::phase::{RunPhase, moves};
use crate::domain::principal::{Actor, AgentSlug, Attestation, Environment, PersonSlug};
use crate::domain::run::Run;
use crate::domain::time::Timestamp;

/// Longest purpose or ticket, in bytes.
const MAX_PURPOSE_BYTES: usize = 1024;

/// What an agent says when it opens a run.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenRun {
    /// Where it will work.
    #[schema(value_type = String)]
    pub environment: Environment,
    /// Why, in the agent's words.
    pub purpose: String,
    /// A ticket or alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Digest of the agent's prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub prompt_digest: Option<Digest>,
    /// A person's assertion, when the run is on their behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester_token: Option<String>,
}

/// A run that was opened.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OpenedRun {
    /// Its id.
    #[schema(value_type = String)]
    pub run: RunId,
    /// `opened`.
    #[schema(value_type = String)]
    pub phase: RunPhase,
    /// Requester of record.
    #[schema(value_type = String)]
    pub requester: PersonSlug,
}

/// A run with what belongs to it.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RunView {
    /// Its id.
    #[schema(value_type = String)]
    pub run: RunId,
    /// The agent.
    #[schema(value_type = String)]
    pub agent: AgentSlug,
    /// Where.
    #[schema(value_type = String)]
    pub environment: Environment,
    /// Requester of record.
    #[schema(value_type = String)]
    pub requester: PersonSlug,
    /// Where it stands.
    #[schema(value_type = String)]
    pub phase: RunPhase,
    /// When it was opened.
    #[schema(value_type = i64)]
    pub opened_at: Timestamp,
    /// Its open grants.
    pub grants: Vec<GrantLine>,
    /// Its leases.
    pub leases: Vec<LeaseView>,
}

/// A grant in one line.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GrantLine {
    /// Its id.
    #[schema(value_type = String)]
    pub grant: GrantId,
    /// Where it stands.
    #[schema(value_type = String)]
    pub state: GrantState,
}

/// A run that was closed.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ClosedRun {
    /// Its id.
    #[schema(value_type = String)]
    pub run: RunId,
    /// `closed`.
    #[schema(value_type = String)]
    pub phase: RunPhase,
    /// What became of its leases.
    pub ended: Vec<EndView>,
}

impl Broker {
    /// Opens a run for `agent`. `requester` is the verified subject of a person's assertion, when one was given.
    pub async fn open_run(
        &self,
        agent: &AgentSlug,
        attestation: Attestation,
        requester: Option<PersonSlug>,
        asked: OpenRun,
    ) -> Result<OpenedRun, Refusal> {
        let now = self.gate.may_issue()?;
        let rules = self.rules();
        let owner = rules.directory.agent(agent).map(|known| known.owner.clone());
        let owner =
            owner.ok_or_else(|| Refusal::new(Code::Unauthenticated, "the agent is not in the directory"))?;
        if asked.purpose.len() > MAX_PURPOSE_BYTES
            || asked.ticket.as_ref().is_some_and(|t| t.len() > MAX_PURPOSE_BYTES)
        {
            return Err(Refusal::new(
                Code::BadRequest,
                format!("`purpose` and `ticket` have at most {MAX_PURPOSE_BYTES} bytes"),
            ));
        }
        if !rules.catalog.environments().contains_key(&asked.environment) {
            return Err(Refusal::new(
                Code::BadRequest,
                format!("the catalog has no environment `{}`", asked.environment),
            ));
        }
        self.not_frozen(&keys_of(agent, &asked.environment))?;
        let run = Run {
            id: RunId::generate(now),
            agent: agent.clone(),
            environment: asked.environment,
            asked_in_person: requester.is_some(),
            requester: requester.unwrap_or(owner),
            attestation,
            prompt_digest: asked.prompt_digest,
            phase: RunPhase::Opened,
            opened_at: now,
        };
        let mut event = Event::new(EventKind::RunOpened, Actor::Agent(agent.clone()), now)
            .run(run.id)
            .fact("environment", run.environment.as_str())
            .fact("requester", run.requester.as_str())
            .fact("asked_in_person", run.asked_in_person)
            .fact("attestation", run.attestation.name())
            .text(SaltedText::new("purpose", asked.purpose));
        if let Some(ticket) = asked.ticket {
            event = event.text(SaltedText::new("ticket", ticket));
        }
        if let Some(digest) = run.prompt_digest {
            event = event.fact("prompt", digest.to_string());
        }
        let opened = OpenedRun { run: run.id, phase: run.phase, requester: run.requester.clone() };
        self.store.open_run(run, event).await.map_err(|e| self.gate.store_failed(&e))?;
        self.gate.store_recorded(now);
        Ok(opened)
    }

    /// A run; an agent sees its own only.
    pub async fn run_view(&self, id: RunId, agent: Option<&AgentSlug>) -> Result<RunView, Refusal> {
        let run = self.run_of(id, agent).await?;
        let filter = LeaseFilter { run: Some(id), ..LeaseFilter::default() };
        let leases = self.store.leases(filter).await.map_err(|e| self.gate.store_failed(&e))?;
        let grants = self.store.open_grants(Some(id)).await.map_err(|e| self.gate.store_failed(&e))?;
        Ok(RunView {
            run: run.id,
            agent: run.agent,
            environment: run.environment,
            requester: run.requester,
            phase: run.phase,
            opened_at: run.opened_at,
            grants: grants.iter().map(|g| GrantLine { grant: g.sealed.grant().id, state: g.state }).collect(),
            leases: leases.iter().map(|lease| self.lease_view(lease)).collect(),
        })
    }

    /// Closes a run: its leases end, its open grants are cancelled.
    pub async fn close_run(self: &Arc<Self>, id: RunId, agent: &AgentSlug) -> Result<ClosedRun, Refusal> {
        let run = self.run_of(id, Some(agent)).await?;
        self.close_as(run, Actor::Agent(agent.clone())).await
    }

    /// Closes it on somebody's account.
    pub(super) async fn close_as(self: &Arc<Self>, run: Run, actor: Actor) -> Result<ClosedRun, Refusal> {
        let (now, id) = (self.gate.now(), run.id);
        moves(run.phase, RunPhase::Closed).map_err(|e| Refusal::new(Code::PhaseOrder, e.to_string()))?;
        let leases = self.leases_of_run(id).await?;
        let changes = self.end_changes(&leases, EndReason::PhaseLeft, &actor, now)?;
        let open = self.store.open_grants(Some(id)).await.map_err(|e| self.gate.store_failed(&e))?;
        let grants = open
            .iter()
            .map(|record| GrantChange {
                id: record.sealed.grant().id,
                revision: record.revision,
                state: GrantState::Cancelled,
                claim_until: None,
                approval: None,
                events: vec![
                    Event::new(EventKind::GrantCancelled, actor.clone(), now)
                        .run(id)
                        .grant(record.sealed.grant().id)
                        .fact("why", "run_closed"),
                ],
            })
            .collect();
        let event = Event::new(EventKind::RunClosed, actor, now).run(id).fact("from", run.phase.name());
        match self.store.close_run(id, run.phase, changes, grants, event).await {
            Ok(()) => self.gate.store_recorded(now),
            Err(ChangeRefused::Store(error)) => return Err(self.gate.store_failed(&error)),
            Err(_) => return Err(conflict()),
        }
        open.iter().for_each(|record| self.waits.wake(record.sealed.grant().id));
        let ended = self.after_ends(leases, EndReason::PhaseLeft, now).await;
        Ok(ClosedRun { run: id, phase: RunPhase::Closed, ended })
    }

    pub(super) async fn run_of(&self, id: RunId, agent: Option<&AgentSlug>) -> Result<Run, Refusal> {
        let run = self.store.run(id).await.map_err(|e| self.gate.store_failed(&e))?;
        match run {
            Some(run) if agent.is_none_or(|agent| *agent == run.agent) => Ok(run),
            _ => Err(Refusal::new(Code::NotFound, format!("no run `{id}` of yours"))),
        }
    }
}

pub(super) fn conflict() -> Refusal {
    Refusal::new(Code::Conflict, "something changed meanwhile; read it again and retry").retry_after(1)
}
