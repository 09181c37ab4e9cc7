//! Freeze: a stop that lasts. Nothing of its kind is issued until people sign that it may be again; that, and not the
//! freeze, is an administration grant. It works with an unwritable store, from memory and the journal beside the head.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Broker;
use super::end::in_time;
use super::frozen::Asked;
use super::ports::{Notice, StoreError};
use super::refusal::{Code, Refusal};
use super::stop::Stopped;
use crate::domain::event::{Event, EventKind, SaltedText};
use crate::domain::freeze::{Freeze, FreezeKey};
use crate::domain::lease::Lease;
use crate::domain::principal::{ActionType, Actor, AgentSlug, Environment, PersonSlug};
use crate::domain::stop::StopTarget;
use crate::domain::time::Timestamp;

/// What a freeze did.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Frozen {
    /// What is frozen now.
    #[schema(value_type = String)]
    pub key: FreezeKey,
    /// What of it was ended.
    pub stopped: Stopped,
    /// Whether the freeze itself was written down at once; if not, it holds all the same and is written when it can be.
    pub recorded: bool,
}

/// A freeze in force, for people.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FreezeView {
    /// What is frozen.
    #[schema(value_type = String)]
    pub key: FreezeKey,
    /// Who froze it; absent while the store does not know it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub at: Option<Timestamp>,
}

impl Broker {
    /// A person freezes something: what is open of it ends, and nothing of it is issued from this instant on.
    pub async fn freeze(
        self: &Arc<Self>,
        person: &PersonSlug,
        key: FreezeKey,
        reason: String,
    ) -> Result<Frozen, Refusal> {
        self.may_stop(person, &reason)?;
        self.known(&key)?;
        let now = self.gate.now();
        let actor = Actor::Person(person.clone());
        let event = frozen_event(&key, actor.clone(), now).text(SaltedText::new("reason", reason));
        Ok(self.put_freeze(key, actor, now, event).await)
    }

