//! A store that was restored, or that two brokers want: the program refuses to issue from the one and to start on the
//! other, goes on ending, and says what to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;
mod process;

use phasebroker::broker::ports::Store as _;
use phasebroker::cli::agent::{AgentError, Claimed};
use phasebroker::domain::event::{Event, EventKind, SaltedText};
use phasebroker::domain::freeze::FreezeKey;
use phasebroker::domain::principal::Actor;
use phasebroker::domain::time::Timestamp;
use phasebroker::store::{SqliteStore, copy};
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
            "DROP TRIGGER events_never_change; UPDATE events SET leaf = zeroblob(32) WHERE place = 2",
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

const AT: Timestamp = Timestamp::from_seconds(1_700_000_000);
const FREEZE: &str = "INSERT INTO freezes (key, actor, at, renewed_at)
    VALUES ('agent:pay-bot', 'person:olga', 1700000000, 1700000000)";

/// A store at `name`, as a crash leaves it: its last write, a freeze, is in the WAL alone.
async fn left_with_a_wal(place: &Place, name: &str) -> std::path::PathBuf {
    let first = place.path("first.sqlite");
    let _ = std::fs::remove_file(&first);
    let store = SqliteStore::open(&first).unwrap();
    store.record(vec![Event::new(EventKind::StoreFenced, Actor::Broker, AT)]).await.unwrap();
    drop(store);
    let writer = rusqlite::Connection::open(&first).unwrap();
    writer.execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0").unwrap();
    writer.execute_batch(FREEZE).unwrap();
    let left = place.path(name);
    for suffix in ["", "-wal"] {
        std::fs::copy(format!("{}{suffix}", first.display()), format!("{}{suffix}", left.display())).unwrap();
    }
    assert!(std::fs::metadata(format!("{}-wal", left.display())).unwrap().len() > 0);
    left
}

async fn frozen_in(database: &std::path::Path) -> Vec<FreezeKey> {
    let freezes = copy::freezes(database).unwrap().expect("there is no store");
    freezes.into_iter().map(|freeze| freeze.key).collect()
}

