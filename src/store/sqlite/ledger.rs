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

/// What stands in the place of a leaf while a store of an earlier version is migrated, and where no tree is kept.
const NO_LEAF: Digest = Digest::from_bytes([0; 32]);

/// The transaction under way: the connection, the head it has reached, and the hashes of what it appended.
pub(super) struct Tx<'a> {
    pub(super) conn: &'a Connection,
    pub(super) head: Head,
    // They enter the tree when all is kept: what is undone meanwhile never touches it.
    leaves: Vec<Digest>,
    grows: bool,
}

/// Where a transaction stood before an operation that may be undone.
pub(super) struct Mark {
    head: Head,
    leaves: usize,
}

impl<'a> Tx<'a> {
    /// Goes on where the store stands.
    pub(super) fn begin(conn: &'a Connection, grows: bool) -> Result<Self, Fault> {
        Ok(Self { conn, head: head(conn)?, leaves: Vec::new(), grows })
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { head: self.head, leaves: self.leaves.len() }
    }

    pub(super) fn back_to(&mut self, mark: &Mark) {
        self.head = mark.head;
        self.leaves.truncate(mark.leaves);
    }

    /// Appends events; the head advances with each. Its time is the latest of all, so that it never runs back.
    pub(super) fn append(&mut self, events: &[Event]) -> Result<(), Fault> {
        for event in events {
            let previous = match event.run_id() {
                Some(run) => newest_of(self.conn, run)?,
                None => None,
            };
            let bytes = event.bytes(previous).map_err(|e| Fault::Unstorable(format!("an event: {e}")))?;
            let place = number(self.head.size)?;
            let leaf = if self.grows { leaf_hash(&bytes) } else { NO_LEAF };
            self.conn
                .prepare_cached("INSERT INTO events (place, run, bytes, leaf) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![place, event.run_id().map(|run| run.to_string()), bytes, leaf.as_bytes()])?;
            for text in event.texts() {
                self.conn
                    .prepare_cached("INSERT INTO texts (place, name, salt, value) VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![place, text.name, text.salt, text.value])?;
            }
            self.leaves.push(leaf);
            self.head.size += 1;
            self.head.at = self.head.at.max(event.at());
        }
        Ok(())
    }

    /// Every event becomes a leaf of the tree in the transaction that records it. Writes head and tree; once per
    /// transaction. The head as written.
    pub(super) fn keep(mut self) -> Result<Head, Fault> {
        let mut growing = match self.grows {
            true => Growing::of(self.conn)?,
            false => Growing { conn: self.conn, tree: Frontier::new() },
        };
        for leaf in self.leaves.drain(..).filter(|_| self.grows) {
            growing.add(leaf)?;
        }
        if self.grows && growing.tree.size() != self.head.size {
            return Err(Fault::Unreadable("the tree and the head count different entries".into()));
        }
        growing.keep(self.head)
    }
}

/// The stored tree, as it grows.
struct Growing<'a> {
    conn: &'a Connection,
    tree: Frontier,
}

impl<'a> Growing<'a> {
    /// As far as it is stored.
    fn of(conn: &'a Connection) -> Result<Self, Fault> {
        let (size, peaks): (i64, Vec<u8>) = conn
            .prepare_cached("SELECT size, peaks FROM sequence")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let tree = Frontier::from_bytes(count(size)?, &peaks);
        Ok(Self { conn, tree: tree.map_err(|bad| Fault::Unreadable(bad.to_string()))? })
    }

    fn add(&mut self, leaf: Digest) -> Result<(), Fault> {
        for node in self.tree.push(leaf) {
            self.conn
                .prepare_cached("INSERT INTO nodes (level, place, hash) VALUES (?1, ?2, ?3)")?
                .execute(params![node.level, number(node.place)?, node.hash.as_bytes()])?;
        }
        Ok(())
    }

