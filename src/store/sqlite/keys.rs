//! The broker's own keys, public halves only: the one that vouches, the log's, and those that signed tokens a while ago.

use rusqlite::{Connection, Row, params};

use super::fault::Fault;
use super::ledger::Tx;
use super::rows;
use crate::broker::ports::{KeptKey, KeptKeys};
use crate::domain::key_ring::{KEPT_SECONDS, PublishedKey};
use crate::domain::time::Timestamp;

/// Keeps a key; working keys that are over at `now` go, and a key that vouches or signs the log takes its former's place.
pub(super) fn keep(tx: &Tx<'_>, key: &KeptKey, now: Timestamp) -> Result<(), Fault> {
    let (purpose, working) = match key {
        KeptKey::Token(_) => ("token", None),
        KeptKey::Log(_) => ("log", None),
        KeptKey::Working(working) => ("working", Some(working)),
    };
    let over = now.plus(-KEPT_SECONDS).seconds();
    tx.conn
        .prepare_cached("DELETE FROM own_keys WHERE purpose = ?1 AND (ends IS NULL OR ends <= ?2)")?
        .execute(params![purpose, over])?;
    tx.conn
        .prepare_cached(
            "INSERT INTO own_keys (purpose, thumbprint, jwk, begins, ends, certificate)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            purpose,
            key.key().thumbprint().to_string(),
            rows::text(key.key())?,
            working.map(|working| working.begins.seconds()),
            working.map(|working| working.ends.seconds()),
            working.and_then(|working| working.certificate.as_deref()),
        ])?;
    Ok(())
}

/// Every key that is kept, working keys in the order in which they begin.
pub(super) fn all(conn: &Connection) -> Result<KeptKeys, Fault> {
    let sql = "SELECT purpose, jwk, begins, ends, certificate FROM own_keys ORDER BY begins, purpose";
    // One row that was damaged hides no other, and keeps no broker from starting.
    let rows = rows::all(conn, sql, [], |row| Ok(read(row)))?;
    let mut kept = KeptKeys::default();
    for row in rows {
        match row {
            Ok(key) => kept.keys.push(key),
            Err(fault) => {
                tracing::warn!(why = %fault.on_read(), "a kept key of the broker's own cannot be read");
                kept.unreadable += 1;
            }
        }
    }
    Ok(kept)
}

fn read(row: &Row<'_>) -> Result<KeptKey, Fault> {
    let key = rows::json(&row.get::<_, String>("jwk")?)?;
    match row.get::<_, String>("purpose")?.as_str() {
        "token" => Ok(KeptKey::Token(key)),
        "log" => Ok(KeptKey::Log(key)),
        "working" => Ok(KeptKey::Working(PublishedKey {
            key,
            begins: rows::at(row, "begins")?,
            ends: rows::at(row, "ends")?,
            certificate: row.get("certificate")?,
        })),
        other => Err(Fault::Unreadable(format!("column `purpose` holds `{}`", other.escape_default()))),
    }
}
