//! Providers: each implements `broker::ports::CredentialProvider`.

pub mod jwt;
