//! Putting other rules in force without a restart: all or nothing, with old and new digests in the ledger.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Broker;
use super::ports::{RulesAuthors, RulesDigests, RulesInForce};
use super::refusal::Refusal;
use super::rules::Rules;
use crate::domain::event::{Event, EventKind};
use crate::domain::principal::Actor;
use crate::domain::time::Timestamp;

/// What a reload changed.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Reloaded {
    /// Digest of the policy set.
    pub policy: String,
    /// Digest of the catalog.
    pub catalog: String,
    /// Digest of the directory.
    pub directory: String,
    /// Digest of the guardrails.
    pub guardrails: String,
    /// Which of them changed.
    pub changed: Vec<String>,
}

impl Broker {
    /// Puts `rules` in force. They were read and checked whole before.
    pub async fn reload(&self, rules: Rules, actor: Actor) -> Result<Reloaded, Refusal> {
        // One at a time: what the store and the memory hold in force must be the same rules.
        let _one = self.reloading.lock().await;
        let now = self.gate.now();
        let before = self.rules().digests();
        let after = rules.digests();
        let changed = differing(Some(before), after);
        if !changed.is_empty() {
            let by = match &actor {
                Actor::Person(person) => [person.clone()].into(),
                Actor::Agent(_) | Actor::Broker => BTreeSet::new(),
            };
            // Whoever put the other parts in force still has.
            let authors = RulesAuthors::clone(&self.in_force_by.load()).changed_by(&before, &after, &by);
            let in_force = in_force(&rules, authors.clone());
            let event = changed_event(Some(before), after, actor, now);
            self.store.put_rules(in_force, event).await.map_err(|e| self.gate.store_failed(&e))?;
            // INVARIANT: no-self-approval. Before the rules: nobody approves in between under rules of their own.
            self.in_force_by.store(Arc::new(authors));
            self.gate.store_recorded(now);
            self.rules.store(Arc::new(rules));
        }
        Ok(Reloaded {
            policy: after.policy.to_string(),
            catalog: after.catalog.to_string(),
            directory: after.directory.to_string(),
            guardrails: after.guardrails.to_string(),
            changed: changed.into_iter().map(str::to_owned).collect(),
        })
    }
}

fn differing(before: Option<RulesDigests>, after: RulesDigests) -> Vec<&'static str> {
    let all = |digests: RulesDigests| {
        [
            ("policy", digests.policy),
            ("catalog", digests.catalog),
            ("directory", digests.directory),
            ("guardrails", digests.guardrails),
        ]
    };
    let old = before.map(all);
    all(after)
        .into_iter()
        .enumerate()
        .filter(|(at, new)| old.is_none_or(|old| old.get(*at) != Some(new)))
        .map(|(_, (name, _))| name)
        .collect()
}

/// What the store keeps of rules that are put in force.
pub(super) fn in_force(rules: &Rules, authors: RulesAuthors) -> RulesInForce {
    RulesInForce {
        digests: rules.digests(),
        directory: serde_json::to_string(rules.directory.document()).unwrap_or_default(),
        authors,
    }
}

/// The event of a change of rules, with old and new digests.
pub(super) fn changed_event(
    before: Option<RulesDigests>,
    after: RulesDigests,
    actor: Actor,
    now: Timestamp,
) -> Event {
    let mut event = Event::new(EventKind::RulesChanged, actor, now)
        .fact("changed", differing(before, after))
        .fact("policy", after.policy.to_string())
        .fact("catalog", after.catalog.to_string())
        .fact("directory", after.directory.to_string())
        .fact("guardrails", after.guardrails.to_string());
    if let Some(old) = before {
        event = event
            .fact("old_policy", old.policy.to_string())
            .fact("old_catalog", old.catalog.to_string())
            .fact("old_directory", old.directory.to_string())
            .fact("old_guardrails", old.guardrails.to_string());
    }
    event
}
