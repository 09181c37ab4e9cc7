//! Pairs: what was approved, and what merely looks like it.

use serde_json::{Value, json};

use super::*;

const INSTANCE: &str = "arn:aws:ec2:eu-central-1:111122223333:instance/i-0a1b2c3d4e5f60718";
const SERVICE: &str = "arn:aws:ecs:eu-central-1:111122223333:service/prod/checkout";

/// A call of the session, in its account and Region; `change` sets one thing.
fn record(source: &str, name: &str, request: Value, change: impl FnOnce(&mut Value)) -> Record {
    let mut written = json!({
        "eventID": "e", "eventTime": "2026-11-26T01:00:00Z", "eventSource": source, "eventName": name,
        "awsRegion": "eu-central-1", "recipientAccountId": "111122223333",
        "userIdentity": {"accountId": "111122223333", "principalId": "AROAX:execute-1",
            "sessionContext": {"sessionIssuer": {"arn": "arn:aws:iam::111122223333:role/exec"}}},
        "requestParameters": request,
    });
    change(&mut written);
    Record::read(written.to_string().as_bytes()).unwrap()
}

fn policy(action: &str, resources: &[&str]) -> Allowed {
    let allow = json!({"Effect": "Allow", "Action": [action], "Resource": resources});
    let deny = json!({"Effect": "Deny", "Action": "*", "Resource": "*"});
    Allowed::read(&json!({"Version": "2012-10-17", "Statement": [allow, deny]}).to_string()).unwrap()
}

/// Signed with these parameters, of which AWS does not enforce those that are named.
fn signed(allowed: Allowed, parameters: Value, unenforced: &[&str]) -> Allowed {
    let action = json!({
        "type": "scale-it", "service": "s", "summary": "s", "parameters": parameters, "unenforced": unenforced,
        "class": "availability", "reversible": true, "changes": 1, "exceptions": [], "preconditions": [],
    });
    allowed.signed(&serde_json::from_value(action).unwrap())
}

fn judged(allowed: &Allowed, action: &str, record: &Record) -> Touched {
    allowed.touched(&[action.to_owned()], &Touches::of(record, true))
}

fn is_other(touched: &Touched) -> bool {
    matches!(touched, Touched::Other(_))
}

fn is_unsaid(touched: &Touched) -> bool {
    matches!(touched, Touched::Unsaid(_))
}

#[test]
fn only_what_is_allowed_is_read_and_what_cannot_be_read_is_nothing() {
    let allowed = policy("ec2:RebootInstances", &[INSTANCE]);
    assert!(allowed.allows("ec2:rebootinstances") && !allowed.allows("ec2:StopInstances"));
    assert!(allowed.is_known() && !allowed.is_untold());
    for bad in [
        "",
        "{}",
        r#"{"Statement":[{"Effect":"Allow","NotAction":"a:b","Resource":"*"}]}"#,
        r#"{"Statement":[{"Effect":"Allow","Action":[7],"Resource":"*"}]}"#,
        r#"{"Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#,
    ] {
        assert_eq!(Allowed::read(bad), None, "{bad}");
    }
}

fn reboot(ids: &[&str], change: impl FnOnce(&mut Value)) -> Touched {
    let items: Vec<Value> = ids.iter().map(|id| json!({"instanceId": id})).collect();
    let request = json!({"instancesSet": {"items": items}});
    let made = record("ec2.amazonaws.com", "RebootInstances", request, change);
    judged(&policy("ec2:RebootInstances", &[INSTANCE]), "ec2:RebootInstances", &made)
}

#[test]
fn the_approved_instance_is_one_of_its_region_and_account_and_no_other() {
    let mine = "i-0a1b2c3d4e5f60718";
    assert_eq!(reboot(&[mine], |_| {}), Touched::Approved);
    assert!(is_other(&reboot(&["i-00000000000000001"], |_| {})));
    assert!(is_other(&reboot(&[mine], |one| one["awsRegion"] = json!("eu-west-1"))));
    assert!(is_other(&reboot(&[mine], |one| {
        one["userIdentity"]["accountId"] = json!("444455556666");
        one["recipientAccountId"] = json!("444455556666");
    })));
    let role = "arn:aws-cn:iam::111122223333:role/exec";
    assert!(is_other(&reboot(&[mine], |one| {
        one["userIdentity"]["sessionContext"]["sessionIssuer"]["arn"] = json!(role);
    })));
    // What it is not said in is not assumed.
    for gone in ["/awsRegion", "/userIdentity/accountId", "/userIdentity/sessionContext/sessionIssuer/arn"] {
        let touched = reboot(&[mine], |one| *one.pointer_mut(gone).unwrap() = Value::Null);
        assert!(is_unsaid(&touched), "{gone}: {touched:?}");
    }
    assert!(is_unsaid(&reboot(&[mine], |one| one["recipientAccountId"] = json!("444455556666"))));
}

