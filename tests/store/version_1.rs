//! A file that version 1 wrote: it opens, keeps what it held, and what version 1 sealed is over.

use std::path::Path;

use phasebroker::broker::ports::*;
use phasebroker::domain::digest::Digest;
use phasebroker::domain::event::{Event, EventKind};
use phasebroker::domain::freeze::{Freeze, FreezeKey};
use phasebroker::domain::grant::GrantState;
use phasebroker::domain::id::{GrantId, LeaseId, RunId};
use phasebroker::domain::key::SigningKey;
use phasebroker::domain::lease::LeaseState;
use phasebroker::domain::principal::{Actor, Attestation};
use phasebroker::domain::time::Timestamp;
use phasebroker::ledger::hash::leaf_hash;
use phasebroker::ledger::tree::Frontier;
use phasebroker::store::{OpenError, SqliteStore};

const SCHEMA: &str = include_str!("version_1.sql");
const NOW: Timestamp = Timestamp::from_seconds(1_000);

/// A file of version 1 with a run, an open grant, a spent one, its lease and what that reserved, and one event.
struct Old {
    run: RunId,
    open: GrantId,
    spent: GrantId,
    lease: LeaseId,
}

fn write(path: &Path) -> Old {
    let old = Old {
        run: RunId::generate(NOW),
        open: GrantId::generate(NOW),
        spent: GrantId::generate(NOW),
        lease: LeaseId::generate(NOW),
    };
    let Old { run, open, spent, lease } = &old;
    let key = Digest::of(b"key");
    let event = "{}";
    let last = Digest::of(&[&[0; 32][..], event.as_bytes()].concat());
    let hex =
        |digest: &Digest| digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (last, any) = (hex(&last), hex(&key));
    let conn = rusqlite::Connection::open(path).unwrap();
    conn.execute_batch(&format!(
        "PRAGMA journal_mode = WAL; BEGIN; {SCHEMA} PRAGMA user_version = 1;
         INSERT INTO events VALUES (0, '{run}', CAST('{event}' AS BLOB));
         UPDATE sequence SET size = 1, at = 900, last = x'{last}';
         INSERT INTO rules VALUES (1, x'{any}', x'{any}', x'{any}');
         INSERT INTO directories VALUES (x'{any}', 'directory');
         INSERT INTO runs VALUES ('{run}', 'sre-agent', 'demo', 'ann', NULL, 'execute', 700);
         INSERT INTO grants VALUES
           ('{open}', 0, '{run}', 1, 'sre-agent', '{key}', 'approved', 1, 5000, 6000, NULL, x'7b7d'),
           ('{spent}', 0, '{run}', 1, 'sre-agent', '{key}', 'claimed', 2, 5000, 6000, NULL, x'7b7d');
         INSERT INTO leases (id, place, run, agent, phase, environment, provider, revocability, grant_id, key,
             target, state, opened_at, not_after, hard_end, sent, revocation)
           VALUES ('{lease}', 0, '{run}', 'sre-agent', 'execute', 'demo', 'jwt', 'at_expiry', '{spent}', '{key}',
             'https://resource.example', 'released', 800, 1100, 1200, x'{any}', '{{\"state\":\"not_needed\"}}');
         INSERT INTO reservations VALUES ('{lease}', 'budget', 3);
         COMMIT;"
    ))
    .unwrap();
    old
}

#[tokio::test]
async fn a_file_of_version_1_opens_with_what_it_held() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let old = write(&path);
    drop(SqliteStore::open(&path).unwrap());
    let store = SqliteStore::open(&path).unwrap();
    let run = store.run(old.run).await.unwrap().unwrap();
    assert_eq!((run.asked_in_person, run.attestation), (false, Attestation::RegisteredKey));
    let lease = store.lease(old.lease).await.unwrap().unwrap();
    assert_eq!((lease.state, lease.grant), (LeaseState::Released, Some(old.spent)));
    assert_eq!((lease.action, lease.released_at), (None, None));
    assert_eq!(lease.proposing_agent, Some("sre-agent".parse().unwrap()), "the agent of its run");
    let used = async |since: Option<i64>| {
        let since = since.map(Timestamp::from_seconds);
        store.used(Counted { key: "budget".into(), since }).await.unwrap()
    };
    assert_eq!((used(None).await, used(Some(799)).await, used(Some(800)).await), (3, 3, 0));
    let rules = store.rules().await.unwrap().unwrap();
    let key = Digest::of(b"key");
    assert_eq!((rules.policy, rules.catalog, rules.directory), (key, key, key));
    assert_eq!(rules.guardrails, Digest::from_bytes([0; 32]), "no guardrails have this digest");
    assert!(store.authors().await.unwrap().all().is_empty());
    assert_eq!(store.directory(key).await.unwrap().as_deref(), Some("directory"));
    let freeze = Freeze { key: FreezeKey::Everything, by: Actor::Broker, at: NOW };
    let event = Event::new(EventKind::Stopped, Actor::Broker, NOW);
    store.freeze(freeze.clone(), event).await.unwrap();
    assert_eq!(store.freezes().await.unwrap(), [freeze]);
}

