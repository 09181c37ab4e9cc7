//! The HTTP surface: the listener, the answers, and the resources.

pub mod listen;
mod patience;
pub mod problem;
pub mod tls;
