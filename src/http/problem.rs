//! Refusals as answers: RFC 9457 problems with stable codes, and the RFC 6749 form of the OAuth endpoints.
//! Only public text leaves; what went wrong inside is in the log.

use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;

use crate::broker::refusal::{Code, Refusal};
use crate::domain::id::RunId;
use crate::domain::principal::Actor;

/// RFC 9449 section 8.1.
pub const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// The document of RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ProblemBody {
    /// `urn:phasebroker:error:<code>`; stable.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// The HTTP status again.
    pub status: u16,
    /// The stable code.
    pub code: String,
    /// What happened and what to do.
    pub detail: String,
    /// Seconds after which another try makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
}

/// The error document of RFC 6749 section 5.2, with our own code beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct OAuthErrorBody {
    /// The registered OAuth error.
    pub error: String,
    /// What happened and what to do; printable ASCII.
    pub error_description: String,
    /// The stable code.
    pub code: String,
}

/// A refusal that no use case has recorded yet. It rides on the answer to the layer that knows the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unrecorded {
    /// The refusal.
    pub(super) refusal: Refusal,
    /// Who was refused, where the handler found out.
    pub(super) actor: Option<Actor>,
    /// Whose login it was said to be, when nothing proved it.
    pub(super) named: Option<Actor>,
    /// The run, where the handler found out.
    pub(super) run: Option<RunId>,
}

/// The code of an answer that says no, for the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnswerCode(pub(super) &'static str);

/// An answer that says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after: Option<u32>,
    nonce: Option<String>,
    oauth: Option<&'static str>,
    unrecorded: Option<Box<Unrecorded>>,
}

impl Problem {
    /// A problem of the transport, which no use case of the broker has seen.
    pub fn of_transport(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { status, code, detail, retry_after: None, nonce: None, oauth: None, unrecorded: None }
    }

    /// The use case has recorded it already.
    pub fn recorded(refusal: Refusal) -> Self {
        Self { unrecorded: None, ..Self::from(refusal) }
    }

    /// This one was refused.
    pub fn of(mut self, actor: Actor) -> Self {
        if let Some(unrecorded) = &mut self.unrecorded {
            unrecorded.actor = Some(actor);
        }
        self
    }

    /// It was said to be this one's login, and nothing proved it.
    pub(super) fn naming(mut self, actor: Actor) -> Self {
        if let Some(unrecorded) = &mut self.unrecorded {
            unrecorded.named = Some(actor);
        }
        self
    }

    /// It is about this member of the request.
    pub fn in_member(mut self, name: &str) -> Self {
        self.detail = format!("`{name}`: {}", self.detail);
        self
    }

    /// In this run.
    pub fn about(mut self, run: RunId) -> Self {
        if let Some(unrecorded) = &mut self.unrecorded {
            unrecorded.run = Some(run);
        }
        self
    }

    /// The OAuth error to give at an OAuth endpoint, where the code alone does not tell.
    pub fn oauth(mut self, error: &'static str) -> Self {
        self.oauth = Some(error);
        self
    }

    /// Hands the caller a nonce for the next proof (RFC 9449 section 8).
    pub fn nonce(mut self, nonce: String) -> Self {
        self.nonce = Some(nonce);
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.code
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self {
            status: status(refusal.code),
            code: refusal.code.name(),
            detail: refusal.message.clone(),
            retry_after: refusal.retry_after,
            nonce: None,
            oauth: None,
            unrecorded: Some(Box::new(Unrecorded { refusal, actor: None, named: None, run: None })),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = match self.oauth {
            Some(error) => serde_json::to_vec(&OAuthErrorBody {
                error: error.to_owned(),
                error_description: printable(&self.detail),
                code: self.code.to_owned(),
            }),
            None => serde_json::to_vec(&ProblemBody {
                kind: format!("urn:phasebroker:error:{}", self.code),
                title: title(self.code),
                status: self.status.as_u16(),
                code: self.code.to_owned(),
                detail: self.detail,
                retry_after: self.retry_after,
            }),
        };
        // Strings and numbers always serialize.
        let mut response = Response::new(axum::body::Body::from(body.unwrap_or_default()));
        *response.status_mut() = self.status;
        let kind = if self.oauth.is_some() { "application/json" } else { "application/problem+json" };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(nonce) = self.nonce.and_then(|nonce| HeaderValue::try_from(nonce).ok()) {
            headers.insert(DPOP_NONCE, nonce);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, challenge(self.code));
        }
        let extensions = response.extensions_mut();
        extensions.insert(AnswerCode(self.code));
        if let Some(unrecorded) = self.unrecorded {
            extensions.insert(*unrecorded);
        }
        response
    }
}

/// A refusal at an OAuth endpoint (`/token`, `/introspect`, `/revoke`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuthProblem(Problem);

impl From<Problem> for OAuthProblem {
    fn from(mut problem: Problem) -> Self {
        let (status, error) = oauth(problem.status, problem.code);
        problem.status = status;
        problem.oauth = problem.oauth.or(Some(error));
        Self(problem)
    }
}

impl From<Refusal> for OAuthProblem {
    fn from(refusal: Refusal) -> Self {
        Problem::from(refusal).into()
    }
}

