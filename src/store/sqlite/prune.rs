//! What of the log may go. The bytes of old entries and the texts beside them, never a leaf: the tree, and with it every
//! proof that anybody holds, stays what it was. Nothing that is still open, or names something open, goes.

use rusqlite::{Connection, params};

use super::erasing;
use super::fault::Fault;
use super::ledger::Tx;
use super::rows::{count, number};
use super::tree;
use crate::broker::ports::{PruneEvent, Pruned};
use crate::domain::time::Timestamp;

/// The first entry of anything that is not over: an open run, a grant or lease in use, a signature that is waited for;
/// and of every playbook that a run younger than `?1`, or an open one, may rest on, whatever became of it since.
const FIRST_OPEN: &str = "
WITH open (run) AS (
  SELECT id FROM runs WHERE phase <> 'closed'
  UNION SELECT run FROM leases WHERE state IN ('intent', 'unknown', 'minted', 'released')
  UNION SELECT run FROM leases WHERE retry_at IS NOT NULL
  UNION SELECT run FROM reviews WHERE state = 'open'
)
SELECT min(place) FROM (
  SELECT (SELECT min(place) FROM events WHERE run = open.run) AS place FROM open
  UNION ALL SELECT place FROM administrations WHERE state = 'pending'
    OR id IN (SELECT administration FROM playbooks WHERE not_after > ?1)
    OR id IN (SELECT playbooks.administration FROM open JOIN leases ON leases.run = open.run
      JOIN reviews ON reviews.lease = leases.id JOIN playbooks ON playbooks.digest = reviews.playbook)
)";

pub(super) fn first_kept(conn: &Connection) -> Result<u64, Fault> {
    count(conn.prepare_cached("SELECT pruned FROM sequence")?.query_row([], |row| row.get(0))?)
}

pub(super) fn prune(
    tx: &mut Tx<'_>,
    before: Timestamp,
    limit: u64,
    event: PruneEvent,
) -> Result<Option<Pruned>, Fault> {
    let conn = tx.conn;
    let from = first_kept(conn)?;
    // What a playbook was used for came before its end: a run that stays for its age used none that ended earlier.
    let open: Option<i64> = conn.query_row(FIRST_OPEN, [before.seconds()], |row| row.get(0))?;
    let end = from.saturating_add(limit).min(tree::size(conn)?);
    let end = open.map(count).transpose()?.map_or(end, |open| open.min(end));
    // Time never runs back in the log but at a fence, so that the first entry of today ends what is old.
    let young: Option<i64> = conn.query_row(
        "SELECT min(place) FROM events WHERE place >= ?1 AND place < ?2
           AND json_extract(CAST(bytes AS TEXT), '$.at') >= ?3",
        params![number(from)?, number(end)?, before.seconds()],
        |row| row.get(0),
    )?;
    let end = young.map(count).transpose()?.map_or(end, |young| young.min(end));
    if end <= from {
        return Ok(None);
    }
    conn.execute("UPDATE sequence SET pruned = ?1", params![number(end)?])?;
    erasing::overwriting(conn, || {
        for step in [
            "INSERT INTO leaves (place, hash) SELECT place, leaf FROM events WHERE place < ?1",
            "DELETE FROM texts WHERE place < ?1",
            "DELETE FROM events WHERE place < ?1",
            "UPDATE grants SET evidence = NULL WHERE place < ?1 AND evidence IS NOT NULL",
        ] {
            conn.prepare_cached(step)?.execute([number(end)?])?;
        }
        let forget = "DELETE FROM decisions WHERE id IN (SELECT id FROM decisions WHERE at < ?1 LIMIT ?2)";
        Ok(conn.prepare_cached(forget)?.execute([before.seconds(), number(limit)?])?)
    })?;
    let pruned = Pruned { first_kept: end, entries: end - from };
    let at = tx.head.at;
    tx.append(&[event(pruned, at)])?;
    Ok(Some(pruned))
}
