//! Durable state: a SQLite file behind `broker::ports::Store`, and what is kept outside it: the ledger's head,
//! and the ends that it could not take.
//! Nothing here decides anything; every method is one transaction that holds whole or not at all.

pub mod copy;
pub mod end_journal;
pub mod head_file;
pub mod sqlite;
pub mod whole_file;

pub use end_journal::EndFile;
pub use head_file::HeadFile;
pub use sqlite::audit::StoreAudit;
pub use sqlite::{OpenError, Options, SqliteStore};
pub use whole_file::replace_file;
