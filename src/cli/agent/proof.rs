//! A key per phase, and the DPoP proofs it makes (RFC 9449).

use crate::authn::dpop::{DPOP_TYP, ProofClaims};
use crate::domain::digest::{Digest, encode};
use crate::domain::jws::{self, KeyHeader};
use crate::domain::key::{SigningKey, Thumbprint};
use crate::domain::time::Timestamp;

use super::error::AgentError;

/// A DPoP key for one phase of one run, or for one claim. Never reused.
#[derive(Debug)]
pub struct PhaseKey(SigningKey);

impl PhaseKey {
    /// A fresh key.
    pub fn generate() -> Result<Self, AgentError> {
        SigningKey::generate().map(Self).map_err(|error| AgentError::Login(format!("no key: {error}")))
    }

    /// A key made earlier, such as the claim key of a grant.
    pub fn from_signing_key(key: SigningKey) -> Self {
        Self(key)
    }

    /// The key itself.
    pub fn signing_key(&self) -> &SigningKey {
        &self.0
    }

    /// What a token or a grant is bound to.
    pub fn thumbprint(&self) -> Thumbprint {
        self.0.public().thumbprint()
    }

    /// A proof for one call of `method` on `url` (without query), with `access_token` when one is presented.
    pub fn proof(
        &self,
        method: &str,
        url: &str,
        access_token: Option<&str>,
        nonce: Option<&str>,
        now: Timestamp,
    ) -> Result<String, AgentError> {
        let claims = ProofClaims {
            jti: fresh_jti(),
            htm: method.to_owned(),
            htu: url.to_owned(),
            iat: now,
            ath: access_token.map(|token| Digest::of(token.as_bytes())),
            nonce: nonce.map(str::to_owned),
        };
        jws::sign(DPOP_TYP, &self.0, KeyHeader::Jwk, &claims)
            .map_err(|error| AgentError::Login(format!("the proof cannot be signed: {error}")))
    }
}

/// 128 random bits.
pub(super) fn fresh_jti() -> String {
    encode(&rand::random::<[u8; 16]>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::jws::Unverified;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    #[test]
    fn a_proof_names_method_url_and_token_and_is_new_every_time() {
        let key = PhaseKey::generate().unwrap();
        let proof = || key.proof("POST", "https://b/v1", Some("tok"), None, NOW).unwrap();
        let read = Unverified::parse(&proof(), DPOP_TYP, KeyHeader::Jwk).unwrap();
        assert_eq!(read.embedded_key().unwrap().thumbprint(), key.thumbprint());
        let claims = read.verify::<ProofClaims>(key.signing_key().public()).unwrap().claims;
        assert_eq!((claims.htm.as_str(), claims.htu.as_str()), ("POST", "https://b/v1"));
        assert_eq!(claims.ath, Some(Digest::of(b"tok")));
        assert_ne!(proof(), proof());
    }
}
