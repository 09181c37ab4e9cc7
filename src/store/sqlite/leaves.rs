//! The hashes of all entries, sixteen to a row: the last row grows until it is full, and nothing else ever changes.

use rusqlite::{Connection, params};

use super::fault::Fault;
use super::rows::{self, count, number};
use crate::domain::digest::Digest;

/// Leaves of one row. Writing a row costs about as much as writing one hash would.
const PER_ROW: u64 = 16;

/// The row that grows.
pub(super) struct Row {
    first: u64,
    hashes: Vec<u8>,
}

impl Row {
    /// The row in which leaf `next` will stand.
    pub(super) fn of(conn: &Connection, next: u64) -> Result<Self, Fault> {
        let first = next - next % PER_ROW;
        if first == next {
            return Ok(Self { first, hashes: Vec::new() });
        }
        let hashes: Vec<u8> = conn
            .prepare_cached("SELECT hashes FROM leaves WHERE first = ?1")?
            .query_row([number(first)?], |row| row.get(0))?;
        let row = Self { first, hashes };
        match row.next() == next {
            true => Ok(row),
            false => Err(Fault::Unreadable(format!("the tree does not hold the leaves before entry {next}"))),
        }
    }

    /// Index of the leaf that comes next.
    fn next(&self) -> u64 {
        self.first + (self.hashes.as_chunks::<32>().0.len() as u64)
    }

    /// Adds a leaf; a full row is written.
    pub(super) fn add(&mut self, conn: &Connection, leaf: &Digest) -> Result<(), Fault> {
        self.hashes.extend_from_slice(leaf.as_bytes());
        if self.next() == self.first + PER_ROW {
            self.keep(conn)?;
            *self = Self { first: self.next(), hashes: Vec::new() };
        }
        Ok(())
    }

    /// Writes the leaves that fill no row yet.
    pub(super) fn keep(&self, conn: &Connection) -> Result<(), Fault> {
        if !self.hashes.is_empty() {
            conn.prepare_cached(
                "INSERT INTO leaves (first, hashes) VALUES (?1, ?2)
                 ON CONFLICT (first) DO UPDATE SET hashes = excluded.hashes",
            )?
            .execute(params![number(self.first)?, self.hashes])?;
        }
        Ok(())
    }
}

/// At most `many` leaves from `first` on, with their indices.
pub(super) fn some(conn: &Connection, first: u64, many: u64) -> Result<Vec<(u64, Digest)>, Fault> {
    let end = first.saturating_add(many);
    let found = rows::all(
        conn,
        "SELECT first, hashes FROM leaves WHERE first >= ?1 AND first < ?2 ORDER BY first",
        params![number(first - first % PER_ROW)?, number(end)?],
        |row| Ok((count(row.get("first")?)?, row.get::<_, Vec<u8>>("hashes")?)),
    )?;
    let mut leaves = Vec::new();
    for (start, hashes) in found {
        leaves.extend(split(start, &hashes)?.filter(|(index, _)| (first..end).contains(index)));
    }
    Ok(leaves)
}

/// Hands over every leaf with its index, in order, until one is enough.
pub(super) fn each<T>(
    conn: &Connection,
    mut visit: impl FnMut(u64, Digest) -> Result<Option<T>, Fault>,
) -> Result<Option<T>, Fault> {
    let mut found = conn.prepare("SELECT first, hashes FROM leaves ORDER BY first")?;
    let mut found = found.query([])?;
    while let Some(row) = found.next()? {
        let first = count(row.get("first")?)?;
        let hashes = row.get_ref("hashes")?.as_blob().map_err(|e| Fault::Unreadable(e.to_string()))?;
        for (index, leaf) in split(first, hashes)? {
            if let Some(enough) = visit(index, leaf)? {
                return Ok(Some(enough));
            }
        }
    }
    Ok(None)
}

/// The hashes of a row with their indices.
fn split(first: u64, hashes: &[u8]) -> Result<impl Iterator<Item = (u64, Digest)>, Fault> {
    match hashes.as_chunks() {
        (whole, []) => Ok((first..).zip(whole.iter().map(|hash| Digest::from_bytes(*hash)))),
        _ => Err(Fault::Unreadable(format!("the leaves of entry {first} and after are no whole hashes"))),
    }
}
