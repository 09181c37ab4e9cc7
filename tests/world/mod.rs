//! A whole broker in memory and a temporary directory: real store, `jwt` provider, the shipped catalog and policy, a
//! directory whose keys the test holds, a clock the test sets, and the API reached without a socket.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::body::Body;
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::header::HeaderMap;
use phasebroker::authn::resource::ResourceServer;
use phasebroker::authn::transmitter::TransmitterSettings;
use phasebroker::authn::{Authn, Settings as AuthnSettings};
use phasebroker::broker::exporting::polls::PollReceiver;
use phasebroker::broker::metrics::Metrics;
use phasebroker::broker::ports::{Clock, CredentialProvider, Store};
use phasebroker::broker::publish::Ledger;
use phasebroker::broker::rules::Rules;
use phasebroker::broker::{Broker, Parts, Settings};
use phasebroker::catalog::{Catalog, CatalogDocument, iam::ActionTable};
use phasebroker::cli::approvals::SignedDocument;
use phasebroker::cli::notify::Silent;
use phasebroker::domain::approval::{APPROVAL_TYP, Answer, ApprovalClaims};
use phasebroker::domain::digest::Digest;
use phasebroker::domain::directory::{Directory, DirectoryDocument};
use phasebroker::domain::id::ApprovalId;
use phasebroker::domain::jws::{self, KeyHeader};
use phasebroker::domain::key::SigningKey;
use phasebroker::domain::time::Timestamp;
use phasebroker::domain::token::TokenSigner;
use phasebroker::guardrails::{Guardrails, GuardrailsDocument};
use phasebroker::http::caep::Caep;
use phasebroker::http::{App, router};
use phasebroker::policy::PolicySet;
use phasebroker::providers::jwt::JwtProvider;
use phasebroker::providers::look::{Look, LookSettings};
use phasebroker::store::end_journal::EndFile;
use phasebroker::store::head_file::HeadFile;
use phasebroker::store::sqlite::SqliteStore;
use serde_json::{Value, json};
use tower::ServiceExt;

pub const ISSUER: &str = "http://broker.test";
/// The audience of the shipped catalog's demo environment.
pub const RESOURCE: &str = "http://127.0.0.1:8478";

/// Whose subject `pay/bot` the agent is.
pub const WORKLOADS: &str = "https://workloads.test";

/// A clock that stands where the test puts it.
#[derive(Default)]
pub struct SetClock(AtomicI64);

impl SetClock {
    pub fn at(&self) -> Timestamp {
        Timestamp::from_seconds(self.0.load(Ordering::SeqCst))
    }

    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn wall(&self) -> Timestamp {
        self.at()
    }

    fn since_boot(&self) -> i64 {
        self.at().seconds()
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
    pub text: String,
}

impl Answered {
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// The body of a success.
    pub fn good(self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.text);
        self.body
    }

    pub fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code()), (status, code), "{}", self.text);
    }
}

/// The broker and everybody's keys.
pub struct World {
    pub broker: Arc<Broker>,
    pub clock: Arc<SetClock>,
    pub keys: BTreeMap<&'static str, SigningKey>,
    pub store: Arc<SqliteStore>,
    pub dir: tempfile::TempDir,
    /// Signs the broker's tokens.
    pub signer: Arc<TokenSigner>,
    router: axum::Router,
}

impl World {
    /// Starts a broker. People: `alice`, `bob` (approvers), `olga` (operator), `audrey` (auditor), `grace` (owner,
    /// approver). Agent: `pay-bot`, owned by `grace`. Resource server key: `resource`.
    pub async fn start() -> Self {
        Self::start_with(|jwt| Arc::new(jwt)).await
    }

    /// The same, with something between the broker and its provider.
    pub async fn start_with(wrap: impl FnOnce(JwtProvider) -> Arc<dyn CredentialProvider>) -> Self {
        Self::start_among(wrap, Vec::new(), Vec::new()).await
    }

