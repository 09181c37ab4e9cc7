//! `phasebroker exec`: a command runs with a credential that people signed, and never sees another one.
//! The credential reaches it over a loopback endpoint; nothing secret is in its environment, its arguments or our output.

mod bound;
mod child;
mod claim_key;
mod endpoint;
mod environment;
mod execute;
mod held;
mod observe;
mod parameters;
mod propose;
mod stop;
mod surface;
#[cfg(test)]
mod tests;
mod wait;

pub use child::{NoProgram, Program, Signals, exit_code};
pub use claim_key::ClaimKey;
pub use endpoint::Endpoint;
pub use environment::child_environment;
pub use held::{Credential, Fixed, Held, Observing, Source};
pub use stop::Stop;
pub use surface::{AwsEndpoint, Surface};

// What `doctor probe` does as an ordinary agent.
pub(super) use bound::Bound;
pub(super) use execute::claim as claim_grant;
pub(super) use parameters::parameters;
pub(super) use propose::{Wish, propose};
pub(super) use wait::{announce, signatures};

use std::ffi::OsString;
use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgGroup, ValueEnum};

use super::agent::{AgentArgs, AgentClient};
use super::clock::SystemClock;
use super::exit::{self, Exit};
use super::host::harden;
use super::terminal::Output;
use crate::broker::ports::Clock;
use crate::broker::runs::OpenRun;
use crate::domain::id::{GrantId, RunId};
use crate::domain::principal::{ActionType, Environment};
use crate::domain::proposal::visible;
use stop::EXEC_EXIT_CODES;

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXEC_EXIT_CODES, group(ArgGroup::new("mode").required(true).args(["action", "phase", "grant"])))]
pub struct Args {
    /// The broker, and who calls it.
    #[command(flatten)]
    pub agent: AgentArgs,
    /// Propose this action of the catalog, wait for signatures, run the command with its credential.
    #[arg(long, value_name = "TYPE", requires = "environment")]
    pub action: Option<ActionType>,
    /// Run the command with a read-only credential; nobody signs.
    #[arg(long, value_name = "PHASE", requires_all = ["environment", "set"])]
    pub phase: Option<OwnPhase>,
    /// Run the command with the credential of a grant that was proposed with --propose-only.
    #[arg(long, value_name = "GRANT", requires = "claim_key_file")]
    pub grant: Option<GrantId>,
    /// What is proposed.
    #[command(flatten)]
    pub proposal: ActionArgs,
    /// Where to act.
    #[arg(long, env = "PHASEBROKER_ENVIRONMENT", value_name = "ENVIRONMENT")]
    pub environment: Option<Environment>,
    /// Why, for people and for the record.
    #[arg(long, value_name = "TEXT")]
    pub purpose: Option<String>,
    /// Ticket or alert this is about.
    #[arg(long, value_name = "TEXT")]
    pub ticket: Option<String>,
    /// File with a token of the person on whose behalf this is (`phasebroker requester-token`): one run, one minute.
    #[arg(long, value_name = "FILE", conflicts_with = "grant")]
    pub requester_token_file: Option<PathBuf>,
    /// With --phase observe: the read-only set of the catalog.
    #[arg(long, value_name = "NAME")]
    pub set: Option<ActionType>,
    /// Wait so long for signatures, then stop asking [default: as long as the grant can be signed].
    #[arg(long, value_name = "SECONDS")]
    pub wait: Option<u32>,
    /// Stop after the proposal: leave the claim key in --claim-key-file, print the grant's id.
    #[arg(long, requires_all = ["action", "claim_key_file"], conflicts_with = "command")]
    pub propose_only: bool,
    /// Where the claim key of a grant is kept between proposal and claim (mode 0600; removed when spent).
    #[arg(long, value_name = "FILE")]
    pub claim_key_file: Option<PathBuf>,
    /// An endpoint of an AWS service for the command, such as s3=https://…; every other override is removed.
    #[arg(long = "aws-endpoint", value_name = "SERVICE=URL")]
    pub aws_endpoints: Vec<AwsEndpoint>,
    /// The command and its arguments.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// What is proposed with --action.
#[derive(Debug, Clone, clap::Args)]
pub struct ActionArgs {
    /// A parameter; a whole number is a number, everything else text.
    #[arg(long = "param", value_name = "NAME=VALUE")]
    pub parameters: Vec<String>,
    /// A parameter that is text although it looks like a number.
    #[arg(long = "param-text", value_name = "NAME=VALUE")]
    pub text_parameters: Vec<String>,
    /// Seconds of work to ask for [default: what the catalog allows].
    #[arg(long, value_name = "SECONDS")]
    pub work_seconds: Option<u32>,
    /// An external plan (Terraform plan, change set): its SHA-256 is signed, and checked again at the claim.
    #[arg(long, value_name = "FILE", conflicts_with = "phase")]
    pub plan: Option<PathBuf>,
    /// A probe of the broker and the value it must give, now and at the claim.
    #[arg(long = "only-while", value_name = "PROBE=VALUE", conflicts_with_all = ["phase", "grant"])]
    pub preconditions: Vec<String>,
    /// File with a signed alert that may start a playbook.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["phase", "grant"])]
    pub alert: Option<PathBuf>,
    /// Ask people to sign under the break-glass rule; needs --requester-token-file.
    #[arg(long, requires = "requester_token_file", conflicts_with_all = ["phase", "grant"])]
    pub break_glass: bool,
    /// The read-only set to observe with before deciding.
    #[arg(long, env = "PHASEBROKER_OBSERVE_SET", value_name = "NAME")]
    pub observe_set: Option<ActionType>,
    /// What you believe is wrong; shown to the approver as untrusted.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub diagnosis: String,
    /// What you saw; shown to the approver as untrusted.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub evidence: String,
    /// Why this action; shown to the approver as untrusted.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
}

/// The phase a command can run in without a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OwnPhase {
    /// Read-only.
    Observe,
}

