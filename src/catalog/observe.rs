//! The credential of a read-only set. It names no grant, and nothing of execute can be made of it.

use super::compile::{Session, revocability, target};
use super::permission::session_policy;
use super::refused::CompileError;
use super::resolved::Catalog;
use crate::domain::id::LeaseId;
use crate::domain::phase::Phase;
use crate::domain::plan::{Credential, JwtCredential, ProviderKind};
use crate::domain::principal::{ActionType, AgentSlug, Environment};

/// The exact request for an observe credential of `set`.
pub fn observe(
    set: &ActionType,
    environment: &Environment,
    lease: LeaseId,
    agent: &AgentSlug,
    catalog: &Catalog,
) -> Result<Credential, CompileError> {
    let name = set.as_str();
    let set = catalog.observe.get(set).ok_or_else(|| CompileError::UnknownType(name.to_owned()))?;
    let target = target(catalog, name, environment, &set.environments)?;
    match (set.provider, &target.aws, &target.jwt) {
        (ProviderKind::Aws, Some(aws), _) => {
            let policy = session_policy(&set.permissions, false, &aws.filling(), aws)?;
            let session = Session {
                phase: Phase::Observe,
                role: &aws.observe_role,
                lease,
                agent,
                grant: "none",
                source_identity: agent.as_str(),
            };
            Ok(Credential::Aws(session.credential(aws, policy, set.seconds)))
        }
        (ProviderKind::Jwt, _, Some(jwt)) => Ok(Credential::Jwt(JwtCredential {
            audience: jwt.audience.clone(),
            authorization_details: Vec::new(),
            work_seconds: set.seconds,
            revocability: revocability(jwt.introspects),
        })),
        _ => Err(CompileError::Environment {
            name: name.to_owned(),
            environment: environment.to_string(),
            allowed: set.environments.iter().map(Environment::as_str).collect::<Vec<_>>().join(", "),
        }),
    }
}