#[test]
fn a_call_that_touches_several_things_is_approved_only_when_all_of_them_are() {
    let (mine, other) = ("i-0a1b2c3d4e5f60718", "i-00000000000000001");
    assert!(is_other(&reboot(&[mine, other], |_| {})) && is_other(&reboot(&[other, mine], |_| {})));
    assert_eq!(reboot(&[mine, mine], |_| {}), Touched::Approved);
    assert!(is_unsaid(&reboot(&[], |_| {})));
    assert!(is_unsaid(&reboot(&[mine, ""], |_| {})), "an item without an id");
    assert!(is_unsaid(&reboot(&vec![mine; 500], |_| {})));
}

#[test]
fn an_approved_name_elsewhere_in_the_request_approves_nothing() {
    let mine = "i-0a1b2c3d4e5f60718";
    let hidden = |one: &mut Value| {
        one["requestParameters"]["note"] = json!(mine);
        one["requestParameters"]["filter"] = json!([INSTANCE]);
    };
    assert!(is_other(&reboot(&["i-00000000000000001"], hidden)));
    assert!(is_unsaid(&reboot(&[], hidden)));
    assert!(is_unsaid(&reboot(&[mine], hidden)));
    // And one that was not approved is seen wherever it stands.
    assert!(is_other(&reboot(&[mine], |one| one["requestParameters"]["x"] = json!("i-00000000000000001"))));
    assert!(is_other(&reboot(&[mine], |one| {
        one["resources"] = json!([{"ARN": "arn:aws:ec2:eu-central-1:111122223333:instance/i-1"}]);
    })));
    assert!(is_unsaid(&reboot(&[mine], |one| one["requestParameters"]["x"] = json!("sg-0a1b2c3d"))));
}

fn update(request: Value, change: impl FnOnce(&mut Value)) -> Touched {
    let revision = "arn:aws:ecs:eu-central-1:111122223333:task-definition/checkout:41";
    let conditions = json!({"ArnEquals": {"ecs:Task-Definition": [revision]}});
    let allow = json!({"Effect": "Allow", "Action": ["ecs:UpdateService"], "Resource": [SERVICE],
        "Condition": conditions});
    let allowed = Allowed::read(&json!({"Statement": [allow]}).to_string()).unwrap();
    let allowed = signed(allowed, json!({"service": "checkout", "desired": 4, "current": 6}), &[]);
    judged(&allowed, "ecs:UpdateService", &record("ecs.amazonaws.com", "UpdateService", request, change))
}

#[test]
fn a_service_is_one_of_its_cluster() {
    let of = |cluster: &str, service: &str| update(json!({"cluster": cluster, "service": service}), |_| {});
    assert_eq!(of("prod", "checkout"), Touched::Approved);
    assert_eq!(of("arn:aws:ecs:eu-central-1:111122223333:cluster/prod", "checkout"), Touched::Approved);
    assert_eq!(of("prod", SERVICE), Touched::Approved);
    for (cluster, service) in [
        ("staging", "checkout"),
        ("prod", "check"),
        ("prod", "arn:aws:ecs:eu-west-1:111122223333:service/prod/checkout"),
        ("prod", "arn:aws:ecs:eu-central-1:444455556666:service/prod/checkout"),
        ("staging", "arn:aws:ecs:eu-central-1:111122223333:service/staging/checkout"),
    ] {
        assert!(is_other(&of(cluster, service)), "{cluster} {service}: {:?}", of(cluster, service));
    }
    for (cluster, service) in [
        ("prod", ""),
        ("", "checkout"),
        ("prod/checkout", "x"),
        ("arn:aws:ecs:eu-west-1:111122223333:cluster/prod", "checkout"),
        ("arn:aws:ecs:eu-central-1:444455556666:cluster/prod", "checkout"),
        ("prod", "arn:aws:ecs:eu-central-1:111122223333:service/checkout"),
        ("prod", "arn:aws:ecs:eu-central-1:111122223333:cluster/prod"),
        ("prod", "arn:nonsense"),
        // Which of two clusters AWS takes is not known.
        ("staging", SERVICE),
        ("prod", "arn:aws:ecs:eu-central-1:111122223333:service/staging/checkout"),
    ] {
        assert!(is_unsaid(&of(cluster, service)), "{cluster} {service}: {:?}", of(cluster, service));
    }
    // Without a cluster it is the one named `default`.
    assert!(is_other(&update(json!({"service": "checkout"}), |_| {})));
    let answer = |arn: &str| {
        let arn = arn.to_owned();
        update(json!({"cluster": "prod", "service": "checkout"}), move |one| {
            one["responseElements"] = json!({"service": {"serviceArn": arn}});
        })
    };
    assert_eq!(answer(SERVICE), Touched::Approved);
    assert!(is_other(&answer("arn:aws:ecs:eu-central-1:111122223333:service/staging/checkout")));
}

