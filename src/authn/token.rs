//! Phase and execute tokens presented back to the broker: ours, for us, of the phase that is due, with the key in hand.

use super::{Authn, AuthnError};
use crate::domain::key::Thumbprint;
use crate::domain::phase::Phase;
use crate::domain::principal::Actor;
use crate::domain::time::Timestamp;
use crate::domain::token::{TokenClaims, TokenSigner};

/// A token of ours in the hands of the agent it was issued to. Whether its lease still lives is the store's to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenLogin {
    /// The claims.
    pub claims: TokenClaims,
}

impl Authn {
    /// Checks an access token whose proof (with `ath`) held for `key`.
    pub fn token_login(
        &self,
        token: &str,
        signer: &TokenSigner,
        phase: Phase,
        key: &Thumbprint,
        now: Timestamp,
    ) -> Result<TokenLogin, AuthnError> {
        let claims = signer.verify(token, now).map_err(|error| AuthnError::refused(error.to_string()))?;
        let caller = |why: String| AuthnError::refused(why).of(Actor::Agent(claims.client_id.clone()));
        if claims.aud != self.issuer {
            return Err(caller("the token is for another audience".into()));
        }
        // INVARIANT: one-phase. A token of another phase is refused here, whatever else it could prove.
        if claims.phase() != Some(phase) {
            return Err(caller(format!("a token of the {phase} phase is needed")));
        }
        // SECURITY: a stolen token is nothing without the key it is bound to (RFC 9449 section 7.1).
        if claims.cnf.jkt != *key {
            return Err(caller("the token is bound to another key than the DPoP proof's".into()));
        }
        Ok(TokenLogin { claims })
    }
}
