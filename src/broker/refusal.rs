//! Why the broker says no: one stable code each, the text a caller may see, and nothing internal.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// Stable machine codes of refusals; `http` maps each to a status.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[$doc])* $name),+
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[$(Self::$name),+];

            /// The spelling used everywhere.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text),+
                }
            }
        }
    };
}

codes! {
    /// The request does not parse or fit its schema.
    BadRequest = "bad_request",
    /// Nobody is authenticated.
    Unauthenticated = "unauthenticated",
    /// The DPoP proof is missing or wrong.
    InvalidDpopProof = "invalid_dpop_proof",
    /// Whether the caller is who they say cannot be checked now.
    CannotVerify = "cannot_verify",
    /// The proof must carry a nonce of ours.
    UseDpopNonce = "use_dpop_nonce",
    /// The caller is known and may not do this.
    Forbidden = "forbidden",
    /// Not there, or not the caller's to know.
    NotFound = "not_found",
    /// The move is not in the table of phases.
    PhaseOrder = "phase_order",
    /// The key was used in another phase, or is reserved for a claim.
    KeyReused = "key_reused",
    /// The agent already executes.
    AgentExecuting = "agent_executing",
    /// An earlier credential of the run is still usable.
    EarlierCredentialAlive = "earlier_credential_alive",
    /// The proposal does not compile.
    ProposalInvalid = "proposal_invalid",
    /// Policy says no.
    PolicyDenied = "policy_denied",
    /// The answer exists in the schema but not yet in this broker.
    NotEnabled = "not_enabled",
    /// Too many open proposals.
    TooManyOpen = "too_many_open",
    /// The approval token does not count.
    ApprovalInvalid = "approval_invalid",
    /// The person may not sign this.
    ApproverIneligible = "approver_ineligible",
    /// The same person or token has answered already.
    AlreadyAnswered = "already_answered",
    /// The rule is not complete.
    ApprovalsMissing = "approvals_missing",
    /// The grant is not in a state that allows this.
    GrantNotOpen = "grant_not_open",
    /// The grant has been used.
    GrantSpent = "grant_spent",
    /// Its time ran out.
    GrantExpired = "grant_expired",
    /// Another epoch, broker or environment.
    GrantForeign = "grant_foreign",
    /// Another agent or key than the grant names.
    WrongClaimant = "wrong_claimant",
    /// The plan compiles differently today.
    PlanChanged = "plan_changed",
    /// A precondition cannot be checked or does not hold.
    PreconditionFailed = "precondition_failed",
    /// Something changed meanwhile; read again.
    Conflict = "conflict",
    /// A limit is used up.
    LimitReached = "limit_reached",
    /// A freeze is in force.
    Frozen = "frozen",
    /// The provider refused; the grant is unspent.
    ProviderRefused = "provider_refused",
    /// The provider cannot be asked now; the grant is unspent.
    ProviderNotReady = "provider_not_ready",
    /// Nobody knows whether the provider minted; the grant is spent.
    MintUnknown = "mint_unknown",
    /// The reply is not held any more; the lease is revoked, the grant spent.
    CredentialLost = "credential_lost",
    /// The lease is over.
    LeaseEnded = "lease_ended",
    /// The store cannot record, or cannot be read.
    StoreUnavailable = "store_unavailable",
    /// The store is behind the head kept outside it; `store fence` is needed.
    FenceNeeded = "fence_needed",
    /// The recorded ledger is not what was recorded; a backup is needed.
    LedgerDamaged = "ledger_damaged",
    /// Too few witnesses have seen the ledger for too long.
    WitnessesMissing = "witnesses_missing",
    /// The log's key is away, or has signed nothing for too long.
    LogUnsigned = "log_unsigned",
    /// No key is there to sign tokens with.
    NoSigningKey = "no_signing_key",
    /// The clock stands far behind the ledger or off from AWS's; issuance stops.
    ClockUntrusted = "clock_untrusted",
    /// The new policy, catalog or directory cannot be put in force; the old one stays.
    RulesInvalid = "rules_invalid",
    /// The broker is shutting down.
    ShuttingDown = "shutting_down",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A refusal: a code, and one sentence that says what to do. The sentence is public.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// The stable code.
    pub code: Code,
    /// What happened and what to do; holds no secret and no internal text.
    pub message: String,
    /// Seconds after which another try makes sense.
    pub retry_after: Option<u32>,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    /// Another try makes sense after so many seconds.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}
