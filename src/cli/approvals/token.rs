//! Making approval tokens: every claim comes from the grant's own bytes, none from the broker's word.

use crate::cli::keys::{PersonSigner, sign_jws};
use crate::domain::approval::{APPROVAL_TYP, Answer, ApprovalClaims};
use crate::domain::digest::Digest;
use crate::domain::grant::SealedGrant;
use crate::domain::id::ApprovalId;
use crate::domain::principal::PersonSlug;
use crate::domain::time::Timestamp;

/// Signs `answer` to exactly the bytes of `sealed`; deny and withdraw carry the digest of a reason.
pub fn approval_token(
    signer: &dyn PersonSigner,
    person: &PersonSlug,
    sealed: &SealedGrant,
    answer: Answer,
    reason: Option<&str>,
    now: Timestamp,
) -> anyhow::Result<String> {
    let grant = sealed.grant();
    let claims = ApprovalClaims {
        iss: person.clone(),
        aud: grant.issuer.clone(),
        sub: grant.who.claiming_agent.to_string(),
        grant: sealed.digest(),
        grant_id: grant.id,
        decision: answer,
        reason: reason.map(|text| Digest::of(text.as_bytes())),
        iat: now,
        exp: grant.time.claim_by,
        jti: ApprovalId::generate(now),
    };
    sign_jws(APPROVAL_TYP, signer, &claims)
}
