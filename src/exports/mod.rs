//! Where copies of the log go: each sink implements `broker::ports::Sink`. A copy names its place in the log and its
//! leaf, so that whoever doubts it can ask for the proof; it holds identifiers and digests, never a text or a secret.

pub mod caep;
pub mod file;
mod line;
pub mod ocsf;
mod post;
mod rows;
pub mod stdout;
pub mod syslog;
pub mod webhook;
mod writer;

pub use post::{Post, SecretHeader};
