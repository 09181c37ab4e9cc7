//! Tokens the broker signs: phase tokens (RFC 9068) and the execute token of a lease. One audience, one phase, one key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::id::{LeaseId, RunId};
use super::jws::{self, JwsError, KeyHeader, Unverified};
use super::key::{PublicKey, SigningKey, Thumbprint};
use super::key_ring::{KeyRing, PublishedKey};
use super::phase::Phase;
use super::plan::AuthorizationDetail;
use super::principal::AgentSlug;
use super::secret::Secret;
use super::security_event::{SET_TYP, SetClaims};
use super::time::Timestamp;

/// The `typ` of every token of ours (RFC 9068 section 2.1).
pub const ACCESS_TOKEN_TYP: &str = "at+jwt";

/// `cnf`: the DPoP key a token is bound to (RFC 9449 section 6.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// RFC 7638 thumbprint.
    pub jkt: Thumbprint,
}

/// `act`: the phase principal (RFC 8693 section 4.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActorClaim {
    /// `<agent>/<phase>`.
    pub sub: String,
}

/// Claims of a phase token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenClaims {
    /// The broker.
    pub iss: String,
    /// The one resource.
    pub aud: String,
    /// On whose behalf.
    pub sub: String,
    /// The agent.
    pub client_id: AgentSlug,
    /// The phase principal.
    pub act: ActorClaim,
    /// Exactly one phase.
    pub scope: String,
    /// The run.
    pub txn: RunId,
    /// The lease.
    pub jti: LeaseId,
    /// The DPoP key.
    pub cnf: Confirmation,
    /// Issued at.
    pub iat: Timestamp,
    /// Not before.
    pub nbf: Timestamp,
    /// Useless from here on.
    pub exp: Timestamp,
    /// For execute, exactly one element (RFC 9396).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorization_details: Vec<AuthorizationDetail>,
}

impl TokenClaims {
    /// `act.sub` of an agent in a phase.
    pub fn actor(agent: &AgentSlug, phase: Phase) -> ActorClaim {
        ActorClaim { sub: format!("{agent}/{phase}") }
    }

    /// The one phase in `scope`.
    pub fn phase(&self) -> Option<Phase> {
        [Phase::Observe, Phase::Decide, Phase::Execute].into_iter().find(|phase| phase.scope() == self.scope)
    }
}

/// Signs the broker's tokens with the keys of a ring; signing asks no device.
pub struct TokenSigner {
    issuer: String,
    own: Option<PublicKey>,
    ring: ArcSwap<KeyRing>,
    /// Whether every key is known that a living token can be signed by.
    knows_all: AtomicBool,
}

impl TokenSigner {
    /// Signs as `issuer` with one key, always.
    pub fn new(issuer: String, key: SigningKey) -> Self {
        let own = Some(key.public().clone());
        Self { issuer, own, ring: ArcSwap::from_pointee(KeyRing::of_one(key)), knows_all: true.into() }
    }

    /// Signs as `issuer` with working keys, once there are any.
    pub fn without_key(issuer: String) -> Self {
        Self { issuer, own: None, ring: ArcSwap::default(), knows_all: false.into() }
    }

    /// The issuer URL.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The one key that always signs, where it is not working keys that do.
    pub fn public(&self) -> Option<&PublicKey> {
        self.own.as_ref()
    }

    /// The keys, as they are now.
    pub fn ring(&self) -> Arc<KeyRing> {
        self.ring.load_full()
    }

    /// Every key of the former lives is remembered.
    pub fn remembers_all(&self) {
        self.knows_all.store(true, Ordering::Release);
    }

    /// Whether a token that does not verify may yet be one of ours: its key may be one of a former life, of which nobody
    /// could vouch so far.
    pub fn may_know_later(&self, error: &JwsError) -> bool {
        matches!(error, JwsError::Signature) && !self.knows_all.load(Ordering::Acquire)
    }

