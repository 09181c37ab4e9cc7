//! Signed checkpoints and what witnesses added to them.

use rusqlite::{Connection, params};

use super::fault::Fault;
use super::rows::{self, at, count, number};
use crate::broker::ports::{Cosigned, StoredCheckpoint};
use crate::domain::digest::Digest;

/// Cosigned checkpoints that are kept, beside the newest of each number of witnesses; any proves every entry below it.
const COSIGNED_KEPT: i64 = 16;
/// Newest checkpoints that are kept, a minute of them, so that a slow witness's line still finds the one it is about.
const NEWEST_KEPT: i64 = 64;

pub(super) fn keep(conn: &Connection, new: &StoredCheckpoint) -> Result<(), Fault> {
    conn.prepare_cached(
        "INSERT INTO checkpoints (size, origin, root, note, at) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (size) DO NOTHING",
    )?
    .execute(params![number(new.size)?, new.origin, new.root.as_bytes(), new.note, new.at.seconds()])?;
    conn.prepare_cached(
        "DELETE FROM checkpoints
         WHERE size NOT IN (SELECT size FROM checkpoints ORDER BY size DESC LIMIT ?1)
           AND size NOT IN (SELECT DISTINCT size FROM cosignatures ORDER BY size DESC LIMIT ?2)
           AND size NOT IN (SELECT max(size) FROM
             (SELECT size, count(*) AS witnesses FROM cosignatures GROUP BY size) GROUP BY witnesses)",
    )?
    .execute([NEWEST_KEPT, COSIGNED_KEPT])?;
    Ok(())
}

pub(super) fn cosign(conn: &Connection, size: u64, cosigned: &Cosigned) -> Result<(), Fault> {
    conn.prepare_cached(
        "INSERT INTO cosignatures (size, witness, line, at)
         SELECT size, ?2, ?3, ?4 FROM checkpoints WHERE size = ?1
         ON CONFLICT (size, witness) DO UPDATE SET line = excluded.line, at = excluded.at",
    )?
    .execute(params![number(size)?, cosigned.witness, cosigned.line, cosigned.at.seconds()])?;
    Ok(())
}

/// Newest first.
pub(super) fn all(conn: &Connection) -> Result<Vec<StoredCheckpoint>, Fault> {
    let mut found = rows::all(conn, "SELECT * FROM checkpoints ORDER BY size DESC", [], |row| {
        Ok(StoredCheckpoint {
            size: count(row.get("size")?)?,
            origin: row.get("origin")?,
            root: Digest::from_bytes(row.get("root")?),
            note: row.get("note")?,
            at: at(row, "at")?,
            cosignatures: Vec::new(),
        })
    })?;
    for checkpoint in &mut found {
        checkpoint.cosignatures = rows::all(
            conn,
            "SELECT witness, line, at FROM cosignatures WHERE size = ?1 ORDER BY witness",
            params![number(checkpoint.size)?],
            |row| Ok(Cosigned { witness: row.get(0)?, line: row.get(1)?, at: at(row, "at")? }),
        )?;
    }
    Ok(found)
}
