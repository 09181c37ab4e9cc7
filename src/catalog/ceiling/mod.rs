//! The ceiling of each AWS role: the union of what every action type and observe set of one environment can compile to.
//!
//! Terraform makes roles and permission boundaries of it, so that catalog and roles cannot drift. It is wider than any
//! session, and never wider than the catalog; what it cannot hold is refused, never cut. Where execute sessions are made
//! with a web identity it is no wider than the session either: its resources are those that the session's tags name.

mod statement;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::permission::Permission;
use super::resolved::{AwsTarget, Catalog, Entry, ObserveSet};
use super::template::Filling;
use super::web_identity::variables;
use super::widest;
use crate::domain::action::ActionClass;
use crate::domain::digest::Digest;
use crate::domain::plan::ProviderKind;
use crate::domain::principal::{ActionType, Environment};
use crate::domain::web_identity::WebIdentity;
use statement::Statements;

/// Version of what is printed; the Terraform module reads both.
const VERSION: u32 = 1;
/// Version of an environment with a web identity: a module that knows only the first must not make its roles.
const VERSION_BY_TAG: u32 = 2;
/// Most characters of a managed policy, white space apart (IAM quotas; it cannot be raised).
pub const MANAGED_POLICY_CHARS: usize = 6_144;
/// What a boundary says beside the ceiling: its Denies, with names and paths of ordinary length.
const DENIES_CHARS: usize = 1_400;
/// Entries that a refusal names.
const NAMED: usize = 3;

/// What every boundary denies, whatever a catalog names; `*` at the end stands for any characters. The Terraform module
/// has the same list.
pub const ALWAYS_DENIED: &[&str] = &[
    "account:*",
    "organizations:*",
    "sts:*",
    "cloudtrail:Delete*",
    "cloudtrail:Put*",
    "cloudtrail:Stop*",
    "cloudtrail:Update*",
    "codeartifact:GetAuthorizationToken",
    "dsql:DbConnect*",
    "ecr-public:GetAuthorizationToken",
    "ecr:GetAuthorizationToken",
    "rds-db:connect",
    "redshift-serverless:GetCredentials",
    "redshift:GetClusterCredentials*",
];

/// The ceilings of a catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ceilings {
    /// Version of this document.
    pub version: u32,
    /// Digest of the catalog it was made from.
    pub catalog_digest: Digest,
    /// Every environment with an AWS account.
    pub environments: BTreeMap<Environment, EnvironmentCeilings>,
}

/// The ceilings of one environment, and all that its roles must agree with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EnvironmentCeilings {
    /// Version of this document.
    pub version: u32,
    /// Digest of the catalog it was made from.
    pub catalog_digest: Digest,
    /// Its name.
    pub environment: Environment,
    /// `aws`, `aws-cn`, `aws-us-gov`.
    pub partition: String,
    /// Twelve digits.
    pub account: String,
    /// The one region.
    pub region: String,
    /// External id that the trust policies ask for.
    pub external_id: Option<String>,
    /// Whose tokens the execute roles trust, each those for itself, and nobody else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub web_identity: Option<WebIdentity>,
    /// ARNs that no action may touch.
    pub protected: Vec<String>,
    /// `observe`, `execute`, where the catalog has them its shards `execute-1`, `execute-2`, …, and `trust`.
    pub roles: BTreeMap<String, RoleCeiling>,
}

/// What one role may do at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleCeiling {
    /// The role.
    pub arn: String,
    /// The phase of its sessions.
    pub phase: &'static str,
    /// The policy text; `None` when the catalog has nothing for this role.
    pub ceiling: Option<String>,
    /// Characters that a boundary with this ceiling has at most.
    pub boundary_chars: usize,
    /// What each entry adds by itself, in characters.
    pub entries: BTreeMap<String, usize>,
}

