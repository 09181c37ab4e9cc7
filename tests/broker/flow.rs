//! The life of an action, brought to where a test begins.

use std::ops::Deref;

use phasebroker::broker::ports::Store as _;
use phasebroker::broker::propose::Proposed;
use phasebroker::broker::runs::OpenRun;
use phasebroker::cli::agent::{AgentError, Claimed, Enter, PhaseKey, PhaseToken};
use phasebroker::domain::digest::decode;
use phasebroker::domain::grant::{GrantState, SealedGrant};
use phasebroker::domain::id::{GrantId, RunId};
use phasebroker::domain::proposal::{Proposal, Story};
use serde_json::{Value, json};

use super::TestBroker;
use super::calls::Reply;

/// A run of `fixer` that decides.
pub struct Deciding {
    pub run: RunId,
    pub environment: &'static str,
    pub token: PhaseToken,
    pub key: PhaseKey,
}

/// A sealed grant that waits for signatures.
pub struct Pending {
    pub deciding: Deciding,
    pub grant: GrantId,
    pub sealed: SealedGrant,
    pub proposed: Proposed,
    pub claim_key: PhaseKey,
}

/// A grant whose rule is complete.
pub struct Approved {
    pub pending: Pending,
    /// The approval tokens to be presented.
    pub tokens: Vec<String>,
}

impl Deref for Approved {
    type Target = Pending;
    fn deref(&self) -> &Pending {
        &self.pending
    }
}

impl Pending {
    /// `/v1/grants/{grant}/{what}`
    pub fn path(&self, what: &str) -> String {
        format!("/v1/grants/{}/{what}", self.grant)
    }
}

/// A proposal of `action` to be claimed with `key`.
pub fn proposal(environment: &str, action: &str, parameters: Value, key: &PhaseKey) -> Proposal {
    Proposal {
        action: action.parse().unwrap(),
        environment: environment.parse().unwrap(),
        parameters: serde_json::from_value(parameters).unwrap(),
        work_seconds: None,
        claiming_agent: None,
        claim_key: key.thumbprint(),
        plan_digest: None,
        preconditions: vec![],
        alert: None,
        inverse_claim_key: None,
        break_glass: false,
        story: Story { diagnosis: "it leaks".into(), ..Story::default() },
    }
}

/// Parameters of `restart-service`.
pub fn restart(service: &str) -> Value {
    json!({"service": service, "reason_code": "memory-leak"})
}

impl TestBroker {
    /// A fresh run of `fixer` in `environment`, deciding.
    pub async fn run_to_deciding(&self, environment: &'static str) -> Deciding {
        let fixer = self.agent("fixer");
        let asked = OpenRun {
            environment: environment.parse().unwrap(),
            purpose: "checkout is slow".into(),
            ticket: None,
            prompt_digest: None,
            requester_token: None,
        };
        let run = fixer.open_run(&asked).await.unwrap().run;
        let observe = PhaseKey::generate().unwrap();
        fixer.enter(run, Enter::Observe("service-status"), &observe).await.map(drop).unwrap();
        let key = PhaseKey::generate().unwrap();
        let token = fixer.enter(run, Enter::Decide, &key).await.ok().unwrap();
        Deciding { run, environment, token, key }
    }

    /// A grant for `action`, to be claimed by `fixer` with a key of its own.
    pub async fn propose(&self, deciding: Deciding, action: &str, parameters: Value) -> Pending {
        let claim_key = PhaseKey::generate().unwrap();
        let asked = proposal(deciding.environment, action, parameters, &claim_key);
        let proposed = self.agent("fixer").propose(&deciding.token, &deciding.key, &asked).await.unwrap();
        let sealed = SealedGrant::parse(&decode(&proposed.document).unwrap()).unwrap();
        Pending { deciding, grant: proposed.grant, sealed, proposed, claim_key }
    }

    /// `restart-service` of `checkout` in `demo`: one signature of `on-call`.
    pub async fn run_to_pending(&self) -> Pending {
        let deciding = self.run_to_deciding("demo").await;
        self.propose(deciding, "restart-service", restart("checkout")).await
    }

    /// The same, signed by bob.
    pub async fn run_to_approved(&self) -> Approved {
        let pending = self.run_to_pending().await;
        self.approve(pending, &["bob"]).await
    }

    /// `reboot-instance` in `cloud`, by the `aws` provider, signed by bob. Needs `Setup::aws`.
    pub async fn run_to_approved_on_aws(&self) -> Approved {
        let deciding = self.run_to_deciding("cloud").await;
        let instance = json!({"instance": "i-0123456789abcdef0"});
        let pending = self.propose(deciding, "reboot-instance", instance).await;
        self.approve(pending, &["bob"]).await
    }

    /// Honest signatures of `people`, after which the rule is complete.
    pub async fn approve(&self, pending: Pending, people: &[&str]) -> Approved {
        let mut tokens = Vec::new();
        for person in people {
            let token = self.approval(person, &pending.sealed);
            self.answer(&pending, &token).await.good();
            tokens.push(token);
        }
        assert_eq!(self.grant_state(pending.grant).await, GrantState::Approved);
        Approved { pending, tokens }
    }

    /// Posts an approval token for a grant.
    pub async fn answer(&self, pending: &Pending, token: &str) -> Reply {
        self.call("POST", &pending.path("approvals"), &[], Some(&json!({"token": token}))).await
    }

    /// Posts a denial or withdrawal with the usual reason.
    pub async fn answer_with_reason(&self, pending: &Pending, token: &str) -> Reply {
        let body = json!({"token": token, "reason": super::people::REASON});
        self.call("POST", &pending.path("approvals"), &[], Some(&body)).await
    }

    /// Claims by the ordinary client.
    pub async fn claim(&self, approved: &Approved) -> Result<Claimed, AgentError> {
        self.agent("fixer").claim(approved.grant, &approved.claim_key, &approved.tokens, None).await
    }

    /// Claims with any tokens, by raw HTTP.
    pub async fn claim_with(&self, pending: &Pending, tokens: &[String]) -> Reply {
        let body = json!({"approvals": tokens});
        let path = pending.path("claim");
        self.by_agent("fixer", pending.claim_key.signing_key(), "POST", &path, Some(&body)).await
    }

    /// Where a grant stands, by the store.
    pub async fn grant_state(&self, grant: GrantId) -> GrantState {
        self.disk.grant(grant).await.unwrap().unwrap().state
    }
}
