//! Freezes in force. Any person stops things at once; only an administration grant that people signed starts them.

use rusqlite::{Connection, OptionalExtension, params};

use super::fault::{Abort, Fault};
use super::ledger::Tx;
use super::rows;
use crate::broker::ports::ChangeRefused;
use crate::domain::event::Event;
use crate::domain::freeze::{Freeze, FreezeKey};
use crate::domain::principal::Actor;
use crate::domain::time::Timestamp;

/// Freezes something. What is frozen already stays frozen since then, and is not lifted by what was sealed before now.
pub(super) fn freeze(tx: &mut Tx<'_>, freeze: &Freeze, event: Event) -> Result<(), Fault> {
    tx.conn
        .prepare_cached(
            "INSERT INTO freezes (key, actor, at, renewed_at) VALUES (?1, ?2, ?3, ?3)
             ON CONFLICT (key) DO UPDATE SET renewed_at = max(renewed_at, excluded.renewed_at)",
        )?
        .execute(params![freeze.key.to_string(), freeze.by.to_string(), freeze.at.seconds()])?;
    tx.append(&[event])
}

/// Every freeze in force, oldest first.
pub(super) fn all(conn: &Connection) -> Result<Vec<Freeze>, Fault> {
    rows::all(conn, "SELECT key, actor, at FROM freezes ORDER BY at, key", [], |row| {
        Ok(Freeze {
            key: rows::parsed(row, "key")?,
            by: actor(&row.get::<_, String>("actor")?)?,
            at: rows::at(row, "at")?,
        })
    })
}

/// When somebody last asked for the freeze that is in force.
pub(super) fn last_asked(conn: &Connection, key: &FreezeKey) -> Result<Option<Timestamp>, Fault> {
    let at: Option<i64> = conn
        .prepare_cached("SELECT renewed_at FROM freezes WHERE key = ?1")?
        .query_row([key.to_string()], |row| row.get(0))
        .optional()?;
    Ok(at.map(Timestamp::from_seconds))
}

/// The first of `keys` that is frozen.
pub(super) fn first_of(conn: &Connection, keys: &[FreezeKey]) -> Result<Option<FreezeKey>, Fault> {
    for key in keys {
        if last_asked(conn, key)?.is_some() {
            return Ok(Some(key.clone()));
        }
    }
    Ok(None)
}

/// Lifts a freeze that nobody asked for since the grant was sealed; one that was lifted already is no error.
pub(super) fn lift(tx: &Tx<'_>, key: &FreezeKey, sealed_at: Timestamp) -> Result<(), Abort<ChangeRefused>> {
    // SECURITY: signatures given about one freeze never lift what a person stopped, or stopped again, after them.
    if last_asked(tx.conn, key)?.is_some_and(|asked| asked >= sealed_at) {
        return Err(Abort::Refused(ChangeRefused::Moved));
    }
    tx.conn.prepare_cached("DELETE FROM freezes WHERE key = ?1")?.execute([key.to_string()])?;
    Ok(())
}

/// Reads the spelling of an actor back.
fn actor(text: &str) -> Result<Actor, Fault> {
    match text.split_once(':') {
        None if text == "broker" => Ok(Actor::Broker),
        Some(("agent", slug)) => Ok(Actor::Agent(rows::parse(slug, "actor")?)),
        Some(("person", slug)) => Ok(Actor::Person(rows::parse(slug, "actor")?)),
        _ => Err(Fault::Unreadable(format!("column `actor` holds `{}`", text.escape_default()))),
    }
}
