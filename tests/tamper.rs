//! What somebody with the broker's disk can do to the ledger, and who notices: the start of the broker, `audit check`,
//! the head kept outside, or a witness on another machine. The real program, its real store, a real witness.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;
mod process;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::process::{Child, Command, Stdio};

use phasebroker::broker::ports::{Log as _, Store as _};
use phasebroker::cli::keys::agent_key::read_agent_key;
use phasebroker::domain::digest::{Digest, encode};
use phasebroker::domain::event::{Event, EventKind};
use phasebroker::domain::principal::Actor;
use phasebroker::domain::time::Timestamp;
use phasebroker::ledger::tree::Frontier;
use phasebroker::store::SqliteStore;
use process::caller::Work;
use process::place::{HEAD, Place, STORE};
use process::{program, until};
use rusqlite::{Connection, params};
use serde_json::{Value, json};

const TRIGGERS: &str = "DROP TRIGGER events_never_change; DROP TRIGGER events_never_go;
    DROP TRIGGER leaves_never_change; DROP TRIGGER leaves_never_go;";

/// A broker that lived a little and stopped.
async fn lived() -> Place {
    let place = Place::new(None);
    let broker = place.serve().await;
    let it = place.approved(Work::jwt(300)).await;
    place.claim(&it).await.map(drop).unwrap();
    stop_everything(&place).await;
    broker.stop().await;
    place
}

/// Gives the answer.
async fn stop_everything(place: &Place) -> Value {
    let everything = json!({"everything": true, "reason": "done"});
    let (status, stopped) = place.post("/v1/stop", Some("olga"), &everything).await;
    assert_eq!(status, 200, "stopping works: {stopped}");
    stopped
}

fn database(place: &Place) -> Connection {
    let database = Connection::open(place.path(STORE).join("phasebroker.sqlite")).unwrap();
    database.execute_batch(TRIGGERS).unwrap();
    database
}

