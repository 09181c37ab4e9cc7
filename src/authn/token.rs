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

#[cfg(test)]
mod tests {
    use super::super::fixture::{ISSUER, NOW, fixture};
    use super::*;
    use crate::domain::id::{LeaseId, RunId};
    use crate::domain::key::SigningKey;
    use crate::domain::token::Confirmation;

    #[test]
    fn a_token_counts_for_its_audience_phase_and_key_only() {
        let authn = fixture(vec![]).authn;
        let signer = TokenSigner::new(ISSUER.into(), SigningKey::generate().unwrap());
        let (mine, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let (mine, other) = (mine.public().thumbprint(), other.public().thumbprint());
        let bot = "pay-bot".parse().unwrap();
        let claims = TokenClaims {
            iss: ISSUER.into(),
            aud: ISSUER.into(),
            sub: "alice".into(),
            act: TokenClaims::actor(&bot, Phase::Decide),
            client_id: bot,
            scope: Phase::Decide.scope().into(),
            txn: RunId::generate(NOW),
            jti: LeaseId::generate(NOW),
            cnf: Confirmation { jkt: mine },
            iat: NOW,
            nbf: NOW,
            exp: NOW.plus(300),
            authorization_details: vec![],
        };
        let made = |claims: &TokenClaims| signer.sign(claims).unwrap();
        let token = made(&claims);
        let login = |phase, key, now| authn.token_login(token.expose(), &signer, phase, key, now);
        assert_eq!(login(Phase::Decide, &mine, NOW).unwrap().claims, claims);
        assert!(login(Phase::Execute, &mine, NOW).unwrap_err().known_agent().is_some());
        assert!(login(Phase::Observe, &mine, NOW).is_err());
        assert!(login(Phase::Decide, &other, NOW).is_err());
        assert!(login(Phase::Decide, &mine, NOW.plus(300)).unwrap_err().known_agent().is_none());
        let elsewhere = made(&TokenClaims { aud: "https://api.test".into(), ..claims.clone() });
        assert!(authn.token_login(elsewhere.expose(), &signer, Phase::Decide, &mine, NOW).is_err());
        let both = made(&TokenClaims { scope: "phase:decide phase:execute".into(), ..claims });
        assert!(authn.token_login(both.expose(), &signer, Phase::Decide, &mine, NOW).is_err());
    }
}
