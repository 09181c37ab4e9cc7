//! `phasebroker audit redact INDEX NAME`: erases a text beside an event. The event, its digest of the text and every
//! proof stay.

use std::process::ExitCode;

use serde_json::json;

use crate::cli::exit::Exit;
use crate::cli::person::PersonArgs;
use crate::cli::terminal::{Output, ask_for_word};
use crate::domain::proposal::visible;

/// Arguments of `audit redact`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Index of the event.
    pub index: u64,
    /// Name of the text, such as `purpose`; `evidence` for the agent's words beside a grant.
    pub name: String,
    /// Why; it is recorded.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// Who asks, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// Runs `audit redact`.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let client = args.person.connect().await?;
    let name = visible(&args.name);
    let question = format!("The text `{name}` beside event {} is erased for good.", args.index);
    if !args.yes && !ask_for_word(&question, "Type erase to go on, anything else to leave it: ", "erase")? {
        return Err(Exit::Refused.because("nothing was erased"));
    }
    let body = json!({ "text": args.name, "reason": args.reason });
    let answer = client.post(&format!("/v1/events/{}/redact", args.index), &body).await?;
    output.print(&answer, || format!("the text `{name}` beside event {} is erased", args.index))?;
    Ok(Exit::Done.into())
}
