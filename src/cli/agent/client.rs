//! The calls of an agent, in the order of a run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::RequestBuilder;
use serde_json::json;

use super::error::AgentError;
use super::login::Login;
use super::proof::PhaseKey;
use super::transport::{Answer, Exchanged, PATIENCE, Transport};
use super::wire::{Claimed, PhaseToken};
use crate::broker::end::Complete;
use crate::broker::grants::GrantStatus;
use crate::broker::ports::Clock;
use crate::broker::propose::Proposed;
use crate::broker::runs::{ClosedRun, OpenRun, OpenedRun, RunView};
use crate::broker::steps::{Step, StepTaken};
use crate::broker::views::EndView;
use crate::domain::digest::Digest;
use crate::domain::id::{GrantId, LeaseId, RunId};
use crate::domain::phase::Phase;
use crate::domain::proposal::Proposal;
use crate::domain::secret::Secret;

/// RFC 7523 section 2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Longest wait that one poll may ask for, in seconds.
const MAX_WAIT_SECONDS: u32 = 60;

/// Where the broker is and who calls it.
#[derive(Debug)]
pub struct AgentSettings {
    /// Where requests go.
    pub broker: String,
    /// The issuer that logins and proofs name.
    pub issuer: String,
    /// Who calls.
    pub login: Login,
    /// PEM file of a certificate authority to trust beside the system's.
    pub ca: Option<PathBuf>,
}

/// Which phase to enter, or to renew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enter<'a> {
    /// Observe with the named read-only set.
    Observe(&'a str),
    /// Decide.
    Decide,
}

/// An agent at a broker.
pub struct AgentClient {
    transport: Transport,
    issuer: String,
    login: Login,
    clock: Arc<dyn Clock>,
    /// Proves calls that belong to no phase; a claim key must not be used for them.
    desk: PhaseKey,
}

/// How a call proves itself.
enum Proves<'a> {
    /// Client assertion and DPoP.
    Login(&'a PhaseKey),
    /// An access token bound to the key.
    Token(&'a Secret, &'a PhaseKey),
}

impl AgentClient {
    /// An agent that will call as `settings` say.
    pub fn new(settings: AgentSettings, clock: Arc<dyn Clock>) -> Result<Self, AgentError> {
        let ca = match &settings.ca {
            None => None,
            Some(path) => Some(std::fs::read(path).map_err(|error| {
                AgentError::Login(format!("cannot read the CA file {}: {error}", path.display()))
            })?),
        };
        Ok(Self {
            transport: Transport::new(&settings.broker, ca.as_deref())?,
            issuer: settings.issuer.trim_end_matches('/').to_owned(),
            login: settings.login,
            clock,
            desk: PhaseKey::generate()?,
        })
    }

    /// The issuer.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Where the broker is.
    pub fn broker(&self) -> &str {
        self.transport.base()
    }

    /// Opens a run.
    pub async fn open_run(&self, asked: &OpenRun) -> Result<OpenedRun, AgentError> {
        let request = self.transport.post("/v1/runs").json(asked);
        self.call(request, "POST", "/v1/runs", Proves::Login(&self.desk)).await?.read()
    }

    /// A run of this agent.
    pub async fn run(&self, run: RunId) -> Result<RunView, AgentError> {
        let path = format!("/v1/runs/{run}");
        self.call(self.transport.get(&path), "GET", &path, Proves::Login(&self.desk)).await?.read()
    }

    /// Tells of one step of a run.
    pub async fn record_step(&self, run: RunId, step: &Step) -> Result<StepTaken, AgentError> {
        let path = format!("/v1/runs/{run}/steps");
        let request = self.transport.post(&path).json(step);
        self.call(request, "POST", &path, Proves::Login(&self.desk)).await?.read()
    }

    /// Closes a run; what it still holds is ended.
    pub async fn close_run(&self, run: RunId) -> Result<ClosedRun, AgentError> {
        let path = format!("/v1/runs/{run}/close");
        self.call(self.transport.post(&path), "POST", &path, Proves::Login(&self.desk)).await?.read()
    }

