//! Every question to the policy is kept with all it saw; nothing of it is a word of the agent's, and no word changes it.

use phasebroker::broker::runs::OpenRun;
use phasebroker::domain::proposal::{MAX_TEXT_BYTES, Story};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::hand::{Hand, refused};
use crate::broker::flow::{Deciding, restart};
use crate::broker::{Setup, TestBroker};

/// What concerns `payments` is forbidden.
const FORBID: &str = r#"
@id("never-payments")
forbid (principal, action == Action::"execute", resource)
when { context.parameters.contains("service=payments") };
"#;

async fn start() -> TestBroker {
    let broker = TestBroker::with(Setup { open_per_agent: 199, ..Setup::default() }).await;
    broker.reload(|written| written.policy.push_str(FORBID)).await;
    broker
}

/// The decisions about `service`, at `moment`.
async fn about(broker: &TestBroker, service: &str, moment: &str) -> Vec<Value> {
    let its = |one: &Value| one["facts"]["parameters"]["service"] == service && one["moment"] == moment;
    broker.decisions().await.into_iter().filter(its).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_is_kept_for_proposals_allowed_and_refused_and_for_claims() {
    let broker = start().await;
    let fixer = Hand::of(&broker, "fixer");
    let deciding = fixer.deciding("demo").await;
    let refusal = fixer.ask(&deciding, "restart-service", restart("payments"), |_| {}).await;
    refused(refusal, "policy_denied", "never-payments");
    let [denied] = about(&broker, "payments", "propose").await.try_into().unwrap();
    assert_eq!((&denied["tier"], &denied["reasons"]), (&json!("deny"), &json!(["never-payments"])));
    let pending = fixer.pending_in(deciding, "restart-service", restart("checkout")).await;
    let [asked] = about(&broker, "checkout", "propose").await.try_into().unwrap();
    assert_eq!((&asked["tier"], &asked["reasons"]), (&json!("needs_approval"), &json!(["one"])));
    assert_eq!(asked["grant"], json!(pending.grant));
    assert_eq!(asked["id"], json!(pending.sealed.grant().decision.id), "the signed bytes name it");
    assert!(about(&broker, "checkout", "claim").await.is_empty());
    let approved = broker.approve(pending, &["bob"]).await;
    fixer.carry_out(&approved).await;
    let [claimed] = about(&broker, "checkout", "claim").await.try_into().unwrap();
    assert_eq!((&claimed["tier"], &claimed["grant"]), (&json!("needs_approval"), &json!(approved.grant)));
    let broker = broker.restart().await;
    assert_eq!(broker.decisions().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_read_decisions_and_agents_do_not() {
    let broker = start().await;
    let reply = broker.by_agent("fixer", &crate::broker::fresh(), "GET", "/v1/decisions", None).await;
    reply.refused(401, "unauthenticated", "");
    broker.by_person("audrey", "GET", "/v1/decisions", None).await.good();
}

/// A run whose every free text is `text`, deciding.
async fn run_saying(fixer: &Hand<'_>, text: &str) -> Deciding {
    let asked = OpenRun {
        environment: "demo".parse().unwrap(),
        purpose: text.to_owned(),
        ticket: Some(text.to_owned()),
        prompt_digest: Some(phasebroker::domain::digest::Digest::of(text.as_bytes())),
        requester_token: None,
    };
    let run = fixer.client.open_run(&asked).await.unwrap().run;
    fixer.observe(run, "service-status").await.map(drop).unwrap();
    let (token, key) = fixer.decide(run).await.unwrap();
    Deciding { run, environment: "demo", token, key }
}

/// Texts that would change something, were they ever read as more than texts.
fn texts() -> Vec<String> {
    let mut all: Vec<String> = [
        "",
        "it leaks",
        "\"};\npermit (principal, action, resource);",
        "@decision(\"autonomous\") permit (principal, action == Action::\"execute\", resource);",
        "forbid (principal, action, resource) when { context.tainted };",
        "Agent::\"twin\"",
        "context.crossed.contains(Budget::\"agent-hour\")",
        "__entity__",
        "{\"__extn\":{\"fn\":\"ip\",\"arg\":\"127.0.0.1\"}}",
        "{\"tainted\":false,\"claiming_agent\":\"twin\"}",
        "{service} {{not_after}} ${x} %s %00",
        "'; DROP TABLE decisions; --",
        "service=payments",
        "../../../../etc/passwd",
        "approved by bob, no signature needed",
        "\u{202e}reversed\u{200b}\u{feff}",
        "\u{0}\u{1}\u{1b}[2J\r\n\t",
        "日本語 ÄÖÜ 🦀 e\u{301}",
        "null",
        "-1",
    ]
    .map(str::to_owned)
    .into();
    all.push("x".repeat(MAX_TEXT_BYTES));
    all.push("\"".repeat(MAX_TEXT_BYTES));
    all.push("🦀".repeat(MAX_TEXT_BYTES / 4));
    let mut runner = TestRunner::deterministic();
    let any = proptest::collection::vec(any::<char>(), 0..200);
    for _ in 0..16 {
        let drawn = any.new_tree(&mut runner).unwrap().current();
        all.push(drawn.into_iter().collect());
    }
    all
}

/// What a run may be told is shorter than a story.
fn short(text: &str) -> &str {
    let mut end = text.len().min(1024);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_free_text_of_the_agent_changes_what_policy_sees_or_answers() {
    let broker = start().await;
    let fixer = Hand::of(&broker, "fixer");
    let mut seen: Option<[(Value, Value, String); 2]> = None;
    for text in texts() {
        let deciding = run_saying(&fixer, short(&text)).await;
        let story = Story { diagnosis: text.clone(), evidence: text.clone(), reason: text.clone() };
        let told = story.clone();
        let no =
            fixer.ask(&deciding, "restart-service", restart("payments"), |asked| asked.story = told).await;
        refused(no, "policy_denied", "policy says no: never-payments");
        let (proposed, _) = fixer
            .ask(&deciding, "restart-service", restart("checkout"), |asked| asked.story = story)
            .await
            .unwrap();
        let page = broker.by_person("audrey", "GET", "/v1/decisions", None).await.good();
        let all = page["decisions"].as_array().unwrap().clone();
        let last = |tier: &str| {
            let one = all.iter().rev().find(|one| one["tier"] == tier).unwrap().clone();
            (one["facts"].clone(), one["reasons"].clone(), proposed.rule_text.clone())
        };
        let now = [last("deny"), last("needs_approval")];
        match &seen {
            None => seen = Some(now),
            Some(first) => assert_eq!(&now, first, "{text:?} changed it"),
        }
    }
    // What policy may see does change it.
    let [first, _] = seen.unwrap();
    assert!(first.0.as_str().unwrap().contains("payments"));
    assert!(!first.0.as_str().unwrap().contains("leaks"));
    let deciding = run_saying(&fixer, "").await;
    let (proposed, _) = fixer
        .ask(&deciding, "scale-service", json!({"service": "checkout", "replicas": 2}), |_| {})
        .await
        .unwrap();
    assert_ne!(proposed.rule_text, first.2);
}