    /// The guardrails freeze an agent, with what led to it; its key, unless it is frozen already.
    pub(super) async fn freeze_by_rule(
        self: &Arc<Self>,
        agent: &AgentSlug,
        why: &'static str,
        facts: [(&'static str, String); 3],
    ) -> Option<String> {
        let (key, now) = (FreezeKey::Agent(agent.clone()), self.gate.now());
        if self.frozen.keys().contains(&key) {
            return None;
        }
        let event = frozen_event(&key, Actor::Broker, now).fact("why", why);
        let event = facts.into_iter().fold(event, |event, (name, value)| event.fact(name, value));
        tracing::warn!(agent = %agent, why, "the guardrails freeze an agent after a reconciliation");
        Some(self.put_freeze(key, Actor::Broker, now, event).await.key.to_string())
    }

    async fn put_freeze(
        self: &Arc<Self>,
        key: FreezeKey,
        actor: Actor,
        now: Timestamp,
        event: Event,
    ) -> Frozen {
        let asked = self.frozen.freeze(key.clone(), now);
        // Before the store: a restart must not forget it, whatever the store does.
        self.keep_journal().await;
        let freeze = Freeze { key: key.clone(), by: actor.clone(), at: asked.at };
        let recorded = self.record_freeze(freeze, asked, event).await.is_ok();
        let stopped = self.carry_out(StopTarget::from(&key), actor, now, None).await;
        self.keep_journal().await;
        self.notifier.notify(Notice {
            kind: "frozen",
            id: key.to_string(),
            link: format!("{}/v1/freezes", self.settings.issuer),
        });
        Frozen { key, stopped, recorded }
    }

    /// The freezes in force, from memory; who and since when, as far as the store can say.
    pub async fn freezes(&self) -> Vec<FreezeView> {
        let stored = self.store.freezes().await.unwrap_or_else(|error| {
            self.gate.store_failed(&error);
            Vec::new()
        });
        let view = |key: FreezeKey| {
            let known = stored.iter().find(|freeze| freeze.key == key);
            FreezeView { by: known.map(|f| f.by.to_string()), at: known.map(|f| f.at), key }
        };
        self.frozen.keys().into_iter().map(view).collect()
    }

    /// INVARIANT: stop-always-works. Refuses what is frozen, by memory; the opening transaction looks again.
    pub(super) fn not_frozen(&self, keys: &[FreezeKey]) -> Result<(), Refusal> {
        let frozen = self.frozen.keys();
        match keys.iter().find(|key| frozen.contains(key)) {
            None => Ok(()),
            Some(key) => Err(frozen_refusal(key)),
        }
    }

    /// Writes down freezes that the store could not take so far.
    pub(super) async fn write_freezes(&self) {
        for (key, asked) in self.frozen.unrecorded() {
            // A failure is told by the gate; the next sweep tries again.
            let _ = self.write_freeze(key, asked).await;
        }
    }

    /// The freeze that signatures given now would lift, in the store's knowledge before they are counted: one that the
    /// store did not hear of would be lifted by signatures that were given before it.
    pub(super) async fn settled_freeze(&self, key: &FreezeKey) -> Result<Option<Asked>, StoreError> {
        // Read first: one that is asked for from here on is not known, and stays.
        let known = self.frozen.last_asked(key);
        if let Some(asked) = self.frozen.unrecorded().get(key) {
            self.write_freeze(key.clone(), *asked).await?;
        }
        Ok(known)
    }

    /// It counts from when it was asked for, not from when the store could take it.
    async fn write_freeze(&self, key: FreezeKey, asked: Asked) -> Result<(), StoreError> {
        let event = frozen_event(&key, Actor::Broker, self.gate.now()).fact("why", "recorded late");
        self.record_freeze(Freeze { key, by: Actor::Broker, at: asked.at }, asked, event).await
    }

    /// At start: what the store knows, and what the former life could not tell it, which is written when it can be.
    pub(super) async fn freeze_again(
        &self,
        unrecorded: BTreeMap<FreezeKey, Timestamp>,
    ) -> Result<(), StoreError> {
        let known = self.store.freezes().await;
        for freeze in known.iter().flatten() {
            self.frozen.restored(freeze.key.clone(), freeze.at);
        }
        for (key, at) in unrecorded {
            self.frozen.freeze(key, at);
        }
        known?;
        self.write_freezes().await;
        Ok(())
    }

    async fn record_freeze(&self, freeze: Freeze, asked: Asked, event: Event) -> Result<(), StoreError> {
        let key = freeze.key.clone();
        match in_time(self.store.freeze(freeze, event)).await {
            Ok(head) => {
                self.gate.committed(head);
                self.frozen.recorded(&key, asked);
                Ok(())
            }
            Err(error) => {
                self.gate.store_failed(&error);
                Err(error)
            }
        }
    }

    /// A freeze of something that does not exist would stop nothing, and whoever typed it must hear so.
    fn known(&self, key: &FreezeKey) -> Result<(), Refusal> {
        let rules = self.rules();
        let (known, kind) = match key {
            FreezeKey::Everything => return Ok(()),
            FreezeKey::Agent(agent) => (rules.directory.agent(agent).is_some(), "agent of the directory"),
            FreezeKey::Action(action) => {
                (rules.catalog.actions().contains_key(action), "action type of the catalog")
            }
            FreezeKey::Environment(environment) => {
                (rules.catalog.has_environment(environment), "environment of the catalog")
            }
        };
        match known {
            true => Ok(()),
            false => {
                Err(Refusal::new(Code::BadRequest, format!("`{key}` names no {kind}; nothing was frozen")))
            }
        }
    }
}

/// The refusal of what is frozen.
pub(super) fn frozen_refusal(key: &FreezeKey) -> Refusal {
    Refusal::new(
        Code::Frozen,
        format!("`{key}` is frozen; people must sign that it may go on (`phasebroker unfreeze`)"),
    )
}

/// Everything whose freeze keeps an agent out of an environment.
pub(super) fn keys_of(agent: &AgentSlug, environment: &Environment) -> Vec<FreezeKey> {
    vec![FreezeKey::Everything, FreezeKey::Agent(agent.clone()), FreezeKey::Environment(environment.clone())]
}

/// Everything whose freeze keeps a lease from being minted and released.
pub(super) fn keys_of_lease(lease: &Lease) -> Vec<FreezeKey> {
    let mut keys = keys_of(&lease.agent, &lease.environment);
    if lease.grant.is_some() {
        keys.extend(lease.action.clone().map(FreezeKey::Action));
    }
    keys.extend(lease.proposing_agent.clone().map(FreezeKey::Agent));
    keys
}

/// Everything whose freeze keeps an action from being proposed and claimed.
pub(super) fn keys_of_action(
    agents: [&AgentSlug; 2],
    action: &ActionType,
    environment: &Environment,
) -> Vec<FreezeKey> {
    let [proposing, claiming] = agents;
    let mut keys = keys_of(proposing, environment);
    keys.push(FreezeKey::Action(action.clone()));
    if claiming != proposing {
        keys.push(FreezeKey::Agent(claiming.clone()));
    }
    keys
}

fn frozen_event(key: &FreezeKey, actor: Actor, now: Timestamp) -> Event {
    Event::new(EventKind::Frozen, actor, now).fact("key", key.to_string())
}
