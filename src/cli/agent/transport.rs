//! One HTTP exchange: bounded in time and size, no redirect, secrets wiped where we hold them.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::{Certificate, RequestBuilder, Url};
use zeroize::Zeroizing;

use super::error::{AgentError, Refused};

const CONNECT: Duration = Duration::from_secs(5);
/// For an answer; a long poll adds what it asked the broker to wait.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// The broker, as reached over HTTP.
pub(super) struct Transport {
    http: reqwest::Client,
    base: String,
}

/// A successful answer.
pub(super) struct Answer {
    body: Zeroizing<Vec<u8>>,
    /// The broker could not let us wait there: this long before it is asked again.
    pub(super) pause: Option<Duration>,
}

/// What an exchange gave: an answer, or a nonce to try again with.
pub(super) enum Exchanged {
    /// The broker did it.
    Done(Answer),
    /// The broker wants a proof over this nonce (RFC 9449 section 8).
    NonceWanted(String),
}

impl Transport {
    /// Reaches `base`, which is https, or http on loopback. `ca` is PEM that is trusted beside the system's roots.
    pub fn new(base: &str, ca: Option<&[u8]>) -> Result<Self, AgentError> {
        let wrong = |why: &str| AgentError::Login(format!("the broker's URL `{base}` {why}"));
        let url = Url::parse(base).map_err(|error| wrong(&format!("is not a URL: {error}")))?;
        let host = url.host_str().unwrap_or_default();
        let loopback = host == "localhost"
            || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
            return Err(wrong("must be https; plain http is for loopback only"));
        }
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
            return Err(wrong("has a query, a fragment or a user name; give origin and path alone"));
        }
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            // SECURITY: a redirect would carry our login to where somebody else says.
            .redirect(reqwest::redirect::Policy::none());
        if loopback {
            builder = builder.no_proxy();
        }
        if let Some(pem) = ca {
            let roots = Certificate::from_pem_bundle(pem)
                .map_err(|error| AgentError::Login(format!("the CA file is not PEM: {error}")))?;
            builder = roots.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
        }
        let http =
            builder.build().map_err(|error| AgentError::Login(format!("TLS cannot be set up: {error}")))?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned() })
    }

    /// Where the broker is.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A POST to `path`.
    pub fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.base)).timeout(PATIENCE)
    }

    /// A GET of `path`, which may carry a query.
    pub fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.base)).timeout(PATIENCE)
    }

    /// Sends and reads the whole answer.
    pub async fn exchange(&self, request: RequestBuilder) -> Result<Exchanged, AgentError> {
        let away = |error: reqwest::Error| AgentError::Unreachable {
            url: self.base.clone(),
            why: causes(&error.without_url()),
        };
        let mut answer = request.send().await.map_err(away)?;
        let status = answer.status();
        let nonce = answer.headers().get("dpop-nonce").and_then(|n| n.to_str().ok()).map(str::to_owned);
        let pause =
            answer.headers().get("retry-after").and_then(|seconds| seconds.to_str().ok()?.parse().ok());
        // Grown by hand: a vector that moves would leave copies of secrets behind.
        let mut body = Zeroizing::new(Vec::with_capacity(64 * 1024));
        while let Some(chunk) = answer.chunk().await.map_err(away)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(AgentError::Unreadable("it is too large".into()));
            }
            grow(&mut body, chunk.len());
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok(Exchanged::Done(Answer { body, pause: pause.map(Duration::from_secs) }));
        }
        let refused = Refused::read(status.as_u16(), &body);
        match nonce {
            Some(nonce) if refused.code == "use_dpop_nonce" => Ok(Exchanged::NonceWanted(nonce)),
            _ => Err(refused.into()),
        }
    }
}

impl Answer {
    /// Reads the answer into its type.
    pub fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, AgentError> {
        // The reader's own text may quote the answer, secrets included: where it stopped is all that is said.
        serde_json::from_slice(&self.body).map_err(|error| {
            AgentError::Unreadable(format!("line {}, column {}", error.line(), error.column()))
        })
    }
}

fn grow(body: &mut Zeroizing<Vec<u8>>, more: usize) {
    if body.capacity() - body.len() < more {
        let mut larger = Zeroizing::new(Vec::with_capacity((body.len() + more) * 2));
        larger.extend_from_slice(body);
        *body = larger;
    }
}

/// An error and its causes, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_only() {
        for good in ["http://127.0.0.1:1", "http://localhost:1/", "http://[::1]:9", "https://b.example/a"] {
            assert!(Transport::new(good, None).is_ok(), "{good}");
        }
        for bad in ["http://b.example", "ftp://x", "broker", "https://u@b.example", "https://b.example?x=1"] {
            assert!(Transport::new(bad, None).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_answer_that_does_not_parse_is_never_quoted() {
        let answer = Answer { body: Zeroizing::new(br#"{"lease":"topsecret"}"#.to_vec()), pause: None };
        let error = answer.read::<super::super::PhaseToken>().err().unwrap();
        assert!(!error.to_string().contains("topsecret"), "{error}");
    }
}
