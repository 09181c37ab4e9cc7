//! Which record of CloudTrail a use of which IAM action leaves. The names differ more often than one would like, so a
//! pair that is not written down here is never a match.
//!
//! Sources: Service Authorization Reference (actions); each service's page "Logging … API calls with CloudTrail" (event
//! names and sources); CloudTrail User Guide, "Logging data events" (what is off by default); Summit Route, "AWS IAM vs
//! API vs CloudTrail" (where the names differ).

/// What a trail tells of an event unless it is asked for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// A management event: every trail has it.
    Always,
    /// A data event: off by default.
    IfAsked,
}

/// Services whose events are named as their actions: prefix of the actions, source of the events, what is told, names.
const SAME: &[(&str, &str, Told, &[&str])] = &[
    (
        "ec2",
        "ec2.amazonaws.com",
        Told::Always,
        &[
            "RebootInstances",
            "StartInstances",
            "StopInstances",
            "TerminateInstances",
            "ModifyInstanceAttribute",
            "ModifyNetworkInterfaceAttribute",
            "DescribeInstances",
            "DescribeInstanceStatus",
            "DescribeNetworkInterfaces",
            "DescribeSecurityGroups",
            "DescribeRegions",
            "DescribeAvailabilityZones",
        ],
    ),
    (
        "ecs",
        "ecs.amazonaws.com",
        Told::Always,
        &["UpdateService", "StopTask", "DescribeServices", "ListServices", "ListTaskDefinitions"],
    ),
    (
        "autoscaling",
        "autoscaling.amazonaws.com",
        Told::Always,
        &[
            "SetDesiredCapacity",
            "UpdateAutoScalingGroup",
            "DescribeAutoScalingGroups",
            "DescribeScalingActivities",
        ],
    ),
    (
        "appconfig",
        "appconfig.amazonaws.com",
        Told::Always,
        &[
            "CreateHostedConfigurationVersion",
            "StartDeployment",
            "StopDeployment",
            "GetDeployment",
            "ListDeployments",
        ],
    ),
    (
        "rds",
        "rds.amazonaws.com",
        Told::Always,
        &[
            "RestoreDBInstanceFromDBSnapshot",
            "RebootDBInstance",
            "ModifyDBInstance",
            "DescribeDBInstances",
            "DescribeDBSnapshots",
        ],
    ),
    (
        "secretsmanager",
        "secretsmanager.amazonaws.com",
        Told::Always,
        &["RotateSecret", "DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecret"],
    ),
    (
        "iam",
        "iam.amazonaws.com",
        Told::Always,
        &[
            "DetachRolePolicy",
            "AttachRolePolicy",
            "ListAttachedRolePolicies",
            "PutRolePolicy",
            "CreateAccessKey",
        ],
    ),
    ("cloudwatch", "monitoring.amazonaws.com", Told::Always, &["DescribeAlarms", "ListMetrics"]),
    ("cloudwatch", "monitoring.amazonaws.com", Told::IfAsked, &["GetMetricData"]),
    ("logs", "logs.amazonaws.com", Told::Always, &["DescribeLogGroups", "DescribeLogStreams"]),
    ("logs", "logs.amazonaws.com", Told::IfAsked, &["FilterLogEvents", "GetLogEvents"]),
    (
        "dynamodb",
        "dynamodb.amazonaws.com",
        Told::IfAsked,
        &[
            "GetItem",
            "PutItem",
            "UpdateItem",
            "DeleteItem",
            "Query",
            "Scan",
            "BatchGetItem",
            "BatchWriteItem",
        ],
    ),
    ("s3", "s3.amazonaws.com", Told::Always, &["CreateBucket", "DeleteBucket", "PutBucketPolicy"]),
    ("sts", "sts.amazonaws.com", Told::Always, &["AssumeRole", "GetSessionToken", "GetFederationToken"]),
];

/// Where they differ, or where one action leaves several events: action, source, event, what is told.
const OTHER: &[(&str, &str, &str, Told)] = &[
    ("s3:ListAllMyBuckets", "s3.amazonaws.com", "ListBuckets", Told::Always),
    ("s3:ListBucket", "s3.amazonaws.com", "ListObjects", Told::IfAsked),
    ("s3:ListBucket", "s3.amazonaws.com", "HeadBucket", Told::IfAsked),
    ("s3:ListBucketVersions", "s3.amazonaws.com", "ListObjectVersions", Told::IfAsked),
    ("s3:GetObject", "s3.amazonaws.com", "GetObject", Told::IfAsked),
    ("s3:GetObject", "s3.amazonaws.com", "HeadObject", Told::IfAsked),
    ("s3:PutObject", "s3.amazonaws.com", "PutObject", Told::IfAsked),
    ("s3:PutObject", "s3.amazonaws.com", "CopyObject", Told::IfAsked),
    ("s3:PutObject", "s3.amazonaws.com", "CreateMultipartUpload", Told::IfAsked),
    ("s3:PutObject", "s3.amazonaws.com", "UploadPart", Told::IfAsked),
    ("s3:PutObject", "s3.amazonaws.com", "CompleteMultipartUpload", Told::IfAsked),
    ("s3:DeleteObject", "s3.amazonaws.com", "DeleteObject", Told::IfAsked),
    ("s3:DeleteObject", "s3.amazonaws.com", "DeleteObjects", Told::IfAsked),
    ("lambda:InvokeFunction", "lambda.amazonaws.com", "Invoke", Told::IfAsked),
    ("lambda:UpdateFunctionCode", "lambda.amazonaws.com", "UpdateFunctionCode20150331v2", Told::Always),
    (
        "lambda:UpdateFunctionConfiguration",
        "lambda.amazonaws.com",
        "UpdateFunctionConfiguration20150331v2",
        Told::Always,
    ),
];

