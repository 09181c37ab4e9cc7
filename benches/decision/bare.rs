//! Cedar alone: one set with every policy, a request and entities prepared once, without a schema.

use std::collections::{HashMap, HashSet};

use cedar_policy::{
    Authorizer, Context, Entities, Entity, EntityUid, PolicySet, Request, RestrictedExpression as Value,
};
use phasebroker::policy::Facts;

/// Everything an evaluation needs.
pub struct Bare {
    authorizer: Authorizer,
    policies: PolicySet,
    request: Request,
    entities: Entities,
}

impl Bare {
    /// Prepares the members that the measured policies look at.
    pub fn new(files: &[(String, String)], facts: &Facts) -> Self {
        let text: Vec<&str> = files.iter().map(|(_, text)| text.as_str()).collect();
        let agent = uid("Agent", facts.agent.as_str());
        let resource = uid("ActionType", facts.action.as_str());
        let groups: HashSet<EntityUid> =
            facts.agent_groups.iter().map(|group| uid("AgentGroup", group.as_str())).collect();
        let class = Value::new_entity_uid(uid("Class", facts.class.name()));
        let attributes = HashMap::from([("class".to_owned(), class)]);
        let entities = [
            Entity::new(agent.clone(), HashMap::new(), groups).unwrap(),
            Entity::new(resource.clone(), attributes, HashSet::new()).unwrap(),
        ];
        let parameters =
            facts.parameters.iter().map(|(name, value)| Value::new_string(format!("{name}={value}")));
        let context = Context::from_pairs([
            ("environment".to_owned(), Value::new_string(facts.environment.to_string())),
            ("service".to_owned(), Value::new_string(facts.service.clone())),
            ("parameters".to_owned(), Value::new_set(parameters)),
            ("crossed".to_owned(), Value::new_set([])),
        ]);
        let context = context.unwrap();
        Self {
            authorizer: Authorizer::new(),
            policies: text.concat().parse().unwrap(),
            request: Request::new(agent, uid("Action", "execute"), resource, context, None).unwrap(),
            entities: Entities::from_entities(entities, None).unwrap(),
        }
    }

    /// How many policies determined the answer.
    pub fn determining(&self) -> usize {
        let response = self.authorizer.is_authorized(&self.request, &self.policies, &self.entities);
        assert_eq!(response.diagnostics().errors().count(), 0);
        response.diagnostics().reason().count()
    }
}

fn uid(kind: &str, id: &str) -> EntityUid {
    format!("{kind}::\"{id}\"").parse().unwrap()
}