    /// The same, with others that tell of security events, and to whom they are told.
    pub async fn start_among(
        wrap: impl FnOnce(JwtProvider) -> Arc<dyn CredentialProvider>,
        transmitters: Vec<TransmitterSettings>,
        receivers: Vec<PollReceiver>,
    ) -> Self {
        let keys: BTreeMap<_, _> = ["alice", "bob", "olga", "audrey", "grace", "pay-bot", "resource"]
            .into_iter()
            .map(|name| (name, SigningKey::generate().unwrap()))
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(SetClock(AtomicI64::new(1_790_000_000)));
        let store = Arc::new(SqliteStore::open(&dir.path().join("store.db")).unwrap());
        let signer = Arc::new(TokenSigner::new(ISSUER.into(), SigningKey::generate().unwrap()));
        let rules = rules(&keys);
        let broker = Broker::start(Parts {
            settings: Settings {
                issuer: ISSUER.into(),
                decide_seconds: 300,
                open_per_agent: 20,
                open_in_all: 100,
                reply_seconds: 60,
                waits_per_agent: 16,
                waits_in_all: 512,
            },
            store: store.clone(),
            heads: Arc::new(HeadFile::at(dir.path().join("head"))),
            journal: Arc::new(EndFile::at(dir.path().join("ends"))),
            clock: clock.clone(),
            providers: vec![wrap(JwtProvider::new(signer.clone()))],
            signer: signer.clone(),
            looker: Arc::new(Look::new(LookSettings::default(), clock.clone()).await.unwrap()),
            notifier: Arc::new(Silent),
            metrics: Arc::new(Metrics::new()),
            ledger: Ledger::unwitnessed("broker.test", SigningKey::generate().unwrap()).unwrap(),
            rules: rules.clone(),
        })
        .await
        .unwrap();
        let authn = Authn::new(AuthnSettings {
            issuer: ISSUER.into(),
            issuers: Vec::new(),
            resources: vec![ResourceServer {
                audience: RESOURCE.into(),
                keys: vec![keys["resource"].public().clone()],
            }],
            dev: true,
            started_at: clock.at().plus(-1000),
        })
        .unwrap();
        let authn = authn.with_transmitters(transmitters, true).unwrap();
        broker.begin_polls(&receivers).await.unwrap();
        let caep = Caep { receivers };
        let without_bob = rules_without(&keys, "bob");
        let read_rules = Arc::new(move || Ok(without_bob.clone()));
        let app = App::with_caep(broker.clone(), Arc::new(authn), read_rules, caep);
        Self { broker, clock, keys, store, dir, signer, router: router(app) }
    }

    /// One request, as it is.
    pub async fn send(&self, request: Request<Body>) -> Answered {
        let response: Response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answered {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            text,
        }
    }

