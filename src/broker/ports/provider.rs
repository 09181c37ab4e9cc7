//! Providers: mint and revoke credentials of one kind.

use std::sync::Arc;

use async_trait::async_trait;

use super::canary::CanaryCall;
use crate::domain::authority::Authority;
use crate::domain::id::LeaseId;
use crate::domain::lease::{Lease, OpenedLease, Prepared};
use crate::domain::plan::{Credential, ProviderKind};
use crate::domain::principal::ActionType;
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;

/// The secret part of what a provider minted.
#[derive(Debug)]
pub enum CredentialSecret {
    /// A DPoP-bound access token.
    Token(Secret),
    /// An STS session.
    Aws {
        /// Not secret; CloudTrail's join key.
        access_key_id: String,
        /// Secret access key.
        secret_access_key: Secret,
        /// Session token.
        session_token: Secret,
    },
}

/// What a provider minted.
#[derive(Debug)]
pub struct Minted {
    /// The provider's own name for it; never a secret.
    pub reference: String,
    /// The secret.
    pub secret: CredentialSecret,
    /// Percent of the packed policy size, where the provider tells.
    pub packed_policy_percent: Option<u32>,
}

/// How much of the packed policy size an action type took when it was last measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedSize {
    /// The action type, or the observe set.
    pub action: ActionType,
    /// Percent; more than 100 is refused.
    pub percent: u32,
    /// When.
    pub at: Timestamp,
}

/// What came of a mint.
#[derive(Debug)]
pub enum MintOutcome {
    /// A credential exists and is here.
    Minted(Minted),
    /// Certainly nothing was minted; the grant may be tried again.
    Refused {
        /// The provider's error code.
        code: String,
        /// What to do; never a secret.
        message: String,
        /// Seconds after which another try makes sense, for throttling and outages.
        retry_after: Option<u32>,
        /// Whether the same request is refused whenever it is sent: then the grant is good for nothing.
        for_good: bool,
    },
    /// Nobody knows; treated as existing.
    Unknown {
        /// Why.
        message: String,
    },
}

/// What an observe or decide credential is made of. It names no action, and nothing of execute can be made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseCredential {
    /// The subject the token or session is about, in `act.sub`.
    pub requester: String,
    /// The exact request.
    pub credential: Credential,
}

/// A provider took an early end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked {
    /// When it was done.
    pub at: Timestamp,
    /// By when it is in force everywhere.
    pub effective_by: Timestamp,
}

/// The provider cannot mint now, and was not asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotReady(pub String);

/// An early end failed; it will be tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RevokeFailed(pub String);

/// What became of one attempt to bring a role's Deny policy about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenyFate {
    /// It is read back as it should be.
    Right,
    /// The provider takes no more calls for now.
    Throttled,
    /// Anything else.
    Failed,
}

impl DenyFate {
    /// Every fate.
    pub const ALL: [DenyFate; 3] = [Self::Right, Self::Throttled, Self::Failed];

    /// The spelling used everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Throttled => "throttled",
            Self::Failed => "failed",
        }
    }
}

/// Hears from a provider what no single lease is about. It never blocks, and never fails the caller.
pub trait ProviderWatch: std::fmt::Debug + Send + Sync {
    /// One attempt at the Deny policy of a role. `crowded` says that the revoked leases no longer fit by name, so that a
    /// watermark stands for them.
    fn deny_policy(&self, role: &str, fate: DenyFate, crowded: bool);
    /// Nothing is to be denied on the role any more, or nothing can be: it is not looked at until somebody asks again.
    fn deny_policy_idle(&self, role: &str);
}

/// Mints and revokes credentials of one kind.
#[async_trait]
pub trait CredentialProvider: Send + Sync {
    /// Which kind.
    fn kind(&self) -> ProviderKind;
    /// Makes the exact text that will be sent, with its deadline; no secret, no side effect at the provider
    /// (it may ask the provider for its clock).
    async fn prepare(
        &self,
        lease: LeaseId,
        credential: &Credential,
        work_seconds: u32,
        now: Timestamp,
    ) -> Result<Prepared, NotReady>;
    /// Mints the execute credential of an opened lease under its authority. Called once per lease, never retried.
    async fn mint_execute(&self, opened: &OpenedLease, authority: &Authority) -> MintOutcome;
    /// Mints an observe or decide credential.
    async fn mint_phase(&self, opened: &OpenedLease, credential: &PhaseCredential) -> MintOutcome;
    /// Ends a credential before its time. May be called again for the same lease.
    async fn revoke(&self, lease: &Lease, now: Timestamp) -> Result<Revoked, RevokeFailed>;
    /// Who asks with a session whether it still works; nobody where the record of its end decides that.
    fn canary(&self) -> Option<Arc<dyn CanaryCall>> {
        None
    }
}
