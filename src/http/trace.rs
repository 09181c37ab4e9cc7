//! One span and one log line per request. The trace id is the caller's (W3C Trace Context) or a fresh one.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;
use tracing::field::Empty;

use super::problem::AnswerCode;

/// The outermost layer.
pub(super) async fn trace(request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let trace = request
        .headers()
        .get("traceparent")
        .and_then(|value| value.to_str().ok())
        .and_then(trace_id)
        .map_or_else(fresh, str::to_owned);
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let span = tracing::info_span!(
        "request",
        trace.id = trace,
        http.method = request.method().as_str(),
        http.route = route.as_deref().unwrap_or("none"),
        caller = Empty,
        run.id = Empty,
        grant.id = Empty,
        lease.id = Empty,
    );
    async move {
        let response = next.run(request).await;
        let status = response.status().as_u16();
        let elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let code = response.extensions().get::<AnswerCode>().map(|AnswerCode(code)| *code);
        // SECURITY: what anyone can send without a login fills no log at the usual level.
        let of_a_caller =
            status != 401 && route.is_some_and(|route| route.starts_with("/v1") || route == "/token");
        match code {
            Some(code) if of_a_caller => tracing::info!(http.status = status, elapsed_ms, code, "refused"),
            None if of_a_caller => tracing::info!(http.status = status, elapsed_ms, "answered"),
            _ => tracing::debug!(http.status = status, elapsed_ms, code, "answered"),
        }
        response
    }
    .instrument(span)
    .await
}

/// `version-traceid-parentid-flags`; the all-zero id is invalid (W3C Trace Context section 3.2.2).
fn trace_id(header: &str) -> Option<&str> {
    let mut parts = header.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let valid = hex(version, 2)
        && version != "ff"
        && (version != "00" || parts.next().is_none())
        && hex(trace, 32)
        && hex(parent, 16)
        && hex(flags, 2)
        && trace.bytes().any(|b| b != b'0');
    valid.then_some(trace)
}

fn fresh() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_is_taken_from_a_valid_traceparent_only() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(trace_id(&format!("00-{id}-00f067aa0ba902b7-01")), Some(id));
        for bad in [
            "",
            "00-xyz-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(trace_id(bad), None, "{bad}");
        }
    }
}
