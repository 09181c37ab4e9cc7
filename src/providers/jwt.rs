//! Mints DPoP-bound access tokens of our own (RFC 9068). Revocation is the broker's own record, read by introspection.

use std::sync::Arc;

use async_trait::async_trait;

use crate::broker::ports::{
    CredentialProvider, CredentialSecret, MintOutcome, Minted, NotReady, PhaseCredential, RevokeFailed,
    Revoked,
};
use crate::domain::authority::Authority;
use crate::domain::id::LeaseId;
use crate::domain::lease::{Lease, OpenedLease, Prepared};
use crate::domain::plan::{AuthorizationDetail, Credential, JwtCredential, ProviderKind, Revocability};
use crate::domain::sent;
use crate::domain::time::Timestamp;
use crate::domain::token::{Confirmation, TokenClaims, TokenSigner};

/// The `jwt` provider.
pub struct JwtProvider {
    signer: Arc<TokenSigner>,
}

impl JwtProvider {
    /// Signs with the broker's token key.
    pub fn new(signer: Arc<TokenSigner>) -> Self {
        Self { signer }
    }

    fn mint(
        &self,
        opened: &OpenedLease,
        jwt: &JwtCredential,
        subject: String,
        details: Vec<AuthorizationDetail>,
    ) -> MintOutcome {
        let lease = opened.lease();
        let claims = TokenClaims {
            iss: self.signer.issuer().to_owned(),
            aud: jwt.audience.clone(),
            sub: subject,
            client_id: lease.agent.clone(),
            act: TokenClaims::actor(&lease.agent, lease.phase),
            scope: lease.phase.scope().to_owned(),
            txn: lease.run,
            jti: lease.id,
            cnf: Confirmation { jkt: lease.key },
            iat: lease.opened_at,
            nbf: lease.opened_at,
            exp: opened.prepared().not_after,
            authorization_details: details,
        };
        match self.signer.sign(&claims) {
            Ok(token) => MintOutcome::Minted(Minted {
                reference: lease.id.to_string(),
                secret: CredentialSecret::Token(token),
                packed_policy_percent: None,
            }),
            Err(error) => MintOutcome::Refused {
                code: "signing_failed".into(),
                message: error.to_string(),
                retry_after: None,
                for_good: false,
            },
        }
    }
}

#[async_trait]
impl CredentialProvider for JwtProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Jwt
    }

    async fn prepare(
        &self,
        lease: LeaseId,
        credential: &Credential,
        work_seconds: u32,
        now: Timestamp,
    ) -> Result<Prepared, NotReady> {
        let not_after = now.plus(i64::from(work_seconds));
        let document = sent::token_text(lease, credential, not_after).map_err(|e| NotReady(e.to_string()))?;
        Ok(Prepared { document, not_after, hard_end: not_after })
    }

    async fn mint_execute(&self, opened: &OpenedLease, authority: &Authority) -> MintOutcome {
        let grant = authority.sealed().grant();
        match &grant.credential {
            Credential::Jwt(jwt) if grant.time.lease == opened.lease().id => {
                // INVARIANT: exact-scope. The token carries the one signed element and nothing else.
                let details = jwt.authorization_details.clone();
                self.mint(opened, jwt, grant.who.requester.to_string(), details)
            }
            _ => wrong_credential(),
        }
    }

    async fn mint_phase(&self, opened: &OpenedLease, phase: &PhaseCredential) -> MintOutcome {
        match &phase.credential {
            Credential::Jwt(jwt) => self.mint(opened, jwt, phase.requester.clone(), Vec::new()),
            Credential::Aws(_) => wrong_credential(),
        }
    }

    async fn revoke(&self, lease: &Lease, now: Timestamp) -> Result<Revoked, RevokeFailed> {
        // Introspection reads the lease itself; without introspection nothing ends a signed token early.
        let effective_by = match lease.revocability {
            Revocability::Immediate => now,
            Revocability::Seconds | Revocability::AtExpiry => lease.not_after,
        };
        Ok(Revoked { at: now, effective_by })
    }
}

fn wrong_credential() -> MintOutcome {
    MintOutcome::Refused {
        code: "wrong_credential".into(),
        message: "the lease and the credential do not belong together".into(),
        retry_after: None,
        for_good: false,
    }
}
