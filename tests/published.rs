//! The log as it is published: an outsider who knows the log's key alone fetches it, checks it with a program of others,
//! and misses nothing that matters when old entries are pruned.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;

use broker::TestBroker;
use phasebroker::broker::ports::{Log as _, Store as _};
use phasebroker::broker::retain::pruned_event;
use phasebroker::domain::digest::{Digest, decode};
use phasebroker::domain::event::{Event, EventKind};
use phasebroker::domain::key::SigningKey;
use phasebroker::domain::principal::Actor;
use phasebroker::ledger::checkpoint::Checkpoint;
use phasebroker::ledger::hash::leaf_hash;
use phasebroker::ledger::note::SignedNote;
use phasebroker::ledger::proof::{verify_consistency, verify_inclusion};
use phasebroker::ledger::quorum::Witnesses;
use phasebroker::ledger::tile::{Kind, decode_entries, decode_hashes, tiles_of};
use phasebroker::ledger::tlog_proof::TlogProof;
use serde_json::{Value, json};
use tlog_tiles::{Hash, HashReader, check_record, record_hash, stored_hashes, tree_hash};

/// So many events that the tree has whole tiles.
async fn long(broker: &TestBroker) {
    let now = phasebroker::broker::ports::Clock::wall(&broker.clock);
    let event = || Event::new(EventKind::Refused, Actor::Broker, now).fact("code", "phase_order");
    broker.disk.record((0..700).map(|_| event()).collect()).await.unwrap();
    broker.broker.publish().await;
}

fn opened(broker: &TestBroker, note: &str) -> Checkpoint {
    let note = SignedNote::parse(note.as_bytes()).unwrap();
    Checkpoint::open(&note, broker.broker.ledger().log().unwrap()).unwrap()
}

async fn checkpoint(broker: &TestBroker) -> (String, Checkpoint) {
    let note = broker.call("GET", "/log/checkpoint", &[], None).await;
    assert_eq!(note.status, 200);
    assert_eq!(note.headers["content-type"], "text/plain; charset=utf-8");
    let signed = opened(broker, &note.text);
    (note.text, signed)
}

