//! `phasebroker policy …`: what policies would answer, before they are in force and without asking a broker to decide.
//! Nothing here grants anything; every answer comes from the function the broker itself calls.

pub mod asked;
pub mod check;
mod counterfactual;
pub mod diff;
pub mod explain;
pub mod matrix;
pub mod recorded;
pub mod replay;

use std::process::ExitCode;

use super::terminal::Output;

/// `phasebroker policy …`
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Check the policies of a configuration, and run decision vectors against them.
    Check(check::Args),
    /// Print the answer to every action type, by environment and agent group.
    Matrix(matrix::Args),
    /// Say which policies answer a proposal, and what would change the answer.
    Explain(Box<explain::Args>),
    /// Say which answers of the matrix change from one configuration to another.
    Diff(diff::Args),
    /// Ask a candidate configuration what a broker was asked before.
    Replay(replay::Args),
}

/// Runs a `policy` command.
pub async fn run(command: Command, output: Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::Check(args) => check::run(&args, output),
        Command::Matrix(args) => matrix::run(&args, output),
        Command::Explain(args) => explain::run(&args, output),
        Command::Diff(args) => diff::run(&args, output),
        Command::Replay(args) => replay::run(args, output).await,
    }
}
