//! The alarms: each pattern takes the record it is about, and leaves alone what the broker does all day.
//! The matcher here knows the few forms that the patterns use, as EventBridge describes them.

use serde_json::{Value, json};

use crate::judge::document;

fn matches(pattern: &Value, event: Option<&Value>) -> bool {
    match pattern {
        Value::Object(members) => members.iter().all(|(key, inner)| match key.as_str() {
            "$or" => inner.as_array().unwrap().iter().any(|one| matches(one, event)),
            key => matches(inner, event.and_then(|event| event.get(key))),
        }),
        Value::Array(any) => match event {
            Some(Value::Array(values)) => values.iter().any(|value| any.iter().any(|p| leaf(p, Some(value)))),
            value => any.iter().any(|one| leaf(one, value)),
        },
        other => panic!("no pattern: {other}"),
    }
}

fn leaf(pattern: &Value, value: Option<&Value>) -> bool {
    let Some((form, wanted)) = pattern.as_object().and_then(|members| members.iter().next()) else {
        return value == Some(pattern);
    };
    let text = value.and_then(Value::as_str);
    let lower = |text: &Value| text.as_str().unwrap().to_ascii_lowercase();
    match (form.as_str(), wanted) {
        ("exists", wanted) => value.is_some() == wanted.as_bool().unwrap(),
        ("prefix", Value::String(prefix)) => text.is_some_and(|text| text.starts_with(prefix)),
        ("prefix", inner) => text
            .is_some_and(|text| text.to_ascii_lowercase().starts_with(&lower(&inner["equals-ignore-case"]))),
        ("equals-ignore-case", wanted) => text.is_some_and(|text| text.to_ascii_lowercase() == lower(wanted)),
        ("anything-but", Value::Array(none)) => value.is_some_and(|value| !none.contains(value)),
        ("anything-but", inner) => {
            text.is_some_and(|text| !text.starts_with(inner["prefix"].as_str().unwrap()))
        }
        ("numeric", limits) => {
            assert_eq!(limits[0], ">");
            value.and_then(Value::as_f64).is_some_and(|number| number > limits[1].as_f64().unwrap())
        }
        (form, _) => panic!("unknown form {form}"),
    }
}

fn told(case: &str, pattern: &str, detail: Value) -> bool {
    let pattern: Value = serde_json::from_str(&document(case, "event_patterns", pattern)).unwrap();
    let source = detail["eventSource"].as_str().unwrap().split('.').next().unwrap().to_owned();
    let event = json!({
        "source": format!("aws.{source}"), "detail-type": "AWS API Call via CloudTrail", "detail": detail,
    });
    matches(&pattern, Some(&event))
}

fn by_role(role: &str) -> Value {
    let arn = format!("arn:aws:iam::111122223333:role/{role}");
    json!({"type": "AssumedRole", "principalId": "AROAX:y", "sessionContext": {"sessionIssuer": {"arn": arn}}})
}

fn by_user() -> Value {
    json!({"type": "IAMUser", "principalId": "AIDAX", "arn": "arn:aws:iam::111122223333:user/eve"})
}

fn assumed(who: Value, role: &str, seconds: Option<u64>) -> Value {
    let mut request = json!({"roleArn": format!("arn:aws:iam::111122223333:role/{role}")});
    if let Some(seconds) = seconds {
        request["durationSeconds"] = json!(seconds);
    }
    json!({
        "eventSource": "sts.amazonaws.com", "eventName": "AssumeRole", "userIdentity": who,
        "requestParameters": request,
    })
}

fn written(who: Value, event: &str, role: &str, policy: &str) -> Value {
    json!({
        "eventSource": "iam.amazonaws.com", "eventName": event, "userIdentity": who,
        "requestParameters": {"roleName": role, "policyName": policy},
    })
}

#[test]
fn a_role_that_anyone_but_the_broker_assumes_is_told() {
    let told = |who, role| told("production", "assumed-by-others", assumed(who, role, Some(900)));
    assert!(!told(by_role("phasebroker-minter"), "phasebroker-execute"));
    assert!(!told(by_role("admin"), "another"));
    for role in ["phasebroker-execute", "phasebroker-observe", "phasebroker-trust", "PHASEBROKER-EXECUTE"] {
        assert!(told(by_role("admin"), role) && told(by_role("phasebroker-revoker"), role), "{role}");
        assert!(told(by_user(), role), "a user has no session: {role}");
    }
}

