//! From nothing to a sealed grant: observe briefly, decide, propose with a fresh claim key.

use super::ActionArgs;
use super::bound::Bound;
use super::claim_key::ClaimKey;
use super::stop::Stop;
use crate::broker::propose::Proposed;
use crate::cli::agent::{AgentClient, Enter, PhaseKey};
use crate::domain::canonical;
use crate::domain::digest::decode;
use crate::domain::grant::Grant;
use crate::domain::id::RunId;
use crate::domain::principal::{ActionType, Environment};
use crate::domain::proposal::{Proposal, Story};

/// What is asked for, checked as far as it can be here.
pub struct Wish<'a> {
    /// The action.
    pub action: &'a ActionType,
    /// The read-only set to observe with first.
    pub observe_set: &'a ActionType,
    /// Where.
    pub environment: &'a Environment,
    /// Its parameters.
    pub parameters: std::collections::BTreeMap<String, serde_json::Value>,
    /// What else it is bound to.
    pub bound: Bound,
    /// Everything else.
    pub args: &'a ActionArgs,
}

/// Observes, decides and proposes in `run`.
pub async fn propose(client: &AgentClient, run: RunId, wish: Wish<'_>) -> Result<(Proposed, ClaimKey), Stop> {
    // A run decides only after it has looked; the credential of the look is dropped unused.
    let observing = PhaseKey::generate()?;
    drop(client.enter(run, Enter::Observe(wish.observe_set.as_str()), &observing).await?);
    let deciding = PhaseKey::generate()?;
    let token = client.enter(run, Enter::Decide, &deciding).await?;
    let key = PhaseKey::generate()?;
    let proposal = Proposal {
        action: wish.action.clone(),
        environment: wish.environment.clone(),
        parameters: wish.parameters,
        work_seconds: wish.args.work_seconds,
        claiming_agent: None,
        claim_key: key.thumbprint(),
        plan_digest: wish.bound.plan,
        preconditions: wish.bound.preconditions,
        alert: wish.bound.alert,
        // The way back would be another command's work; `exec` runs one.
        inverse_claim_key: None,
        break_glass: wish.args.break_glass,
        story: Story {
            diagnosis: wish.args.diagnosis.clone(),
            evidence: wish.args.evidence.clone(),
            reason: wish.args.reason.clone(),
        },
    };
    let proposed = client.propose(&token, &deciding, &proposal).await?;
    let document = decode(&proposed.document).map_err(|error| Stop::Failed(error.into()))?;
    let grant: Grant = canonical::from_bytes(&document).map_err(|error| Stop::Failed(error.into()))?;
    let claim_key = ClaimKey { grant: proposed.grant, lease: grant.time.lease, run, key };
    Ok((proposed, claim_key))
}
