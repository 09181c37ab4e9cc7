//! The ledger as pure data: reading, hashing, proving and judging what was recorded. No I/O, no clock, no store.

pub mod events;
pub mod life;
pub mod report;
