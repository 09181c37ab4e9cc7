//! `phasebroker audit …`: what auditors read, and what they can check without us.

pub mod pack;
mod run;
pub mod trust;
pub mod verify;

use std::process::ExitCode;

use clap::Subcommand;

use super::terminal::Output;

pub use run::timeline;

/// `phasebroker audit …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The timeline of one run.
    Run(run::Args),
    /// Write everything about one run into one file, which others can check without us.
    Pack(pack::Args),
    /// Check such a file offline, with nothing but your trust file.
    Verify(verify::Args),
    /// Write the trust file: whose signatures, and which keys of log and witnesses, count.
    ///
    /// Run it on the broker's host. Then compare the keys with the people they belong to, by eye, and keep the file where
    /// the broker cannot write: whoever can change it decides what is believed.
    Trust(trust::Args),
}

/// Runs an `audit` command.
pub async fn run(command: Command, output: Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => run::run(args, output).await,
        Command::Pack(args) => pack::run(args, output).await,
        Command::Verify(args) => verify::run(&args, output),
        Command::Trust(args) => trust::run(&args, output),
    }
}
