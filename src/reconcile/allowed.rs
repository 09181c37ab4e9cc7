//! What a session policy allows, as far as a record of CloudTrail can be held against it: actions and resources of its
//! Allow statements. Conditions are AWS's to enforce; a record does not say how they were answered.

use std::collections::BTreeSet;

use serde_json::Value;

use super::actions::{Told, told};
use super::arn::{Arn, Piece, ends_with_id, fits, is_name, is_resource, literal, meets, pattern, same_kind};
use super::places::{Named, named, values};
use super::record::Record;
use crate::domain::sent::statements;

/// Resources of a call that are kept until what was allowed is known; what touched more is for a person.
const MAX_KEPT: usize = 16;
/// Longest text that a finding quotes, in characters.
const MAX_SHOWN_CHARS: usize = 200;

/// The Allow statements of a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    statements: Vec<Statement>,
    /// Values of the parameters that were approved.
    values: Option<BTreeSet<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    actions: Vec<String>,
    resources: Vec<String>,
    /// Texts of its conditions.
    conditions: Vec<String>,
}

/// What a call touched, as far as its record says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touches {
    /// All of it.
    All {
        /// Every resource.
        named: Vec<Named>,
        /// What looks like the name of a resource and stands elsewhere in the request, or in `resources`.
        beside: Vec<String>,
        /// Members that a parameter must have said, with their values.
        values: Vec<(&'static str, String)>,
    },
    /// Not all of it.
    Unsaid(&'static str),
}

/// Whether what was touched was approved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touched {
    /// All of it.
    Approved,
    /// This was not.
    Other(String),
    /// The record does not let one decide.
    Unsaid(String),
}

impl Touches {
    /// Reads a record; `whole` keeps however much there is.
    pub(super) fn of(record: &Record, whole: bool) -> Self {
        const MANY: &str = "it touched more resources than are kept until what was allowed is known";
        let (named, leaves) = match (named(record), record.leaves()) {
            (Err(why), _) => return Self::Unsaid(why),
            (_, None) => return Self::Unsaid("its request is too large to be looked at"),
            (Ok(named), Some(leaves)) => (named, leaves),
        };
        let is_taken = |text: &str| named.iter().any(|one| one.value == text);
        let texts = record.arns.iter().chain(&leaves).filter(|text| is_name(text) && !is_taken(text));
        let beside: Vec<String> = texts.cloned().collect::<BTreeSet<_>>().into_iter().collect();
        match !whole && named.len().saturating_add(beside.len()) > MAX_KEPT {
            true => Self::Unsaid(MANY),
            false => Self::All { named, beside, values: values(record) },
        }
    }
}

impl Allowed {
    /// Reads a policy text. `None` for one that allows by `NotAction` or `NotResource`, which ours never do.
    pub fn read(policy: &str) -> Option<Self> {
        let allows = statements(policy).into_iter().filter(|one| one.get("Effect") == Some(&"Allow".into()));
        let read = |one: Value| {
            let (actions, resources) = (texts(one.get("Action")?)?, texts(one.get("Resource")?)?);
            let conditions = one.get("Condition").map(all_texts).unwrap_or_default();
            Some(Statement { actions, resources, conditions })
        };
        let statements: Vec<Statement> = allows.map(read).collect::<Option<_>>()?;
        (!statements.is_empty()).then_some(Self { statements, values: None })
    }

    /// With the values of the parameters that people signed.
    pub fn with_values(self, values: impl IntoIterator<Item = String>) -> Self {
        Self { values: Some(values.into_iter().collect()), ..self }
    }

    /// Every action.
    pub fn actions(&self) -> BTreeSet<&str> {
        self.statements.iter().flat_map(|one| &one.actions).map(String::as_str).collect()
    }

    /// Whether it allows this action, on whatever.
    pub fn allows(&self, action: &str) -> bool {
        self.statements.iter().any(|one| one.allows(action))
    }

    /// Whether it allows one of the actions on everything.
    pub fn everywhere(&self, actions: &[String]) -> bool {
        self.of(actions).any(|one| one.resources.iter().any(|resource| resource == "*"))
    }

