//! STS and IAM on loopback, for what moto never does: it throttles, hangs or answers about somebody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

/// What IAM does; STS always answers.
#[derive(Debug, Clone, Copy)]
pub enum Iam {
    /// Throttles so many calls, then says that nothing exists.
    Throttles(u32),
    /// Never answers.
    Hangs,
    /// Answers about another role than was asked for.
    Lies,
    /// Says that the caller may not.
    Denies,
}

/// The double, serving until it is dropped.
pub struct Double {
    pub url: String,
    state: Arc<Inner>,
    serving: tokio::task::JoinHandle<()>,
}

struct Inner {
    iam: Iam,
    calls: AtomicU32,
}

impl Double {
    pub async fn start(iam: Iam) -> Self {
        let state = Arc::new(Inner { iam, calls: AtomicU32::new(0) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(answer).with_state(state.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, state, serving }
    }

    /// Calls of IAM that came.
    pub fn calls(&self) -> u32 {
        self.state.calls.load(Ordering::SeqCst)
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(State(state): State<Arc<Inner>>, body: String) -> Response {
    // CloudTrail speaks JSON.
    let Some(action) = body.split('&').find_map(|member| member.strip_prefix("Action=")) else {
        return (StatusCode::FORBIDDEN, "{\"__type\":\"AccessDenied\"}").into_response();
    };
    if action == "GetCallerIdentity" {
        let arn = "<Arn>arn:aws:sts::111122223333:assumed-role/phasebroker-minter/x</Arn><Account>111122223333</Account>";
        return result(action, arn);
    }
    let call = state.calls.fetch_add(1, Ordering::SeqCst);
    match state.iam {
        Iam::Hangs => std::future::pending().await,
        Iam::Throttles(calls) if call < calls => refusal(400, "Throttling"),
        Iam::Throttles(_) => refusal(404, "NoSuchEntity"),
        Iam::Denies => refusal(403, "AccessDenied"),
        Iam::Lies => result(
            action,
            "<Role><Path>/</Path><RoleName>other</RoleName><RoleId>AROAEXAMPLE</RoleId>\
             <Arn>arn:aws:iam::111122223333:role/other</Arn><CreateDate>2026-01-01T00:00:00Z</CreateDate>\
             <AssumeRolePolicyDocument>%7B%7D</AssumeRolePolicyDocument></Role>",
        ),
    }
}

fn result(action: &str, body: &str) -> Response {
    format!(
        "<{action}Response><{action}Result>{body}</{action}Result>\
         <ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{action}Response>"
    )
    .into_response()
}

fn refusal(status: u16, code: &str) -> Response {
    let text = format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>said the double</Message></Error>\
         <RequestId>r</RequestId></ErrorResponse>"
    );
    (StatusCode::from_u16(status).unwrap(), text).into_response()
}
