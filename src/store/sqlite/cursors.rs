//! How far each copier of the log has come. A place that moves is no event: a restored store copies again what it forgot.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::fault::Fault;
use super::ledger::Tx;
use super::rows::{count, number};

/// Where `name` stands.
pub(super) fn place(conn: &Connection, name: &str) -> Result<Option<u64>, Fault> {
    let found: Option<i64> = conn
        .prepare_cached("SELECT place FROM cursors WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    found.map(count).transpose()
}

/// Keeps where `name` stands.
pub(super) fn keep(tx: &Tx<'_>, name: &str, place: u64) -> Result<(), Fault> {
    tx.conn
        .prepare_cached(
            "INSERT INTO cursors (name, place) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET place = ?2",
        )?
        .execute(params![name, number(place)?])?;
    Ok(())
}
