//! The life of an action against the served broker, by the ordinary clients.

use phasebroker::broker::end::Complete;
use phasebroker::broker::propose::Proposed;
use phasebroker::broker::runs::OpenRun;
use phasebroker::cli::agent::{AgentClient, Claimed, Enter, PhaseKey};
use phasebroker::cli::approvals::approval_token;
use phasebroker::cli::clock::SystemClock;
use phasebroker::domain::approval::Answer;
use phasebroker::domain::digest::decode;
use phasebroker::domain::grant::SealedGrant;
use phasebroker::domain::id::RunId;
use phasebroker::domain::lease::Outcome;
use phasebroker::domain::proposal::{Proposal, Story};
use serde_json::{Value, json};

use super::Served;

/// A sealed grant that waits for signatures.
pub struct Pending {
    pub run: RunId,
    pub proposed: Proposed,
    pub claim_key: PhaseKey,
}

impl Served {
    /// Observes, decides and proposes the restart of `checkout`.
    pub async fn pending(&self, agent: &AgentClient) -> Pending {
        let asked = OpenRun {
            environment: "demo".parse().unwrap(),
            purpose: "checkout is slow".into(),
            ticket: None,
            prompt_digest: None,
            requester_token: None,
        };
        let run = agent.open_run(&asked).await.unwrap().run;
        agent.enter(run, Enter::Observe("service-status"), &PhaseKey::generate().unwrap()).await.unwrap();
        let (key, claim_key) = (PhaseKey::generate().unwrap(), PhaseKey::generate().unwrap());
        let token = agent.enter(run, Enter::Decide, &key).await.unwrap();
        let proposal = Proposal {
            action: "restart-service".parse().unwrap(),
            environment: "demo".parse().unwrap(),
            parameters: [
                ("service".to_owned(), json!("checkout")),
                ("reason_code".to_owned(), json!("memory-leak")),
            ]
            .into(),
            work_seconds: Some(60),
            claiming_agent: None,
            claim_key: claim_key.thumbprint(),
            plan_digest: None,
            preconditions: vec![],
            alert: None,
            inverse_claim_key: None,
            break_glass: false,
            story: Story { diagnosis: "it leaks".into(), evidence: String::new(), reason: String::new() },
        };
        let proposed = agent.propose(&token, &key, &proposal).await.unwrap();
        Pending { run, proposed, claim_key }
    }

    /// Signs as `person`; gives the token and the broker's answer.
    pub async fn sign(&self, person: &'static str, pending: &Pending) -> (String, anyhow::Result<Value>) {
        let person = self.person(person).await;
        let sealed = SealedGrant::parse(&decode(&pending.proposed.document).unwrap()).unwrap();
        let now = phasebroker::broker::ports::Clock::wall(&SystemClock);
        let token =
            approval_token(person.signer(), person.person(), &sealed, Answer::Approve, None, now).unwrap();
        let path = format!("/v1/grants/{}/approvals", pending.proposed.grant);
        let answer = person.post_proof(&path, &json!({ "token": token })).await;
        (token, answer)
    }

    /// Claims what `token` approves.
    pub async fn claim(&self, agent: &AgentClient, pending: &Pending, token: &str) -> Claimed {
        agent.claim(pending.proposed.grant, &pending.claim_key, &[token.to_owned()], None).await.unwrap()
    }
}

/// Work that succeeded.
pub fn succeeded() -> Complete {
    Complete { outcome: Outcome::Succeeded, note: None }
}
