//! An agent's HTTP client: its login, a fresh DPoP key per phase, and every call of a run.
//! Secrets stay in `Secret`; nothing here prints, logs or stores one. Follows no redirect.

mod args;
mod client;
mod error;
mod login;
mod proof;
#[cfg(test)]
mod tests;
mod transport;
mod wire;

pub use args::AgentArgs;
pub use client::{AgentClient, AgentSettings, Enter};
pub use error::{AgentError, Refused};
pub use login::Login;
pub use proof::PhaseKey;
pub use wire::{AwsSession, Claimed, ExecuteCredential, PhaseToken};
