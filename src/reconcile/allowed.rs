//! What a session policy allows, as far as a record of CloudTrail can be held against it: actions and resources of its
//! Allow statements. Conditions are AWS's to enforce; a record does not say how they were answered.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::actions::{Told, told};
use super::arn::{Arn, Piece, ends_with_id, fits, is_name, is_resource, literal, meets, pattern, same_kind};
use super::places::{MAX_NAME_BYTES, MAX_NAMED, Named, Said, named, said, unknown};
use super::record::Record;
use super::rows::{self, Must};
use crate::domain::action::Action;
use crate::domain::sent::{CANARY_ACTION, statements};

/// Resources of a call that are kept until what was allowed is known; what touched more is for a person.
const MAX_KEPT: usize = 16;
/// Bytes of their names.
const MAX_KEPT_BYTES: usize = 4_096;
/// Longest text that a finding quotes, in characters.
const MAX_SHOWN_CHARS: usize = 200;

/// The Allow statements of a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    statements: Vec<Statement>,
    /// What people signed, where they sign.
    signed: Option<Parameters>,
}

/// The parameters that people signed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Parameters {
    values: BTreeMap<String, String>,
    /// Those that AWS does not enforce.
    unenforced: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    actions: Vec<String>,
    resources: Vec<String>,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    operator: String,
    /// In lower case.
    key: String,
    value: String,
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
        /// What further members say that are known.
        said: Vec<Said>,
        /// A member that is not known.
        unknown: Option<String>,
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
        let Some(row) = rows::of_record(record) else {
            return Self::Unsaid("it is not known where such a record says what it touched");
        };
        let (named, said, leaves) = match (named(row, record), said(row, record), record.leaves()) {
            (Err(why), ..) | (_, Err(why), _) => return Self::Unsaid(why),
            (_, _, None) => return Self::Unsaid("its request is too large to be looked at"),
            (Ok(named), Ok(said), Some(leaves)) => (named, said, leaves),
        };
        let is_taken = |text: &str| named.iter().any(|one| one.value == text);
        let texts = record.arns.iter().chain(&leaves).filter(|text| is_name(text) && !is_taken(text));
        let beside: Vec<String> = texts.cloned().collect::<BTreeSet<_>>().into_iter().collect();
        // SECURITY: a request of a megabyte must not be kept, nor held against each resource.
        if beside.iter().any(|text| text.len() > MAX_NAME_BYTES) || beside.len() > MAX_NAMED {
            return Self::Unsaid("its request names more, or by longer names, than is looked at");
        }
        let values = said.iter().filter_map(|one| one.value.as_ref());
        let texts = named.iter().map(|one| &one.value).chain(&beside).chain(values);
        let bytes = texts.fold(0_usize, |sum, text| sum.saturating_add(text.len()));
        let is_much = named.len().saturating_add(beside.len()) > MAX_KEPT || bytes > MAX_KEPT_BYTES;
        match !whole && is_much {
            true => Self::Unsaid(MANY),
            false => Self::All { named, beside, said, unknown: unknown(row, &record.request) },
        }
    }
}

impl Allowed {
    /// Reads a policy text. `None` for one that allows by `NotAction` or `NotResource`, which ours never do.
    pub fn read(policy: &str) -> Option<Self> {
        let allows = statements(policy).into_iter().filter(|one| one.get("Effect") == Some(&"Allow".into()));
        let read = |one: Value| {
            let (actions, resources) = (texts(one.get("Action")?)?, texts(one.get("Resource")?)?);
            let conditions = one.get("Condition").map(conditions).unwrap_or_default();
            Some(Statement { actions, resources, conditions })
        };
        let statements: Vec<Statement> = allows.map(read).collect::<Option<_>>()?;
        (!statements.is_empty()).then_some(Self { statements, signed: None })
    }

    /// With the parameters that people signed.
    pub fn signed(self, action: &Action) -> Self {
        let values = action.parameters.iter().map(|(name, value)| (name.clone(), value.to_string()));
        let unenforced = action.unenforced.iter().cloned().collect();
        Self { signed: Some(Parameters { values: values.collect(), unenforced }), ..self }
    }

    /// Every action.
    pub fn actions(&self) -> BTreeSet<&str> {
        self.statements.iter().flat_map(|one| &one.actions).map(String::as_str).collect()
    }

    /// Whether it allows this action, on whatever.
    pub fn allows(&self, action: &str) -> bool {
        self.statements.iter().any(|one| one.allows(action))
    }

    /// Whether it allows one of the actions on everything, whatever else a call says: reading that nobody signs.
    pub fn everywhere(&self, actions: &[String]) -> bool {
        let mut of = self.of(actions).filter(|one| one.conditions.is_empty());
        self.signed.is_none() && of.any(|one| one.resources.iter().any(|resource| resource == "*"))
    }

