//! The check of the whole store: silent over an honest one, and whatever was changed behind the broker's back is named.

use phasebroker::broker::ports::Store as _;
use phasebroker::store::StoreAudit;
use phasebroker::store::sqlite::audit::Checked;
use rusqlite::Connection;

use super::life::{Life, lived};
use crate::world::World;

fn checked(world: &World) -> Checked {
    let path = world.dir.path().join("store.db");
    StoreAudit::open(&path).unwrap().check(&mut |_, _, _| {}).unwrap()
}

/// Everything that was found, in words.
fn said(checked: &Checked) -> Vec<String> {
    let damage = checked.damage.iter().map(ToString::to_string);
    let findings = checked.followed.findings.iter().map(|one| format!("{}: {}", one.index, one.text));
    let problems = checked.problems.iter().map(|one| format!("{:?}: {}", one.index, one.text));
    damage.chain(findings).chain(problems).collect()
}

/// What is found after `sql` was done to the file of a broker that runs.
async fn after(sql: impl Fn(&Life) -> String) -> Vec<String> {
    let world = World::start().await;
    let life = lived(&world).await;
    let file = Connection::open(world.dir.path().join("store.db")).unwrap();
    file.pragma_update(None, "foreign_keys", false).unwrap();
    file.execute_batch(
        "DROP TRIGGER events_never_change; DROP TRIGGER events_never_go; DROP TRIGGER leaves_never_change;
         DROP TRIGGER leaves_never_go;",
    )
    .unwrap();
    file.execute_batch(&sql(&life)).unwrap();
    said(&checked(&world))
}

fn names(found: &[String], part: &str) {
    assert!(found.iter().any(|text| text.contains(part)), "`{part}` in {found:#?}");
}

#[tokio::test]
async fn an_honest_store_has_no_finding_while_its_broker_runs() {
    let world = World::start().await;
    lived(&world).await;
    lived(&world).await;
    let found = checked(&world);
    assert_eq!(said(&found), Vec::<String>::new());
    assert_eq!(found.head, world.store.head().await.unwrap());
    assert_eq!((found.counts.grants, found.counts.approvals, found.counts.leases), (2, 2, 6));
    assert_eq!((found.counts.unchecked_answers, found.counts.unchecked_rules), (0, 0));
    assert!(found.counts.texts == 4 && found.counts.erased_texts == 0, "{:?}", found.counts);
    assert!(found.followed.open_leases.is_empty());
}

#[tokio::test]
async fn an_open_lease_is_listed_and_is_no_finding() {
    let world = World::start().await;
    world.deciding().await;
    let found = checked(&world);
    assert_eq!(said(&found), Vec::<String>::new());
    let open: Vec<&str> = found.followed.open_leases.iter().map(|lease| lease.state).collect();
    assert_eq!(open, ["released"]);
}

#[tokio::test]
async fn an_edited_event_is_named() {
    let found = after(|_| {
        "UPDATE events SET bytes = CAST(replace(CAST(bytes AS TEXT), 'person:alice', 'person:grace') AS BLOB)
         WHERE CAST(bytes AS TEXT) LIKE '%approval.received%'"
            .into()
    })
    .await;
    names(&found, "its bytes, or its leaf");
    // Grace owns the agent, for whom it was asked.
    names(&found, "asked for grace");
}

#[tokio::test]
async fn a_dropped_event_is_named() {
    let found =
        after(|_| "DELETE FROM events WHERE CAST(bytes AS TEXT) LIKE '%\"type\":\"grant.approved\"%'".into())
            .await;
    names(&found, "it is missing");
    names(&found, "is missing or too many");
    names(&found, "never approved in the log");
}

#[tokio::test]
async fn a_dropped_tail_is_named() {
    let found = after(|_| {
        "DELETE FROM texts WHERE place >= (SELECT max(place) FROM events);
         DELETE FROM events WHERE place = (SELECT max(place) FROM events);"
            .into()
    })
    .await;
    names(&found, "it is missing");
}

#[tokio::test]
async fn an_edited_text_is_named_and_an_erased_one_is_counted() {
    let found = after(|_| "UPDATE texts SET value = 'I never said so' WHERE name = 'note'".into()).await;
    assert_eq!(found.len(), 1, "{found:?}");
    names(&found, "the text `note` beside it is not the one that was recorded");
    let erased = after(|_| "DELETE FROM texts WHERE name = 'note'".into()).await;
    assert_eq!(erased, Vec::<String>::new());
}

