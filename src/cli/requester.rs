//! `phasebroker requester-token`: a person signs that an agent may open one run on their behalf, within a minute.
//! It approves nothing; it makes the person the requester of record, who then can never approve in that run.

use std::process::ExitCode;

use serde_json::json;

use super::exit::Exit;
use super::person::PersonArgs;
use super::terminal::Output;

/// Arguments of `requester-token`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Who asks, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// Prints the token.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let client = args.person.connect().await?;
    let token = client.requester_token()?;
    output.print(&json!({ "requester_token": token }), || token.clone())?;
    Ok(Exit::Done.into())
}
