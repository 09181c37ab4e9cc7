//! JWTs that clients log in with (RFC 7523, JWT-SVID, workload tokens): read strictly, verified by the JWT library,
//! their times checked against the caller's one `now`. Nothing in the header chooses a key's location.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};

use super::replay::{Burn, Kind};
use super::{AuthnError, CLOCK_SKEW_SECONDS};
use crate::domain::digest::decode;
use crate::domain::jws::{MAX_JWS_BYTES, strict_object};
use crate::domain::key::{self, PublicKey};
use crate::domain::time::Timestamp;

/// Longest life of a client assertion, in seconds.
pub const MAX_ASSERTION_SECONDS: i64 = 300;

/// A parsed JWT whose signature nobody has checked.
pub struct Assertion<'a> {
    token: &'a str,
    kid: String,
    algorithm: Algorithm,
    typ: Option<String>,
    certificate_named: bool,
    claims: Map<String, Value>,
}

/// Claims of a client assertion by a registered key (RFC 7523 section 3), closed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientClaims {
    iss: String,
    sub: String,
    aud: Audience,
    iat: Timestamp,
    exp: Timestamp,
    #[serde(default)]
    nbf: Option<Timestamp>,
    jti: String,
}

/// `aud`: one, or a list (RFC 7519 section 4.1.3).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(String),
    /// A list.
    Many(Vec<String>),
}

impl Audience {
    /// Every audience named.
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(all) => all,
        }
    }
}

