//! A disk whose flushes fail: the program cannot know what it holds, so it records and issues nothing more until it is
//! started again, says so, and goes on ending what lives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;
mod peers;
mod process;

use phasebroker::cli::agent::AgentError;
use process::caller::{Approved, Work};
use process::place::Place;
use serde_json::json;

/// More flushes than a claim has; reaching it means that the counting does not work.
const MANY: u32 = 60;

/// A claim at a broker whose flushes fail is refused, now and later, and `/readyz` is red.
async fn refused_for_the_disk(place: &Place, it: &Approved, refusal: AgentError) {
    let AgentError::Refused(refused) = refusal else { panic!("{refusal}") };
    assert_eq!((refused.status, refused.code.as_str()), (503, "store_unavailable"), "{refused}");
    assert!(refused.retry_after.is_some());
    assert_eq!(place.readiness().await.0, 503);
    // A failed flush is not made good by another.
    let again = place.claim(it).await.err().expect("it was allowed");
    assert!(["store_unavailable", "grant_spent"].contains(&again.code().unwrap_or_default()), "{again}");
    assert_eq!(place.readiness().await.0, 503);
    assert!(place.log().contains("restart the broker"), "it does not say what to do:\n{}", place.log());
    let everything = json!({"everything": true, "reason": "the disk fails"});
    let (status, stopped) = place.post("/v1/stop", Some("olga"), &everything).await;
    assert_eq!((status, &stopped["recorded"]), (200, &json!(false)), "{stopped}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_from_any_flush_on_issues_nothing_more_and_goes_on_stopping() {
    peers::strace::available();
    let place = Place::new(None);
    let broker = place.serve().await;
    let it = place.approved(Work::jwt(300)).await;
    broker.stop().await;
    place.keep("approved");
    let mut refusals = 0;
    for n in 1..MANY {
        place.put_back("approved");
        let inject = format!("inject=fdatasync,fsync:error=EIO:when={n}+");
        let mut broker = place.start(&["-e", "trace=fdatasync,fsync", "-e", &inject]);
        if !place.answers(&mut broker).await {
            continue;
        }
        match place.claim(&it).await {
            Ok(_) => {
                assert!(refusals > 0, "no flush of the claim ever failed");
                return;
            }
            Err(refusal) => refused_for_the_disk(&place, &it, refusal).await,
        }
        refusals += 1;
        broker.kill().await;

        // Nothing left so far, and what the disk kept decides whether something may.
        let broker = place.serve().await;
        let consumed = place.lease(&it).await.is_some();
        match place.claim(&it).await {
            Ok(_) => assert!(!consumed, "flush {n}: a consumed grant gave a credential"),
            // Where nothing was consumed, the stop is remembered: its journal lies outside the store.
            Err(refusal) => {
                let expected = if consumed { "grant_spent" } else { "grant_not_open" };
                assert_eq!(refusal.code(), Some(expected), "flush {n}");
            }
        }
        broker.stop().await;
    }
    panic!("no claim ever survived:\n{}", place.log());
}
