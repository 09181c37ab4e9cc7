//! Whether a token of ours may be used right now (RFC 7662). Consumed, revoked, completed and expired all answer alike.

use super::Broker;
use super::refusal::{Code, Refusal};
use crate::domain::phase::Phase;
use crate::domain::time::Timestamp;
use crate::domain::token::TokenClaims;

impl Broker {
    /// The claims of an active token for `audience`; `None` for anything else.
    pub fn introspect(&self, token: &str, audience: &str) -> Option<TokenClaims> {
        let now = self.gate.now();
        let claims = self.signer.verify(token, now).ok()?;
        let lease = self.live.usable(claims.jti, now, self.gate.since_boot())?;
        (claims.aud == audience && lease.target == claims.aud && lease.key == claims.cnf.jkt)
            .then_some(claims)
    }

    /// A phase token is good only while its lease is live and of that phase.
    pub fn usable_lease(&self, login: &TokenClaims, phase: Phase, now: Timestamp) -> Result<(), Refusal> {
        let lease = self.live.usable(login.jti, now, self.gate.since_boot());
        match lease {
            Some(lease) if lease.phase == phase && login.phase() == Some(phase) => Ok(()),
            Some(_) => Err(Refusal::new(Code::PhaseOrder, format!("this needs a `{phase}` token"))),
            None => Err(Refusal::new(Code::LeaseEnded, "the phase this token was for is over; renew it")),
        }
    }
}
