//! Asks an independent evaluator of IAM policies what a session policy text allows.
//!
//! What was approved is worked out here from the catalog file by plain replacement, not by the code under test.
#![allow(dead_code, reason = "each integration test compiles this module and uses its own part of it")]

use std::collections::{BTreeMap, HashMap};

use awsim_iam_policy::{AuthzRequest, ContextValue, Decision, EvalContext, PolicyDocument, evaluate, parse};
use phasebroker::catalog::{ActionDocument, CatalogDocument, ParameterDocument};
use phasebroker::domain::time::Timestamp;
use proptest::prelude::*;
use proptest::string::string_regex;

/// Parameters as text, by name.
pub type Texts = BTreeMap<String, String>;

/// One API call as IAM sees it: every resource must be allowed for the call to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub action: String,
    pub resources: Vec<String>,
    pub context: Texts,
}

/// A session policy that narrows a role which may do everything.
pub struct Session {
    role: PolicyDocument,
    policy: PolicyDocument,
}

impl Session {
    /// Reads the policy text that STS was sent.
    pub fn with(policy_text: &str) -> Self {
        let role = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
        Self { role: parse(role).unwrap(), policy: parse(policy_text).unwrap() }
    }

    /// Whether every resource of `call` is allowed at `at`.
    pub fn allows(&self, call: &Call, at: Timestamp) -> bool {
        let mut context: HashMap<String, ContextValue> = call
            .context
            .iter()
            .map(|(key, value)| (key.clone(), ContextValue::String(value.clone())))
            .collect();
        context.insert("aws:CurrentTime".to_owned(), ContextValue::String(at.rfc3339()));
        let roles = std::slice::from_ref(&self.role);
        !call.resources.is_empty()
            && call.resources.iter().all(|resource| {
                let request = AuthzRequest {
                    principal_arn: "arn:aws:sts::111122223333:assumed-role/phasebroker-execute/session",
                    principal_account: "111122223333",
                    action: &call.action,
                    resource_arn: resource,
                    context: &context,
                };
                let policies = EvalContext {
                    identity_policies: roles,
                    session_policy: Some(&self.policy),
                    ..EvalContext::default()
                };
                evaluate(&request, &policies) == Decision::Allow
            })
    }
}

