//! Asks the policy set about one plan and combines every policy that determined the answer into the strictest.

use std::collections::{BTreeSet, HashMap, HashSet};

use cedar_policy::{
    Authorizer, Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request,
    RestrictedExpression as Value,
};

use super::load::PolicySet;
use super::terms::Answer;
use crate::domain::decision::{Decision, Terms, Verdict};
use crate::domain::plan::{Credential, Plan};
use crate::domain::principal::{AgentSlug, Environment, GroupSlug, PersonSlug};

/// What is asked. Everything of the action comes from the plan.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The compiled proposal.
    pub plan: &'a Plan,
    /// Where it is done.
    pub environment: &'a Environment,
    /// The agent that proposes: Cedar's principal.
    pub proposing_agent: &'a AgentSlug,
    /// The agent that will claim.
    pub claiming_agent: &'a AgentSlug,
    /// Groups of the proposing agent.
    pub agent_groups: &'a BTreeSet<GroupSlug>,
    /// The person of record.
    pub requester: &'a PersonSlug,
}

impl PolicySet {
    /// The strictest answer of all policies that determined it; deny when none permits or any errs.
    pub fn decide(&self, question: &Question<'_>) -> Decision {
        let (request, entities) = match self.ask(question) {
            Ok(asked) => asked,
            Err(problem) => {
                return deny(vec![printable(&format!("the question cannot be put: {problem}"))]);
            }
        };
        let response = Authorizer::new().is_authorized(&request, &self.cedar, &entities);
        // INVARIANT: re-decided. Cedar skips a policy that errs, so any error is a denial, whatever the rest says.
        let mut errors: Vec<String> =
            response.diagnostics().errors().map(|error| printable(&error.to_string())).collect();
        if !errors.is_empty() {
            errors.sort();
            return deny(errors);
        }
        let mut reasons: Vec<String> = response.diagnostics().reason().map(|id| id.to_string()).collect();
        reasons.sort();
        if response.decision() != cedar_policy::Decision::Allow {
            if reasons.is_empty() {
                reasons.push("no policy permits it".into());
            }
            return deny(reasons);
        }
        self.strictest(reasons)
    }

    fn strictest(&self, reasons: Vec<String>) -> Decision {
        let mut suggest = false;
        let mut combined: Option<Terms> = None;
        for id in &reasons {
            match self.annotated.get(id).map(|annotated| &annotated.answer) {
                Some(Answer::Autonomous) => {}
                Some(Answer::SuggestOnly) => suggest = true,
                Some(Answer::NeedsApproval(terms)) => {
                    combined = Some(match combined {
                        None => terms.clone(),
                        Some(other) => both(&other, terms),
                    });
                }
                Some(Answer::Forbid) | None => {
                    return deny(vec![format!("policy `{id}` permitted without an answer")]);
                }
            }
        }
        let verdict = match combined {
            _ if reasons.is_empty() => return deny(vec!["no policy permits it".into()]),
            _ if suggest => Verdict::SuggestOnly,
            Some(terms) => match terms.rule.check() {
                Ok(()) => Verdict::NeedsApproval(terms),
                Err(bad) => {
                    return deny(vec![format!("{} (policies: {})", bad, reasons.join(", "))]);
                }
            },
            None => return deny(vec!["autonomous permits carry no terms".into()]),
        };
        Decision { verdict, reasons }
    }

    fn ask(&self, question: &Question<'_>) -> Result<(Request, Entities), String> {
        let action = question.plan.action();
        let agent = uid("Agent", question.proposing_agent.as_str())?;
        let groups = question
            .agent_groups
            .iter()
            .map(|group| uid("AgentGroup", group.as_str()))
            .collect::<Result<HashSet<_>, _>>()?;
        let resource = uid("ActionType", action.action_type.as_str())?;
        let named = |name: &str| ("name".to_owned(), text(name));
        let entities = [
            Entity::new(agent.clone(), HashMap::from([named(question.proposing_agent.as_str())]), groups)
                .map_err(|e| e.to_string())?,
            Entity::new(
                resource.clone(),
                HashMap::from([
                    named(action.action_type.as_str()),
                    ("class".into(), Value::new_entity_uid(uid("Class", action.class.name())?)),
                    ("reversible".into(), Value::new_bool(action.reversible)),
                ]),
                HashSet::new(),
            )
            .map_err(|e| e.to_string())?,
        ];
        let entities = Entities::from_entities(entities, Some(&self.schema)).map_err(|e| e.to_string())?;
        let context = Context::from_pairs(context(question)?).map_err(|e| e.to_string())?;
        let request = Request::new(agent, uid("Action", "execute")?, resource, context, Some(&self.schema))
            .map_err(|e| e.to_string())?;
        Ok((request, entities))
    }
}

fn context(question: &Question<'_>) -> Result<Vec<(String, Value)>, String> {
    let (action, credential) = (question.plan.action(), question.plan.credential());
    let mut pairs = vec![
        ("environment", text(question.environment.as_str())),
        ("provider", Value::new_entity_uid(uid("Provider", credential.provider().name())?)),
        ("changes", Value::new_long(i64::from(action.changes))),
        ("work_seconds", Value::new_long(i64::from(credential.work_seconds()))),
        ("parameter_names", set(action.parameters.keys().cloned())),
        ("unenforced", set(action.unenforced.iter().cloned())),
        ("parameters", set(action.parameters.iter().map(|(name, value)| format!("{name}={value}")))),
        ("exceptions", set(action.exceptions.iter().cloned())),
        ("requester", text(question.requester.as_str())),
        ("claiming_agent", text(question.claiming_agent.as_str())),
    ];
    match credential {
        Credential::Aws(aws) => {
            pairs.extend([("account", text(&aws.account)), ("region", text(&aws.region))]);
        }
        Credential::Jwt(jwt) => pairs.push(("audience", text(&jwt.audience))),
    }
    Ok(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Per group the larger number, all groups, custodies both accept, the shorter of each time.
fn both(one: &Terms, other: &Terms) -> Terms {
    Terms {
        rule: one.rule.and(&other.rule),
        approve_seconds: one.approve_seconds.min(other.approve_seconds),
        claim_seconds: one.claim_seconds.min(other.claim_seconds),
        work_seconds: one.work_seconds.min(other.work_seconds),
    }
}

fn deny(reasons: Vec<String>) -> Decision {
    Decision { verdict: Verdict::Deny, reasons }
}

fn uid(kind: &str, id: &str) -> Result<EntityUid, String> {
    let kind: EntityTypeName = kind.parse().map_err(|e| format!("{e}"))?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

fn text(text: &str) -> Value {
    Value::new_string(text.to_owned())
}

fn set(items: impl Iterator<Item = String>) -> Value {
    Value::new_set(items.map(Value::new_string))
}

/// Reasons go into documents of printable ASCII.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { ' ' }).take(300).collect()
}