    /// A key of a former life, which verifies what it signed.
    pub fn remember(&self, key: &PublishedKey) {
        self.ring.rcu(|ring| KeyRing::clone(ring).with_former(key.clone()));
    }

    /// A key that signs in its time.
    pub fn add(&self, key: &PublishedKey, private: SigningKey, now: Timestamp) {
        let private = Arc::new(private);
        self.ring.rcu(|ring| KeyRing::clone(ring).with(key.clone(), private.clone(), now));
    }

    /// A signed token.
    pub fn sign(&self, claims: &TokenClaims) -> Result<Secret, JwsError> {
        self.signed(ACCESS_TOKEN_TYP, claims.iat, claims).map(Secret::new)
    }

    /// A signed security event token; its `typ` keeps it from being taken for anything else (RFC 8417 section 4.5).
    pub fn sign_event(&self, claims: &SetClaims) -> Result<String, JwsError> {
        self.signed(SET_TYP, claims.iat, claims)
    }

    /// Verifies a token of our own: signature, issuer, `nbf` and `exp`. The caller checks audience, phase and key.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<TokenClaims, JwsError> {
        let unverified = Unverified::parse(token, ACCESS_TOKEN_TYP, KeyHeader::Kid)?;
        let ring = self.ring.load();
        let issued_at = unverified.peek::<TokenClaims>()?.iat;
        let kid = unverified.kid().ok_or(JwsError::NoKey)?;
        let key = ring.verifying(kid, issued_at, now).ok_or(JwsError::Signature)?;
        let claims = unverified.verify::<TokenClaims>(key)?.claims;
        match claims.iss == self.issuer && now >= claims.nbf && !claims.exp.has_passed(now) {
            true => Ok(claims),
            false => Err(JwsError::Claims("the token has ended, or is not of this broker".into())),
        }
    }

    fn signed<C: Serialize>(&self, typ: &str, at: Timestamp, claims: &C) -> Result<String, JwsError> {
        let ring = self.ring.load();
        jws::sign(typ, ring.signing(at).ok_or(JwsError::NoKey)?, KeyHeader::Kid, claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::digest::Digest;

    #[test]
    fn a_token_is_good_until_its_exp_and_for_its_signer_only() {
        let signer = TokenSigner::new("http://b".into(), SigningKey::generate().unwrap());
        let other = TokenSigner::new("http://b".into(), SigningKey::generate().unwrap());
        let now = Timestamp::from_seconds(1_000);
        let claims = TokenClaims {
            iss: "http://b".into(),
            aud: "http://r".into(),
            sub: "alice".into(),
            client_id: "bot".parse().unwrap(),
            act: TokenClaims::actor(&"bot".parse().unwrap(), Phase::Observe),
            scope: Phase::Observe.scope().into(),
            txn: RunId::generate(now),
            jti: LeaseId::generate(now),
            cnf: Confirmation { jkt: Digest::of(b"").to_string().parse().unwrap() },
            iat: now,
            nbf: now,
            exp: now.plus(60),
            authorization_details: vec![],
        };
        let token = signer.sign(&claims).unwrap();
        assert_eq!(signer.verify(token.expose(), now.plus(59)).unwrap(), claims);
        assert!(signer.verify(token.expose(), now.plus(60)).is_err());
        // With another key it is a stranger's; before all keys of former lives are known, nobody can tell.
        let late = TokenSigner::without_key(signer.issuer().to_owned());
        let error = |of: &TokenSigner| of.verify(token.expose(), now).unwrap_err();
        assert!(!other.may_know_later(&error(&other)) && late.may_know_later(&error(&late)));
        assert!(!late.may_know_later(&late.verify("no token", now).unwrap_err()));
        late.remembers_all();
        assert!(!late.may_know_later(&error(&late)));
        assert!(signer.verify(token.expose(), now.plus(-1)).is_err());
        assert!(other.verify(token.expose(), now).is_err());
    }
}
