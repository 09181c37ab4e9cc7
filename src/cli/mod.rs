//! The commands, and the adapters that only a running server needs.

pub mod logs;
pub mod notify;
