//! What the record of each event may say: where it names what was touched, and which further members are known. Whoever
//! makes a call chooses its parameters; a member that stands in no list here may do more than was approved.
//!
//! Sources: each service's page "Logging … API calls with CloudTrail" and its API reference. A member that is spelled
//! otherwise in a real record is not known, and then a person is asked. No spelling was confirmed in an account.

use super::places::{Place, Within};
use super::record::Record;

/// Events of one service whose records say the same.
pub(super) struct Row {
    source: &'static str,
    events: &'static [&'static str],
    /// Where they name what was touched.
    pub(super) places: &'static [Place],
    /// Every further member that is known, by its name.
    pub(super) members: &'static [(&'static str, Must)],
}

/// What a member that names no resource must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Must {
    /// Whatever it says, the same is done.
    Anything,
    /// One of these, as JSON spells them.
    Be(&'static [&'static str]),
    /// What the approved parameter of this name says: nothing at AWS binds it.
    Parameter(&'static str),
    /// What a condition of the policy on this key says; the key in lower case.
    Condition(&'static str),
    /// The same, for a name whose ARN is of this service and path in the Region and account of the call.
    ConditionArn(&'static str, &'static str, &'static str),
}

use Must::{Anything, Be, Condition, ConditionArn, Parameter};

const NO: Must = Be(&["false"]);

const fn place(service: &'static str, path: &'static str, values: &'static [&'static str]) -> Place {
    Place { service, within: Within::Region, path, values, of: None, needed: true, by_arn: true }
}

const fn optional(place: Place) -> Place {
    Place { needed: false, ..place }
}

const fn of(
    place: Place,
    member: &'static str,
    kind: &'static str,
    otherwise: Option<&'static str>,
) -> Place {
    Place { of: Some((member, kind, otherwise)), ..place }
}

const fn row(
    source: &'static str,
    events: &'static [&'static str],
    places: &'static [Place],
    members: &'static [(&'static str, Must)],
) -> Row {
    Row { source, events, places, members }
}

const INSTANCES: &[Place] = &[place("ec2", "instance/{}", &["instancesSet.items.*.instanceId"])];
const GROUPS: Place = optional(place("ec2", "security-group/{}", &["groupSet.items.*.groupId"]));
const ROLE: &[Place] = &[Place { within: Within::Account, ..place("iam", "role/{}", &["roleName"]) }];
// SECURITY: a key may be spelled like an ARN, and is a key all the same.
const OBJECT: &[Place] = &[Place {
    within: Within::Partition,
    by_arn: false,
    ..of(place("s3", "{of}/{}", &["key"]), "bucketName", "bucket", None)
}];
const APPLICATION: Place = place("appconfig", "application/{}", &["applicationId"]);
const PROFILE: Place = of(
    place("appconfig", "application/{of}/configurationprofile/{}", &["configurationProfileId"]),
    "applicationId",
    "application",
    None,
);
const GROUP: &[Place] =
    &[place("autoscaling", "autoScalingGroup:{made}:autoScalingGroupName/{}", &["autoScalingGroupName"])];
const SECRET: &[Place] = &[place("secretsmanager", "secret:{}-{six}", &["secretId", ">aRN", ">arn"])];

const EC2: &str = "ec2.amazonaws.com";
const ECS: &str = "ecs.amazonaws.com";
const RDS: &str = "rds.amazonaws.com";
const S3: &str = "s3.amazonaws.com";
const IAM: &str = "iam.amazonaws.com";
const APPCONFIG: &str = "appconfig.amazonaws.com";
const AUTOSCALING: &str = "autoscaling.amazonaws.com";
const SECRETS: &str = "secretsmanager.amazonaws.com";

