//! Security events of the CAEP: `/v1/caep/events` takes what transmitters push (RFC 8935), `/v1/caep/poll` gives resource
//! servers ours (RFC 8936). A refused push is answered in the words of RFC 8935 section 2.3.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};

use super::App;
use super::body::{Json, bad, ok, reply};
use super::callers::ReceiverCaller;
use super::problem::Problem;
use crate::authn::transmitter::{Attempt, EventRefused};
use crate::broker::exporting::polls::{MOST_ACKS, MOST_SETS, PollAsked, PollReceiver};
use crate::broker::refusal::{Code, Refusal};
use crate::broker::signals::Signal;
use crate::domain::jws::MAX_JWS_BYTES;
use crate::domain::printable::printable;
use crate::domain::security_event::SET_MEDIA_TYPE;

/// Longest text of others in a log or answer, in characters.
const TEXT_CHARS: usize = 200;
/// How long a receiver that does not want an answer at once is kept.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Who may poll.
#[derive(Debug, Clone, Default)]
pub struct Caep {
    /// Resource servers that may poll.
    pub receivers: Vec<PollReceiver>,
}

/// RFC 8936 section 2.2.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PollRequest {
    /// At most so many tokens; 0 to acknowledge only.
    max_events: Option<u64>,
    /// Answer at once, even with nothing.
    return_immediately: Option<bool>,
    /// Ids of tokens that the receiver has for good.
    #[serde(default)]
    ack: Vec<String>,
    /// Tokens that the receiver refuses, by id.
    #[serde(default)]
    set_errs: BTreeMap<String, SetError>,
}

/// Why a token is refused (RFC 8935 section 2.3).
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetError {
    /// A registered code.
    err: String,
    /// In words.
    description: String,
}

/// RFC 8936 section 2.3.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PollReply {
    /// Tokens by id.
    sets: BTreeMap<String, String>,
    /// There are more.
    more_available: bool,
}

/// A security event token, compact (RFC 8417).
#[derive(utoipa::ToSchema)]
#[schema(value_type = String)]
pub struct SecurityEventToken(#[allow(dead_code, reason = "describes a body")] String);

/// POST /v1/caep/events
pub(super) async fn push(State(app): State<Arc<App>>, request: Request) -> Response {
    let now = app.broker.gate().now();
    let read = match token(request).await {
        Ok(token) => app.authn.security_event(&token, now).await,
        Err(refused) => Err(refused),
    };
    let event = match read {
        Ok(event) => event,
        Err(refused) => return refuse(&app, refused).await,
    };
    let Some(kind) = event.kind else { return StatusCode::ACCEPTED.into_response() };
    let attempt = match event.harmless {
        true => None,
        false => match app.authn.attempt(&event, now) {
            Ok(Some(attempt)) => Some(attempt),
            // One that comes again is taken and does nothing (RFC 8935 section 2).
            Ok(None) => return StatusCode::ACCEPTED.into_response(),
            Err(refused) => return refuse(&app, refused).await,
        },
    };
    if attempt.is_some() && app.authn.may_be_known(&event) {
        match app.broker.has_heard(&event.id, event.issued_at).await {
            Ok(false) => {}
            Ok(true) => {
                attempt.into_iter().for_each(Attempt::done);
                return StatusCode::ACCEPTED.into_response();
            }
            Err(refusal) => return Problem::from(refusal).into_response(),
        }
    }
    let signal = Signal {
        transmitter: event.transmitter.clone(),
        people: event.people,
        kind,
        issuer: event.issuer.clone(),
        subject: event.subject.clone(),
        harmless: event.harmless,
        id: event.id,
    };
    match app.broker.signal(&signal).await {
        Ok(acted) => {
            attempt.into_iter().filter(|_| acted).for_each(Attempt::done);
            StatusCode::ACCEPTED.into_response()
        }
        // The attempt is dropped: it may come again.
        Err(refusal) => Problem::from(refusal).into_response(),
    }
}

/// POST /v1/caep/poll
pub(super) async fn poll(
    State(app): State<Arc<App>>,
    caller: ReceiverCaller,
    Json(asked): Json<PollRequest>,
) -> Result<Response, Problem> {
    let receiver = app.caep.receivers.iter().find(|receiver| receiver.audience == caller.audience);
    let receiver = receiver.ok_or_else(|| {
        Refusal::new(Code::Forbidden, "this resource server is not configured to poll; see `[caep]`")
    })?;
    if asked.ack.len() + asked.set_errs.len() > MOST_ACKS {
        return Err(bad(format!("at most {MOST_ACKS} tokens are acknowledged at a time")));
    }
    for (jti, error) in &asked.set_errs {
        let (jti, err) = (printable(jti, TEXT_CHARS), printable(&error.err, TEXT_CHARS));
        tracing::error!(receiver = receiver.audience, jti, err, "a receiver refuses a security event token");
        app.broker.metrics().export_refused(&format!("poll:{}", receiver.audience), 1);
    }
    let most = asked.max_events.map_or(MOST_SETS, |most| usize::try_from(most).unwrap_or(MOST_SETS));
    let at_once = asked.return_immediately.unwrap_or(false);
    let poll = PollAsked {
        most: most.min(MOST_SETS),
        wait: if at_once { Duration::ZERO } else { LONGEST_WAIT },
        settled: asked.ack.into_iter().chain(asked.set_errs.into_keys()).collect(),
    };
    let mut closing = app.closing.subscribe();
    let polled = tokio::select! {
        polled = app.broker.poll(receiver, poll) => polled?,
        // A shutdown answers whoever waits, with nothing; what was acknowledged is in memory, and comes again.
        _ = closing.wait_for(|closing| *closing) => Default::default(),
    };
    Ok(ok(&PollReply { sets: polled.sets, more_available: polled.more }))
}

/// The token in the body.
async fn token(request: Request) -> Result<String, EventRefused> {
    let refused = |why: String| EventRefused::Refused { err: "invalid_request", why, transmitter: None };
    let media = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case(SET_MEDIA_TYPE) {
        return Err(refused(format!("send the token as `Content-Type: {SET_MEDIA_TYPE}`")));
    }
    // The listener has read the whole body and bounded it.
    let body = request.into_body().collect().await.map_err(|_| refused("the body cannot be read".into()))?;
    match String::from_utf8(body.to_bytes().to_vec()) {
        Ok(text) if text.len() <= MAX_JWS_BYTES => Ok(text),
        _ => Err(refused(format!("the body is no compact JWS of at most {MAX_JWS_BYTES} bytes"))),
    }
}

async fn refuse(app: &App, refused: EventRefused) -> Response {
    let (err, why, transmitter) = match refused {
        EventRefused::Unavailable { why } => {
            return Problem::recorded(Refusal::new(Code::CannotVerify, why).retry_after(5)).into_response();
        }
        EventRefused::UnknownTransmitter => ("invalid_issuer", refused.to_string(), None),
        EventRefused::Refused { err, why, transmitter } => (err, why, transmitter),
    };
    app.broker.signal_refused(transmitter.as_deref(), &why).await;
    let body = SetError { err: err.to_owned(), description: printable(&why, TEXT_CHARS) };
    reply(StatusCode::BAD_REQUEST, &body)
}
