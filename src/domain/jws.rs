//! Compact JWS (RFC 7515), read strictly: closed header, one spelling, no algorithm choice left to the sender.
//! Used for approvals, person assertions and DPoP proofs; names trust in the type: [`Unverified`] is not [`Verified`].

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::canonical::MAX_SAFE_INTEGER;
use super::digest::{decode, encode};
use super::key::{Algorithm, Jwk, KeyError, PublicKey, SigningKey, Thumbprint};

/// Largest compact JWS accepted, in bytes.
pub const MAX_JWS_BYTES: usize = 8 * 1024;

/// Why a compact JWS is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// Not three non-empty parts of canonical base64url, or too large.
    #[error("not a compact JWS of at most {MAX_JWS_BYTES} bytes in canonical base64url")]
    Malformed,
    /// The header holds something else than exactly what this kind of token allows.
    #[error("the header is refused: {0}")]
    Header(String),
    /// The claims do not fit their closed schema.
    #[error("the claims are refused: {0}")]
    Claims(String),
    /// The signature does not verify under the enrolled key.
    #[error("the signature does not verify")]
    Signature,
    /// There is no key to sign or verify with at this time.
    #[error("no key of the broker's is good at this time")]
    NoKey,
}

/// A parsed token whose signature nobody has checked: it offers its key's name and nothing else.
pub struct Unverified {
    input: String,
    payload: Vec<u8>,
    signature: Vec<u8>,
    algorithm: Algorithm,
    kid: Option<Thumbprint>,
    jwk: Option<PublicKey>,
}

/// Claims whose signature verified.
#[derive(Debug)]
pub struct Verified<C> {
    /// The claims.
    pub claims: C,
    /// Thumbprint of the key that signed.
    pub key: Thumbprint,
}

/// How a token names its key: the header has exactly `typ`, `alg` and this member.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum KeyHeader {
    /// `kid`: the thumbprint of an enrolled key.
    Kid,
    /// `jwk`: the public key itself (DPoP only, RFC 9449 section 4.2).
    Jwk,
}

impl Unverified {
    /// Parses `token`; its header must be exactly `{typ, alg, <key>}`.
    pub fn parse(token: &str, typ: &str, key: KeyHeader) -> Result<Self, JwsError> {
        if token.len() > MAX_JWS_BYTES {
            return Err(JwsError::Malformed);
        }
        let mut parts = token.split('.');
        let (Some(h), Some(p), Some(s), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(JwsError::Malformed);
        };
        let part = |text: &str| match decode(text) {
            Ok(bytes) if !bytes.is_empty() => Ok(bytes),
            _ => Err(JwsError::Malformed),
        };
        let (header, payload, signature) = (part(h)?, part(p)?, part(s)?);
        let header = strict_object(&header).map_err(JwsError::Header)?;
        // SECURITY: closed header. `jku`, `x5u`, `x5c`, `crit`, `b64` and any other member end here (RFC 8725 section 3).
        let key_member = if key == KeyHeader::Kid { "kid" } else { "jwk" };
        if let Some(extra) = header.keys().find(|name| !["typ", "alg", key_member].contains(&name.as_str())) {
            let extra: String = extra.chars().take(20).collect();
            return Err(JwsError::Header(format!("member `{}` is not allowed", extra.escape_default())));
        }
        if header.get("typ").and_then(Value::as_str) != Some(typ) {
            return Err(JwsError::Header(format!("`typ` must be `{typ}`")));
        }
        let algorithm = match header.get("alg").and_then(Value::as_str) {
            Some("EdDSA") => Algorithm::EdDSA,
            Some("ES256") => Algorithm::ES256,
            _ => return Err(JwsError::Header("`alg` must be EdDSA or ES256".into())),
        };
        let (mut kid, mut jwk) = (None, None);
        match key {
            KeyHeader::Kid => {
                let text = header.get("kid").and_then(Value::as_str).and_then(|t| t.parse().ok());
                kid = Some(
                    text.ok_or_else(|| JwsError::Header("`kid` must be an RFC 7638 thumbprint".into()))?,
                );
            }
            KeyHeader::Jwk => {
                let member = header.get("jwk").cloned().unwrap_or_default();
                let parsed: Jwk = serde_json::from_value(member)
                    .map_err(|_| JwsError::Header("`jwk` must hold public members only".into()))?;
                jwk = Some(PublicKey::try_from(parsed).map_err(|e| JwsError::Header(e.to_string()))?);
            }
        }
        Ok(Self { input: format!("{h}.{p}"), payload, signature, algorithm, kid, jwk })
    }

