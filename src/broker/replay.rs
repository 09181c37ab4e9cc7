//! The decisions that were taken, for people who ask what another policy set would have said.

use serde::{Deserialize, Serialize};

use super::Broker;
use super::ports::DecisionEntry;
use super::refusal::Refusal;
use crate::domain::time::Timestamp;

/// Decisions of one page.
const PAGE: u32 = 200;

/// A page of decisions, oldest first.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Decisions {
    /// The decisions: everything the policy saw, and what it answered.
    #[schema(value_type = Vec<Object>)]
    pub decisions: Vec<DecisionEntry>,
    /// Seconds that people took to sign the grants of this page, in no order.
    pub seconds_to_sign: Vec<u64>,
}

impl Broker {
    /// Decisions at or after `since`, from the `skip`th on.
    pub async fn decisions(&self, since: Timestamp, skip: u64) -> Result<Decisions, Refusal> {
        let decisions =
            self.store.decisions(since, skip, PAGE).await.map_err(|e| self.gate.store_failed(&e))?;
        let mut seconds_to_sign = Vec::new();
        for entry in decisions.iter().filter(|entry| entry.moment == "propose") {
            let record = self.store.grant(entry.grant).await.map_err(|e| self.gate.store_failed(&e))?;
            let Some(record) = record else { continue };
            let sealed_at = record.sealed.grant().time.sealed_at;
            let took = record.approvals.iter().map(|approval| approval.received_at.since(sealed_at));
            seconds_to_sign.extend(took.filter_map(|seconds| u64::try_from(seconds).ok()));
        }
        Ok(Decisions { decisions, seconds_to_sign })
    }
}
