//! Names the first member in which a plan compiled again differs from what was signed.

use serde_json::Value;

use crate::domain::action::Action;
use crate::domain::plan::{Credential, Plan};

/// The path of the first member that differs, such as `credential.session_policy`; `None` when all are identical.
///
/// INVARIANT: re-decided — the claim and `grant compile --against` use this one comparison.
pub fn difference(plan: &Plan, action: &Action, credential: &Credential) -> Option<String> {
    if plan.action() == action && plan.credential() == credential {
        return None;
    }
    let found = member("action", plan.action(), action)
        .or_else(|| member("credential", plan.credential(), credential));
    // Unequal values always have unequal JSON; should that ever fail, the answer is still "different".
    Some(found.unwrap_or_else(|| "credential".to_owned()))
}

fn member<T: serde::Serialize>(path: &str, ours: &T, theirs: &T) -> Option<String> {
    match (serde_json::to_value(ours), serde_json::to_value(theirs)) {
        (Ok(ours), Ok(theirs)) => first(path, &ours, &theirs),
        _ => Some(path.to_owned()),
    }
}

fn first(path: &str, ours: &Value, theirs: &Value) -> Option<String> {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
            names.sort();
            names.dedup();
            names.into_iter().find_map(|name| {
                let path = format!("{path}.{name}");
                match (a.get(name), b.get(name)) {
                    (Some(a), Some(b)) => first(&path, a, b),
                    _ => Some(path),
                }
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let mut pairs = a.iter().zip(b).enumerate();
            pairs.find_map(|(at, (a, b))| first(&format!("{path}[{at}]"), a, b))
        }
        _ => (ours != theirs).then(|| path.to_owned()),
    }
}
