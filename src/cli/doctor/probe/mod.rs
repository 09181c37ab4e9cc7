//! `phasebroker doctor probe` and `soak`: ordinary leases, harmless calls with them, their end through the broker's ordinary
//! writer of Deny policies, and the seconds until AWS refuses. Whatever breaks it off, the run is closed and what was
//! measured is printed.

mod deadline;
mod round;
mod series;
mod told;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use crate::broker::ports::Clock;
use crate::cli::agent::AgentArgs;
use crate::cli::clock::SystemClock;
use crate::cli::exec::{Desk, Signals, Stop};
use crate::cli::exit::Exit;
use crate::cli::host::harden;
use crate::cli::terminal::{Output, say_progress};
use crate::domain::principal::{ActionType, Environment};
use crate::domain::sent::CANARY_ACTION;
use crate::providers::aws::{Canary, OUTSIDE_ACTION};
use round::{Probed, Round, close, probe};

/// What a catalog has to hold, as the shipped one does.
const ENTRIES: &str = include_str!("entries.toml");
/// What the entry of a probe must allow.
const NEEDED: &str = "its catalog entry must let the session call ec2:DescribeRegions on `*`, and the ceilings must be applied";

/// Arguments of `doctor probe` and `doctor soak`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Each probe takes a lease and shows a call that AWS allows it (ec2:DescribeRegions), one that neither its role \
nor its session policy needs and AWS refuses (ec2:DescribeAvailabilityZones; refused by role or policy, and AWS does not say by \
which), then ends it and calls until AWS refuses the first one too. \
(sts:GetCallerIdentity would show nothing: no Deny stops it.) The shipped catalog has the entries, aws-canary, probe-execute-role and \
probe-trust-role; where a catalog has none, the probe says what to add. A refusal within five seconds of the session's own deadline, \
by AWS's clock, counts for nothing. Each probe is an ordinary run of this agent: the ledger holds it, and `audit reconcile` shows the \
call that was refused as a denied_attempt, as it is. Probe as an agent of its own.\n\n\
Exit codes: 0 AWS refused every revoked session, and every call beyond its policy; 6 it could not be told; 7 AWS still let a revoked \
session act, or one act beyond its policy; 1 failed; 2 usage; 128 and its number when a signal broke it off. What was measured until \
then is printed in any case"
)]
pub struct Args {
    /// The broker, and who calls it.
    #[command(flatten)]
    pub agent: AgentArgs,
    /// Where.
    #[arg(long, value_name = "NAME")]
    pub environment: Environment,
    /// The read-only set of the catalog: probes the observe role; with --action, what is looked at before proposing.
    #[arg(long, value_name = "SET", default_value = "aws-canary")]
    pub observe_set: ActionType,
    /// Probe the role of this action instead; people sign, or a playbook covers it. May be given more than once.
    #[arg(long, value_name = "TYPE")]
    pub action: Vec<ActionType>,
    /// Probe the observe role as well.
    #[arg(long, requires = "action")]
    pub observe_too: bool,
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

/// Which role is probed, by what its sessions are for.
enum Target {
    Observe,
    Action(ActionType),
}

impl Target {
    fn of(args: &Args) -> Vec<Self> {
        let observe = args.action.is_empty() || args.observe_too;
        let actions = args.action.iter().cloned().map(Self::Action);
        observe.then_some(Self::Observe).into_iter().chain(actions).collect()
    }

