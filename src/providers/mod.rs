//! Providers: each implements `broker::ports::CredentialProvider`; beside them, what looks for the broker itself, and the way
//! to witnesses.

pub mod aws;
pub mod jwt;
pub mod look;
pub mod witness;
