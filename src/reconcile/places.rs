//! Where a record says what was touched, event by event. Only what stands here is read: whoever makes a call chooses the
//! rest of its parameters, and could write an approved name into any of them.
//!
//! Sources: each service's page "Logging … API calls with CloudTrail" and its API reference. A member that is spelled
//! otherwise in a real record is not found, and then a person is asked. No spelling was confirmed in an account.

use serde_json::Value;

use super::arn::{Arn, Piece, literal};
use super::record::Record;

/// Most resources of one call that are looked at.
const MAX_NAMED: usize = 128;
/// Longest name of a resource, in bytes.
const MAX_NAME_BYTES: usize = 1_152;

/// A resource that a call touches, and how its name is put together.
struct Place {
    /// The service, as ARNs spell it.
    service: &'static str,
    /// What an ARN says beside the service.
    within: Within,
    /// What follows the account. `{}` is the value, `{of}` the one it belongs to, `{made}` what AWS made up.
    path: &'static str,
    /// Members with the value; after `>` those of the answer. `*` goes through a list.
    values: &'static [&'static str],
    /// Member of what it belongs to, its type in ARNs, and which it is when the member is not there.
    of: Option<(&'static str, &'static str, Option<&'static str>)>,
    /// Whether the call always touches one.
    needed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Region,
    Account,
    Partition,
}

/// Events of one service with the same places.
type Row = (&'static str, &'static [&'static str], &'static [Place]);

const fn place(service: &'static str, path: &'static str, values: &'static [&'static str]) -> Place {
    Place { service, within: Within::Region, path, values, of: None, needed: true }
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

const ROLE: Place = Place { within: Within::Account, ..place("iam", "role/{}", &["roleName"]) };
const OBJECT: Place =
    Place { within: Within::Partition, ..of(place("s3", "{of}/{}", &["key"]), "bucketName", "bucket", None) };
const APPLICATION: Place = place("appconfig", "application/{}", &["applicationId"]);
const PROFILE: Place = of(
    place("appconfig", "application/{of}/configurationprofile/{}", &["configurationProfileId"]),
    "applicationId",
    "application",
    None,
);

const ROWS: &[Row] = &[
    (
        "ec2.amazonaws.com",
        &["RebootInstances", "StartInstances", "StopInstances", "TerminateInstances"],
        &[place("ec2", "instance/{}", &["instancesSet.items.*.instanceId"])],
    ),
    (
        "ec2.amazonaws.com",
        &["ModifyInstanceAttribute"],
        &[
            place("ec2", "instance/{}", &["instanceId"]),
            optional(place("ec2", "security-group/{}", &["groupSet.items.*.groupId"])),
        ],
    ),
    (
        "ec2.amazonaws.com",
        &["ModifyNetworkInterfaceAttribute"],
        &[
            place("ec2", "network-interface/{}", &["networkInterfaceId"]),
            optional(place("ec2", "security-group/{}", &["groupSet.items.*.groupId"])),
        ],
    ),
    (
        "ecs.amazonaws.com",
        &["UpdateService"],
        &[of(
            place("ecs", "service/{of}/{}", &["service", ">service.serviceArn"]),
            "cluster",
            "cluster",
            Some("default"),
        )],
    ),
    (
        "ecs.amazonaws.com",
        &["StopTask"],
        &[of(
            place("ecs", "task/{of}/{}", &["task", ">task.taskArn"]),
            "cluster",
            "cluster",
            Some("default"),
        )],
    ),
    (
        "autoscaling.amazonaws.com",
        &["SetDesiredCapacity", "UpdateAutoScalingGroup"],
        &[place("autoscaling", "autoScalingGroup:{made}:autoScalingGroupName/{}", &["autoScalingGroupName"])],
    ),
    ("appconfig.amazonaws.com", &["CreateHostedConfigurationVersion"], &[APPLICATION, PROFILE]),
    (
        "appconfig.amazonaws.com",
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
    ),
    (
        "rds.amazonaws.com",
        &["RestoreDBInstanceFromDBSnapshot"],
        &[
            place("rds", "db:{}", &["dBInstanceIdentifier", ">dBInstanceArn"]),
            place("rds", "snapshot:{}", &["dBSnapshotIdentifier"]),
            place("rds", "subgrp:{}", &["dBSubnetGroupName", ">dBSubnetGroup.dBSubnetGroupName"]),
            place("rds", "og:{}", &["optionGroupName", ">optionGroupMemberships.*.optionGroupName"]),
            place("rds", "pg:{}", &["dBParameterGroupName", ">dBParameterGroups.*.dBParameterGroupName"]),
        ],
    ),
    (
        "rds.amazonaws.com",
        &["RebootDBInstance"],
        &[place("rds", "db:{}", &["dBInstanceIdentifier", ">dBInstanceArn"])],
    ),
    (
        "secretsmanager.amazonaws.com",
        &["RotateSecret", "DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecret"],
        &[place("secretsmanager", "secret:{}-{six}", &["secretId", ">aRN", ">arn"])],
    ),
    (
        "iam.amazonaws.com",
        &["DetachRolePolicy", "AttachRolePolicy", "ListAttachedRolePolicies", "PutRolePolicy"],
        &[ROLE],
    ),
    ("s3.amazonaws.com", &["GetObject", "HeadObject", "PutObject", "DeleteObject"], &[OBJECT]),
    (
        "dynamodb.amazonaws.com",
        &["GetItem", "PutItem", "UpdateItem", "DeleteItem"],
        &[place("dynamodb", "table/{}", &["tableName"])],
    ),
];

/// Members by which a call changes what no resource and no condition can hold, so that a parameter must have said it.
const VALUES: &[(&str, &str, &[&str])] = &[
    ("autoscaling.amazonaws.com", "SetDesiredCapacity", &["desiredCapacity"]),
    ("autoscaling.amazonaws.com", "UpdateAutoScalingGroup", &["desiredCapacity", "minSize", "maxSize"]),
    ("ecs.amazonaws.com", "UpdateService", &["desiredCount"]),
];

/// A resource that a record names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Named {
    /// As people are shown it.
    pub(super) shown: String,
    /// What its whole ARN can be.
    pub(super) arns: Vec<Vec<Piece>>,
    /// What the record says of it.
    pub(super) value: String,
}

