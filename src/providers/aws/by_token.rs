//! Sessions for work whose token the countersigner signs: it is asked with the signed bytes and the approvals, and AWS with
//! its token. AWS checks the token and no identity of ours (STS API reference, AssumeRoleWithWebIdentity).

use std::time::Duration;

use serde_json::Value;
use zeroize::Zeroize as _;

use super::settings::BadAwsSettings;
use super::{AwsProvider, errors, refused};
use crate::broker::ports::MintOutcome;
use crate::domain::authority::Authority;
use crate::domain::countersign::{Access, Countersignature, PATH, ProofClaims, Request};
use crate::domain::grant::Grant;
use crate::domain::jws::{KeyHeader, Unverified};
use crate::domain::lease::OpenedLease;
use crate::domain::plan::AwsCredential;
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use crate::domain::web_identity::{IdentityClaims, TOKEN_TYP, has_tags_of};

/// For the whole exchange with the countersigner.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest answer, in bytes.
const ANSWER_BYTES: usize = 64 * 1024;
/// Seconds after which another try makes sense when it was not reached.
const AFTER_OUTAGE: u32 = 10;

/// The countersigner, as this broker asks it.
pub(super) struct Countersigner {
    access: Access,
    http: reqwest::Client,
}

/// No token came. Certainly nothing was minted: AWS was not asked, and nobody else has a token of this request.
struct NoToken {
    code: String,
    message: String,
    retry_after: Option<u32>,
}

impl Countersigner {
    pub(super) fn new(access: Access) -> Result<Self, BadAwsSettings> {
        // SECURITY: a redirect or a proxy of the environment would see the token.
        let mut http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        if let Some(pem) = &access.ca {
            let ca = reqwest::Certificate::from_pem(pem).map_err(|_| BadAwsSettings::CountersignerTls)?;
            http = http.tls_certs_only([ca]);
        }
        let http = http.build().map_err(|_| BadAwsSettings::CountersignerTls)?;
        Ok(Self { access, http })
    }

    /// Asks once for the token of a grant.
    async fn token(
        &self,
        authority: &Authority,
        credential: &AwsCredential,
        now: Timestamp,
    ) -> Result<Secret, NoToken> {
        let approvals = authority.approvals().iter().map(|approval| approval.token.clone()).collect();
        let body = serde_json::to_vec(&Request::new(authority.sealed().bytes(), approvals));
        let body = body.map_err(|_| unasked("the request cannot be written"))?;
        let Access { url, broker, key, .. } = &self.access;
        let proof = ProofClaims::new(broker, url, &body, now).sign(key);
        let proof = proof.map_err(|_| unasked("the broker's proof cannot be signed"))?;
        let asked = self.http.post(format!("{url}{PATH}")).bearer_auth(proof);
        let asked = asked.header("content-type", "application/json").body(body).send().await;
        let mut answer = asked.map_err(|error| lost(&error))?;
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| lost(&error))? {
            if body.len() + chunk.len() > ANSWER_BYTES {
                return Err(unasked("its answer is too large"));
            }
            body.extend_from_slice(&chunk);
        }
        if status != 200 {
            return Err(said_no(status, &body));
        }
        let token = serde_json::from_slice::<Countersignature>(&body).map(|answer| Secret::new(answer.token));
        body.zeroize();
        let token = token.map_err(|_| unasked("its answer cannot be read"))?;
        match is_of(token.expose(), authority.sealed().grant(), credential) {
            true => Ok(token),
            false => Err(unasked("its token is not the one of this grant")),
        }
    }
}

/// Whether a token says exactly what this grant's does. Otherwise its session would carry the tags of another lease, and
/// the end of this one would end nothing. That it is signed rightly AWS sees, not we.
fn is_of(token: &str, grant: &Grant, credential: &AwsCredential) -> bool {
    let read = Unverified::parse(token, TOKEN_TYP, KeyHeader::Kid);
    let Ok(claims) = read.and_then(|token| token.peek::<IdentityClaims>()) else { return false };
    IdentityClaims::of(grant, credential, claims.iat, claims.exp).is_some_and(|own| own == claims)
}

impl AwsProvider {
    /// INVARIANT: signed-before-minted. What this broker believes does not matter here: the token is somebody else's.
    pub(super) async fn assume_by_token(
        &self,
        opened: &OpenedLease,
        credential: &AwsCredential,
        authority: &Authority,
    ) -> MintOutcome {
        let Some(countersigner) = &self.countersigner else {
            let why = "the grant needs a token of the approvers' side, and no countersigner is configured";
            return refused("no_countersigner", why, None);
        };
        if !has_tags_of(credential, authority.sealed().grant()) {
            return refused("not_this_lease", "the tags are those of another grant", None);
        }
        let minter = self.minter(&credential.account);
        let ready = || minter.ready(opened, credential, self.writers.shut_until(&credential.role_arn));
        // The grant has one token: it is asked for only when all the rest is ready.
        if let Err(outcome) = ready().and_then(|_| minter.one_call()) {
            return outcome;
        }
        let token = match countersigner.token(authority, credential, self.clock.wall()).await {
            Ok(token) => token,
            Err(NoToken { code, message, retry_after }) => return refused(&code, &message, retry_after),
        };
        // Waiting for it took time, and the deadline in the text may have passed.
        match ready() {
            Ok(asked_at) => minter.assume_by(&token, opened, credential, asked_at).await,
            Err(outcome) => outcome,
        }
    }
}

fn unasked(why: &str) -> NoToken {
    NoToken {
        code: "countersigner_failed".into(),
        message: format!("the countersigner gave no token: {why}"),
        retry_after: Some(AFTER_OUTAGE),
    }
}

fn lost(error: &reqwest::Error) -> NoToken {
    unasked(match (error.is_timeout(), error.is_connect()) {
        (true, _) => "it did not answer in time",
        (false, true) => "it cannot be reached",
        (false, false) => "the connection broke before its whole answer was there",
    })
}

/// Its refusal in its own words, as far as they are plain.
fn said_no(status: u16, body: &[u8]) -> NoToken {
    let problem = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let text = |name: &str| errors::said(problem.get(name).and_then(Value::as_str).unwrap_or_default());
    let (code, detail) = (text("code"), text("detail"));
    let retry_after = (status >= 500).then_some(AFTER_OUTAGE);
    NoToken {
        code: "countersigner_refused".into(),
        message: format!("the countersigner gave no token ({status} {code}): {detail}"),
        retry_after,
    }
}
