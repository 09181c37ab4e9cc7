//! What a grant rests on is looked at by the broker itself, at the proposal and at the claim; a plan that was signed is
//! the plan that is carried out.

use std::sync::{Arc, Mutex};

use phasebroker::domain::action::Precondition;
use phasebroker::domain::digest::Digest;
use phasebroker::domain::grant::GrantState;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::hand::{Hand, refused};
use crate::broker::TestBroker;
use crate::broker::flow::{Approved, Pending, restart};

/// A server that says how a service is, on a port of its own, until it is dropped.
struct Health {
    url: String,
    says: Arc<Mutex<String>>,
    asked: Arc<Mutex<Vec<String>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Health {
    async fn start(status: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let says = Arc::new(Mutex::new(format!(r#"{{"status":"{status}"}}"#)));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, heard) = (says.clone(), asked.clone());
        let server = tokio::spawn(async move {
            loop {
                let (mut peer, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if peer.read(&mut byte).await.unwrap_or(0) == 0 {
                        break;
                    }
                    request.push(byte[0]);
                }
                let line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
                heard.lock().unwrap().push(line);
                let body = answer.lock().unwrap().clone();
                let reply = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                drop(peer.write_all(reply.as_bytes()).await);
                drop(peer.shutdown().await);
            }
        });
        Self { url, says, asked, server }
    }

    /// From now on its answer is this.
    fn answer(&self, body: &str) {
        *self.says.lock().unwrap() = body.to_owned();
    }

    fn say(&self, status: &str) {
        self.answer(&format!(r#"{{"status":"{status}"}}"#));
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// With a probe `health` of the service that an action is about.
async fn start(health: &Health) -> TestBroker {
    let broker = TestBroker::start().await;
    let probe = format!(
        "\n[probes.health]\npointer = \"/status\"\n[probes.health.http]\nurl = \"{}/health/{{service}}\"\n",
        health.url
    );
    broker.reload(|written| written.guardrails.push_str(&probe)).await;
    broker
}

fn must_be(name: &str, value: &str) -> Vec<Precondition> {
    vec![Precondition { name: name.into(), value: value.into() }]
}

/// A grant that rests on `checkout` being degraded, signed by bob.
async fn approved_while_degraded(broker: &TestBroker) -> Approved {
    let fixer = Hand::of(broker, "fixer");
    let deciding = fixer.deciding("demo").await;
    let pending: Pending = fixer
        .pending_with(deciding, "restart-service", restart("checkout"), |asked| {
            asked.preconditions = must_be("health", "degraded");
        })
        .await;
    assert_eq!(pending.sealed.grant().action.preconditions, must_be("health", "degraded"));
    broker.approve(pending, &["bob"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_held_at_the_proposal_and_holds_at_the_claim_is_claimed() {
    let health = Health::start("degraded").await;
    let broker = start(&health).await;
    let approved = approved_while_degraded(&broker).await;
    broker.claim(&approved).await.map(drop).unwrap();
    let asked = health.asked.lock().unwrap().clone();
    assert_eq!(asked, ["GET /health/checkout HTTP/1.1"; 2], "once each, of the service that was signed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_in_between_refuses_the_claim_unspent_and_claims_when_it_is_so_again() {
    let health = Health::start("degraded").await;
    let broker = start(&health).await;
    let approved = approved_while_degraded(&broker).await;
    health.say("healthy");
    refused(broker.claim(&approved).await, "precondition_failed", "does not hold, or cannot be looked at");
    for no_answer in ["", "{}", r#"{"status":["degraded"]}"#, r#"{"status":"degraded","status":"degraded"}"#]
    {
        health.answer(no_answer);
        refused(broker.claim(&approved).await, "precondition_failed", "cannot be looked at");
    }
    assert_eq!(broker.grant_state(approved.grant).await, GrantState::Approved);
    assert_eq!(broker.count_since(0, "lease.refused").await, 0, "no mint was begun");
    health.say("degraded");
    broker.claim(&approved).await.map(drop).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_hold_cannot_even_be_proposed() {
    let health = Health::start("healthy").await;
    let broker = start(&health).await;
    let fixer = Hand::of(&broker, "fixer");
    let deciding = fixer.deciding("demo").await;
    let mark = broker.mark().await;
    for (name, value, telling) in [
        ("health", "degraded", "does not hold, or cannot be looked at"),
        ("helth", "healthy", "is no probe of this broker"),
    ] {
        let conditions = must_be(name, value);
        let asked = fixer
            .ask(&deciding, "restart-service", restart("checkout"), |asked| asked.preconditions = conditions)
            .await;
        refused(asked, "precondition_failed", telling);
    }
    assert_eq!(broker.count_since(mark, "grant.sealed").await, 0);
    let conditions = must_be("health", "healthy");
    let asked = fixer
        .ask(&deciding, "restart-service", restart("checkout"), |asked| asked.preconditions = conditions)
        .await;
    asked.map(drop).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_cannot_be_reached_is_a_no() {
    let health = Health::start("degraded").await;
    let broker = start(&health).await;
    let approved = approved_while_degraded(&broker).await;
    drop(health);
    refused(broker.claim(&approved).await, "precondition_failed", "cannot be looked at");
    assert_eq!(broker.grant_state(approved.grant).await, GrantState::Approved);
    let fixer = Hand::of(&broker, "fixer");
    let deciding = fixer.deciding("demo").await;
    let asked = fixer
        .ask(&deciding, "restart-service", restart("checkout"), |asked| {
            asked.preconditions = must_be("health", "degraded");
        })
        .await;
    refused(asked, "precondition_failed", "cannot be looked at");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_was_taken_out_of_the_guardrails_is_a_no() {
    let health = Health::start("degraded").await;
    let broker = start(&health).await;
    let approved = approved_while_degraded(&broker).await;
    broker
        .reload(|written| {
            let (without, _) = written.guardrails.split_once("\n[probes.health]").unwrap();
            written.guardrails = without.to_owned();
        })
        .await;
    refused(broker.claim(&approved).await, "precondition_failed", "no probe of this broker");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_that_was_signed_is_presented_at_the_claim_and_no_other() {
    let broker = TestBroker::start().await;
    let (plan, other) = (Digest::of(b"terraform plan"), Digest::of(b"another plan"));
    let fixer = Hand::of(&broker, "fixer");
    let deciding = fixer.deciding("demo").await;
    let pending = fixer
        .pending_with(deciding, "restart-service", restart("checkout"), |asked| {
            asked.plan_digest = Some(plan)
        })
        .await;
    let text = String::from_utf8(pending.sealed.bytes().to_vec()).unwrap();
    assert!(text.contains(&format!(r#""plan_digest":"{plan}""#)), "{text}");
    let approved = broker.approve(pending, &["bob"]).await;
    let claim =
        async |plan| fixer.client.claim(approved.grant, &approved.claim_key, &approved.tokens, plan).await;
    for wrong in [None, Some(other)] {
        refused(claim(wrong).await, "precondition_failed", "`plan_digest` is not the one in the grant");
        assert_eq!(broker.grant_state(approved.grant).await, GrantState::Approved);
    }
    claim(Some(plan)).await.map(drop).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_binds_no_plan_is_not_claimed_with_one() {
    let broker = TestBroker::start().await;
    let approved = broker.run_to_approved().await;
    let body = json!({"approvals": approved.tokens, "plan_digest": Digest::of(b"some plan")});
    let key = approved.claim_key.signing_key();
    let reply = broker.by_agent("fixer", key, "POST", &approved.path("claim"), Some(&body)).await;
    reply.refused(422, "precondition_failed", "plan_digest");
    broker.claim(&approved).await.map(drop).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn preconditions_are_in_the_signed_bytes() {
    let health = Health::start("degraded").await;
    let broker = start(&health).await;
    let approved = approved_while_degraded(&broker).await;
    let text = String::from_utf8(approved.sealed.bytes().to_vec()).unwrap();
    assert!(text.contains(r#""preconditions":[{"name":"health","value":"degraded"}]"#), "{text}");
}
