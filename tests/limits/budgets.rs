//! Counting is exact: under concurrency, through a restart, over a sliding window, and when nothing was minted.

use futures_util::future::join_all;
use phasebroker::domain::grant::GrantState;
use serde_json::json;

use super::hand::{Crew, Hand, LARGER, SMALL, asks, larger_quorum, refused};
use crate::broker::flow::{Approved, restart};
use crate::broker::rules::Written;
use crate::broker::{Setup, TestBroker};
use crate::fake_aws::{Behaviour, FakeAws, scene};

/// A budget named `shift`; crossing its line asks for a data owner.
pub fn shift(written: &mut Written, budget: &str) {
    written.guardrails.push_str(&format!("\n[budgets.shift]\n{budget}\n"));
    if budget.contains("step_up_at") {
        let crossed = r#"context.crossed.contains(Budget::"shift")"#;
        written.policy.push_str(&larger_quorum("beyond-shift", crossed));
    }
}

/// Eight agents, each in a run of its own with a grant that erin has signed.
async fn eight_approved<'a>(hands: &[Hand<'a>]) -> Vec<Approved> {
    let mut all = Vec::new();
    for hand in hands {
        let pending = hand.pending("demo", "restart-service", restart("checkout")).await;
        assert_eq!(asks(&pending.proposed.rule), SMALL);
        all.push(hand.broker.approve(pending, &["erin"]).await);
    }
    all
}

