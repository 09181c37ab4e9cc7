//! One probe: a lease, a call that its session policy allows and one that it does not, its end, and the first call again
//! until AWS refuses. The session never leaves this process.
//! INVARIANT: signed-before-minted. A probe has no door of its own: to observe nobody signs, and to execute people do, or
//! have signed a playbook; the ledger holds it like any other run.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::deadline::{Deadline, is_overdue};
use super::{Args, Target, advice};
use crate::broker::ports::{CanaryOutcome, CanaryPlace, CredentialSecret};
use crate::broker::runs::OpenRun;
use crate::cli::agent::{AgentClient, AgentError, AwsSession, Enter, ExecuteCredential, PhaseKey};
use crate::cli::exec::{
    ActionArgs, Bound, Desk, Stop, Wish, announce, claim_grant, parameters, propose, signatures,
};
use crate::domain::action::ActionClass;
use crate::domain::canonical;
use crate::domain::digest::decode;
use crate::domain::grant::Grant;
use crate::domain::id::{LeaseId, RunId};
use crate::domain::principal::ActionType;
use crate::domain::sent::CANARY_ACTION;
use crate::domain::time::Timestamp;
use crate::providers::aws::{Canary, OUTSIDE_ACTION, Watched};

/// Between two calls while AWS still lets the session act.
const PAUSE: Duration = Duration::from_millis(500);
/// How often a call is tried before its answer counts: a new session is known everywhere only after a moment.
const TRIES: u32 = 6;
/// Seconds between attempts to close a run.
const CLOSE_AGAIN: [u64; 5] = [1, 2, 4, 8, 0];

/// What one probe showed.
#[derive(Debug, Serialize)]
pub(super) struct Probed {
    /// `observe`, `execute` or `trust`.
    pub(super) role: &'static str,
    /// The observe set or the action.
    pub(super) entry: ActionType,
    /// The lease.
    pub(super) lease: LeaseId,
    /// Whether AWS let the session make the call that its policy allows.
    pub(super) allowed: bool,
    /// AWS's error code for the call that its policy does not allow.
    pub(super) outside_refused_with: Option<String>,
    /// Whether AWS let it make that one too.
    pub(super) outside_allowed: bool,
    /// The broker's own sentence about the end.
    pub(super) ended: String,
    /// AWS's error code of the refusal, if it came.
    pub(super) refused_with: Option<String>,
    /// From asking the broker for the end to the refusal, milliseconds.
    pub(super) revoke_to_deny_ms: Option<u64>,
    /// Percent of AWS's packed size that the session policy took, as the broker's ledger has it.
    pub(super) packed_policy_percent: Option<u32>,
    /// Why something can not be told, where it can not.
    pub(super) could_not_tell: Option<String>,
}

/// How far a probe came; it stays when the probe is broken off.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// The run, until it is closed.
    pub(super) open: Option<RunId>,
    /// What was seen so far.
    pub(super) probed: Option<Probed>,
}

struct Minted {
    role: &'static str,
    lease: LeaseId,
    not_after: Timestamp,
    session: AwsSession,
}

/// A run that is closed.
#[derive(Default)]
pub(super) struct Closed {
    how: String,
    /// When each lease was ended and by when that is in force, in the broker's clock.
    ended: Vec<(LeaseId, Timestamp, Timestamp)>,
}

