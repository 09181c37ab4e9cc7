//! Who is calling: each scheme turns what a caller presents into a principal, or says why not.
//! Reads no clock and decides nothing about permission; only [`jwks`] does I/O.
//! SECURITY: algorithms and keys come from the directory or the configuration, never from the token (RFC 8725).

pub mod agent;
pub mod assertion;
pub mod dpop;
#[cfg(test)]
mod fixture;
pub mod jwks;
pub mod person;
pub mod replay;
pub mod resource;
pub mod token;
pub mod transmitter;

use std::collections::BTreeMap;

use crate::domain::principal::{Actor, AgentSlug, PersonSlug};
use crate::domain::time::Timestamp;

use dpop::Nonces;
use jwks::{Issuer, IssuerSettings, JwksError};
use replay::{Burn, ReplayError, ReplayGuard};
use resource::ResourceServer;
use transmitter::Transmitters;

/// How far ahead of the broker's clock an `iat` or `nbf` may lie, in seconds.
pub const CLOCK_SKEW_SECONDS: i64 = 5;

/// How old a DPoP proof or a person's assertion may be, in seconds.
pub const FRESH_SECONDS: i64 = 60;

/// Makes aws-lc the back end of the JWT library. Called first in `main`; calling it again does nothing.
pub fn install_crypto() {
    // With a second back end switched on by some dependency the library would panic at its first use.
    let _already = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}

/// Why nobody, or not the right one, is calling. The text is public and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthnError {
    /// Not authenticated (401).
    #[error("{why}")]
    Unauthenticated {
        /// What is wrong and what to do.
        why: String,
        /// Who it was, when a signature of theirs verified.
        caller: Option<Actor>,
        /// Whose enrolled key was named, when the signature did not verify: proves nothing about the sender.
        named: Option<Actor>,
    },
    /// The DPoP proof is missing or wrong (RFC 9449 section 5: `invalid_dpop_proof`).
    #[error("the DPoP proof is refused: {why}")]
    InvalidDpopProof {
        /// What is wrong and what to do.
        why: String,
        /// Who it was, when a login stood before the proof.
        caller: Option<Actor>,
    },
    /// The proof must carry this nonce (RFC 9449 section 8: `use_dpop_nonce`).
    #[error("make a new DPoP proof with the nonce of the `DPoP-Nonce` header")]
    UseDpopNonce {
        /// Value of the `DPoP-Nonce` header; good once, for 60 seconds, for the same key.
        nonce: String,
    },
    /// It cannot be decided now (503).
    #[error("{why}")]
    Unavailable {
        /// What is wrong and what to do.
        why: String,
    },
}

impl AuthnError {
    /// The agent, when it is certain which one this was: its failed login deserves a record.
    pub fn known_agent(&self) -> Option<&AgentSlug> {
        match self {
            Self::Unauthenticated { caller: Some(Actor::Agent(slug)), .. }
            | Self::InvalidDpopProof { caller: Some(Actor::Agent(slug)), .. } => Some(slug),
            _ => None,
        }
    }

    /// The person, when it is certain which one this was.
    pub fn known_person(&self) -> Option<&PersonSlug> {
        match self {
            Self::Unauthenticated { caller: Some(Actor::Person(slug)), .. } => Some(slug),
            _ => None,
        }
    }

    /// The same error, of a caller whose signature verified.
    pub fn of(mut self, actor: Actor) -> Self {
        if let Self::Unauthenticated { caller, .. } | Self::InvalidDpopProof { caller, .. } = &mut self {
            *caller = Some(actor);
        }
        self
    }

    /// The same error, of somebody who named this caller's key and did not prove to hold it.
    fn naming(mut self, actor: Actor) -> Self {
        if let Self::Unauthenticated { named, .. } = &mut self {
            *named = Some(actor);
        }
        self
    }

    fn refused(why: impl Into<String>) -> Self {
        Self::Unauthenticated { why: why.into(), caller: None, named: None }
    }

    fn proof(why: impl Into<String>) -> Self {
        Self::InvalidDpopProof { why: why.into(), caller: None }
    }

