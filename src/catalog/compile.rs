//! From a proposal to the plan that people sign: pure, so that the same words always give the same bytes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::inverse::as_written;
use super::permission::session_policy;
use super::refused::CompileError;
use super::resolved::{AwsTarget, Catalog, Entry, Target};
use super::template::{Filling, forbidden_in};
use super::web_identity::tagged;
use crate::domain::action::{Action, ActionClass, Parameters, Precondition};
use crate::domain::grant::Grant;
use crate::domain::id::{GrantId, LeaseId};
use crate::domain::phase::Phase;
use crate::domain::plan::{
    ASSUME_ROLE_SECONDS, AuthorizationDetail, AwsCredential, Credential, JwtCredential, Plan, ProviderKind,
    Revocability,
};
use crate::domain::principal::{AgentSlug, Environment};
use crate::domain::proposal::{Proposal, Story, visible};

/// Most preconditions of a proposal.
const MAX_PRECONDITIONS: usize = 16;

/// The ids that enter a plan. They are given, never made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// The grant it will be sealed into.
    pub grant: GrantId,
    /// The lease it can become.
    pub lease: LeaseId,
    /// The agent that may claim.
    pub claiming_agent: AgentSlug,
}

impl Ids {
    /// The ids of a sealed grant, to compile it again.
    pub fn of(grant: &Grant) -> Self {
        Self { grant: grant.id, lease: grant.time.lease, claiming_agent: grant.who.claiming_agent.clone() }
    }
}

/// Compiles `proposal` into the plan that a grant of these ids would hold.
pub fn compile(proposal: &Proposal, ids: &Ids, catalog: &Catalog) -> Result<Plan, CompileError> {
    let name = proposal.action.as_str();
    let entry =
        catalog.actions.get(&proposal.action).ok_or_else(|| CompileError::UnknownType(name.to_owned()))?;
    let target = target(catalog, name, &proposal.environment, &entry.environments)?;
    let work_seconds = proposal.work_seconds.unwrap_or(entry.max_work_seconds);
    if !(1..=entry.max_work_seconds).contains(&work_seconds) {
        return Err(CompileError::WorkSeconds { asked: work_seconds, longest: entry.max_work_seconds });
    }
    check_preconditions(&proposal.preconditions)?;
    let parameters = check_parameters(entry, &proposal.parameters)?;
    let mut filling: Filling =
        parameters.iter().map(|(name, value)| (name.clone(), value.to_string())).collect();
    let credential = match (entry.provider, &target.aws, &target.jwt) {
        (ProviderKind::Aws, Some(aws), _) => {
            filling.extend(aws.filling());
            let session_policy = session_policy(&entry.permissions, entry.canary, &filling, aws)?;
            let role = match (entry.class, &aws.trust_role) {
                (ActionClass::Trust, Some(role)) => role,
                (ActionClass::Trust, None) => return Err(no_target(name, &proposal.environment, entry)),
                (ActionClass::Availability | ActionClass::Data, _) => aws
                    .execute_role(ids.lease)
                    .ok_or_else(|| no_target(name, &proposal.environment, entry))?,
            };
            let grant = ids.grant.to_string();
            let session = Session {
                phase: Phase::Execute,
                role,
                lease: ids.lease,
                agent: &ids.claiming_agent,
                grant: &grant,
                source_identity: &grant,
            };
            let credential = session.credential(aws, session_policy, work_seconds);
            Credential::Aws(match &aws.web_identity {
                Some(web) => tagged(credential, web, &proposal.action, entry, &parameters)?,
                None => credential,
            })
        }
        (ProviderKind::Jwt, _, Some(jwt)) => Credential::Jwt(JwtCredential {
            audience: jwt.audience.clone(),
            authorization_details: vec![AuthorizationDetail {
                kind: "phasebroker_action".to_owned(),
                action: proposal.action.clone(),
                environment: proposal.environment.clone(),
                parameters: parameters.clone(),
            }],
            work_seconds,
            revocability: revocability(jwt.introspects),
        }),
        _ => return Err(no_target(name, &proposal.environment, entry)),
    };
    let missing = |name| CompileError::MissingParameter { name };
    let action = Action {
        action_type: proposal.action.clone(),
        service: entry.service.fill(&filling).map_err(missing)?,
        summary: entry.summary.fill(&filling).map_err(missing)?,
        rollback: way_back(entry, &parameters)?,
        parameters,
        unenforced: entry.unenforced.clone(),
        class: entry.class,
        reversible: entry.reversible(),
        changes: entry.changes,
        exceptions: entry.exceptions.clone(),
        unscopable: entry.unscopable.clone(),
        dependents: entry.dependents.clone(),
        plan_digest: proposal.plan_digest,
        preconditions: proposal.preconditions.clone(),
    };
    Ok(Plan::compiled(action, credential))
}