/// The calls that a catalog entry stands for with these parameters, in the order of its statements.
pub fn calls(document: &CatalogDocument, action: &str, environment: &str, parameters: &Texts) -> Vec<Call> {
    let target = document.environments[environment].aws.as_ref().expect("an environment with an AWS account");
    let mut values = parameters.clone();
    values.insert("account".to_owned(), target.account.clone());
    values.insert("region".to_owned(), target.region.clone());
    values.insert("partition".to_owned(), "aws".to_owned());
    let fill = |text: &String| {
        values.iter().fold(text.clone(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
    };
    let mut calls = Vec::new();
    for statement in &document.actions[action].statements {
        let mut context = Texts::new();
        for (operator, keys) in &statement.conditions {
            // A call that meets `Null = true` does not carry the key.
            for (key, wanted) in keys.iter().filter(|_| operator != "Null") {
                context.insert(key.clone(), fill(&wanted[0]));
            }
        }
        for action in &statement.actions {
            let resources = statement.resources.iter().map(fill).collect();
            calls.push(Call { action: action.clone(), resources, context: context.clone() });
        }
    }
    calls
}

/// Asserts that `policy_text`, whose deadline is `not_after`, allows exactly `approved`: until the deadline, and no
/// other action, no sibling resource, no other account or region, no request without its conditions, and none of
/// `others`, which are the same calls with another value of an enforced parameter.
pub fn assert_exact_scope(policy_text: &str, not_after: Timestamp, approved: &[Call], others: &[Call]) {
    let session = Session::with(policy_text);
    let before = not_after.plus(-1);
    let denied =
        |what: &str, call: &Call, at| assert!(!session.allows(call, at), "{what}: {call:?}\n{policy_text}");
    for call in approved {
        assert!(session.allows(call, before), "approved: {call:?}\n{policy_text}");
        denied("at the deadline", call, not_after);
        denied("after the deadline", call, not_after.plus(3600));
        for action in other_actions(&call.action).filter(|other| approved.iter().all(|c| c.action != *other))
        {
            denied("other action", &Call { action, ..call.clone() }, before);
        }
        // What has no ARN is held by its conditions alone.
        let unscopable = call.resources == ["*"];
        for at in (0..call.resources.len()).filter(|_| !unscopable) {
            for foreign in neighbours(&call.resources[at]) {
                let mut resources = call.resources.clone();
                resources[at] = foreign;
                denied("other resource", &Call { resources, ..call.clone() }, before);
            }
        }
        for (key, value) in &call.context {
            let mut absent = call.clone();
            absent.context.remove(key);
            denied("condition key absent", &absent, before);
            let mut changed = call.clone();
            let other = if value == "false" { "true".to_owned() } else { format!("{value}x") };
            changed.context.insert(key.clone(), other);
            denied("condition key with another value", &changed, before);
        }
        assert!(!unscopable || !call.context.is_empty(), "nothing holds {call:?}");
        if !unscopable {
            denied("every resource", &Call { resources: vec!["*".to_owned()], ..call.clone() }, before);
        }
    }
    for call in others {
        denied("changed parameter", call, before);
    }
}

/// For each enforced parameter that differs between the two, the calls that it changes.
pub fn with_one_parameter_changed(
    document: &CatalogDocument,
    action: &str,
    environment: &str,
    signed: &Texts,
    other: &Texts,
) -> Vec<Call> {
    let approved = calls(document, action, environment, signed);
    let mut changed = Vec::new();
    for (name, value) in other.iter().filter(|(name, value)| signed[*name] != **value) {
        let mut parameters = signed.clone();
        parameters.insert(name.clone(), value.clone());
        let again = calls(document, action, environment, &parameters);
        changed.extend(again.into_iter().filter(|call| !approved.contains(call)));
    }
    changed
}

/// Valid parameters of an action type, made from its patterns.
pub fn any_parameters(action: &ActionDocument) -> BoxedStrategy<Texts> {
    let mut all = Just(Texts::new()).boxed();
    for (name, kind) in &action.parameters {
        let name = name.clone();
        let value = any_value(kind);
        all = (all, value)
            .prop_map(move |(mut texts, value)| {
                texts.insert(name.clone(), value);
                texts
            })
            .boxed();
    }
    all
}

fn any_value(kind: &ParameterDocument) -> BoxedStrategy<String> {
    match kind {
        ParameterDocument::String { pattern, max_length } => {
            let longest = max_length.unwrap_or(128);
            let short = move |text: &String| text.len() <= longest;
            string_regex(pattern).unwrap().prop_filter("within its longest length", short).boxed()
        }
        ParameterDocument::Integer { min, max } => {
            (*min..=*max).prop_map(|number| number.to_string()).boxed()
        }
        ParameterDocument::Choice { values } => prop::sample::select(values.clone()).boxed(),
    }
}

fn other_actions(action: &str) -> impl Iterator<Item = String> {
    let (service, name) = action.split_once(':').unwrap();
    let named =
        ["ec2:TerminateInstances", "iam:AttachRolePolicy", "sts:AssumeRole", "s3:GetObject", "iam:PassRole"];
    let made = [
        format!("{service}:{name}s"),
        format!("{service}:Delete{name}"),
        format!("{service}:*"),
        "*".to_owned(),
    ];
    named.into_iter().map(str::to_owned).chain(made)
}

/// ARNs near `arn` that are not it.
fn neighbours(arn: &str) -> Vec<String> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let with = |at: usize, value: &str| {
        let mut parts = parts.clone();
        parts[at] = value;
        parts.join(":")
    };
    let shorter = arn[..arn.len() - 1].to_owned();
    let mut all =
        vec![format!("{arn}x"), format!("{arn}/x"), format!("{arn}:x"), shorter, with(4, "999988887777")];
    if !parts[3].is_empty() {
        all.push(with(3, "us-east-1"));
    }
    all
}