/// Everything that a call touches, or why that is not known.
pub(super) fn named(record: &Record) -> Result<Vec<Named>, &'static str> {
    let row = ROWS
        .iter()
        .find(|(source, names, _)| *source == record.source && names.contains(&record.name.as_str()));
    let (.., places) = row.ok_or("it is not known where such a record says what it touched")?;
    let mut found = Vec::new();
    for place in *places {
        let values = place.values(record);
        if values.is_empty() && place.needed {
            return Err("the record does not say which resource it touched");
        }
        if values.len().saturating_add(found.len()) > MAX_NAMED {
            return Err("it touched more resources than are looked at");
        }
        for value in values {
            found.push(place.name(record, value)?);
        }
    }
    Ok(found)
}

/// What a call sets beside what it touches, and that a parameter must have said: member and value.
pub(super) fn values(record: &Record) -> Vec<(&'static str, String)> {
    let of = |(source, name, _): &&(&str, &str, _)| *source == record.source && *name == record.name;
    let members = VALUES.iter().find(of).map_or(&[][..], |(.., members)| *members);
    let value = |member: &&'static str| match record.request.get(*member)? {
        Value::Null => None,
        Value::String(text) => Some((*member, text.clone())),
        other => Some((*member, other.to_string())),
    };
    members.iter().filter_map(value).collect()
}

/// Where every event of a table stands, for tests of the tables.
#[cfg(test)]
pub(super) fn events() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROWS.iter().flat_map(|(source, names, _)| names.iter().map(move |name| (*source, *name)))
}

