//! The tables, and how a connection is set up. Times are seconds, ids are ULIDs in text (time-ordered, so that
//! indexes append), digests are 32 bytes. Events are immutable: triggers refuse to change or delete one.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::fault::Fault;

/// Version of the schema, in `user_version`.
pub(super) const VERSION: i64 = 1;

/// Pages after which the writer itself checkpoints when no quiet moment came (https://sqlite.org/wal.html#ckpt).
const WAL_AUTOCHECKPOINT: i64 = 10_000;

const TABLES: &str = "
CREATE TABLE sequence (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  epoch INTEGER NOT NULL CHECK (epoch >= 1),
  size INTEGER NOT NULL CHECK (size >= 0),
  at INTEGER NOT NULL,
  last BLOB NOT NULL CHECK (length(last) = 32)
) STRICT;
INSERT INTO sequence VALUES (1, 1, 0, 0, zeroblob(32));

CREATE TABLE events (
  place INTEGER PRIMARY KEY,
  run TEXT,
  bytes BLOB NOT NULL CHECK (length(bytes) BETWEEN 1 AND 65535)
) STRICT;
CREATE INDEX events_of_run ON events (run, place) WHERE run IS NOT NULL;
CREATE TRIGGER events_never_change BEFORE UPDATE ON events
  BEGIN SELECT RAISE(ABORT, 'an event is immutable'); END;
CREATE TRIGGER events_never_go BEFORE DELETE ON events
  BEGIN SELECT RAISE(ABORT, 'an event is immutable'); END;
CREATE TABLE texts (
  place INTEGER NOT NULL REFERENCES events (place),
  name TEXT NOT NULL,
  salt BLOB NOT NULL CHECK (length(salt) = 16),
  value TEXT NOT NULL,
  PRIMARY KEY (place, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE rules (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  policy BLOB NOT NULL CHECK (length(policy) = 32),
  catalog BLOB NOT NULL CHECK (length(catalog) = 32),
  directory BLOB NOT NULL CHECK (length(directory) = 32)
) STRICT;
CREATE TABLE directories (digest BLOB PRIMARY KEY CHECK (length(digest) = 32), document TEXT NOT NULL) STRICT;
CREATE TABLE freezes (key TEXT PRIMARY KEY, generation INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE writers (
  name TEXT PRIMARY KEY,
  holder TEXT NOT NULL,
  generation INTEGER NOT NULL,
  until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
  id TEXT PRIMARY KEY,
  agent TEXT NOT NULL,
  environment TEXT NOT NULL,
  requester TEXT NOT NULL,
  prompt_digest BLOB,
  phase TEXT NOT NULL,
  opened_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE grants (
  id TEXT PRIMARY KEY,
  place INTEGER NOT NULL,
  run TEXT NOT NULL REFERENCES runs (id),
  epoch INTEGER NOT NULL,
  claiming_agent TEXT NOT NULL,
  claim_key TEXT NOT NULL,
  state TEXT NOT NULL,
  revision INTEGER NOT NULL,
  approve_by INTEGER NOT NULL,
  claim_until INTEGER,
  evidence TEXT,
  bytes BLOB NOT NULL
) STRICT;
CREATE INDEX grants_open ON grants (run, place) WHERE state IN ('pending', 'approved');
CREATE INDEX grants_open_key ON grants (claim_key) WHERE state IN ('pending', 'approved');
CREATE INDEX grants_pending_due ON grants (approve_by) WHERE state = 'pending';
CREATE INDEX grants_approved_due ON grants (claim_until) WHERE state = 'approved';
CREATE TABLE approvals (
  grant_id TEXT NOT NULL REFERENCES grants (id),
  nth INTEGER NOT NULL,
  record TEXT NOT NULL,
  PRIMARY KEY (grant_id, nth)
) STRICT, WITHOUT ROWID;

CREATE TABLE leases (
  id TEXT PRIMARY KEY,
  place INTEGER NOT NULL,
  run TEXT NOT NULL REFERENCES runs (id),
  agent TEXT NOT NULL,
  phase TEXT NOT NULL,
  environment TEXT NOT NULL,
  provider TEXT NOT NULL,
  revocability TEXT NOT NULL,
  grant_id TEXT REFERENCES grants (id),
  key TEXT NOT NULL,
  target TEXT NOT NULL,
  state TEXT NOT NULL,
  opened_at INTEGER NOT NULL,
  not_after INTEGER NOT NULL,
  hard_end INTEGER NOT NULL,
  sent BLOB NOT NULL CHECK (length(sent) = 32),
  reference TEXT,
  ended_at INTEGER,
  end_reason TEXT,
  outcome TEXT,
  revocation TEXT NOT NULL,
  retry_at INTEGER,
  CHECK ((ended_at IS NULL) = (end_reason IS NULL)),
  CHECK ((phase = 'execute') = (grant_id IS NOT NULL))
) STRICT, WITHOUT ROWID;
-- INVARIANT: one-use, whatever the code above does: one lease per grant that was not refused.
CREATE UNIQUE INDEX leases_spend_once ON leases (grant_id) WHERE grant_id IS NOT NULL AND state <> 'refused';
CREATE INDEX leases_of_run ON leases (run, place);
CREATE INDEX leases_of_key ON leases (key);
CREATE INDEX leases_by_place ON leases (place);
CREATE INDEX leases_of_target ON leases (provider, target, hard_end);
CREATE INDEX leases_executing ON leases (agent)
  WHERE phase = 'execute' AND state IN ('intent', 'unknown', 'minted', 'released');
CREATE INDEX leases_due ON leases (CASE state WHEN 'unknown' THEN hard_end ELSE not_after END)
  WHERE state IN ('intent', 'unknown', 'minted', 'released');
CREATE INDEX leases_retry ON leases (retry_at) WHERE retry_at IS NOT NULL;
CREATE TABLE reservations (
  lease TEXT NOT NULL,
  key TEXT NOT NULL,
  amount INTEGER NOT NULL CHECK (amount >= 0),
  PRIMARY KEY (lease, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX reservations_of_key ON reservations (key, amount);
";

/// Opens the one write connection and creates the tables in an empty file.
pub(super) fn writer(path: &Path, max_bytes: Option<u64>) -> Result<Connection, Fault> {
    let conn = connect(path)?;
    conn.pragma_update(None, "wal_autocheckpoint", WAL_AUTOCHECKPOINT)?;
    if let Some(bytes) = max_bytes {
        let page: i64 = conn.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1);
        conn.query_row(&format!("PRAGMA max_page_count = {}", pages.max(1)), [], |_| Ok(()))?;
    }
    let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (version, tables) {
        (0, 0) => conn.execute_batch(&format!("BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;"))?,
        (VERSION, _) => {}
        (0, _) => return Err(Fault::Unreadable("the file holds another program's tables".into())),
        (other, _) => {
            return Err(Fault::Unreadable(format!(
                "its schema has version {other}, this build knows {VERSION}; run the build that wrote it"
            )));
        }
    }
    Ok(conn)
}

/// Opens a connection that cannot write.
pub(super) fn reader(path: &Path) -> Result<Connection, Fault> {
    let conn = connect(path)?;
    conn.pragma_update(None, "query_only", true)?;
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
    // INVARIANT: logged-before-released. FULL, never NORMAL: in WAL mode NORMAL may lose committed transactions.
    conn.pragma_update(None, "synchronous", "FULL")?;
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Fault::Unreadable(format!("the file system gives journal mode `{mode}` instead of WAL")));
    }
    conn.set_prepared_statement_cache_capacity(128);
    Ok(conn)
}
