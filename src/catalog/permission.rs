//! Allow statements: checked against the action table when loaded, filled in and checked again when compiled, and
//! written as the one session policy text. Its last statement is always the Deny that ends it at `not_after`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::document::{Conditions, StatementDocument};
use super::iam::{ActionFacts, ActionTable};
use super::refused::CompileError;
use super::resolved::AwsTarget;
use super::template::{Filling, Template};
use crate::domain::plan::MAX_SESSION_POLICY_CHARS;
use crate::domain::sent::CANARY_STATEMENT;

/// The closing Deny, the only place of the placeholder.
// INVARIANT: self-ending — an explicit Deny also beats resource policies that name the session.
const DEADLINE: &str = r#"{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"DateGreaterThanEquals":{"aws:CurrentTime":"{{not_after}}"}}}"#;

/// Operators that narrow, and fail when the request does not carry the key. Negated ones, `…IfExists` and
/// `ForAllValues` pass on an absent key; dates belong to the deadline alone; `Null` asks for absence by name.
const OPERATORS: &[&str] = &[
    "StringEquals",
    "ArnEquals",
    "NumericEquals",
    "NumericLessThanEquals",
    "NumericGreaterThanEquals",
    "Bool",
    "Null",
];

/// One Allow statement after its checks.
#[derive(Debug, Clone)]
pub(super) struct Permission {
    /// The actions as written, which is AWS's spelling.
    written: Vec<String>,
    /// What the table says of each; empty where no table was asked.
    pub(super) actions: Vec<ActionFacts>,
    /// `None` for `["*"]` in an observe set.
    pub(super) resources: Option<Vec<Template>>,
    pub(super) conditions: BTreeMap<String, BTreeMap<String, Vec<Template>>>,
}

/// What a statement is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// May read all of a kind.
    Observe,
    /// Names every resource.
    Execute,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Allow {
    effect: &'static str,
    action: Vec<String>,
    resource: Vec<String>,
    #[serde(skip_serializing_if = "Conditions::is_empty")]
    condition: Conditions,
}

