//! Raw HTTP: any header, any token, any body.

use phasebroker::domain::digest::Digest;
use phasebroker::domain::jws::{self, KeyHeader};
use phasebroker::domain::key::SigningKey;
use serde_json::{Value, json};

use super::TestBroker;
use super::rules::RESOURCE;

/// An answer, read whole.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
    pub text: String,
}

impl Reply {
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// What it says to do.
    pub fn detail(&self) -> &str {
        self.body["detail"].as_str().or(self.body["error_description"].as_str()).unwrap_or_default()
    }

    /// The body of a success.
    pub fn good(self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.text);
        self.body
    }

    /// A refusal with this status and code, whose text says `telling`.
    pub fn refused(&self, status: u16, code: &str, telling: &str) {
        assert_eq!((self.status, self.code()), (status, code), "{}", self.text);
        assert!(self.detail().contains(telling), "does not say `{telling}`: {}", self.text);
    }
}

impl TestBroker {
    /// One request with any body.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, String)], body: Vec<u8>) -> Reply {
        let mut request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.issuer));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let answer = request.body(body).send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.unwrap();
        Reply { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null), text }
    }

    /// One request with a JSON body.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: Option<&Value>,
    ) -> Reply {
        let json = [headers, &[("content-type", "application/json".to_owned())]].concat();
        match body {
            Some(body) => self.send(method, path, &json, body.to_string().into_bytes()).await,
            None => self.send(method, path, headers, Vec::new()).await,
        }
    }

    /// The headers of an agent's login with a proof by `key`.
    pub fn login(
        &self,
        agent: &str,
        key: &SigningKey,
        method: &str,
        path: &str,
    ) -> Vec<(&'static str, String)> {
        vec![("client-assertion", self.assertion(agent)), ("dpop", self.proof(key, method, path, None, None))]
    }

    /// A call by an agent's login.
    pub async fn by_agent(
        &self,
        agent: &str,
        key: &SigningKey,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Reply {
        self.call(method, path, &self.login(agent, key, method, path), body).await
    }

    /// A call with a token of the broker, and a proof by `key`.
    pub async fn by_token(
        &self,
        token: &str,
        key: &SigningKey,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Reply {
        self.call(method, path, &self.token_headers(token, key, method, path), body).await
    }

    /// The headers of a call with a token of the broker.
    pub fn token_headers(
        &self,
        token: &str,
        key: &SigningKey,
        method: &str,
        path: &str,
    ) -> Vec<(&'static str, String)> {
        vec![
            ("authorization", format!("DPoP {token}")),
            ("dpop", self.proof(key, method, path, Some(token), None)),
        ]
    }

    /// A call signed by a person.
    pub async fn by_person(&self, person: &str, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let headers = [("authorization", format!("Bearer {}", self.person_token(person, method, path)))];
        self.call(method, path, &headers, body).await
    }

    /// A form at an OAuth endpoint, with an assertion of `who` (an agent, or `resource`) in it.
    pub async fn form(
        &self,
        path: &str,
        who: &str,
        key: Option<&SigningKey>,
        members: &[(&str, &str)],
    ) -> Reply {
        let assertion = self.assertion(who);
        let mut all = vec![
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion.as_str()),
        ];
        all.extend_from_slice(members);
        let mut headers = vec![("content-type", "application/x-www-form-urlencoded".to_owned())];
        headers.extend(key.map(|key| ("dpop", self.proof(key, "POST", path, None, None))));
        let text: Vec<String> =
            all.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        self.send("POST", path, &headers, text.join("&").into_bytes()).await
    }

    /// An agent's (or the resource's) client assertion.
    pub fn assertion(&self, who: &str) -> String {
        let name = if who == "resource" { RESOURCE } else { who };
        let now = self.clock.wall();
        let claims = json!({"iss": name, "sub": name, "aud": self.issuer, "iat": now, "exp": now.plus(60), "jti": unique()});
        jws::sign("JWT", self.keys.of(who), KeyHeader::Kid, &claims).unwrap()
    }

    /// A DPoP proof.
    pub fn proof(
        &self,
        key: &SigningKey,
        method: &str,
        path: &str,
        token: Option<&str>,
        nonce: Option<&str>,
    ) -> String {
        let mut claims =
            json!({"jti": unique(), "htm": method, "htu": self.url(path), "iat": self.clock.wall()});
        if let Some(token) = token {
            claims["ath"] = json!(Digest::of(token.as_bytes()));
        }
        if let Some(nonce) = nonce {
            claims["nonce"] = json!(nonce);
        }
        jws::sign("dpop+jwt", key, KeyHeader::Jwk, &claims).unwrap()
    }

    /// A person's assertion for one request.
    pub fn person_token(&self, person: &str, method: &str, path: &str) -> String {
        let now = self.clock.wall();
        let claims = json!({"iss": person, "aud": self.issuer, "htm": method, "htu": self.url(path), "iat": now,
                            "exp": now.plus(60), "jti": unique()});
        jws::sign("person+jwt", self.keys.of(person), KeyHeader::Kid, &claims).unwrap()
    }

    /// The metrics, as text.
    pub async fn metrics(&self) -> String {
        self.call("GET", "/metrics", &[], None).await.text
    }

    /// The value of one line of the metrics (0 when it is not there).
    pub async fn metric(&self, line: &str) -> u64 {
        let text = self.metrics().await;
        let found = text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' ')?.parse().ok());
        found.unwrap_or(0)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{}", self.issuer, path.split('?').next().unwrap())
    }
}

/// A ULID of its own.
pub fn unique() -> String {
    ulid::Ulid::generate().to_string()
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(b).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}