    /// One JSON request with headers.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: Option<&Value>,
    ) -> Answered {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let body = match body {
            Some(value) => {
                request = request.header("content-type", "application/json");
                Body::from(value.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }

    /// A call by `pay-bot`'s login, with a proof by `key`.
    pub async fn by_agent(
        &self,
        key: &SigningKey,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Answered {
        let headers = [
            ("client-assertion", self.assertion("pay-bot")),
            ("dpop", self.proof(key, method, path, None, None)),
        ];
        self.call(method, path, &headers, body).await
    }

    /// A call with a token of the broker, and a proof by `key`.
    pub async fn by_token(
        &self,
        token: &str,
        key: &SigningKey,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Answered {
        let headers = [
            ("authorization", format!("DPoP {token}")),
            ("dpop", self.proof(key, method, path, Some(token), None)),
        ];
        self.call(method, path, &headers, body).await
    }

    /// A call signed by a person.
    pub async fn by_person(
        &self,
        person: &'static str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Answered {
        let headers = [("authorization", format!("Bearer {}", self.person(person, method, path)))];
        self.call(method, path, &headers, body).await
    }

    /// A form with `pay-bot`'s (or the resource's) assertion in it.
    pub async fn form(
        &self,
        path: &str,
        who: &'static str,
        key: Option<&SigningKey>,
        members: &[(&str, &str)],
    ) -> Answered {
        let assertion = self.assertion(who);
        let mut all = vec![
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion.as_str()),
        ];
        all.extend_from_slice(members);
        let text = all.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect::<Vec<_>>();
        let mut request = Request::builder()
            .method("POST")
            .uri(path)
            .header("content-type", "application/x-www-form-urlencoded");
        if let Some(key) = key {
            request = request.header("dpop", self.proof(key, "POST", path, None, None));
        }
        self.send(request.body(Body::from(text.join("&"))).unwrap()).await
    }

    pub fn assertion(&self, who: &'static str) -> String {
        let name = if who == "resource" { RESOURCE } else { who };
        let now = self.clock.at();
        let claims = json!({"iss": name, "sub": name, "aud": ISSUER, "iat": now, "exp": now.plus(60), "jti": unique()});
        jws::sign("JWT", &self.keys[who], KeyHeader::Kid, &claims).unwrap()
    }

    pub fn proof(
        &self,
        key: &SigningKey,
        method: &str,
        path: &str,
        token: Option<&str>,
        nonce: Option<&str>,
    ) -> String {
        let mut claims = json!({"jti": unique(), "htm": method, "htu": url(path), "iat": self.clock.at()});
        if let Some(token) = token {
            claims["ath"] = json!(Digest::of(token.as_bytes()));
        }
        if let Some(nonce) = nonce {
            claims["nonce"] = json!(nonce);
        }
        jws::sign("dpop+jwt", key, KeyHeader::Jwk, &claims).unwrap()
    }

    pub fn person(&self, person: &'static str, method: &str, path: &str) -> String {
        let now = self.clock.at();
        let claims = json!({"iss": person, "aud": ISSUER, "htm": method, "htu": url(path), "iat": now,
                            "exp": now.plus(60), "jti": unique()});
        jws::sign("person+jwt", &self.keys[person], KeyHeader::Kid, &claims).unwrap()
    }

    /// A person's signature over what is in `document` (base64url).
    pub fn approval(
        &self,
        person: &'static str,
        document: &str,
        decision: Answer,
        reason: Option<&str>,
    ) -> String {
        let bytes = phasebroker::domain::digest::decode(document).unwrap();
        let document = SignedDocument::parse(&bytes).unwrap();
        let signed = document.signable();
        let claims = ApprovalClaims {
            iss: person.parse().unwrap(),
            aud: signed.issuer.to_owned(),
            sub: signed.subject.to_owned(),
            grant: signed.digest,
            grant_id: signed.id,
            decision,
            reason: reason.map(|text| Digest::of(text.as_bytes())),
            iat: self.clock.at(),
            exp: signed.claim_by,
            jti: ApprovalId::generate(self.clock.at()),
        };
        jws::sign(APPROVAL_TYP, &self.keys[person], KeyHeader::Kid, &claims).unwrap()
    }

    /// Kinds of all events from `from` on, and the index after the last.
    pub async fn events(&self, from: u64) -> (Vec<String>, u64) {
        let stored = self.store.events(None, from, 1000).await.unwrap();
        let next = stored.last().map_or(from, |event| event.index + 1);
        let kind = |bytes: &[u8]| {
            serde_json::from_slice::<Value>(bytes).unwrap()["type"].as_str().unwrap().to_owned()
        };
        (stored.iter().map(|event| kind(&event.bytes)).collect(), next)
    }

    /// A run with a live decide token: (run, token, key).
    pub async fn deciding(&self) -> (String, String, SigningKey) {
        let body = json!({"environment": "demo", "purpose": "checkout is slow"});
        let opened = self.by_agent(&key(), "POST", "/v1/runs", Some(&body)).await.good();
        let run = opened["run"].as_str().unwrap().to_owned();
        self.enter(&run, &key(), &[("scope", "phase:observe"), ("resource", "service-status")]).await.good();
        let decide_key = key();
        let decide = self.enter(&run, &decide_key, &[("scope", "phase:decide")]).await.good();
        (run, decide["access_token"].as_str().unwrap().to_owned(), decide_key)
    }

    /// A request to the token endpoint.
    pub async fn enter(&self, run: &str, key: &SigningKey, members: &[(&str, &str)]) -> Answered {
        let all = [&[("grant_type", "client_credentials"), ("run", run)], members].concat();
        self.form("/token", "pay-bot", Some(key), &all).await
    }

    /// A proposal to restart a service, to be claimed with `claim_key`.
    pub fn proposal(&self, claim_key: &SigningKey) -> Value {
        json!({"action": "restart-service", "environment": "demo",
               "parameters": {"service": "checkout", "reason_code": "memory-leak"}, "work_seconds": 60,
               "claim_key": claim_key.public().thumbprint().to_string(), "story": {"diagnosis": "it leaks"}})
    }
}

/// A fresh key.
pub fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

pub fn url(path: &str) -> String {
    format!("{ISSUER}{}", path.split('?').next().unwrap())
}

fn unique() -> String {
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

fn rules(keys: &BTreeMap<&'static str, SigningKey>) -> Rules {
    rules_without(keys, "")
}

fn rules_without(keys: &BTreeMap<&'static str, SigningKey>, absent: &str) -> Rules {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let catalog = std::fs::read_to_string(config.join("catalog.toml")).unwrap();
    let catalog =
        Catalog::check(&CatalogDocument::from_toml(&catalog).unwrap(), ActionTable::embedded().unwrap())
            .unwrap();
    let policy: Vec<(String, String)> = ["availability", "data-and-trust", "guardrails", "step-up"]
        .iter()
        .map(|name| {
            let file = config.join(format!("policy/{name}.cedar"));
            ((*name).to_owned(), std::fs::read_to_string(file).unwrap())
        })
        .collect();
    let person = |name: &str, roles: &[&str]| {
        json!({"name": name, "roles": roles,
               "keys": [{"custody": "file", "jwk": keys[name].public().jwk()}]})
    };
    let mut people = json!({
        "alice": person("alice", &["approver"]),
        "bob": person("bob", &["approver"]),
        "olga": person("olga", &["operator"]),
        "audrey": person("audrey", &["auditor"]),
        "grace": person("grace", &["approver"]),
    });
    let mut sre = vec!["alice", "bob", "grace"];
    let security = ["alice", "bob", "grace", "audrey"].into_iter().filter(|name| *name != absent);
    people.as_object_mut().unwrap().remove(absent);
    sre.retain(|name| *name != absent);
    let document: DirectoryDocument = serde_json::from_value(json!({
        "people": people,
        "groups": {"sre": {"people": sre}, "database": {"people": sre}, "security": {"people": security.collect::<Vec<_>>()}},
        "agents": {"pay-bot": {"owner": "grace", "groups": ["remediators"],
                               "workloads": [{"issuer": WORKLOADS, "subject": "pay/bot"}],
                               "keys": [keys["pay-bot"].public().jwk()]}},
    }))
    .unwrap();
    let guardrails = guardrails();
    Rules {
        catalog,
        policy: PolicySet::load(&policy, &guardrails.budget_names()).unwrap(),
        directory: Directory::check(document).unwrap(),
        guardrails,
    }
}

/// Those that are shipped, but for what names people and groups that are not here.
fn guardrails() -> Guardrails {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/guardrails.toml");
    let text = std::fs::read_to_string(shipped).unwrap().replace(r#"["heidi"]"#, r#"["audrey"]"#);
    // Break-glass works in `demo` too, for what is done there.
    let text = text.replace(r#"["production", "staging"]"#, r#"["demo", "staging"]"#);
    let text = text.replace(r#""scale-asg"]"#, r#""scale-asg", "restart-service"]"#);
    Guardrails::check(GuardrailsDocument::from_toml(&text).unwrap()).unwrap()
}