#[test]
fn a_member_that_is_not_known_makes_a_call_one_for_a_person() {
    let of = |member: &str, value: Value| {
        let mut request = json!({"cluster": "prod", "service": "checkout"});
        request[member] = value;
        update(request, |_| {})
    };
    for (member, value) in [
        ("enableExecuteCommand", json!(true)),
        ("enableExecuteCommand", json!(false)),
        ("loadBalancers", json!([])),
        ("networkConfiguration", json!({})),
        ("forceNewDeployment", json!(true)),
        ("forceNewDeployment", json!({"a": false})),
        ("deploymentConfiguration", json!({"deploymentCircuitBreaker": {"enable": false}})),
        ("cluster.service", json!("checkout")),
        ("*", json!("checkout")),
    ] {
        assert!(is_unsaid(&of(member, value.clone())), "{member} {value}: {:?}", of(member, value.clone()));
    }
    for (member, value) in [
        ("enableExecuteCommand", Value::Null),
        ("forceNewDeployment", json!(false)),
        ("taskDefinition", json!("checkout:41")),
        ("taskDefinition", json!("arn:aws:ecs:eu-central-1:111122223333:task-definition/checkout:41")),
    ] {
        assert_eq!(of(member, value.clone()), Touched::Approved, "{member} {value}");
    }
    // And so inside of what is known.
    let mine = "i-0a1b2c3d4e5f60718";
    let inside = |change: fn(&mut Value)| reboot(&[mine], |one| change(&mut one["requestParameters"]));
    assert!(is_unsaid(&inside(|one| one["instancesSet"]["items"][0]["userData"] = json!("run"))));
    assert!(is_unsaid(&inside(|one| one["instancesSet"]["all"] = json!(true))));
    assert_eq!(inside(|one| one["dryRun"] = json!(false)), Touched::Approved);
}

#[test]
fn what_a_condition_binds_is_what_the_condition_says() {
    let of = |value: &str| {
        update(json!({"cluster": "prod", "service": "checkout", "taskDefinition": value}), |_| {})
    };
    assert_eq!(of("checkout:41"), Touched::Approved);
    for other in ["checkout:42", "checkout", "arn:aws:ecs:eu-west-1:111122223333:task-definition/checkout:41"]
    {
        assert!(matches!(of(other), Touched::Unsaid(why) if why.contains("taskDefinition")), "{other}");
    }
    // Where no condition binds it, nothing says which.
    let open = policy("iam:DetachRolePolicy", &["arn:aws:iam::111122223333:role/app"]);
    let request = json!({"roleName": "app", "policyArn": "arn:aws:iam::111122223333:policy/x"});
    let made = record("iam.amazonaws.com", "DetachRolePolicy", request, |_| {});
    assert!(is_unsaid(&judged(&open, "iam:DetachRolePolicy", &made)));
}

