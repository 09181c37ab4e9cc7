//! The alarms: each pattern takes the record it is about, and leaves alone what the broker does all day.
//! The matcher here knows the few forms that the patterns use, as EventBridge describes them.

use serde_json::{Value, json};

use crate::judge::document;

fn matches(pattern: &Value, event: Option<&Value>) -> bool {
    match (pattern, event) {
        // Of an array of objects one is enough.
        (Value::Object(_), Some(Value::Array(all))) => all.iter().any(|one| matches(pattern, Some(one))),
        (Value::Object(members), _) => members.iter().all(|(key, inner)| match key.as_str() {
            "$or" => inner.as_array().unwrap().iter().any(|one| matches(one, event)),
            key => matches(inner, event.and_then(|event| event.get(key))),
        }),
        (Value::Array(any), _) => match event {
            Some(Value::Array(values)) => values.iter().any(|value| any.iter().any(|p| leaf(p, Some(value)))),
            value => any.iter().any(|one| leaf(one, value)),
        },
        (other, _) => panic!("no pattern: {other}"),
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
        ("wildcard", wanted) => text.is_some_and(|text| like(wanted.as_str().unwrap(), text)),
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

/// `*` stands for any characters.
fn like(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| like(after, rest)))
        }),
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

#[test]
fn whatever_is_written_into_minter_or_revoker_is_told() {
    let told = |event, role: &str| {
        ["broker-policy", "role-changed"]
            .iter()
            .any(|pattern| told("production", pattern, written(by_user(), event, role, "more")))
    };
    for event in ["PutRolePolicy", "DeleteRolePolicy", "AttachRolePolicy"] {
        for role in ["phasebroker-minter", "phasebroker-revoker", "PhaseBroker-Minter"] {
            assert!(told(event, role), "{event} {role}");
        }
        assert!(!told(event, "another"), "{event}");
    }
    assert!(!told("GetRolePolicy", "phasebroker-minter"));
    // The Deny policies of phase roles come and go all day; whose they are another rule asks.
    assert!(!told("PutRolePolicy", "phasebroker-execute"));
}

fn called(service: &str, event: &str, request: Value) -> Value {
    json!({
        "eventSource": format!("{service}.amazonaws.com"), "eventName": event, "userIdentity": by_user(),
        "requestParameters": request,
    })
}

#[test]
fn a_rule_of_ours_that_is_turned_off_or_sent_elsewhere_is_told() {
    let told = |event, request| told("production", "alarms-changed", called("events", event, request));
    for event in ["DisableRule", "DeleteRule", "PutRule"] {
        assert!(told(event, json!({"name": "phasebroker-trail-changed"})), "{event}");
        assert!(!told(event, json!({"name": "nightly"})), "{event}");
    }
    for event in ["RemoveTargets", "PutTargets"] {
        assert!(told(event, json!({"rule": "phasebroker-role-changed", "ids": ["alarms"]})), "{event}");
        assert!(!told(event, json!({"rule": "nightly", "ids": ["phasebroker-alarms"]})), "{event}");
    }
    assert!(!told("DescribeRule", json!({"name": "phasebroker-trail-changed"})));
}

#[test]
fn a_topic_of_ours_that_is_deleted_changed_or_left_is_told() {
    let told = |event, request| told("production", "alarms-changed", called("sns", event, request));
    for region in ["eu-central-1", "us-east-1"] {
        let topic = format!("arn:aws:sns:{region}:111122223333:phasebroker-alarms");
        for event in ["DeleteTopic", "SetTopicAttributes", "AddPermission", "RemovePermission"] {
            assert!(told(event, json!({"topicArn": topic})), "{event}");
            assert!(!told(event, json!({"topicArn": format!("{topic}-of-the-shop")})), "{event}");
            assert!(!told(event, json!({"topicArn": topic.replace("phasebroker", "shop")})), "{event}");
            assert!(!told(event, json!({"topicArn": topic.replace("1111", "9999")})), "{event}");
        }
        for event in ["Unsubscribe", "SetSubscriptionAttributes"] {
            let of = |topic: &str| json!({"subscriptionArn": format!("{topic}:0e1d")});
            assert!(told(event, of(&topic)), "{event}");
            assert!(!told(event, of(&topic.replace("phasebroker", "shop"))), "{event}");
        }
        assert!(!told("Publish", json!({"topicArn": topic})));
    }
}

#[test]
fn a_key_of_the_trail_or_of_the_alarms_that_stops_working_is_told() {
    let told = |event: &str, key: &str| {
        let arn = format!("arn:aws:kms:eu-central-1:111122223333:key/{key}");
        let mut record = called("kms", event, json!({"keyId": key}));
        record["resources"] = json!([{"accountId": "111122223333", "type": "AWS::KMS::Key", "ARN": arn}]);
        told("keys", "key-changed", record)
    };
    for event in ["DisableKey", "ScheduleKeyDeletion", "PutKeyPolicy", "CreateGrant"] {
        assert!(told(event, "of-the-trail") && told(event, "of-the-alarms"), "{event}");
        assert!(!told(event, "of-the-shop"), "{event}");
    }
    assert!(!told("GenerateDataKey", "of-the-trail"));
    // And who watches which: the modules that need the provider.
    let text = |path: &str| std::fs::read_to_string(crate::repository(path)).unwrap();
    for (path, arns) in [
        ("terraform/modules/watch/main.tf", "arns = [aws_kms_key.alarms[each.value].arn]"),
        (
            "terraform/modules/aws/main.tf",
            "arns = concat([for key in aws_kms_key.signing : key.arn], module.trail[*].key_arn)",
        ),
        ("terraform/modules/target-account/main.tf", "arns = module.trail[*].key_arn"),
    ] {
        assert!(text(path).contains(arns) && text(path).contains("module.key_changed"), "{path}");
    }
}
