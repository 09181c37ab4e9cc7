//! Copies of a store: written from one moment of it, checked whole, and put back in its place.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::OpenError;
use super::sqlite::{self, ProcessLock};
use crate::broker::ports::Head;

/// What SQLite keeps beside a database.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// A copy could not be made, is not good, or cannot be put back.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The store cannot be read.
    #[error("`{path}`: {why}")]
    Unusable {
        /// Which file.
        path: String,
        /// Why.
        why: String,
    },
    /// Its log was changed.
    #[error("`{path}` is damaged: {what}")]
    Damaged {
        /// Which file.
        path: String,
        /// Where and how.
        what: String,
    },
}

fn unusable(path: &Path, why: impl std::fmt::Display) -> CopyError {
    CopyError::Unusable { path: path.display().to_string(), why: why.to_string() }
}

/// Writes a copy of the store as it stands to `out`, for its owner alone. A broker may be using it.
pub fn write(database: &Path, out: &Path) -> Result<(), CopyError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(out)
        .map_err(|error| unusable(out, error))?;
    sqlite::copy_to(database, out).map_err(|why| unusable(database, why))?;
    File::open(out).and_then(|file| file.sync_all()).map_err(|error| unusable(out, error))
}

/// Checks a copy whole: its schema, and every entry against the tree.
pub fn check(copy: &Path) -> Result<Head, CopyError> {
    let (head, damage) = sqlite::inspect(copy).map_err(|why| unusable(copy, why))?;
    match damage {
        None => Ok(head),
        Some(damage) => {
            Err(CopyError::Damaged { path: copy.display().to_string(), what: damage.to_string() })
        }
    }
}

/// Takes the lock of a store, so that nobody opens it.
pub fn lock(database: &Path) -> Result<ProcessLock, OpenError> {
    ProcessLock::take(database)
}

/// Moves the store at `database` to `aside`, companions and all, and puts a copy of `from` in its place.
pub fn replace(from: &Path, database: &Path, aside: &Path) -> Result<(), CopyError> {
    let beside = beside(database, ".restoring");
    let mut source = File::open(from).map_err(|error| unusable(from, error))?;
    let mut target = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .map_err(|error| unusable(&beside, error))?;
    std::io::copy(&mut source, &mut target)
        .and_then(|_| target.sync_all())
        .map_err(|error| unusable(&beside, error))?;
    for companion in ["", COMPANIONS[0], COMPANIONS[1]] {
        let (old, new) = (self::beside(database, companion), self::beside(aside, companion));
        match std::fs::rename(&old, &new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(unusable(&old, error)),
            _ => {}
        }
    }
    std::fs::rename(&beside, database).map_err(|error| unusable(database, error))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
