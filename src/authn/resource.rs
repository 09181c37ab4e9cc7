//! Resource servers: a client assertion by a registered key, for introspection and nothing else.

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
    /// Checks a resource server's client assertion (RFC 7523) and uses it up.
    pub fn resource_login(&self, assertion: &str, now: Timestamp) -> Result<ResourceLogin, AuthnError> {
        let parsed = Assertion::parse(assertion)?;
        let found = self.resources.iter().find_map(|server| {
            let key = server.keys.iter().find(|key| key.thumbprint().to_string() == parsed.kid())?;
            Some((server, key))
        });
        let (server, key) =
            found.ok_or_else(|| AuthnError::refused("`kid` is no key of a registered resource server"))?;
        let audiences = [self.issuer.clone(), format!("{}/introspect", self.issuer)];
        parsed.verify_registered(key)?;
        let claims = parsed.client_claims(&server.audience, &audiences, now)?;
        self.burn(&claims.burn(&server.audience), now)?;
        Ok(ResourceLogin { audience: server.audience.clone() })
    }
}
