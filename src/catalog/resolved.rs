//! The catalog after its checks. It has no public constructor but [`Catalog::check`].

use std::collections::{BTreeMap, BTreeSet};

use super::document::{AwsTargetDocument, JwtTarget};
use super::inverse::Inverse;
use super::parameter::ParameterType;
use super::permission::Permission;
use super::refused::CompileError;
use super::template::{Filling, Template};
use crate::domain::action::ActionClass;
use crate::domain::digest::Digest;
use crate::domain::id::LeaseId;
use crate::domain::observation::Trust;
use crate::domain::plan::ProviderKind;
use crate::domain::principal::{ActionType, Environment};
use crate::domain::web_identity::WebIdentity;

/// Everything that may be asked for, checked.
#[derive(Debug, Clone)]
pub struct Catalog {
    pub(super) environments: BTreeMap<Environment, Target>,
    pub(super) actions: BTreeMap<ActionType, Entry>,
    pub(super) observe: BTreeMap<ActionType, ObserveSet>,
    pub(super) digest: Digest,
}

/// Where the actions of one environment happen.
#[derive(Debug, Clone)]
pub struct Target {
    /// The AWS account, where there is one.
    pub aws: Option<AwsTarget>,
    /// The resource that takes our tokens, where there is one.
    pub jwt: Option<JwtTarget>,
}

/// Most roles in the place of one.
pub(super) const MAX_SHARDS: u32 = 8;

/// One AWS account and region.
#[derive(Debug, Clone)]
pub struct AwsTarget {
    /// `aws`, `aws-cn`, `aws-us-gov`.
    pub partition: String,
    /// Twelve digits.
    pub account: String,
    /// The one region.
    pub region: String,
    /// Roles of execute sessions of the classes `availability` and `data`: the first as written, then its shards.
    pub execute_roles: Vec<String>,
    /// Role of execute sessions of the class `trust`.
    pub trust_role: Option<String>,
    /// Role of observe sessions.
    pub observe_role: String,
    /// The issuer whose tokens execute sessions are made with.
    pub web_identity: Option<WebIdentity>,
    /// External id that the roles ask for.
    pub external_id: Option<String>,
    /// Further ARNs that no action may touch.
    pub protected: Vec<String>,
}

/// One action type.
#[derive(Debug, Clone)]
pub struct Entry {
    pub(super) summary: Template,
    pub(super) provider: ProviderKind,
    pub(super) service: Template,
    pub(super) class: ActionClass,
    pub(super) settles: Option<String>,
    pub(super) inverse: Option<Inverse>,
    pub(super) rollback: Option<String>,
    pub(super) changes: u32,
    pub(super) max_work_seconds: u32,
    pub(super) environments: BTreeSet<Environment>,
    pub(super) exceptions: Vec<String>,
    pub(super) unscopable: Vec<String>,
    pub(super) canary: bool,
    pub(super) dependents: Vec<String>,
    pub(super) parameters: BTreeMap<String, ParameterType>,
    pub(super) unenforced: Vec<String>,
    pub(super) permissions: Vec<Permission>,
    pub(super) templates: BTreeMap<Environment, String>,
}

/// One read-only set.
#[derive(Debug, Clone)]
pub struct ObserveSet {
    pub(super) provider: ProviderKind,
    pub(super) environments: BTreeSet<Environment>,
    pub(super) seconds: u32,
    pub(super) trust: Trust,
    pub(super) permissions: Vec<Permission>,
}

impl Catalog {
    /// Digest of the document it was made from.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The environments and their targets.
    pub fn environments(&self) -> &BTreeMap<Environment, Target> {
        &self.environments
    }

    /// Whether there is such an environment.
    pub fn has_environment(&self, environment: &Environment) -> bool {
        self.environments.contains_key(environment)
    }

    /// Whose tokens `action` is carried out with in `environment`, where the approvers' side signs them: there no playbook
    /// stands in for people.
    pub fn web_identity(&self, action: &ActionType, environment: &Environment) -> Option<&WebIdentity> {
        let aws = self.actions.get(action)?.provider == ProviderKind::Aws;
        self.environments.get(environment)?.aws.as_ref()?.web_identity.as_ref().filter(|_| aws)
    }

    /// The action types.
    pub fn actions(&self) -> &BTreeMap<ActionType, Entry> {
        &self.actions
    }

    /// Sorted JSON of everything in the catalog that decides what `action` mints in `environment`: its entry, its
    /// target and the same of its inverse. `None` where it may not happen.
    pub fn template(&self, action: &ActionType, environment: &Environment) -> Option<&str> {
        self.actions.get(action)?.templates.get(environment).map(String::as_str)
    }

    /// The read-only sets.
    pub fn observe_sets(&self) -> &BTreeMap<ActionType, ObserveSet> {
        &self.observe
    }
}

