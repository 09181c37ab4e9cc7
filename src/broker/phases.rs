//! Entering and renewing observe and decide. Execute cannot be asked for here: [`ReadPhase`] has no such value.

use std::sync::Arc;

use super::Broker;
use super::freeze::keys_of;
use super::outcome::Recorded;
use super::ports::{CredentialSecret, LeaseChange, LeaseFilter, Opening, PhaseCredential};
use super::record::{intent, intent_event, mint_lost};
use super::refusal::{Code, Refusal};
use super::rules::Rules;
use super::runs::conflict;
use super::working_keys::no_signing_key;
use crate::catalog::{self, ObserveSet};
use crate::domain::event::{Event, EventKind};
use crate::domain::id::{LeaseId, RunId};
use crate::domain::key::Thumbprint;
use crate::domain::lease::{EndReason, Lease, LeaseState, OpenedLease};
use crate::domain::observation::{Observation, Trust};
use crate::domain::phase::{Move, Phase, RunPhase, moves};
use crate::domain::plan::{Credential, JwtCredential, Revocability};
use crate::domain::principal::{ActionType, Actor, AgentSlug, Attestation};
use crate::domain::run::Run;
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use crate::domain::token::{Confirmation, TokenClaims};

/// The phases an agent can simply enter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadPhase {
    /// With this read-only set of the catalog.
    Observe(ActionType),
    /// With the broker as its only audience.
    Decide,
}

impl ReadPhase {
    /// The phase.
    pub fn phase(&self) -> Phase {
        match self {
            Self::Observe(_) => Phase::Observe,
            Self::Decide => Phase::Decide,
        }
    }
}

/// A phase credential, on its way to its agent.
#[derive(Debug)]
pub struct PhaseGranted {
    /// The lease.
    pub lease: LeaseId,
    /// The run.
    pub run: RunId,
    /// The phase.
    pub phase: Phase,
    /// The token: of the resource (jwt), or of the broker (decide, and beside an AWS session).
    pub access_token: Secret,
    /// The AWS session, for an AWS observe set.
    pub aws: Option<AwsSession>,
    /// Useless from here on.
    pub not_after: Timestamp,
    /// Seconds from now until then.
    pub expires_in: i64,
}

/// An AWS session on its way to its agent.
#[derive(Debug)]
pub struct AwsSession {
    /// Not secret.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: Secret,
    /// Session token.
    pub session_token: Secret,
    /// Region.
    pub region: String,
}

impl Broker {
    /// Enters or renews `phase` in the agent's run, with a DPoP key that no other phase of the run has used.
    pub async fn enter_phase(
        self: &Arc<Self>,
        agent: &AgentSlug,
        id: RunId,
        phase: ReadPhase,
        key: Thumbprint,
        attestation: Attestation,
    ) -> Result<PhaseGranted, Refusal> {
        let now = self.may_issue()?;
        // INVARIANT: re-decided. The opening fails when other rules are in force by then.
        let rules = self.rules();
        if rules.directory.agent(agent).is_none() {
            return Err(Refusal::new(Code::Unauthenticated, "the agent is not in the directory any more"));
        }
        let run = self.run_of(id, Some(agent)).await?;
        if attestation < run.attestation {
            return Err(Refusal::new(
                Code::Forbidden,
                "the run was opened with a workload token; go on with one, or open another run",
            ));
        }
        let freezes = keys_of(agent, &run.environment);
        self.not_frozen(&freezes)?;
        let to = RunPhase::from(phase.phase());
        let step = moves(run.phase, to).map_err(|e| Refusal::new(Code::PhaseOrder, e.to_string()))?;
        let lease_id = LeaseId::generate(now);
        let credential = self.phase_credential(&run, &phase, lease_id, &rules)?;
        let provider = self.provider(credential.provider())?.clone();
        let prepared = provider
            .prepare(lease_id, &credential, credential.work_seconds(), now)
            .await
            .map_err(|e| Refusal::new(Code::ProviderNotReady, e.to_string()).retry_after(5))?;
        let mut lease = intent(lease_id, None, &run, agent, phase.phase(), &credential, &prepared, key, now);
        let observation = match &phase {
            ReadPhase::Decide => None,
            ReadPhase::Observe(set) => {
                lease.action = Some(set.clone());
                let trust = rules.catalog.observe_sets().get(set).map_or(Trust::Untrusted, ObserveSet::trust);
                Some(Observation::with_credential(
                    agent.clone(),
                    id,
                    set.to_string(),
                    trust,
                    lease.not_after,
                    now,
                ))
            }
        };
        let actor = Actor::Agent(agent.clone());
        let reason = if step == Move::Renew { EndReason::Renewed } else { EndReason::PhaseLeft };
        let left = self.leases_of_run(id).await?;
        let mut events = Vec::new();
        if step == Move::Enter {
            let entered = Event::new(EventKind::PhaseEntered, actor.clone(), now).run(id);
            events.push(entered.fact("from", run.phase.name()).fact("to", to.name()));
        }
        events.push(intent_event(&lease, &actor, now));
        let opening = Opening {
            prepared,
            run_from: run.phase,
            run_to: to,
            spends: None,
            ends: self.end_changes(&left, reason, &actor, now)?,
            reservations: Vec::new(),
            freezes,
            after: None,
            playbook: None,
            review: None,
            decision: None,
            observation,
            digests: rules.digests(),
            epoch: self.gate.epoch(),
            now,
            events,
            lease,
        };
        let opened = self.store.open_lease(opening).await.map_err(|e| self.open_refused(e))?;
        self.gate.committed(opened.head);
        // The rest runs to its end even when the caller hangs up.
        let (broker, requester) = (self.clone(), run.requester.to_string());
        let rest = tokio::spawn(async move {
            broker.after_ends(left, reason, now).await;
            let minting = PhaseCredential { requester, credential };
            broker.mint_phase(opened.value, minting, now).await
        });
        rest.await.map_err(|_| mint_lost())?
    }

