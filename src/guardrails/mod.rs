//! The guardrails: the operator's numbers beside the policies. What is counted and up to where, how long a taint lasts,
//! who signs administration, the break-glass rule, what the broker may look at itself. Loaded whole, known by a digest.

mod document;

pub use document::{
    AdministrationRules, AlertSource, AwsRead, BreakGlass, Budget, Counts, Dimension, GuardrailsDocument,
    HttpRead, Privilege, Probe, SignedBy, Taint,
};

use crate::domain::digest::Digest;

/// Guardrails that passed every check.
#[derive(Debug, Clone)]
pub struct Guardrails {
    document: GuardrailsDocument,
    digest: Digest,
}

/// A mistake in the guardrails; `path` names where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct GuardrailsError {
    /// For example `budgets.agent-hour.limit`.
    pub path: String,
    /// What is wrong and what to do.
    pub problem: String,
}

impl Guardrails {
    /// Checks a document whole; every mistake is named.
    pub fn check(document: GuardrailsDocument) -> Result<Self, Vec<GuardrailsError>> {
        let unwritable = |e: serde_json::Error| {
            vec![GuardrailsError { path: "guardrails".into(), problem: e.to_string() }]
        };
        let mut value = serde_json::to_value(&document).map_err(unwritable)?;
        value.sort_all_objects();
        let digest = Digest::tagged("phasebroker-guardrails-v1", value.to_string().as_bytes());
        Ok(Self { document, digest })
    }

    /// What the document says.
    pub fn document(&self) -> &GuardrailsDocument {
        &self.document
    }

    /// Digest of the document.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}