#[tokio::test]
async fn what_version_1_sealed_and_nobody_used_lapses_once_and_in_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let old = write(&path);
    drop(SqliteStore::open(&path).unwrap());
    let store = SqliteStore::open(&path).unwrap();
    let events = store.events(None, 0, 10).await.unwrap();
    assert_eq!(events.len(), 2);
    let lapsed = String::from_utf8(events[1].bytes.clone()).unwrap();
    assert!(lapsed.contains("grant.lapsed") && lapsed.contains(&old.open.to_string()), "{lapsed}");
    let head = store.head().await.unwrap();
    let mut tree = Frontier::new();
    events.iter().for_each(|event| drop(tree.push(leaf_hash(&event.bytes))));
    assert_eq!((head.size, head.at, head.root), (2, Timestamp::from_seconds(900), tree.root()));
    assert_eq!(store.damage().await.unwrap(), None);
    assert!(store.open_grants(None).await.unwrap().is_empty());
    assert!(store.due(Timestamp::from_seconds(9_000)).await.unwrap().grants.is_empty());
    drop(store);
    let conn = rusqlite::Connection::open(&path).unwrap();
    let state = |id: GrantId| -> String {
        conn.query_row("SELECT state FROM grants WHERE id = ?1", [id.to_string()], |row| row.get(0)).unwrap()
    };
    assert_eq!(state(old.open), GrantState::Lapsed.name());
    assert_eq!(state(old.spent), GrantState::Claimed.name(), "what was spent stays spent");
}

#[tokio::test]
async fn a_file_of_version_1_and_a_fresh_one_end_with_the_same_schema() {
    let folder = tempfile::tempdir().unwrap();
    let schema = |path: &Path| -> Vec<(String, String)> {
        drop(SqliteStore::open(path).unwrap());
        let conn = rusqlite::Connection::open(path).unwrap();
        let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(version, 4);
        let mut found =
            conn.prepare("SELECT name, coalesce(sql, '') FROM sqlite_schema ORDER BY name").unwrap();
        let rows = found.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    let (old, fresh) = (folder.path().join("old.db"), folder.path().join("fresh.db"));
    write(&old);
    assert_eq!(schema(&old), schema(&fresh));
}

#[tokio::test]
async fn a_file_of_version_3_keeps_its_tree_and_takes_keys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = SqliteStore::open(&path).unwrap();
    let event = || Event::new(EventKind::BrokerStarted, Actor::Broker, NOW);
    let before = store.record((0..300).map(|_| event()).collect()).await.unwrap();
    drop(store);
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute_batch("DROP TABLE own_keys; PRAGMA user_version = 3").unwrap();
    drop(conn);
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.head().await.unwrap(), before);
    assert_eq!(store.damage().await.unwrap(), None);
    let key = KeptKey::Log(SigningKey::generate().unwrap().public().clone());
    let changed = Event::new(EventKind::KeyChanged, Actor::Broker, NOW);
    assert_eq!(store.keep_key(key.clone(), changed).await.unwrap().size, before.size + 1);
    assert_eq!(store.kept_keys().await.unwrap().keys, [key]);
}

#[tokio::test]
async fn a_file_of_version_1_that_lost_its_tail_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    write(&path);
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute_batch("UPDATE sequence SET size = 7").unwrap();
    assert!(matches!(SqliteStore::open(&path), Err(OpenError::Unusable { .. })));
    let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 1);
    conn.execute_batch("UPDATE sequence SET size = 1").unwrap();
    SqliteStore::open(&path).unwrap();
}

#[tokio::test]
async fn a_meddled_freeze_or_playbook_is_unreadable_never_lifted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    drop(SqliteStore::open(&path).unwrap());
    let conn = rusqlite::Connection::open(&path).unwrap();
    for row in ["('everything', 'nobody', 1, 1)", "('person:bob', 'broker', 1, 1)", "('all', 'broker', 1, 1)"]
    {
        conn.execute_batch(&format!("DELETE FROM freezes; INSERT INTO freezes VALUES {row}")).unwrap();
        let store = SqliteStore::open(&path).unwrap();
        assert!(matches!(store.freezes().await, Err(StoreError::Unreadable(_))), "{row}");
    }
    conn.execute_batch(
        "INSERT INTO administrations VALUES ('x', 0, 'pending', 0, 1, '[]', x'7b7d');
         INSERT INTO playbooks VALUES (zeroblob(32), 0, 'x', 'active', 9);",
    )
    .unwrap();
    let store = SqliteStore::open(&path).unwrap();
    assert!(matches!(store.playbooks(NOW).await, Err(StoreError::Unreadable(_))));
    assert!(matches!(store.open_administrations().await, Err(StoreError::Unreadable(_))));
}
