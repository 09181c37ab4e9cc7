//! The whole tree against the events it is made of, and the kept checkpoints against the tree: what was changed behind
//! our back is named by its index. One pass in the order of the log.

use rusqlite::{Connection, params};

use super::fault::Fault;
use super::rows::{self, count};
use crate::broker::ports::Damage;
use crate::domain::digest::Digest;
use crate::ledger::hash::leaf_hash;
use crate::ledger::tree::{Frontier, Node};

/// Entries between two words about how far it has come.
const TELL_EVERY: u64 = 1_000_000;

/// Every entry in order: of pruned ones the leaf alone is left.
const ENTRIES: &str = "SELECT place, hash, NULL AS bytes FROM leaves
 UNION ALL SELECT place, leaf, bytes FROM events ORDER BY 1";

/// The first thing that is wrong.
pub(super) fn damage(conn: &Connection) -> Result<Option<Damage>, Fault> {
    let (size, pruned, peaks, root) =
        conn.query_row("SELECT size, pruned, peaks, root FROM sequence", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get::<_, Vec<u8>>(2)?, row.get::<_, [u8; 32]>(3)?))
        })?;
    let (size, pruned) = (count(size)?, count(pruned)?);
    let mut checkpoints = rows::all(conn, "SELECT size, root FROM checkpoints ORDER BY size", [], |row| {
        Ok((count(row.get(0)?)?, Digest::from_bytes(row.get(1)?)))
    })?
    .into_iter()
    .peekable();
    let mut tree = Frontier::new();
    let mut entries = conn.prepare(ENTRIES)?;
    let mut entries = entries.query([])?;
    while let Some(entry) = entries.next()? {
        let index = tree.size();
        let (place, hash) = (count(entry.get(0)?)?, Digest::from_bytes(entry.get(1)?));
        let bytes = entry.get_ref(2)?.as_blob_or_null().map_err(|e| Fault::Unreadable(e.to_string()))?;
        if place != index {
            return found(index.min(place), "it is missing, or there twice");
        }
        if bytes.is_none() != (index < pruned) {
            return found(index, "its bytes are missing, or should have been pruned");
        }
        if index >= size {
            return found(index, "it is recorded beyond the head");
        }
        if bytes.is_some_and(|bytes| leaf_hash(bytes) != hash) {
            return found(index, "its bytes, or its leaf, are not those that were recorded");
        }
        for node in tree.push(hash) {
            if let Some(damage) = differs(conn, &node)? {
                return Ok(Some(damage));
            }
        }
        while let Some((at, root)) = checkpoints.next_if(|(at, _)| *at == tree.size()) {
            if root != tree.root() {
                return found(
                    index,
                    &format!(
                        "the signed checkpoint of {at} entries has another root hash; one of them was changed"
                    ),
                );
            }
        }
        if tree.size().is_multiple_of(TELL_EVERY) {
            tracing::info!(checked = tree.size(), of = size, "checking the ledger");
        }
    }
    if tree.size() < size {
        return found(tree.size(), &format!("it is missing, and the head counts {size} entries"));
    }
    if let Some((at, _)) = checkpoints.next() {
        return found(size, &format!("it is missing: a checkpoint of {at} entries was signed"));
    }
    if (tree.to_bytes(), tree.root()) != (peaks, Digest::from_bytes(root)) {
        let first = size - (1_u64 << size.max(1).trailing_zeros()).min(size);
        return found(first, "the tree kept for the newest entries is not theirs; one of them was changed");
    }
    Ok(None)
}

/// The kept hash of a complete subtree, against the one its leaves give.
fn differs(conn: &Connection, node: &Node) -> Result<Option<Damage>, Fault> {
    let kept = rows::all(
        conn,
        "SELECT hash FROM nodes WHERE level = ?1 AND place = ?2",
        params![node.level, rows::number(node.place)?],
        |row| Ok(Digest::from_bytes(row.get(0)?)),
    )?;
    if kept == [node.hash] {
        return Ok(None);
    }
    let (first, last) = (node.place << node.level, ((node.place + 1) << node.level) - 1);
    found(first, &format!("one of the entries {first} to {last} was changed, or the hash kept over them"))
}

fn found(index: u64, what: &str) -> Result<Option<Damage>, Fault> {
    Ok(Some(Damage { index, what: what.to_owned() }))
}