    /// Enters or renews a phase with `key`, which no other phase has used.
    pub async fn enter(
        &self,
        run: RunId,
        phase: Enter<'_>,
        key: &PhaseKey,
    ) -> Result<PhaseToken, AgentError> {
        let assertion = self.login.assertion(&self.issuer, self.clock.wall())?;
        let run = run.to_string();
        let mut form = vec![
            ("grant_type", "client_credentials"),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", assertion.expose()),
            ("run", &run),
        ];
        match phase {
            Enter::Observe(set) => form.extend([("scope", Phase::Observe.scope()), ("resource", set)]),
            Enter::Decide => form.push(("scope", Phase::Decide.scope())),
        }
        let proof = self.proof("POST", "/token", None, None, key)?;
        let request = self.transport.post("/token").header("DPoP", proof).form(&form);
        done(self.transport.exchange(request).await?)?.read()
    }

    /// Proposes while deciding.
    pub async fn propose(
        &self,
        token: &PhaseToken,
        key: &PhaseKey,
        proposal: &Proposal,
    ) -> Result<Proposed, AgentError> {
        let request = self.transport.post("/v1/proposals").json(proposal);
        let proves = Proves::Token(&token.access_token, key);
        self.call(request, "POST", "/v1/proposals", proves).await?.read()
    }

    /// Where a grant stands; the broker answers when that changes, or after `wait_seconds` (at most 60).
    pub async fn grant(&self, grant: GrantId, wait_seconds: u32) -> Result<GrantStatus, AgentError> {
        let wait = wait_seconds.min(MAX_WAIT_SECONDS);
        let path = format!("/v1/grants/{grant}");
        let request = self
            .transport
            .get(&format!("{path}?wait={wait}"))
            .timeout(PATIENCE + Duration::from_secs(u64::from(wait)));
        let answer = self.call(request, "GET", &path, Proves::Login(&self.desk)).await?;
        if let Some(pause) = answer.pause {
            // Too many wait there already: wait here, so that nobody asks without a pause.
            tokio::time::sleep(pause.min(Duration::from_secs(u64::from(wait)))).await;
        }
        answer.read()
    }

    /// Stops asking.
    pub async fn cancel_grant(&self, grant: GrantId) -> Result<(), AgentError> {
        let path = format!("/v1/grants/{grant}/cancel");
        self.call(self.transport.post(&path), "POST", &path, Proves::Login(&self.desk)).await.map(drop)
    }

    /// Claims an approved grant, once; `plan` is the digest of the external plan it binds. After a lost reply ask
    /// [`AgentClient::recall`].
    pub async fn claim(
        &self,
        grant: GrantId,
        key: &PhaseKey,
        approvals: &[String],
        plan: Option<Digest>,
    ) -> Result<Claimed, AgentError> {
        let path = format!("/v1/grants/{grant}/claim");
        let mut body = json!({ "approvals": approvals });
        if let (Some(plan), Some(members)) = (plan, body.as_object_mut()) {
            members.insert("plan_digest".into(), json!(plan));
        }
        let request = self.transport.post(&path).json(&body);
        self.call(request, "POST", &path, Proves::Login(key)).await?.read()
    }

    /// Asks for a lost claim reply again: a first call fetches the nonce that the second one proves.
    pub async fn recall(&self, lease: LeaseId, key: &PhaseKey) -> Result<Claimed, AgentError> {
        let path = format!("/v1/leases/{lease}/recall");
        let first = self.prove(self.transport.post(&path), "POST", &path, Proves::Login(key), None)?;
        let nonce = match self.transport.exchange(first).await? {
            Exchanged::Done(answer) => return answer.read(),
            Exchanged::NonceWanted(nonce) => nonce,
        };
        let second =
            self.prove(self.transport.post(&path), "POST", &path, Proves::Login(key), Some(&nonce))?;
        done(self.transport.exchange(second).await?)?.read()
    }

