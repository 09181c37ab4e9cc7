//! `phasebroker approvals …`: what waits for people, and what they say.

mod deny;
mod fetch;
mod list;
pub mod show;
pub mod sign;
mod signed;
mod token;

pub use fetch::{Fetched, fetch};
pub use sign::{Signed, sign_with};
pub use signed::SignedDocument;
pub use token::approval_token;

use std::process::ExitCode;

use clap::Subcommand;

use super::terminal::Output;
use crate::domain::approval::Answer;
use crate::domain::id::GrantId;

/// `phasebroker approvals …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List what waits for signatures, and what of it you may sign.
    List(list::Args),
    /// Show one grant whole, with the agent's words and what people said.
    Show(show::Args),
    /// Read one grant, then sign it (and its way back, when one was made with it) by typing its short code.
    Sign(sign::Args),
    /// Say no: ends the grant.
    Deny(deny::Args),
    /// Take your signature back, until the claim.
    Withdraw(deny::Args),
}

/// Runs an `approvals` command.
pub async fn run(command: Command, output: Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::List(args) => list::run(args, output).await,
        Command::Show(args) => show::run(args, output).await,
        Command::Sign(args) => sign::run(args, output).await,
        Command::Deny(args) => deny::run(args, Answer::Deny, output).await,
        Command::Withdraw(args) => deny::run(args, Answer::Withdraw, output).await,
    }
}

fn path(grant: GrantId, what: &str) -> String {
    format!("/v1/grants/{grant}/{what}")
}
