//! What a catalog asks of AWS: its phase roles with their ceilings, and what a trail has to record.

use std::collections::{BTreeMap, BTreeSet};

use super::policy::Policy;
use crate::catalog::iam::ActionTable;
use crate::catalog::{Ceilings, EnvironmentCeilings};
use crate::domain::event_source::event_source;
use crate::domain::web_identity::WebIdentity;
use crate::reconcile::{Told, told};

/// CloudTrail's resource types of services whose data events are off by default. The Terraform module has the same list.
const DATA_EVENT_TYPES: [(&str, &str); 6] = [
    ("dynamodb", "AWS::DynamoDB::Table"),
    ("kinesis", "AWS::Kinesis::Stream"),
    ("lambda", "AWS::Lambda::Function"),
    ("s3", "AWS::S3::Object"),
    ("sns", "AWS::SNS::Topic"),
    ("sqs", "AWS::SQS::Queue"),
];

/// The kind of role that the minter assumes in every mode.
const OBSERVE: &str = "observe";

/// What a catalog asks of AWS.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Digest of the catalog.
    pub catalog_digest: String,
    /// Every phase role that is looked at.
    pub roles: Vec<ExpectedRole>,
    /// Every phase role of the catalog that these identities serve, looked at or not.
    pub every_role: Vec<String>,
    /// Those of them that trust tokens of the approvers' side alone: the minter may assume none.
    pub by_token: BTreeSet<String>,
    /// Those that are looked at and that the minter of this account assumes, in whichever account.
    pub minted: Vec<String>,
    /// The account, where it is not the broker's own but one of `[[aws.accounts]]`.
    pub account: Option<String>,
    /// Whether that account has a minter of its own.
    pub own_minter: bool,
    /// In the broker's own account: the further ones.
    pub elsewhere: Vec<String>,
    /// Beginnings of ARNs whose data events are needed, by resource type of CloudTrail.
    pub data_events: BTreeMap<&'static str, BTreeSet<String>>,
    /// Actions of execute sessions of which nobody knows whether a trail tells without being asked to.
    pub untold: BTreeSet<String>,
    /// What was left out, and why: environments that were not asked for.
    pub left_out: Vec<String>,
    /// AWS's own actions, and what they do.
    pub table: &'static ActionTable,
}

