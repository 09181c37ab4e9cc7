//! Our sessions as CAEP events, pushed (RFC 8935): one signed security event token to a request. 202 moves on; what a
//! receiver refuses with an error of its own moves on too, told in the log and counted; anything else is sent again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;
use serde::Deserialize;

use super::Post;
use crate::broker::ports::{Clock, Delivered, LoggedEvent, Sink, SinkError};
use crate::domain::security_event::SET_MEDIA_TYPE;
use crate::domain::token::TokenSigner;

/// For so long one batch is pushed; the rest is the next one's.
const SLICE: Duration = Duration::from_secs(20);

/// A receiver that is pushed to.
pub struct CaepPush {
    name: String,
    post: Post,
    audience: String,
    signer: Arc<TokenSigner>,
    clock: Arc<dyn Clock>,
}

/// RFC 8935 section 2.3.
#[derive(Deserialize)]
struct PushError {
    err: String,
}

impl CaepPush {
    /// Pushes tokens for `audience` to `post`.
    pub fn new(
        name: String,
        post: Post,
        audience: String,
        signer: Arc<TokenSigner>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { name, post, audience, signer, clock }
    }

    /// Pushes one; true when the receiver refused it for good.
    async fn push(&self, event: &LoggedEvent) -> Result<bool, String> {
        let Some(set) = event.set(&self.signer, &self.audience, self.clock.wall()) else { return Ok(false) };
        let set = set.map_err(|error| error.to_string())?;
        let answer = self.post.send(SET_MEDIA_TYPE, set.token.into_bytes()).await?;
        match (answer.status, serde_json::from_slice::<PushError>(&answer.body)) {
            (StatusCode::ACCEPTED, _) => Ok(false),
            (StatusCode::BAD_REQUEST, Ok(refused)) => {
                let why: String = refused.err.chars().take(64).collect();
                tracing::error!(
                    sink = self.name,
                    jti = set.jti,
                    err = %why.escape_default(),
                    "the receiver refuses a security event token; it is not sent again"
                );
                Ok(true)
            }
            (status, _) => {
                Err(format!("the receiver answered {status}, which is neither 202 nor 400 with `err`"))
            }
        }
    }
}

#[async_trait]
impl Sink for CaepPush {
    fn name(&self) -> &str {
        &self.name
    }

    async fn deliver(&self, events: &[LoggedEvent]) -> Result<Delivered, SinkError> {
        let mut refused = 0;
        let enough = tokio::time::Instant::now() + SLICE;
        for (taken, event) in events.iter().enumerate() {
            if taken > 0 && tokio::time::Instant::now() >= enough {
                return Ok(Delivered { taken, refused });
            }
            match self.push(event).await {
                Ok(no) => refused += u64::from(no),
                Err(why) => return Err(SinkError { taken, refused, why }),
            }
        }
        Ok(Delivered { taken: events.len(), refused })
    }
}
