//! Everything recorded of one thing, with the salts of its texts: what evidence is made of.

use rusqlite::{Connection, params};

use super::fault::Fault;
use super::rows::{self, count};
use crate::broker::ports::{RecordedEvent, RecordedOf};
use crate::ledger::evidence::build::RecordedText;

/// In order; at most `limit`.
pub(super) fn recorded(conn: &Connection, of: RecordedOf, limit: u32) -> Result<Vec<RecordedEvent>, Fault> {
    let (sql, id) = match of {
        RecordedOf::Run(run) => {
            ("SELECT place, bytes FROM events WHERE run = ?1 ORDER BY place LIMIT ?2", run.to_string())
        }
        // In the words of the index.
        RecordedOf::Administration(grant) => (
            "SELECT place, bytes FROM events
             WHERE run IS NULL AND json_extract(CAST(bytes AS TEXT), '$.grant') = ?1 ORDER BY place LIMIT ?2",
            grant.to_string(),
        ),
    };
    let mut found = rows::all(conn, sql, params![id, limit], |row| {
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
