//! Providers: each implements `broker::ports::CredentialProvider`.

pub mod aws;
pub mod jwt;
