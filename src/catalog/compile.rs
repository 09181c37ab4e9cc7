//! From a proposal to the plan that people sign: pure, so that the same words always give the same bytes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::iam::ResourceMismatch;
use super::permission::session_policy;
use super::resolved::{AwsTarget, Catalog, Entry, Target};
use super::template::{Filling, forbidden_in};
use crate::domain::action::{Action, ActionClass, ParameterValue, Parameters, Precondition};
use crate::domain::grant::Grant;
use crate::domain::id::{GrantId, LeaseId};
use crate::domain::phase::Phase;
use crate::domain::plan::{
    ASSUME_ROLE_SECONDS, AuthorizationDetail, AwsCredential, Credential, JwtCredential,
    MAX_SESSION_POLICY_CHARS, Plan, ProviderKind, Revocability,
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

/// Why a proposal cannot become a plan. Names and values that an agent wrote are shown escaped and shortened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// No such entry.
    #[error("the catalog has no `{0}`: ask for one that it lists")]
    UnknownType(String),
    /// Not there.
    #[error("`{name}` is not allowed in `{environment}`, only in {allowed}")]
    Environment {
        /// The action type or set.
        name: String,
        /// The environment asked for.
        environment: String,
        /// Where it is allowed.
        allowed: String,
    },
    /// A parameter the action type does not have.
    #[error("there is no parameter `{name}`; the parameters are {known}")]
    UnknownParameter {
        /// As written, escaped.
        name: String,
        /// The names it has.
        known: String,
    },
    /// A parameter was left out.
    #[error("the parameter `{name}` is missing")]
    MissingParameter {
        /// Its name.
        name: String,
    },
    /// Another JSON type.
    #[error("the parameter `{name}` must be {expected}")]
    WrongType {
        /// Its name.
        name: String,
        /// What it must be.
        expected: &'static str,
    },
    /// Too long.
    #[error("the parameter `{name}` is longer than {longest} characters")]
    TooLong {
        /// Its name.
        name: String,
        /// Its longest length.
        longest: usize,
    },
    /// A character that IAM or JSON would interpret, or that is not printable ASCII.
    #[error("the parameter `{name}` holds the character {character}, which no parameter may hold")]
    Forbidden {
        /// Its name.
        name: String,
        /// The character, escaped.
        character: String,
    },
    /// It does not match its pattern.
    #[error("the parameter `{name}` does not match `{pattern}`")]
    Pattern {
        /// Its name.
        name: String,
        /// The pattern.
        pattern: String,
    },
    /// Outside its range.
    #[error("the parameter `{name}` must be within {min} to {max}")]
    OutOfRange {
        /// Its name.
        name: String,
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// Not one of its words.
    #[error("the parameter `{name}` must be one of {values}")]
    NotAChoice {
        /// Its name.
        name: String,
        /// The words.
        values: String,
    },
    /// Zero or too long.
    #[error("{asked} seconds of work were asked for: ask for 1 to {longest}")]
    WorkSeconds {
        /// What was asked for.
        asked: u32,
        /// The longest.
        longest: u32,
    },
    /// A precondition that is no plain name and value.
    #[error(
        "precondition {at} is refused: at most 16, each with its own name and a value, both 1 to 128 plain characters"
    )]
    Precondition {
        /// Its place.
        at: usize,
    },
    /// An ARN that is no exact resource of the action.
    #[error(transparent)]
    Resource(#[from] ResourceMismatch),
    /// An ARN of another account, region or partition.
    #[error("`{arn}` is not of the {member} `{expected}` of this environment")]
    Foreign {
        /// The ARN.
        arn: String,
        /// Which part.
        member: &'static str,
        /// What it must be.
        expected: String,
    },
    /// One of our own roles, or something the operator protects.
    #[error("`{arn}` is protected: no action may touch the broker's own roles, policies or boundary")]
    Protected {
        /// The ARN.
        arn: String,
    },
    /// STS would refuse it.
    #[error("the session policy has {characters} characters; STS takes at most {MAX_SESSION_POLICY_CHARS}")]
    PolicyTooLong {
        /// Its length.
        characters: usize,
    },
    /// The policy could not be written as JSON.
    #[error("the session policy cannot be written: {0}")]
    NotWritten(String),
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
            let session_policy = session_policy(&entry.permissions, &filling, aws)?;
            let role = match (entry.class, &aws.trust_role) {
                (ActionClass::Trust, Some(role)) => role,
                (ActionClass::Trust, None) => return Err(no_target(name, &proposal.environment, entry)),
                (ActionClass::Availability | ActionClass::Data, _) => &aws.execute_role,
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
            Credential::Aws(session.credential(aws, session_policy, work_seconds))
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
    let action = Action {
        action_type: proposal.action.clone(),
        summary: entry.summary.fill(&filling).map_err(|name| CompileError::MissingParameter { name })?,
        parameters,
        unenforced: entry.unenforced.clone(),
        class: entry.class,
        reversible: entry.reversible,
        rollback: entry.rollback.clone(),
        changes: entry.changes,
        exceptions: entry.exceptions.clone(),
        plan_digest: proposal.plan_digest,
        preconditions: proposal.preconditions.clone(),
    };
    Ok(Plan::compiled(action, credential))
}

/// Compiles what `grant` holds with the catalog in force; compare with [`difference`](super::difference()).
// INVARIANT: re-decided — nothing but the parameters, the times and the ids comes from the grant.
pub fn recompile(grant: &Grant, catalog: &Catalog) -> Result<Plan, CompileError> {
    let value = |value: &ParameterValue| match value {
        ParameterValue::Integer(number) => Value::from(*number),
        ParameterValue::Text(text) => Value::from(text.as_str()),
    };
    let parameters = grant.action.parameters.iter().map(|(name, given)| (name.clone(), value(given)));
    let proposal = Proposal {
        action: grant.action.action_type.clone(),
        environment: grant.environment.clone(),
        parameters: parameters.collect(),
        work_seconds: Some(grant.credential.work_seconds()),
        claiming_agent: Some(grant.who.claiming_agent.clone()),
        claim_key: grant.who.claim_key,
        plan_digest: grant.action.plan_digest,
        preconditions: grant.action.preconditions.clone(),
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
