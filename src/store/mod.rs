//! Durable state: a SQLite file behind `broker::ports::Store`, and the ledger's head kept outside it.
//! Nothing here decides anything; every method is one transaction that holds whole or not at all.

pub mod head_file;
pub mod sqlite;

pub use head_file::HeadFile;
pub use sqlite::{OpenError, Options, SqliteStore};