/// Probes one role. Whoever breaks it off closes the run that `round` has.
pub(super) async fn probe(
    target: &Target,
    args: &Args,
    desk: &mut Desk,
    canary: &Canary,
    round: &mut Round,
) -> Result<(), Stop> {
    let asked = OpenRun {
        environment: args.environment.clone(),
        purpose: format!("doctor probe: one {CANARY_ACTION}, then the end"),
        ticket: None,
        prompt_digest: None,
        requester_token: None,
    };
    let run = desk.client.open_run(&asked).await?.run;
    round.open = Some(run);
    let Minted { role, lease, not_after, session } = minted(target, args, desk, run).await.map_err(advice)?;
    let probed = round.probed.insert(Probed {
        role,
        entry: target.entry(args).clone(),
        lease,
        allowed: false,
        outside_refused_with: None,
        outside_allowed: false,
        ended: "not ended yet".to_owned(),
        refused_with: None,
        revoke_to_deny_ms: None,
        packed_policy_percent: None,
        could_not_tell: Some("it was broken off".to_owned()),
    });
    let place =
        CanaryPlace { partition: partition(&session.region).to_owned(), region: session.region.clone() };
    let secret = CredentialSecret::Aws {
        access_key_id: session.access_key_id,
        secret_access_key: session.secret_access_key,
        session_token: session.session_token,
    };
    let mut unclear = before(canary, &secret, &place, probed).await;
    let (asked_at, at_aws) = (tokio::time::Instant::now(), canary.aws_now());
    let closed = close(&desk.client, run).await?;
    round.open = None;
    probed.ended.clone_from(&closed.how);
    if let (None, Some(at_aws)) = (&unclear, at_aws) {
        let ended = closed.ended.iter().find(|(ended, ..)| *ended == lease).map(|(_, at, by)| (*at, *by));
        let deadline = Deadline::of(not_after, ended.map(|(at, _)| at), at_aws);
        let wanted = Duration::from_secs(u64::from(args.patience));
        let since = canary.aws_now().unwrap_or(at_aws);
        let patience = wanted.min(deadline.left(since));
        let watched = canary.until_denied(&secret, &place, patience, PAUSE).await;
        let elapsed = asked_at.elapsed();
        match watched {
            Watched::Denied { code, .. } if deadline.may_refuse(canary.aws_now()) => {
                unclear = Some(format!(
                    "AWS refused it ({code}) so near to its own deadline that this shows no early end: probe an entry with more time"
                ));
            }
            Watched::Denied { code, .. } => {
                probed.refused_with = Some(code);
                probed.revoke_to_deny_ms = u64::try_from(elapsed.as_millis()).ok();
            }
            // However long was wanted: by then it had to be in force.
            Watched::StillAllowed { after } if is_overdue(ended, since, after) => {}
            Watched::StillAllowed { .. } | Watched::CouldNotTell(_) if patience < wanted => {
                unclear = Some(format!(
                    "AWS did not refuse it for {} s, and its own deadline is too near to go on: probe an entry with more time",
                    elapsed.as_secs()
                ));
            }
            Watched::StillAllowed { .. } => {}
            Watched::CouldNotTell(why) => unclear = Some(why),
        }
    } else if unclear.is_none() {
        unclear =
            Some("AWS tells no time, so that its refusal could be the session's own deadline".to_owned());
    }
    probed.could_not_tell = unclear;
    // What the ledger has of the mint; not knowing it takes nothing from what was measured.
    if let Ok(view) = desk.client.run(run).await {
        let own = view.leases.into_iter().find(|view| view.lease == lease);
        probed.packed_policy_percent = own.and_then(|view| view.packed_policy_percent);
    }
    Ok(())
}

