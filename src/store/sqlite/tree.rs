//! The tree, read: hashes of subtrees, proofs, rows of tiles and entries.

use rusqlite::{Connection, params};

use super::fault::Fault;
use super::rows::{self, count, number};
use crate::domain::digest::Digest;
use crate::ledger::hash::node_hash;
use crate::ledger::proof::{self, Hashes, ProofError};
use crate::ledger::tree::TILE_HEIGHT;

/// The stored tree of a connection's moment.
pub(super) struct Tree<'a>(pub(super) &'a Connection);

impl Hashes for Tree<'_> {
    type Error = Fault;

    /// Made from the row of tiles at or below `level`.
    fn node(&self, level: u8, place: u64) -> Result<Digest, Fault> {
        let above = level % TILE_HEIGHT;
        let width = 1_u64 << above;
        let mut hashes = row(self.0, level / TILE_HEIGHT, place.saturating_mul(width), width)?;
        if u64::try_from(hashes.len()) != Ok(width) {
            return Err(Fault::Unreadable(format!("the tree has no node {place} at level {level}")));
        }
        while hashes.len() > 1 {
            hashes = hashes.as_chunks::<2>().0.iter().map(|[left, right]| node_hash(left, right)).collect();
        }
        hashes.pop().ok_or_else(|| Fault::Unreadable("a node without leaves".into()))
    }
}

/// The leaves of pruned entries, then those that stand beside their events.
const LEAVES: &str = "SELECT place, hash FROM leaves WHERE place >= ?1 AND place < ?2
 UNION ALL SELECT place, leaf FROM events WHERE place >= ?1 AND place < ?2 ORDER BY 1";

/// Hashes of complete subtrees of `256^row` entries.
pub(super) fn row(conn: &Connection, row: u8, first: u64, many: u64) -> Result<Vec<Digest>, Fault> {
    let hash = |row: &rusqlite::Row<'_>| Ok((count(row.get(0)?)?, Digest::from_bytes(row.get(1)?)));
    let found: Vec<(u64, Digest)> = match row {
        0 => {
            let end = first.saturating_add(many).min(size(conn)?);
            rows::all(conn, LEAVES, params![number(first)?, number(end)?], hash)?
        }
        _ => rows::all(
            conn,
            "SELECT place, hash FROM nodes WHERE level = ?3 AND place >= ?1 ORDER BY place LIMIT ?2",
            params![number(first)?, number(many)?, i64::from(row) * i64::from(TILE_HEIGHT)],
            hash,
        )?,
    };
    match (first..).zip(&found).all(|(wanted, (place, _))| wanted == *place) {
        true => Ok(found.into_iter().map(|(_, hash)| hash).collect()),
        false => Err(Fault::Unreadable("a hash of the tree is missing".into())),
    }
}

/// Number of entries.
pub(super) fn size(conn: &Connection) -> Result<u64, Fault> {
    count(conn.prepare_cached("SELECT size FROM sequence")?.query_row([], |row| row.get(0))?)
}

pub(super) fn root_at(conn: &Connection, at: u64) -> Result<Option<Digest>, Fault> {
    match at <= size(conn)? {
        true => proof::root_at(&Tree(conn), at).map(Some),
        false => Ok(None),
    }
}

pub(super) fn inclusion(conn: &Connection, index: u64, at: u64) -> Result<Option<Vec<Digest>>, Fault> {
    match at <= size(conn)? {
        true => inside(proof::inclusion(&Tree(conn), index, at)),
        false => Ok(None),
    }
}

pub(super) fn consistency(conn: &Connection, old: u64, new: u64) -> Result<Option<Vec<Digest>>, Fault> {
    match new <= size(conn)? {
        true => inside(proof::consistency(&Tree(conn), old, new)),
        false => Ok(None),
    }
}

fn inside(made: Result<Vec<Digest>, ProofError<Fault>>) -> Result<Option<Vec<Digest>>, Fault> {
    match made {
        Ok(path) => Ok(Some(path)),
        Err(ProofError::Outside(_)) => Ok(None),
        Err(ProofError::Hashes(fault)) => Err(fault),
    }
}

/// Bytes of entries; none when any of them was pruned.
pub(super) fn entries(conn: &Connection, first: u64, many: u64) -> Result<Vec<Vec<u8>>, Fault> {
    let found = rows::all(
        conn,
        "SELECT place, bytes FROM events WHERE place >= ?1 ORDER BY place LIMIT ?2",
        params![number(first)?, number(many)?],
        |row| Ok((count(row.get(0)?)?, row.get(1)?)),
    )?;
    match (first..).zip(&found).all(|(wanted, (place, _))| wanted == *place) {
        true => Ok(found.into_iter().map(|(_, bytes)| bytes).collect()),
        false => Ok(Vec::new()),
    }
}
