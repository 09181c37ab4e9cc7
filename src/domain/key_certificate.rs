//! What vouches for a working key: a closed JWS (RFC 7515) by the broker's own key, which may be slow and lies in a
//! device. It names the working key, its use and the time in which it signs; it never holds anything private.

use serde::{Deserialize, Serialize};

use super::jws::{self, JwsError, KeyHeader, Unverified};
use super::key::{PublicKey, Thumbprint};
use super::time::Timestamp;

/// The `typ` of every certificate.
pub const KEY_CERTIFICATE_TYP: &str = "key-certificate+jwt";

/// What a working key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyUse {
    /// Tokens and security events.
    Token,
}

/// Claims of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyCertificate {
    /// The broker.
    pub iss: String,
    /// RFC 7638 thumbprint of `jwk`, the `kid` of what the working key signs.
    pub sub: Thumbprint,
    /// The working key.
    pub jwk: PublicKey,
    /// What it is for.
    #[serde(rename = "use")]
    pub usage: KeyUse,
    /// The store's epoch.
    pub epoch: u64,
    /// When it was vouched for.
    pub iat: Timestamp,
    /// It signs nothing before.
    pub nbf: Timestamp,
    /// It signs nothing from here on; what it signed before lives to its own end.
    pub exp: Timestamp,
}

impl KeyCertificate {
    /// The signing input under the key that vouches.
    pub fn signing_input(&self, by: &PublicKey) -> Result<String, JwsError> {
        jws::signing_input(KEY_CERTIFICATE_TYP, by, KeyHeader::Kid, self)
    }

    /// Opens a certificate of `issuer` that `by` must have signed; whether its time has come is the caller's to ask.
    pub fn open(token: &str, by: &PublicKey, issuer: &str) -> Result<Self, JwsError> {
        let wrong = |why: &str| Err(JwsError::Claims(why.into()));
        let unverified = Unverified::parse(token, KEY_CERTIFICATE_TYP, KeyHeader::Kid)?;
        if unverified.kid() != Some(by.thumbprint()) {
            return wrong("another key vouches");
        }
        let claims: Self = unverified.verify(by)?.claims;
        if claims.iss != issuer {
            return wrong("it is of another broker");
        }
        // SECURITY: whoever looks the key up by its thumbprint finds the one that was vouched for.
        if claims.sub != claims.jwk.thumbprint() {
            return wrong("`sub` is not the thumbprint of `jwk`");
        }
        if claims.nbf >= claims.exp {
            return wrong("it ends before it begins");
        }
        Ok(claims)
    }

    /// Whether something signed at `at` lies within.
    pub fn covers(&self, at: Timestamp) -> bool {
        at >= self.nbf && !self.exp.has_passed(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::digest::encode;
    use crate::domain::key::SigningKey;

    const NOW: Timestamp = Timestamp::from_seconds(1_000);

    fn claims(working: &SigningKey) -> KeyCertificate {
        KeyCertificate {
            iss: "https://b".into(),
            sub: working.public().thumbprint(),
            jwk: working.public().clone(),
            usage: KeyUse::Token,
            epoch: 1,
            iat: NOW,
            nbf: NOW,
            exp: NOW.plus(60),
        }
    }

    fn signed(claims: &KeyCertificate, by: &SigningKey) -> String {
        let input = claims.signing_input(by.public()).unwrap();
        format!("{input}.{}", encode(&by.sign(input.as_bytes()).unwrap()))
    }

    #[test]
    fn a_certificate_opens_under_the_key_that_vouched_and_no_other() {
        for own in [SigningKey::generate().unwrap(), SigningKey::generate_p256().unwrap()] {
            let (working, other) = (SigningKey::generate_p256().unwrap(), SigningKey::generate().unwrap());
            let claims = claims(&working);
            let token = signed(&claims, &own);
            assert_eq!(KeyCertificate::open(&token, own.public(), "https://b").unwrap(), claims);
            assert!(KeyCertificate::open(&token, other.public(), "https://b").is_err());
            assert!(KeyCertificate::open(&token, own.public(), "https://c").is_err());
            assert!(KeyCertificate::open(&signed(&claims, &other), own.public(), "https://b").is_err());
        }
    }

    #[test]
    fn a_certificate_that_contradicts_itself_is_refused() {
        let (own, working) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let good = claims(&working);
        let open = |claims: &KeyCertificate| {
            KeyCertificate::open(&signed(claims, &own), own.public(), "https://b").map(|_| ())
        };
        assert!(open(&good).is_ok());
        assert!(open(&KeyCertificate { sub: own.public().thumbprint(), ..good.clone() }).is_err());
        assert!(open(&KeyCertificate { exp: good.nbf, ..good.clone() }).is_err());
    }

    #[test]
    fn it_covers_from_its_beginning_to_before_its_end() {
        let claims = claims(&SigningKey::generate().unwrap());
        assert!(claims.covers(NOW) && claims.covers(NOW.plus(59)));
        assert!(!claims.covers(NOW.plus(-1)) && !claims.covers(NOW.plus(60)));
    }
}