/// Both calls before the end; what is not clear.
async fn before(
    canary: &Canary,
    secret: &CredentialSecret,
    place: &CanaryPlace,
    probed: &mut Probed,
) -> Option<String> {
    let mut outcome = canary.call(secret, place).await;
    for _ in 1..TRIES {
        if outcome == CanaryOutcome::Allowed {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        outcome = canary.call(secret, place).await;
    }
    probed.allowed = outcome == CanaryOutcome::Allowed;
    match outcome {
        CanaryOutcome::Allowed => {}
        CanaryOutcome::Denied(code) => {
            return Some(format!("AWS refused the session from the start ({code}): {}", super::NEEDED));
        }
        CanaryOutcome::Unreachable(why) => return Some(why),
    }
    let mut why = String::new();
    for _ in 0..TRIES {
        match canary.call_outside(secret, place).await {
            CanaryOutcome::Denied(code) => {
                probed.outside_refused_with = Some(code);
                return None;
            }
            CanaryOutcome::Allowed => {
                probed.outside_allowed = true;
                return None;
            }
            CanaryOutcome::Unreachable(reason) => why = reason,
        }
        tokio::time::sleep(PAUSE).await;
    }
    Some(format!("whether {OUTSIDE_ACTION} is refused: {why}"))
}

/// An ordinary lease with an AWS session.
async fn minted(target: &Target, args: &Args, desk: &mut Desk, run: RunId) -> Result<Minted, Stop> {
    let no_session = || {
        Stop::Refused(format!(
            "the credential is no AWS session, and nothing of the provider `aws`: {}",
            super::NEEDED
        ))
    };
    let Target::Action(action) = target else {
        let key = PhaseKey::generate()?;
        let token = desk.client.enter(run, Enter::Observe(args.observe_set.as_str()), &key).await?;
        let session = token.aws.ok_or_else(no_session)?;
        return Ok(Minted { role: "observe", lease: token.lease, not_after: token.not_after, session });
    };
    let asked = asked(args);
    let wish = Wish {
        action,
        observe_set: &args.observe_set,
        environment: &args.environment,
        parameters: parameters(&args.parameters, &[]).map_err(Stop::Refused)?,
        bound: Bound { plan: None, preconditions: Vec::new(), alert: None },
        args: &asked,
    };
    let (proposed, key) = propose(&desk.client, run, wish).await?;
    let document = decode(&proposed.document).map_err(|error| Stop::Failed(error.into()))?;
    let grant: Grant = canonical::from_bytes(&document).map_err(|error| Stop::Failed(error.into()))?;
    // What changes who may do what has a role of its own.
    let role = if grant.action.class == ActionClass::Trust { "trust" } else { "execute" };
    announce(&proposed, desk.client.broker());
    let approved = signatures(desk, key.grant, None).await?;
    let claimed = claim_grant(desk, &key, &approved, None).await?;
    let claimed = Arc::into_inner(claimed).ok_or_else(no_session)?;
    let (lease, not_after) = (claimed.lease, claimed.not_after);
    match claimed.credential {
        ExecuteCredential::Aws(session) => Ok(Minted { role, lease, not_after, session }),
        ExecuteCredential::Token { .. } => Err(no_session()),
    }
}

fn asked(args: &Args) -> ActionArgs {
    ActionArgs {
        parameters: args.parameters.clone(),
        text_parameters: Vec::new(),
        work_seconds: None,
        plan: None,
        preconditions: Vec::new(),
        alert: None,
        break_glass: false,
        observe_set: Some(args.observe_set.clone()),
        diagnosis: String::new(),
        evidence: String::new(),
        reason: format!("doctor probe: one {CANARY_ACTION}, then the credential is ended"),
    }
}

/// Closes a run, which ends its lease. Asked again while the broker is away or busy: closing twice changes nothing.
pub(super) async fn close(client: &AgentClient, run: RunId) -> Result<Closed, Stop> {
    let mut lost = Stop::Refused("the broker was not asked".to_owned());
    for pause in CLOSE_AGAIN {
        match client.close_run(run).await {
            Ok(closed) => {
                let how: Vec<String> = closed.ended.iter().map(|end| end.how.clone()).collect();
                let ended =
                    closed.ended.into_iter().map(|end| (end.lease, end.at, end.effective_by)).collect();
                return Ok(Closed { how: how.join("; "), ended });
            }
            // A run moves from every phase to closed, but not from closed: an earlier answer was lost.
            Err(AgentError::Refused(refused)) if refused.code == "phase_order" => {
                let how = "the run was closed already; the broker's word about its end was lost".to_owned();
                return Ok(Closed { how, ended: Vec::new() });
            }
            Err(error) if passes(&error) => lost = error.into(),
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(Duration::from_secs(pause)).await;
    }
    Err(lost)
}

fn passes(error: &AgentError) -> bool {
    match error {
        AgentError::Refused(refused) => {
            refused.status == 429 || refused.status >= 500 || refused.code == "conflict"
        }
        other => other.is_lost_reply(),
    }
}

fn partition(region: &str) -> &'static str {
    match region.split('-').take(2).collect::<Vec<_>>().as_slice() {
        ["cn", ..] => "aws-cn",
        ["us", "gov"] => "aws-us-gov",
        ["eusc", ..] => "aws-eusc",
        _ => "aws",
    }
}
