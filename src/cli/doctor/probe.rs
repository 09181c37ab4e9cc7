//! `phasebroker doctor probe` and `soak`: an ordinary lease, one harmless call with it, its end through the broker's ordinary
//! writer of Deny policies, and the seconds until AWS refuses the same call. The session never leaves this process.
//! INVARIANT: signed-before-minted. A probe has no door of its own: to observe nobody signs, and to execute people do, or
//! have signed a playbook; the ledger holds it like any other run.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::series::Series;
use crate::broker::ports::{CanaryOutcome, CanaryPlace, Clock, CredentialSecret};
use crate::broker::runs::OpenRun;
use crate::cli::agent::{AgentArgs, AgentClient, AwsSession, Enter, ExecuteCredential, PhaseKey};
use crate::cli::clock::SystemClock;
use crate::cli::exec::{
    ActionArgs, Bound, Desk, Signals, Stop, Wish, announce, claim_grant, parameters, propose, signatures,
};
use crate::cli::exit::Exit;
use crate::cli::host::harden;
use crate::cli::terminal::{Output, say_progress};
use crate::domain::id::{LeaseId, RunId};
use crate::domain::principal::{ActionType, Environment};
use crate::domain::proposal::visible;
use crate::domain::sent::CANARY_ACTION;
use crate::domain::time::Timestamp;
use crate::providers::aws::{Canary, Watched};

/// Between two calls while AWS still lets the session act.
const PAUSE: Duration = Duration::from_millis(500);
/// How often a new session is tried before it counts as unable to call.
const FIRST_TRIES: u32 = 6;
/// Seconds before a session's own deadline from which a refusal would no longer show that it was revoked.
const BEFORE_DEADLINE: i64 = 5;

/// Arguments of `doctor probe` and `doctor soak`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The set, or the action, must let a session call ec2:DescribeRegions on `*`, and so must the role's ceiling: \
give the catalog an entry for it (or an action `canary = true`), print the ceilings and apply. (sts:GetCallerIdentity would show nothing: no Deny stops it.) \
Each round is an ordinary run of this agent: the ledger holds it, and reconciling finds nothing odd.\n\n\
Exit codes: 0 AWS refused every revoked session; 6 it could not be told; 7 AWS still let a revoked session act; 1 failed; 2 usage"
)]
pub struct Args {
    /// The broker, and who calls it.
    #[command(flatten)]
    pub agent: AgentArgs,
    /// Where.
    #[arg(long, value_name = "NAME")]
    pub environment: Environment,
    /// The read-only set of the catalog: probes the observe role; with --action, what is looked at before proposing.
    #[arg(long, value_name = "SET")]
    pub observe_set: ActionType,
    /// Probe the role of this action instead; people sign, or a playbook covers it.
    #[arg(long, value_name = "TYPE")]
    pub action: Option<ActionType>,
    /// A parameter of the action.
    #[arg(long = "param", value_name = "NAME=VALUE", requires = "action")]
    pub parameters: Vec<String>,
    /// Longest time to wait for AWS to refuse, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=900))]
    pub patience: u32,
    /// Another EC2 endpoint; AWS's own by default.
    #[arg(long, value_name = "URL")]
    pub ec2_endpoint: Option<String>,
}

/// Arguments of `doctor soak`.
#[derive(Debug, clap::Args)]
pub struct SoakArgs {
    /// What is repeated.
    #[command(flatten)]
    pub probe: Args,
    /// How often.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub times: u32,
    /// Where to write the JSON.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// What one round showed.
#[derive(Debug, Serialize)]
pub struct Probed {
    /// The lease.
    pub lease: LeaseId,
    /// Whether AWS let the session call before its end.
    pub allowed: bool,
    /// The broker's own sentence about the end.
    pub ended: String,
    /// AWS's error code of the refusal, if it came.
    pub refused_with: Option<String>,
    /// From asking the broker for the end to the refusal, milliseconds.
    pub revoke_to_deny_ms: Option<u64>,
    /// Why nothing can be told, where nothing can.
    pub could_not_tell: Option<String>,
}

/// Runs `doctor probe`.
pub async fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    rounds(args, 1, None, output).await
}

/// Runs `doctor soak`.
pub async fn soak(args: &SoakArgs, output: Output) -> anyhow::Result<ExitCode> {
    rounds(&args.probe, args.times, args.out.as_ref(), output).await
}

async fn rounds(args: &Args, times: u32, out: Option<&PathBuf>, output: Output) -> anyhow::Result<ExitCode> {
    harden()?;
    crate::authn::install_crypto();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let canary = Canary::new(clock.clone(), args.ec2_endpoint.clone())?;
    let mut desk = Desk { client: Arc::new(args.agent.client()?), clock, signals: Signals::catch()? };
    let mut probed = Vec::new();
    for round in 1..=times {
        if !output.json {
            say_progress(&format!("probe {round} of {times}"));
        }
        probed.push(
            round_of(args, &mut desk, &canary)
                .await
                .map_err(|stop| Exit::Refused.because(stop.to_string()))?,
        );
    }
    let series = Series::of(probed.iter().filter_map(|one| one.revoke_to_deny_ms));
    let value = json!({
        "version": 1,
        "environment": args.environment,
        "role": args.action.as_ref().map_or("observe", |_| "execute"),
        "call": CANARY_ACTION,
        "probes": probed,
        "revoke_to_deny_ms": series,
    });
    if let Some(path) = out {
        std::fs::write(path, format!("{}\n", serde_json::to_string_pretty(&value)?))
            .map_err(|error| Exit::Refused.because(format!("cannot write {}: {error}", path.display())))?;
    }
    output.print(&value, || told(&probed, &series))?;
    Ok(ExitCode::from(code(&probed)))
}

