//! Just-in-time credentials for the phases of an agent's work.

pub mod catalog;
