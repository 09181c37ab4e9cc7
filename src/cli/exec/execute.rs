//! From an approved grant to its end: claim, run the command with the credential, complete, say what became of it.

use std::sync::Arc;
use std::time::Duration;

use super::child::{Program, exit_code};
use super::claim_key::ClaimKey;
use super::environment::child_environment;
use super::held::{Fixed, Held};
use super::stop::Stop;
use super::surface::{AwsEndpoint, Surface};
use super::wait::Approved;
use super::{Desk, say};
use crate::broker::end::Complete;
use crate::broker::views::EndView;
use crate::cli::agent::{AgentClient, AgentError, Claimed};
use crate::domain::digest::Digest;
use crate::domain::id::{LeaseId, RunId};
use crate::domain::lease::{LeaseState, Outcome};
use crate::domain::proposal::visible;
use crate::domain::time::Timestamp;

/// Refusals that pass by themselves while the grant stays unspent.
const PASSING: [&str; 6] = [
    "earlier_credential_alive",
    "agent_executing",
    "conflict",
    "provider_not_ready",
    "provider_refused",
    "store_unavailable",
];
/// Longest pause between attempts to claim.
const LONGEST_PAUSE_SECONDS: u32 = 5;
/// How often the broker is asked whether somebody ended the lease early.
const LOOK: Duration = Duration::from_secs(5);
/// Waits between attempts to tell the broker that the work is over.
const TELL_AGAIN: [u64; 4] = [1, 2, 4, 8];

/// Claims the grant; what passes by itself is waited for as long as the grant can be claimed.
pub async fn claim(
    desk: &mut Desk,
    claim: &ClaimKey,
    approved: &Approved,
    plan: Option<Digest>,
) -> Result<Arc<Claimed>, Stop> {
    loop {
        // Not to be interrupted: a signal is looked at when it is known what was issued.
        let claiming =
            desk.client.claim_or_recall(claim.grant, claim.lease, &claim.key, &approved.tokens, plan);
        match claiming.await {
            Ok(claimed) => return Ok(Arc::new(claimed)),
            Err(AgentError::Refused(refused))
                if PASSING.contains(&refused.code.as_str())
                    && !approved.claim_until.has_passed(desk.clock.wall()) =>
            {
                say(format!("{refused}; trying again"));
                // At most so long: "alive until" is the worst case, and shrinks once a revocation is confirmed.
                let pause = refused.retry_after.unwrap_or(2).clamp(1, LONGEST_PAUSE_SECONDS);
                desk.pause(Duration::from_secs(u64::from(pause))).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Runs the program with the claimed credential, and ends the lease whatever happens.
pub async fn carry_out(
    desk: &mut Desk,
    claimed: Arc<Claimed>,
    claim: ClaimKey,
    program: &Program,
    endpoints: &[AwsEndpoint],
) -> Result<u8, Stop> {
    let (lease, not_after, key) = (claimed.lease, claimed.not_after, Arc::new(claim.key));
    say(format!(
        "lease {lease}: credential until {not_after} ({} s); ending it early is {}",
        not_after.since(desk.clock.wall()),
        claimed.revocability
    ));
    let held = Arc::new(Held::Execute(claimed.clone(), key.clone()));
    let outcome = with_credential(desk, &held, lease, claim.run, program, endpoints).await;
    let ended = match &outcome {
        Ok(code) => {
            let outcome = if *code == 0 { Outcome::Succeeded } else { Outcome::Failed };
            let done = Complete { outcome, note: None };
            tell(&desk.client, || desk.client.complete(&claimed, &key, &done)).await
        }
        Err(_) => tell(&desk.client, || desk.client.cancel_lease(&claimed, &key)).await,
    };
    say(end_sentence(ended, not_after, desk.clock.wall()));
    outcome
}

async fn with_credential(
    desk: &mut Desk,
    held: &Arc<Held>,
    lease: LeaseId,
    run: RunId,
    program: &Program,
    endpoints: &[AwsEndpoint],
) -> Result<u8, Stop> {
    let source = Arc::new(Fixed(held.clone()));
    let issuer = desk.client.issuer().to_owned();
    let surface = Surface::open(source, held, desk.clock.clone(), &issuer, endpoints).await?;
    let environment = child_environment(std::env::vars_os(), surface.variables());
    let left = held.not_after().since(desk.clock.wall()).max(0).unsigned_abs();
    let early = std::sync::OnceLock::new();
    let over = async {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(left)) => {
                let _ = early.set(format!("the credential ended at {}, its deadline", held.not_after()));
            }
            why = ended_early(&desk.client, run, lease) => {
                let _ = early.set(why);
            }
        }
    };
    let status = program
        .run(environment, &mut desk.signals, over, || {
            let why = early.get().cloned().unwrap_or_default();
            surface.endpoint().end(&why);
            say(format!("{why}; the command goes on without it"));
        })
        .await;
    surface.endpoint().end("the work is over, and the credential with it");
    surface.close().await?;
    Ok(exit_code(status?))
}

/// Resolves when the broker says that the lease is over: a person stopped it, or the run was closed elsewhere.
async fn ended_early(client: &AgentClient, run: RunId, lease: LeaseId) -> String {
    loop {
        tokio::time::sleep(LOOK).await;
        // An agent that claims for another cannot see the run; then only the deadline is known.
        let Ok(view) = client.run(run).await else { continue };
        let ended = view.leases.iter().find(|l| l.lease == lease && l.state == LeaseState::Ended);
        if let Some(ended) = ended.and_then(|lease| lease.ended) {
            return format!("the lease was ended at {} ({})", ended.at, ended.reason);
        }
    }
}

/// Tells the broker until it has heard, for a quarter of a minute.
async fn tell<F>(client: &AgentClient, mut call: impl FnMut() -> F) -> Result<EndView, AgentError>
where
    F: Future<Output = Result<EndView, AgentError>>,
{
    let mut waits = TELL_AGAIN.iter();
    loop {
        let error = match call().await {
            Ok(view) => return Ok(view),
            Err(error) => error,
        };
        let again = error.is_lost_reply()
            || matches!(&error, AgentError::Refused(refused) if refused.status == 429 || refused.status >= 500);
        match waits.next() {
            Some(seconds) if again => {
                say(format!("{} has not heard of the end yet: {error}; trying again", client.broker()));
                tokio::time::sleep(Duration::from_secs(*seconds)).await;
            }
            _ => return Err(error),
        }
    }
}

/// INVARIANT: honest-revocation. What is known about the end, and no more.
fn end_sentence(ended: Result<EndView, AgentError>, not_after: Timestamp, now: Timestamp) -> String {
    match ended {
        Ok(view) => {
            let next = view.next_step.map(|next| format!("\n  next: {next}")).unwrap_or_default();
            visible(&format!("{}{next}", view.how))
        }
        Err(AgentError::Refused(refused)) if refused.code == "lease_ended" => refused.detail,
        Err(error) if not_after.has_passed(now) => format!(
            "expired at {not_after}: its own deadline ({error}). The work may be half done: observe what happened, \
             then propose again"
        ),
        Err(error) => {
            format!(
                "the broker could not be told that the work is over ({error}); the credential will expire at {not_after}"
            )
        }
    }
}