    /// The key this token says it was signed with (`kid`).
    pub fn kid(&self) -> Option<Thumbprint> {
        self.kid
    }

    /// The key carried in the header (`jwk`), which proves possession and nothing else.
    pub fn embedded_key(&self) -> Option<&PublicKey> {
        self.jwk.as_ref()
    }

    /// Claims before verification, for choosing whose key to look up; never for a decision.
    pub fn peek<C: DeserializeOwned>(&self) -> Result<C, JwsError> {
        claims(&self.payload)
    }

    /// Verifies under `key`, whose own algorithm must be the header's.
    pub fn verify<C: DeserializeOwned>(&self, key: &PublicKey) -> Result<Verified<C>, JwsError> {
        if key.algorithm() != self.algorithm {
            return Err(JwsError::Header(format!("`alg` must be {}, the key's own", key.algorithm())));
        }
        key.verify(self.input.as_bytes(), &self.signature).map_err(|_| JwsError::Signature)?;
        Ok(Verified { claims: claims(&self.payload)?, key: key.thumbprint() })
    }
}

/// The signing input `base64url(header).base64url(claims)` of a token under `key`.
pub fn signing_input<C: Serialize>(
    typ: &str,
    key: &PublicKey,
    header: KeyHeader,
    claims: &C,
) -> Result<String, JwsError> {
    let mut members = Map::new();
    members.insert("alg".into(), key.algorithm().name().into());
    members.insert("typ".into(), typ.into());
    match header {
        KeyHeader::Kid => members.insert("kid".into(), key.thumbprint().to_string().into()),
        KeyHeader::Jwk => members.insert(
            "jwk".into(),
            serde_json::to_value(key.jwk()).map_err(|e| JwsError::Header(e.to_string()))?,
        ),
    };
    let bytes =
        |value: &Value| super::canonical::to_bytes(value).map_err(|e| JwsError::Claims(e.to_string()));
    let claims = serde_json::to_value(claims).map_err(|e| JwsError::Claims(e.to_string()))?;
    Ok(format!("{}.{}", encode(&bytes(&Value::Object(members))?), encode(&bytes(&claims)?)))
}

/// Signs `claims` as a compact JWS.
pub fn sign<C: Serialize>(
    typ: &str,
    key: &SigningKey,
    header: KeyHeader,
    claims: &C,
) -> Result<String, JwsError> {
    let input = signing_input(typ, key.public(), header, claims)?;
    let signature = key.sign(input.as_bytes()).map_err(|_: KeyError| JwsError::Signature)?;
    Ok(format!("{input}.{}", encode(&signature)))
}

fn claims<C: DeserializeOwned>(payload: &[u8]) -> Result<C, JwsError> {
    let object = strict_object(payload).map_err(JwsError::Claims)?;
    serde_json::from_value(Value::Object(object)).map_err(|e| JwsError::Claims(e.to_string()))
}