impl Permission {
    /// Checks a statement; `samples` holds a value for every name that may be used. Errors are (key, problem).
    pub(super) fn check(
        document: &StatementDocument,
        table: &ActionTable,
        samples: &Filling,
        purpose: Purpose,
    ) -> Result<Self, Vec<(String, String)>> {
        let mut errors = Vec::new();
        if document.actions.is_empty() {
            errors.push(("actions".to_owned(), "it names no action".to_owned()));
        }
        let mut actions = Vec::new();
        for (at, action) in document.actions.iter().enumerate() {
            match table.action(action) {
                Ok(facts) => actions.push(facts),
                Err(error) => errors.push((format!("actions[{at}]"), error.to_string())),
            }
        }
        let everything = document.resources == ["*"];
        let conditions = check_conditions(document, &actions, samples, &mut errors);
        if actions.iter().any(ActionFacts::is_unscopable) && purpose == Purpose::Execute && !narrows(document)
        {
            let problem =
                "an action here cannot be narrowed to a resource: add a condition that AWS enforces";
            errors.push(("conditions".to_owned(), problem.to_owned()));
        }
        let mut resources = Vec::new();
        if !everything {
            resources = check_resources(document, &actions, samples, &mut errors);
        } else if purpose == Purpose::Execute {
            for error in actions.iter().filter_map(|facts| facts.check_resources(&["*"]).err()) {
                errors.push(("resources".to_owned(), error.to_string()));
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let written = document.actions.clone();
        Ok(Self { written, actions, resources: (!everything).then_some(resources), conditions })
    }

    /// Reads a statement that people signed. Whether the table of today would take it decides nothing about what it says.
    pub(super) fn signed(document: &StatementDocument) -> Result<Self, String> {
        let parse =
            |texts: &[String]| texts.iter().map(|text| Template::parse(text)).collect::<Result<Vec<_>, _>>();
        let resources = match document.resources == ["*"] {
            true => None,
            false => Some(parse(&document.resources)?),
        };
        let mut conditions: BTreeMap<String, BTreeMap<String, Vec<Template>>> = BTreeMap::new();
        for (operator, keys) in &document.conditions {
            for (key, values) in keys {
                conditions.entry(operator.clone()).or_default().insert(key.clone(), parse(values)?);
            }
        }
        Ok(Self { written: document.actions.clone(), actions: Vec::new(), resources, conditions })
    }

    /// What the table says of its actions.
    pub(super) fn actions(&self) -> impl Iterator<Item = &ActionFacts> {
        self.actions.iter()
    }

    /// The names that AWS enforces: an ARN holds them, or a condition that takes this one value only.
    pub(super) fn enforced(&self) -> impl Iterator<Item = &str> {
        let exact = self.conditions.iter().filter(|(operator, _)| operator.ends_with("Equals"));
        let exact = exact.filter(|(operator, _)| !operator.ends_with("ThanEquals"));
        let only = exact.flat_map(|(_, keys)| keys.values()).filter(|values| values.len() == 1).flatten();
        self.resources.iter().flatten().chain(only).flat_map(Template::names)
    }

    /// Every name it uses, enforced or not.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let conditions = self.conditions.values().flat_map(BTreeMap::values).flatten();
        self.resources.iter().flatten().chain(conditions).flat_map(Template::names)
    }

    /// Whether it reads or changes whatever of a kind there is.
    pub(super) fn is_everything(&self) -> bool {
        self.resources.is_none()
    }

    /// Fills in the statement and checks every ARN again.
    fn fill(&self, filling: &Filling, target: &AwsTarget) -> Result<Allow, CompileError> {
        let missing = |name| CompileError::MissingParameter { name };
        let resource = match &self.resources {
            Some(templates) => {
                let arns: Vec<String> =
                    templates.iter().map(|t| t.fill(filling)).collect::<Result<_, _>>().map_err(missing)?;
                arns.iter().try_for_each(|arn| target.owns(arn))?;
                let given: Vec<&str> = arns.iter().map(String::as_str).collect();
                self.actions.iter().try_for_each(|facts| facts.check_resources(&given))?;
                arns
            }
            None => vec!["*".to_owned()],
        };
        let mut condition = Conditions::new();
        for (operator, keys) in &self.conditions {
            for (key, values) in keys {
                let values: Vec<String> =
                    values.iter().map(|t| t.fill(filling)).collect::<Result<_, _>>().map_err(missing)?;
                values.iter().try_for_each(|value| target.unprotected(value))?;
                condition.entry(operator.clone()).or_default().insert(key.clone(), values);
            }
        }
        Ok(Allow { effect: "Allow", action: self.written.clone(), resource, condition })
    }
}

/// The session policy text: every Allow, the canary's where there is one, then the closing Deny.
pub(super) fn session_policy(
    permissions: &[Permission],
    canary: bool,
    filling: &Filling,
    target: &AwsTarget,
) -> Result<String, CompileError> {
    let mut text = r#"{"Version":"2012-10-17","Statement":["#.to_owned();
    let (mut longest, mut of_it) = (String::new(), 0);
    for permission in permissions {
        let allow = permission.fill(filling, target)?;
        let allow = serde_json::to_string(&allow).map_err(|e| CompileError::NotWritten(e.to_string()))?;
        if allow.chars().count() > of_it {
            (longest, of_it) = (permission.written.join(", "), allow.chars().count());
        }
        text.push_str(&allow);
        text.push(',');
    }
    if canary {
        text.push_str(CANARY_STATEMENT);
        text.push(',');
    }
    text.push_str(DEADLINE);
    text.push_str("]}");
    let characters = text.chars().count();
    if characters > MAX_SESSION_POLICY_CHARS {
        return Err(CompileError::PolicyTooLong { characters, longest, of_it });
    }
    Ok(text)
}

fn check_conditions(
    document: &StatementDocument,
    actions: &[ActionFacts],
    samples: &Filling,
    errors: &mut Vec<(String, String)>,
) -> BTreeMap<String, BTreeMap<String, Vec<Template>>> {
    let mut checked: BTreeMap<String, BTreeMap<String, Vec<Template>>> = BTreeMap::new();
    for (operator, keys) in &document.conditions {
        if !OPERATORS.contains(&operator.as_str()) {
            let problem = format!("this operator is not taken: use one of {}", OPERATORS.join(", "));
            errors.push((format!("conditions.{operator}"), problem));
        }
        for (key, values) in keys {
            let path = format!("conditions.{operator}.\"{key}\"");
            for facts in actions.iter().filter(|facts| !facts.knows_condition_key(key)) {
                errors.push((
                    path.clone(),
                    format!("`{}` does not know this condition key", facts.full_name()),
                ));
            }
            let word = matches!(values.as_slice(), [word] if word == "true" || word == "false");
            if matches!(operator.as_str(), "Bool" | "Null") && !word {
                errors.push((path.clone(), "its one value is `true` or `false`".to_owned()));
            }
            if values.is_empty() {
                errors.push((path.clone(), "it names no value".to_owned()));
            }
            let templates = templates(&path, values, samples, errors);
            checked.entry(operator.clone()).or_default().insert(key.clone(), templates);
        }
    }
    checked
}

/// Whether a condition asks for a value, not only for an absence.
fn narrows(document: &StatementDocument) -> bool {
    document.conditions.iter().any(|(operator, keys)| operator != "Null" && !keys.is_empty())
}

fn check_resources(
    document: &StatementDocument,
    actions: &[ActionFacts],
    samples: &Filling,
    errors: &mut Vec<(String, String)>,
) -> Vec<Template> {
    let before = errors.len();
    let templates = templates("resources", &document.resources, samples, errors);
    if errors.len() > before {
        return templates;
    }
    let arns: BTreeSet<String> = templates.iter().filter_map(|t| t.fill(samples).ok()).collect();
    let given: Vec<&str> = arns.iter().map(String::as_str).collect();
    for error in actions.iter().filter_map(|facts| facts.check_resources(&given).err()) {
        errors.push(("resources".to_owned(), format!("{error} (string parameters stand as `x` here)")));
    }
    let own_account =
        document.conditions.get("StringEquals").and_then(|keys| keys.get("aws:ResourceAccount"));
    if own_account.is_none_or(|values| values.as_slice() != ["{account}"]) {
        for arn in arns.iter().filter(|arn| arn.split(':').nth(4).is_some_and(str::is_empty)) {
            let problem = format!(
                "`{arn}` names no account: add the condition StringEquals.\"aws:ResourceAccount\" = [\"{{account}}\"]"
            );
            errors.push(("resources".to_owned(), problem));
        }
    }
    templates
}

/// Parses texts whose names must all be among `samples`.
fn templates(
    path: &str,
    texts: &[String],
    samples: &Filling,
    errors: &mut Vec<(String, String)>,
) -> Vec<Template> {
    let mut parsed = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        let path = format!("{path}[{at}]");
        match Template::parse(text) {
            Ok(template) => {
                for name in template.names().filter(|name| !samples.contains_key(*name)) {
                    errors.push((path.clone(), unknown_name(name)));
                }
                parsed.push(template);
            }
            Err(problem) => errors.push((path, problem)),
        }
    }
    parsed
}

/// The message for a name that stands for nothing.
pub(super) fn unknown_name(name: &str) -> String {
    format!("`{{{name}}}` is neither a parameter nor `{{account}}`, `{{region}}` or `{{partition}}`")
}
