//! Approved versus done: records in CloudTrail's format against leases of the ledger. What matches, what does not, and what
//! cannot be said.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod dev_world;
mod peers;
mod trail;
