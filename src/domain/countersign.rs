//! What a broker asks the countersigner on the approvers' side for, and how it proves that it is the broker that asks:
//! otherwise an agent that holds the approvals could mint around it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::digest::{Digest, encode};
use super::jws::{self, JwsError, KeyHeader, Unverified};
use super::key::{PublicKey, SigningKey};
use super::time::Timestamp;

/// The `typ` of a proof.
pub const PROOF_TYP: &str = "countersign+jwt";
/// Seconds that a proof lives, and by which the two clocks may differ.
pub const PROOF_SECONDS: i64 = 60;
/// Largest request, in bytes: a grant and the tokens of the largest rule.
pub const MAX_REQUEST_BYTES: usize = 192 * 1024;
/// Where it is asked.
pub const PATH: &str = "/v1/countersign";

/// The request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The exact bytes of the grant, base64url.
    pub grant: String,
    /// Its approval tokens.
    pub approvals: Vec<String>,
}

impl Request {
    /// For the bytes of a grant.
    pub fn new(grant: &[u8], approvals: Vec<String>) -> Self {
        Self { grant: encode(grant), approvals }
    }

    /// Reads a body: no member twice, none unknown.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let object = jws::strict_object(body)?;
        serde_json::from_value(object.into()).map_err(|error| error.to_string())
    }
}

/// The claims of a proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofClaims {
    /// The broker's issuer URL.
    pub iss: String,
    /// The countersigner's URL.
    pub aud: String,
    /// Signed at.
    pub iat: Timestamp,
    /// Of no use from here on.
    pub exp: Timestamp,
    /// Single use.
    pub jti: String,
    /// SHA-256 of the body.
    pub request: Digest,
}

impl ProofClaims {
    /// Of `body`, asked by `broker` of the countersigner at `url`.
    pub fn new(broker: &str, url: &str, body: &[u8], now: Timestamp) -> Self {
        let jti: [u8; 16] = rand::random();
        Self {
            iss: broker.to_owned(),
            aud: url.to_owned(),
            iat: now,
            exp: now.plus(PROOF_SECONDS),
            jti: encode(&jti),
            request: Digest::of(body),
        }
    }

    /// As a token.
    pub fn sign(&self, key: &SigningKey) -> Result<String, JwsError> {
        jws::sign(PROOF_TYP, key, KeyHeader::Kid, self)
    }

    /// The claims of a token of the broker with this key, for this countersigner, body and time.
    pub fn verify(
        token: &str,
        key: &PublicKey,
        broker: &str,
        url: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Self, NotProven> {
        let unverified = Unverified::parse(token, PROOF_TYP, KeyHeader::Kid)?;
        let claims = unverified.verify::<Self>(key)?.claims;
        for (same, what) in [
            (unverified.kid() == Some(key.thumbprint()), "`kid` is another key's"),
            (claims.iss == broker, "`iss` is another broker"),
            (claims.aud == url, "`aud` is another countersigner"),
            (claims.request == Digest::of(body), "it is of another request"),
            ((0..=PROOF_SECONDS).contains(&claims.exp.since(claims.iat)), "it lives longer than a minute"),
            (claims.iat.since(now) <= PROOF_SECONDS && !claims.exp.has_passed(now), "its time is not now"),
        ] {
            if !same {
                return Err(NotProven::Claims(what));
            }
        }
        Ok(claims)
    }
}

/// Why a proof does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotProven {
    /// Not such a token, or another key signed it.
    #[error("the broker's proof is refused: {0}")]
    Token(#[from] JwsError),
    /// It says something else.
    #[error("the broker's proof is refused: {0}")]
    Claims(&'static str),
}

/// How a broker asks.
#[derive(Debug, Clone)]
pub struct Access {
    /// The countersigner's URL, without a closing slash.
    pub url: String,
    /// The broker's issuer URL.
    pub broker: String,
    /// The key with which it proves itself; used for nothing else.
    pub key: Arc<SigningKey>,
    /// The one certificate authority of the countersigner, as PEM, where it is not a public one.
    pub ca: Option<Vec<u8>>,
}

/// The answer. The token is a bearer secret: it is never logged or kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Countersignature {
    /// The token for AWS.
    pub token: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
    const BROKER: &str = "https://broker.example";
    const URL: &str = "https://countersigner.example";

    #[test]
    fn a_proof_is_of_one_broker_countersigner_request_and_minute() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let token = ProofClaims::new(BROKER, URL, b"{}", NOW).sign(&key).unwrap();
        let read = |key: &SigningKey, broker, url, body: &[u8], now| {
            ProofClaims::verify(&token, key.public(), broker, url, body, now).is_ok()
        };
        assert!(read(&key, BROKER, URL, b"{}", NOW) && read(&key, BROKER, URL, b"{}", NOW.plus(59)));
        assert!(!read(&other, BROKER, URL, b"{}", NOW));
        assert!(!read(&key, URL, URL, b"{}", NOW) && !read(&key, BROKER, BROKER, b"{}", NOW));
        assert!(!read(&key, BROKER, URL, b"[]", NOW));
        assert!(
            !read(&key, BROKER, URL, b"{}", NOW.plus(60)) && !read(&key, BROKER, URL, b"{}", NOW.plus(-61))
        );
        let long = ProofClaims { exp: NOW.plus(61), ..ProofClaims::new(BROKER, URL, b"{}", NOW) };
        let long = long.sign(&key).unwrap();
        assert!(ProofClaims::verify(&long, key.public(), BROKER, URL, b"{}", NOW).is_err());
    }

    #[test]
    fn a_request_is_read_strictly() {
        assert!(Request::parse(br#"{"grant":"e30","approvals":["a"]}"#).is_ok());
        for bad in [
            r#"{"grant":"e30"}"#,
            r#"{"grant":"e30","approvals":[],"more":1}"#,
            r#"{"grant":"e30","grant":"e30","approvals":[]}"#,
            "[]",
            "",
        ] {
            assert!(Request::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