/// Compiles what `grant` holds with the catalog in force; compare with [`difference`](super::difference()).
// INVARIANT: re-decided — nothing but the parameters, the times and the ids comes from the grant.
pub fn recompile(grant: &Grant, catalog: &Catalog) -> Result<Plan, CompileError> {
    let proposal = Proposal {
        action: grant.action.action_type.clone(),
        environment: grant.environment.clone(),
        parameters: as_written(&grant.action.parameters),
        work_seconds: Some(grant.credential.work_seconds()),
        claiming_agent: Some(grant.who.claiming_agent.clone()),
        claim_key: grant.who.claim_key,
        plan_digest: grant.action.plan_digest,
        preconditions: grant.action.preconditions.clone(),
        alert: None,
        inverse_claim_key: None,
        break_glass: false,
        story: Story::default(),
    };
    compile(&proposal, &Ids::of(grant), catalog)
}

/// The target of `environment`, where `name` is allowed.
pub(super) fn target<'a>(
    catalog: &'a Catalog,
    name: &str,
    environment: &Environment,
    allowed: &std::collections::BTreeSet<Environment>,
) -> Result<&'a Target, CompileError> {
    let refused = || CompileError::Environment {
        name: name.to_owned(),
        environment: environment.to_string(),
        allowed: allowed.iter().map(Environment::as_str).collect::<Vec<_>>().join(", "),
    };
    if !allowed.contains(environment) {
        return Err(refused());
    }
    catalog.environments.get(environment).ok_or_else(refused)
}

/// An AWS session before its policy is known.
pub(super) struct Session<'a> {
    pub(super) phase: Phase,
    pub(super) role: &'a str,
    pub(super) lease: LeaseId,
    pub(super) agent: &'a AgentSlug,
    pub(super) grant: &'a str,
    pub(super) source_identity: &'a str,
}

impl Session<'_> {
    /// The exact AssumeRole request.
    pub(super) fn credential(
        &self,
        aws: &AwsTarget,
        session_policy: String,
        work_seconds: u32,
    ) -> AwsCredential {
        let tags = [
            ("lease", self.lease.to_string()),
            ("phase", self.phase.name().to_owned()),
            ("agent", self.agent.to_string()),
            ("grant", self.grant.to_owned()),
        ];
        AwsCredential {
            role_arn: self.role.to_owned(),
            account: aws.account.clone(),
            region: aws.region.clone(),
            session_name: format!("{}-{}", self.phase, self.lease),
            source_identity: self.source_identity.to_owned(),
            session_policy,
            tags: tags.map(|(key, value)| (key.to_owned(), value)).into(),
            web_identity: None,
            external_id: aws.external_id.clone(),
            duration_seconds: ASSUME_ROLE_SECONDS,
            work_seconds,
            revocability: Revocability::Seconds,
        }
    }
}

/// How soon a resource hears of an early end.
pub(super) fn revocability(introspects: bool) -> Revocability {
    match introspects {
        true => Revocability::Immediate,
        false => Revocability::AtExpiry,
    }
}

fn no_target(name: &str, environment: &Environment, entry: &Entry) -> CompileError {
    let allowed = entry.environments.iter().map(Environment::as_str).collect::<Vec<_>>().join(", ");
    CompileError::Environment { name: name.to_owned(), environment: environment.to_string(), allowed }
}

/// The way back in words: what the operator wrote, else the inverse action with its values.
fn way_back(entry: &Entry, parameters: &Parameters) -> Result<Option<String>, CompileError> {
    match (entry.rollback.as_ref().or(entry.settles.as_ref()), &entry.inverse) {
        (Some(text), _) => Ok(Some(text.clone())),
        (None, Some(inverse)) => inverse.describe(parameters).map(Some),
        (None, None) => Ok(None),
    }
}

fn check_parameters(entry: &Entry, given: &BTreeMap<String, Value>) -> Result<Parameters, CompileError> {
    if let Some(name) = given.keys().find(|name| !entry.parameters.contains_key(*name)) {
        let name = visible(&name.chars().take(40).collect::<String>());
        let known = entry.parameters().collect::<Vec<_>>().join(", ");
        return Err(CompileError::UnknownParameter { name, known });
    }
    let checked = entry.parameters.iter().map(|(name, kind)| {
        let value = given.get(name).ok_or_else(|| CompileError::MissingParameter { name: name.clone() })?;
        Ok((name.clone(), kind.value(name, value)?))
    });
    checked.collect()
}

fn check_preconditions(preconditions: &[Precondition]) -> Result<(), CompileError> {
    let plain = |text: &str| (1..=128).contains(&text.len()) && forbidden_in(text).is_none();
    for (at, precondition) in preconditions.iter().enumerate() {
        let repeated = preconditions.iter().take(at).any(|earlier| earlier.name == precondition.name);
        if at >= MAX_PRECONDITIONS || repeated || !plain(&precondition.name) || !plain(&precondition.value) {
            return Err(CompileError::Precondition { at });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
