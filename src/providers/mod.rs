//! Providers: each implements `broker::ports::CredentialProvider`; beside them, what looks for the broker itself.

pub mod aws;
pub mod jwt;
pub mod look;
