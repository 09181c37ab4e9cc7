//! Read-only sets: every action only reads or lists, none returns what an agent must not see, and stored data is read
//! only where the set says so.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, built_in_samples};
use crate::catalog::document::ObserveDocument;
use crate::catalog::iam::{AccessLevel, data_read, is_telemetry, never_read};
use crate::catalog::permission::{Permission, Purpose};
use crate::catalog::resolved::{ObserveSet, Target};
use crate::domain::observation::Trust;
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
        // Statements that were refused would make what they list look needless.
        if permissions.len() == written.statements.len() {
            self.reads(path, written, &permissions);
        }
        (self.errors.len() == before).then_some(ObserveSet {
            provider: written.provider,
            environments: places,
            seconds: written.seconds,
            trust: written.trust,
            permissions,
        })
    }

    /// Every action only reads. Stored data is read where it is listed, from resources that are named; secrets never.
    fn reads(&mut self, path: &str, written: &ObserveDocument, permissions: &[Permission]) {
        let mut needed = BTreeSet::new();
        for (permission, facts) in
            permissions.iter().flat_map(|one| one.actions().map(move |facts| (one, facts)))
        {
            let action = facts.full_name();
            let statements = format!("{path}.statements");
            if !matches!(facts.access_level, AccessLevel::Read | AccessLevel::List) {
                self.fail(&statements, format!("`{action}` does not only read or list"));
            } else if let Some(reason) = never_read(&action) {
                self.fail(&statements, format!("`{action}` {reason}: it is no observation"));
            } else if let Some(reason) = data_read(&action) {
                if !written.data_reads.contains(&action) {
                    let problem = format!(
                        "`{action}` {reason}: leave it out, or list it in `data_reads` if that is tolerable"
                    );
                    self.fail(format!("{path}.data_reads"), problem);
                }
                if permission.is_everything() && !facts.is_unscopable() {
                    self.fail(&statements, format!("`{action}` {reason}: name the exact resources, not `*`"));
                }
                needed.insert(action);
            } else if written.trust == Trust::Trusted && is_telemetry(&action) {
                let problem =
                    format!("`{action}` shows what anyone may have written: its set is not trusted");
                self.fail(format!("{path}.trust"), problem);
            }
        }
        if written.trust == Trust::Trusted && !written.data_reads.is_empty() {
            self.fail(
                format!("{path}.trust"),
                "anyone may have written stored data: a set that reads it is not trusted",
            );
        }
        for (at, action) in written.data_reads.iter().enumerate() {
            if !needed.contains(action) {
                let problem =
                    format!("no statement reads stored data with `{}`: remove it", action.escape_default());
                self.fail(format!("{path}.data_reads[{at}]"), problem);
            }
        }
    }
}