/// Services with one endpoint for all Regions (CloudTrail User Guide, "Global service events"): their records lie where
/// their partition has its home.
const GLOBAL: &[&str] = &["iam", "route53", "cloudfront", "organizations"];

/// Where a partition keeps the records of its global services.
const HOMES: &[(&str, &str)] =
    &[("aws", "us-east-1"), ("aws-us-gov", "us-gov-west-1"), ("aws-cn", "cn-north-1")];

/// Calls that need no permission and that no Deny stops: they say nothing about what was allowed or has ended.
const FREE: &[(&str, &str)] = &[("sts.amazonaws.com", "GetCallerIdentity")];

/// Every pair there is: action, source and name of the event, what is told.
fn pairs() -> impl Iterator<Item = (String, &'static str, &'static str, Told)> {
    let same = SAME.iter().flat_map(|(prefix, source, told, names)| {
        names.iter().map(move |name| (format!("{prefix}:{name}"), *source, *name, *told))
    });
    same.chain(OTHER.iter().map(|(action, source, name, told)| ((*action).to_owned(), *source, *name, *told)))
}

/// The actions that leave this event; none when it is not known.
pub fn of_event(source: &str, name: &str) -> Vec<String> {
    let same = SAME.iter().filter(|(_, s, _, names)| *s == source && names.contains(&name));
    let same = same.map(|(prefix, ..)| format!("{prefix}:{name}"));
    let other = OTHER.iter().filter(|(_, s, n, _)| (*s, *n) == (source, name));
    same.chain(other.map(|(action, ..)| (*action).to_owned())).collect()
}

/// What a trail tells of the uses of an action, at best; `None` when it is not known. IAM reads actions without regard
/// to case.
pub fn told(action: &str) -> Option<Told> {
    let mut known = None;
    for (_, _, _, told) in pairs().filter(|(known, ..)| known.eq_ignore_ascii_case(action)) {
        if told == Told::Always || known.is_none() {
            known = Some(told);
        }
    }
    known
}

/// Whether a call needs no permission.
pub fn is_free(source: &str, name: &str) -> bool {
    FREE.contains(&(source, name))
}

/// Whether the uses of an action are told in the home of its partition, wherever it is used.
pub fn is_global(action: &str) -> bool {
    let service = action.split_once(':').map_or(action, |(service, _)| service);
    GLOBAL.iter().any(|global| global.eq_ignore_ascii_case(service))
}

/// The Region in which a partition keeps the records of its global services; `None` when that is not known.
pub fn home_region(partition: &str) -> Option<&'static str> {
    HOMES.iter().find(|(of, _)| *of == partition).map(|(_, region)| *region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_are_found_and_names_that_only_look_alike_are_not() {
        assert_eq!(of_event("s3.amazonaws.com", "ListBuckets"), ["s3:ListAllMyBuckets"]);
        assert_eq!(of_event("monitoring.amazonaws.com", "ListMetrics"), ["cloudwatch:ListMetrics"]);
        assert_eq!(of_event("s3.amazonaws.com", "ListBucket"), Vec::<String>::new());
        assert_eq!(of_event("rds.amazonaws.com", "RebootInstances"), Vec::<String>::new());
    }

    #[test]
    fn what_is_off_by_default_is_told_from_what_is_not_known() {
        assert_eq!(told("s3:getobject"), Some(Told::IfAsked));
        assert_eq!(told("ec2:RebootInstances"), Some(Told::Always));
        assert_eq!(told("quantum:Entangle"), None);
    }

    #[test]
    fn every_pair_comes_from_where_the_service_is_told() {
        for (action, source, ..) in pairs() {
            let prefix = action.split(':').next().unwrap();
            assert_eq!(source, crate::domain::event_source::event_source(prefix), "{action}");
        }
    }

    #[test]
    fn no_pair_stands_twice() {
        let mut all: Vec<_> = pairs().map(|(action, source, name, _)| (action, source, name)).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
