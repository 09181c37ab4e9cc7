//! Everything recorded of one thing, with the salts of its texts: what evidence is made of.

use rusqlite::{Connection, params};

use super::fault::Fault;
use super::rows::{self, count};
use crate::broker::ports::{RecordedEvent, RecordedOf};
use crate::ledger::evidence::build::RecordedText;

const OF_RUN: &str = "SELECT place, bytes FROM events WHERE run = ?1 ORDER BY place LIMIT ?2";
/// In the words of its index.
const OF_ADMINISTRATION: &str = "SELECT place, bytes FROM events
 WHERE run IS NULL AND json_extract(CAST(bytes AS TEXT), '$.grant') = ?1 ORDER BY place LIMIT ?2";
const FENCES: &str = "SELECT place, bytes FROM events INDEXED BY events_of_fences
 WHERE run IS NULL AND json_extract(CAST(bytes AS TEXT), '$.type') = 'store.fenced' AND place > ?1
 ORDER BY place LIMIT ?2";

/// In order; at most `limit`.
pub(super) fn recorded(conn: &Connection, of: RecordedOf, limit: u32) -> Result<Vec<RecordedEvent>, Fault> {
    let (sql, key): (&str, rusqlite::types::Value) = match of {
        RecordedOf::Run(run) => (OF_RUN, run.to_string().into()),
        RecordedOf::Administration(grant) => (OF_ADMINISTRATION, grant.to_string().into()),
        RecordedOf::Fences { after } => (FENCES, rows::number(after)?.into()),
    };
    let mut found = rows::all(conn, sql, params![key, limit], |row| {
        let (place, bytes): (i64, Vec<u8>) = (row.get("place")?, row.get("bytes")?);
        Ok(RecordedEvent { index: count(place)?, bytes, texts: Vec::new() })
    })?;
    for event in &mut found {
        event.texts = rows::all(
            conn,
            "SELECT name, salt, value FROM texts WHERE place = ?1 ORDER BY name",
            params![rows::number(event.index)?],
            |row| {
                Ok(RecordedText { name: row.get("name")?, salt: row.get("salt")?, value: row.get("value")? })
            },
        )?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::ports::{Log as _, Store as _};
    use crate::domain::event::{Event, EventKind, SaltedText};
    use crate::domain::id::{GrantId, RunId};
    use crate::domain::principal::Actor;
    use crate::domain::time::Timestamp;
    use crate::store::SqliteStore;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    #[tokio::test]
    async fn events_are_found_by_what_they_are_about_with_texts_and_salts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        let store = SqliteStore::open(&path).unwrap();
        let (run, sheet, other) =
            (RunId::generate(NOW), GrantId::generate(NOW), GrantId::generate(NOW.plus(1)));
        let event = |kind| Event::new(kind, Actor::Broker, NOW);
        let text = SaltedText::new("reason", "because".into());
        let events = vec![
            event(EventKind::Refused).run(run).grant(sheet),
            event(EventKind::AdministrationSealed).grant(sheet).text(text.clone()),
            event(EventKind::AdministrationSealed).grant(other),
            event(EventKind::Refused),
            event(EventKind::PlaybookSigned).grant(sheet),
        ];
        store.record(events).await.unwrap();
        let found = store.recorded(RecordedOf::Administration(sheet), 10).await.unwrap();
        assert_eq!(found.iter().map(|event| event.index).collect::<Vec<_>>(), [1, 4]);
        let kept = &found[0].texts[0];
        assert_eq!((kept.name.as_str(), kept.salt, kept.value.as_str()), ("reason", text.salt, "because"));
        let found = store.recorded(RecordedOf::Run(run), 10).await.unwrap();
        assert_eq!(found.iter().map(|event| event.index).collect::<Vec<_>>(), [0]);
        assert_eq!(store.recorded(RecordedOf::Administration(sheet), 1).await.unwrap().len(), 1);
        for epoch in [2, 3] {
            store.fence(event(EventKind::StoreFenced).fact("old_epoch", epoch - 1), 0).await.unwrap();
        }
        let fences = async |after| {
            let found = store.recorded(RecordedOf::Fences { after }, 10).await.unwrap();
            found.iter().map(|event| event.index).collect::<Vec<_>>()
        };
        assert_eq!((fences(0).await, fences(5).await, fences(6).await), (vec![5, 6], vec![6], vec![]));
    }

    #[tokio::test]
    async fn none_looks_through_the_whole_ledger() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        let _store = SqliteStore::open(&path).unwrap();
        let conn = Connection::open(&path).unwrap();
        for (sql, index) in [
            (OF_RUN, "events_of_run"),
            (OF_ADMINISTRATION, "events_of_administration"),
            (FENCES, "events_of_fences"),
        ] {
            let plan: String = conn
                .query_row(&format!("EXPLAIN QUERY PLAN {sql}"), params!["x", 1], |row| row.get("detail"))
                .unwrap();
            assert!(plan.contains(index), "{plan}");
        }
    }
}
