//! Where copies of the log go. A sink that fails is asked again with the same events; it never holds up anything else.

use async_trait::async_trait;

use super::logged::LoggedEvent;

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// So many of its first events were taken: all, or as many as there was time for.
    pub taken: usize,
    /// Events that the receiver was told and refused for good; they do not come again.
    pub refused: u64,
}

impl Delivered {
    /// All of so many.
    pub fn all(taken: usize) -> Self {
        Self { taken, refused: 0 }
    }
}

/// Why a batch was not taken whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct SinkError {
    /// So many of its first events were taken.
    pub taken: usize,
    /// Of these, so many were refused for good.
    pub refused: u64,
    /// Why the next was not; never a secret.
    pub why: String,
}

impl SinkError {
    /// Nothing was taken.
    pub fn nothing(why: impl Into<String>) -> Self {
        Self { taken: 0, refused: 0, why: why.into() }
    }
}

/// Takes copies of events, in the order of the log, each at least once.
#[async_trait]
pub trait Sink: Send + Sync {
    /// What its operator calls it; the name of its cursor.
    fn name(&self) -> &str;
    /// Returns once the receiver has the events for good.
    async fn deliver(&self, events: &[LoggedEvent]) -> Result<Delivered, SinkError>;
}
