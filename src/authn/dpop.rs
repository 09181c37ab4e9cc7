//! DPoP proofs (RFC 9449): possession of a key, for one method, one URL, one token, once.
//! The key proves nothing but itself; who it belongs to is said by the login beside it.

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::replay::{Burn, ExpiringSet, Inserted, Kind};
use super::{Authn, AuthnError, CLOCK_SKEW_SECONDS, FRESH_SECONDS, is_fresh, same_target};
use crate::domain::digest::{Digest, encode};
use crate::domain::jws::{KeyHeader, Unverified};
use crate::domain::key::Thumbprint;
use crate::domain::time::Timestamp;

/// The `typ` of a proof (RFC 9449 section 4.2).
pub const DPOP_TYP: &str = "dpop+jwt";

const NONCE_SECONDS: i64 = 60;
const MAX_NONCES: usize = 10_000;

/// Claims of a proof, closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofClaims {
    /// Single-use id.
    pub jti: String,
    /// HTTP method.
    pub htm: String,
    /// URL without query and fragment.
    pub htu: String,
    /// Signed at.
    pub iat: Timestamp,
    /// Base64url SHA-256 of the access token presented with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ath: Option<Digest>,
    /// A nonce of the broker's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
}

/// Whether a proof must carry a nonce of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NonceRule {
    /// A nonce is ignored.
    NotNeeded,
    /// A fresh, unused nonce issued to the same key.
    Required,
}

/// What a proof must be for.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The request's method.
    pub method: &'a str,
    /// Issuer URL and path of the request; a query is ignored.
    pub url: &'a str,
    /// The access token presented with it; then, and only then, `ath` is due.
    pub access_token: Option<&'a str>,
    /// Whether a nonce is due.
    pub nonce: NonceRule,
}

/// A proof that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Thumbprint of the key that was proven.
    pub key: Thumbprint,
    /// The nonce that was used up.
    pub nonce: Option<String>,
}

impl Authn {
    /// Checks a proof and uses it up. Call it after the login, so that rubbish uses up no memory.
    pub fn dpop(&self, proof: &str, expected: &Expected<'_>, now: Timestamp) -> Result<Proof, AuthnError> {
        let refused = |error: crate::domain::jws::JwsError| AuthnError::proof(error.to_string());
        let unverified = Unverified::parse(proof, DPOP_TYP, KeyHeader::Jwk).map_err(refused)?;
        let key = unverified.embedded_key().ok_or_else(|| AuthnError::proof("`jwk` is missing"))?;
        let verified = unverified.verify::<ProofClaims>(key).map_err(refused)?;
        let (claims, key) = (verified.claims, verified.key);
        if claims.htm != expected.method {
            return Err(AuthnError::proof(format!("`htm` must be {}", expected.method)));
        }
        if !same_target(&claims.htu, expected.url) {
            return Err(AuthnError::proof(format!("`htu` must be {}", expected.url)));
        }
        if !is_fresh(claims.iat, now) {
            return Err(AuthnError::proof(format!(
                "`iat` must lie at most {FRESH_SECONDS} s back and {CLOCK_SKEW_SECONDS} s ahead; check the clock"
            )));
        }
        match (claims.ath, expected.access_token.map(|token| Digest::of(token.as_bytes()))) {
            (None, None) => {}
            (Some(given), Some(due)) if given == due => {}
            (None, Some(_)) => {
                return Err(AuthnError::proof("`ath` is missing: add the access token's SHA-256"));
            }
            (Some(_), Some(_)) => return Err(AuthnError::proof("`ath` is of another access token")),
            (Some(_), None) => {
                return Err(AuthnError::proof("`ath` without an access token in `Authorization`"));
            }
        }
        let burn = Burn {
            kind: Kind::Proof,
            signer: &key.to_string(),
            jti: &claims.jti,
            issued_at: claims.iat,
            until: claims.iat.plus(FRESH_SECONDS + 1),
        };
        self.burn(&burn, now).map_err(|error| match error {
            AuthnError::Unauthenticated { why, .. } => AuthnError::proof(why),
            other => other,
        })?;
        if expected.nonce == NonceRule::Required
            && !claims.nonce.as_ref().is_some_and(|nonce| self.nonces.consume(nonce, &key, now))
        {
            return Err(AuthnError::UseDpopNonce { nonce: self.nonces.issue(&key, now)? });
        }
        Ok(Proof { key, nonce: claims.nonce.filter(|_| expected.nonce == NonceRule::Required) })
    }
}

/// Nonces of ours that are out: 128 bits each, for one key, for 60 seconds, once.
pub struct Nonces(ExpiringSet);

impl Default for Nonces {
    fn default() -> Self {
        Self(ExpiringSet::new(MAX_NONCES))
    }
}

impl Nonces {
    /// A fresh nonce for `key`.
    pub fn issue(&self, key: &Thumbprint, now: Timestamp) -> Result<String, AuthnError> {
        let mut bytes = [0; 16];
        rand::rng().fill_bytes(&mut bytes);
        let nonce = encode(&bytes);
        match self.0.insert(name(&nonce, key), now.plus(NONCE_SECONDS), now) {
            Inserted::New => Ok(nonce),
            _ => {
                Err(AuthnError::Unavailable { why: "too many nonces are out; try again in a minute".into() })
            }
        }
    }

    /// Uses up `nonce`; false when it is not one of ours for `key`, or not any more.
    pub fn consume(&self, nonce: &str, key: &Thumbprint, now: Timestamp) -> bool {
        self.0.take(&name(nonce, key), now)
    }
}

fn name(nonce: &str, key: &Thumbprint) -> Digest {
    Digest::tagged("nonce", format!("{key}\0{nonce}").as_bytes())
}