/// What every step works with.
pub struct Desk {
    /// The agent's client.
    pub client: Arc<AgentClient>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// What may interrupt.
    pub signals: Signals,
}

impl Desk {
    /// Waits, unless a signal comes first.
    async fn pause(&mut self, time: Duration) -> Result<(), Stop> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            signal = self.signals.next() => Err(Stop::Signal(signal)),
        }
    }
}

/// Runs `exec`.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    match exec(&args, output).await {
        Ok(code) => Ok(code.into()),
        Err(Stop::Failed(error)) if Exit::of(&error) == Exit::Usage => Ok(exit::report(&error)),
        Err(stop) => {
            say(&stop);
            Ok(stop.code().into())
        }
    }
}

async fn exec(args: &Args, output: Output) -> Result<u8, Stop> {
    let usage = |why: &str| Stop::Failed(Exit::Usage.because(why));
    // Found first: people should not sign for a command that cannot run.
    let program = match args.propose_only {
        true => None,
        false => Some(Program::find(&args.command, std::env::var_os("PATH").as_deref())?),
    };
    harden().map_err(Stop::Failed)?;
    let mut desk = Desk {
        client: Arc::new(args.agent.client().map_err(Stop::Failed)?),
        clock: Arc::new(SystemClock),
        signals: Signals::catch()?,
    };
    match (&args.action, &args.set, args.grant, program) {
        (Some(action), _, _, program) => {
            let observe_set = args.proposal.observe_set.as_ref();
            let wish = propose::Wish {
                action,
                observe_set: observe_set.ok_or_else(|| {
                    usage(
                        "say what to observe with before deciding: --observe-set or PHASEBROKER_OBSERVE_SET",
                    )
                })?,
                environment: args.environment.as_ref().ok_or_else(|| usage("--environment is missing"))?,
                parameters: parameters::parameters(&args.proposal.parameters, &args.proposal.text_parameters)
                    .map_err(|why| usage(&why))?,
                // Read before a run is opened: a file that is not there is a mistake, and leaves nothing behind.
                bound: bound::Bound::read(&args.proposal)?,
                args: &args.proposal,
            };
            match program {
                Some(program) => act(args, &mut desk, wish, &program).await,
                None => propose_only(args, &mut desk, wish, output).await,
            }
        }
        (None, _, Some(grant), Some(program)) => claim(args, &mut desk, grant, &program).await,
        (None, Some(set), None, Some(program)) => {
            let run = open_run(args, &desk).await?;
            let outcome = observe::observe(&mut desk, run, set, &program, &args.aws_endpoints).await;
            close_run(&desk, run).await;
            outcome
        }
        _ => Err(usage("give one of --action, --phase observe and --grant")),
    }
}

/// Proposes, waits, executes; the run is closed whatever happens, which cancels and ends what is left.
async fn act(args: &Args, desk: &mut Desk, wish: propose::Wish<'_>, program: &Program) -> Result<u8, Stop> {
    let run = open_run(args, desk).await?;
    let outcome = async {
        let (proposed, key) = proposing(desk, run, wish).await?;
        wait::announce(&proposed, desk.client.broker());
        let give_up = args.wait.map(|seconds| desk.clock.wall().plus(i64::from(seconds)));
        let approved = wait::signatures(desk, key.grant, give_up).await?;
        // Read again: what is carried out is what the file says now, and must be what was signed.
        let plan = bound::plan(args.proposal.plan.as_deref())?;
        let claimed = execute::claim(desk, &key, &approved, plan).await?;
        execute::carry_out(desk, claimed, key, program, &args.aws_endpoints).await
    }
    .await;
    close_run(desk, run).await;
    outcome
}

