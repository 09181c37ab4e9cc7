//! Whether the session that AWS says was asked for is the one that INTENT and the signed grant say.

use std::collections::BTreeMap;

use serde_json::Value;

use super::expected::{Expected, Signed};
use super::record::Record;
use crate::domain::digest::Digest;
use crate::domain::plan::ASSUME_ROLE_SECONDS;

/// How a session of a role is asked for: by an identity of AWS, or with a token of the approvers' side.
const BY_ROLE: &str = "AssumeRole";
const BY_TOKEN: &str = "AssumeRoleWithWebIdentity";

/// What the record of a mint shows of the session policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    /// The text whose digest INTENT recorded.
    Sent,
    /// Nothing.
    Unsaid,
    /// Another text.
    Other,
}

/// The policy in the record of a mint.
pub(super) fn policy(expected: &Expected, record: &Record) -> Policy {
    match record.asked("policy") {
        Some(text) if Digest::of(text.as_bytes()) == expected.sent => Policy::Sent,
        Some(text) if text.starts_with("HIDDEN_DUE_TO_SECURITY_REASONS") => Policy::Unsaid,
        Some(_) => Policy::Other,
        None => Policy::Unsaid,
    }
}

/// What else than the signed text the record says was asked for, in words; empty when nothing is.
pub(super) fn differences(expected: &Expected, record: &Record) -> Vec<String> {
    let mut found = Vec::new();
    let mut must = |same: bool, what: String| {
        if !same {
            found.push(what);
        }
    };
    let web = expected.web_identity();
    let call = if web.is_some() { BY_TOKEN } else { BY_ROLE };
    // Of a grant that is not known it is not known which of the two it was.
    let either = matches!(expected.signed, Signed::Unproven(_) | Signed::Unread) && record.name == BY_TOKEN;
    must(record.name == call || either, format!("it was asked for by `{}`", record.name));
    if web.is_some() {
        let kind = record.caller.kind.as_deref();
        must(
            kind == Some("WebIdentityUser"),
            format!("it was asked for by an identity of type {}", said(kind)),
        );
        let provider = record.caller.provider.as_deref();
        must(
            provider.is_none_or(|provider| expected.is_provider(provider)),
            format!("the token is of {}", said(provider)),
        );
    }
    let role = record.asked("roleArn");
    must(role.is_some_and(|role| expected.is_role(role)), format!("the role is {}", said(role)));
    let session = record.asked("roleSessionName");
    must(session == Some(&expected.session()), format!("the session name is {}", said(session)));
    // In a token it is said to AWS, and the record need not repeat it; each later record of the session does.
    let answered = record.response.get("sourceIdentity").and_then(Value::as_str);
    let source = record.asked("sourceIdentity").or(answered.filter(|_| web.is_some() || either));
    let unsaid = source.is_none() && (web.is_some() || either);
    let is_source = source == Some(&expected.source_identity()) || unsaid;
    must(is_source, format!("the source identity is {}", said(source)));
    let seconds = record.request.get("durationSeconds").and_then(Value::as_u64);
    let right = seconds == Some(u64::from(ASSUME_ROLE_SECONDS));
    let seconds = seconds.map(|seconds| seconds.to_string());
    must(right, format!("the seconds are {}", said(seconds.as_deref())));
    let wanted = wanted_tags(expected);
    let tags = tags(record);
    let unsaid = either || (web.is_some() && tags.is_empty());
    must(tags == wanted || unsaid, format!("the tags are not {}", listed(&wanted)));
    let has = |name: &str| match record.request.get(name) {
        None | Some(Value::Null) => false,
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(members)) => !members.is_empty(),
        Some(_) => true,
    };
    for name in ["transitiveTagKeys", "policyArns", "incomingTransitiveTags", "serialNumber", "providerId"] {
        must(!has(name), format!("it has `{name}`, which is never sent"));
    }
    if let Signed::Credential { credential, .. } = &expected.signed {
        let external = record.asked("externalId");
        must(external == credential.external_id.as_deref(), format!("the external id is {}", said(external)));
    }
    must(policy(expected, record) != Policy::Other, "the session policy is another text".into());
    found
}

fn said(text: Option<&str>) -> String {
    text.map_or("not there".into(), |text| format!("`{}`", text.chars().take(120).collect::<String>()))
}

fn listed(tags: &BTreeMap<String, String>) -> String {
    tags.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
}

fn wanted_tags(expected: &Expected) -> BTreeMap<String, String> {
    if let Signed::Credential { credential, .. } = &expected.signed {
        return credential.tags.clone();
    }
    let grant = expected.grant.map_or("none".to_owned(), |grant| grant.to_string());
    [
        ("lease", expected.lease.to_string()),
        ("phase", expected.phase.clone()),
        ("agent", expected.agent.clone()),
        ("grant", grant),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// The tags of the request: CloudTrail has them as a list of pairs (`tags`) or as a map (`principalTags`).
fn tags(record: &Record) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found = BTreeMap::new();
    if let Some(Value::Array(items)) = record.request.get("tags") {
        for item in items {
            if let (Some(key), Some(value)) = (item.get("key"), item.get("value")) {
                found.insert(text(key), text(value));
            }
        }
    }
    if let Some(Value::Object(members)) = record.request.get("principalTags") {
        found.extend(members.iter().map(|(key, value)| (key.clone(), text(value))));
    }
    found
}
