//! `phasebroker aws …`: what an AWS account has to look like for a catalog. Nothing here calls AWS.

pub mod ceiling;

use std::process::ExitCode;

use super::terminal::Output;

/// `phasebroker aws …`
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print what each phase role may do at most, for Terraform to make roles and boundaries of.
    Ceiling(ceiling::Args),
}

/// Runs an `aws` command.
pub fn run(command: Command, output: Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::Ceiling(args) => ceiling::run(&args, output),
    }
}