async fn proposing(
    desk: &mut Desk,
    run: RunId,
    wish: propose::Wish<'_>,
) -> Result<(crate::broker::propose::Proposed, ClaimKey), Stop> {
    let Desk { client, signals, .. } = desk;
    tokio::select! {
        proposed = propose::propose(client, run, wish) => proposed,
        signal = signals.next() => Err(Stop::Signal(signal)),
    }
}

/// Leaves the run deciding and the claim key in its file.
async fn propose_only(
    args: &Args,
    desk: &mut Desk,
    wish: propose::Wish<'_>,
    output: Output,
) -> Result<u8, Stop> {
    let file = args
        .claim_key_file
        .as_ref()
        .ok_or_else(|| Stop::Failed(Exit::Usage.because("--propose-only needs --claim-key-file")))?;
    let run = open_run(args, desk).await?;
    let proposed = async {
        let (proposed, key) = proposing(desk, run, wish).await?;
        key.write(file).map_err(Stop::Failed)?;
        Ok(proposed)
    }
    .await;
    match proposed {
        Ok(proposed) => {
            wait::announce(&proposed, desk.client.broker());
            match output.json {
                true => println!("{}", serde_json::json!({ "grant": proposed.grant, "run": run })),
                false => println!("{}", proposed.grant),
            }
            Ok(0)
        }
        Err(stop) => {
            close_run(desk, run).await;
            Err(stop)
        }
    }
}

/// Claims a grant that was proposed earlier, and closes its run when the work is over.
async fn claim(args: &Args, desk: &mut Desk, grant: GrantId, program: &Program) -> Result<u8, Stop> {
    let file = args
        .claim_key_file
        .as_ref()
        .ok_or_else(|| Stop::Failed(Exit::Usage.because("--grant needs --claim-key-file")))?;
    let key = ClaimKey::read(file).map_err(Stop::Failed)?;
    if key.grant != grant {
        return Err(Stop::Failed(Exit::Usage.because(format!(
            "{} holds the claim key of grant {}, not of {grant}",
            file.display(),
            key.grant
        ))));
    }
    let give_up = args.wait.map(|seconds| desk.clock.wall().plus(i64::from(seconds)));
    let approved = wait::signatures(desk, grant, give_up).await?;
    let run = key.run;
    // Refused or lost, the grant may be unspent: then run and file stay for another try.
    let plan = bound::plan(args.proposal.plan.as_deref())?;
    let claimed = execute::claim(desk, &key, &approved, plan).await?;
    let outcome = execute::carry_out(desk, claimed, key, program, &args.aws_endpoints).await;
    close_run(desk, run).await;
    if let Err(error) = std::fs::remove_file(file) {
        say(format!("the spent claim key file {} cannot be removed: {error}", file.display()));
    }
    outcome
}

async fn open_run(args: &Args, desk: &Desk) -> Result<RunId, Stop> {
    let what = match &args.action {
        Some(action) => format!("exec --action {action}"),
        None => "exec --phase observe".to_owned(),
    };
    let environment = args.environment.clone();
    let asked = OpenRun {
        environment: environment
            .ok_or_else(|| Stop::Failed(Exit::Usage.because("--environment is missing")))?,
        purpose: args.purpose.clone().unwrap_or(what),
        ticket: args.ticket.clone(),
        prompt_digest: None,
        requester_token: bound::text(args.requester_token_file.as_deref())?,
    };
    Ok(desk.client.open_run(&asked).await?.run)
}

/// Ends everything the run still has, and says what became of it.
async fn close_run(desk: &Desk, run: RunId) {
    for pause in [1, 2, 0] {
        match desk.client.close_run(run).await {
            Ok(closed) => {
                for end in closed.ended {
                    say(visible(&format!("lease {}: {}", end.lease, end.how)));
                }
                return;
            }
            Err(error) if error.is_lost_reply() && pause > 0 => {
                tokio::time::sleep(Duration::from_secs(pause)).await;
            }
            Err(error) => {
                say(format!(
                    "run {run} could not be closed ({error}); what it holds ends at its own deadline"
                ));
                return;
            }
        }
    }
}

/// One line on standard error; standard output is the command's.
fn say(text: impl Display) {
    eprintln!("phasebroker: {text}");
}