/// Everybody claims at once: how many succeeded; the others were refused with `code`, saying `telling`, and unspent.
async fn claim_all(hands: &[Hand<'_>], grants: &[Approved], code: &str, telling: &str) -> usize {
    let outcomes = join_all(hands.iter().zip(grants).map(|(hand, grant)| hand.claim(grant))).await;
    let mut leased = 0;
    for ((outcome, grant), hand) in outcomes.into_iter().zip(grants).zip(hands) {
        let state = hand.broker.grant_state(grant.grant).await;
        if outcome.is_ok() {
            assert_eq!(state, GrantState::Claimed);
            leased += 1;
        } else {
            refused(outcome, code, telling);
            assert_eq!(state, GrantState::Approved, "it is unspent");
        }
    }
    leased
}

#[tokio::test(flavor = "multi_thread")]
async fn of_grants_claimed_at_once_exactly_those_below_the_line_need_no_larger_quorum() {
    let (broker, crew) = (TestBroker::start().await, Crew::of(8));
    broker
        .reload(|written| {
            crew.enlist(written);
            shift(
                written,
                "counts = \"uses\"\nper = [\"environment\"]\nseconds = 3600\nstep_up_at = 3\nlimit = 50",
            );
        })
        .await;
    let hands = crew.hands(&broker);
    let grants = eight_approved(&hands).await;
    assert_eq!(claim_all(&hands, &grants, "approvals_missing", "1 of data-owners").await, 3);
    assert_eq!(broker.count_since(0, "lease.refused").await, 0, "no mint was begun for those refused");
    // The larger quorum goes on.
    let one = Hand::of(&broker, "fixer");
    let pending = one.pending("demo", "restart-service", restart("checkout")).await;
    assert_eq!(asks(&pending.proposed.rule), LARGER);
    one.claim(&broker.approve(pending, &["erin", "dana"]).await).await.map(drop).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_grants_claimed_at_once_exactly_as_many_as_the_limit_allows_succeed() {
    let (broker, crew) = (TestBroker::start().await, Crew::of(8));
    broker
        .reload(|written| {
            crew.enlist(written);
            shift(written, "counts = \"uses\"\nper = []\nseconds = 3600\nlimit = 5");
        })
        .await;
    let hands = crew.hands(&broker);
    let grants = eight_approved(&hands).await;
    assert_eq!(claim_all(&hands, &grants, "policy_denied", "budget.shift").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_two_fill_a_limit_of_five_twice() {
    let (broker, crew) = (TestBroker::start().await, Crew::of(4));
    broker
        .reload(|written| {
            crew.enlist(written);
            shift(written, "counts = \"changes\"\nper = [\"environment\"]\nseconds = 3600\nlimit = 5");
        })
        .await;
    let hands = crew.hands(&broker);
    let mut grants = Vec::new();
    for hand in &hands {
        let pending =
            hand.pending("demo", "scale-service", json!({"service": "checkout", "replicas": 3})).await;
        grants.push(broker.approve(pending, &["bob", "erin"]).await);
    }
    assert_eq!(claim_all(&hands, &grants, "policy_denied", "budget.shift").await, 2);
    // One more single change fits.
    let fixer = Hand::of(&broker, "fixer");
    fixer.use_once("demo", "restart-service", restart("checkout"), &["bob"]).await;
    let deciding = fixer.deciding("demo").await;
    refused(
        fixer.ask(&deciding, "restart-service", restart("checkout"), |_| {}).await,
        "policy_denied",
        "policy says no: budget.shift",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_used_before_a_restart_counts_after_it() {
    let broker = TestBroker::start().await;
    broker
        .reload(|written| shift(written, "counts = \"uses\"\nper = [\"agent\"]\nseconds = 3600\nlimit = 2"))
        .await;
    let fixer = Hand::of(&broker, "fixer");
    fixer.use_once("demo", "restart-service", restart("checkout"), &["bob"]).await;
    let waiting = fixer.pending("demo", "restart-service", restart("checkout")).await;
    let waiting = broker.approve(waiting, &["bob"]).await;
    fixer.use_once("demo", "restart-service", restart("checkout"), &["bob"]).await;
    let broker = broker.restart().await;
    let fixer = Hand::of(&broker, "fixer");
    refused(fixer.claim(&waiting).await, "policy_denied", "budget.shift");
    assert_eq!(broker.grant_state(waiting.grant).await, GrantState::Approved);
    // Another agent's count was never touched.
    let twin = Hand::of(&broker, "twin");
    twin.use_once("demo", "restart-service", restart("checkout"), &["bob"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_forgets_after_its_seconds_and_not_before() {
    let broker = TestBroker::start().await;
    broker
        .reload(|written| {
            shift(written, "counts = \"uses\"\nper = [\"environment\"]\nseconds = 600\nstep_up_at = 1")
        })
        .await;
    let fixer = Hand::of(&broker, "fixer");
    fixer.use_once("demo", "restart-service", restart("checkout"), &["bob"]).await;
    for (passes, asked) in [(0, LARGER), (599, LARGER), (1, SMALL)] {
        broker.clock.pass(passes);
        assert_eq!(fixer.signers("demo", "restart-service", restart("checkout")).await, asked, "{passes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mint_that_was_refused_gives_back_what_it_reserved() {
    let aws = FakeAws::start(crate::broker::clock::TestClock::default().wall()).await;
    let setup = Setup { aws: Some(scene::settings(&aws.url())), ..Setup::default() };
    let broker = TestBroker::with(setup).await;
    broker
        .reload(|written| shift(written, "counts = \"uses\"\nper = [\"account\"]\nseconds = 3600\nlimit = 1"))
        .await;
    let approved = broker.run_to_approved_on_aws().await;
    aws.behave(Behaviour::Refuse(403, "AccessDenied"));
    refused(broker.claim(&approved).await, "provider_refused", "AccessDenied");
    refused(broker.claim(&approved).await, "provider_refused", "AccessDenied");
    aws.behave(Behaviour::Answer);
    broker.claim(&approved).await.map(drop).unwrap();
    // Now it is used up.
    let deciding = Hand::of(&broker, "twin").deciding("cloud").await;
    let instance = json!({"instance": "i-0123456789abcdef0"});
    let again = Hand::of(&broker, "twin").ask(&deciding, "reboot-instance", instance, |_| {}).await;
    refused(again, "policy_denied", "budget.shift");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_could_never_count_is_refused_at_load_by_its_path() {
    let broker = TestBroker::start().await;
    let usual = broker.written.lock().unwrap().guardrails.clone();
    for (limits, path) in [
        ("limit = 0", "budgets.shift.limit"),
        ("step_up_at = 0", "budgets.shift.step_up_at"),
        ("limit = -3", "limit = -3"),
        ("step_up_at = 5\nlimit = 5", "budgets.shift.step_up_at"),
        ("step_up_at = 6\nlimit = 5", "budgets.shift.step_up_at"),
        ("", "budgets.shift"),
    ] {
        let text = format!("{usual}\n[budgets.shift]\ncounts = \"uses\"\nper = []\nseconds = 60\n{limits}\n");
        broker.reload_refused(|written| written.guardrails = text, path).await;
    }
    let text = format!(
        "{usual}\n[budgets.shift]\ncounts = \"uses\"\nper = []\nseconds = 60\nstep_up_at = 4\nlimit = 5\n"
    );
    broker.reload(|written| written.guardrails = text).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_names_no_budget_of_the_guardrails_is_refused_at_load() {
    let broker = TestBroker::start().await;
    let unknown = larger_quorum("beyond", r#"context.crossed.contains(Budget::"shfit")"#);
    broker.reload_refused(|written| written.policy.push_str(&unknown), "shfit").await;
}