    /// Whether the uses of each of its actions are known by the events they leave.
    pub fn is_known(&self) -> bool {
        self.actions().into_iter().all(|action| told(action).is_some())
    }

    /// Whether no trail tells of its uses unless asked to.
    pub fn is_untold(&self) -> bool {
        self.actions().into_iter().all(|action| told(action) == Some(Told::IfAsked))
    }

    /// INVARIANT: exact-scope. Whether everything that a call of one of `actions` touched was approved. One resource that
    /// was not outweighs every one that was; one that cannot be told is never taken for approved.
    pub(super) fn touched(&self, actions: &[String], touches: &Touches) -> Touched {
        let (named, beside, values) = match touches {
            Touches::All { named, beside, values } => (named, beside, values),
            Touches::Unsaid(why) => return Touched::Unsaid((*why).to_owned()),
        };
        let resources: Vec<&str> =
            self.of(actions).flat_map(|one| &one.resources).map(String::as_str).collect();
        let approved =
            |one: &Named| resources.iter().any(|of| one.arns.iter().any(|arn| is_resource(of, arn)));
        if let Some(other) = named.iter().find(|one| !approved(one)) {
            return match Self::may_be(&resources, other) {
                true => {
                    Touched::Unsaid(format!("whether `{}` was approved is not certain", cut(&other.shown)))
                }
                false => Touched::Other(cut(&other.shown)),
            };
        }
        let mut unsaid = None;
        for text in beside {
            let known =
                resources.iter().any(|of| fits(&pattern(of), &literal(text)) || ends_with_id(of, text))
                    || self.of(actions).any(|one| one.conditions.contains(text));
            if known || holds(&resources, text) {
                continue;
            }
            if resources.iter().any(|of| same_kind(of, text)) {
                return Touched::Other(cut(text));
            }
            unsaid = Some(format!("its request also names `{}`", cut(text)));
        }
        // What AWS cannot bind must be what people signed, where a parameter says it at all.
        let other = values
            .iter()
            .find(|(_, value)| self.values.as_ref().is_some_and(|approved| !approved.contains(value)));
        if let Some((member, value)) = other {
            unsaid = Some(format!("`{member}` is `{}`, which no approved parameter says", cut(value)));
        }
        unsaid.map_or(Touched::Approved, Touched::Unsaid)
    }

    /// Whether a name of which a part is unknown could be that of an approved resource.
    fn may_be(resources: &[&str], named: &Named) -> bool {
        let partly = named.arns.iter().filter(|arn| arn.iter().any(|piece| !matches!(piece, Piece::Char(_))));
        partly.into_iter().any(|arn| resources.iter().any(|resource| meets(&pattern(resource), arn)))
    }

    fn of<'a>(&'a self, actions: &'a [String]) -> impl Iterator<Item = &'a Statement> {
        self.statements.iter().filter(move |one| actions.iter().any(|action| one.allows(action)))
    }
}

impl Statement {
    fn allows(&self, action: &str) -> bool {
        let action = literal(&action.to_ascii_lowercase());
        self.actions.iter().any(|written| fits(&pattern(&written.to_ascii_lowercase()), &action))
    }
}

/// Whether a text is what an approved resource lies in: a bucket of an object, the cluster of a service.
fn holds(resources: &[&str], text: &str) -> bool {
    let Some(outer) = Arn::parse(text) else { return false };
    let is_in = |resource: &Arn<'_>| {
        let same = (resource.partition, resource.service, resource.region, resource.account)
            == (outer.partition, outer.service, outer.region, outer.account);
        let cluster = outer.path.strip_prefix("cluster/");
        let owner = resource.path.split('/').nth(1);
        match outer.service {
            "s3" => same && resource.path.strip_prefix(outer.path).is_some_and(|rest| rest.starts_with('/')),
            "ecs" => same && cluster.is_some() && cluster == owner,
            _ => false,
        }
    };
    resources.iter().filter_map(|resource| Arn::parse(resource)).any(|resource| is_in(&resource))
}

/// One text or several.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// Every text at whatever depth.
fn all_texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(all_texts).collect(),
        Value::Object(members) => members.values().flat_map(all_texts).collect(),
        _ => Vec::new(),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests;
