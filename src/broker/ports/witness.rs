//! A witness, as the broker reaches it: who it is, and what it answers to a checkpoint (C2SP tlog-witness).

use async_trait::async_trait;

use crate::ledger::verifier_key::VerifierKey;

/// What a witness answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessAnswer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`, empty when there is none.
    pub content_type: String,
    /// The body, cut at the size of a note.
    pub body: String,
}

/// The witness could not be asked, or gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WitnessError(pub String);

/// One witness.
#[async_trait]
pub trait Witness: Send + Sync {
    /// The key by which its cosignatures are known.
    fn key(&self) -> &VerifierKey;
    /// Sends the body of `add-checkpoint`; bounded in time.
    async fn add_checkpoint(&self, request: String) -> Result<WitnessAnswer, WitnessError>;
}
