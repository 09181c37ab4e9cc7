//! One request and its bounded answer. What is said about a failure names neither the URL nor a word of the answer.

use reqwest::{RequestBuilder, StatusCode};

use super::{MAX_ANSWER_BYTES, failed};
use crate::broker::ports::LookFailed;

/// An answer, read whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The body of a 200; a redirect is as little an answer as an error is.
    pub(super) fn good(self) -> Result<Vec<u8>, LookFailed> {
        match self.status {
            StatusCode::OK => Ok(self.body),
            status if status.is_redirection() => {
                Err(LookFailed(format!("it answered {}, and redirects are not followed", status.as_u16())))
            }
            status => Err(LookFailed(format!("it answered {} instead of 200", status.as_u16()))),
        }
    }
}

/// Sends `request` and reads what comes, up to the limit.
pub(super) async fn answer(request: RequestBuilder) -> Result<Answer, LookFailed> {
    let mut response = request.header("accept", "application/json").send().await.map_err(why)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(why)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(LookFailed(format!("its answer is larger than {MAX_ANSWER_BYTES} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, body })
}

/// The error's own text names the URL, which may hold a token.
fn why(error: reqwest::Error) -> LookFailed {
    failed(match (error.is_timeout(), error.is_connect()) {
        (true, _) => "it did not answer in time",
        (false, true) => "it cannot be reached",
        (false, false) => "the connection broke before its whole answer was there",
    })
}