impl AwsTarget {
    /// The account as written; the partition is that of its roles.
    pub(super) fn of(written: &AwsTargetDocument) -> Self {
        Self {
            partition: written.execute_role.split(':').nth(1).unwrap_or_default().to_owned(),
            account: written.account.clone(),
            region: written.region.clone(),
            execute_roles: written.execute_roles(),
            trust_role: written.trust_role.clone(),
            observe_role: written.observe_role.clone(),
            web_identity: written.web_identity.clone(),
            external_id: written.external_id.clone(),
            protected: written.protected.clone(),
        }
    }

    /// Every phase role that is assumed here, and carries the Deny of early ends.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        let others = [&self.observe_role].into_iter().chain(&self.trust_role);
        self.execute_roles.iter().chain(others).map(String::as_str)
    }

    /// Which of the execute roles a lease is of: by its id, which is inside the signed grant, so that whoever compiles
    /// the grant again finds the same role.
    pub(super) fn execute_role(&self, lease: LeaseId) -> Option<&String> {
        let [a, b, c, d, ..] = *Digest::of(lease.to_string().as_bytes()).as_bytes();
        let number = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
        self.execute_roles.get(number.checked_rem(self.execute_roles.len())?)
    }

    /// The values of `{account}`, `{region}` and `{partition}`.
    pub(super) fn filling(&self) -> Filling {
        let built_in = [("account", &self.account), ("region", &self.region), ("partition", &self.partition)];
        built_in.into_iter().map(|(name, value)| (name.to_owned(), value.clone())).collect()
    }

    /// Refuses an ARN of another partition, account or region, and our own roles.
    pub(super) fn owns(&self, arn: &str) -> Result<(), CompileError> {
        if arn == "*" {
            return Ok(());
        }
        let foreign = |member, expected: &str| CompileError::Foreign {
            arn: arn.to_owned(),
            member,
            expected: expected.to_owned(),
        };
        let mut parts = arn.split(':').skip(1);
        let (partition, _service) = (parts.next(), parts.next());
        let (region, account) = (parts.next(), parts.next());
        if partition != Some(&self.partition) {
            return Err(foreign("partition", &self.partition));
        }
        // Empty where the service has no regions, or (with a condition on aws:ResourceAccount) no accounts in its ARNs.
        if !matches!(region, Some(region) if region.is_empty() || region == self.region) {
            return Err(foreign("region", &self.region));
        }
        if !matches!(account, Some(account) if account.is_empty() || account == self.account) {
            return Err(foreign("account", &self.account));
        }
        self.unprotected(arn)
    }

    /// Refuses our own roles and whatever the operator protects.
    // SECURITY: IAM finds names without regard to case.
    pub(super) fn unprotected(&self, text: &str) -> Result<(), CompileError> {
        let mut ours = self.roles().chain(self.protected.iter().map(String::as_str));
        match ours.any(|arn| arn.eq_ignore_ascii_case(text)) {
            true => Err(CompileError::Protected { arn: text.to_owned() }),
            false => Ok(()),
        }
    }
}

impl Entry {
    /// Who mints its credential.
    pub fn provider(&self) -> ProviderKind {
        self.provider
    }

    /// Kind of harm.
    pub fn class(&self) -> ActionClass {
        self.class
    }

    /// Longest work time, seconds.
    pub fn max_work_seconds(&self) -> u32 {
        self.max_work_seconds
    }

    /// Where it may happen.
    pub fn environments(&self) -> &BTreeSet<Environment> {
        &self.environments
    }

    /// Names of its parameters; all of them are needed.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.parameters.keys().map(String::as_str)
    }

    /// Names of the parameters that the provider does not enforce.
    pub fn unenforced(&self) -> &[String] {
        &self.unenforced
    }

    /// Whether there is a way back: it settles by itself, or an action of this catalog takes it back.
    pub fn reversible(&self) -> bool {
        self.settles.is_some() || self.inverse.is_some()
    }

    /// The action that takes it back.
    pub fn inverse(&self) -> Option<&Inverse> {
        self.inverse.as_ref()
    }

    /// The AWS actions its session may call.
    pub fn aws_actions(&self) -> BTreeSet<String> {
        self.permissions.iter().flat_map(Permission::actions).map(|facts| facts.full_name()).collect()
    }
}

impl ObserveSet {
    /// Who mints its credential.
    pub fn provider(&self) -> ProviderKind {
        self.provider
    }

    /// Where it may be used.
    pub fn environments(&self) -> &BTreeSet<Environment> {
        &self.environments
    }

    /// Who may have written what it shows.
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// Life of one credential, seconds.
    pub fn seconds(&self) -> u32 {
        self.seconds
    }

    /// The AWS actions its session may call.
    pub fn aws_actions(&self) -> BTreeSet<String> {
        self.permissions.iter().flat_map(Permission::actions).map(|facts| facts.full_name()).collect()
    }
}
