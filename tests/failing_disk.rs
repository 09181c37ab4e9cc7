//! A disk whose flushes fail: the program cannot know what it holds, so it records and issues nothing more until it is
//! started again, says so, and goes on ending what lives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;
mod peers;
mod process;

use phasebroker::cli::agent::AgentError;
use phasebroker::domain::grant::GrantState;
use process::caller::{Approved, Work};
use process::place::Place;
use serde_json::json;

/// Flushes of the writing thread in a start on an existing store; the next one is the first request's.
const OF_A_START: u32 = 3;

async fn refused_for_the_disk(place: &Place, it: &Approved) {
    match place.claim(it).await.err().expect("it was allowed") {
        AgentError::Refused(refused) => {
            assert_eq!((refused.status, refused.code.as_str()), (503, "store_unavailable"), "{refused}");
            assert!(refused.retry_after.is_some());
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_flush_stops_issuing_until_a_restart_and_never_stopping() {
    peers::strace::available();
    let place = Place::new(None);
    let broker = place.serve().await;
    let it = place.approved(Work::jwt(300)).await;
    broker.stop().await;

    let inject = format!("inject=fdatasync,fsync:error=EIO:when={}+", OF_A_START + 1);
    let mut broker = place.start(&["-e", "trace=fdatasync,fsync", "-e", &inject]);
    assert!(place.answers(&mut broker).await, "{}", place.log());
    assert_eq!(place.readiness().await.0, 200);
    refused_for_the_disk(&place, &it).await;
    let (status, why) = place.readiness().await;
    assert_eq!(status, 503, "{why}");
    // Whatever the disk says later: a failed flush is not made good by another.
    refused_for_the_disk(&place, &it).await;
    let (_, why) = place.readiness().await;
    assert!(why.to_string().contains("restart the broker"), "it does not say what to do: {why}");

    let everything = json!({"everything": true, "reason": "the disk fails"});
    let (status, stopped) = place.post("/v1/stop", Some("olga"), &everything).await;
    assert_eq!((status, &stopped["recorded"]), (200, &json!(false)), "{stopped}");
    assert_eq!(stopped["leases"].as_array().unwrap().len(), 1, "the decide lease: {stopped}");
    broker.kill().await;

    // Nothing was minted: what the failed write left on the disk is nothing, or an INTENT that nobody answered.
    let broker = place.serve().await;
    let life: Vec<String> = place.life(it.lease).await.into_iter().map(|(kind, _)| kind).collect();
    assert!(!life.iter().any(|kind| ["lease.minted", "lease.released"].contains(&kind.as_str())), "{life:?}");
    match life.is_empty() {
        true => {
            assert_eq!(place.grant_state(&it).await, GrantState::Approved);
            place.claim(&it).await.map(drop).unwrap();
        }
        false => assert_eq!(place.grant_state(&it).await, GrantState::Claimed),
    }
    broker.stop().await;
}
