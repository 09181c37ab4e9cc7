//! A witness over HTTP (C2SP tlog-witness): one request, one bounded answer, no redirects.

use std::time::Duration;

use async_trait::async_trait;

use crate::broker::ports::{Witness, WitnessAnswer, WitnessError};
use crate::ledger::note::NOTE_BYTES;
use crate::ledger::verifier_key::VerifierKey;

/// For the whole exchange.
const PATIENCE: Duration = Duration::from_secs(5);

/// A witness at a URL.
#[derive(Debug)]
pub struct HttpWitness {
    key: VerifierKey,
    url: String,
    http: reqwest::Client,
}

impl HttpWitness {
    /// The witness whose `add-checkpoint` lies under `url` (no closing slash), known by `key`.
    pub fn new(url: &str, key: VerifierKey) -> Result<Self, WitnessError> {
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|_| WitnessError("TLS cannot be set up".into()))?;
        Ok(Self { key, url: format!("{url}/add-checkpoint"), http })
    }
}

#[async_trait]
impl Witness for HttpWitness {
    fn key(&self) -> &VerifierKey {
        &self.key
    }

    async fn add_checkpoint(&self, request: String) -> Result<WitnessAnswer, WitnessError> {
        let sent =
            self.http.post(&self.url).header("content-type", "text/plain; charset=utf-8").body(request);
        let mut answer = sent.send().await.map_err(why)?;
        let content_type = answer.headers().get("content-type").and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(why)? {
            if body.len() + chunk.len() > NOTE_BYTES {
                return Err(WitnessError(format!("its answer is larger than {NOTE_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        let body = String::from_utf8(body).map_err(|_| WitnessError("its answer is not UTF-8".into()))?;
        Ok(WitnessAnswer { status: answer.status().as_u16(), content_type, body })
    }
}

fn why(error: reqwest::Error) -> WitnessError {
    WitnessError(
        match (error.is_timeout(), error.is_connect()) {
            (true, _) => "it did not answer in time",
            (false, true) => "it cannot be reached",
            (false, false) => "the connection broke before its whole answer was there",
        }
        .into(),
    )
}