/// A JSON object without duplicate members at any level: the parse, compactly written, has as many members as the text.
pub(crate) fn strict_object(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    struct NoDuplicates(Value);
    impl<'de> serde::Deserialize<'de> for NoDuplicates {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            from.deserialize_any(Strict).map(NoDuplicates)
        }
    }
    struct Strict;
    impl<'de> serde::de::Visitor<'de> for Strict {
        type Value = Value;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("JSON with unique members and integers only")
        }
        fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
            Ok(v.into())
        }
        fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Value, E> {
            safe(v.unsigned_abs()).map(|()| v.into())
        }
        fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Value, E> {
            safe(v).map(|()| v.into())
        }
        fn visit_str<E>(self, v: &str) -> Result<Value, E> {
            Ok(v.into())
        }
        fn visit_unit<E>(self) -> Result<Value, E> {
            Ok(Value::Null)
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
            let mut all = Vec::new();
            while let Some(NoDuplicates(item)) = items.next_element()? {
                all.push(item);
            }
            Ok(Value::Array(all))
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
            let mut all = Map::new();
            while let Some((name, NoDuplicates(item))) = members.next_entry::<String, _>()? {
                if all.insert(name, item).is_some() {
                    return Err(serde::de::Error::custom("a member appears twice"));
                }
            }
            Ok(Value::Object(all))
        }
    }
    // SECURITY: a larger number is another number to a reader that keeps them as doubles (RFC 8259 section 6).
    fn safe<E: serde::de::Error>(magnitude: u64) -> Result<(), E> {
        match magnitude <= MAX_SAFE_INTEGER {
            true => Ok(()),
            false => Err(E::custom("a number is beyond 2^53-1")),
        }
    }
    match serde_json::from_slice::<NoDuplicates>(bytes) {
        Ok(NoDuplicates(Value::Object(object))) => Ok(object),
        Ok(_) => Err("not a JSON object".into()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Claims {
        iss: String,
    }

    fn token(header: Value, claims: &str, key: &SigningKey) -> String {
        let input = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.as_bytes()));
        format!("{input}.{}", encode(&key.sign(input.as_bytes()).unwrap()))
    }

    fn read(token: &str, key: &PublicKey) -> Result<Verified<Claims>, JwsError> {
        Unverified::parse(token, "t+jwt", KeyHeader::Kid)?.verify(key)
    }

    #[test]
    fn a_signed_token_verifies_under_its_key_and_no_other() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let made = sign("t+jwt", &key, KeyHeader::Kid, &Claims { iss: "a".into() }).unwrap();
        assert_eq!(read(&made, key.public()).unwrap().claims.iss, "a");
        assert_eq!(read(&made, other.public()).unwrap_err(), JwsError::Signature);
    }

    #[test]
    fn headers_are_closed_and_the_algorithm_is_the_keys_own() {
        let key = SigningKey::generate().unwrap();
        let kid = key.public().thumbprint().to_string();
        let claims = r#"{"iss":"a"}"#;
        let good = token(json!({"typ":"t+jwt","alg":"EdDSA","kid":kid}), claims, &key);
        assert!(read(&good, key.public()).is_ok());
        for header in [
            json!({"typ":"t+jwt","alg":"none","kid":kid}),
            json!({"typ":"t+jwt","alg":"HS256","kid":kid}),
            json!({"typ":"t+jwt","alg":"ES256","kid":kid}),
            json!({"typ":"other","alg":"EdDSA","kid":kid}),
            json!({"typ":"t+jwt","alg":"EdDSA","kid":kid,"crit":[]}),
            json!({"typ":"t+jwt","alg":"EdDSA","kid":kid,"b64":false}),
            json!({"typ":"t+jwt","alg":"EdDSA","kid":kid,"jku":"https://x"}),
            json!({"typ":"t+jwt","alg":"EdDSA"}),
        ] {
            assert!(
                matches!(read(&token(header.clone(), claims, &key), key.public()), Err(JwsError::Header(_))),
                "{header}"
            );
        }
    }

    #[test]
    fn duplicate_and_unknown_members_are_refused() {
        let key = SigningKey::generate().unwrap();
        let kid = key.public().thumbprint().to_string();
        let header = json!({"typ":"t+jwt","alg":"EdDSA","kid":kid});
        for claims in [
            r#"{"iss":"a","iss":"a"}"#,
            r#"{"iss":"a","x":1}"#,
            r#"{"iss":1.5}"#,
            r#"{"iss":9007199254740992}"#,
            "[]",
        ] {
            assert!(matches!(
                read(&token(header.clone(), claims, &key), key.public()),
                Err(JwsError::Claims(_))
            ));
        }
    }
}