/// All leaves, which stand beside their events.
fn leaves(database: &Connection) -> Vec<[u8; 32]> {
    let mut rows = database.prepare("SELECT leaf FROM events ORDER BY place").unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

fn put_leaf(database: &Connection, place: i64, leaf: &[u8]) {
    let changed = database.execute("UPDATE events SET leaf = ?2 WHERE place = ?1", params![place, leaf]);
    assert_eq!(changed.unwrap(), 1);
}

/// The tree over the first `size` leaves, as the store keeps it.
fn shorten(database: &Connection, size: i64) {
    let mut tree = Frontier::new();
    let kept = &leaves(database)[..usize::try_from(size).unwrap()];
    kept.iter().for_each(|leaf| drop(tree.push(Digest::from_bytes(*leaf))));
    database.execute("DELETE FROM texts WHERE place >= ?1", [size]).unwrap();
    database.execute("DELETE FROM events WHERE place >= ?1", [size]).unwrap();
    database
        .execute(
            "UPDATE sequence SET size = ?1, peaks = ?2, root = ?3",
            params![size, tree.to_bytes(), tree.root().as_bytes()],
        )
        .unwrap();
}

fn size(database: &Connection) -> i64 {
    database.query_row("SELECT size FROM sequence", [], |row| row.get(0)).unwrap()
}

/// What `audit check` says; it must find something.
fn checked(place: &Place) -> String {
    let output = place.command(&["--json", "audit", "check"]);
    let why = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{why}");
    assert!(!output.stdout.is_empty(), "{why}");
    String::from_utf8(output.stdout).unwrap()
}

/// Starts the broker: it answers, issues nothing, and says why.
async fn refuses(place: &Place, what: &str) {
    let broker = place.serve().await;
    let (status, why) = place.readiness().await;
    assert_eq!(status, 503);
    assert!(why.to_string().contains(what), "{why}");
    stop_everything(place).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untouched_ledger_passes_and_goes_on() {
    let place = lived().await;
    let output = place.command(&["--json", "audit", "check"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let broker = place.serve().await;
    assert_eq!(place.readiness().await.0, 200);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_named_by_its_entry() {
    let place = lived().await;
    let database = database(&place);
    let bytes: Vec<u8> =
        database.query_row("SELECT bytes FROM events WHERE place = 3", [], |row| row.get(0)).unwrap();
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    database.execute("UPDATE events SET bytes = ?1 WHERE place = 3", [flipped]).unwrap();
    assert!(checked(&place).contains("\"index\": 3") || checked(&place).contains("\"index\":3"));
    refuses(&place, "entry 3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_changed_together_with_its_leaf_contradicts_the_signed_checkpoint() {
    let place = lived().await;
    let database = database(&place);
    let bytes: Vec<u8> =
        database.query_row("SELECT bytes FROM events WHERE place = 3", [], |row| row.get(0)).unwrap();
    let changed = String::from_utf8(bytes).unwrap().replace("\"version\":1", "\"version\":2");
    let leaf = phasebroker::ledger::hash::leaf_hash(changed.as_bytes());
    database.execute("UPDATE events SET bytes = ?1 WHERE place = 3", [changed.as_bytes()]).unwrap();
    put_leaf(&database, 3, leaf.as_bytes());
    let size = size(&database);
    shorten(&database, size);
    assert!(checked(&place).contains("checkpoint"));
    refuses(&place, "signed checkpoint").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_leaves_are_named() {
    let place = lived().await;
    let database = database(&place);
    let leaves = leaves(&database);
    put_leaf(&database, 2, &leaves[3]);
    put_leaf(&database, 3, &leaves[2]);
    assert!(checked(&place).contains("leaf"));
    refuses(&place, "entry 2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_dropped_from_the_middle_or_kept_behind_the_pruning_mark_is_named() {
    let place = lived().await;
    let database = database(&place);
    database.execute("UPDATE sequence SET pruned = 2", []).unwrap();
    assert!(checked(&place).contains("should have been pruned"));
    database.execute("UPDATE sequence SET pruned = 0", []).unwrap();
    database.execute_batch("DELETE FROM texts WHERE place = 3; DELETE FROM events WHERE place = 3").unwrap();
    let told = checked(&place);
    assert!(told.contains("is missing"), "{told}");
    refuses(&place, "entry 3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_dropped_with_everything_the_store_says_of_it_is_missed_by_a_checkpoint_or_the_outside_head() {
    let place = lived().await;
    let database = database(&place);
    let shorter = size(&database) - 2;
    shorten(&database, shorter);
    assert!(checked(&place).contains("checkpoint"));
    refuses(&place, "checkpoint of").await;
    database.execute("DELETE FROM checkpoints", []).unwrap();
    shorten(&database, shorter);
    refuses(&place, "store fence").await;
}

#[tokio::test]
async fn a_missing_or_changed_hash_of_a_tile_is_named_by_the_entries_below_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let store = SqliteStore::open(&path).unwrap();
    let now = Timestamp::from_seconds(1);
    let event = || Event::new(EventKind::BrokerStarted, Actor::Broker, now);
    store.record((0..600).map(|_| event()).collect()).await.unwrap();
    assert_eq!(store.damage().await.unwrap(), None);
    let database = Connection::open(&path).unwrap();
    database.execute("UPDATE nodes SET hash = zeroblob(32) WHERE place = 1", []).unwrap();
    let damage = store.damage().await.unwrap().unwrap();
    assert_eq!(damage.index, 256, "{damage}");
    assert!(damage.to_string().contains("256 to 511"), "{damage}");
    database.execute("DELETE FROM nodes WHERE place = 0", []).unwrap();
    assert_eq!(store.damage().await.unwrap().unwrap().index, 0);
    assert!(store.row(1, 0, 2).await.is_err(), "a truncated tile is never served as a whole one");
}

/// The page of a table's first entries, or of the last.
struct Page {
    file: fs::File,
    at: u64,
    bytes: Vec<u8>,
}

impl Page {
    /// Takes it out of the database of a broker that does not run.
    fn spoil(place: &Place, table: &str, last: bool) -> Self {
        let path = place.path(STORE).join("phasebroker.sqlite");
        let database = Connection::open(&path).unwrap();
        database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        let order = if last { "DESC" } else { "ASC" };
        let sql = format!(
            "SELECT pgoffset, pgsize FROM dbstat WHERE name = '{table}' AND pagetype = 'leaf' ORDER BY path {order}"
        );
        let (at, size): (i64, u32) =
            database.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        drop(database);
        let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let (at, mut bytes) = (at.unsigned_abs(), vec![0xff; usize::try_from(size).unwrap()]);
        let spoilt = bytes.clone();
        file.read_exact_at(&mut bytes, at).unwrap();
        file.write_all_at(&spoilt, at).unwrap();
        Self { file, at, bytes }
    }

    fn put_back(self) {
        self.file.write_all_at(&self.bytes, self.at).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_cannot_be_read_issues_nothing_and_still_stops_and_revokes() {
    // Behind a newest page that cannot be read, nothing can be written any more, either.
    for (newest, recorded) in [(false, true), (true, false)] {
        let place = Place::new(None);
        let broker = place.serve().await;
        let waiting = place.approved(Work::jwt(300)).await;
        let it = place.approved(Work::jwt(300)).await;
        place.claim(&it).await.map(drop).unwrap();
        broker.kill().await;
        drop(Page::spoil(&place, "events", newest));

        let broker = place.serve().await;
        let (status, why) = place.readiness().await;
        assert_eq!(status, 503, "newest: {newest}");
        let why = why.to_string();
        assert!(why.contains("ledger_damaged") && why.contains("cannot be read"), "newest: {newest}: {why}");
        // Anyone may ask; what the store says in its own words is for the log.
        assert!(!why.contains("malformed"), "newest: {newest}: {why}");
        assert!(place.log().contains("malformed"), "newest: {newest}: {}", place.log());
        assert_eq!(
            place.claim(&waiting).await.err().unwrap().code(),
            Some("ledger_damaged"),
            "newest: {newest}"
        );
        let stopped = stop_everything(&place).await;
        assert_eq!(stopped["recorded"], recorded, "newest: {newest}: {stopped}");
        let ended =
            stopped["leases"].as_array().unwrap().iter().find(|end| end["lease"] == it.lease.to_string());
        assert_eq!(ended.unwrap()["revocation"]["state"], "done", "newest: {newest}: {stopped}");
        if recorded {
            assert_eq!(place.lease_is_over(&it).await, "stopped");
        }
        // A shutdown would go on trying to write the rest.
        broker.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stopped_over_a_ledger_that_cannot_be_read_stays_ended_once_it_can() {
    for both in [false, true] {
        let place = Place::new(None);
        let broker = place.serve().await;
        let it = place.approved(Work::jwt(300)).await;
        place.claim(&it).await.map(drop).unwrap();
        broker.kill().await;
        let events = Page::spoil(&place, "events", true);
        let broker = place.serve().await;
        assert_eq!(stop_everything(&place).await["recorded"], false);
        broker.kill().await;
        let more = both.then(|| Page::spoil(&place, "leases", false));
        // A life that can record it no more than the one before; without its leases a broker does not start at all.
        let mut broker = place.start(&[]);
        assert_eq!(place.answers(&mut broker).await, !both);
        if !both {
            assert_eq!(place.readiness().await.0, 503);
            assert_eq!(place.lease(&it).await.unwrap()["state"], "released", "the store was not told");
            broker.kill().await;
        }
        if let Some(page) = more {
            page.put_back();
        }
        events.put_back();
        let broker = place.serve().await;
        assert_eq!(place.readiness().await.0, 200);
        assert_eq!(place.lease(&it).await.unwrap()["ended"]["reason"], "unrecorded", "both: {both}");
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_another_key_signed_stops_issuance() {
    let place = lived().await;
    fs::remove_file(place.path(STORE).join("log-key.pem")).unwrap();
    refuses(&place, "log-key.pem").await;
}

/// A witness of the log of `place`, in a process of its own.
struct Witness {
    child: Child,
    url: String,
    key: String,
}

impl Witness {
    fn start(place: &Place) -> Self {
        let log_key = read_agent_key(&place.path(STORE).join("log-key.pem")).unwrap();
        let name = place.url.trim_start_matches("http://");
        let mut child = Command::new(program())
            .args(["witness", "--json", "--listen", "127.0.0.1:0", "--state"])
            .arg(place.path("witness"))
            .args(["--log", &format!("{name}={}", encode(log_key.public().raw()))])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let (address, key) = (&said["address"], &said["verifier_key"]);
        Self {
            child,
            url: format!("http://{}", address.as_str().unwrap()),
            key: key.as_str().unwrap().to_owned(),
        }
    }

    /// Writes it into the broker's configuration.
    fn configure(&self, place: &Place, max_age_seconds: i64) {
        let text = fs::read_to_string(place.path("broker.toml")).unwrap();
        let mut config: Value = serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap();
        config["ledger"] = json!({
            "witnesses_needed": 1, "witness_max_age_seconds": max_age_seconds,
            "witnesses": [{"url": self.url, "key": self.key}],
        });
        place.write("broker.toml", &config);
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn checkpoint(place: &Place) -> String {
    reqwest::get(format!("{}/log/checkpoint", place.url)).await.unwrap().text().await.unwrap()
}

async fn cosigned(place: &Place, witness: &Witness) -> String {
    let name = witness.key.split('+').next().unwrap().to_owned();
    until("a cosignature", async || {
        let note = checkpoint(place).await;
        note.lines().any(|line| line.starts_with(&format!("— {name} "))).then_some(note)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_store_that_goes_on_by_itself_is_stopped_by_the_witness() {
    let place = lived().await;
    let witness = Witness::start(&place);
    witness.configure(&place, 3_600);
    let broker = place.serve().await;
    cosigned(&place, &witness).await;
    broker.stop().await;
    place.keep("copy");

    // The original goes on, and its witness with it.
    let broker = place.serve().await;
    let it = place.approved(Work::jwt(300)).await;
    place.claim(&it).await.map(drop).unwrap();
    let events = place.ledger().await.len();
    until("the witness to have seen it", async || {
        let note = checkpoint(&place).await;
        let size: usize = note.lines().nth(1)?.parse().ok()?;
        let signatures = note.lines().filter(|line| line.starts_with("— ")).count();
        (size >= events && signatures == 2).then_some(())
    })
    .await;
    broker.stop().await;

    // The copy has everything that the original had then, its head included: nothing on this disk contradicts it.
    place.put_back("copy");
    let broker = place.serve().await;
    let (status, why) = place.readiness().await;
    assert_eq!(status, 503, "{why}");
    assert!(why.to_string().contains("has seen another ledger"), "{why}");
    broker.stop().await;
    // It stays so, whatever the copy recorded meanwhile, and when the witness cannot be asked again.
    drop(witness);
    refuses(&place, "store fence").await;
    // A fence makes another log of it, which may go on.
    let witness = Witness::start(&place);
    witness.configure(&place, 3_600);
    let fenced = place.command(&["--json", "store", "fence", "--yes"]);
    assert!(fenced.status.success(), "{}", String::from_utf8_lossy(&fenced.stderr));
    let broker = place.serve().await;
    assert_eq!(place.readiness().await.0, 200);
    let note = cosigned(&place, &witness).await;
    assert!(note.lines().next().unwrap().ends_with("/2"), "{note}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn issuance_goes_on_without_a_witness_up_to_the_configured_age_and_again_when_it_is_back() {
    let place = lived().await;
    let witness = Witness::start(&place);
    witness.configure(&place, 10);
    let broker = place.serve().await;
    cosigned(&place, &witness).await;
    let (url, key) = (witness.url.clone(), witness.key.clone());
    drop(witness);
    // Something that nobody saw: as long as all is witnessed, no witness is missed.
    place.approved(Work::jwt(300)).await;
    assert_eq!(place.readiness().await.0, 200, "one that is down is no reason to stop");
    until("issuance to stop", async || {
        let (status, why) = place.readiness().await;
        (status == 503).then(|| assert!(why.to_string().contains("witnesses_missing"), "{why}"))
    })
    .await;
    broker.stop().await;
    let witness = Witness::start(&place);
    assert_eq!(witness.key, key, "it kept its key");
    assert_ne!(witness.url, url);
    witness.configure(&place, 10);
    let broker = place.serve().await;
    cosigned(&place, &witness).await;
    until("issuance to go on", async || (place.readiness().await.0 == 200).then_some(())).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_put_back_together_with_its_store_is_what_only_a_witness_catches() {
    let place = lived().await;
    place.keep("before");
    let broker = place.serve().await;
    let it = place.approved(Work::jwt(300)).await;
    place.claim(&it).await.map(drop).unwrap();
    broker.stop().await;
    place.put_back("before");
    let broker = place.serve().await;
    assert_eq!(place.readiness().await.0, 200, "as the README says: without a witness this goes unnoticed");
    broker.stop().await;
    assert!(place.path(HEAD).exists());
}
