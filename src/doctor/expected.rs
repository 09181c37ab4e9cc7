//! What a catalog asks of AWS: its phase roles with their ceilings, and what a trail has to record.

use std::collections::{BTreeMap, BTreeSet};

use super::policy::Policy;
use crate::catalog::iam::ActionTable;
use crate::catalog::{Ceilings, EnvironmentCeilings};

/// CloudTrail's resource types of services whose data events are off by default. The Terraform module has the same list.
const DATA_EVENT_TYPES: [(&str, &str); 6] = [
    ("dynamodb", "AWS::DynamoDB::Table"),
    ("kinesis", "AWS::Kinesis::Stream"),
    ("lambda", "AWS::Lambda::Function"),
    ("s3", "AWS::S3::Object"),
    ("sns", "AWS::SNS::Topic"),
    ("sqs", "AWS::SQS::Queue"),
];

/// What a catalog asks of AWS.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Digest of the catalog.
    pub catalog_digest: String,
    /// Every phase role that is looked at.
    pub roles: Vec<ExpectedRole>,
    /// Every phase role of the catalog, looked at or not: the broker's identities serve them all.
    pub every_role: Vec<String>,
    /// Beginnings of ARNs whose data events are needed, by resource type of CloudTrail.
    pub data_events: BTreeMap<&'static str, BTreeSet<String>>,
    /// What was left out, and why: environments that were not asked for.
    pub left_out: Vec<String>,
    /// AWS's own actions, and what they do.
    pub table: &'static ActionTable,
}

/// A phase role as the catalog needs it.
#[derive(Debug, Clone)]
pub struct ExpectedRole {
    /// Environment and kind, `production-execute`.
    pub name: String,
    /// `observe`, `execute`, a shard of it as `execute-1`, or `trust`.
    pub kind: String,
    /// The role.
    pub arn: String,
    /// The phase of its sessions.
    pub phase: &'static str,
    /// What it may do at most; `None` when the catalog has nothing for it.
    pub ceiling: Option<Policy>,
    /// External id that its trust policy has to ask for.
    pub external_id: Option<String>,
    /// Its account.
    pub account: String,
    /// Its partition.
    pub partition: String,
    /// The region of its environment.
    pub region: String,
    /// ARNs that no action may touch.
    pub protected: Vec<String>,
}

impl Expected {
    /// What `ceilings` ask for, in the environments that `only` names; in all without it.
    pub fn of(ceilings: &Ceilings, only: &[String], table: &'static ActionTable) -> Result<Self, String> {
        let (mut roles, mut left_out) = (Vec::new(), Vec::new());
        let all = ceilings.environments.values().flat_map(|environment| environment.roles.values());
        let every_role = all.map(|role| role.arn.clone()).collect();
        for (name, environment) in &ceilings.environments {
            if !only.is_empty() && !only.iter().any(|wanted| *wanted == name.to_string()) {
                left_out.push(format!("environment `{name}`: it was not asked for"));
                continue;
            }
            for kind in environment.roles.keys() {
                roles.push(ExpectedRole::of(environment, kind)?);
            }
        }
        let data_events = data_events(&roles);
        Ok(Self {
            catalog_digest: ceilings.catalog_digest.to_string(),
            roles,
            every_role,
            data_events,
            left_out,
            table,
        })
    }

    /// The account of the phase roles that are looked at, where there is just one.
    pub(super) fn accounts(&self) -> BTreeSet<&str> {
        self.roles.iter().map(|role| role.account.as_str()).collect()
    }

    /// Services whose calls have to be recorded.
    pub(super) fn services(&self) -> BTreeSet<String> {
        let actions = self.roles.iter().flat_map(ExpectedRole::actions);
        let named = actions.filter_map(|action| action.split(':').next().map(str::to_ascii_lowercase));
        named.chain(["sts", "iam"].map(str::to_owned)).collect()
    }
}

impl ExpectedRole {
    fn of(environment: &EnvironmentCeilings, kind: &str) -> Result<Self, String> {
        let role = environment.roles.get(kind).ok_or("a role is missing")?;
        let ceiling = role.ceiling.as_deref().map(Policy::parse).transpose();
        Ok(Self {
            name: format!("{}-{kind}", environment.environment),
            kind: kind.to_owned(),
            arn: role.arn.clone(),
            phase: role.phase,
            ceiling: ceiling.map_err(|why| format!("the ceiling of `{}` {why}", role.arn))?,
            external_id: environment.external_id.clone(),
            account: environment.account.clone(),
            partition: environment.partition.clone(),
            region: environment.region.clone(),
            protected: environment.protected.clone(),
        })
    }

    /// Every action of its ceiling.
    pub(super) fn actions(&self) -> Vec<String> {
        let statements = self.ceiling.iter().flat_map(|policy| policy.allows());
        statements.flat_map(|statement| statement.actions.patterns.iter().cloned()).collect()
    }

    /// The last part of its ARN, by which IAM knows it.
    pub fn role_name(&self) -> &str {
        self.arn.rsplit('/').next().unwrap_or(&self.arn)
    }
}

/// What execute sessions can touch, up to the first wildcard, by CloudTrail's type.
fn data_events(roles: &[ExpectedRole]) -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut needed: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
    let executing = roles.iter().filter(|role| role.kind != "observe");
    let statements = executing.flat_map(|role| role.ceiling.iter().flat_map(|policy| policy.allows()));
    for arn in statements.flat_map(|statement| statement.resources.iter().flat_map(|listed| &listed.patterns))
    {
        let service = arn.split(':').nth(2).unwrap_or_default();
        if let Some((_, kind)) = DATA_EVENT_TYPES.iter().find(|(name, _)| *name == service) {
            let beginning = arn.split(['*', '?']).next().unwrap_or_default();
            needed.entry(kind).or_default().insert(beginning.to_owned());
        }
    }
    needed
}