/// Why a catalog has no ceilings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No environment has an AWS account.
    NoAccount,
    /// Two environments name one role.
    SharedRole {
        /// The role.
        arn: String,
        /// The environments.
        environments: [Environment; 2],
    },
    /// An entry names an action that every boundary denies.
    Denied {
        /// The entry.
        entry: String,
        /// The environment.
        environment: Environment,
        /// The action.
        action: String,
        /// Whether the class `trust` would allow it.
        needs_trust: bool,
    },
    /// A boundary would be longer than a managed policy.
    TooLong {
        /// The role.
        role: &'static str,
        /// The environment.
        environment: Environment,
        /// Its characters.
        characters: usize,
        /// Entries and what each adds, the largest first.
        largest: Vec<(String, usize)>,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAccount => {
                write!(f, "no environment of the catalog has an AWS account: there is nothing to set up")
            }
            Self::SharedRole { arn, environments: [one, other] } => write!(
                f,
                "`{one}` and `{other}` share the role `{arn}`: give each environment roles of its own (the account may be \
                 the same, with the same `web_identity`), or a session of one could do what only the other allows"
            ),
            Self::Denied { entry, environment, action, needs_trust } => {
                let advice = match needs_trust {
                    true => "only entries of the class `trust` and observe sets may name actions of IAM",
                    false => "leave it out of the catalog",
                };
                write!(
                    f,
                    "`{entry}` in `{environment}`: every boundary of its role denies `{action}`: {advice}"
                )
            }
            Self::TooLong { role, environment, characters, largest } => {
                let largest: Vec<String> =
                    largest.iter().map(|(entry, size)| format!("`{entry}` ({size})")).collect();
                write!(
                    f,
                    "the boundary of the role `{role}` in `{environment}` would have {characters} characters, and AWS \
                     takes {MANAGED_POLICY_CHARS}; a role has one boundary, so it cannot be split. The largest entries \
                     are {}. Move entries into another environment with roles of its own (the account may be the same, \
                     with the same `web_identity`), or narrow and remove some",
                    largest.join(", ")
                )
            }
        }
    }
}

/// The ceilings of `catalog`, or every reason why it has none.
pub fn ceilings(catalog: &Catalog) -> Result<Ceilings, Vec<Refusal>> {
    let accounts = || catalog.environments().iter().filter_map(|(name, t)| Some((name, t.aws.as_ref()?)));
    let mut refused = shared_roles(accounts());
    let mut environments = BTreeMap::new();
    for (name, aws) in accounts() {
        let mut roles = BTreeMap::new();
        for (role, arn, phase) in [
            ("observe", Some(&aws.observe_role), "observe"),
            ("execute", aws.execute_roles.first(), "execute"),
            ("trust", aws.trust_role.as_ref(), "execute"),
        ] {
            let Some(arn) = arn else { continue };
            let made = role_ceiling(catalog, name, aws, (role, arn, phase), &mut refused);
            roles.insert(role.to_owned(), made);
        }
        // Shards differ in nothing but their name.
        if let Some(first) = roles.get("execute").cloned() {
            for (at, arn) in aws.execute_roles.iter().enumerate().skip(1) {
                roles.insert(format!("execute-{at}"), RoleCeiling { arn: arn.clone(), ..first.clone() });
            }
        }
        environments.insert(
            name.clone(),
            EnvironmentCeilings {
                version: aws.web_identity.as_ref().map_or(VERSION, |_| VERSION_BY_TAG),
                catalog_digest: catalog.digest(),
                environment: name.clone(),
                partition: aws.partition.clone(),
                account: aws.account.clone(),
                region: aws.region.clone(),
                external_id: aws.external_id.clone(),
                web_identity: aws.web_identity.clone(),
                protected: aws.protected.clone(),
                roles,
            },
        );
    }
    if environments.is_empty() {
        refused.push(Refusal::NoAccount);
    }
    if !refused.is_empty() {
        return Err(refused);
    }
    let version = environments.values().map(|one| one.version).max().unwrap_or(VERSION);
    Ok(Ceilings { version, catalog_digest: catalog.digest(), environments })
}