#[test]
fn a_number_is_compared_with_the_parameter_of_its_name_and_with_no_other() {
    let of =
        |count: u64| update(json!({"cluster": "prod", "service": "checkout", "desiredCount": count}), |_| {});
    assert_eq!(of(4), Touched::Approved);
    for other in [0, 6] {
        assert!(matches!(of(other), Touched::Unsaid(why) if why.contains("desiredCount")), "{other}");
    }
    let group = "arn:aws:autoscaling:eu-central-1:111122223333:autoScalingGroup:u-u:autoScalingGroupName/web";
    let scale = |name: &str, request: Value| {
        let action = format!("autoscaling:{name}");
        let allowed = policy(&action, &[group]);
        let allowed = signed(allowed, json!({"desired": 12, "current": 8, "max_size": 12}), &["desired"]);
        let mut whole = json!({"autoScalingGroupName": "web"});
        request.as_object().unwrap().iter().for_each(|(name, value)| whole[name] = value.clone());
        judged(&allowed, &action, &record("autoscaling.amazonaws.com", name, whole, |_| {}))
    };
    assert_eq!(scale("SetDesiredCapacity", json!({"desiredCapacity": 12})), Touched::Approved);
    let others = [json!({"desiredCapacity": 8}), json!({"desiredCapacity": 12, "honorCooldown": true})];
    for other in others {
        assert!(is_unsaid(&scale("SetDesiredCapacity", other.clone())), "{other}");
    }
    // What AWS does not enforce must be shown.
    assert!(is_unsaid(&scale("SetDesiredCapacity", json!({}))));
    let all = json!({"desiredCapacity": 12, "maxSize": 12});
    assert_eq!(scale("UpdateAutoScalingGroup", all), Touched::Approved);
    let least = json!({"desiredCapacity": 12, "minSize": 12});
    assert!(is_unsaid(&scale("UpdateAutoScalingGroup", least)), "no parameter of that name was approved");
}

#[test]
fn everything_is_allowed_by_a_star_alone_only_where_nobody_signs_and_nothing_is_demanded() {
    let action = ["ec2:DescribeInstances".to_owned()];
    let open = policy(&action[0], &["*"]);
    assert!(open.everywhere(&action) && !signed(open, json!({}), &[]).everywhere(&action));
    let narrow = json!({"Effect": "Allow", "Action": action, "Resource": "*",
        "Condition": {"StringEquals": {"ec2:Region": "eu-central-1"}}});
    assert!(!Allowed::read(&json!({"Statement": narrow}).to_string()).unwrap().everywhere(&action));
}

#[test]
fn what_aws_adds_to_a_unique_name_need_not_be_told() {
    let touched = |action: &str, resource: &str, source: &str, request: Value| {
        let name = action.split_once(':').unwrap().1;
        judged(&policy(action, &[resource]), action, &record(source, name, request, |_| {}))
    };
    let group = "arn:aws:autoscaling:eu-central-1:111122223333:autoScalingGroup:u-u:autoScalingGroupName/web";
    let scale = |name: &str| {
        let request = json!({"autoScalingGroupName": name});
        touched("autoscaling:SetDesiredCapacity", group, "autoscaling.amazonaws.com", request)
    };
    assert_eq!(scale("web"), Touched::Approved);
    assert!(is_other(&scale("web-2")) && is_other(&scale("eb")));

    let secret = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:db/main-a1B2c3";
    let rotate = |id: &str| {
        let request = json!({"secretId": id});
        touched("secretsmanager:RotateSecret", secret, "secretsmanager.amazonaws.com", request)
    };
    for id in ["db/main", secret, "arn:aws:secretsmanager:eu-central-1:111122223333:secret:db/main"] {
        assert_eq!(rotate(id), Touched::Approved, "{id}");
    }
    for id in ["main", "db/main-a1B2c3", "db", "arn:aws:secretsmanager:eu-west-1:111122223333:secret:db/main"]
    {
        assert!(is_other(&rotate(id)), "{id}: {:?}", rotate(id));
    }

    let role = |resource: &str, name: &str| {
        touched("iam:DetachRolePolicy", resource, "iam.amazonaws.com", json!({"roleName": name}))
    };
    let in_path = "arn:aws:iam::111122223333:role/app/checkout";
    assert_eq!(role(in_path, "checkout"), Touched::Approved);
    assert!(is_other(&role(in_path, "out")) && is_other(&role(in_path, "app")));
    // A pattern over paths does not say whether this one lies inside.
    assert!(is_unsaid(&role("arn:aws:iam::111122223333:role/app/*", "checkout")));
}