fn pay_bot() -> Vec<FreezeKey> {
    vec!["agent:pay-bot".parse().unwrap()]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_restored_is_what_was_checked_also_when_its_last_writes_are_in_its_wal() {
    let place = Place::new(None);
    let snapshot = left_with_a_wal(&place, "snapshot.sqlite").await;
    let restored =
        place.command(&["--json", "store", "restore", "--yes", "--from", &snapshot.display().to_string()]);
    assert!(restored.status.success(), "{}", text(&restored.stderr));
    let said: Value = serde_json::from_slice(&restored.stdout).unwrap();
    assert_eq!(said["kept"], Value::Null, "there was no store: {said}");
    assert_eq!(frozen_in(&place.path(STORE).join("phasebroker.sqlite")).await, pay_bot());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_moved_aside_is_whole_in_one_file() {
    let place = Place::new(None);
    let database = left_with_a_wal(&place, "store.sqlite").await;
    let backup = place.path("store.backup");
    copy::write(&database, &backup).unwrap();
    let aside = place.path("store.aside");
    let (candidate, head) = copy::candidate(&backup, &database).unwrap();
    copy::replace(&candidate, &database, &aside).unwrap();
    // Alone, without any companion.
    let alone = place.path("alone.sqlite");
    std::fs::copy(&aside, &alone).unwrap();
    assert_eq!(frozen_in(&alone).await, pay_bot());
    assert!(!std::fs::exists(&candidate).unwrap());
    let store = SqliteStore::open(&database).unwrap();
    assert_eq!(store.head().await.unwrap(), head);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_opened_is_moved_aside_as_it_lies() {
    let place = Place::new(None);
    let backup = left_with_a_wal(&place, "a.backup").await;
    let database = place.path("store.sqlite");
    std::fs::write(&database, "no database at all, and longer than a header would be".repeat(9)).unwrap();
    std::fs::write(place.path("store.sqlite-wal"), "its log").unwrap();
    let aside = place.path("store.aside");
    let (candidate, _) = copy::candidate(&backup, &database).unwrap();
    copy::replace(&candidate, &database, &aside).unwrap();
    assert!(std::fs::read_to_string(&aside).unwrap().starts_with("no database"));
    assert_eq!(std::fs::read_to_string(place.path("store.aside-wal")).unwrap(), "its log");
    assert_eq!(frozen_in(&database).await, pay_bot());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_database_is_not_made_anew_beside_its_wal() {
    let place = Place::new(None);
    let database = left_with_a_wal(&place, "store.sqlite").await;
    let wal = place.path("store.sqlite-wal");
    let before = std::fs::read(&wal).unwrap();
    std::fs::rename(&database, place.path("elsewhere")).unwrap();
    let refused = SqliteStore::open(&database).unwrap_err().to_string();
    assert!(refused.contains("put the database back"), "{refused}");
    assert_eq!(std::fs::read(&wal).unwrap(), before);
    std::fs::rename(place.path("elsewhere"), &database).unwrap();
    let store = SqliteStore::open(&database).unwrap();
    assert_eq!(store.freezes().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_frozen_after_the_backup_stays_frozen_after_its_restore() {
    let place = Place::new(None);
    let broker = place.serve().await;
    let backup = place.path("good.backup").display().to_string();
    assert!(place.command(&["store", "backup", "--out", &backup]).status.success());
    let asked = json!({"key": "everything", "reason": "something is wrong"});
    let (status, said) = place.post("/v1/freezes", Some("olga"), &asked).await;
    assert_eq!(status, 200, "{said}");
    broker.stop().await;

    let restore = ["--json", "store", "restore", "--yes", "--from", &backup];
    let restored = place.command(&restore);
    assert!(restored.status.success(), "{}", text(&restored.stderr));
    let said: Value = serde_json::from_slice(&restored.stdout).unwrap();
    assert_eq!(said["frozen"], json!(["everything"]));
    let broker = place.serve().await;
    let (status, freezes) = place.get_as("olga", "/v1/freezes").await;
    assert_eq!(status, 200, "{freezes}");
    assert!(freezes.to_string().contains("person:olga"), "whose it is stays known: {freezes}");
    broker.stop().await;
    let store = SqliteStore::open(&place.path(STORE).join("phasebroker.sqlite")).unwrap();
    let events = store.events(None, 0, 1_000).await.unwrap();
    let told = events.iter().any(|event| {
        let bytes = text(&event.bytes);
        bytes.contains("\"frozen\"") && bytes.contains("restore")
    });
    assert!(told, "the ledger does not tell of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_frozen_when_the_former_store_cannot_tell_what_was() {
    let place = Place::new(None);
    let broker = place.serve().await;
    let backup = place.path("good.backup").display().to_string();
    assert!(place.command(&["store", "backup", "--out", &backup]).status.success());
    broker.stop().await;
    let database = place.path(STORE).join("phasebroker.sqlite");
    let restore = ["--json", "store", "restore", "--yes", "--from", &backup];
    let restored = place.command(&restore);
    let said: Value = serde_json::from_slice(&restored.stdout).unwrap();
    assert_eq!(said["frozen"], json!([]), "{}", text(&restored.stderr));
    std::fs::write(&database, "no database at all, and longer than a header would be".repeat(9)).unwrap();
    let restored = place.command(&restore);
    assert!(restored.status.success(), "{}", text(&restored.stderr));
    let said: Value = serde_json::from_slice(&restored.stdout).unwrap();
    assert_eq!(said["frozen"], json!(["everything"]));
    assert_eq!(frozen_in(&database).await, [FreezeKey::Everything]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_behind_a_symbolic_link_is_restored_where_it_is() {
    let place = Place::new(None);
    let broker = place.serve().await;
    let backup = place.path("good.backup").display().to_string();
    assert!(place.command(&["store", "backup", "--out", &backup]).status.success());
    broker.stop().await;
    let (link, target) = (place.path(STORE).join("phasebroker.sqlite"), place.path("disk.sqlite"));
    std::fs::rename(&link, &target).unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", link.display()));
    }
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let restored = place.command(&["--json", "store", "restore", "--yes", "--from", &backup]);
    assert!(restored.status.success(), "{}", text(&restored.stderr));
    let said: Value = serde_json::from_slice(&restored.stdout).unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    let store = SqliteStore::open(&target).unwrap();
    assert_eq!(said["epoch"], store.head().await.unwrap().epoch);
    assert_eq!(said["epoch"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_has_its_name_only_when_it_is_whole_and_never_takes_anothers() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new(None);
    let database = left_with_a_wal(&place, "store.sqlite").await;
    let (out, partial) = (place.path("a.backup"), place.path("a.backup.partial"));
    std::fs::write(&partial, "broken off").unwrap();
    let refused = copy::write(&database, &out).unwrap_err().to_string();
    assert!(refused.contains("a.backup.partial") && !out.exists(), "{refused}");
    assert_eq!(std::fs::read_to_string(&partial).unwrap(), "broken off", "it may be another's");
    std::fs::remove_file(&partial).unwrap();
    copy::write(&database, &out).unwrap();
    assert!(!partial.exists());
    assert_eq!(std::fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(&out).unwrap();
    copy::write(&database, &out).unwrap_err();
    assert_eq!(std::fs::read(&out).unwrap(), before);
    assert!(!partial.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn erased_words_are_in_no_file_of_the_store() {
    let place = Place::new(None);
    let database = place.path("store.sqlite");
    let store = SqliteStore::open(&database).unwrap();
    let words = "words-that-somebody-wants-gone";
    let told = |kind| Event::new(kind, Actor::Broker, AT);
    let event = told(EventKind::Frozen).text(SaltedText::new("reason", words.to_owned()));
    let place_of = store.head().await.unwrap().size;
    store.record(vec![event]).await.unwrap();
    let found = || {
        ["", "-wal"].into_iter().any(|suffix| {
            let bytes = std::fs::read(format!("{}{suffix}", database.display())).unwrap_or_default();
            bytes.windows(words.len()).any(|window| window == words.as_bytes())
        })
    };
    assert!(found());
    store.erase_text(place_of, "reason".into(), told(EventKind::TextRedacted)).await.unwrap();
    assert!(!found());
}
