//! Events, the head and the tree. An event's place comes from the counter in `sequence`, advanced in the same transaction.

use rusqlite::{Connection, params};

use super::fault::Fault;
use super::rows::{self, count, number};
use crate::broker::ports::{Head, StoredEvent};
use crate::domain::digest::Digest;
use crate::domain::event::Event;
use crate::domain::id::RunId;
use crate::domain::time::Timestamp;
use crate::ledger::hash::leaf_hash;
use crate::ledger::tree::Frontier;

/// The transaction under way: the connection, the head it has reached and the tree below it.
pub(super) struct Tx<'a> {
    pub(super) conn: &'a Connection,
    pub(super) head: Head,
    tree: Frontier,
    grows: bool,
}

/// Where a transaction stood before an operation that may be undone.
pub(super) struct Mark {
    head: Head,
    tree: Frontier,
}

impl<'a> Tx<'a> {
    /// Goes on where the store stands.
    pub(super) fn begin(conn: &'a Connection, grows: bool) -> Result<Self, Fault> {
        let head = head(conn)?;
        let peaks: Vec<u8> =
            conn.prepare_cached("SELECT peaks FROM sequence")?.query_row([], |row| row.get(0))?;
        let size = if grows { head.size } else { 0 };
        let tree = Frontier::from_bytes(size, &peaks).map_err(|bad| Fault::Unreadable(bad.to_string()))?;
        Ok(Self { conn, head, tree, grows })
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { head: self.head, tree: self.tree.clone() }
    }

    pub(super) fn back_to(&mut self, mark: Mark) {
        (self.head, self.tree) = (mark.head, mark.tree);
    }

    /// Appends events; head and tree advance with each. The head's time is the latest of all, so that it never runs back.
    pub(super) fn append(&mut self, events: &[Event]) -> Result<(), Fault> {
        for event in events {
            let previous = match event.run_id() {
                Some(run) => newest_of(self.conn, run)?,
                None => None,
            };
            let bytes = event.bytes(previous).map_err(|e| Fault::Unstorable(format!("an event: {e}")))?;
            let place = number(self.head.size)?;
            self.conn
                .prepare_cached("INSERT INTO events (place, run, bytes) VALUES (?1, ?2, ?3)")?
                .execute(params![place, event.run_id().map(|run| run.to_string()), bytes])?;
            for text in event.texts() {
                self.conn
                    .prepare_cached("INSERT INTO texts (place, name, salt, value) VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![place, text.name, text.salt, text.value])?;
            }
            if self.grows {
                self.add_leaf(place, leaf_hash(&bytes))?;
            }
            self.head.size += 1;
            self.head.at = self.head.at.max(event.at());
        }
        Ok(())
    }

    /// Every event is a leaf of the tree, by the transaction that records it.
    fn add_leaf(&mut self, place: i64, leaf: Digest) -> Result<(), Fault> {
        self.conn
            .prepare_cached("INSERT INTO leaves (place, hash) VALUES (?1, ?2)")?
            .execute(params![place, leaf.as_bytes()])?;
        for node in self.tree.push(leaf) {
            self.conn
                .prepare_cached("INSERT INTO nodes (level, place, hash) VALUES (?1, ?2, ?3)")?
                .execute(params![node.level, number(node.place)?, node.hash.as_bytes()])?;
        }
        Ok(())
    }

    /// Writes head and tree; once per transaction. The head as written.
    pub(super) fn keep(&mut self) -> Result<Head, Fault> {
        self.head.root = self.tree.root();
        let head = &self.head;
        self.conn
            .prepare_cached("UPDATE sequence SET epoch = ?1, size = ?2, at = ?3, peaks = ?4, root = ?5")?
            .execute(params![
                number(head.epoch)?,
                number(head.size)?,
                head.at.seconds(),
                self.tree.to_bytes(),
                head.root.as_bytes()
            ])?;
        Ok(self.head)
    }
}

/// Makes the tree over events that were recorded without one, chained by SHA-256(last ‖ bytes) up to `last`.
pub(super) fn grow_over_events(conn: &Connection, last: Digest) -> Result<(), Fault> {
    let mut tx = Tx { conn, head: head(conn)?, tree: Frontier::new(), grows: true };
    let mut chain = Digest::from_bytes([0; 32]);
    let mut events = conn.prepare("SELECT place, bytes FROM events ORDER BY place")?;
    let mut events = events.query([])?;
    while let Some(row) = events.next()? {
        let (place, bytes): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        if count(place)? != tx.tree.size() {
            return Err(Fault::Unreadable(format!(
                "event {} is missing; restore the file whole",
                tx.tree.size()
            )));
        }
        chain = Digest::of_parts(&[chain.as_bytes(), &bytes]);
        tx.add_leaf(place, leaf_hash(&bytes))?;
    }
    if (tx.tree.size(), chain) != (tx.head.size, last) {
        return Err(Fault::Unreadable(
            "its events are not those that its head counts; restore the file whole".into(),
        ));
    }
    tx.keep().map(|_| ())
}

/// Index of the newest event of a run.
fn newest_of(conn: &Connection, run: RunId) -> Result<Option<u64>, Fault> {
    let newest: Option<i64> = conn
        .prepare_cached("SELECT max(place) FROM events WHERE run = ?1")?
        .query_row([run.to_string()], |row| row.get(0))?;
    newest.map(count).transpose()
}

/// The head as stored.
pub(super) fn head(conn: &Connection) -> Result<Head, Fault> {
    conn.prepare_cached("SELECT epoch, size, at, root FROM sequence")?
        .query_row([], |row| Ok((row.get("epoch")?, row.get("size")?, row.get("at")?, row.get("root")?)))
        .map_err(Fault::Sql)
        .and_then(|(epoch, size, at, root)| {
            Ok(Head {
                epoch: count(epoch)?,
                size: count(size)?,
                at: Timestamp::from_seconds(at),
                root: Digest::from_bytes(root),
            })
        })
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
            let index = count(place)?;
            Ok(StoredEvent { index, bytes, texts: texts(conn, index)? })
        })
        .collect()
}

/// Texts beside an event that were not erased.
pub(super) fn texts(conn: &Connection, index: u64) -> Result<Vec<(String, String)>, Fault> {
    let sql = "SELECT name, value FROM texts WHERE place = ?1 ORDER BY name";
    rows::all(conn, sql, [number(index)?], |row| Ok((row.get("name")?, row.get("value")?)))
}
