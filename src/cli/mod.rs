//! The command line: one file per command. Only here are `anyhow`, environment variables and the terminal used.

pub mod agent;
pub mod approvals;
pub mod audit;
pub mod aws;
mod beside;
pub mod clock;
pub mod config;
pub mod countersign;
pub mod demo;
pub mod dev;
pub mod doctor;
pub mod exec;
pub mod exit;
pub mod freeze;
pub mod grant;
pub mod host;
pub mod keys;
pub mod leases;
pub mod logs;
pub mod notify;
mod own_keys;
pub mod person;
pub mod playbooks;
pub mod policy;
mod providers;
pub mod reload;
pub mod render;
pub mod requester;
pub mod reviews;
pub mod serve;
mod sinks;
pub mod stop;
pub mod store;
pub mod terminal;
pub mod witness;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use exit::EXIT_CODES;
use terminal::Output;

/// Just-in-time credentials for agents: the human signs the credential, not the story.
#[derive(Debug, Parser)]
#[command(name = "phasebroker", version, after_help = EXIT_CODES, propagate_version = true)]
pub struct Cli {
    /// Print JSON for machines instead of text for people.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Every command; each has its own file with its arguments and `run`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch an agent's whole life, from observing to a dead credential: no account, no configuration.
    Demo(demo::Args),
    /// Keep a broker like the demo's running, to try things out.
    Dev(dev::Args),
    /// Run the broker.
    Serve(serve::Args),
    /// Check a configuration.
    #[command(subcommand)]
    Config(config::Command),
    /// Compile proposals offline.
    #[command(subcommand)]
    Grant(grant::Command),
    /// Check, print, explain, compare and replay policies before they are in force.
    #[command(subcommand)]
    Policy(policy::Command),
    /// Set up AWS for a catalog.
    #[command(subcommand)]
    Aws(aws::Command),
    /// Say what is wrong with the AWS side of a configuration, what was read, and how to put it right.
    Doctor(Box<doctor::Args>),
    /// Sign on the approvers' side what AWS trusts instead of the broker.
    #[command(subcommand)]
    Countersign(countersign::Command),
    /// Look after the store.
    #[command(subcommand)]
    Store(store::Command),
    /// See, sign, deny or withdraw from grants that wait for people.
    #[command(subcommand)]
    Approvals(approvals::Command),
    /// See the credentials that exist, and what became of the others.
    #[command(subcommand)]
    Leases(leases::Command),
    /// End credentials and what could become one: a lease, a run, everything of a kind, or everything.
    Stop(stop::Args),
    /// Stop everything of a kind, and issue nothing of it until people sign that it may go on.
    Freeze(freeze::Args),
    /// Ask people that something frozen may go on again.
    Unfreeze(freeze::Args),
    /// See what is frozen.
    #[command(subcommand)]
    Freezes(freeze::Command),
    /// What agents may do by themselves, inside what people signed before.
    #[command(subcommand)]
    Playbooks(playbooks::Command),
    /// Look at what was done without a signature of its own.
    #[command(subcommand)]
    Reviews(reviews::Command),
    /// Put changed rules (catalog, policy, directory) in force without a restart.
    Reload(reload::Args),
    /// Sign that an agent may open one run on your behalf, within a minute; it approves nothing.
    RequesterToken(requester::Args),
    /// Run a command with a credential that people signed for this one action.
    Exec(Box<exec::Args>),
    /// Make and show keys of people and agents, and show the broker's own.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Read what happened.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Watch the logs of brokers from a second machine, and cosign what continues what was seen before.
    Witness(Box<witness::Args>),
}

/// Parses the arguments, runs the command and gives the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output { json: cli.json };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(&anyhow::Error::from(error).context("cannot start")),
    };
    match runtime.block_on(dispatch(cli.command, output)) {
        Ok(code) => code,
        Err(error) => exit::report(&error),
    }
}

async fn dispatch(command: Command, output: Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(args) => demo::run(args, output).await,
        Command::Dev(args) => dev::run(args, output).await,
        Command::Serve(args) => serve::run(args, output).await,
        Command::Config(command) => config::run(command, output),
        Command::Grant(command) => grant::run(command, output),
        Command::Policy(command) => policy::run(command, output).await,
        Command::Aws(command) => aws::run(command, output),
        Command::Doctor(args) => doctor::run(*args, output).await,
        Command::Countersign(command) => countersign::run(command, output).await,
        Command::Store(command) => store::run(command, output).await,
        Command::Approvals(command) => approvals::run(command, output).await,
        Command::Leases(command) => leases::run(command, output).await,
        Command::Stop(args) => stop::run(args, output).await,
        Command::Freeze(args) => freeze::freeze(args, output).await,
        Command::Unfreeze(args) => freeze::unfreeze(args, output).await,
        Command::Freezes(command) => freeze::run(command, output).await,
        Command::Playbooks(command) => playbooks::run(command, output).await,
        Command::Reviews(command) => reviews::run(command, output).await,
        Command::Reload(args) => reload::run(args, output).await,
        Command::RequesterToken(args) => requester::run(args, output).await,
        Command::Exec(args) => exec::run(*args, output).await,
        Command::Keys(command) => keys::run(command, output).await,
        Command::Audit(command) => audit::run(command, output).await,
        Command::Witness(args) => witness::run(*args, output).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sign_has_no_way_around_the_question() {
        for flag in ["--yes", "-y", "--force", "--no-confirm"] {
            assert!(
                Cli::try_parse_from(["phasebroker", "approvals", "sign", "01ARZ3NDEKTSV4RRFFQ69G5FAV", flag])
                    .is_err()
            );
        }
    }
}
