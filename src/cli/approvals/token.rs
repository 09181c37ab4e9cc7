//! Making approval tokens: every claim comes from the signed document's own bytes, none from the broker's word.

use crate::cli::keys::{PersonSigner, sign_jws};
use crate::domain::approval::{APPROVAL_TYP, Answer, ApprovalClaims, Signable};
use crate::domain::digest::Digest;
use crate::domain::id::ApprovalId;
use crate::domain::principal::PersonSlug;
use crate::domain::time::Timestamp;

/// Signs `answer` to exactly the bytes of `signed`; deny and withdraw carry the digest of a reason.
pub fn approval_token<'a>(
    signer: &dyn PersonSigner,
    person: &PersonSlug,
    signed: impl Into<Signable<'a>>,
    answer: Answer,
    reason: Option<&str>,
    now: Timestamp,
) -> anyhow::Result<String> {
    let signed = signed.into();
    let claims = ApprovalClaims {
        iss: person.clone(),
        aud: signed.issuer.to_owned(),
        sub: signed.subject.to_owned(),
        grant: signed.digest,
        grant_id: signed.id,
        decision: answer,
        reason: reason.map(|text| Digest::of(text.as_bytes())),
        iat: now,
        exp: signed.claim_by,
        jti: ApprovalId::generate(now),
    };
    sign_jws(APPROVAL_TYP, signer, &claims)
}