#[tokio::test]
async fn an_edited_side_record_is_named() {
    let edits: [(&str, &str); 9] = [
        (
            "UPDATE leases SET state = 'released', ended_at = NULL, end_reason = NULL WHERE phase = 'execute'",
            "`released` in the store, `ended` in the log",
        ),
        ("UPDATE leases SET outcome = 'failed' WHERE phase = 'execute'", "ended otherwise"),
        ("DELETE FROM reviews; DELETE FROM leases WHERE phase = 'execute'", "is not in the store"),
        ("UPDATE grants SET state = 'approved'", "`approved` in the store, spent in the log"),
        (
            "UPDATE grants SET bytes = CAST(replace(CAST(bytes AS TEXT), 'checkout', 'payments') AS BLOB)",
            "its bytes are not those that were sealed",
        ),
        ("UPDATE grants SET evidence = replace(evidence, 'it leaks', 'it is fine')", "words beside it"),
        ("DELETE FROM approvals", "its answers are not those that were received"),
        (
            "UPDATE approvals SET record = replace(record, '\"token\":\"e', '\"token\":\"f')",
            "its answers are not",
        ),
        ("INSERT INTO texts VALUES (999999, 'note', zeroblob(16), 'x')", "beside an event that is not there"),
    ];
    for (sql, part) in edits {
        let found = after(|_| sql.into()).await;
        names(&found, part);
    }
}

/// The lives of two grants, after which `sql` was done to the file of their broker.
async fn after_two(sql: &str) -> (Life, Checked) {
    let world = World::start().await;
    let (one, other) = (lived(&world).await, lived(&world).await);
    let file = Connection::open(world.dir.path().join("store.db")).unwrap();
    file.execute_batch(&sql.replace("ONE", &one.grant).replace("OTHER", &other.grant)).unwrap();
    (one, checked(&world))
}

#[tokio::test]
async fn an_answer_swapped_for_that_of_another_grant_is_named_by_its_grant() {
    let (one, found) = after_two(
        "UPDATE approvals SET record = (SELECT record FROM approvals WHERE grant_id = 'OTHER')
         WHERE grant_id = 'ONE'",
    )
    .await;
    let found = said(&found);
    let grant = &one.grant;
    names(&found, &format!("grant {grant}: the answer of alice does not verify"));
    names(&found, &format!("grant {grant}: it was approved, but the answers that verify do not satisfy"));
    names(&found, &format!("grant {grant}: it was claimed, but the answers that verify do not satisfy"));
    assert!(found.iter().all(|text| text.contains(grant.as_str())), "{found:#?}");
}

#[tokio::test]
async fn a_record_that_says_more_than_its_token_is_named() {
    for edit in ["'$.received_at', 1", "'$.custody', 'passkey'", "'$.claims.iss', 'bob'"] {
        let sql = format!("UPDATE approvals SET record = json_set(record, {edit}) WHERE grant_id = 'ONE'");
        let (one, found) = after_two(&sql).await;
        names(&said(&found), &format!("grant {}: the answer of", one.grant));
        names(&said(&found), "its record says something else than its token");
    }
}

#[tokio::test]
async fn answers_whose_directory_is_not_kept_are_counted_as_not_checkable() {
    let (_, found) = after_two("DELETE FROM directories").await;
    assert_eq!(said(&found), Vec::<String>::new());
    assert_eq!((found.counts.unchecked_answers, found.counts.unchecked_rules), (2, 4));
    // A document under the digest of another one is no better than none.
    let (_, found) = after_two("UPDATE directories SET document = '{}'").await;
    assert_eq!((found.counts.unchecked_answers, found.counts.unchecked_rules), (2, 4));
}

#[tokio::test]
async fn a_second_lease_of_one_grant_is_named_though_the_index_is_gone() {
    let found = after(|life| {
        format!(
            "DROP INDEX leases_spend_once;
             CREATE TEMP TABLE copy AS SELECT * FROM leases WHERE id = '{}';
             UPDATE copy SET id = '01ARZ3NDEKTSV4RRFFQ69G5FAV';
             INSERT INTO leases SELECT * FROM copy;",
            life.lease
        )
    })
    .await;
    names(&found, "has more than one lease");
    names(&found, "lease 01ARZ3NDEKTSV4RRFFQ69G5FAV is in no event of its run");
}

#[tokio::test]
async fn a_store_that_is_not_there_is_not_an_empty_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    assert!(StoreAudit::open(&path).is_err());
    assert!(!path.exists(), "looking makes nothing");
}
