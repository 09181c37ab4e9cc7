//! A store that was restored, or that two brokers want: the program refuses to issue from the one and to start on the
//! other, goes on ending, and says what to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;
mod process;

use phasebroker::cli::agent::{AgentError, Claimed};
use process::caller::Work;
use process::place::{HEAD, Place, STORE};
use serde_json::{Value, json};

fn code(outcome: Result<Claimed, AgentError>) -> String {
    outcome.err().expect("it was allowed").code().unwrap_or("no answer").to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_store_issues_nothing_until_it_is_fenced_and_then_its_old_grants_are_dead() {
    let place = Place::new(None);
    let broker = place.serve().await;
    let it = place.approved(Work::jwt(300)).await;
    broker.stop().await;
    place.keep("backup");
    let broker = place.serve().await;
    place.claim(&it).await.map(drop).unwrap();
    broker.stop().await;

    // The backup knows the grant as approved and unused.
    place.put_back_only(STORE, "backup");
    let broker = place.serve().await;
    assert_eq!(code(place.claim(&it).await), "fence_needed");
    let (status, why) = place.readiness().await;
    assert_eq!(status, 503);
    assert!(why.to_string().contains("store fence"), "it does not say what to do: {why}");
    let everything = json!({"everything": true, "reason": "a restore"});
    let (status, stopped) = place.post("/v1/stop", Some("olga"), &everything).await;
    assert_eq!(status, 200, "{stopped}");
    assert_eq!(stopped["leases"].as_array().unwrap().len(), 1, "the decide lease of the backup: {stopped}");

    let fence = ["--json", "store", "fence", "--yes"];
    let refused = place.command(&fence);
    assert!(!refused.status.success());
    let pid = format!("process {}", broker.pid());
    assert!(text(&refused.stderr).contains(&pid), "{}", text(&refused.stderr));
    broker.stop().await;

    // Another restore, so that only the fence stands between the old grant and a second credential.
    place.put_back_only(STORE, "backup");
    let fenced = place.command(&fence);
    assert!(fenced.status.success(), "{}", text(&fenced.stderr));
    let said: Value = serde_json::from_slice(&fenced.stdout).unwrap();
    assert_eq!(said["epoch"], 2);

    let broker = place.serve().await;
    assert_eq!(place.readiness().await.0, 200);
    assert_eq!(code(place.claim(&it).await), "grant_foreign");
    let new = place.approved(Work::jwt(300)).await;
    place.claim(&new).await.map(drop).unwrap();
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_head_is_missing_or_unreadable_issues_nothing() {
    let place = Place::new(None);
    let broker = place.serve().await;
    let it = place.approved(Work::jwt(300)).await;
    broker.stop().await;
    let head = place.path(HEAD).join("head.json");

    std::fs::rename(&head, place.path("kept-head")).unwrap();
    let broker = place.serve().await;
    assert_eq!(code(place.claim(&it).await), "fence_needed");
    assert_eq!(place.readiness().await.0, 503);
    broker.stop().await;

    std::fs::write(&head, "{}").unwrap();
    let mut broker = place.start(&[]);
    assert!(!place.answers(&mut broker).await);
    assert!(place.log().contains("head.json"), "{}", place.log());

    // The head as it was: nothing was lost.
    std::fs::rename(place.path("kept-head"), &head).unwrap();
    let broker = place.serve().await;
    place.claim(&it).await.map(drop).unwrap();
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_broker_on_the_same_store_is_refused_and_told_the_firsts_pid() {
    let place = Place::new(None);
    let broker = place.serve().await;
    let elsewhere = std::fs::read_to_string(place.path("broker.toml")).unwrap();
    let port = place.url.rsplit(':').next().unwrap();
    std::fs::write(place.path("elsewhere.toml"), elsewhere.replace(port, "14999")).unwrap();
    for config in ["broker.toml", "elsewhere.toml"] {
        let before = place.log().len();
        place.start_with(config, &[]).ends().await;
        let said = place.log()[before..].to_owned();
        let in_use = format!("is in use by process {}", broker.pid());
        assert!(said.contains(&in_use), "{config}: {said}");
    }
    assert_eq!(place.readiness().await.0, 200, "the first was not disturbed");
    broker.stop().await;
}

/// Approve, back up, claim, restore, claim again: refused.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_claimed_after_a_backup_is_not_claimed_again_after_its_restore() {
    let place = Place::new(None);
    let broker = place.serve().await;
    let it = place.approved(Work::jwt(300)).await;
    let backup = place.path("good.backup").display().to_string();
    let taken = place.command(&["--json", "store", "backup", "--out", &backup]);
    assert!(taken.status.success(), "also while the broker runs: {}", text(&taken.stderr));
    let again = place.command(&["store", "backup", "--out", &backup]);
    assert!(text(&again.stderr).contains("exists"), "a backup is never overwritten: {}", text(&again.stderr));
    place.claim(&it).await.map(drop).unwrap();
    let restore = ["--json", "store", "restore", "--yes", "--from", &backup];
    let refused = place.command(&restore);
    assert!(
        text(&refused.stderr).contains(&format!("process {}", broker.pid())),
        "{}",
        text(&refused.stderr)
    );
    broker.stop().await;

    let restored = place.command(&restore);
    assert!(restored.status.success(), "{}", text(&restored.stderr));
    let said: Value = serde_json::from_slice(&restored.stdout).unwrap();
    assert_eq!(said["epoch"], 2);
    assert!(std::path::Path::new(said["kept"].as_str().unwrap()).exists(), "the former store is kept");
    let broker = place.serve().await;
    assert_eq!(place.readiness().await.0, 200);
    assert_eq!(code(place.claim(&it).await), "grant_foreign");
    let new = place.approved(Work::jwt(300)).await;
    place.claim(&new).await.map(drop).unwrap();
    broker.stop().await;

    // The epoch of a second restore is above the first one's, although the backup knows of neither.
    let restored = place.command(&restore);
    let said: Value = serde_json::from_slice(&restored.stdout).unwrap();
    assert_eq!(said["epoch"], 3, "{}", text(&restored.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_is_not_restored_and_the_store_stays() {
    let place = Place::new(None);
    let broker = place.serve().await;
    place.approved(Work::jwt(300)).await;
    let backup = place.path("bad.backup");
    let taken = place.command(&["store", "backup", "--out", &backup.display().to_string()]);
    assert!(taken.status.success(), "{}", text(&taken.stderr));
    broker.stop().await;
    let database = rusqlite::Connection::open(&backup).unwrap();
    database
        .execute_batch(
            "DROP TRIGGER leaves_never_change; UPDATE leaves SET hash = zeroblob(32) WHERE place = 2",
        )
        .unwrap();
    drop(database);
    let before = std::fs::read(place.path(STORE).join("phasebroker.sqlite")).unwrap();
    let refused = place.command(&["store", "restore", "--yes", "--from", &backup.display().to_string()]);
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("entry 2"), "{}", text(&refused.stderr));
    assert_eq!(std::fs::read(place.path(STORE).join("phasebroker.sqlite")).unwrap(), before);
    let missing = place.command(&["store", "restore", "--yes", "--from", "no-such-backup"]);
    assert!(!missing.status.success() && text(&missing.stderr).contains("no-such-backup"));
}
