//! One process per store: a lock beside the file, held as long as the store is open, with the holder's pid inside.
//! The lock is taken before the database file is touched: closing a second descriptor of it would drop SQLite's own locks.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::OpenError;

/// The lock of one store; released when dropped.
#[derive(Debug)]
pub struct ProcessLock {
    /// The file it locks, by its one name.
    path: PathBuf,
    #[expect(dead_code, reason = "held for its lock")]
    file: File,
}

impl ProcessLock {
    /// Locks `<path>.lock`, or names the process that holds it.
    pub(in crate::store) fn take(path: &Path) -> Result<Self, OpenError> {
        let path = one_name(path)?;
        let path = path.as_path();
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let beside = PathBuf::from(name);
        let unusable = |error: std::io::Error| OpenError::Unusable {
            path: beside.display().to_string(),
            why: error.to_string(),
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&beside)
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                file.read_to_string(&mut pid).map_err(unusable)?;
                let pid = pid.trim().parse().unwrap_or(0);
                return Err(OpenError::InUse { path: path.display().to_string(), pid });
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        file.set_len(0).map_err(unusable)?;
        file.seek(SeekFrom::Start(0)).map_err(unusable)?;
        writeln!(file, "{}", std::process::id()).map_err(unusable)?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// The store it is the lock of, by its one name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The file's one name, so that a symbolic link does not lead around the lock.
pub(super) fn one_name(path: &Path) -> Result<PathBuf, OpenError> {
    let unusable = |error: std::io::Error| OpenError::Unusable {
        path: path.display().to_string(),
        why: error.to_string(),
    };
    if path.exists() {
        return path.canonicalize().map_err(unusable);
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| unusable(std::io::ErrorKind::InvalidFilename.into()))?;
    Ok(parent.canonicalize().map_err(unusable)?.join(name))
}

/// Creates the database file for its owner alone; SQLite gives its companions the same mode.
pub(super) fn create(path: &Path) -> Result<(), OpenError> {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    // SQLite would delete the WAL of a file that is not there, and with it the last commits of a store that was moved.
    if !path.exists() && std::fs::metadata(&wal).is_ok_and(|found| found.len() > 0) {
        return Err(OpenError::Unusable {
            path: path.display().to_string(),
            why: "it is missing, and its write-ahead log is not; put the database back beside its `-wal`, or restore a backup"
                .into(),
        });
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(OpenError::Unusable { path: path.display().to_string(), why: error.to_string() }),
    }
}
