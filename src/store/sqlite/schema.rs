//! How a connection is set up, and how a file comes to the schema that this build knows.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::fault::Fault;
use super::ledger::{self, Tx};
use super::tables::{STEPS, VERSION};
use super::verify;
use super::{freezes, rows};
use crate::broker::ports::{Damage, Head, StoreError};
use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind};
use crate::domain::freeze::Freeze;
use crate::domain::grant::GrantState;
use crate::domain::id::{GrantId, RunId};
use crate::domain::principal::Actor;

/// Pages after which the writer itself checkpoints when no quiet moment came (https://sqlite.org/wal.html#ckpt).
const WAL_AUTOCHECKPOINT: i64 = 10_000;
/// How often emptying the WAL is tried.
const SETTLED_AFTER: u32 = 3;

/// Opens the one write connection and brings the file to the newest schema, in one transaction.
pub(super) fn writer(path: &Path, max_bytes: Option<u64>) -> Result<Connection, Fault> {
    let mut conn = connect(path)?;
    conn.pragma_update(None, "wal_autocheckpoint", WAL_AUTOCHECKPOINT)?;
    if let Some(bytes) = max_bytes {
        let page: i64 = conn.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1);
        conn.query_row(&format!("PRAGMA max_page_count = {}", pages.max(1)), [], |_| Ok(()))?;
    }
    migrate(&mut conn)?;
    Ok(conn)
}

/// Takes the steps that the file has not taken.
fn migrate(conn: &mut Connection) -> Result<(), Fault> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = tx.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if (version == 0) != (tables == 0) {
        return Err(Fault::Unreadable("the file holds another program's tables".into()));
    }
    let left = usize::try_from(version).ok().and_then(|taken| STEPS.get(taken..)).ok_or_else(|| {
        Fault::Unreadable(format!(
            "its schema has version {version}, this build knows {VERSION}; run the build that wrote it"
        ))
    })?;
    if left.is_empty() {
        return Ok(());
    }
    // A file that has a tree keeps it: what was pruned could not be hashed again.
    let chained_to = match version {
        0 => Some([0; 32]),
        1 | 2 => Some(tx.query_row("SELECT last FROM sequence", [], |row| row.get(0))?),
        _ => None,
    };
    for step in left {
        tx.execute_batch(step)?;
    }
    if let Some(last) = chained_to {
        ledger::grow_over_events(&tx, Digest::from_bytes(last))?;
    }
    if version == 1 {
        lapse_open_grants(&tx)?;
    }
    tx.pragma_update(None, "user_version", VERSION)?;
    Ok(tx.commit()?)
}

/// Documents of version 1 do not say what the rules of today must know, so that no grant of them can be signed or used
/// any more; what is asked again is sealed anew.
fn lapse_open_grants(conn: &Connection) -> Result<(), Fault> {
    let open = rows::all(
        conn,
        "SELECT id, run FROM grants WHERE state IN ('pending', 'approved') ORDER BY place, id",
        [],
        |row| Ok((rows::parsed::<GrantId>(row, "id")?, rows::parsed::<RunId>(row, "run")?)),
    )?;
    let mut tx = Tx::begin(conn, true)?;
    for (grant, run) in open {
        conn.prepare_cached("UPDATE grants SET state = ?2, revision = revision + 1 WHERE id = ?1")?
            .execute([grant.to_string(), GrantState::Lapsed.name().to_owned()])?;
        let at = tx.head.at;
        let lapsed = Event::new(EventKind::GrantLapsed, Actor::Broker, at).run(run).grant(grant);
        tx.append(&[lapsed.fact("why", "its document is of an earlier version")])?;
    }
    tx.keep().map(|_| ())
}

/// Opens a connection that cannot write.
pub(super) fn reader(path: &Path) -> Result<Connection, Fault> {
    let conn = connect(path)?;
    conn.pragma_update(None, "query_only", true)?;
    Ok(conn)
}

/// Writes what the store holds at one moment, its WAL included, into the empty file `out`; the store is only read.
pub(in crate::store) fn copy_to(database: &Path, out: &Path) -> Result<(), StoreError> {
    let copied = || -> Result<(), Fault> {
        let conn = looking(database)?;
        conn.execute("VACUUM INTO ?1", [out.to_string_lossy()])?;
        Ok(())
    };
    copied().map_err(Fault::on_read)
}

/// Moves the WAL into the file and empties it, so that the file alone is the whole store and nothing erased stays
/// beside it; `false` when somebody who reads or writes is in the way. Writers wait meanwhile, so never for long.
pub(in crate::store) fn settle(database: &Path) -> Result<bool, StoreError> {
    let settled = || -> Result<bool, Fault> {
        let conn = connect(database)?;
        conn.busy_timeout(Duration::from_secs(1))?;
        for _ in 0..SETTLED_AFTER {
            let busy: i64 = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
            if busy == 0 {
                return Ok(true);
            }
            // Another checkpoint is not waited for by SQLite (https://sqlite.org/c3ref/wal_checkpoint_v2.html).
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(false)
    };
    settled().map_err(Fault::on_write)
}

/// The freezes of a store at rest.
pub(in crate::store) fn freezes_of(database: &Path) -> Result<Vec<Freeze>, StoreError> {
    looking(database).and_then(|conn| freezes::all(&conn)).map_err(Fault::on_read)
}

/// The head of a store at rest, and the first thing that is wrong with its log.
pub(in crate::store) fn inspect(path: &Path) -> Result<(Head, Option<Damage>), StoreError> {
    let inspected = || -> Result<(Head, Option<Damage>), Fault> {
        let conn = looking(path)?;
        let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version != VERSION {
            return Err(Fault::Unreadable(format!(
                "its schema has version {version}, and only a copy of version {VERSION} can be checked"
            )));
        }
        Ok((ledger::head(&conn)?, verify::damage(&conn)?))
    };
    inspected().map_err(Fault::on_read)
}

/// Opens a connection that changes nothing of the file, not even its journal mode.
fn looking(path: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(Duration::from_secs(5))?;
    conn.pragma_update(None, "trusted_schema", false)?;
    Ok(conn)
}

/// Opens a connection; never creates the file.
pub(super) fn connect(path: &Path) -> Result<Connection, Fault> {
    let conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    conn.busy_timeout(Duration::from_secs(5))?;
    conn.pragma_update(None, "trusted_schema", false)?;
    conn.pragma_update(None, "foreign_keys", true)?;
    // Else a statement with `LIMIT ?` or `max()` is planned anew at every use (https://sqlite.org/queryplanner-ng.html#qpsg).
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // INVARIANT: logged-before-released. FULL, never NORMAL: in WAL mode NORMAL may lose committed transactions.
    conn.pragma_update(None, "synchronous", "FULL")?;
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Fault::Unreadable(format!("the file system gives journal mode `{mode}` instead of WAL")));
    }
    conn.set_prepared_statement_cache_capacity(128);
    Ok(conn)
}
