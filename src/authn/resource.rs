//! Resource servers: a client assertion by a registered key, for introspection and for polling, and nothing else.

use super::assertion::Assertion;
use super::{Authn, AuthnError};
use crate::domain::key::PublicKey;
use crate::domain::time::Timestamp;

/// A registered resource server.
#[derive(Debug, Clone)]
pub struct ResourceServer {
    /// Its audience, which is also its `iss` and `sub`.
    pub audience: String,
    /// Its keys.
    pub keys: Vec<PublicKey>,
}

/// A resource server that proved itself; it may ask about tokens of its own audience.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceLogin {
    /// The audience.
    pub audience: String,
}

impl Authn {
    /// Checks a resource server's client assertion (RFC 7523) at the endpoint `path`, and uses it up.
    pub fn resource_login(
        &self,
        assertion: &str,
        path: &str,
        now: Timestamp,
    ) -> Result<ResourceLogin, AuthnError> {
        let parsed = Assertion::parse(assertion)?;
        let found = self.resources.iter().find_map(|server| {
            let key = server.keys.iter().find(|key| key.thumbprint().to_string() == parsed.kid())?;
            Some((server, key))
        });
        let (server, key) =
            found.ok_or_else(|| AuthnError::refused("`kid` is no key of a registered resource server"))?;
        let audiences = [self.issuer.clone(), format!("{}{path}", self.issuer)];
        parsed.verify_registered(key)?;
        let claims = parsed.client_claims(&server.audience, &audiences, now)?;
        self.burn(&claims.burn(&server.audience), now)?;
        Ok(ResourceLogin { audience: server.audience.clone() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{ISSUER, NOW, fixture, token, with};

    #[test]
    fn a_resource_server_is_known_by_its_own_key_and_name() {
        let f = fixture(vec![]);
        let header = json!({"alg": "EdDSA", "kid": f.resource.public().thumbprint().to_string()}).to_string();
        let claims = json!({"iss": "https://api.test", "sub": "https://api.test",
            "aud": format!("{ISSUER}/introspect"), "iat": NOW.seconds(), "exp": NOW.plus(60).seconds(),
            "jti": "resource-1"});
        let login = |claims: &serde_json::Value, key| {
            f.authn.resource_login(&token(&header, &claims.to_string(), key), "/introspect", NOW)
        };
        assert_eq!(login(&claims, &f.resource).unwrap().audience, "https://api.test");
        assert!(login(&claims, &f.resource).is_err(), "used already");
        let fresh = with(claims, json!({"jti": "resource-2"}));
        assert!(login(&fresh, &f.alice).is_err());
        for change in [json!({"iss": "https://other.test"}), json!({"aud": format!("{ISSUER}/token")})] {
            assert!(login(&with(fresh.clone(), change), &f.resource).is_err());
        }
        assert!(login(&fresh, &f.resource).is_ok());
    }
}
