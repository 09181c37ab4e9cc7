//! Erasing a text beside an event: by whom, what goes, and that every proof stays.

use phasebroker::broker::ports::{Log as _, Store as _};
use phasebroker::ledger::hash::leaf_hash;
use phasebroker::ledger::proof::verify_inclusion;
use phasebroker::store::StoreAudit;
use serde_json::{Value, json};

use super::life::{found, lived, only, text};
use crate::world::{Answered, World};

async fn erase(world: &World, who: &'static str, index: u64, name: &str) -> Answered {
    let body = json!({"text": name, "reason": "asked for by the person it names"});
    world.by_person(who, "POST", &format!("/v1/events/{index}/redact"), Some(&body)).await
}

fn index_of(entry: &Value) -> u64 {
    entry["index"].as_u64().unwrap()
}

#[tokio::test]
async fn an_erased_text_is_gone_and_every_proof_stays() {
    let world = World::start().await;
    lived(&world).await;
    let before = only(&world, "run.opened").await;
    let (index, size) = (index_of(&before), world.store.head().await.unwrap().size);
    let root = world.store.root_at(size).await.unwrap().unwrap();
    erase(&world, "audrey", index, "purpose").await.good();

    let after = only(&world, "run.opened").await;
    assert_eq!(after["event"], before["event"], "the event stays, digest and all");
    assert_eq!(
        (before["texts"]["purpose"].as_str(), &after["texts"]),
        (Some("checkout is slow"), &json!({}))
    );
    assert_eq!(world.store.root_at(size).await.unwrap(), Some(root));
    let path = world.store.inclusion(index, size).await.unwrap().unwrap();
    let bytes = world.store.events(None, index, 1).await.unwrap().remove(0).bytes;
    verify_inclusion(&leaf_hash(&bytes), index, size, &root, &path).unwrap();

    let told = only(&world, "text.redacted").await;
    assert_eq!(told["event"]["facts"], json!({"index": index, "name": "purpose"}));
    assert_eq!(
        (text(&told["event"], "actor"), &told["event"]["run"]),
        ("person:audrey", &before["event"]["run"])
    );
    let checked =
        StoreAudit::open(&world.dir.path().join("store.db")).unwrap().check(&mut |_, _, _| {}).unwrap();
    assert_eq!((checked.damage, checked.problems, checked.followed.findings), (None, vec![], vec![]));
    assert_eq!(checked.counts.erased_texts, 1);
    let file = rusqlite::Connection::open(world.dir.path().join("store.db")).unwrap();
    file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    for file in ["store.db", "store.db-wal"] {
        let bytes = std::fs::read(world.dir.path().join(file)).unwrap();
        assert!(!bytes.windows(16).any(|part| part == b"checkout is slow"), "{file} holds it still");
    }
}

#[tokio::test]
async fn those_who_sign_do_not_erase_and_those_who_look_or_operate_do() {
    let world = World::start().await;
    lived(&world).await;
    let opened = index_of(&only(&world, "run.opened").await);
    let noted = found(&world, "&outcome=succeeded").await;
    let noted = index_of(&noted[0]);
    erase(&world, "alice", noted, "note").await.refused(403, "forbidden");
    erase(&world, "audrey", noted, "note").await.good();
    erase(&world, "olga", opened, "purpose").await.good();
}

#[tokio::test]
async fn what_is_not_there_or_gone_already_is_not_erased_again() {
    let world = World::start().await;
    lived(&world).await;
    let index = index_of(&only(&world, "run.opened").await);
    for name in ["ticket", "prompt", "environment", "", "../x"] {
        erase(&world, "audrey", index, name).await.refused(404, "not_found");
    }
    erase(&world, "audrey", 99_999, "purpose").await.refused(404, "not_found");
    erase(&world, "audrey", index, "purpose").await.good();
    erase(&world, "audrey", index, "purpose").await.refused(409, "conflict");
    let without_reason = json!({"text": "purpose", "reason": " "});
    let path = format!("/v1/events/{index}/redact");
    world.by_person("audrey", "POST", &path, Some(&without_reason)).await.refused(400, "bad_request");
    only(&world, "text.redacted").await;
}

#[tokio::test]
async fn the_agents_words_beside_a_grant_can_be_erased_too() {
    let world = World::start().await;
    let life = lived(&world).await;
    let document = format!("/v1/grants/{}/document", life.grant);
    let shown = world.by_person("alice", "GET", &document, None).await.good();
    assert_eq!(shown["story"]["diagnosis"], "it leaks");
    let sealed = index_of(&only(&world, "grant.sealed").await);
    erase(&world, "audrey", sealed, "evidence").await.good();
    let after = world.by_person("alice", "GET", &document, None).await.good();
    assert_eq!((after["document"].clone(), after["story"].as_object()), (shown["document"].clone(), None));
    erase(&world, "audrey", sealed, "evidence").await.refused(409, "conflict");
}
