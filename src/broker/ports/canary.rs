//! The canary: one harmless call with a session's own credentials, which tells whether its provider still takes them.

use async_trait::async_trait;

use super::provider::CredentialSecret;

/// Where the call goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanaryPlace {
    /// `aws`, `aws-cn`, `aws-us-gov`, `aws-eusc`.
    pub partition: String,
    /// The region of the endpoint.
    pub region: String,
}

/// What the provider said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CanaryOutcome {
    /// The session may act.
    Allowed,
    /// Policy says no, with the provider's error code. An expired or unknown key is none.
    Denied(String),
    /// It was not reached, or answered neither; the reason, without secrets.
    Unreachable(String),
}

/// Makes the call.
#[async_trait]
pub trait CanaryCall: Send + Sync {
    /// Asks once, with bounded patience.
    async fn call(&self, session: &CredentialSecret, place: &CanaryPlace) -> CanaryOutcome;
}
