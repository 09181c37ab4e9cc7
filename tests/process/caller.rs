//! Agents and people who call a broker process, by the wall clock.

use std::sync::Arc;

use phasebroker::broker::ports::Clock as _;
use phasebroker::broker::runs::OpenRun;
use phasebroker::cli::agent::{AgentClient, AgentError, AgentSettings, Claimed, Enter, Login, PhaseKey};
use phasebroker::cli::clock::SystemClock;
use phasebroker::domain::approval::{APPROVAL_TYP, Answer, ApprovalClaims};
use phasebroker::domain::digest::decode;
use phasebroker::domain::grant::{GrantState, SealedGrant};
use phasebroker::domain::id::{ApprovalId, GrantId, LeaseId, RunId};
use phasebroker::domain::jws::{self, KeyHeader};
use serde_json::{Value, json};

use super::place::Place;
use super::until;
use crate::broker::calls::unique;
use crate::broker::flow::proposal;

/// An approved grant in the hands of `fixer`.
pub struct Approved {
    pub run: RunId,
    pub grant: GrantId,
    pub lease: LeaseId,
    pub tokens: Vec<String>,
    pub claim_key: PhaseKey,
}

/// What is done, where, and how long the work may take.
pub struct Work {
    pub environment: &'static str,
    pub action: &'static str,
    pub parameters: Value,
    pub seconds: u32,
}

impl Work {
    /// By the `jwt` provider.
    pub fn jwt(seconds: u32) -> Self {
        let parameters = json!({"service": "checkout", "reason_code": "memory-leak"});
        Self { environment: "demo", action: "restart-service", parameters, seconds }
    }

    /// By the `aws` provider.
    pub fn aws(seconds: u32) -> Self {
        let parameters = json!({"instance": "i-0123456789abcdef0"});
        Self { environment: "cloud", action: "reboot-instance", parameters, seconds }
    }
}

impl Place {
    /// An agent's ordinary client.
    pub fn agent(&self, slug: &str) -> AgentClient {
        let login = Login::Key { agent: slug.parse().unwrap(), key: self.keys.copy(slug) };
        let settings = AgentSettings { broker: self.url.clone(), issuer: self.url.clone(), login, ca: None };
        AgentClient::new(settings, Arc::new(SystemClock)).unwrap()
    }

    /// A whole life up to the signature, at a broker that runs.
    pub async fn approved(&self, work: Work) -> Approved {
        let fixer = self.agent("fixer");
        let asked = OpenRun {
            environment: work.environment.parse().unwrap(),
            purpose: "checkout is slow".into(),
            ticket: None,
            prompt_digest: None,
            requester_token: None,
        };
        let run = fixer.open_run(&asked).await.unwrap().run;
        let (observe, decide) = (PhaseKey::generate().unwrap(), PhaseKey::generate().unwrap());
        fixer.enter(run, Enter::Observe("service-status"), &observe).await.map(drop).unwrap();
        let token = fixer.enter(run, Enter::Decide, &decide).await.map_err(|e| e.to_string()).ok().unwrap();
        let claim_key = PhaseKey::generate().unwrap();
        let mut asked = proposal(work.environment, work.action, work.parameters, &claim_key);
        asked.work_seconds = Some(work.seconds);
        let proposed = fixer.propose(&token, &decide, &asked).await.unwrap();
        let sealed = SealedGrant::parse(&decode(&proposed.document).unwrap()).unwrap();
        let approval = self.approval("bob", &sealed);
        let path = format!("/v1/grants/{}/approvals", proposed.grant);
        let (status, answer) = self.post(&path, None, &json!({"token": approval})).await;
        assert_eq!(status, 200, "{answer}");
        let lease = sealed.grant().time.lease;
        Approved { run, grant: proposed.grant, lease, tokens: vec![approval], claim_key }
    }