impl Place {
    fn values<'r>(&self, record: &'r Record) -> Vec<&'r str> {
        let mut found = Vec::new();
        for member in self.values {
            match member.strip_prefix('>') {
                Some(member) => collect(&record.response, member, &mut found),
                None => collect(&record.request, member, &mut found),
            }
        }
        found.truncate(MAX_NAMED.saturating_add(1));
        found
    }

    fn name(&self, record: &Record, value: &str) -> Result<Named, &'static str> {
        const UNSAID: &str = "the record does not say whole which resource it touched";
        if value.is_empty() || value.len() > MAX_NAME_BYTES {
            return Err(UNSAID);
        }
        let value = value.to_owned();
        if let Some(arn) = Arn::parse(&value) {
            let same = arn.service == self.service && (self.service == "s3" || arn.kind() == self.kind());
            // An ARN of the old form names no cluster.
            let whole = arn.path.matches('/').count() >= self.path.matches('/').count();
            if !same || !whole {
                return Err(UNSAID);
            }
            let mut arns = vec![literal(&value)];
            if self.service == "secretsmanager" {
                // A secret may be named by its ARN without the end that AWS gave it.
                arns.push([literal(&value), literal("-"), vec![Piece::One; 6]].concat());
            }
            return Ok(Named { shown: value.clone(), arns, value });
        }
        if value.starts_with("arn:") {
            return Err(UNSAID);
        }
        let account = record.caller.account.as_deref().ok_or(UNSAID)?;
        // A copy in the trail of whoever owns the resource: what a bare name means there is not the caller's.
        let foreign = record.recipient.as_deref().is_some_and(|recipient| recipient != account);
        if foreign && self.within != Within::Partition {
            return Err("the record is of another account's trail, and names no ARN");
        }
        let partition = record.caller.role.as_deref().and_then(Arn::parse).map(|arn| arn.partition);
        let partition = partition.ok_or(UNSAID)?;
        let (region, account) = match self.within {
            Within::Region => (record.region.as_deref().ok_or(UNSAID)?, account),
            Within::Account => ("", account),
            Within::Partition => ("", ""),
        };
        let begin = format!("arn:{partition}:{}:{region}:{account}:", self.service);
        // RDS keeps its names in lower case, however they are asked for.
        let value = if self.service == "rds" { value.to_ascii_lowercase() } else { value };
        let owner = self.owner(record, region, account)?;
        let path = |text: &str| text.replace("{of}", owner.unwrap_or_default());
        let shown = format!("{begin}{}", path(self.path).replace("{six}", "??????").replace("{made}", "*"));
        let shown = shown.replacen("{}", &value, 1);
        let mut arns = vec![pieces(&begin, self.path, owner, &value)];
        if self.service == "iam" {
            // The name of a role is unique in its account; its path is told by no record.
            arns.push(pieces(&begin, "role/{made}/{}", owner, &value));
        }
        Ok(Named { shown, arns, value })
    }

    fn kind(&self) -> Option<&'static str> {
        self.path.split_once(['/', ':']).map(|(kind, _)| kind)
    }

    /// What the resource belongs to: a cluster, an application, a bucket.
    fn owner<'r>(
        &self,
        record: &'r Record,
        region: &str,
        account: &str,
    ) -> Result<Option<&'r str>, &'static str> {
        const UNSAID: &str = "the record does not say what the resource it touched belongs to";
        let Some((member, kind, otherwise)) = self.of else { return Ok(None) };
        let said = match (record.request.get(member), otherwise) {
            (Some(Value::String(text)), _) => text.as_str(),
            (None | Some(Value::Null), Some(otherwise)) => otherwise,
            _ => return Err(UNSAID),
        };
        let name = match Arn::parse(said) {
            None => said,
            Some(arn) if (arn.region, arn.account) == (region, account) && arn.service == self.service => {
                arn.path.strip_prefix(kind).and_then(|rest| rest.strip_prefix('/')).ok_or(UNSAID)?
            }
            Some(_) => return Err(UNSAID),
        };
        // SECURITY: a name with a divider in it would be read as two parts of a path.
        match !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.contains(['/', ':', '*', '?']) {
            true => Ok(Some(name)),
            false => Err(UNSAID),
        }
    }
}

/// The whole ARN, as far as it is known.
fn pieces(begin: &str, path: &str, owner: Option<&str>, value: &str) -> Vec<Piece> {
    let mut found = literal(begin);
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((hole, after)) = after.split_once('}') else { break };
        found.extend(literal(before));
        match hole {
            "made" => found.push(Piece::Many),
            "six" => found.extend([Piece::One; 6]),
            "of" => found.extend(literal(owner.unwrap_or_default())),
            _ => found.extend(literal(value)),
        }
        rest = after;
    }
    found.extend(literal(rest));
    found
}

/// Every text at a dotted path.
fn collect<'r>(value: &'r Value, path: &str, found: &mut Vec<&'r str>) {
    if found.len() > MAX_NAMED {
        return;
    }
    let Some((first, rest)) =
        path.split_once('.').map(|(first, rest)| (first, Some(rest))).or(Some((path, None)))
    else {
        return;
    };
    let each = |next: &'r Value, found: &mut Vec<&'r str>| match rest {
        Some(rest) => collect(next, rest, found),
        // What is no text is no name either; as one without a letter it is for a person.
        None if next.is_null() => {}
        None => found.push(next.as_str().unwrap_or_default()),
    };
    match value {
        Value::Array(items) if first == "*" => items.iter().for_each(|item| each(item, found)),
        Value::Object(members) => members.get(first).into_iter().for_each(|next| each(next, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::actions::of_event;

    #[test]
    fn every_event_of_the_tables_is_one_that_a_known_action_leaves() {
        let mut seen = Vec::new();
        for (source, name) in events().chain(VALUES.iter().map(|(source, name, _)| (*source, *name))) {
            assert!(!of_event(source, name).is_empty(), "{source} {name}");
            seen.push((source, name));
        }
        let all = events().count();
        seen.truncate(all);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all, "no event has two rows");
    }

    #[test]
    fn every_hole_of_a_path_is_one_that_is_filled() {
        for place in ROWS.iter().flat_map(|(.., places)| *places) {
            let holes = place.path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap());
            let holes: Vec<&str> = holes.collect();
            assert!(holes.iter().all(|hole| ["", "of", "made", "six"].contains(hole)), "{}", place.path);
            assert_eq!(holes.contains(&"of"), place.of.is_some(), "{}", place.path);
            assert_eq!(holes.iter().filter(|hole| hole.is_empty()).count(), 1, "{}", place.path);
        }
    }
}
