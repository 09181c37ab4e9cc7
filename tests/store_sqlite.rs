//! What is SQLite's own: the lock, the full disk, rows that were meddled with; and the head kept in a file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "store/version_1.rs"]
mod version_1;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use phasebroker::broker::ports::*;
use phasebroker::domain::digest::Digest;
use phasebroker::domain::event::{Event, EventKind, SaltedText};
use phasebroker::domain::principal::Actor;
use phasebroker::domain::time::Timestamp;
use phasebroker::store::{HeadFile, OpenError, Options, SqliteStore};

fn event(bytes: usize) -> Event {
    Event::new(EventKind::Refused, Actor::Broker, Timestamp::from_seconds(1))
        .text(SaltedText::new("text", "x".repeat(bytes)))
}

fn head(epoch: u64, size: u64) -> Head {
    Head { epoch, size, at: Timestamp::from_seconds(5), root: Digest::of(b"x") }
}

#[tokio::test]
async fn a_second_open_is_refused_naming_the_pid_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let first = SqliteStore::open(&path).unwrap();
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for name in [&path, &link] {
        match SqliteStore::open(name) {
            Err(OpenError::InUse { pid, .. }) => assert_eq!(pid, std::process::id()),
            other => panic!("{other:?}"),
        }
    }
    first.record(vec![event(1)]).await.unwrap();
    drop(first);
    assert_eq!(SqliteStore::open(&link).unwrap().head().await.unwrap().size, 1);
}

#[tokio::test]
async fn a_store_that_was_let_go_of_has_no_file_open_and_deletes_none_that_is_put_there_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.sqlite");
    let open = || {
        let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let files = links.filter_map(|link| std::fs::read_link(link.path()).ok());
        files.filter(|file| file.starts_with(dir.path())).collect::<Vec<_>>()
    };
    for _ in 0..100 {
        let store = SqliteStore::open(&path).unwrap();
        store.record(vec![event(10)]).await.unwrap();
        assert!(open().contains(&path));
        drop(store);
        assert_eq!(open(), Vec::<std::path::PathBuf>::new());
    }
}

#[test]
fn the_files_are_their_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("store.db")).unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
    drop(store);
}

#[tokio::test]
async fn a_full_store_refuses_whole_and_recovers_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let small = Options { max_bytes: Some(512 * 1024), ..Options::default() };
    let store = SqliteStore::open_with(&path, small).unwrap();
    let mut kept = 0;
    let refused = loop {
        match store.record(vec![event(20_000)]).await {
            Ok(_) => kept += 1,
            Err(why) => break why,
        }
        assert!(kept < 100, "the limit was never reached");
    };
    assert!(matches!(refused, StoreError::Unwritable(_)), "{refused}");
    assert_eq!(store.head().await.unwrap().size, kept);
    store.record(vec![event(1)]).await.expect("a small event still fits, so the writer lives");
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    store.record(vec![event(20_000)]).await.unwrap();
    assert_eq!(store.head().await.unwrap().size, kept + 2);
}

#[tokio::test]
async fn one_failing_operation_of_a_batch_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(&folder.path().join("store.db")).unwrap());
    let tries = (0..64).map(|n| {
        let store = store.clone();
        let events = match n % 2 {
            0 => vec![event(1)],
            _ => vec![event(1), event(1).fact("long", "x".repeat(70_000))],
        };
        tokio::spawn(async move { store.record(events).await })
    });
    for (n, answer) in futures_util::future::join_all(tries).await.into_iter().enumerate() {
        match answer.unwrap() {
            Ok(_) => assert_eq!(n % 2, 0),
            Err(why) => assert!(n % 2 == 1 && why.to_string().contains("at most 65535"), "{why}"),
        }
    }
    assert_eq!(store.head().await.unwrap().size, 32);
}

#[tokio::test]
async fn meddled_rows_are_unreadable_never_absent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let digest = Digest::of(b"x");
    let digests = RulesDigests { policy: digest, catalog: digest, directory: digest, guardrails: digest };
    let rules = RulesInForce { digests, directory: "d".into(), authors: Default::default() };
    let store = SqliteStore::open(&path).unwrap();
    store.put_rules(rules, event(1)).await.unwrap();
    drop(store);
    let meddle = |sql: &str| rusqlite::Connection::open(&path).unwrap().execute_batch(sql);
    assert!(meddle("UPDATE events SET bytes = x'00'").is_err(), "events are immutable");
    assert!(meddle("DELETE FROM events").is_err(), "events are immutable");
    meddle("PRAGMA ignore_check_constraints = ON; UPDATE rules SET policy = x'00'").unwrap();
    let store = SqliteStore::open(&path).unwrap();
    assert!(matches!(store.rules().await, Err(StoreError::Unreadable(_))));
    drop(store);
    meddle("UPDATE sequence SET size = 7").unwrap();
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.damage().await.unwrap().map(|damage| damage.index), Some(1), "a lost tail is noticed");
    drop(store);
    meddle("UPDATE sequence SET size = 1; PRAGMA user_version = 9").unwrap();
    let newer = SqliteStore::open(&path).unwrap_err().to_string();
    assert!(newer.contains("version 9"), "{newer}");
}

#[test]
fn a_file_of_another_program_is_not_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    assert!(matches!(SqliteStore::open(&path), Err(OpenError::Unusable { .. })));
    std::fs::write(&path, "text").unwrap();
    assert!(matches!(SqliteStore::open(&path), Err(OpenError::Unusable { .. })));
}

#[tokio::test]
async fn the_kept_head_goes_forward_only_but_for_a_fence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("head.json");
    let keeper = HeadFile::at(&path);
    assert_eq!(keeper.known().await.unwrap(), None);
    keeper.advance(head(1, 5)).await.unwrap();
    keeper.advance(head(1, 4)).await.unwrap();
    assert_eq!(keeper.known().await.unwrap(), Some(head(1, 5)));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    keeper.replace(head(2, 3)).await.unwrap();
    assert_eq!(HeadFile::at(&path).known().await.unwrap(), Some(head(2, 3)));
    let later = HeadFile::at(&path);
    later.advance(head(1, 9)).await.unwrap();
    assert_eq!(later.known().await.unwrap(), Some(head(2, 3)), "an older epoch is never newer");
}

#[tokio::test]
async fn an_unreadable_head_is_an_error_and_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("head.json");
    for text in ["", "{}", "null", "{\"epoch\":1}"] {
        std::fs::write(&path, text).unwrap();
        let keeper = HeadFile::at(&path);
        assert!(keeper.known().await.is_err(), "{text}");
        assert!(keeper.advance(head(1, 1)).await.is_err(), "{text}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(HeadFile::at(&path).known().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_advances_at_once_end_at_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let keeper = Arc::new(HeadFile::at(folder.path().join("head.json")));
    let tries = (0..64).map(|n| {
        let keeper = keeper.clone();
        tokio::spawn(async move {
            keeper.advance(head(1, n)).await.unwrap();
            assert!(keeper.known().await.unwrap().unwrap().size >= n);
        })
    });
    for done in futures_util::future::join_all(tries).await {
        done.unwrap();
    }
    assert_eq!(keeper.known().await.unwrap(), Some(head(1, 63)));
}
