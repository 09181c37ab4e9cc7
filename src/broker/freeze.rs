//! Freeze: a stop that lasts. Nothing of its kind is issued until people sign that it may be again; that, and not the
//! freeze, is an administration grant. It works with an unwritable store, from memory and the journal beside the head.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Broker;
use super::end::in_time;
use super::ports::{Notice, StoreError};
use super::refusal::{Code, Refusal};
use super::stop::Stopped;
use crate::domain::event::{Event, EventKind, SaltedText};
use crate::domain::freeze::{Freeze, FreezeKey};
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
        self.live.freeze(key.clone(), false);
        let event = frozen_event(&key, actor.clone(), now).text(SaltedText::new("reason", reason));
        let freeze = Freeze { key: key.clone(), by: actor.clone(), at: now };
        let recorded = self.record_freeze(freeze, event).await.is_ok();
        let stopped = self.carry_out(StopTarget::from(&key), actor, now, None).await;
        self.keep_journal().await;
        self.notifier.notify(Notice {
            kind: "frozen",
            id: key.to_string(),
            link: format!("{}/v1/freezes", self.settings.issuer),
        });
        Ok(Frozen { key, stopped, recorded })
    }

    /// The freezes in force.
    pub async fn freezes(&self) -> Result<Vec<FreezeView>, Refusal> {
        let stored = self.store.freezes().await.map_err(|e| self.gate.store_failed(&e))?;
        let view = |key: FreezeKey| {
            let known = stored.iter().find(|freeze| freeze.key == key);
            FreezeView { by: known.map(|f| f.by.to_string()), at: known.map(|f| f.at), key }
        };
        Ok(self.live.frozen().into_iter().map(view).collect())
    }

    /// INVARIANT: stop-always-works. Refuses what is frozen, by memory; the opening transaction looks again.
    pub(super) fn not_frozen(&self, keys: &[FreezeKey]) -> Result<(), Refusal> {
        let frozen = self.live.frozen();
        match keys.iter().find(|key| frozen.contains(key)) {
            None => Ok(()),
            Some(key) => Err(frozen_refusal(key)),
        }
    }

    /// Writes down freezes that the store could not take so far.
    pub(super) async fn write_freezes(&self) {
        let now = self.gate.now();
        for key in self.live.unrecorded_freezes() {
            let event = frozen_event(&key, Actor::Broker, now).fact("why", "recorded late");
            let freeze = Freeze { key, by: Actor::Broker, at: now };
            // A failure is told by the gate; the next sweep tries again.
            let _ = self.record_freeze(freeze, event).await;
        }
    }

    /// At start: what the store knows, and what the former life could not tell it.
    pub(super) async fn freeze_again(
        &self,
        unrecorded: BTreeSet<FreezeKey>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for freeze in self.store.freezes().await? {
            self.live.freeze(freeze.key, true);
        }
        for key in unrecorded {
            self.live.freeze(key.clone(), false);
            let event =
                frozen_event(&key, Actor::Broker, now).fact("why", "it was frozen before the restart");
            self.record_freeze(Freeze { key, by: Actor::Broker, at: now }, event).await?;
        }
        Ok(())
    }

    async fn record_freeze(&self, freeze: Freeze, event: Event) -> Result<(), StoreError> {
        let key = freeze.key.clone();
        match in_time(self.store.freeze(freeze, event)).await {
            Ok(head) => {
                self.gate.committed(head);
                self.live.freeze(key, true);
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
