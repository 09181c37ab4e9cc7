//! Looking: what the broker reads itself, so that nobody's word has to be taken for it.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::catalog::AwsTarget;
pub use crate::guardrails::{AwsCall, Probe, Question};

/// Where in AWS something is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsPlace {
    /// `aws`, `aws-cn`, `aws-us-gov`, `aws-eusc`.
    pub partition: String,
    /// Twelve digits: an answer of any other account counts for nothing.
    pub account: String,
    /// The one region.
    pub region: String,
}

impl From<&AwsTarget> for AwsPlace {
    fn from(target: &AwsTarget) -> Self {
        Self {
            partition: target.partition.clone(),
            account: target.account.clone(),
            region: target.region.clone(),
        }
    }
}

/// Why nothing was read, in one sentence without secrets, URLs or words of whoever answered. It means no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LookFailed(pub String);

/// Reads what a probe names.
#[async_trait]
pub trait Looker: Send + Sync {
    /// The value that `probe` gives with these values of the action's parameters; `place` is the AWS account of the
    /// action's environment, where it has one.
    ///
    /// INVARIANT: unknown-is-no. Whatever is not one clear value within a few seconds is an error.
    async fn look(
        &self,
        probe: &Probe,
        filling: &BTreeMap<String, String>,
        place: Option<&AwsPlace>,
    ) -> Result<String, LookFailed>;
}
