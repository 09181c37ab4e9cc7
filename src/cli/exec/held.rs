//! The credential that exec holds for its child, and where the next one comes from.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::broker::ports::Clock;
use crate::cli::agent::{
    AgentClient, AgentError, AwsSession, Claimed, Enter, ExecuteCredential, PhaseKey, PhaseToken,
};
use crate::domain::id::RunId;
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;

/// Seconds before its end at which an observe credential is renewed: SDKs ask again ten seconds before.
const RENEW_WITHIN_SECONDS: i64 = 15;

/// A credential with its deadline and its key.
pub enum Held {
    /// Of an execute lease.
    Execute(Arc<Claimed>, Arc<PhaseKey>),
    /// Of an observe phase.
    Observe(PhaseToken, Arc<PhaseKey>),
}

/// What kind it is.
pub enum Credential<'a> {
    /// An AWS session.
    Aws(&'a AwsSession),
    /// An access token, good only with proofs by its key.
    Token {
        /// The token.
        access_token: &'a Secret,
        /// The one resource that takes it, where known.
        audience: Option<&'a str>,
        /// The key it is bound to.
        key: &'a PhaseKey,
    },
}

impl Held {
    /// The secret part.
    pub fn credential(&self) -> Credential<'_> {
        match self {
            Self::Execute(claimed, key) => match &claimed.credential {
                ExecuteCredential::Aws(session) => Credential::Aws(session),
                ExecuteCredential::Token { access_token, audience } => {
                    Credential::Token { access_token, audience: Some(audience), key }
                }
            },
            Self::Observe(token, key) => match &token.aws {
                Some(session) => Credential::Aws(session),
                None => Credential::Token { access_token: &token.access_token, audience: None, key },
            },
        }
    }

    /// Useless from here on; what SDKs are told as its end.
    pub fn not_after(&self) -> Timestamp {
        match self {
            Self::Execute(claimed, _) => claimed.not_after,
            Self::Observe(token, _) => token.not_after,
        }
    }
}

/// Where the child's credential comes from, each time it asks.
#[async_trait]
pub trait Source: Send + Sync {
    /// The credential to hand out now, or a sentence that says why there is none.
    async fn current(&self) -> Result<Arc<Held>, String>;
}

/// The credential of an execute lease: always the same one, never renewed.
pub struct Fixed(pub Arc<Held>);

#[async_trait]
impl Source for Fixed {
    async fn current(&self) -> Result<Arc<Held>, String> {
        Ok(self.0.clone())
    }
}

/// The credential of an observe phase, renewed when a child asks near its end.
/// Not earlier: renewing ends the credential before, which a child may still hold.
pub struct Observing {
    client: Arc<AgentClient>,
    clock: Arc<dyn Clock>,
    run: RunId,
    set: String,
    key: Arc<PhaseKey>,
    current: Mutex<Arc<Held>>,
}

impl Observing {
    /// Enters the observe phase of `run`.
    pub async fn enter(
        client: Arc<AgentClient>,
        clock: Arc<dyn Clock>,
        run: RunId,
        set: &str,
    ) -> Result<Self, AgentError> {
        let key = Arc::new(PhaseKey::generate()?);
        let first = Held::Observe(client.enter(run, Enter::Observe(set), &key).await?, key.clone());
        Ok(Self { client, clock, run, set: set.to_owned(), key, current: Mutex::new(Arc::new(first)) })
    }

    /// The credential as it is, without renewing it.
    pub async fn now(&self) -> Arc<Held> {
        self.current.lock().await.clone()
    }
}

#[async_trait]
impl Source for Observing {
    async fn current(&self) -> Result<Arc<Held>, String> {
        let mut current = self.current.lock().await;
        if current.not_after().since(self.clock.wall()) <= RENEW_WITHIN_SECONDS {
            let next = self.client.enter(self.run, Enter::Observe(&self.set), &self.key).await;
            *current = Arc::new(Held::Observe(next.map_err(|error| error.to_string())?, self.key.clone()));
        }
        Ok(current.clone())
    }
}
