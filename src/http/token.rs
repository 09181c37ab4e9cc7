//! `/token` (RFC 6749 section 4.4 with RFC 7523 and RFC 9449): entering and renewing observe and decide.
//! Execute cannot be asked for here. `/revoke` (RFC 7009): the holder ends its token's lease.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use hyper::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::App;
use super::about::About;
use super::body::{Form, ok};
use super::callers::{AgentCaller, unauthenticated};
use super::headers::proof_of;
use super::problem::{OAuthProblem, Problem};
use crate::authn::dpop::{Expected, NonceRule};
use crate::broker::phases::{PhaseGranted, ReadPhase};
use crate::broker::refusal::{Code, Refusal};
use crate::broker::working_keys::former_keys_unknown;
use crate::domain::id::{LeaseId, RunId};
use crate::domain::phase::Phase;
use crate::domain::principal::{ActionType, Actor};
use crate::domain::time::Timestamp;

/// RFC 7523 section 2.2.
pub(super) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What an agent asks the token endpoint for.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub struct TokenRequest {
    /// `client_credentials`.
    grant_type: String,
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`.
    client_assertion_type: String,
    /// The agent's assertion.
    client_assertion: String,
    /// `phase:observe` or `phase:decide`.
    scope: String,
    /// The run.
    run: String,
    /// Name of the observe set; for observe only.
    resource: Option<String>,
}

/// RFC 6749 section 5.1, with the lease beside it.
#[derive(Serialize, utoipa::ToSchema)]
pub struct TokenReply<'a> {
    access_token: &'a str,
    /// `DPoP`.
    token_type: &'static str,
    expires_in: i64,
    scope: &'static str,
    #[schema(value_type = String)]
    lease: LeaseId,
    #[schema(value_type = String)]
    run: RunId,
    #[schema(value_type = i64)]
    not_after: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    aws: Option<AwsReply<'a>>,
}

/// A read-only AWS session.
#[derive(Serialize, utoipa::ToSchema)]
pub struct AwsReply<'a> {
    access_key_id: &'a str,
    secret_access_key: &'a str,
    session_token: &'a str,
    /// RFC 3339; our deadline, not STS's.
    expiration: String,
    region: &'a str,
}

/// A token to be ended.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub struct RevokeRequest {
    token: String,
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`.
    client_assertion_type: String,
    client_assertion: String,
}

/// POST /token
pub(super) async fn token(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    form: Result<Form<TokenRequest>, Problem>,
) -> Result<Response, OAuthProblem> {
    let Form(asked) = form?;
    if asked.grant_type != "client_credentials" {
        return Err(wrong("unsupported_grant_type", "`grant_type` must be `client_credentials`").into());
    }
    let caller =
        client(&app, &asked.client_assertion_type, &asked.client_assertion, &headers, "/token").await?;
    let refused = |problem: Problem| problem.of(Actor::Agent(caller.agent.clone()));
    let run =
        asked.run.parse::<RunId>().map_err(|e| refused(wrong("invalid_request", &format!("`run`: {e}"))))?;
    tracing::Span::current().record("run.id", tracing::field::display(run));
    let phase = phase(&asked).map_err(|problem| refused(problem).about(run))?;
    let granted = app
        .broker
        .enter_phase(&caller.agent, run, phase, caller.key, caller.attestation)
        .await
        .map_err(|refusal| refused(refusal.into()).about(run))?;
    tracing::Span::current().record("lease.id", tracing::field::display(granted.lease));
    Ok(ok(&TokenReply::of(&granted)))
}

/// POST /revoke
pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    form: Result<Form<RevokeRequest>, Problem>,
) -> Result<StatusCode, OAuthProblem> {
    let Form(asked) = form?;
    let caller =
        client(&app, &asked.client_assertion_type, &asked.client_assertion, &headers, "/revoke").await?;
    let now = app.broker.gate().now();
    let signer = app.broker.signer();
    let claims = match signer.verify(&asked.token, now) {
        Ok(claims) => claims,
        Err(error) if signer.may_know_later(&error) => {
            return Err(Problem::from(former_keys_unknown()).of(Actor::Agent(caller.agent)).into());
        }
        // What is no token of ours any more needs no end (RFC 7009 section 2.2).
        Err(_) => return Ok(StatusCode::OK),
    };
    let refused = |problem: Problem| problem.of(Actor::Agent(caller.agent.clone())).about(claims.txn);
    if claims.client_id != caller.agent || claims.cnf.jkt != caller.key {
        let why = "the token was issued to another agent or key";
        return Err(refused(Refusal::new(Code::Forbidden, why).into()).into());
    }
    app.broker.revoke_token(&claims).await.map_err(|refusal| refused(refusal.into()))?;
    Ok(StatusCode::OK)
}

async fn client(
    app: &App,
    kind: &str,
    assertion: &str,
    headers: &HeaderMap,
    path: &str,
) -> Result<AgentCaller, Problem> {
    if kind != ASSERTION_TYPE {
        return Err(unauthenticated(format!("`client_assertion_type` must be `{ASSERTION_TYPE}`")));
    }
    let url = format!("{}{path}", app.broker.settings().issuer);
    let now = app.broker.gate().now();
    let expected = Expected { method: "POST", url: &url, access_token: None, nonce: NonceRule::NotNeeded };
    let aim = About::default().aim(path);
    let caller = app.agent_by(assertion, proof_of(headers)?, &expected, aim, now).await?;
    tracing::Span::current().record("caller", tracing::field::display(&caller.agent));
    Ok(caller)
}

fn phase(asked: &TokenRequest) -> Result<ReadPhase, Problem> {
    match (asked.scope.as_str(), asked.resource.as_deref()) {
        (scope, Some(set)) if scope == Phase::Observe.scope() => set
            .parse::<ActionType>()
            .map(ReadPhase::Observe)
            .map_err(|error| wrong("invalid_target", &format!("`resource`: {error}"))),
        (scope, None) if scope == Phase::Observe.scope() => {
            Err(wrong("invalid_target", "`resource` must name an observe set of the catalog"))
        }
        (scope, None) if scope == Phase::Decide.scope() => Ok(ReadPhase::Decide),
        (scope, Some(_)) if scope == Phase::Decide.scope() => {
            Err(wrong("invalid_target", "`resource` belongs to `phase:observe` only"))
        }
        (scope, _) if scope == Phase::Execute.scope() => Err(Problem::from(Refusal::new(
            Code::PhaseOrder,
            "execute is reached by claiming an approved grant, and by nothing else",
        ))
        .oauth("invalid_scope")),
        _ => Err(wrong("invalid_scope", "`scope` must be exactly `phase:observe` or `phase:decide`")),
    }
}

fn wrong(error: &'static str, why: &str) -> Problem {
    Problem::from(Refusal::new(Code::BadRequest, why)).oauth(error)
}

impl<'a> TokenReply<'a> {
    fn of(granted: &'a PhaseGranted) -> Self {
        Self {
            access_token: granted.access_token.expose(),
            token_type: "DPoP",
            expires_in: granted.expires_in,
            scope: granted.phase.scope(),
            lease: granted.lease,
            run: granted.run,
            not_after: granted.not_after,
            aws: granted.aws.as_ref().map(|aws| AwsReply {
                access_key_id: &aws.access_key_id,
                secret_access_key: aws.secret_access_key.expose(),
                session_token: aws.session_token.expose(),
                expiration: granted.not_after.rfc3339(),
                region: &aws.region,
            }),
        }
    }
}