    /// Parameters that AWS does not enforce and that no record of these events, by source and name, shows.
    pub(super) fn unshown<'e>(&self, events: impl Iterator<Item = (&'e str, &'e str)>) -> Vec<&str> {
        let shown: BTreeSet<&str> = events.flat_map(|(source, name)| rows::shows(source, name)).collect();
        let all = self.signed.iter().flat_map(|signed| &signed.unenforced).map(String::as_str);
        all.filter(|name| !shown.contains(name)).collect()
    }

    /// Whether the uses of each of its actions are known by the events they leave.
    pub fn is_known(&self) -> bool {
        self.actions().into_iter().all(|action| told(action).is_some())
    }

    /// Whether it allows what a canary calls and nothing else.
    pub(super) fn is_canary_alone(&self) -> bool {
        self.actions().into_iter().all(|action| action.eq_ignore_ascii_case(CANARY_ACTION))
    }

    /// Whether no trail tells of its uses unless asked to.
    pub fn is_untold(&self) -> bool {
        self.actions().into_iter().all(|action| told(action) == Some(Told::IfAsked))
    }

    /// INVARIANT: exact-scope. Whether everything that a call of one of `actions` touched was approved. One resource that
    /// was not outweighs every one that was; one that cannot be told is never taken for approved.
    pub(super) fn touched(&self, actions: &[String], touches: &Touches) -> Touched {
        let (named, beside, said, unknown) = match touches {
            Touches::All { named, beside, said, unknown } => (named, beside, said, unknown),
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
                    || self.of(actions).flat_map(|one| &one.conditions).any(|one| one.value == *text);
            if known || holds(&resources, text) {
                continue;
            }
            if resources.iter().any(|of| same_kind(of, text)) {
                return Touched::Other(cut(text));
            }
            unsaid = Some(format!("its request also names `{}`", cut(text)));
        }
        unsaid = said.iter().find_map(|one| self.unapproved(actions, one)).or(unsaid);
        // INVARIANT: exact-scope. Whatever is not known to be said by such a call may do something more.
        if let Some(member) = unknown {
            unsaid = Some(format!("its request says `{member}`, which is not known of such a call"));
        }
        unsaid.map_or(Touched::Approved, Touched::Unsaid)
    }

    /// Why what a member says is not what was approved.
    fn unapproved(&self, actions: &[String], said: &Said) -> Option<String> {
        let (member, value) = (said.member, said.value.as_deref());
        let shown = cut(value.unwrap_or_default());
        match (said.must, value) {
            (Must::Anything, _) => None,
            (Must::Parameter(name), None) => {
                let is_open = self.signed.as_ref().is_some_and(|signed| signed.unenforced.contains(name));
                is_open.then(|| {
                    format!("the record does not show `{member}`, and AWS does not enforce `{name}`")
                })
            }
            (_, None) => None,
            (Must::Be(texts), Some(value)) => {
                (!texts.contains(&value)).then(|| format!("`{member}` is `{shown}`, which nobody approved"))
            }
            (Must::Parameter(name), Some(value)) => {
                let approved = self.signed.as_ref().and_then(|signed| signed.values.get(name));
                let is_it = approved.is_some_and(|approved| approved == value);
                (!is_it)
                    .then(|| format!("`{member}` is `{shown}`, which no approved parameter `{name}` says"))
            }
            (Must::Condition(key) | Must::ConditionArn(key, ..), Some(value)) => {
                let mut conditions = self.of(actions).flat_map(|one| &one.conditions);
                let is_it = conditions.any(|one| one.key == key && one.says(value));
                (!is_it).then(|| format!("`{member}` is `{shown}`, which no condition on `{key}` says"))
            }
        }
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

impl Condition {
    /// Whether it demands this value; a condition that demands no value says none.
    fn says(&self, value: &str) -> bool {
        match self.operator.as_str() {
            "StringEquals" => self.value == value,
            "Bool" => self.value.eq_ignore_ascii_case(value),
            "ArnEquals" => fits(&pattern(&self.value), &literal(value)),
            _ => false,
        }
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

/// What a statement demands beside its resources.
fn conditions(value: &Value) -> Vec<Condition> {
    let members = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for (operator, keys) in members(value) {
        for (key, values) in members(&keys) {
            // A condition that cannot be read is still one.
            let values = texts(&values).unwrap_or_else(|| vec![String::new()]);
            let key = key.to_ascii_lowercase();
            found.extend(values.into_iter().map(|value| Condition {
                operator: operator.clone(),
                key: key.clone(),
                value,
            }));
        }
    }
    found
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests;
