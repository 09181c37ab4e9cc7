//! The HTTP client of people: every request carries a fresh assertion by the person's own key. Follows no redirect.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::{Certificate, Method, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ulid::Ulid;

use crate::broker::ports::Clock;
use crate::cli::exit::Exit;
use crate::cli::keys::{PersonSigner, sign_jws};
use crate::domain::principal::PersonSlug;
use crate::domain::proposal::visible;
use crate::domain::time::Timestamp;

/// The `typ` of a person's assertion.
const PERSON_TYP: &str = "person+jwt";
/// Seconds an assertion is good for.
const ASSERTION_SECONDS: i64 = 60;
const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;

/// A broker that was found, and the issuer it is known by.
#[derive(Debug, Clone)]
pub struct Endpoint {
    http: reqwest::Client,
    url: String,
    issuer: String,
}

impl Endpoint {
    /// Finds the broker at `url`; it must name `issuer`, or its own URL when none is given.
    pub async fn find(url: &str, issuer: Option<&str>, ca: Option<&[u8]>) -> anyhow::Result<Self> {
        let (url, loopback) = checked_url(url)?;
        let wrong = |what: String| Exit::Usage.because(what);
        let mut builder = reqwest::Client::builder()
            .timeout(TIMEOUT)
            // SECURITY: a redirect would carry a signed assertion to where somebody else says.
            .redirect(reqwest::redirect::Policy::none());
        if loopback {
            // What is on this machine is not looked for through a proxy of the network.
            builder = builder.no_proxy();
        }
        if let Some(pem) = ca {
            let roots = Certificate::from_pem_bundle(pem)
                .map_err(|error| wrong(format!("the CA file is not PEM: {error}")))?;
            builder = roots.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
        }
        let http = builder.build().map_err(|error| wrong(format!("cannot set up TLS: {error}")))?;
        let expected = issuer.unwrap_or(&url).trim_end_matches('/').to_owned();
        let found = Self { http, url, issuer: expected };
        let request = found.http.get(format!("{}/.well-known/oauth-authorization-server", found.url));
        let metadata = found.send(request).await?;
        // SECURITY: an assertion names its audience; one made for another broker must not be had by this one.
        match metadata.get("issuer").and_then(Value::as_str) {
            Some(named) if named == found.issuer => Ok(found),
            named => Err(wrong(format!(
                "the broker at {} names the issuer `{}`, not `{}`; give `--issuer` if that is right",
                found.url,
                visible(named.unwrap_or_default()),
                found.issuer
            ))),
        }
    }

    /// The issuer.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        let (status, body) = self.receive(request).await?;
        let value = serde_json::from_slice::<Value>(&body).ok();
        match (status.is_success(), value) {
            (true, Some(value)) => Ok(value),
            (true, None) => {
                Err(Exit::Refused.because("the broker's answer is not JSON; is this a phasebroker?"))
            }
            (false, value) => Err(problem(status, value)),
        }
    }

    async fn receive(&self, request: reqwest::RequestBuilder) -> anyhow::Result<(StatusCode, Vec<u8>)> {
        let away = |error: reqwest::Error| {
            Exit::Unreachable.because(format!(
                "the broker at {} cannot be reached: {}",
                self.url,
                causes(&error)
            ))
        };
        let mut answer = request.send().await.map_err(away)?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(away)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER_BYTES {
                return Err(Exit::Refused.because("the broker's answer is too large"));
            }
        }
        Ok((status, body))
    }
}

/// A person at a broker.
pub struct PersonClient {
    endpoint: Endpoint,
    signer: Box<dyn PersonSigner>,
    person: PersonSlug,
    clock: Box<dyn Clock>,
}

impl PersonClient {
    /// A person with an opened key at a broker that was found.
    pub fn new(
        endpoint: Endpoint,
        signer: Box<dyn PersonSigner>,
        person: PersonSlug,
        clock: Box<dyn Clock>,
    ) -> Self {
        Self { endpoint, signer, person, clock }
    }

    /// The person.
    pub fn person(&self) -> &PersonSlug {
        &self.person
    }

    /// The person's key.
    pub fn signer(&self) -> &dyn PersonSigner {
        self.signer.as_ref()
    }

    /// The broker's issuer.
    pub fn issuer(&self) -> &str {
        self.endpoint.issuer()
    }

