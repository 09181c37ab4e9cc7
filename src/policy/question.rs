//! Puts the facts as a Cedar request: principal, resource and context, each checked against the schema.

use std::collections::{HashMap, HashSet};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression as Value,
    Schema,
};

use super::facts::Facts;

/// Names of the schema's kinds, parsed once.
#[derive(Debug, Clone)]
pub(super) struct Kinds {
    agent: EntityTypeName,
    agent_group: EntityTypeName,
    class: EntityTypeName,
    provider: EntityTypeName,
    attestation: EntityTypeName,
    budget: EntityTypeName,
    pub(super) action_type: EntityTypeName,
    execute: EntityUid,
}

impl Kinds {
    pub(super) fn parse() -> Result<Self, String> {
        let kind = |name: &str| name.parse::<EntityTypeName>().map_err(|error| error.to_string());
        Ok(Self {
            agent: kind("Agent")?,
            agent_group: kind("AgentGroup")?,
            class: kind("Class")?,
            provider: kind("Provider")?,
            attestation: kind("Attestation")?,
            budget: kind("Budget")?,
            action_type: kind("ActionType")?,
            execute: uid(&kind("Action")?, "execute"),
        })
    }

    /// The request and its entities; an error when the schema does not know something of it, such as a budget.
    pub(super) fn ask(&self, facts: &Facts, schema: &Schema) -> Result<(Request, Entities), String> {
        let agent = uid(&self.agent, facts.agent.as_str());
        let resource = uid(&self.action_type, facts.action.as_str());
        let groups: HashSet<EntityUid> =
            facts.agent_groups.iter().map(|group| uid(&self.agent_group, group.as_str())).collect();
        let named = |name: &str| ("name".to_owned(), text(name));
        let attributes = HashMap::from([
            named(facts.action.as_str()),
            ("class".into(), one(&self.class, facts.class.name())),
            ("reversible".into(), Value::new_bool(facts.reversible)),
        ]);
        let entities = [
            Entity::new(agent.clone(), HashMap::from([named(facts.agent.as_str())]), groups)
                .map_err(|error| error.to_string())?,
            Entity::new(resource.clone(), attributes, HashSet::new()).map_err(|error| error.to_string())?,
        ];
        let entities = Entities::from_entities(entities, Some(schema)).map_err(|error| error.to_string())?;
        let context = Context::from_pairs(self.context(facts)).map_err(|error| error.to_string())?;
        let request = Request::new(agent, self.execute.clone(), resource, context, Some(schema))
            .map_err(|error| error.to_string())?;
        Ok((request, entities))
    }

    fn context(&self, facts: &Facts) -> Vec<(String, Value)> {
        let crossed = facts.crossed().map(|name| one(&self.budget, name.as_str()));
        let parameters = facts.parameters.iter().map(|(name, value)| text(&format!("{name}={value}")));
        let history = [
            ("observations", count(facts.history.observations)),
            ("proposals", count(facts.history.proposals)),
            ("claims", count(facts.history.claims)),
        ];
        let history = history.map(|(name, value)| (name.to_owned(), value));
        let mut pairs = vec![
            ("environment", text(facts.environment.as_str())),
            ("service", text(&facts.service)),
            ("provider", one(&self.provider, facts.provider.name())),
            ("changes", count(facts.changes.into())),
            ("work_seconds", count(facts.work_seconds.into())),
            ("parameter_names", texts(facts.parameters.keys())),
            ("unenforced", texts(&facts.unenforced)),
            ("parameters", Value::new_set(parameters)),
            ("exceptions", texts(&facts.exceptions)),
            ("unscopable", texts(&facts.unscopable)),
            ("resources", texts(&facts.resources)),
            ("preconditions", texts(&facts.preconditions)),
            ("plan_digest", Value::new_bool(facts.plan_digest)),
            ("voucher", Value::new_bool(facts.voucher)),
            ("requester", text(facts.requester.as_str())),
            (
                "requester_groups",
                Value::new_set(facts.requester_groups.iter().map(|group| text(group.as_str()))),
            ),
            ("asked_in_person", Value::new_bool(facts.asked_in_person)),
            ("claiming_agent", text(facts.claiming_agent.as_str())),
            ("attestation", one(&self.attestation, facts.attestation.name())),
            ("tainted", Value::new_bool(facts.tainted)),
            // No two names are the same, so this cannot fail; a missing member is refused by the schema.
            ("history", Value::new_record(history).unwrap_or_else(|_| Value::new_bool(false))),
            ("crossed", Value::new_set(crossed)),
            ("freezes", texts(&facts.freezes)),
            ("now", Value::new_datetime(facts.now.rfc3339())),
            ("hour", Value::new_long(facts.hour())),
            ("weekday", Value::new_long(facts.weekday())),
        ];
        let optional =
            [("account", &facts.account), ("region", &facts.region), ("audience", &facts.audience)];
        pairs.extend(optional.into_iter().filter_map(|(name, value)| Some((name, text(value.as_ref()?)))));
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn one(kind: &EntityTypeName, id: &str) -> Value {
    Value::new_entity_uid(uid(kind, id))
}

fn text(text: &str) -> Value {
    Value::new_string(text.to_owned())
}

fn texts<'a>(items: impl IntoIterator<Item = &'a String>) -> Value {
    Value::new_set(items.into_iter().map(|item| text(item)))
}

fn count(number: u64) -> Value {
    Value::new_long(i64::try_from(number).unwrap_or(i64::MAX))
}
