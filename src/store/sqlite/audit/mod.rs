//! The whole store against its log, read only and beside a running broker: the tree over its events, the lives they
//! tell, every record that must agree with them, and every signature that they rest on. One reading of one moment; it writes nothing and holds no lock
//! that a broker waits for.

mod answers;
mod runs;
mod scan;

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use serde::Serialize;

use super::fault::Fault;
use super::{checkpoints, keys, ledger, lock, rows, tables, tree, verify};
use crate::broker::ports::{Damage, Head, KeptKeys, StoreError, StoredCheckpoint};
use crate::domain::digest::Digest;
use crate::ledger::life::Followed;
use crate::store::OpenError;

/// Problems that are kept; more are counted.
const MOST_PROBLEMS: usize = 1_000;

/// A store opened to be checked.
#[derive(Debug)]
pub struct StoreAudit {
    conn: Connection,
}

/// Something in the store that does not agree with its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The event it is about, where there is one.
    pub index: Option<u64>,
    /// What is wrong.
    pub text: String,
}

/// What a check found.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The head as stored.
    pub head: Head,
    /// The first event that is kept.
    pub first_kept: u64,
    /// The first place where tree, events and checkpoints differ.
    pub damage: Option<Damage>,
    /// The lives that the log tells.
    pub followed: Followed,
    /// Records that do not agree with it, at most 1,000.
    pub problems: Vec<Problem>,
    /// How many more there are.
    pub more_problems: u64,
    /// What was looked at.
    pub counts: Counts,
    /// The signed checkpoints that are kept; whoever has the log's key checks their signatures.
    pub checkpoints: Vec<StoredCheckpoint>,
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Grants, of credentials and of administration.
    pub grants: u64,
    /// Approvals, denials and withdrawals.
    pub approvals: u64,
    /// Leases.
    pub leases: u64,
    /// Reviews.
    pub reviews: u64,
    /// Texts beside events.
    pub texts: u64,
    /// Texts that were erased; their digests stay.
    pub erased_texts: u64,
    /// Answers whose signatures could not be verified: what they were given under, or for, is not kept.
    pub unchecked_answers: u64,
    /// Approvals and claims whose rule could not be counted, for the same reason.
    pub unchecked_rules: u64,
}

/// How far a check has come: what it looks at, and how many of how many.
pub type Tell<'a> = &'a mut dyn FnMut(&'static str, u64, u64);

/// Problems on their way.
#[derive(Debug, Default)]
struct Found {
    problems: Vec<Problem>,
    more: u64,
    counts: Counts,
}

impl Found {
    /// So many answers cannot be judged.
    fn unchecked(&mut self, answers: usize) {
        self.counts.unchecked_answers += u64::try_from(answers).unwrap_or(0);
    }

    fn problem(&mut self, index: Option<u64>, text: String) {
        match self.problems.len() < MOST_PROBLEMS {
            true => self.problems.push(Problem { index, text }),
            false => self.more += 1,
        }
    }
}

impl StoreAudit {
    /// Opens the store at `path`, which may be in use. A file of an older schema is left alone.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let path = lock::one_name(path)?;
        let unusable = |fault: Fault| OpenError::Unusable {
            path: path.display().to_string(),
            why: fault.on_read().to_string(),
        };
        let open = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let conn = Connection::open_with_flags(&path, flags)?;
            conn.busy_timeout(Duration::from_secs(5))?;
            conn.pragma_update(None, "trusted_schema", false)?;
            let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
            match version == tables::VERSION {
                true => Ok(conn),
                false => Err(Fault::Unreadable(format!(
                    "its schema has version {version}, this build checks {}; let a broker of this build open it once",
                    tables::VERSION
                ))),
            }
        };
        Ok(Self { conn: open().map_err(unusable)? })
    }

    /// Checks everything, as of one moment.
    pub fn check(&mut self, tell: Tell<'_>) -> Result<Checked, StoreError> {
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Deferred);
        tx.map_err(Fault::Sql).and_then(|tx| check(&tx, tell)).map_err(Fault::on_read)
    }

    /// What tells where a rotation of the broker's own keys stands: what is kept of them, the epoch, and the checkpoints,
    /// newest first.
    pub fn own_keys(&self) -> Result<(KeptKeys, u64, Vec<StoredCheckpoint>), StoreError> {
        let kept = keys::all(&self.conn).map_err(Fault::on_read)?;
        let epoch = ledger::head(&self.conn).map_err(Fault::on_read)?.epoch;
        Ok((kept, epoch, checkpoints::all(&self.conn).map_err(Fault::on_read)?))
    }

    /// Root hash of the first `size` events; `None` when there are fewer.
    pub fn root_at(&self, size: u64) -> Result<Option<Digest>, StoreError> {
        tree::root_at(&self.conn, size).map_err(Fault::on_read)
    }
}

fn check(conn: &Connection, tell: Tell<'_>) -> Result<Checked, Fault> {
    let head = ledger::head(conn)?;
    let first_kept = rows::count(conn.query_row("SELECT pruned FROM sequence", [], |row| row.get(0))?)?;
    let mut found = Found::default();
    tell("the file", 0, head.size);
    whole_file(conn, &mut found)?;
    tell("the tree", 0, head.size);
    let damage = verify::damage(conn)?;
    let scanned = scan::events(conn, first_kept, head.size, &mut found, tell)?;
    let mut judge = answers::Judge::new(conn, &scanned.changes);
    runs::records(conn, first_kept, &mut judge, &mut found, tell)?;
    scanned.compare(conn, first_kept, &mut judge, &mut found)?;
    Ok(Checked {
        head,
        first_kept,
        damage,
        followed: scanned.followed,
        problems: found.problems,
        more_problems: found.more,
        counts: found.counts,
        checkpoints: checkpoints::all(conn)?,
    })
}

/// An index that was edited could hide a row from every question asked below.
fn whole_file(conn: &Connection, found: &mut Found) -> Result<(), Fault> {
    let mut statement = conn.prepare("PRAGMA integrity_check(10)")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let text: String = row.get(0)?;
        if text != "ok" {
            found.problem(None, format!("the database file is damaged: {text}"));
        }
    }
    Ok(())
}
