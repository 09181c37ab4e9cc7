//! `phasebroker audit …`: what auditors read, and what they can check without us.

mod run;

use std::process::ExitCode;

use clap::Subcommand;

use super::terminal::Output;

pub use run::timeline;

/// `phasebroker audit …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The timeline of one run.
    Run(run::Args),
}

/// Runs an `audit` command.
pub async fn run(command: Command, output: Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => run::run(args, output).await,
    }
}
