//! Who answered what, and how long they looked at it.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::{HASTY_SECONDS, Spread, percent};
use crate::domain::event::EventKind as E;
use crate::domain::id::GrantId;
use crate::domain::time::Timestamp;
use crate::ledger::events::ReadEvent;

/// What one person answered.
#[derive(Debug, Clone, Serialize)]
pub struct Approver {
    /// Who.
    pub person: String,
    /// Grants signed.
    pub approved: u64,
    /// Grants denied.
    pub denied: u64,
    /// Signatures taken back.
    pub withdrawn: u64,
    /// Of every hundred answers, those that approve: 100 may mean that nobody is looking.
    pub approved_percent: Option<u64>,
    /// From sealing to signature; reading time is at most this.
    pub seconds_to_sign: Spread,
    /// Signed in less than ten seconds.
    pub hasty: u64,
    /// Signatures per action type; those of grants sealed before the range are under `?`.
    pub actions: BTreeMap<String, u64>,
    /// Signatures per environment.
    pub environments: BTreeMap<String, u64>,
    /// What was signed, in order.
    pub grants: Vec<Signed>,
}

/// One signature.
#[derive(Debug, Clone, Serialize)]
pub struct Signed {
    /// The grant.
    pub grant: GrantId,
    /// When it was received.
    pub at: Timestamp,
    /// What it allows, where the range holds its sealing.
    pub action: Option<String>,
    /// Where.
    pub environment: Option<String>,
    /// From sealing to signature.
    pub seconds_to_sign: Option<i64>,
}

#[derive(Debug, Default)]
pub(super) struct Approvers {
    grants: HashMap<GrantId, (Option<String>, Option<String>)>,
    people: BTreeMap<String, Answers>,
}

#[derive(Debug, Default)]
struct Answers {
    signed: Vec<Signed>,
    denied: u64,
    withdrawn: u64,
}

impl Approvers {
    pub(super) fn sealed(&mut self, event: &ReadEvent) {
        let Some(grant) = event.grant else { return };
        let text = |name| event.fact_text(name).map(str::to_owned);
        self.grants.insert(grant, (text("action"), text("environment")));
    }

    pub(super) fn answered(&mut self, kind: E, event: &ReadEvent) {
        let (Some(person), Some(grant)) = (event.person(), event.grant) else { return };
        let answers = self.people.entry(person.to_string()).or_default();
        match kind {
            E::GrantDenied => answers.denied = answers.denied.saturating_add(1),
            E::ApprovalWithdrawn => answers.withdrawn = answers.withdrawn.saturating_add(1),
            _ => {
                let (action, environment) = self.grants.get(&grant).cloned().unwrap_or_default();
                let seconds_to_sign = event.fact_number("seconds_to_sign");
                answers.signed.push(Signed { grant, at: event.at, action, environment, seconds_to_sign });
            }
        }
    }

    pub(super) fn finish(self) -> Vec<Approver> {
        let mut all: Vec<Approver> =
            self.people.into_iter().map(|(person, answers)| answers.finish(person)).collect();
        all.sort_by_key(|one| std::cmp::Reverse(one.approved.saturating_add(one.denied)));
        all
    }
}

impl Answers {
    fn finish(self, person: String) -> Approver {
        let approved = u64::try_from(self.signed.len()).unwrap_or(u64::MAX);
        let seconds: Vec<i64> = self.signed.iter().filter_map(|signed| signed.seconds_to_sign).collect();
        let hasty = seconds.iter().filter(|seconds| **seconds < HASTY_SECONDS).count();
        let (mut actions, mut environments) = (BTreeMap::new(), BTreeMap::new());
        for signed in &self.signed {
            let name = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
            *actions.entry(name(&signed.action)).or_default() += 1;
            *environments.entry(name(&signed.environment)).or_default() += 1;
        }
        Approver {
            person,
            approved,
            denied: self.denied,
            withdrawn: self.withdrawn,
            approved_percent: percent(approved, approved.saturating_add(self.denied)),
            seconds_to_sign: Spread::of(seconds),
            hasty: u64::try_from(hasty).unwrap_or(u64::MAX),
            actions,
            environments,
            grants: self.signed,
        }
    }
}
