//! The two static documents from which AWS learns the countersigner's key (OpenID Connect Discovery 1.0, RFC 7517).

use serde_json::{Value, json};

use crate::domain::key::PublicKey;

/// Path of the first under the issuer.
pub const CONFIGURATION: &str = ".well-known/openid-configuration";
/// Path of the keys under the issuer.
pub const KEYS: &str = "jwks.json";

/// `openid-configuration`: nobody logs in here, so it names no endpoint but the keys.
pub fn configuration(issuer: &str) -> Value {
    json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/{KEYS}"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "claims_supported": ["iss", "sub", "aud", "iat", "nbf", "exp", "jti"],
    })
}

/// The keys; during a rotation two.
pub fn keys<'a>(keys: impl IntoIterator<Item = &'a PublicKey>) -> Value {
    let key = |key: &PublicKey| {
        let jwk = key.jwk();
        json!({
            "kty": jwk.kty, "crv": jwk.crv, "x": jwk.x, "y": jwk.y,
            "kid": key.thumbprint(), "use": "sig", "alg": key.algorithm().name(),
        })
    };
    json!({ "keys": keys.into_iter().map(key).collect::<Vec<_>>() })
}
