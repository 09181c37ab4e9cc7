//! Asks an independent evaluator what a session may do under identity policies, boundary and session policy.

use std::collections::HashMap;

use awsim_iam_policy::{AuthzRequest, ContextValue, Decision, EvalContext, PolicyDocument, evaluate, parse};
use serde_json::Value;

use crate::policy_evaluator::Call;

/// A policy that allows everything, as somebody might write it into a role by hand.
pub const EVERYTHING: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;

/// The documents of `tests/terraform/documents.json`: outputs of the module, by case.
pub fn documents(case: &str) -> Value {
    let text = std::fs::read_to_string(crate::repository("tests/terraform/documents.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[case].clone()
}

/// One document of it.
pub fn document(case: &str, kind: &str, name: &str) -> String {
    documents(case)[kind][name].as_str().unwrap_or_else(|| panic!("{kind} of {name}")).to_owned()
}

/// Someone who calls AWS.
pub struct Caller {
    pub arn: String,
    pub account: String,
    pub identity: Vec<PolicyDocument>,
    pub boundary: Option<PolicyDocument>,
    pub session: Option<PolicyDocument>,
    pub resource: Option<PolicyDocument>,
    pub context: HashMap<String, ContextValue>,
}

impl Caller {
    /// A caller with these identity policies and nothing else.
    pub fn new(arn: &str, identity: &[&str]) -> Self {
        Self {
            arn: arn.to_owned(),
            account: arn.split(':').nth(4).unwrap().to_owned(),
            identity: identity.iter().map(|text| parse(text).unwrap()).collect(),
            boundary: None,
            session: None,
            resource: None,
            context: HashMap::new(),
        }
    }

    /// A session of a phase role of `production`, tagged as the broker does it, whose role carries `identity`.
    pub fn session(role: &str, identity: &str) -> Self {
        let name = format!("production-{role}");
        let arn = format!("arn:aws:sts::111122223333:assumed-role/phasebroker-{role}/x");
        let mut caller = Self::new(&arn, &[identity]);
        caller.boundary = Some(parse(&document("production", "boundaries", &name)).unwrap());
        let phase = if role == "observe" { "observe" } else { "execute" };
        caller.with("aws:PrincipalTag/phase", phase).with("aws:PrincipalTag/lease", LEASE)
    }

    /// The same with a key in the context of its requests.
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.context.insert(key.to_owned(), ContextValue::String(value.to_owned()));
        self
    }

    /// The same without it.
    pub fn without(mut self, key: &str) -> Self {
        self.context.remove(key);
        self
    }

    /// What the evaluator says of one action on one resource.
    pub fn asks(&self, action: &str, resource: &str) -> Decision {
        self.asks_in(action, resource, &[])
    }

    /// The same with more in the context.
    pub fn asks_in(&self, action: &str, resource: &str, more: &[(&str, &str)]) -> Decision {
        let mut context = self.context.clone();
        for (key, value) in more {
            context.insert((*key).to_owned(), ContextValue::String((*value).to_owned()));
        }
        let request = AuthzRequest {
            principal_arn: &self.arn,
            principal_account: &self.account,
            action,
            resource_arn: resource,
            context: &context,
        };
        let policies = EvalContext {
            identity_policies: &self.identity,
            permissions_boundary: self.boundary.as_ref(),
            session_policy: self.session.as_ref(),
            resource_policy: self.resource.as_ref(),
            ..EvalContext::default()
        };
        evaluate(&request, &policies)
    }

    /// Whether every resource of a call is allowed.
    pub fn may(&self, call: &Call) -> bool {
        let context: Vec<(&str, &str)> = call.context.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        !call.resources.is_empty()
            && call.resources.iter().all(|arn| self.asks_in(&call.action, arn, &context) == Decision::Allow)
    }
}

/// A lease id.
pub const LEASE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// Every action that AWS has, with the level that AWS gives it.
pub fn every_action() -> Vec<(String, char)> {
    let table = std::fs::read_to_string(crate::repository("src/catalog/iam/actions.txt")).unwrap();
    let (mut service, mut all) = (String::new(), Vec::new());
    for line in table.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        match columns[0] {
            "s" => service = columns[1].to_owned(),
            "a" => all.push((format!("{service}:{}", columns[1]), columns[2].chars().next().unwrap())),
            _ => {}
        }
    }
    assert!(all.len() > 20_000, "the table was read: {}", all.len());
    all
}