    async fn mint_phase(
        self: Arc<Self>,
        opened: OpenedLease,
        minting: PhaseCredential,
        now: Timestamp,
    ) -> Result<PhaseGranted, Refusal> {
        self.refuse_if_stopped(opened.lease(), None, now).await?;
        let lease = opened.lease();
        let beside = match minting.credential {
            // A session whose token cannot be signed would be nobody's.
            Credential::Aws(_) => Some(self.signed_first(lease, minting.requester.clone(), now).await?),
            Credential::Jwt(_) => None,
        };
        let provider = self.provider(lease.provider)?.clone();
        let outcome = provider.mint_phase(&opened, &minting).await;
        let minted = match self.record_outcome(lease, outcome, now).await? {
            Recorded::Minted(minted) => minted,
            Recorded::Refused(refusal) => return Err(refusal),
        };
        self.metrics.issued(lease.phase, lease.provider);
        let (access_token, aws) = match minted.secret {
            CredentialSecret::Token(token) => (token, None),
            CredentialSecret::Aws { access_key_id, secret_access_key, session_token } => {
                let region = match &minting.credential {
                    Credential::Aws(aws) => aws.region.clone(),
                    Credential::Jwt(_) => String::new(),
                };
                let token = beside.ok_or_else(mint_lost)?;
                (token, Some(AwsSession { access_key_id, secret_access_key, session_token, region }))
            }
        };
        Ok(PhaseGranted {
            lease: lease.id,
            run: lease.run,
            phase: lease.phase,
            access_token,
            aws,
            not_after: lease.not_after,
            expires_in: lease.not_after.since(now).max(0),
        })
    }

    fn phase_credential(
        &self,
        run: &Run,
        phase: &ReadPhase,
        lease: LeaseId,
        rules: &Rules,
    ) -> Result<Credential, Refusal> {
        match phase {
            ReadPhase::Observe(set) => {
                catalog::observe(set, &run.environment, lease, &run.agent, &rules.catalog)
                    .map_err(|e| Refusal::new(Code::ProposalInvalid, e.to_string()))
            }
            ReadPhase::Decide => Ok(Credential::Jwt(JwtCredential {
                audience: self.settings.issuer.clone(),
                authorization_details: Vec::new(),
                work_seconds: self.settings.decide_seconds,
                revocability: Revocability::Immediate,
            })),
        }
    }

    /// The token of a lease, before anything is asked of its provider: without one nothing is minted.
    pub(super) async fn signed_first(
        &self,
        lease: &Lease,
        requester: String,
        now: Timestamp,
    ) -> Result<Secret, Refusal> {
        match self.broker_token(lease, requester, now) {
            Ok(token) => Ok(token),
            Err(refusal) => {
                let event = self.lease_event(lease, EventKind::LeaseRefused);
                self.refused(lease, event.fact("code", refusal.code.name()), now).await?;
                Err(refusal)
            }
        }
    }

    /// A token for the broker itself, bound to the lease's key and as short as the lease.
    fn broker_token(&self, lease: &Lease, requester: String, now: Timestamp) -> Result<Secret, Refusal> {
        let claims = TokenClaims {
            iss: self.settings.issuer.clone(),
            aud: self.settings.issuer.clone(),
            sub: requester,
            client_id: lease.agent.clone(),
            act: TokenClaims::actor(&lease.agent, lease.phase),
            scope: lease.phase.scope().to_owned(),
            txn: lease.run,
            jti: lease.id,
            cnf: Confirmation { jkt: lease.key },
            iat: now,
            nbf: now,
            exp: lease.not_after,
            authorization_details: Vec::new(),
        };
        self.signer.sign(&claims).map_err(|_| no_signing_key())
    }

    /// Live leases of a run, by the store.
    pub(super) async fn leases_of_run(&self, id: RunId) -> Result<Vec<Lease>, Refusal> {
        let filter = LeaseFilter { run: Some(id), open: true, ..LeaseFilter::default() };
        let leases = self.store.leases(filter).await.map_err(|e| self.gate.store_failed(&e))?;
        Ok(leases.into_iter().filter(|lease| lease.state.is_live()).collect())
    }

    /// The changes that end `leases`. UNKNOWN ones stay until their hard end; one in flight is a conflict.
    pub(super) fn end_changes(
        &self,
        leases: &[Lease],
        reason: EndReason,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<Vec<LeaseChange>, Refusal> {
        let mut changes = Vec::new();
        for lease in leases {
            match lease.state {
                LeaseState::Minted | LeaseState::Released => {
                    changes.push(self.end_change(lease, reason, None, actor, now));
                }
                LeaseState::Unknown => {}
                _ => return Err(conflict()),
            }
        }
        Ok(changes)
    }
}