/// An account of `[[aws.accounts]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FurtherAccount {
    /// Twelve digits.
    pub account: String,
    /// Whether its phase roles are assumed by a minter of its own.
    pub own_minter: bool,
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
    /// Whose tokens it trusts instead of the minter, where the approvers' side signs.
    pub tokens: Option<WebIdentity>,
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
        let by_token: BTreeSet<String> = ceilings
            .environments
            .values()
            .filter(|environment| environment.web_identity.is_some())
            .flat_map(|environment| environment.roles.iter().filter(|(kind, _)| kind.as_str() != OBSERVE))
            .map(|(_, role)| role.arn.clone())
            .collect();
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
            minted: minted(&roles),
            untold: untold(&roles),
            roles,
            every_role,
            by_token,
            account: None,
            own_minter: true,
            elsewhere: Vec::new(),
            data_events,
            left_out,
            table,
        })
    }

    /// What lies in the broker's own account, and in each further one in which something is looked at.
    pub fn split(self, further: &[FurtherAccount]) -> (Self, Vec<Self>) {
        let account_of = |arn: &String| arn.split(':').nth(4).unwrap_or_default().to_owned();
        let is = |account: &String, own: bool| {
            further.iter().any(|one| one.account == *account && (!own || one.own_minter))
        };
        let of = |account: &FurtherAccount| {
            let here = |arn: &&String| account_of(arn) == account.account;
            let roles: Vec<_> =
                self.roles.iter().filter(|role| role.account == account.account).cloned().collect();
            let every: Vec<String> = match account.own_minter {
                true => self.every_role.iter().filter(here).cloned().collect(),
                false => self.every_role.clone(),
            };
            (!roles.is_empty()).then(|| Self {
                minted: minted(&roles),
                data_events: data_events(&roles),
                untold: untold(&roles),
                roles,
                every_role: every,
                account: Some(account.account.clone()),
                own_minter: account.own_minter,
                left_out: Vec::new(),
                ..self.clone()
            })
        };
        let accounts = further.iter().filter_map(of).collect();
        let roles: Vec<_> = self.roles.iter().filter(|role| !is(&role.account, false)).cloned().collect();
        let served = |arn: &&String| !is(&account_of(arn), true);
        let home = Self {
            every_role: self.every_role.iter().filter(served).cloned().collect(),
            minted: self.minted.iter().filter(served).cloned().collect(),
            data_events: data_events(&roles),
            untold: untold(&roles),
            elsewhere: further.iter().map(|one| one.account.clone()).collect(),
            roles,
            ..self
        };
        (home, accounts)
    }

    /// A key of the configuration, as it is called for this account.
    pub(super) fn key(&self, key: &str) -> String {
        match &self.account {
            None => format!("`aws.{key}`"),
            Some(account) => format!("`{key}` of the `[[aws.accounts]]` of {account}"),
        }
    }

    /// The account of the phase roles that are looked at, where there is just one.
    pub(super) fn accounts(&self) -> BTreeSet<&str> {
        self.roles.iter().map(|role| role.account.as_str()).collect()
    }

    /// What the actions begin with whose calls have to be recorded.
    pub(super) fn services(&self) -> BTreeSet<String> {
        let actions = self.roles.iter().flat_map(ExpectedRole::actions);
        let named = actions.filter_map(|action| action.split(':').next().map(str::to_ascii_lowercase));
        named.chain(["sts", "iam"].map(str::to_owned)).collect()
    }

    /// Event sources that AWS's own services are told under, as far as that is known.
    pub(super) fn known_sources(&self) -> BTreeSet<String> {
        let actions = self.table.every().unwrap_or_default();
        actions.iter().filter_map(|(action, _)| action.split(':').next()).map(event_source).collect()
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
            tokens: environment.web_identity.clone().filter(|_| kind != OBSERVE),
            account: environment.account.clone(),
            partition: environment.partition.clone(),
            region: environment.region.clone(),
            protected: environment.protected.clone(),
        })
    }

    /// The identity provider of its account whose tokens it trusts: its ARN, and what its condition keys begin with.
    pub(super) fn provider(&self) -> Option<(String, &str)> {
        let host = self.tokens.as_ref()?.issuer.trim_start_matches("https://");
        Some((format!("arn:{}:iam::{}:oidc-provider/{host}", self.partition, self.account), host))
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

/// Roles that the minter assumes.
fn minted(roles: &[ExpectedRole]) -> Vec<String> {
    roles.iter().filter(|role| role.tokens.is_none()).map(|role| role.arn.clone()).collect()
}

/// What execute sessions can touch, up to the first wildcard or variable, by CloudTrail's type.
fn data_events(roles: &[ExpectedRole]) -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut needed: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
    let executing = roles.iter().filter(|role| role.kind != OBSERVE);
    let statements = executing.flat_map(|role| role.ceiling.iter().flat_map(|policy| policy.allows()));
    for arn in statements.flat_map(|statement| statement.resources.iter().flat_map(|listed| &listed.patterns))
    {
        let service = arn.split(':').nth(2).unwrap_or_default();
        if let Some((_, kind)) = DATA_EVENT_TYPES.iter().find(|(name, _)| *name == service) {
            let beginning = arn.split(['*', '?', '$']).next().unwrap_or_default();
            needed.entry(kind).or_default().insert(beginning.to_owned());
        }
    }
    needed
}

/// What execute sessions may do, where it is not known that a management event tells of it and no data event is asked for.
fn untold(roles: &[ExpectedRole]) -> BTreeSet<String> {
    let executing = roles.iter().filter(|role| role.kind != OBSERVE);
    let is_asked_for = |action: &str| {
        let service = action.split(':').next().unwrap_or_default();
        DATA_EVENT_TYPES.iter().any(|(name, _)| name.eq_ignore_ascii_case(service))
    };
    // Where the data events of a service are asked for, whichever of both it leaves is recorded.
    let is_told = |action: &str| told(action) == Some(Told::Always) || is_asked_for(action);
    executing.flat_map(ExpectedRole::actions).filter(|action| !is_told(action)).collect()
}