    /// Claims, and asks again for a lost reply until it is certain what happened: a lease that does not exist was
    /// never opened, so the grant is unspent and may be claimed again.
    pub async fn claim_or_recall(
        &self,
        grant: GrantId,
        lease: LeaseId,
        key: &PhaseKey,
        approvals: &[String],
        plan: Option<Digest>,
    ) -> Result<Claimed, AgentError> {
        let give_up = self.clock.since_boot().saturating_add(RECALL_SECONDS);
        loop {
            let lost = match self.claim(grant, key, approvals, plan).await {
                Err(error) if error.is_lost_reply() => error,
                certain => return certain,
            };
            loop {
                if self.clock.since_boot() >= give_up {
                    return Err(lost);
                }
                tokio::time::sleep(RECALL_PAUSE).await;
                match self.recall(lease, key).await {
                    Err(error) if error.is_lost_reply() => {}
                    // The broker is still at it.
                    Err(error) if error.code() == Some("conflict") => {}
                    // The claim may still be on its way to the broker: its own transaction decides which one wins.
                    Err(error) if error.code() == Some("not_found") => break,
                    certain => return certain,
                }
            }
        }
    }

    /// Ends the lease with an outcome.
    pub async fn complete(
        &self,
        claimed: &Claimed,
        key: &PhaseKey,
        outcome: &Complete,
    ) -> Result<EndView, AgentError> {
        let path = format!("/v1/leases/{}/complete", claimed.lease);
        let request = self.transport.post(&path).json(outcome);
        self.call(request, "POST", &path, Proves::Token(&claimed.execute_token, key)).await?.read()
    }

    /// Ends the lease without having used it.
    pub async fn cancel_lease(&self, claimed: &Claimed, key: &PhaseKey) -> Result<EndView, AgentError> {
        let path = format!("/v1/leases/{}/cancel", claimed.lease);
        let proves = Proves::Token(&claimed.execute_token, key);
        self.call(self.transport.post(&path), "POST", &path, proves).await?.read()
    }

    async fn call(
        &self,
        request: RequestBuilder,
        method: &str,
        path: &str,
        proves: Proves<'_>,
    ) -> Result<Answer, AgentError> {
        done(self.transport.exchange(self.prove(request, method, path, proves, None)?).await?)
    }

    fn prove(
        &self,
        request: RequestBuilder,
        method: &str,
        path: &str,
        proves: Proves<'_>,
        nonce: Option<&str>,
    ) -> Result<RequestBuilder, AgentError> {
        match proves {
            Proves::Login(key) => {
                let assertion = self.login.assertion(&self.issuer, self.clock.wall())?;
                let proof = self.proof(method, path, None, nonce, key)?;
                Ok(request.header("Client-Assertion", assertion.expose()).header("DPoP", proof))
            }
            Proves::Token(token, key) => {
                let proof = self.proof(method, path, Some(token), nonce, key)?;
                Ok(request.header("Authorization", format!("DPoP {}", token.expose())).header("DPoP", proof))
            }
        }
    }

    fn proof(
        &self,
        method: &str,
        path: &str,
        token: Option<&Secret>,
        nonce: Option<&str>,
        key: &PhaseKey,
    ) -> Result<String, AgentError> {
        let url = format!("{}{path}", self.issuer);
        key.proof(method, &url, token.map(Secret::expose), nonce, self.clock.wall())
    }
}

/// How long a lost reply is asked for again: as long as the broker holds it.
const RECALL_SECONDS: i64 = 60;
const RECALL_PAUSE: Duration = Duration::from_millis(500);

fn done(exchanged: Exchanged) -> Result<Answer, AgentError> {
    match exchanged {
        Exchanged::Done(answer) => Ok(answer),
        Exchanged::NonceWanted(_) => {
            Err(AgentError::Unreadable("the broker asks for a nonce where none is due".into()))
        }
    }
}
