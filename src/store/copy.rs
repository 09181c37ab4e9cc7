//! Copies of a store: written from one moment of it, checked whole, and put in its place, at no moment of which a
//! committed write is lost.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::OpenError;
use super::sqlite::{self, ProcessLock};
use crate::broker::ports::Head;
use crate::domain::freeze::Freeze;

/// What SQLite keeps beside a database. Left where they are, they would be taken for the new one's.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// How every database begins (https://sqlite.org/fileformat2.html#the_database_header).
const HEADER: &[u8; 16] = b"SQLite format 3\0";

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

/// Writes a copy of the store as it stands, for its owner alone, and checks it; only then does it get the name `out`,
/// which nothing may have. A broker may be using the store.
pub fn write(database: &Path, out: &Path) -> Result<Head, CopyError> {
    let partial = beside(out, ".partial");
    make(&partial).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            unusable(&partial, "another backup is being written, or one was broken off; if so, remove it")
        }
        _ => unusable(&partial, error),
    })?;
    let written = fill(&partial, database).and_then(|head| name(&partial, out).map(|()| head));
    // What is not a good copy must not lie there as one.
    let _ = std::fs::remove_file(&partial);
    written
}

/// Makes the copy of `from` that may take the place of the store at `database`, and checks that very file.
pub fn candidate(from: &Path, database: &Path) -> Result<(PathBuf, Head), CopyError> {
    let copy = beside(database, ".restoring");
    if from.canonicalize().is_ok_and(|from| from == copy) {
        return Err(unusable(from, "that is what a restore writes; name the backup"));
    }
    discard(&copy);
    make(&copy).map_err(|error| unusable(&copy, error))?;
    match fill(&copy, from) {
        Ok(head) => Ok((copy, head)),
        Err(error) => {
            discard(&copy);
            Err(error)
        }
    }
}

/// Removes a copy that shall not take the place of a store.
pub fn discard(copy: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal", ".lock"] {
        let _ = std::fs::remove_file(beside(copy, suffix));
    }
}

/// The freezes of the store at `database`; `None` when there is none.
pub fn freezes(database: &Path) -> Result<Option<Vec<Freeze>>, CopyError> {
    if std::fs::symlink_metadata(database).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(None);
    }
    is_database(database)?;
    sqlite::freezes_of(database).map(Some).map_err(|why| unusable(database, why))
}

/// Takes the lock of a store, so that nobody opens it.
pub fn lock(database: &Path) -> Result<ProcessLock, OpenError> {
    ProcessLock::take(database)
}

/// Moves the store at `database` to `aside` and puts `candidate` in its place, with one rename of one file.
pub fn replace(candidate: &Path, database: &Path, aside: &Path) -> Result<(), CopyError> {
    match sqlite::settle(candidate) {
        Ok(true) => {}
        Ok(false) => return Err(unusable(candidate, "another process reads it")),
        Err(error) => return Err(unusable(candidate, error)),
    }
    if std::fs::symlink_metadata(aside).is_ok() {
        return Err(unusable(aside, "it exists; try again"));
    }
    // What was committed last may be in the WAL alone; from here on the file is the whole store.
    let settled =
        is_database(database).and_then(|()| sqlite::settle(database).map_err(|why| unusable(database, why)));
    match settled {
        Ok(true) => {
            if std::fs::hard_link(database, aside).is_err() {
                moved(database, aside)?;
            }
            companions(database, aside)?;
        }
        Ok(false) => return Err(unusable(database, "another process reads it; end that first")),
        // It cannot be opened, or is not there: it is moved as it lies.
        Err(_) => {
            companions(database, aside)?;
            moved(database, aside)?;
        }
    }
    sync_folder(database)?;
    std::fs::rename(candidate, database).map_err(|error| unusable(database, error))?;
    sync_folder(database)?;
    discard(candidate);
    Ok(())
}

/// Looked at before SQLite does: beside a file that is none of its own it may delete what it takes for a stale WAL.
fn is_database(path: &Path) -> Result<(), CopyError> {
    let mut begins = [0; HEADER.len()];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut begins))
        .map_err(|error| unusable(path, error))?;
    match begins == *HEADER {
        true => Ok(()),
        false => Err(unusable(path, "it is not a database")),
    }
}

/// Creates a file that was not there, for its owner alone.
fn make(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Fills an empty file with what the store `from` holds, and checks it: its schema, and every entry against the tree.
fn fill(copy: &Path, from: &Path) -> Result<Head, CopyError> {
    is_database(from)?;
    sqlite::copy_to(from, copy).map_err(|why| unusable(from, why))?;
    File::open(copy).and_then(|file| file.sync_all()).map_err(|error| unusable(copy, error))?;
    match sqlite::inspect(copy).map_err(|why| unusable(from, why))? {
        (head, None) => Ok(head),
        (_, Some(damage)) => {
            Err(CopyError::Damaged { path: from.display().to_string(), what: damage.to_string() })
        }
    }
}

/// Gives a file its final name, never over another file.
fn name(partial: &Path, out: &Path) -> Result<(), CopyError> {
    match std::fs::hard_link(partial, out) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(unusable(out, "it exists")),
        // A file system without hard links.
        Err(_) if std::fs::symlink_metadata(out).is_err() => {
            std::fs::rename(partial, out).map_err(|error| unusable(out, error))
        }
        Err(error) => Err(unusable(out, error)),
    }
}

fn companions(database: &Path, aside: &Path) -> Result<(), CopyError> {
    COMPANIONS.iter().try_for_each(|suffix| moved(&beside(database, suffix), &beside(aside, suffix)))
}

fn moved(old: &Path, new: &Path) -> Result<(), CopyError> {
    match std::fs::rename(old, new) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(unusable(old, error)),
        _ => Ok(()),
    }
}

fn sync_folder(file: &Path) -> Result<(), CopyError> {
    let folder = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| unusable(folder, error))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
