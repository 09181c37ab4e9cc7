//! `/v1/grants/{grant}` for agents: waiting for signatures, cancelling, claiming.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use hyper::header::{HeaderValue, RETRY_AFTER};
use serde::{Deserialize, Serialize};

use super::App;
use super::body::{Id, Json, Query, ok, seconds};
use super::callers::AgentCaller;
use super::problem::Problem;
use crate::broker::claim::{Claimed, Presented};
use crate::broker::ports::CredentialSecret;
use crate::domain::digest::Digest;
use crate::domain::grant::GrantState;
use crate::domain::id::{GrantId, LeaseId};
use crate::domain::plan::{Credential, ProviderKind, Revocability};
use crate::domain::time::Timestamp;

/// How long to wait for a change.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    wait: Option<u64>,
}

/// The approvals a claim rests on.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The approval tokens, as received; none for a grant inside a playbook.
    #[serde(default)]
    approvals: Vec<String>,
    /// Digest of the external plan that is about to be carried out, where the grant binds one.
    #[schema(value_type = Option<String>)]
    plan_digest: Option<Digest>,
}

/// A grant that was cancelled.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Cancelled {
    #[schema(value_type = String)]
    grant: GrantId,
    #[schema(value_type = String)]
    state: GrantState,
}

/// An execute credential.
#[derive(Serialize, utoipa::ToSchema)]
pub struct ClaimReply<'a> {
    #[schema(value_type = String)]
    lease: LeaseId,
    /// Useless from here on.
    #[schema(value_type = i64)]
    not_after: Timestamp,
    /// The provider's own floor.
    #[schema(value_type = i64)]
    hard_end: Timestamp,
    /// Good for recall, complete and cancel of this lease only.
    execute_token: &'a str,
    #[schema(value_type = String)]
    provider: ProviderKind,
    credential: CredentialReply<'a>,
    #[schema(value_type = String)]
    revocability: Revocability,
    /// A lost reply can be asked for again until here.
    #[schema(value_type = i64)]
    recall_until: Timestamp,
}

/// The secret part, by kind.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum CredentialReply<'a> {
    /// A DPoP-bound token of the resource.
    Token {
        /// The token.
        access_token: &'a str,
        /// Its one audience.
        audience: &'a str,
    },
    /// An STS session.
    Aws {
        /// Access key id.
        access_key_id: &'a str,
        /// Secret access key.
        secret_access_key: &'a str,
        /// Session token.
        session_token: &'a str,
        /// RFC 3339; our deadline, not STS's.
        expiration: String,
        /// Region.
        region: &'a str,
        /// Account.
        account: &'a str,
        /// The role.
        role_arn: &'a str,
    },
}

impl<'a> ClaimReply<'a> {
    /// The reply to a claim, or to a recall of it.
    pub(super) fn of(claimed: &'a Claimed) -> Self {
        let (audience, region, account, role_arn) = match &claimed.credential {
            Credential::Jwt(jwt) => (jwt.audience.as_str(), "", "", ""),
            Credential::Aws(aws) => ("", aws.region.as_str(), aws.account.as_str(), aws.role_arn.as_str()),
        };
        let credential = match &*claimed.secret {
            CredentialSecret::Token(token) => {
                CredentialReply::Token { access_token: token.expose(), audience }
            }
            CredentialSecret::Aws { access_key_id, secret_access_key, session_token } => {
                CredentialReply::Aws {
                    access_key_id,
                    secret_access_key: secret_access_key.expose(),
                    session_token: session_token.expose(),
                    expiration: claimed.not_after.rfc3339(),
                    region,
                    account,
                    role_arn,
                }
            }
        };
        Self {
            lease: claimed.lease,
            not_after: claimed.not_after,
            hard_end: claimed.hard_end,
            execute_token: claimed.execute_token.expose(),
            provider: claimed.provider,
            credential,
            revocability: claimed.revocability,
            recall_until: claimed.recall_until,
        }
    }
}

/// GET /v1/grants/{grant}
pub(super) async fn wait(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(grant): Id<GrantId>,
    Query(query): Query<Wait>,
) -> Result<Response, Problem> {
    let mut closing = app.closing.subscribe();
    // A shutdown does not wait for people: the agent is answered now, and asks the next broker again.
    let closed = async {
        let _ = closing.wait_for(|closing| *closing).await;
    };
    let waited = tokio::select! {
        status = app.broker.grant_status(grant, &caller.agent, seconds(query.wait)) => Some(status),
        () = closed => None,
    };
    let status = match waited {
        Some(status) => status,
        None => app.broker.grant_status(grant, &caller.agent, seconds(None)).await,
    };
    let polled = status?;
    let mut response = ok(&polled.status);
    if let Some(seconds) = polled.retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    Ok(response)
}

/// POST /v1/grants/{grant}/cancel
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(grant): Id<GrantId>,
) -> Result<Response, Problem> {
    let state = app.broker.cancel_grant(grant, &caller.agent).await?;
    Ok(ok(&Cancelled { grant, state }))
}

/// POST /v1/grants/{grant}/claim
pub(super) async fn claim(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(grant): Id<GrantId>,
    Json(claim): Json<Claim>,
) -> Result<Response, Problem> {
    let presented = Presented { approvals: claim.approvals, plan_digest: claim.plan_digest };
    let claimed = app.broker.claim(grant, &caller.agent, caller.key, presented).await;
    let claimed = claimed.map_err(Problem::recorded)?;
    let span = tracing::Span::current();
    span.record("run.id", tracing::field::display(claimed.run));
    span.record("lease.id", tracing::field::display(claimed.lease));
    Ok(ok(&ClaimReply::of(&claimed)))
}