impl<'a> Assertion<'a> {
    /// Parses; `alg` must be a public-key signature, and no header member may say where a key is.
    pub fn parse(token: &'a str) -> Result<Self, AuthnError> {
        let malformed = || {
            AuthnError::refused(format!(
                "the assertion is not a compact JWS of at most {MAX_JWS_BYTES} bytes in canonical base64url"
            ))
        };
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed());
        };
        if token.len() > MAX_JWS_BYTES || signature.is_empty() || decode(signature).is_err() {
            return Err(malformed());
        }
        let object = |part: &str, what: &str| {
            strict_object(&decode(part).map_err(|_| malformed())?)
                .map_err(|error| AuthnError::refused(format!("the assertion's {what} is refused: {error}")))
        };
        let (header, claims) = (object(header, "header")?, object(claims, "claims")?);
        // SECURITY: `jku`, `x5u`, `x5c`, `jwk`, `crit`, `b64` and anything unknown end here; the certificate
        // thumbprints that some issuers add are ignored (RFC 8725 section 3.10).
        const KNOWN: [&str; 5] = ["typ", "alg", "kid", "x5t", "x5t#S256"];
        if let Some(extra) = header.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            let extra: String = extra.chars().take(20).collect();
            return Err(AuthnError::refused(format!(
                "header member `{}` is not allowed",
                extra.escape_default()
            )));
        }
        let text = |name: &str| match header.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(AuthnError::refused(format!("header member `{name}` must be a string"))),
        };
        let algorithm = text("alg")?
            .and_then(|name| name.parse::<Algorithm>().ok())
            .filter(|algorithm| !is_shared_secret(*algorithm))
            .ok_or_else(|| {
                AuthnError::refused("`alg` must be a public-key signature algorithm of RFC 7518")
            })?;
        let kid = text("kid")?
            .filter(|kid| !kid.is_empty() && kid.len() <= 256)
            .ok_or_else(|| AuthnError::refused("`kid` is missing: the assertion must name its key"))?;
        let certificate_named = header.keys().any(|name| name.starts_with("x5t"));
        Ok(Self { token, kid, algorithm, typ: text("typ")?, certificate_named, claims })
    }

    /// The key this assertion says it was signed with.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The algorithm it says, never a shared-secret one; to be matched against the key's, not to be followed.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The issuer it says, for choosing whose keys to look up; never for a decision.
    pub fn peek_issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }

    /// Whether `typ` is absent or one of `allowed`.
    pub fn has_typ(&self, allowed: &[&str]) -> bool {
        self.typ.as_deref().is_none_or(|typ| allowed.contains(&typ))
    }

    /// Whether `typ` is exactly this, or its long form with `application/` (RFC 7515 section 4.1.9).
    pub fn is_typ(&self, wanted: &str) -> bool {
        let typ = self.typ.as_deref().unwrap_or_default();
        typ.strip_prefix("application/").unwrap_or(typ) == wanted
    }

    /// Verifies the signature under `key`, which is good for exactly this assertion's algorithm.
    pub fn verify_signature(&self, key: &DecodingKey) -> Result<(), AuthnError> {
        // The library checks the signature only: its time checks read a clock of their own, and its checks of
        // `iss` and `aud` pass when the member is absent. Typed claims follow.
        let mut only_signature = Validation::new(self.algorithm);
        only_signature.required_spec_claims.clear();
        only_signature.validate_exp = false;
        only_signature.validate_aud = false;
        match jsonwebtoken::decode::<Map<String, Value>>(self.token, key, &only_signature) {
            Ok(read) if read.claims == self.claims => Ok(()),
            Ok(_) => Err(AuthnError::refused("the assertion can be read in two ways")),
            Err(error) if *error.kind() == ErrorKind::InvalidSignature => {
                Err(AuthnError::refused("the assertion's signature does not verify under the key it names"))
            }
            Err(_) => Err(AuthnError::refused("the assertion does not fit the key it names")),
        }
    }

    /// The claims, typed; for after the signature verified.
    pub fn claims<C: DeserializeOwned>(&self) -> Result<C, AuthnError> {
        serde_json::from_value(Value::Object(self.claims.clone()))
            .map_err(|error| AuthnError::refused(format!("the assertion's claims are refused: {error}")))
    }

    /// Verifies under a registered key, whose own algorithm must be the header's.
    pub fn verify_registered(&self, key: &PublicKey) -> Result<(), AuthnError> {
        let (algorithm, decoding) = match key.algorithm() {
            key::Algorithm::EdDSA => (Algorithm::EdDSA, DecodingKey::from_ed_components(&key.jwk().x)),
            key::Algorithm::ES256 => {
                let jwk = key.jwk();
                let y = jwk.y.unwrap_or_default();
                (Algorithm::ES256, DecodingKey::from_ec_components(&jwk.x, &y))
            }
        };
        if self.algorithm != algorithm {
            return Err(AuthnError::refused(format!("`alg` must be {}, the key's own", key.algorithm())));
        }
        if !self.has_typ(&["JWT"]) || self.certificate_named {
            return Err(AuthnError::refused("the header must hold `alg`, `kid` and at most `typ: JWT`"));
        }
        let decoding = decoding.map_err(|_| AuthnError::refused("the registered key cannot be used"))?;
        self.verify_signature(&decoding)
    }

    /// The claims of a client that calls itself `name`, all checked but single use. Call after `verify_registered`.
    pub fn client_claims(
        &self,
        name: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<ClientClaims, AuthnError> {
        let claims: ClientClaims = self.claims()?;
        let refused = |why: &str| Err(AuthnError::refused(why));
        if claims.iss != name || claims.sub != name {
            return refused("`iss` and `sub` must both be the client that registered the key");
        }
        // SECURITY: an assertion also meant for someone else could be used here by them.
        if claims.aud.all().is_empty() || !claims.aud.all().iter().all(|aud| audiences.contains(aud)) {
            return refused(
                "`aud` must be this broker's issuer URL or the endpoint called, and nothing else",
            );
        }
        check_times(claims.iat, claims.nbf, claims.exp, MAX_ASSERTION_SECONDS, now)?;
        Ok(claims)
    }
}

impl ClientClaims {
    /// What to use up, as `signer`.
    pub fn burn<'a>(&'a self, signer: &'a str) -> Burn<'a> {
        Burn { kind: Kind::Assertion, signer, jti: &self.jti, issued_at: self.iat, until: self.exp }
    }
}

/// Issued in the past, already valid, not yet expired, and not longer than `longest` seconds.
pub(super) fn check_times(
    iat: Timestamp,
    nbf: Option<Timestamp>,
    exp: Timestamp,
    longest: i64,
    now: Timestamp,
) -> Result<(), AuthnError> {
    let refused = |why: String| Err(AuthnError::refused(why));
    if exp.has_passed(now) {
        return refused("the assertion has expired; make a new one".into());
    }
    if iat > now.plus(CLOCK_SKEW_SECONDS) || nbf.is_some_and(|nbf| nbf > now.plus(CLOCK_SKEW_SECONDS)) {
        return refused("`iat` or `nbf` lies ahead of the broker's clock; check the clock".into());
    }
    match exp.since(iat) {
        life if life > longest => refused(format!("`exp` must be at most {longest} s after `iat`")),
        life if life <= 0 => refused("`exp` must lie after `iat`".into()),
        _ => Ok(()),
    }
}

pub(super) fn is_shared_secret(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
}