const ROWS: &[Row] = &[
    // A read of what everybody may know: it touches nothing, whichever Regions it asks for.
    row(
        EC2,
        &["DescribeRegions"],
        &[],
        &[("regionSet", Anything), ("filterSet", Anything), ("allRegions", Anything)],
    ),
    row(EC2, &["RebootInstances", "StartInstances"], INSTANCES, &[("dryRun", NO)]),
    row(EC2, &["StopInstances"], INSTANCES, &[("dryRun", NO), ("force", NO), ("hibernate", NO)]),
    row(EC2, &["TerminateInstances"], INSTANCES, &[("dryRun", NO), ("force", NO)]),
    row(EC2, &["ModifyInstanceAttribute"], &[place("ec2", "instance/{}", &["instanceId"]), GROUPS], &[]),
    row(
        EC2,
        &["ModifyNetworkInterfaceAttribute"],
        &[place("ec2", "network-interface/{}", &["networkInterfaceId"]), GROUPS],
        &[],
    ),
    row(
        ECS,
        &["UpdateService"],
        &[of(
            place("ecs", "service/{of}/{}", &["service", ">service.serviceArn"]),
            "cluster",
            "cluster",
            Some("default"),
        )],
        &[
            ("taskDefinition", ConditionArn("ecs:task-definition", "ecs", "task-definition/")),
            ("desiredCount", Parameter("desired")),
            ("forceNewDeployment", NO),
        ],
    ),
    row(
        ECS,
        &["StopTask"],
        &[of(
            place("ecs", "task/{of}/{}", &["task", ">task.taskArn"]),
            "cluster",
            "cluster",
            Some("default"),
        )],
        &[("reason", Anything)],
    ),
    row(
        AUTOSCALING,
        &["SetDesiredCapacity"],
        GROUP,
        &[("desiredCapacity", Parameter("desired")), ("honorCooldown", NO)],
    ),
    row(
        AUTOSCALING,
        &["UpdateAutoScalingGroup"],
        GROUP,
        &[
            ("desiredCapacity", Parameter("desired")),
            ("minSize", Parameter("min_size")),
            ("maxSize", Parameter("max_size")),
        ],
    ),
    row(APPCONFIG, &["CreateHostedConfigurationVersion"], &[APPLICATION, PROFILE], &[]),
    row(
        APPCONFIG,
        &["StartDeployment"],
        &[
            APPLICATION,
            PROFILE,
            of(
                place("appconfig", "application/{of}/environment/{}", &["environmentId"]),
                "applicationId",
                "application",
                None,
            ),
            place("appconfig", "deploymentstrategy/{}", &["deploymentStrategyId"]),
        ],
        &[],
    ),
    row(
        RDS,
        &["RestoreDBInstanceFromDBSnapshot"],
        &[
            place("rds", "db:{}", &["dBInstanceIdentifier", ">dBInstanceArn"]),
            place("rds", "snapshot:{}", &["dBSnapshotIdentifier"]),
            place("rds", "subgrp:{}", &["dBSubnetGroupName", ">dBSubnetGroup.dBSubnetGroupName"]),
            place("rds", "og:{}", &["optionGroupName", ">optionGroupMemberships.*.optionGroupName"]),
            place("rds", "pg:{}", &["dBParameterGroupName", ">dBParameterGroups.*.dBParameterGroupName"]),
        ],
        &[("publiclyAccessible", Condition("rds:publiclyaccessible"))],
    ),
    row(
        RDS,
        &["RebootDBInstance"],
        &[place("rds", "db:{}", &["dBInstanceIdentifier", ">dBInstanceArn"])],
        &[("forceFailover", NO)],
    ),
    row(
        SECRETS,
        &["RotateSecret"],
        SECRET,
        &[("clientRequestToken", Anything), ("rotateImmediately", Be(&["true"]))],
    ),
    row(SECRETS, &["DescribeSecret"], SECRET, &[]),
    row(SECRETS, &["GetSecretValue"], SECRET, &[("versionStage", Be(&["AWSCURRENT"]))]),
    row(SECRETS, &["PutSecretValue", "UpdateSecret"], SECRET, &[("clientRequestToken", Anything)]),
    row(IAM, &["DetachRolePolicy", "AttachRolePolicy"], ROLE, &[("policyArn", Condition("iam:policyarn"))]),
    row(
        IAM,
        &["ListAttachedRolePolicies"],
        ROLE,
        &[("marker", Anything), ("maxItems", Anything), ("pathPrefix", Anything)],
    ),
    row(IAM, &["PutRolePolicy"], ROLE, &[]),
    row(S3, &["GetObject", "HeadObject", "PutObject", "DeleteObject"], OBJECT, &[("Host", Anything)]),
    row(
        "dynamodb.amazonaws.com",
        &["GetItem", "PutItem", "UpdateItem", "DeleteItem"],
        &[place("dynamodb", "table/{}", &["tableName"])],
        &[],
    ),
];

/// What is known of the records of an event.
pub(super) fn of_record(record: &Record) -> Option<&'static Row> {
    of_event(&record.source, &record.name)
}

fn of_event(source: &str, name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.source == source && row.events.contains(&name))
}

/// The parameters that the records of an event show.
pub(super) fn shows(source: &str, name: &str) -> impl Iterator<Item = &'static str> {
    let members = of_event(source, name).map_or(&[][..], |row| row.members);
    members.iter().filter_map(|(_, must)| match must {
        Parameter(name) => Some(*name),
        _ => None,
    })
}

impl Row {
    /// Whether whatever a member says, with all that is in it, changes nothing.
    pub(super) fn is_free(&self, member: &str) -> bool {
        self.members.iter().any(|(name, must)| *name == member && *must == Anything)
    }

    /// Every path of a request that is known.
    pub(super) fn paths(&self) -> impl Iterator<Item = &'static str> {
        let places = self.places.iter().flat_map(|place| {
            let owner = place.of.map(|(member, ..)| member);
            place.values.iter().copied().filter(|path| !path.starts_with('>')).chain(owner)
        });
        places.chain(self.members.iter().map(|(name, _)| *name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::actions;

    #[test]
    fn every_event_of_the_rows_is_one_that_a_known_action_leaves() {
        let mut seen = Vec::new();
        for row in ROWS {
            for name in row.events {
                assert!(!actions::of_event(row.source, name).is_empty(), "{} {name}", row.source);
                seen.push((row.source, *name));
            }
        }
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all, "no event has two rows");
    }

    #[test]
    fn every_hole_of_a_path_is_one_that_is_filled() {
        for place in ROWS.iter().flat_map(|row| row.places) {
            let holes = place.path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap());
            let holes: Vec<&str> = holes.collect();
            assert!(holes.iter().all(|hole| ["", "of", "made", "six"].contains(hole)), "{}", place.path);
            assert_eq!(holes.contains(&"of"), place.of.is_some(), "{}", place.path);
            assert_eq!(holes.iter().filter(|hole| hole.is_empty()).count(), 1, "{}", place.path);
        }
    }

    #[test]
    fn what_a_condition_binds_is_named_in_lower_case_and_by_a_member_of_the_request() {
        for (name, must) in ROWS.iter().flat_map(|row| row.members) {
            assert!(!name.contains(['.', '*', '>']), "{name}");
            if let Condition(key) | ConditionArn(key, ..) = must {
                assert_eq!(*key, key.to_ascii_lowercase());
            }
        }
    }
}
