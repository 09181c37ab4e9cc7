//! The program, killed at its N-th flush (or write) with N counting up until the work survives, and then started again on the same
//! files: one credential at most has left, nothing without its records, and every lease ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;
mod fake_aws;
mod peers;
mod process;

use std::time::{SystemTime, UNIX_EPOCH};

use fake_aws::FakeAws;
use phasebroker::broker::end::Complete;
use phasebroker::cli::agent::{AgentError, Claimed};
use phasebroker::domain::grant::GrantState;
use phasebroker::domain::lease::Outcome;
use phasebroker::domain::time::Timestamp;
use phasebroker::providers::aws::POLICY_NAME;
use process::caller::{Approved, Work};
use process::place::Place;
use process::{Running, until};
use serde_json::json;

/// The role of `Work::aws`.
const ROLE: &str = "execute";
/// More calls than any of these stories has; reaching it means that the counting does not work.
const MANY: u32 = 200;
/// What makes a record durable.
const FLUSHES: &str = "fdatasync,fsync";
/// What puts a record together: a kill here leaves half a transaction, or two files of the head.
const WRITES: &str = "pwrite64,rename";

/// A broker that is killed when one of its threads makes one of `calls` for the `n`-th time.
fn killed_at(place: &Place, calls: &str, n: u32) -> Running {
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:signal=SIGKILL:when={n}"));
    place.start(&["-e", &trace, "-e", &inject])
}

/// Does `work` at such a broker; what it gave, or `None` when the broker died first.
async fn at_a_dying_broker<T>(
    place: &Place,
    calls: &str,
    n: u32,
    work: impl AsyncFnOnce() -> Result<T, AgentError>,
) -> Option<T> {
    let mut broker = killed_at(place, calls, n);
    if !place.answers(&mut broker).await {
        broker.ends().await;
        return None;
    }
    match work().await {
        Ok(done) => {
            broker.kill().await;
            Some(done)
        }
        Err(error) => {
            assert!(error.is_lost_reply(), "{calls} {n}: {error}\n{}", place.log());
            broker.ends().await;
            None
        }
    }
}

/// An approved grant, kept as `approved`.
async fn approved(place: &Place, work: Work) -> Approved {
    let broker = place.serve().await;
    let it = place.approved(work).await;
    broker.stop().await;
    place.keep("approved");
    it
}

/// What the ledger says of the lease, in order; revocations aside.
async fn steps(place: &Place, it: &Approved) -> Vec<String> {
    let life = place.life(it.lease).await;
    let named = life.into_iter().map(|(kind, event)| match event["facts"]["reason"].as_str() {
        Some(reason) => format!("{kind}:{reason}"),
        None => kind,
    });
    named.filter(|kind| kind.starts_with("lease.")).collect()
}

fn code(outcome: &Result<Claimed, AgentError>) -> &str {
    outcome.as_ref().err().and_then(AgentError::code).unwrap_or("nothing refused it")
}

/// What must hold right after the restart, whatever the broker was doing when it died; the steps found.
async fn nothing_is_lost(place: &Place, it: &Approved, left: bool) -> Vec<String> {
    let found = steps(place, it).await;
    let text: Vec<&str> = found.iter().map(String::as_str).collect();
    let state = place.grant_state(it).await;
    match text[..] {
        [] => assert_eq!(state, GrantState::Approved),
        // An INTENT without outcome became UNKNOWN, a MINTED ended.
        ["lease.intent", "lease.unknown"]
        | ["lease.intent", "lease.minted", "lease.ended:restarted"]
        | ["lease.intent", "lease.minted", "lease.released"] => assert_eq!(state, GrantState::Claimed),
        _ => panic!("these steps are not of the design: {found:?}"),
    }
    assert!(!left || text.last() == Some(&"lease.released"), "released without its records: {found:?}");
    found
}

