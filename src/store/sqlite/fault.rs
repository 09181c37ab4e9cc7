//! What can go wrong inside a transaction, and how far the damage reaches.

use rusqlite::ffi::{self, ErrorCode};

use crate::broker::ports::StoreError;

/// A failure below the rules of the domain.
#[derive(Debug)]
pub(super) enum Fault {
    /// SQLite said no, or a column has another type.
    Sql(rusqlite::Error),
    /// A stored value is not what it must be.
    Unreadable(String),
    /// What was given cannot be stored.
    Unstorable(String),
}

/// How far a failure reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// This operation only.
    Operation,
    /// The whole transaction; later ones may succeed.
    Batch,
    /// Every write until restart: after a failed sync nobody knows what the disk holds.
    Writer,
}

/// Why an operation is rolled back.
#[derive(Debug)]
pub(super) enum Abort<R> {
    /// A rule of the domain refused it.
    Refused(R),
    /// The store failed.
    Fault(Fault),
}

impl Fault {
    pub(super) fn reach(&self) -> Reach {
        let Self::Sql(rusqlite::Error::SqliteFailure(error, _)) = self else { return Reach::Operation };
        match error.code {
            // A full tmpfs shows itself first where the WAL index is to grow.
            ErrorCode::SystemIoFailure if error.extended_code == ffi::SQLITE_IOERR_SHMSIZE => Reach::Batch,
            ErrorCode::SystemIoFailure | ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
                Reach::Writer
            }
            ErrorCode::DiskFull
            | ErrorCode::OutOfMemory
            | ErrorCode::DatabaseBusy
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::OperationInterrupted => Reach::Batch,
            _ => Reach::Operation,
        }
    }

    /// As a writer reports it.
    pub(super) fn on_write(self) -> StoreError {
        match self {
            Self::Unreadable(why) => StoreError::Unreadable(why),
            Self::Unstorable(why) => StoreError::Unwritable(why),
            Self::Sql(error) => match &error {
                rusqlite::Error::SqliteFailure(code, _)
                    if !matches!(code.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) =>
                {
                    StoreError::Unwritable(error.to_string())
                }
                _ => StoreError::Unreadable(error.to_string()),
            },
        }
    }

    /// As a reader reports it.
    pub(super) fn on_read(self) -> StoreError {
        match self {
            Self::Unreadable(why) | Self::Unstorable(why) => StoreError::Unreadable(why),
            Self::Sql(error) => StoreError::Unreadable(error.to_string()),
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl<R> From<rusqlite::Error> for Abort<R> {
    fn from(error: rusqlite::Error) -> Self {
        Self::Fault(Fault::Sql(error))
    }
}

impl<R> From<Fault> for Abort<R> {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
