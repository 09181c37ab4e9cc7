//! A webhook: batches of OCSF objects by POST. Only 2xx moves on; anything else is sent again.

use async_trait::async_trait;

use super::{Post, ocsf};
use crate::broker::ports::{Delivered, LoggedEvent, Sink, SinkError};

/// How a batch is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// `application/x-ndjson`: one object a line.
    Lines,
    /// `application/json`: one array.
    Array,
}

/// A webhook.
pub struct Webhook {
    name: String,
    post: Post,
    body: Body,
}

impl Webhook {
    /// Posts to `post`.
    pub fn new(name: String, post: Post, body: Body) -> Self {
        Self { name, post, body }
    }
}

#[async_trait]
impl Sink for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    async fn deliver(&self, events: &[LoggedEvent]) -> Result<Delivered, SinkError> {
        let objects = events.iter().map(ocsf::line);
        let (media, body) = match self.body {
            Body::Lines => ("application/x-ndjson", objects.map(|line| line + "\n").collect::<String>()),
            Body::Array => ("application/json", format!("[{}]", objects.collect::<Vec<_>>().join(","))),
        };
        let answer = self.post.send(media, body.into_bytes()).await.map_err(SinkError::nothing)?;
        match answer.status.is_success() {
            true => Ok(Delivered::all(events.len())),
            false => Err(SinkError::nothing(format!("the webhook answered {}", answer.status))),
        }
    }
}
