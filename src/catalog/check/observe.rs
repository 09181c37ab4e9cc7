//! Read-only sets: every action only reads or lists, and none of them returns what an agent must not see.

use std::collections::BTreeMap;

use super::{Checker, built_in_samples};
use crate::catalog::document::ObserveDocument;
use crate::catalog::iam::{AccessLevel, sensitive_read};
use crate::catalog::permission::{Permission, Purpose};
use crate::catalog::resolved::{ObserveSet, Target};
use crate::domain::principal::Environment;

impl Checker<'_> {
    pub(super) fn observe(
        &mut self,
        path: &str,
        written: &ObserveDocument,
        environments: &BTreeMap<Environment, Target>,
    ) -> Option<ObserveSet> {
        let before = self.errors.len();
        let places = self.places(path, &written.environments, written.provider, environments);
        if !(60..=900).contains(&written.seconds) {
            self.fail(format!("{path}.seconds"), "it must be within 60 to 900");
        }
        let samples = built_in_samples().into_iter().collect();
        let permissions =
            self.permissions(path, &written.statements, written.provider, &samples, Purpose::Observe);
        for facts in permissions.iter().flat_map(Permission::actions) {
            let action = facts.full_name();
            if !matches!(facts.access_level, AccessLevel::Read | AccessLevel::List) {
                self.fail(format!("{path}.statements"), format!("`{action}` does not only read or list"));
            }
            if let Some(reason) = sensitive_read(&action) {
                self.fail(format!("{path}.statements"), format!("`{action}` {reason}: it is no observation"));
            }
        }
        (self.errors.len() == before).then_some(ObserveSet {
            provider: written.provider,
            environments: places,
            seconds: written.seconds,
            permissions,
        })
    }
}
