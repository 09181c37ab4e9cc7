//! What is used up, by key, amount and instant: how much of it counts, and whether more still fits.
//! A reservation is never changed after its opening, and goes only when certainly nothing was minted for it.

use rusqlite::{Connection, params};

use super::fault::{Abort, Fault};
use super::ledger::Tx;
use super::rows::{count, number};
use crate::broker::ports::{Counted, OpenRefused, Reservation};
use crate::domain::id::LeaseId;
use crate::domain::time::Timestamp;

/// Reserves for `lease` at `now`, or says that the limit is reached.
pub(super) fn reserve(
    tx: &Tx<'_>,
    lease: LeaseId,
    now: Timestamp,
    wanted: &Reservation,
) -> Result<(), Abort<OpenRefused>> {
    let taken = taken(tx.conn, &wanted.key, wanted.since)?;
    if taken.checked_add(wanted.amount).is_none_or(|sum| sum > wanted.limit) {
        return Err(Abort::Refused(OpenRefused::LimitReached(wanted.key.clone())));
    }
    tx.conn
        .prepare_cached(
            "INSERT INTO reservations (lease, key, at, amount) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (lease, key) DO UPDATE SET amount = amount + excluded.amount",
        )?
        .execute(params![lease.to_string(), wanted.key, now.seconds(), number(wanted.amount)?])?;
    Ok(())
}

/// Certainly nothing was minted: what was reserved for it counts no more.
pub(super) fn give_back(tx: &Tx<'_>, lease: LeaseId) -> Result<(), Fault> {
    tx.conn.prepare_cached("DELETE FROM reservations WHERE lease = ?1")?.execute([lease.to_string()])?;
    Ok(())
}

/// What counts of one key.
pub(super) fn used(conn: &Connection, counted: &Counted) -> Result<u64, Fault> {
    taken(conn, &counted.key, counted.since)
}

/// One range of the index, whatever the window.
fn taken(conn: &Connection, key: &str, since: Option<Timestamp>) -> Result<u64, Fault> {
    let from = since.map_or(i64::MIN, |since| since.seconds().saturating_add(1));
    let sum: i64 = conn
        .prepare_cached("SELECT coalesce(sum(amount), 0) FROM reservations WHERE key = ?1 AND at >= ?2")?
        .query_row(params![key, from], |row| row.get(0))?;
    count(sum)
}