#[test]
fn in_another_account_the_minter_is_known_by_its_unique_id() {
    let told = |who: Value| {
        let mut event = assumed(who, "phasebroker-execute", Some(900));
        event["requestParameters"]["roleArn"] = json!("arn:aws:iam::444455556666:role/phasebroker-execute");
        told("staging", "assumed-by-others", event)
    };
    let foreign = |id: &str| json!({"type": "AWSAccount", "principalId": id, "accountId": "111122223333"});
    assert!(!told(foreign("AROAEXAMPLEEXAMPLE12:broker")));
    assert!(told(foreign("AROAEXAMPLEEXAMPLE13:broker")));
    assert!(told(by_role("admin")) && told(json!({"type": "AWSAccount"})));
}

#[test]
fn a_role_that_trusts_the_approvers_side_is_told_of_any_other_way_in_and_of_another_issuer() {
    let provider = "arn:aws:iam::111122223333:oidc-provider/approvers.example.com/oidc";
    let by = |provider: &str| json!({"type": "WebIdentityUser", "userName": "arn:aws:iam::111122223333:role/phasebroker-execute", "identityProvider": provider});
    let told_of = |who: Value, role: &str, event: &str| {
        let mut record = assumed(who, role, Some(900));
        record["eventName"] = json!(event);
        ["assumed-without-token", "assumed-by-others"]
            .iter()
            .any(|pattern| told("by_tag", pattern, record.clone()))
    };
    assert!(!told_of(by(provider), "phasebroker-execute", "AssumeRoleWithWebIdentity"));
    assert!(!told_of(by_role("phasebroker-minter"), "phasebroker-observe", "AssumeRole"));
    for role in ["phasebroker-execute", "phasebroker-trust"] {
        assert!(told_of(by("arn:aws:iam::111122223333:oidc-provider/x"), role, "AssumeRoleWithWebIdentity"));
        assert!(
            told_of(by_role("phasebroker-minter"), role, "AssumeRole"),
            "the minter has no business there"
        );
        assert!(told_of(by_user(), role, "AssumeRole"));
    }
    let changed = |name: &str| json!({"eventSource": "iam.amazonaws.com", "eventName": name, "userIdentity": by_user()});
    for name in ["CreateOpenIDConnectProvider", "AddClientIDToOpenIDConnectProvider"] {
        assert!(told("by_tag", "identity-provider-changed", changed(name)), "{name}");
    }
    assert!(!told("by_tag", "identity-provider-changed", changed("ListOpenIDConnectProviders")));
}

#[test]
fn a_session_longer_than_the_broker_asks_for_is_told() {
    let told = |seconds| {
        told(
            "production",
            "long-session",
            assumed(by_role("phasebroker-minter"), "phasebroker-execute", seconds),
        )
    };
    assert!(!told(Some(900)));
    assert!(told(Some(901)) && told(Some(3600)));
    assert!(told(None), "without a number AWS gives an hour");
}

#[test]
fn an_inline_policy_that_is_not_the_revokers_is_told() {
    let told =
        |who, event, role, policy| told("production", "inline-policy", written(who, event, role, policy));
    for event in ["PutRolePolicy", "DeleteRolePolicy"] {
        let revoker = || by_role("phasebroker-revoker");
        assert!(!told(revoker(), event, "phasebroker-execute", "phasebroker-deny"));
        assert!(told(revoker(), event, "phasebroker-execute", "other"), "another policy than ours");
        assert!(told(by_role("admin"), event, "phasebroker-execute", "phasebroker-deny"));
        assert!(told(by_role("admin"), event, "PhaseBroker-Execute", "phasebroker-deny"));
        assert!(told(by_user(), event, "phasebroker-observe", "phasebroker-deny"));
        assert!(!told(by_role("admin"), event, "another", "x"));
    }
}

#[test]
fn a_changed_boundary_role_policy_or_trail_is_told_whoever_did_it() {
    for event in ["DeleteRolePermissionsBoundary", "PutRolePermissionsBoundary", "UpdateAssumeRolePolicy"] {
        for role in ["phasebroker-execute", "phasebroker-minter", "phasebroker-revoker"] {
            let by = by_role("phasebroker-revoker");
            assert!(told("production", "role-changed", written(by, event, role, "")), "{event} {role}");
        }
        assert!(!told("production", "role-changed", written(by_user(), event, "another", "")));
    }
    let policy = |arn: &str| {
        json!({
            "eventSource": "iam.amazonaws.com", "eventName": "CreatePolicyVersion", "userIdentity": by_user(),
            "requestParameters": {"policyArn": format!("arn:aws:iam::111122223333:policy/{arn}")},
        })
    };
    assert!(told("production", "policy-changed", policy("phasebroker-production-execute-boundary")));
    assert!(!told("production", "policy-changed", policy("another")));
    let trail = |name: &str| json!({"eventSource": "cloudtrail.amazonaws.com", "eventName": name});
    assert!(told("production", "trail-changed", trail("StopLogging")));
    assert!(!told("production", "trail-changed", trail("LookupEvents")));
}