#[test]
fn an_object_is_one_of_its_bucket_and_a_network_interface_goes_with_its_groups() {
    let object = "arn:aws:s3:::shop/prices.json";
    let read = |bucket: &str, key: &str| {
        let request = json!({"bucketName": bucket, "key": key});
        let made = record("s3.amazonaws.com", "GetObject", request, |one| {
            one["resources"] = json!([{"ARN": format!("arn:aws:s3:::{bucket}/{key}")}, {"ARN": format!("arn:aws:s3:::{bucket}")}]);
        });
        judged(&policy("s3:GetObject", &[object]), "s3:GetObject", &made)
    };
    assert_eq!(read("shop", "prices.json"), Touched::Approved);
    assert!(is_other(&read("shop2", "prices.json")) && is_other(&read("shop", "prices.json.bak")));
    // A key may be spelled like the name of what was approved, in a bucket that was not.
    let spelled = |bucket: &str, key: &str| {
        let made = record("s3.amazonaws.com", "GetObject", json!({"bucketName": bucket, "key": key}), |_| {});
        judged(&policy("s3:GetObject", &[object]), "s3:GetObject", &made)
    };
    assert!(is_other(&spelled("other", object)) && is_other(&spelled("shop", object)));
    let own = policy("s3:GetObject", &["arn:aws:s3:::shop/arn:aws:s3:::shop/prices.json"]);
    let made = record("s3.amazonaws.com", "GetObject", json!({"bucketName": "shop", "key": object}), |_| {});
    assert_eq!(judged(&own, "s3:GetObject", &made), Touched::Approved);

    let at = |path: &str| format!("arn:aws:ec2:eu-central-1:111122223333:{path}");
    let resources = [at("network-interface/eni-0a1b2c3d"), at("security-group/sg-0a1b2c3d")];
    let resources = [resources[0].as_str(), resources[1].as_str()];
    let isolate = |group: &str| {
        let request =
            json!({"networkInterfaceId": "eni-0a1b2c3d", "groupSet": {"items": [{"groupId": group}]}});
        let made = record("ec2.amazonaws.com", "ModifyNetworkInterfaceAttribute", request, |_| {});
        let action = "ec2:ModifyNetworkInterfaceAttribute";
        judged(&policy(action, &resources), action, &made)
    };
    assert_eq!(isolate("sg-0a1b2c3d"), Touched::Approved);
    assert!(is_other(&isolate("sg-00000001")));
}

#[test]
fn a_restore_is_of_all_that_it_names_and_of_nothing_that_it_keeps_quiet() {
    let at = |path: &str| format!("arn:aws:rds:eu-central-1:111122223333:{path}");
    let all = ["db:new", "snapshot:rds:nightly", "subgrp:inner", "og:default:pg", "pg:tuned"].map(at);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let action = "rds:RestoreDBInstanceFromDBSnapshot";
    let whole = json!({
        "dBInstanceIdentifier": "New", "dBSnapshotIdentifier": "rds:nightly", "dBSubnetGroupName": "inner",
        "optionGroupName": "default:pg", "dBParameterGroupName": "tuned",
    });
    let restore = |change: &dyn Fn(&mut Value)| {
        let mut request = whole.clone();
        change(&mut request);
        let made = record("rds.amazonaws.com", "RestoreDBInstanceFromDBSnapshot", request, |_| {});
        judged(&policy(action, &all), action, &made)
    };
    assert_eq!(restore(&|_| {}), Touched::Approved);
    assert!(is_other(&restore(&|one| one["dBSnapshotIdentifier"] = json!("other"))));
    assert!(is_unsaid(&restore(&|one| one["optionGroupName"] = Value::Null)));
    let open = restore(&|one| one["vpcSecurityGroupIds"] = json!(["sg-0a1b2c3d"]));
    assert!(matches!(open, Touched::Unsaid(why) if why.contains("vpcSecurityGroupIds")));
}

#[test]
fn a_request_without_measure_is_not_kept() {
    let mine = "i-0a1b2c3d4e5f60718";
    let with = |note: Value| {
        let request = json!({"instancesSet": {"items": [{"instanceId": mine}]}, "note": note});
        Touches::of(&record("ec2.amazonaws.com", "RebootInstances", request, |_| {}), true)
    };
    assert!(matches!(with(json!(format!("arn:{}", "x".repeat(2_000)))), Touches::Unsaid(_)));
    let many: Vec<String> = (0..200).map(|number| format!("arn:aws:s3:::bucket{number}")).collect();
    assert!(matches!(with(json!(many)), Touches::Unsaid(_)));
    assert!(matches!(with(json!("arn:aws:s3:::bucket")), Touches::All { .. }));
    let long = "n".repeat(5_000);
    let request = json!({"instancesSet": {"items": [{"instanceId": mine}]}, long: [[1, 2], [3]]});
    let touches = Touches::of(&record("ec2.amazonaws.com", "RebootInstances", request, |_| {}), true);
    assert!(matches!(touches, Touches::All { unknown: Some(name), .. } if name.len() <= 200));
}

#[test]
fn what_an_event_touches_is_not_guessed() {
    let made = record("ecs.amazonaws.com", "ListServices", json!({"cluster": "prod"}), |_| {});
    assert!(is_unsaid(&judged(&policy("ecs:ListServices", &[SERVICE]), "ecs:ListServices", &made)));
}
