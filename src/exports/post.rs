//! One POST to a receiver: bounded in time and in what is read back, no redirect, its secret header read from a file
//! each time so that it can be changed without a restart.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use zeroize::Zeroizing;

/// For one request, from connecting to the last byte read.
const PATIENCE: Duration = Duration::from_secs(10);
/// So much of an answer is read.
const MAX_ANSWER_BYTES: usize = 8 * 1024;
/// So long may a secret header be.
const MAX_SECRET_BYTES: u64 = 4 * 1024;

/// A receiver.
pub struct Post {
    client: reqwest::Client,
    url: String,
    secret: Option<SecretHeader>,
}

/// A header whose value lies in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretHeader {
    /// Its name.
    pub name: HeaderName,
    /// Where its value is.
    pub file: PathBuf,
}

/// What a receiver answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

impl Post {
    /// A receiver at `url`.
    pub fn new(url: String, secret: Option<SecretHeader>) -> Result<Self, reqwest::Error> {
        // SECURITY: a redirect would carry the log and the secret to a place that nobody configured.
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { client, url, secret })
    }

    /// Posts `body`; an error names neither URL nor secret.
    pub(super) async fn send(&self, media: &'static str, body: Vec<u8>) -> Result<Answer, String> {
        let mut request = self.client.post(&self.url).header(CONTENT_TYPE, media).body(body);
        if let Some(secret) = &self.secret {
            request = request.header(&secret.name, secret.value().await?);
        }
        let failed = |error: reqwest::Error| error.without_url().to_string();
        let mut answer = request.send().await.map_err(failed)?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() >= MAX_ANSWER_BYTES {
                body.truncate(MAX_ANSWER_BYTES);
                break;
            }
        }
        Ok(Answer { status, body })
    }
}

impl SecretHeader {
    async fn value(&self) -> Result<HeaderValue, String> {
        let unreadable = |why: String| format!("the secret header file `{}`: {why}", self.file.display());
        let file = tokio::fs::metadata(&self.file).await.map_err(|error| unreadable(error.to_string()))?;
        if !file.is_file() || file.len() > MAX_SECRET_BYTES {
            return Err(unreadable(format!("must be a file of at most {MAX_SECRET_BYTES} bytes")));
        }
        let read = tokio::fs::read(&self.file).await.map_err(|error| unreadable(error.to_string()))?;
        let text = Zeroizing::new(read);
        let mut value = HeaderValue::from_bytes(text.trim_ascii())
            .map_err(|_| unreadable("does not hold one line that a header can".into()))?;
        value.set_sensitive(true);
        Ok(value)
    }
}