/// One role, in one environment.
fn role_ceiling(
    catalog: &Catalog,
    environment: &Environment,
    aws: &AwsTarget,
    (role, arn, phase): (&'static str, &String, &'static str),
    refused: &mut Vec<Refusal>,
) -> RoleCeiling {
    let (mut all, mut entries) = (Statements::default(), BTreeMap::new());
    let by_tag = aws.web_identity.is_some() && role != "observe";
    for Source { name, permissions, canary, globs, variables } in sources(catalog, environment, role) {
        for action in permissions.iter().flat_map(Permission::actions).map(|facts| facts.full_name()) {
            let needs_trust = role == "execute" && in_list("iam:*", &action);
            if needs_trust || ALWAYS_DENIED.iter().any(|denied| in_list(denied, &action)) {
                let (entry, environment) = (name.clone(), environment.clone());
                refused.push(Refusal::Denied { entry, environment, action, needs_trust });
            }
        }
        let mut own = Statements::default();
        for permission in permissions {
            for statements in [&mut own, &mut all] {
                match by_tag {
                    true => statements.add_by_tag(&name, permission, &variables, aws),
                    false => statements.add(permission, &globs, aws),
                }
            }
        }
        if canary {
            let of = by_tag.then_some(name.as_str());
            [&mut own, &mut all].into_iter().for_each(|statements| statements.add_canary(of));
        }
        entries.insert(name, own.text().map_or(0, |text| counted(&text)));
    }
    let ceiling = all.text();
    let named: usize = aws.roles().chain(aws.protected.iter().map(String::as_str)).map(|a| a.len() + 3).sum();
    let actions: usize = all.actions().iter().map(|action| action.len() + 3).sum();
    let characters = ceiling.as_deref().map_or(0, counted) + actions + named + DENIES_CHARS;
    if characters > MANAGED_POLICY_CHARS {
        let mut largest: Vec<(String, usize)> =
            entries.iter().map(|(name, size)| (name.clone(), *size)).collect();
        largest.sort_by_key(|(name, size)| (std::cmp::Reverse(*size), name.clone()));
        largest.truncate(NAMED);
        refused.push(Refusal::TooLong { role, environment: environment.clone(), characters, largest });
    }
    RoleCeiling { arn: arn.clone(), phase, ceiling, boundary_chars: characters, entries }
}

/// An entry or observe set that a role is for.
struct Source<'a> {
    name: String,
    permissions: &'a [Permission],
    canary: bool,
    /// What each parameter can be at most.
    globs: BTreeMap<String, Vec<String>>,
    /// The tags of a session that stand for the parameters.
    variables: Filling,
}

fn sources<'a>(catalog: &'a Catalog, environment: &Environment, role: &str) -> Vec<Source<'a>> {
    if role == "observe" {
        let sets = catalog
            .observe
            .iter()
            .filter(|(_, set)| set.provider == ProviderKind::Aws && set.environments.contains(environment));
        let source = |(name, set): (&ActionType, &'a ObserveSet)| Source {
            name: name.to_string(),
            permissions: &set.permissions,
            canary: false,
            globs: BTreeMap::new(),
            variables: Filling::new(),
        };
        return sets.map(source).collect();
    }
    let actions = catalog.actions.iter().filter(|(_, entry)| {
        entry.provider == ProviderKind::Aws
            && entry.environments.contains(environment)
            && (entry.class == ActionClass::Trust) == (role == "trust")
    });
    let source = |(name, entry): (&ActionType, &'a Entry)| Source {
        name: name.to_string(),
        permissions: &entry.permissions,
        canary: entry.canary,
        globs: widest::globs(&entry.parameters),
        variables: variables(entry),
    };
    actions.map(source).collect()
}

fn shared_roles<'a>(accounts: impl Iterator<Item = (&'a Environment, &'a AwsTarget)>) -> Vec<Refusal> {
    let (mut seen, mut shared) = (BTreeMap::<String, &Environment>::new(), Vec::new());
    for (name, aws) in accounts {
        for arn in aws.roles() {
            // IAM finds names without regard to case.
            if let Some(other) = seen.insert(arn.to_ascii_lowercase(), name) {
                let environments = [other.clone(), name.clone()];
                shared.push(Refusal::SharedRole { arn: arn.to_owned(), environments });
            }
        }
    }
    shared
}

fn in_list(listed: &str, action: &str) -> bool {
    let (listed, action) = (listed.to_ascii_lowercase(), action.to_ascii_lowercase());
    match listed.strip_suffix('*') {
        Some(beginning) => action.starts_with(beginning),
        None => action == listed,
    }
}

/// Characters as IAM counts them for its quotas.
fn counted(text: &str) -> usize {
    text.chars().filter(|c| !c.is_whitespace()).count()
}

#[cfg(test)]
mod tests;