    /// Writes the tree, and the head that counts its leaves.
    fn keep(self, mut head: Head) -> Result<Head, Fault> {
        head.root = self.tree.root();
        self.conn
            .prepare_cached("UPDATE sequence SET epoch = ?1, size = ?2, at = ?3, peaks = ?4, root = ?5")?
            .execute(params![
                number(head.epoch)?,
                number(head.size)?,
                head.at.seconds(),
                self.tree.to_bytes(),
                head.root.as_bytes()
            ])?;
        Ok(head)
    }
}

/// Makes the tree over events that were recorded without one, chained by SHA-256(last ‖ bytes) up to `last`.
pub(super) fn grow_over_events(conn: &Connection, last: Digest) -> Result<(), Fault> {
    let head = head(conn)?;
    let mut growing = Growing { conn, tree: Frontier::new() };
    let mut chain = Digest::from_bytes([0; 32]);
    let mut events = conn.prepare("SELECT place, bytes FROM events ORDER BY place")?;
    let mut events = events.query([])?;
    while let Some(row) = events.next()? {
        let (place, bytes): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        if count(place)? != growing.tree.size() {
            return Err(Fault::Unreadable(format!(
                "event {} is missing; restore the file whole",
                growing.tree.size()
            )));
        }
        chain = Digest::of_parts(&[chain.as_bytes(), &bytes]);
        let leaf = leaf_hash(&bytes);
        conn.prepare_cached("UPDATE events SET leaf = ?2 WHERE place = ?1")?
            .execute(params![place, leaf.as_bytes()])?;
        growing.add(leaf)?;
    }
    if (growing.tree.size(), chain) != (head.size, last) {
        return Err(Fault::Unreadable(
            "its events are not those that its head counts; restore the file whole".into(),
        ));
    }
    growing.keep(head).map(|_| ())
}

const NEWEST_OF_RUN: &str = "SELECT max(place) FROM events WHERE run = ?1";

/// Index of the newest event of a run.
fn newest_of(conn: &Connection, run: RunId) -> Result<Option<u64>, Fault> {
    let newest: Option<i64> =
        conn.prepare_cached(NEWEST_OF_RUN)?.query_row([run.to_string()], |row| row.get(0))?;
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

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::super::{lock, schema};
    use super::*;
    use crate::domain::event::EventKind;
    use crate::domain::principal::Actor;

    fn fresh() -> (tempfile::TempDir, Connection) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        lock::create(&path).unwrap();
        let conn = schema::writer(&path, None).unwrap();
        (dir, conn)
    }

    #[test]
    fn the_search_for_a_runs_newest_event_is_planned_once_and_not_at_every_event() {
        let (_dir, conn) = fresh();
        for _ in 0..3 {
            assert_eq!(newest_of(&conn, RunId::generate(Timestamp::from_seconds(1))).unwrap(), None);
        }
        let kept = conn.prepare_cached(NEWEST_OF_RUN).unwrap();
        assert_eq!(
            (kept.get_status(StatementStatus::Run), kept.get_status(StatementStatus::RePrepare)),
            (3, 0)
        );
    }

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn events(many: usize) -> Vec<Event> {
        vec![Event::new(EventKind::Refused, Actor::Broker, NOW); many]
    }

    #[test]
    fn transactions_of_every_size_make_the_tree_of_their_events_and_what_is_undone_leaves_no_leaf() {
        let (_dir, conn) = fresh();
        let mut tree = Frontier::new();
        for many in [1, 14, 1, 1, 16, 31, 0, 33, 300] {
            let mut tx = Tx::begin(&conn, true).unwrap();
            tx.append(&events(many)).unwrap();
            let mark = tx.mark();
            conn.execute_batch("SAVEPOINT undone").unwrap();
            tx.append(&events(5)).unwrap();
            conn.execute_batch("ROLLBACK TO undone; RELEASE undone").unwrap();
            tx.back_to(&mark);
            let head = tx.keep().unwrap();
            for event in events(many) {
                tree.push(leaf_hash(&event.bytes(None).unwrap()));
            }
            assert_eq!((head.size, head.root), (tree.size(), tree.root()), "after {many}");
        }
        assert_eq!(super::super::verify::damage(&conn).unwrap(), None);
    }
}