/// One run: a lease, a call, its end, and the same call until it is refused. Whatever happens, the run is closed.
async fn round_of(args: &Args, desk: &mut Desk, canary: &Canary) -> Result<Probed, Stop> {
    let asked = OpenRun {
        environment: args.environment.clone(),
        purpose: format!("doctor probe: one {CANARY_ACTION}, then the end"),
        ticket: None,
        prompt_digest: None,
        requester_token: None,
    };
    let run = desk.client.open_run(&asked).await?.run;
    let (lease, not_after, session) = match minted(args, desk, run).await {
        Ok(minted) => minted,
        Err(stop) => {
            end(&desk.client, run).await.ok();
            return Err(stop);
        }
    };
    let place =
        CanaryPlace { partition: partition(&session.region).to_owned(), region: session.region.clone() };
    let secret = CredentialSecret::Aws {
        access_key_id: session.access_key_id,
        secret_access_key: session.secret_access_key,
        session_token: session.session_token,
    };
    let before = first(canary, &secret, &place).await;
    let asked_at = tokio::time::Instant::now();
    let ended = end(&desk.client, run).await?;
    let mut probed = Probed {
        lease,
        allowed: before == CanaryOutcome::Allowed,
        ended,
        refused_with: None,
        revoke_to_deny_ms: None,
        could_not_tell: None,
    };
    match before {
        CanaryOutcome::Allowed => {}
        CanaryOutcome::Denied(code) => {
            probed.could_not_tell = Some(format!("AWS refused the session from the start ({code})"));
            return Ok(probed);
        }
        CanaryOutcome::Unreachable(why) => {
            probed.could_not_tell = Some(why);
            return Ok(probed);
        }
    }
    // SECURITY: at its deadline a session is refused whether or not it was revoked; that must not be taken for the Deny.
    let left = not_after.since(desk.clock.wall()) - BEFORE_DEADLINE;
    let patience = u64::from(args.patience).min(left.max(0).unsigned_abs());
    match canary.until_denied(&secret, &place, Duration::from_secs(patience), PAUSE).await {
        Watched::Denied { code, .. } => {
            probed.refused_with = Some(code);
            probed.revoke_to_deny_ms = u64::try_from(asked_at.elapsed().as_millis()).ok();
        }
        Watched::StillAllowed => {}
        Watched::CouldNotTell(why) => probed.could_not_tell = Some(why),
    }
    Ok(probed)
}

/// An ordinary lease with an AWS session.
async fn minted(args: &Args, desk: &mut Desk, run: RunId) -> Result<(LeaseId, Timestamp, AwsSession), Stop> {
    let no_session = || {
        Stop::Refused("the credential is no AWS session: name a set or action of the provider `aws`".into())
    };
    let Some(action) = &args.action else {
        let key = PhaseKey::generate()?;
        let token = desk.client.enter(run, Enter::Observe(args.observe_set.as_str()), &key).await?;
        return Ok((token.lease, token.not_after, token.aws.ok_or_else(no_session)?));
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
    announce(&proposed, desk.client.broker());
    let approved = signatures(desk, key.grant, None).await?;
    let claimed = claim_grant(desk, &key, &approved, None).await?;
    let claimed = Arc::into_inner(claimed).ok_or_else(no_session)?;
    match claimed.credential {
        ExecuteCredential::Aws(session) => Ok((claimed.lease, claimed.not_after, session)),
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

/// The first call; a session that was just made is known everywhere only after a moment.
async fn first(canary: &Canary, secret: &CredentialSecret, place: &CanaryPlace) -> CanaryOutcome {
    let mut outcome = canary.call(secret, place).await;
    for _ in 1..FIRST_TRIES {
        if outcome == CanaryOutcome::Allowed {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        outcome = canary.call(secret, place).await;
    }
    outcome
}

/// Closes the run, which ends its lease; the broker's own words about it.
async fn end(client: &AgentClient, run: RunId) -> Result<String, Stop> {
    let closed = client.close_run(run).await?;
    Ok(closed.ended.into_iter().map(|end| end.how).collect::<Vec<_>>().join("; "))
}

fn partition(region: &str) -> &'static str {
    match region.split('-').take(2).collect::<Vec<_>>().as_slice() {
        ["cn", ..] => "aws-cn",
        ["us", "gov"] => "aws-us-gov",
        ["eusc", ..] => "aws-eusc",
        _ => "aws",
    }
}

/// INVARIANT: honest-revocation. What was seen, and no more.
fn told(probed: &[Probed], series: &Option<Series>) -> String {
    let mut text = String::new();
    for one in probed {
        let seen = match (&one.refused_with, one.revoke_to_deny_ms, &one.could_not_tell) {
            (Some(code), Some(ms), _) => {
                format!("AWS refused it {}.{:03} s later ({code})", ms / 1_000, ms % 1_000)
            }
            (_, _, Some(why)) => format!("could not be told: {why}"),
            _ => "AWS STILL LET IT ACT when the patience was over".to_owned(),
        };
        let allowed = if one.allowed { "allowed" } else { "not allowed" };
        text += &format!(
            "lease {}: {CANARY_ACTION} {allowed}; {}; {}\n",
            one.lease,
            visible(&one.ended),
            visible(&seen)
        );
    }
    if let Some(series) = series {
        text += &format!(
            "revoke to deny, {} measured: p50 {} ms, p99 {} ms, max {} ms",
            series.count, series.p50, series.p99, series.max
        );
    }
    text
}

fn code(probed: &[Probed]) -> u8 {
    let still = |one: &Probed| one.refused_with.is_none() && one.could_not_tell.is_none();
    match (probed.iter().any(still), probed.iter().any(|one| one.could_not_tell.is_some())) {
        (true, _) => 7,
        (false, true) => 6,
        (false, false) => 0,
    }
}