    /// Claims.
    pub async fn claim(&self, it: &Approved) -> Result<Claimed, AgentError> {
        self.agent("fixer").claim(it.grant, &it.claim_key, &it.tokens, None).await
    }

    /// Where the grant stands.
    pub async fn grant_state(&self, it: &Approved) -> GrantState {
        self.agent("fixer").grant(it.grant, 0).await.unwrap().state
    }

    /// A GET by a person.
    pub async fn get_as(&self, person: &str, path: &str) -> (u16, Value) {
        let token = self.assertion(person, "GET", path);
        let request = http().get(format!("{}{path}", self.url)).bearer_auth(token);
        answer(request).await
    }

    /// A POST by a person, or without a login.
    pub async fn post(&self, path: &str, person: Option<&str>, body: &Value) -> (u16, Value) {
        let mut request = http().post(format!("{}{path}", self.url)).json(body);
        if let Some(person) = person {
            request = request.bearer_auth(self.assertion(person, "POST", path));
        }
        answer(request).await
    }

    /// Whether `/readyz` is green, and what it says.
    pub async fn readiness(&self) -> (u16, Value) {
        answer(http().get(format!("{}/readyz", self.url))).await
    }

    /// The ledger, oldest first.
    pub async fn ledger(&self) -> Vec<Value> {
        let (status, answer) = self.get_as("olga", "/v1/events?limit=1000").await;
        assert_eq!(status, 200, "{answer}");
        answer["events"].as_array().unwrap().iter().map(|entry| entry["event"].clone()).collect()
    }

    /// The events of one lease: kind, and the whole.
    pub async fn life(&self, lease: LeaseId) -> Vec<(String, Value)> {
        let of_it = |event: &Value| event["lease"] == lease.to_string();
        let named = |event: Value| (event["type"].as_str().unwrap().to_owned(), event);
        self.ledger().await.into_iter().filter(of_it).map(named).collect()
    }

    /// The lease, by the broker's own list; `None` when it was never opened.
    pub async fn lease(&self, it: &Approved) -> Option<Value> {
        let (status, answer) = self.get_as("olga", &format!("/v1/leases?run={}", it.run)).await;
        assert_eq!(status, 200, "{answer}");
        let all = answer["leases"].as_array().unwrap().iter();
        all.into_iter().find(|lease| lease["lease"] == it.lease.to_string()).cloned()
    }

    /// Waits until the lease is over and nothing is left to tell its provider; gives its reason.
    pub async fn lease_is_over(&self, it: &Approved) -> String {
        until("the lease to be over", async || {
            let lease = self.lease(it).await.unwrap();
            let done = lease["state"] == "ended" && lease["revocation"]["state"] != "pending";
            done.then(|| lease["ended"]["reason"].as_str().unwrap().to_owned())
        })
        .await
    }

    pub fn approval(&self, person: &str, sealed: &SealedGrant) -> String {
        let (grant, now) = (sealed.grant(), SystemClock.wall());
        let claims = ApprovalClaims {
            iss: person.parse().unwrap(),
            aud: grant.issuer.clone(),
            sub: grant.who.claiming_agent.to_string(),
            grant: sealed.digest(),
            grant_id: grant.id,
            decision: Answer::Approve,
            reason: None,
            iat: now,
            exp: grant.time.claim_by,
            jti: ApprovalId::generate(now),
        };
        jws::sign(APPROVAL_TYP, self.keys.of(person), KeyHeader::Kid, &claims).unwrap()
    }

    fn assertion(&self, person: &str, method: &str, path: &str) -> String {
        let now = SystemClock.wall();
        let htu = format!("{}{}", self.url, path.split('?').next().unwrap());
        let claims = json!({"iss": person, "aud": self.url, "htm": method, "htu": htu, "iat": now,
                            "exp": now.plus(60), "jti": unique()});
        jws::sign("person+jwt", self.keys.of(person), KeyHeader::Kid, &claims).unwrap()
    }
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or(Value::Null))
}
