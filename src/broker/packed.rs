//! How much of AWS's packed size the session policies of each action type took when last measured. Nothing computes it
//! beforehand (STS API reference, AssumeRole, PackedPolicySize), so that the last answer is the best that people can be told.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::Broker;
use super::ports::PackedSize;
use super::views::LeaseView;
use crate::domain::lease::Lease;
use crate::domain::principal::ActionType;

/// Percent from which people are warned.
pub const WARN_FROM_PERCENT: u32 = 80;

/// What was measured last, by action type.
#[derive(Debug, Default)]
pub(super) struct Packed(Mutex<BTreeMap<ActionType, PackedSize>>);

impl Packed {
    fn put(&self, measured: PackedSize) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(measured.action.clone(), measured);
    }

    fn of(&self, action: &ActionType) -> Option<PackedSize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(action).cloned()
    }
}

impl Broker {
    /// The last measured percent of an action type, or of an observe set.
    pub fn packed_percent(&self, action: &ActionType) -> Option<u32> {
        self.packed.of(action).map(|measured| measured.percent)
    }

    /// A lease as callers see it, with what was last measured of its action or observe set.
    pub fn lease_view(&self, lease: &Lease) -> LeaseView {
        let packed_policy_percent = lease.action.as_ref().and_then(|action| self.packed_percent(action));
        LeaseView { packed_policy_percent, ..LeaseView::from(lease) }
    }

    /// Takes up what was measured before this process. It stops nothing: what is not known is not warned of.
    pub(super) async fn recall_packed(&self) {
        match self.store.packed_sizes().await {
            Ok(measured) => measured.into_iter().for_each(|one| self.know_packed(one)),
            Err(error) => tracing::warn!(%error, "earlier packed policy sizes are not known"),
        }
    }

    /// A session policy was measured.
    pub(super) fn measured(&self, measured: PackedSize) {
        if measured.percent >= WARN_FROM_PERCENT {
            tracing::warn!(
                action = %measured.action,
                packed_policy.percent = measured.percent,
                "a session policy is close to AWS's packed size: make the entry smaller before STS refuses it"
            );
        }
        self.know_packed(measured);
    }

    /// What people should know of an action before it is minted.
    pub(super) fn packed_warning(&self, action: &ActionType) -> Vec<String> {
        let near = self.packed.of(action).filter(|measured| measured.percent >= WARN_FROM_PERCENT);
        let warning = |measured: PackedSize| {
            format!(
                "the session policy of `{}` took {} % of AWS's packed size when it was last minted, at {}; from 100 % on STS \
                 refuses it, and then nothing can be claimed",
                measured.action, measured.percent, measured.at
            )
        };
        near.map(warning).into_iter().collect()
    }

    fn know_packed(&self, measured: PackedSize) {
        self.metrics.packed_policy(&measured.action, measured.percent);
        self.packed.put(measured);
    }
}