impl IntoResponse for OAuthProblem {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

/// 401 not authenticated, 403 may know but not do, 404 may not know, 409 lost race or wrong state, 410 over,
/// 422 well-formed but refused, 429 a limit, 503 cannot decide.
pub fn status(code: Code) -> StatusCode {
    match code {
        Code::BadRequest => StatusCode::BAD_REQUEST,
        Code::Unauthenticated | Code::InvalidDpopProof | Code::UseDpopNonce => StatusCode::UNAUTHORIZED,
        Code::Forbidden
        | Code::PolicyDenied
        | Code::ApproverIneligible
        | Code::WrongClaimant
        | Code::Frozen => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::PhaseOrder
        | Code::AgentExecuting
        | Code::EarlierCredentialAlive
        | Code::AlreadyAnswered
        | Code::GrantNotOpen
        | Code::GrantSpent
        | Code::PlanChanged
        | Code::Conflict => StatusCode::CONFLICT,
        Code::GrantExpired | Code::CredentialLost | Code::LeaseEnded => StatusCode::GONE,
        Code::KeyReused
        | Code::ProposalInvalid
        | Code::NotEnabled
        | Code::ApprovalInvalid
        | Code::ApprovalsMissing
        | Code::GrantForeign
        | Code::PreconditionFailed
        | Code::RulesInvalid => StatusCode::UNPROCESSABLE_ENTITY,
        Code::TooManyOpen | Code::LimitReached => StatusCode::TOO_MANY_REQUESTS,
        Code::ProviderRefused
        | Code::ProviderNotReady
        | Code::MintUnknown
        | Code::StoreUnavailable
        | Code::FenceNeeded
        | Code::LedgerDamaged
        | Code::WitnessesMissing
        | Code::LogUnsigned
        | Code::NoSigningKey
        | Code::ClockUntrusted
        | Code::CannotVerify
        | Code::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// RFC 6749 section 5.2 and RFC 9449 section 5: everything is 400 but a failed login, a limit and an outage.
fn oauth(status: StatusCode, code: &str) -> (StatusCode, &'static str) {
    match (code, status) {
        ("unauthenticated", _) => (StatusCode::UNAUTHORIZED, "invalid_client"),
        ("invalid_dpop_proof", _) => (StatusCode::BAD_REQUEST, "invalid_dpop_proof"),
        ("use_dpop_nonce", _) => (StatusCode::BAD_REQUEST, "use_dpop_nonce"),
        (_, StatusCode::FORBIDDEN) => (StatusCode::BAD_REQUEST, "unauthorized_client"),
        (_, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) => {
            (status, "temporarily_unavailable")
        }
        (_, StatusCode::INTERNAL_SERVER_ERROR) => (status, "server_error"),
        _ => (StatusCode::BAD_REQUEST, "invalid_request"),
    }
}

/// RFC 9449 section 7.1.
fn challenge(code: &str) -> HeaderValue {
    HeaderValue::from_static(match code {
        "use_dpop_nonce" => r#"DPoP error="use_dpop_nonce", algs="EdDSA ES256""#,
        "invalid_dpop_proof" => r#"DPoP error="invalid_dpop_proof", algs="EdDSA ES256""#,
        _ => r#"DPoP algs="EdDSA ES256", Bearer"#,
    })
}

fn title(code: &str) -> String {
    let words = code.replace('_', " ");
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// RFC 6749 section 5.2 allows %x20-21 / %x23-5B / %x5D-7E.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '"' | '\\' => '\'',
            ' '..='~' => c,
            _ => '?',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::*;

    async fn read(response: Response) -> Value {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn every_refusal_is_an_error_status_of_the_written_list() {
        let used: BTreeSet<u16> = Code::ALL.iter().map(|code| status(*code).as_u16()).collect();
        assert_eq!(used, BTreeSet::from([400, 401, 403, 404, 409, 410, 422, 429, 503]));
    }

    #[tokio::test]
    async fn a_refusal_is_a_problem_with_a_stable_type() {
        let refusal = Refusal::new(Code::ProviderNotReady, "STS has not answered; try again").retry_after(7);
        let response = Problem::from(refusal).into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "7");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(
            read(response).await,
            json!({"type": "urn:phasebroker:error:provider_not_ready", "title": "Provider not ready",
                   "status": 503, "code": "provider_not_ready", "detail": "STS has not answered; try again",
                   "retry_after": 7})
        );
    }

    #[tokio::test]
    async fn a_missing_nonce_is_asked_for_and_given() {
        let problem = Problem::from(Refusal::new(Code::UseDpopNonce, "sign the nonce")).nonce("abc".into());
        let response = problem.clone().into_response();
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()["dpop-nonce"], "abc");
        assert!(response.headers()["www-authenticate"].to_str().unwrap().contains("use_dpop_nonce"));
        // At the token endpoint the same is a 400 (RFC 9449 section 8).
        assert_eq!(OAuthProblem::from(problem).into_response().status(), 400);
    }

    #[tokio::test]
    async fn an_oauth_endpoint_answers_in_oauth_words() {
        let refusal = Refusal::new(Code::Unauthenticated, "the assertion \"x\" has ended\u{202e}");
        let response = OAuthProblem::from(refusal).into_response();
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(
            read(response).await,
            json!({"error": "invalid_client", "error_description": "the assertion 'x' has ended?",
                   "code": "unauthenticated"})
        );
    }
}