    fn burn(error: ReplayError) -> Self {
        match error {
            ReplayError::Full => Self::Unavailable { why: error.to_string() },
            _ => Self::refused(error.to_string()),
        }
    }
}

/// What the schemes need, resolved from the configuration once.
pub struct Settings {
    /// The broker's issuer URL, without a trailing slash.
    pub issuer: String,
    /// Issuers of workload tokens.
    pub issuers: Vec<IssuerSettings>,
    /// Resource servers that may introspect.
    pub resources: Vec<ResourceServer>,
    /// Configuration marked `dev`: JWKS over plain http is then allowed from loopback.
    pub dev: bool,
    /// When this process started: what was signed earlier may have been used before a restart.
    pub started_at: Timestamp,
}

/// The schemes and what they remember. One per process.
pub struct Authn {
    issuer: String,
    issuers: BTreeMap<String, Issuer>,
    resources: Vec<ResourceServer>,
    guard: ReplayGuard,
    nonces: Nonces,
    transmitters: Transmitters,
}

impl Authn {
    /// From the configuration; reads the JWKS files, and fetches nothing.
    pub fn new(settings: Settings) -> Result<Self, JwksError> {
        install_crypto();
        let mut issuers = BTreeMap::new();
        for issuer in settings.issuers {
            let name = issuer.issuer.clone();
            if issuers.insert(name.clone(), Issuer::new(issuer, settings.dev)?).is_some() {
                return Err(JwksError::Settings(format!("issuer `{name}` is configured twice")));
            }
        }
        Ok(Self {
            issuer: settings.issuer,
            issuers,
            resources: settings.resources,
            guard: ReplayGuard::new(settings.started_at),
            nonces: Nonces::default(),
            transmitters: Transmitters::default(),
        })
    }

    /// The broker's issuer URL.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Reads the JWKS files again; on a mistake every issuer keeps the keys it has.
    pub fn reload(&self) -> Result<(), JwksError> {
        let mut read = Vec::new();
        for issuer in self.issuers.values().chain(self.transmitters.issuers()) {
            read.push((issuer, issuer.read_file()?));
        }
        for (issuer, keys) in read {
            issuer.replace(keys);
        }
        Ok(())
    }

    /// Marks something signed as used; the second use is refused.
    fn burn(&self, burn: &Burn<'_>, now: Timestamp) -> Result<(), AuthnError> {
        self.guard.burn(burn, now).map_err(AuthnError::burn)
    }
}

/// Whether `claimed` is the URL `expected`, query and fragment aside, after the normalisation of RFC 3986 section 6.2.
fn same_target(claimed: &str, expected: &str) -> bool {
    let target = |text: &str| {
        let mut url = reqwest::Url::parse(text).ok()?;
        url.set_query(None);
        url.set_fragment(None);
        Some(url)
    };
    matches!((target(claimed), target(expected)), (Some(a), Some(b)) if a == b)
}

/// `iat` is neither from the future nor older than `FRESH_SECONDS`.
fn is_fresh(iat: Timestamp, now: Timestamp) -> bool {
    (-CLOCK_SKEW_SECONDS..=FRESH_SECONDS).contains(&now.since(iat))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_compared_without_query_and_with_everything_else() {
        assert!(same_target("https://b/v1/runs?x=1#y", "https://b/v1/runs"));
        assert!(same_target("https://B:443/v1/runs", "https://b/v1/runs"));
        for other in [
            "http://b/v1/runs",
            "https://b/v1/run",
            "https://b/v1/runs/",
            "https://c/v1/runs",
            "/v1/runs",
            "",
        ] {
            assert!(!same_target(other, "https://b/v1/runs"), "{other}");
        }
    }

    #[test]
    fn only_a_caller_whose_signature_verified_is_known() {
        let refused = AuthnError::refused("no");
        assert_eq!(refused.known_agent(), None);
        let bot: AgentSlug = "bot".parse().unwrap();
        assert_eq!(refused.of(Actor::Agent(bot.clone())).known_agent(), Some(&bot));
    }
}
