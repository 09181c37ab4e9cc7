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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fixture::{ISSUER, NOW, fixture, hostile_headers, other_spellings, token, with};
    use super::*;
    use crate::domain::key::SigningKey;

    const URL: &str = "https://broker.test/token";

    fn expected(access_token: Option<&'static str>, nonce: NonceRule) -> Expected<'static> {
        Expected { method: "POST", url: URL, access_token, nonce }
    }

    fn header(key: &SigningKey) -> Value {
        json!({"typ": DPOP_TYP, "alg": key.public().algorithm().name(), "jwk": key.public().jwk()})
    }

    fn claims(jti: &str) -> Value {
        json!({"jti": jti, "htm": "POST", "htu": URL, "iat": NOW.seconds()})
    }

    fn proof(key: &SigningKey, jti: &str, change: Value) -> String {
        token(&header(key).to_string(), &with(claims(jti), change).to_string(), key)
    }

    fn is_proof_error<T>(outcome: Result<T, AuthnError>) -> bool {
        matches!(outcome, Err(AuthnError::InvalidDpopProof { .. }))
    }

    #[test]
    fn a_proof_of_either_key_type_holds_once() {
        let authn = fixture(vec![]).authn;
        let rule = expected(None, NonceRule::NotNeeded);
        for key in [SigningKey::generate().unwrap(), SigningKey::generate_p256().unwrap()] {
            let made = proof(&key, "proof-0001", json!({}));
            assert_eq!(authn.dpop(&made, &rule, NOW).unwrap().key, key.public().thumbprint());
            assert!(authn.dpop(&made, &rule, NOW).unwrap_err().to_string().contains("used already"));
        }
    }

    #[test]
    fn a_proof_for_another_method_url_or_time_is_refused() {
        let authn = fixture(vec![]).authn;
        let key = SigningKey::generate().unwrap();
        let rule = expected(None, NonceRule::NotNeeded);
        let at = |seconds: i64| json!({"iat": NOW.plus(seconds).seconds()});
        for (name, change) in [
            json!({"htm": "GET"}),
            json!({"htm": "post"}),
            json!({"htu": format!("{ISSUER}/v1/runs")}),
            json!({"htu": "https://other.test/token"}),
            at(-61),
            at(6),
            json!({"iat": 1.5}),
            json!({"jti": null}),
            json!({"extra": 1}),
        ]
        .into_iter()
        .enumerate()
        {
            let made = proof(&key, &format!("refused-{name}"), change.clone());
            assert!(is_proof_error(authn.dpop(&made, &rule, NOW)), "{change}");
        }
        for (name, change) in [at(-29), at(5), json!({"htu": format!("{URL}?a=b")})].into_iter().enumerate() {
            assert!(authn.dpop(&proof(&key, &format!("accepted-{name}"), change), &rule, NOW).is_ok());
        }
        assert!(is_proof_error(authn.dpop(&proof(&key, "before-start", at(-31)), &rule, NOW)));
    }

    #[test]
    fn the_access_token_and_its_hash_come_together() {
        let authn = fixture(vec![]).authn;
        let key = SigningKey::generate().unwrap();
        let ath = |text: &str| json!({"ath": Digest::of(text.as_bytes())});
        let with_token = expected(Some("token"), NonceRule::NotNeeded);
        let without = expected(None, NonceRule::NotNeeded);
        assert!(authn.dpop(&proof(&key, "ath-right", ath("token")), &with_token, NOW).is_ok());
        assert!(is_proof_error(authn.dpop(&proof(&key, "ath-wrong", ath("other")), &with_token, NOW)));
        assert!(is_proof_error(authn.dpop(&proof(&key, "ath-missing", json!({})), &with_token, NOW)));
        assert!(is_proof_error(authn.dpop(&proof(&key, "ath-stray", ath("token")), &without, NOW)));
    }

    #[test]
    fn hostile_headers_and_other_spellings_are_refused() {
        let authn = fixture(vec![]).authn;
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let rule = expected(None, NonceRule::NotNeeded);
        let private =
            with(header(&key), json!({"jwk": with(json!(key.public().jwk()), json!({"d": "AAAA"}))}));
        let mut headers = hostile_headers(&header(&key));
        headers.push(private.to_string());
        headers.push(header(&other).to_string());
        for header in headers {
            let made = token(&header, &claims("hostile-1").to_string(), &key);
            assert!(is_proof_error(authn.dpop(&made, &rule, NOW)), "{header}");
        }
        let made = proof(&key, "hostile-1", json!({}));
        for spelling in other_spellings(&made) {
            assert!(is_proof_error(authn.dpop(&spelling, &rule, NOW)), "{spelling:?}");
        }
        assert!(authn.dpop(&made, &rule, NOW).is_ok());
    }

    #[test]
    fn a_nonce_is_good_once_for_its_own_key_and_a_minute() {
        let authn = fixture(vec![]).authn;
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let rule = expected(None, NonceRule::Required);
        let ask = |key: &SigningKey, jti: &str| match authn.dpop(&proof(key, jti, json!({})), &rule, NOW) {
            Err(AuthnError::UseDpopNonce { nonce }) => nonce,
            other => panic!("{other:?}"),
        };
        let wants_another =
            |outcome: Result<Proof, AuthnError>| matches!(outcome, Err(AuthnError::UseDpopNonce { .. }));
        let nonce = ask(&key, "nonce-ask-1");
        let used = |key: &SigningKey, jti: &str| proof(key, jti, json!({"nonce": nonce}));
        assert!(wants_another(authn.dpop(&used(&other, "nonce-other"), &rule, NOW)));
        assert_eq!(authn.dpop(&used(&key, "nonce-first"), &rule, NOW).unwrap().nonce, Some(nonce.clone()));
        assert!(wants_another(authn.dpop(&used(&key, "nonce-again"), &rule, NOW)));
        let late = ask(&key, "nonce-ask-2");
        let made = proof(&key, "nonce-late", json!({"nonce": late, "iat": NOW.plus(60).seconds()}));
        assert!(wants_another(authn.dpop(&made, &rule, NOW.plus(60))));
    }
}