/// Claims again and asks for the lost reply, as a patient agent would; how many credentials this gave.
async fn greedy_agent_gets(place: &Place, it: &Approved, found: &[String]) -> usize {
    if found.is_empty() {
        // Nothing was consumed, so the grant is still good: once.
        place.claim(it).await.map(drop).unwrap();
        assert_eq!(code(&place.claim(it).await), "grant_spent");
        return 1;
    }
    assert_eq!(code(&place.claim(it).await), "grant_spent");
    let recalled = place.agent("fixer").recall(it.lease, &it.claim_key).await;
    let expected =
        if found.last().unwrap().starts_with("lease.ended") { "lease_ended" } else { "credential_lost" };
    assert_eq!(code(&recalled), expected, "{found:?}");
    0
}

/// Claims at a broker killed at each of `calls` in turn, until a claim survives; the last step found after each kill.
async fn sweep_a_claim(calls: &str) -> Vec<String> {
    peers::strace::available();
    let place = Place::new(None);
    let it = approved(&place, Work::jwt(300)).await;
    let mut seen = Vec::new();
    for n in 1..MANY {
        place.put_back("approved");
        let left = at_a_dying_broker(&place, calls, n, async || place.claim(&it).await).await.is_some();
        let broker = place.serve().await;
        let found = nothing_is_lost(&place, &it, left).await;
        let more = greedy_agent_gets(&place, &it, &found).await;
        assert!(usize::from(left) + more <= 1, "{calls} {n}: two credentials left");
        if found.last().is_some_and(|last| last == "lease.released") {
            assert_eq!(place.lease_is_over(&it).await, "cancelled");
        }
        broker.kill().await;
        seen.push(found.last().cloned().unwrap_or_default());
        if left {
            return seen;
        }
    }
    panic!("no claim ever survived:\n{}", place.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_killed_at_any_flush_yields_one_credential_at_most() {
    let seen = sweep_a_claim(FLUSHES).await;
    assert!(seen.len() > 4, "too few flushes to be true: {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_killed_at_any_write_yields_one_credential_at_most() {
    let seen = sweep_a_claim(WRITES).await;
    // Every record takes several writes, so that the sweep meets every stage at which a claim can die.
    for stage in ["", "lease.unknown", "lease.ended:restarted", "lease.released"] {
        assert!(seen.iter().any(|last| last == stage), "never `{stage}`: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_lease_of_a_killed_broker_ends_by_its_deadline() {
    peers::strace::available();
    let place = Place::new(None);
    let it = approved(&place, Work::jwt(3)).await;
    for n in 1..MANY {
        place.put_back("approved");
        let left = at_a_dying_broker(&place, FLUSHES, n, async || place.claim(&it).await).await.is_some();
        let broker = place.serve().await;
        let opened = place.lease(&it).await.is_some();
        if opened {
            let reason = place.lease_is_over(&it).await;
            assert!(["unknown", "restarted", "cut_off"].contains(&reason.as_str()), "{reason}");
            assert_eq!(place.grant_state(&it).await, GrantState::Claimed);
        }
        broker.stop().await;
        if left {
            assert!(opened);
            return;
        }
    }
    panic!("no claim ever survived:\n{}", place.log());
}

/// The fake's clock, which otherwise stands still.
fn wound(aws: &FakeAws) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    aws.set_clock(Timestamp::from_seconds(i64::try_from(now).unwrap()));
}

async fn at_aws() -> (FakeAws, Place) {
    let aws = FakeAws::start(Timestamp::from_seconds(0)).await;
    wound(&aws);
    let place = Place::new(Some(&aws.url()));
    (aws, place)
}

async fn is_denied(aws: &FakeAws, it: &Approved) {
    until("the lease to be denied at AWS", async || {
        aws.policy(ROLE, POLICY_NAME).filter(|text| text.contains(&it.lease.to_string())).map(drop)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mint_at_aws_killed_at_any_flush_happens_once_and_is_starved() {
    peers::strace::available();
    let (aws, place) = at_aws().await;
    let it = approved(&place, Work::aws(300)).await;
    for n in 1..MANY {
        place.put_back("approved");
        aws.edit_policy(ROLE, POLICY_NAME, None);
        let before = aws.minted();
        wound(&aws);
        let left = at_a_dying_broker(&place, FLUSHES, n, async || place.claim(&it).await).await.is_some();
        let broker = place.serve().await;
        let found = nothing_is_lost(&place, &it, left).await;
        wound(&aws);
        let more = greedy_agent_gets(&place, &it, &found).await;
        assert!(aws.minted() - before <= 1, "flush {n}: one grant, {} sessions", aws.minted() - before);
        assert!(usize::from(left) + more <= 1, "flush {n}: two credentials left");
        if !found.is_empty() {
            // Whoever may hold it finds it dead.
            is_denied(&aws, &it).await;
        }
        broker.stop().await;
        if left {
            return;
        }
    }
    panic!("no claim ever survived:\n{}", place.log());
}

/// A claimed lease, kept as `claimed`.
async fn claimed(place: &Place, work: Work) -> (Approved, Claimed) {
    let broker = place.serve().await;
    let it = place.approved(work).await;
    let claimed = place.claim(&it).await.map_err(|e| e.to_string()).ok().unwrap();
    broker.stop().await;
    place.keep("claimed");
    (it, claimed)
}

fn done() -> Complete {
    Complete { outcome: Outcome::Succeeded, note: None }
}

/// Ends what a kill left open, in turn as the agent and as an operator would; its last reason.
async fn end_again(place: &Place, it: &Approved, claimed: &Claimed, n: u32) -> &'static str {
    let again = place.agent("fixer");
    match place.lease(it).await.unwrap()["state"].as_str().unwrap() {
        "ended" => {
            let twice = again.complete(claimed, &it.claim_key, &done()).await;
            assert_eq!(twice.err().unwrap().code(), Some("lease_ended"));
            "completed"
        }
        "released" if n.is_multiple_of(2) => {
            again.complete(claimed, &it.claim_key, &done()).await.unwrap();
            "completed"
        }
        "released" => {
            let stop = json!({"lease": it.lease, "reason": "it is late"});
            let (status, answer) = place.post("/v1/stop", Some("olga"), &stop).await;
            assert_eq!((status, &answer["recorded"]), (200, &json!(true)), "{answer}");
            "stopped"
        }
        state => panic!("a completed lease became `{state}`"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_killed_at_any_flush_is_kept_or_can_be_made_again() {
    peers::strace::available();
    let place = Place::new(None);
    let (it, claimed) = claimed(&place, Work::jwt(600)).await;
    for n in 1..MANY {
        place.put_back("claimed");
        let complete = async || place.agent("fixer").complete(&claimed, &it.claim_key, &done()).await;
        let survived = at_a_dying_broker(&place, FLUSHES, n, complete).await.is_some();
        let broker = place.serve().await;
        let reason = end_again(&place, &it, &claimed, n).await;
        assert!(!survived || reason == "completed", "an answered completion was forgotten");
        assert_eq!(place.lease_is_over(&it).await, reason);
        broker.stop().await;
        if survived {
            return;
        }
    }
    panic!("no completion ever survived:\n{}", place.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_at_aws_killed_at_any_flush_is_done_after_the_restart() {
    peers::strace::available();
    let (aws, place) = at_aws().await;
    let (it, claimed) = claimed(&place, Work::aws(600)).await;
    for n in 1..MANY {
        place.put_back("claimed");
        aws.edit_policy(ROLE, POLICY_NAME, None);
        let complete = async || place.agent("fixer").complete(&claimed, &it.claim_key, &done()).await;
        let survived = at_a_dying_broker(&place, FLUSHES, n, complete).await.is_some();
        let broker = place.serve().await;
        let reason = end_again(&place, &it, &claimed, n).await;
        assert_eq!(place.lease_is_over(&it).await, reason);
        assert_eq!(place.lease(&it).await.unwrap()["revocation"]["state"], "done");
        is_denied(&aws, &it).await;
        broker.stop().await;
        if survived {
            return;
        }
    }
    panic!("no completion ever survived:\n{}", place.log());
}
