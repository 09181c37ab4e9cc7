//! Erasing a text beside an event: the words go, their salted digest stays in the event, and every proof stays valid.

use rusqlite::{Connection, params};

use super::fault::{Abort, Fault};
use super::ledger::Tx;
use super::rows::number;
use crate::broker::ports::ChangeRefused;
use crate::domain::event::Event;
use crate::ledger::events::ReadEvent;

/// What the event that seals a grant calls the agent's words, which are kept with the grant.
const EVIDENCE: &str = "evidence";

/// Erases one text, and tells of it.
pub(super) fn erase(
    tx: &mut Tx<'_>,
    index: u64,
    name: &str,
    told: Event,
) -> Result<(), Abort<ChangeRefused>> {
    let missing = || Abort::Refused(ChangeRefused::Missing);
    let bytes: Vec<u8> = match tx
        .conn
        .prepare_cached("SELECT bytes FROM events WHERE place = ?1")
        .and_then(|mut event| event.query_row([index_of(index)], |row| row.get(0)))
    {
        Ok(bytes) => bytes,
        Err(rusqlite::Error::QueryReturnedNoRows) => return Err(missing()),
        Err(error) => return Err(Fault::Sql(error).into()),
    };
    let event = ReadEvent::parse(&bytes).map_err(|e| Fault::Unreadable(format!("event {index}: {e}")))?;
    let erased = if event.texts.contains_key(name) {
        overwriting(tx.conn, || {
            let mut delete = tx.conn.prepare_cached("DELETE FROM texts WHERE place = ?1 AND name = ?2")?;
            Ok(delete.execute(params![number(index)?, name])?)
        })?
    } else if let (EVIDENCE, true, Some(grant)) = (name, event.facts.contains_key(EVIDENCE), event.grant) {
        overwriting(tx.conn, || {
            let forget = "UPDATE grants SET evidence = NULL WHERE id = ?1 AND evidence IS NOT NULL";
            Ok(tx.conn.prepare_cached(forget)?.execute([grant.to_string()])?)
        })?
    } else {
        return Err(missing());
    };
    if erased == 0 {
        return Err(Abort::Refused(ChangeRefused::Moved));
    }
    Ok(tx.append(&[told])?)
}

/// Erased is not only unlinked: the freed bytes are overwritten (https://sqlite.org/pragma.html#pragma_secure_delete).
pub(super) fn overwriting<T>(
    conn: &Connection,
    erase: impl FnOnce() -> Result<T, Fault>,
) -> Result<T, Fault> {
    let set = |on: bool| conn.pragma_update(None, "secure_delete", on).map_err(Fault::Sql);
    set(true)?;
    let erased = erase();
    set(false)?;
    erased
}

fn index_of(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}
