//! Providers: each implements `broker::ports::CredentialProvider`; beside them, what looks for the broker itself, the way
//! to witnesses, and devices that hold the broker's own keys.

pub mod aws;
pub mod jwt;
pub mod look;
pub mod own_keys;
pub mod witness;
