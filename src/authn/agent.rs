//! Agents: a client assertion by a registered key (RFC 7523), or a workload token of a configured issuer.
//! Either says who; the DPoP proof beside it says that the caller holds a key now.

use serde::Deserialize;

use super::assertion::{Assertion, Audience, check_times};
use super::{Authn, AuthnError};
use crate::domain::directory::Directory;
use crate::domain::key::Thumbprint;
use crate::domain::principal::{Actor, AgentSlug};
use crate::domain::time::Timestamp;

/// How an agent proved who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginMethod {
    /// By the registered key of this thumbprint, which is never to be used as a DPoP key as well.
    RegisteredKey(Thumbprint),
    /// By a token of a configured issuer.
    Workload {
        /// `iss`.
        issuer: String,
        /// `sub`.
        subject: String,
    },
}

/// An agent that proved who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentLogin {
    /// Who.
    pub agent: AgentSlug,
    /// How.
    pub method: LoginMethod,
}

/// What counts in a workload token; issuers add much else.
#[derive(Deserialize)]
struct WorkloadClaims {
    iss: String,
    sub: String,
    aud: Audience,
    iat: Timestamp,
    exp: Timestamp,
    #[serde(default)]
    nbf: Option<Timestamp>,
}

impl Authn {
    /// Checks an agent's assertion. One by a registered key is used up; a workload token may come again, since
    /// platforms issue one for many calls, and the proof beside it is fresh each time.
    pub async fn agent_login(
        &self,
        assertion: &str,
        directory: &Directory,
        now: Timestamp,
    ) -> Result<AgentLogin, AuthnError> {
        let parsed = Assertion::parse(assertion)?;
        let kid = parsed.kid().parse::<Thumbprint>().ok();
        match kid.and_then(|kid| Some((kid, directory.agent_by_key(&kid)?))) {
            Some((kid, (agent, key))) => {
                parsed.verify_registered(key)?;
                let caller = |error: AuthnError| error.of(Actor::Agent(agent.clone()));
                let audiences = [self.issuer.clone(), format!("{}/token", self.issuer)];
                let claims = parsed.client_claims(agent.as_str(), &audiences, now).map_err(caller)?;
                self.burn(&claims.burn(agent.as_str()), now).map_err(caller)?;
                Ok(AgentLogin { agent: agent.clone(), method: LoginMethod::RegisteredKey(kid) })
            }
            None => self.workload_login(&parsed, directory, now).await,
        }
    }

    async fn workload_login(
        &self,
        parsed: &Assertion<'_>,
        directory: &Directory,
        now: Timestamp,
    ) -> Result<AgentLogin, AuthnError> {
        // SECURITY: the issuer is matched exactly and only chooses among configured ones.
        let issuer = parsed.peek_issuer().and_then(|name| self.issuers.get(name)).ok_or_else(|| {
            AuthnError::refused(
                "the assertion names neither a registered agent key (`kid`) nor a configured issuer (`iss`)",
            )
        })?;
        if !parsed.has_typ(&["JWT", "JOSE"]) {
            return Err(AuthnError::refused("`typ` of a workload token must be absent, JWT or JOSE"));
        }
        let key = issuer.key(parsed.kid(), parsed.algorithm(), now).await?;
        parsed.verify_signature(&key)?;
        let claims: WorkloadClaims = parsed.claims()?;
        let known = directory.agent_by_workload(&claims.iss, &claims.sub);
        let agent = known.ok_or_else(|| {
            AuthnError::refused(
                "this workload is no agent of the directory; its issuer and subject must match exactly",
            )
        })?;
        let caller = |error: AuthnError| error.of(Actor::Agent(agent.clone()));
        if !claims.aud.all().iter().any(|aud| aud == issuer.audience()) {
            return Err(caller(AuthnError::refused("`aud` of the workload token must name this broker")));
        }
        check_times(claims.iat, claims.nbf, claims.exp, issuer.longest_life(), now).map_err(caller)?;
        Ok(AgentLogin {
            agent: agent.clone(),
            method: LoginMethod::Workload { issuer: claims.iss, subject: claims.sub },
        })
    }
}
