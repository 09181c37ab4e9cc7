//! Break-glass: when policy says no and there is no time. Asked for in person, signed by two, short, loud, reviewed;
//! it lifts no freeze, no deadline and no floor.

use std::sync::{Arc, Mutex};

use phasebroker::broker::ports::{Notice, Notifier, Store as _};
use phasebroker::broker::runs::OpenRun;
use phasebroker::domain::grant::GrantState;
use serde_json::{Value, json};

use super::budgets::shift;
use super::hand::{Hand, SMALL, asks, refused};
use crate::broker::flow::{Deciding, Pending, restart};
use crate::broker::rules::Written;
use crate::broker::{Setup, TestBroker};

/// Hears what people are told.
#[derive(Default)]
struct Ear(Mutex<Vec<(&'static str, String)>>);

impl Notifier for Ear {
    fn notify(&self, notice: Notice) {
        self.0.lock().unwrap().push((notice.kind, notice.id));
    }
}

/// Policy forbids everything in `demo`; break-glass work is short.
const FORBID: &str = r#"
@id("closed-for-the-night")
forbid (principal, action == Action::"execute", resource)
when { context.environment == "demo" };
"#;

async fn start(change: impl FnOnce(&mut Written)) -> TestBroker {
    hearing(Arc::new(Ear::default()), change).await
}

async fn hearing(ear: Arc<Ear>, change: impl FnOnce(&mut Written)) -> TestBroker {
    let broker = TestBroker::with(Setup { notifier: ear, ..Setup::default() }).await;
    broker
        .reload(|written| {
            written.policy.push_str(FORBID);
            let (head, glass) = written.guardrails.split_once("[break_glass]").unwrap();
            let glass = glass.replacen("work_seconds = 60", "work_seconds = 20", 1);
            written.guardrails = format!("{head}[break_glass]{glass}");
            change(written);
        })
        .await;
    broker
}

/// A run of `fixer` that olga asked for in person, deciding.
async fn in_person(broker: &TestBroker) -> Deciding {
    let fixer = Hand::of(broker, "fixer");
    let asked = OpenRun {
        environment: "demo".parse().unwrap(),
        purpose: "everything burns".into(),
        ticket: None,
        prompt_digest: None,
        requester_token: Some(broker.person_token("olga", "POST", "/v1/runs")),
    };
    let run = fixer.client.open_run(&asked).await.unwrap().run;
    fixer.observe(run, "service-status").await.map(drop).unwrap();
    let (token, key) = fixer.decide(run).await.unwrap();
    Deciding { run, environment: "demo", token, key }
}

async fn pending(broker: &TestBroker) -> Pending {
    let deciding = in_person(broker).await;
    let glass = |asked: &mut phasebroker::domain::proposal::Proposal| asked.break_glass = true;
    Hand::of(broker, "fixer").pending_with(deciding, "restart-service", restart("checkout"), glass).await
}

/// What asking under break-glass is refused with.
async fn is_refused(broker: &TestBroker, deciding: &Deciding, action: &str, code: &str, telling: &str) {
    let parameters = match action {
        "restore-data" => json!({"service": "checkout", "snapshot": "snap-00ff"}),
        _ => restart("checkout"),
    };
    let fixer = Hand::of(broker, "fixer");
    refused(fixer.ask(deciding, action, parameters, |asked| asked.break_glass = true).await, code, telling);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_sign_past_a_denial_and_it_is_short_loud_and_reviewed() {
    let ear = Arc::new(Ear::default());
    let broker = hearing(ear.clone(), |_| {}).await;
    let deciding = in_person(&broker).await;
    let fixer = Hand::of(&broker, "fixer");
    let plain = fixer.ask(&deciding, "restart-service", restart("checkout"), |_| {}).await;
    refused(plain, "policy_denied", "closed-for-the-night");
    let pending = pending(&broker).await;
    let grant = pending.sealed.grant().clone();
    assert!(grant.decision.break_glass);
    assert_eq!(asks(&grant.decision.rule), "on-call:2");
    assert_eq!(grant.decision.reasons, ["break-glass", "set aside: closed-for-the-night"]);
    assert_eq!((grant.time.work_seconds, grant.time.claim_seconds), (20, 60));
    assert_eq!(grant.time.approve_by, broker.clock.wall().plus(300));
    assert_eq!(broker.count_since(0, "break_glass.asked").await, 1);
    let mark = broker.mark().await;
    let approved = broker.approve(pending, &["bob", "erin"]).await;
    let claimed = broker.claim(&approved).await.unwrap();
    assert_eq!(claimed.not_after, broker.clock.wall().plus(20));
    let kinds = broker.kinds_since(mark).await;
    for kind in ["break_glass.used", "review.opened"] {
        assert_eq!(kinds.iter().filter(|found| *found == kind).count(), 1, "{kind} in {kinds:?}");
    }
    let id = approved.grant.to_string();
    assert!(ear.0.lock().unwrap().contains(&("break_glass", id.clone())));
    let reviews = broker.by_person("audrey", "GET", "/v1/reviews?open=true", None).await.good();
    let [review] = reviews["reviews"].as_array().unwrap().clone().try_into().unwrap();
    assert_eq!((&review["grant"], &review["owner"]), (&json!(id), &json!("data-owners")));
    assert_eq!(review["due_at"], json!(broker.clock.wall().plus(3600)));
    // Who owns the review decides it; who asked does not.
    let review = review["review"].as_str().unwrap().to_owned();
    assert!(
        ear.0.lock().unwrap().contains(&("review_opened", review.clone())),
        "whoever owns it hears of it"
    );
    let path = format!("/v1/reviews/{review}");
    let body = json!({"verdict": "accepted", "note": "it did burn"});
    broker.by_person("olga", "POST", &path, Some(&body)).await.refused(403, "forbidden", "");
    broker.by_person("dana", "POST", &path, Some(&body)).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_person_alone_breaks_no_glass_nor_do_people_of_other_groups() {
    let broker = start(|_| {}).await;
    let pending = pending(&broker).await;
    let token = broker.approval("bob", &pending.sealed);
    assert_eq!(broker.answer(&pending, &token).await.good()["state"], "pending");
    let dana = broker.answer(&pending, &broker.approval("dana", &pending.sealed)).await;
    dana.refused(403, "approver_ineligible", "");
    let sam = broker.answer(&pending, &broker.approval("sam", &pending.sealed)).await;
    sam.refused(403, "approver_ineligible", "ssh_agent");
    broker.claim_with(&pending, &[token]).await.refused(409, "grant_not_open", "pending");
    broker.clock.pass(300);
    broker.sweep().await;
    assert_eq!(broker.grant_state(pending.grant).await, GrantState::Lapsed);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_alone_does_not_ask_for_it() {
    let broker = start(|_| {}).await;
    let deciding = Hand::of(&broker, "fixer").deciding("demo").await;
    is_refused(&broker, &deciding, "restart-service", "policy_denied", "requester_token").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_rule_covers_environment_and_action_it_is_not_offered() {
    let elsewhere = ("environments = [\"demo\", \"stage\"]", "environments = [\"stage\"]");
    let other = ("[break_glass]\n", "[break_glass]\nactions = [\"scale-service\"]\n");
    for (from, to) in [elsewhere, other] {
        let broker = start(|written| written.guardrails = written.guardrails.replace(from, to)).await;
        let deciding = in_person(&broker).await;
        is_refused(&broker, &deciding, "restart-service", "policy_denied", "no break-glass rule").await;
    }
    let broker = start(without_glass).await;
    let deciding = in_person(&broker).await;
    is_refused(&broker, &deciding, "restart-service", "policy_denied", "no break-glass rule").await;
}

fn without_glass(written: &mut Written) {
    let (head, _) = written.guardrails.split_once("[break_glass]").unwrap();
    written.guardrails = head.to_owned();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_signed_is_not_claimed_once_the_rule_is_gone_or_asks_for_more() {
    let broker = start(|_| {}).await;
    let pending = pending(&broker).await;
    let approved = broker.approve(pending, &["bob", "erin"]).await;
    let usual = broker.written.lock().unwrap().guardrails.clone();
    broker.reload(without_glass).await;
    refused(broker.claim(&approved).await, "policy_denied", "no break-glass rule");
    let more = usual.replace("approvals = { on-call = 2 }", "approvals = { on-call = 2, data-owners = 1 }");
    assert_ne!(more, usual);
    broker.reload(|written| written.guardrails = more).await;
    refused(broker.claim(&approved).await, "approvals_missing", "missing: 1 of");
    broker.reload(|written| written.guardrails = usual).await;
    broker.claim(&approved).await.map(drop).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_undone_needs_two_groups_even_then() {
    let broker = start(|_| {}).await;
    let deciding = in_person(&broker).await;
    is_refused(&broker, &deciding, "restore-data", "policy_denied", "2 people from at least 2 groups").await;
    let broker = start(|written| {
        let (one, two) = ("approvals = { on-call = 2 }", "approvals = { on-call = 1, data-owners = 1 }");
        written.guardrails = written.guardrails.replace(one, two);
    })
    .await;
    let (fixer, deciding) = (Hand::of(&broker, "fixer"), in_person(&broker).await);
    let restore = json!({"service": "checkout", "snapshot": "snap-00ff"});
    let pending =
        fixer.pending_with(deciding, "restore-data", restore, |asked| asked.break_glass = true).await;
    fixer.carry_out(&broker.approve(pending, &["erin", "dana"]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_holds_against_it() {
    let broker = start(|_| {}).await;
    let pending = pending(&broker).await;
    let approved = broker.approve(pending, &["bob", "erin"]).await;
    let deciding = in_person(&broker).await;
    broker.freeze("action:restart-service").await;
    is_refused(&broker, &deciding, "restart-service", "frozen", "action:restart-service").await;
    refused(broker.claim(&approved).await, "frozen", "action:restart-service");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_is_spent_counts_it_and_does_not_hold_it_up() {
    let broker = start(|written| {
        written.policy = written.policy.replace(FORBID, "");
        shift(written, "counts = \"uses\"\nper = [\"environment\"]\nseconds = 3600\nlimit = 1");
    })
    .await;
    let fixer = Hand::of(&broker, "fixer");
    let plain = fixer.pending("demo", "restart-service", restart("checkout")).await;
    assert_eq!(asks(&plain.proposed.rule), SMALL);
    fixer.use_once("demo", "restart-service", restart("checkout"), &["bob"]).await;
    let approved = broker.approve(plain, &["bob"]).await;
    refused(broker.claim(&approved).await, "policy_denied", "budget.shift");
    let pending = pending(&broker).await;
    assert!(pending.proposed.reasons.contains(&"set aside: budget.shift".to_owned()));
    fixer.carry_out(&broker.approve(pending, &["bob", "erin"]).await).await;
    broker.clock.pass(1);
    let deciding = fixer.deciding("demo").await;
    let spent = fixer.ask(&deciding, "restart-service", restart("checkout"), |_| {}).await;
    refused(spent, "policy_denied", "budget.shift");
    let last: Value = broker.decisions().await.pop().unwrap();
    assert_eq!(last["facts"]["budgets"]["shift"]["used"], 2, "what was done past it counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_ends_it_like_anything_else() {
    let broker = start(|_| {}).await;
    let pending = pending(&broker).await;
    let approved = broker.approve(pending, &["bob", "erin"]).await;
    let claimed = broker.claim(&approved).await.unwrap();
    broker.clock.pass(19);
    broker.sweep().await;
    assert!(broker.alive(claimed.lease).await);
    broker.clock.pass(1);
    broker.sweep().await;
    assert!(!broker.alive(claimed.lease).await);
    assert!(broker.disk.lease(claimed.lease).await.unwrap().unwrap().ended.is_some());
}
