//! Events and the head. An event's place comes from the counter in `sequence`, advanced in the same transaction.

use rusqlite::{Connection, params};

use super::fault::Fault;
use super::rows::{self, count, number};
use crate::broker::ports::{Head, StoredEvent};
use crate::domain::digest::Digest;
use crate::domain::event::Event;
use crate::domain::id::RunId;
use crate::domain::time::Timestamp;

/// The transaction under way: the connection and the head it has reached.
pub(super) struct Tx<'a> {
    pub(super) conn: &'a Connection,
    pub(super) head: Head,
}

impl<'a> Tx<'a> {
    pub(super) fn new(conn: &'a Connection, head: Head) -> Self {
        Self { conn, head }
    }

    /// Appends events; the head advances with each. Its time is the latest of all, so that it never runs back.
    pub(super) fn append(&mut self, events: &[Event]) -> Result<(), Fault> {
        for event in events {
            let bytes = event.bytes().map_err(|e| Fault::Unstorable(format!("an event: {e}")))?;
            let place = number(self.head.size)?;
            self.conn
                .prepare_cached("INSERT INTO events (place, run, bytes) VALUES (?1, ?2, ?3)")?
                .execute(params![place, event.run_id().map(|run| run.to_string()), bytes])?;
            for text in event.texts() {
                self.conn
                    .prepare_cached("INSERT INTO texts (place, name, salt, value) VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![place, text.name, text.salt, text.value])?;
            }
            self.head.size += 1;
            self.head.at = self.head.at.max(event.at());
            self.head.last = chain(&self.head.last, &bytes);
        }
        Ok(())
    }
}

/// SHA-256 over the previous head's `last` and an event's bytes.
fn chain(last: &Digest, bytes: &[u8]) -> Digest {
    Digest::of(&[last.as_bytes().as_slice(), bytes].concat())
}

/// The head as stored.
pub(super) fn head(conn: &Connection) -> Result<Head, Fault> {
    conn.prepare_cached("SELECT epoch, size, at, last FROM sequence")?
        .query_row([], |row| Ok((row.get("epoch")?, row.get("size")?, row.get("at")?, row.get("last")?)))
        .map_err(Fault::Sql)
        .and_then(|(epoch, size, at, last)| {
            Ok(Head {
                epoch: count(epoch)?,
                size: count(size)?,
                at: Timestamp::from_seconds(at),
                last: Digest::from_bytes(last),
            })
        })
}

/// Writes the head; once per transaction.
pub(super) fn keep_head(conn: &Connection, head: &Head) -> Result<(), Fault> {
    conn.prepare_cached("UPDATE sequence SET epoch = ?1, size = ?2, at = ?3, last = ?4")?
        .execute(params![number(head.epoch)?, number(head.size)?, head.at.seconds(), head.last.as_bytes()])?;
    Ok(())
}

/// Whether the newest event is the one the head counts; a store that lost its tail is not opened.
pub(super) fn check(conn: &Connection) -> Result<(), Fault> {
    let head = head(conn)?;
    let next: i64 = conn.query_row("SELECT coalesce(max(place) + 1, 0) FROM events", [], |row| row.get(0))?;
    match count(next)? == head.size {
        true => Ok(()),
        false => Err(Fault::Unreadable(format!(
            "the head counts {} events, the table ends at {next}; restore the file whole",
            head.size
        ))),
    }
}

/// Events from a place on, of one run when given.
pub(super) fn events(
    conn: &Connection,
    run: Option<RunId>,
    from: u64,
    limit: u32,
) -> Result<Vec<StoredEvent>, Fault> {
    let from = i64::try_from(from).unwrap_or(i64::MAX);
    let read = |row: &rusqlite::Row<'_>| -> Result<(i64, Vec<u8>), Fault> {
        Ok((row.get("place")?, row.get("bytes")?))
    };
    let found = match run {
        Some(run) => rows::all(
            conn,
            "SELECT place, bytes FROM events WHERE run = ?1 AND place >= ?2 ORDER BY place LIMIT ?3",
            params![run.to_string(), from, limit],
            read,
        ),
        None => rows::all(
            conn,
            "SELECT place, bytes FROM events WHERE place >= ?1 ORDER BY place LIMIT ?2",
            params![from, limit],
            read,
        ),
    }?;
    found
        .into_iter()
        .map(|(place, bytes)| {
            let texts = rows::all(
                conn,
                "SELECT name, value FROM texts WHERE place = ?1 ORDER BY name",
                params![place],
                |row| Ok((row.get("name")?, row.get("value")?)),
            )?;
            Ok(StoredEvent { index: count(place)?, bytes, texts })
        })
        .collect()
}