    fn entry<'a>(&'a self, args: &'a Args) -> &'a ActionType {
        match self {
            Self::Observe => &args.observe_set,
            Self::Action(action) => action,
        }
    }
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
    // Heard beside whatever a step of the desk hears itself.
    let mut signals = Signals::catch()?;
    let targets = Target::of(args);
    let (mut probed, mut stopped): (Vec<Probed>, Option<Stop>) = (Vec::new(), None);
    'rounds: for round in 1..=times {
        for target in &targets {
            if !output.json {
                say_progress(&format!("probe {round} of {times}: {}", target.entry(args)));
            }
            let (seen, outcome) = one(target, args, &mut desk, &canary, &mut signals).await;
            probed.extend(seen);
            if let Err(stop) = outcome {
                stopped = Some(stop);
                break 'rounds;
            }
        }
    }
    let why = stopped.as_ref().map(why);
    let measured = told::measured(&probed);
    let value = json!({
        "version": 1,
        "environment": args.environment,
        "call": CANARY_ACTION,
        "outside_call": OUTSIDE_ACTION,
        "probes": probed,
        "measured": measured,
        "stopped": why,
    });
    output.print(&value, || told::told(&probed, &measured, why.as_deref()))?;
    // After what is printed: a file that cannot be written takes nothing away.
    if let Some(path) = out {
        std::fs::write(path, format!("{}\n", serde_json::to_string_pretty(&value)?))
            .map_err(|error| Exit::Refused.because(format!("cannot write {}: {error}", path.display())))?;
    }
    let code = stopped.as_ref().map(|stop| match stop {
        Stop::Signal(_) => stop.code(),
        _ => Exit::Refused as u8,
    });
    Ok(ExitCode::from(told::code(&probed, code)))
}

/// One probe, until a signal breaks it off. Whatever happens, its run is closed.
async fn one(
    target: &Target,
    args: &Args,
    desk: &mut Desk,
    canary: &Canary,
    signals: &mut Signals,
) -> (Option<Probed>, Result<(), Stop>) {
    let mut round = Round::default();
    let outcome = tokio::select! {
        outcome = probe(target, args, desk, canary, &mut round) => outcome,
        signal = signals.next() => Err(Stop::Signal(signal)),
    };
    let Some(run) = round.open else { return (round.probed, outcome) };
    let left = tokio::select! {
        closed = close(&desk.client, run) => closed.err().map(|stop| why(&stop)),
        _ = signals.next() => Some("a second signal came first".to_owned()),
    };
    let outcome = match (outcome, left) {
        (outcome, None) => outcome,
        (Err(stop @ Stop::Signal(_)), Some(left)) => {
            eprintln!("phasebroker: {}", unclosed(run, &left));
            Err(stop)
        }
        (Err(stop), Some(left)) => Err(Stop::Refused(format!("{}; {}", why(&stop), unclosed(run, &left)))),
        (Ok(()), Some(left)) => Err(Stop::Refused(unclosed(run, &left))),
    };
    (round.probed, outcome)
}

fn unclosed(run: impl std::fmt::Display, why: &str) -> String {
    format!("run {run} could not be closed ({why}); what it holds ends at its own deadline")
}

fn why(stop: &Stop) -> String {
    match stop {
        Stop::Signal(signal) => format!("a signal ({}) broke it off", signal.as_raw()),
        other => other.to_string(),
    }
}

/// Says what to add where the catalog has no such entry.
fn advice(stop: Stop) -> Stop {
    match stop {
        Stop::Refused(text)
            if (text.contains("the catalog has no `") || text.contains("is not allowed in `")) =>
        {
            Stop::Refused(format!(
                "{text}. Add to the catalog what is probed, print the ceilings (`phasebroker aws ceiling`) and apply:\n\n{ENTRIES}"
            ))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_catalog_is_told_to_add_is_what_the_shipped_one_has() {
        let shipped = include_str!("../../../../config/catalog.toml");
        let (shipped, told): (toml::Table, toml::Table) =
            (shipped.parse().unwrap(), ENTRIES.parse().unwrap());
        for kind in ["observe", "actions"] {
            for (name, entry) in told[kind].as_table().unwrap() {
                assert_eq!(&shipped[kind][name], entry, "{kind}.{name}");
            }
        }
    }

    #[test]
    fn only_an_entry_that_is_missing_is_told_to_be_added() {
        let text = |stop: Stop| advice(stop).to_string();
        let missing = text(Stop::Refused("bad_request: the catalog has no `aws-canary`: ask".into()));
        assert!(missing.contains("[observe.aws-canary]") && missing.contains("[actions.probe-trust-role]"));
        assert_eq!(text(Stop::Refused("policy said no".into())), "policy said no");
    }
}
