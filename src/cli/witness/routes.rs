//! What a witness answers over HTTP: C2SP tlog-witness, and what it holds, for people.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bytes::Bytes;

use super::memory::{Memory, NotCosigned, Record, Seen};
use crate::ledger::spelling::base64;
use crate::ledger::witness::{AddCheckpoint, Refusal};

const PLAIN: &str = "text/plain; charset=utf-8";

pub(super) fn router(memory: Arc<Memory>) -> Router {
    Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .route("/healthz", get(async || "ok\n"))
        .route("/", get(holds))
        .with_state(memory)
}

async fn add_checkpoint(State(memory): State<Arc<Memory>>, body: Bytes) -> Response {
    // Verifying, waiting for the log's turn and for the disk are not for the threads that serve connections.
    let judged = tokio::task::spawn_blocking(move || {
        let request = AddCheckpoint::parse(&body)?;
        let answer = memory.add(&request);
        report(&memory, &request, &answer);
        answer
    });
    match judged.await {
        Ok(Ok(line)) => answer(StatusCode::OK, PLAIN, format!("{line}\n")),
        Ok(Err(NotCosigned::Refused(refusal))) => {
            let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
            answer(status, refusal.content_type(), format!("{refusal}\n"))
        }
        Ok(Err(NotCosigned::Failed(error))) => {
            tracing::error!(why = format!("{error:#}"), "could not cosign");
            answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "the witness cannot keep what it cosigns\n".into())
        }
        Err(_) => answer(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, "the witness failed\n".into()),
    }
}

/// A cosignature is worth a line, and so is what the log signed and should not have: it may prove to others that the log
/// misbehaved. Whatever else came along is left out: anybody can send that.
fn report(memory: &Memory, request: &AddCheckpoint, answer: &Result<impl Sized, NotCosigned>) {
    match answer {
        Ok(_) => {
            let mut lines = request.checkpoint.unverified_text().lines();
            let (origin, size) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
            tracing::info!(log.origin = origin, log.size = size, "cosigned");
        }
        Err(NotCosigned::Refused(
            refusal @ (Refusal::OtherRoot { .. } | Refusal::BadProof | Refusal::Fenced { .. }),
        )) => {
            if let Some(checkpoint) = memory.evidence(request) {
                tracing::warn!(why = %refusal, checkpoint = ?checkpoint.to_string(), "did not cosign");
            }
        }
        Err(_) => {}
    }
}

async fn holds(State(memory): State<Arc<Memory>>) -> Response {
    let told = tokio::task::spawn_blocking(move || tell(&memory)).await;
    match told {
        Ok(Ok(text)) => answer(StatusCode::OK, PLAIN, text),
        _ => answer(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, "the witness failed\n".into()),
    }
}

fn tell(memory: &Memory) -> anyhow::Result<String> {
    let seen = |Seen { origin, size, root }: &Seen| {
        format!("{origin}: {size} leaves, root {}", base64(root.as_bytes()))
    };
    let mut text = format!("C2SP tlog-witness\n{}\n", memory.verifier()?);
    for (log, record) in memory.records() {
        writeln!(text, "\n{log}")?;
        match record {
            None => writeln!(text, "  nothing cosigned yet")?,
            Some(Record { newest, at, earlier, .. }) => {
                writeln!(text, "  {}, cosigned at {at}", seen(&newest))?;
                for ended in earlier.iter().rev() {
                    writeln!(text, "  ended {}", seen(ended))?;
                }
            }
        }
    }
    Ok(text)
}

fn answer(status: StatusCode, kind: &'static str, text: String) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, text).into_response()
}