async fn bytes(broker: &TestBroker, path: &str, person: Option<&str>) -> (u16, Vec<u8>) {
    let mut request = reqwest::Client::new().get(format!("{}{path}", broker.issuer));
    if let Some(person) = person {
        let token = broker.person_token(person, "GET", path);
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
}

/// The tree of `tlog_tiles`, in its own storage.
#[derive(Default)]
struct Theirs(Vec<Hash>);

impl HashReader for Theirs {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        Ok(indexes.iter().map(|index| self.0[usize::try_from(*index).unwrap()]).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_is_the_tree_that_another_program_makes_of_the_entries() {
    let broker = TestBroker::start().await;
    long(&broker).await;
    let (_, signed) = checkpoint(&broker).await;
    assert!(signed.size > 700 && signed.origin.epoch() == 1);
    let (mut theirs, mut records) = (Theirs::default(), 0);
    for tile in tiles_of(signed.size) {
        let (status, tiled) = bytes(&broker, &format!("/log/{tile}"), None).await;
        assert_eq!(status, 200, "{tile}");
        let hashes = decode_hashes(&tiled, tile.width()).unwrap();
        if tile.kind() != Kind::Hashes(0) {
            continue;
        }
        let entries = format!("/log/{tile}").replace("/tile/0/", "/tile/entries/");
        assert_eq!(bytes(&broker, &entries, None).await.0, 401, "entries are for people");
        let (status, bundle) = bytes(&broker, &entries, Some("audrey")).await;
        assert_eq!(status, 200, "{entries}");
        for (entry, hash) in decode_entries(&bundle, tile.width()).unwrap().iter().zip(hashes) {
            assert_eq!(leaf_hash(entry), hash);
            let more = stored_hashes(records, entry, &theirs).unwrap();
            theirs.0.extend(more);
            records += 1;
        }
    }
    assert_eq!(tree_hash(signed.size, &theirs).unwrap(), Hash(*signed.root.as_bytes()));
    for path in ["/log/tile/0/999", "/log/tile/entries/999", "/log/tile/0/002.p/255"] {
        assert_eq!(bytes(&broker, path, Some("audrey")).await.0, 404, "{path} is not published");
    }
    for path in ["/log/tile/0/2", "/log/tile/x/000", "/log/tile/0/000.p/256", "/log/tile/0/..%2f000"] {
        assert_eq!(bytes(&broker, path, Some("audrey")).await.0, 400, "{path} is no tile");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_checked_by_others_and_is_for_people_and_the_runs_own_agent() {
    let broker = TestBroker::start().await;
    let key = SigningKey::generate().unwrap();
    let asked = json!({"environment": "demo", "purpose": "look"});
    let run = broker.by_agent("fixer", &key, "POST", "/v1/runs", Some(&asked)).await.good();
    long(&broker).await;
    let of_run = format!("/v1/runs/{}/events", run["run"].as_str().unwrap());
    let index =
        broker.by_person("audrey", "GET", &of_run, None).await.good()["events"][0]["index"].as_u64().unwrap();
    let path = format!("/v1/receipts/{index}");
    let receipt = broker.by_person("audrey", "GET", &path, None).await.good();
    let own = broker.by_agent("fixer", &key, "GET", &path, None).await.good();
    assert_eq!(receipt["leaf"], own["leaf"]);
    broker.by_agent("twin", &key, "GET", &path, None).await.refused(404, "not_found", "not yours");
    broker.call("GET", &path, &[], None).await.refused(401, "unauthenticated", "");

    let signed = opened(&broker, receipt["checkpoint"].as_str().unwrap());
    let event = decode(receipt["event"].as_str().unwrap()).unwrap();
    let steps: Vec<Digest> = serde_json::from_value(receipt["path"].clone()).unwrap();
    verify_inclusion(&leaf_hash(&event), index, signed.size, &signed.root, &steps).unwrap();
    let theirs: Vec<Hash> = steps.iter().map(|hash| Hash(*hash.as_bytes())).collect();
    check_record(&theirs, signed.size, Hash(*signed.root.as_bytes()), index, record_hash(&event)).unwrap();
    let proof = TlogProof::parse(receipt["proof"].as_str().unwrap().as_bytes()).unwrap();
    proof.verify(&leaf_hash(&event), broker.broker.ledger().log().unwrap(), &Witnesses::none()).unwrap();
    proof
        .verify(&leaf_hash(b"another"), broker.broker.ledger().log().unwrap(), &Witnesses::none())
        .unwrap_err();
    broker.by_person("audrey", "GET", "/v1/receipts/999999", None).await.refused(
        404,
        "not_found",
        "no entry",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_goes_on_continues_every_checkpoint_that_somebody_kept() {
    let broker = TestBroker::start().await;
    let (_, old) = checkpoint(&broker).await;
    long(&broker).await;
    let now: Value =
        broker.call("GET", &format!("/log/consistency?old={}", old.size), &[], None).await.good();
    let new = opened(&broker, now["checkpoint"].as_str().unwrap());
    let path: Vec<Digest> = serde_json::from_value(now["path"].clone()).unwrap();
    verify_consistency(old.size, &old.root, new.size, &new.root, &path).unwrap();
    verify_consistency(old.size, &Digest::of(b"another"), new.size, &new.root, &path).unwrap_err();
    broker.call("GET", "/log/consistency?old=99999", &[], None).await.refused(404, "not_found", "entries");
}

#[tokio::test(flavor = "multi_thread")]
async fn pruned_entries_keep_their_proofs_and_an_open_run_keeps_its_entries() {
    let broker = TestBroker::start().await;
    let key = SigningKey::generate().unwrap();
    let (_, before) = checkpoint(&broker).await;
    long(&broker).await;
    let asked = json!({"environment": "demo", "purpose": "look"});
    let run = broker.by_agent("fixer", &key, "POST", "/v1/runs", Some(&asked)).await.good();
    let first_of_run = broker.disk.head().await.unwrap().size - 1;
    broker.broker.publish().await;
    let (_, old) = checkpoint(&broker).await;
    let root = broker.disk.head().await.unwrap().root;

    let later = phasebroker::broker::ports::Clock::wall(&broker.clock).plus(1);
    let pruned = broker.disk.prune(later, 10_000, pruned_event).await.unwrap().unwrap();
    assert_eq!(pruned.first_kept, first_of_run, "everything before the open run, and nothing of it");
    assert_eq!(broker.disk.damage().await.unwrap(), None);
    assert_eq!(broker.disk.root_at(old.size).await.unwrap(), Some(root));
    broker.broker.publish().await;
    broker.by_person("audrey", "GET", "/v1/receipts/3", None).await.refused(404, "not_found", "pruned");
    let kept = format!("/v1/receipts/{first_of_run}");
    broker.by_person("audrey", "GET", &kept, None).await.good();
    assert_eq!(bytes(&broker, "/log/tile/0/000", None).await.0, 200, "hashes stay");
    assert_eq!(bytes(&broker, "/log/tile/entries/000", Some("audrey")).await.0, 404);
    for kept in [&before, &old] {
        let path = format!("/log/consistency?old={}", kept.size);
        let now = broker.call("GET", &path, &[], None).await.good();
        let new = opened(&broker, now["checkpoint"].as_str().unwrap());
        let path: Vec<Digest> = serde_json::from_value(now["path"].clone()).unwrap();
        verify_consistency(kept.size, &kept.root, new.size, &new.root, &path).unwrap();
    }
    assert_eq!(broker.disk.prune(later, 10_000, pruned_event).await.unwrap(), None, "nothing more may go");
    let close = format!("/v1/runs/{}/close", run["run"].as_str().unwrap());
    broker.by_agent("fixer", &key, "POST", &close, None).await.good();
    assert!(broker.disk.prune(later, 10_000, pruned_event).await.unwrap().is_some(), "a closed run may go");
    let broker = broker.restart().await;
    assert!(broker.broker.gate().may_issue().is_ok(), "a pruned log passes the check at start");
    assert_eq!(broker.broker.ledger().newest().unwrap().size, broker.disk.head().await.unwrap().size);
}

/// A day, in seconds.
const DAY: i64 = 86_400;

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumped_years_ahead_takes_nothing_away() {
    let broker = TestBroker::start().await;
    long(&broker).await;
    broker.clock.step_wall(2_000 * DAY);
    broker.broker.retain().await;
    assert_eq!(broker.disk.first_kept().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_closes_a_run_that_nobody_closed_and_takes_what_is_older_than_is_kept() {
    let broker = TestBroker::start().await;
    let key = SigningKey::generate().unwrap();
    let asked = json!({"environment": "demo", "purpose": "look"});
    let run = broker.by_agent("fixer", &key, "POST", "/v1/runs", Some(&asked)).await.good();
    long(&broker).await;
    broker.clock.pass(380 * DAY);
    long(&broker).await;
    let young = broker.disk.head().await.unwrap().size - 700;
    let broker = broker.restart().await;
    broker.clock.pass(25 * DAY);
    broker.broker.retain().await;
    let path = format!("/v1/runs/{}", run["run"].as_str().unwrap());
    assert_eq!(broker.by_person("audrey", "GET", &path, None).await.good()["phase"], "closed");
    assert_eq!(broker.disk.first_kept().await.unwrap(), young, "what is young enough stays");
    assert_eq!(broker.disk.damage().await.unwrap(), None);
}