    /// Now, by this machine's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.wall()
    }

    /// Reads `path`, which may carry a query.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let request = self.endpoint.http.get(format!("{}{path}", self.endpoint.url));
        self.endpoint.send(request.bearer_auth(self.assertion(&Method::GET, path)?)).await
    }

    /// Reads `path` as bytes; `None` when there is no such thing.
    pub async fn get_bytes(&self, path: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let request = self.endpoint.http.get(format!("{}{path}", self.endpoint.url));
        let request = request.bearer_auth(self.assertion(&Method::GET, path)?);
        match self.endpoint.receive(request).await? {
            (status, body) if status.is_success() => Ok(Some(body)),
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, body) => Err(problem(status, serde_json::from_slice(&body).ok())),
        }
    }

    /// Sends `body` to `path`.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.endpoint.http.post(format!("{}{path}", self.endpoint.url)).json(body);
        self.endpoint.send(request.bearer_auth(self.assertion(&Method::POST, path)?)).await
    }

    /// Sends `body` to `path` without a login: what it holds is its own proof.
    pub async fn post_proof(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.endpoint.http.post(format!("{}{path}", self.endpoint.url)).json(body);
        self.endpoint.send(request).await
    }

    /// Signs that one run may be opened on this person's behalf: good for a minute, and once.
    pub fn requester_token(&self) -> anyhow::Result<String> {
        self.assertion(&Method::POST, "/v1/runs")
    }

    fn assertion(&self, method: &Method, path: &str) -> anyhow::Result<String> {
        let now = self.now();
        let ms = u64::try_from(now.seconds()).unwrap_or(0).saturating_mul(1000);
        let claims = Assertion {
            iss: &self.person,
            aud: self.issuer(),
            htm: method.as_str(),
            htu: format!("{}{}", self.issuer(), path.split('?').next().unwrap_or(path)),
            iat: now,
            exp: now.plus(ASSERTION_SECONDS),
            jti: Ulid::from_parts(ms, rand::random()).to_string(),
        };
        sign_jws(PERSON_TYP, self.signer(), &claims)
    }
}

/// The closed claims of a person's assertion: one request, one minute, one use.
#[derive(Serialize)]
struct Assertion<'a> {
    iss: &'a PersonSlug,
    aud: &'a str,
    htm: &'a str,
    htu: String,
    iat: Timestamp,
    exp: Timestamp,
    jti: String,
}

/// Reads an answer into its type.
pub fn read<T: DeserializeOwned>(value: &Value) -> anyhow::Result<T> {
    T::deserialize(value)
        .map_err(|error| Exit::Refused.because(format!("the broker's answer is not understood: {error}")))
}

/// The URL without its closing slash, and whether it leads to this machine.
fn checked_url(text: &str) -> anyhow::Result<(String, bool)> {
    let wrong = |what: &str| Exit::Usage.because(format!("the broker's URL `{}` {what}", visible(text)));
    let url = Url::parse(text).map_err(|error| wrong(&format!("is not a URL: {error}")))?;
    let host = url.host_str().unwrap_or_default();
    let loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        return Err(wrong("has a query, a fragment or a user name; give origin and path alone"));
    }
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        _ => return Err(wrong("must be https; plain http is for loopback only")),
    }
    Ok((text.trim_end_matches('/').to_owned(), loopback))
}

fn problem(status: StatusCode, value: Option<Value>) -> anyhow::Error {
    let member = |name: &str| value.as_ref().and_then(|v| v.get(name)).and_then(Value::as_str).map(visible);
    let code = member("code").or_else(|| member("error")).unwrap_or_else(|| status.as_u16().to_string());
    let detail = member("detail").or_else(|| member("error_description")).or_else(|| member("title"));
    Exit::Refused
        .because(format!("{code}: {}", detail.unwrap_or_else(|| "the broker gave no reason".to_owned())))
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
    use serde_json::json;

    #[test]
    fn plain_http_is_for_loopback_only() {
        for good in
            ["http://127.0.0.1:8443", "http://localhost:1/", "http://[::1]:9", "https://broker.example/a"]
        {
            assert!(checked_url(good).is_ok(), "{good}");
        }
        for bad in
            ["http://broker.example", "ftp://x", "broker", "https://u@b.example", "https://b.example?x=1"]
        {
            assert!(checked_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_problem_reads_as_code_and_detail_without_hidden_characters() {
        let answer = json!({"code": "no_self_approval", "detail": "you asked\u{1b}[2J"});
        assert_eq!(
            problem(StatusCode::FORBIDDEN, Some(answer)).to_string(),
            "no_self_approval: you asked\\u{1b}[2J"
        );
        assert!(problem(StatusCode::BAD_GATEWAY, None).to_string().starts_with("502: "));
    }
}
