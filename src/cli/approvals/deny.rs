//! `phasebroker approvals deny` and `withdraw`: the safe answers. They carry a reason, and are never asked twice.

use std::process::ExitCode;

use serde_json::json;

use super::{approval_token, fetch, path};
use crate::cli::exit::Exit;
use crate::cli::person::wire::Received;
use crate::cli::person::{PersonArgs, read};
use crate::cli::terminal::Output;
use crate::domain::approval::Answer;
use crate::domain::id::GrantId;
use crate::domain::proposal::visible;

/// Arguments of `approvals deny` and `approvals withdraw`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The grant.
    pub grant: GrantId,
    /// Why, in a sentence; the agent and the auditors read it.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who says so, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// Signs and sends `answer`.
pub async fn run(args: Args, answer: Answer, output: Output) -> anyhow::Result<ExitCode> {
    if args.reason.trim().is_empty() {
        return Err(Exit::Usage.because("give a reason: `--reason TEXT`"));
    }
    let client = args.person.connect().await?;
    let fetched = fetch(&client, args.grant).await?;
    let reason = Some(args.reason.as_str());
    let signed = fetched.signed.signable();
    let token = approval_token(client.signer(), client.person(), signed, answer, reason, client.now())?;
    let body = json!({ "token": token, "reason": args.reason });
    let raw = client.post_proof(&path(args.grant, "approvals"), &body).await?;
    let received: Received = read(&raw)?;
    if received.grant != args.grant || received.decision != answer {
        return Err(Exit::Refused.because(format!(
            "the broker answered about {} ({}), not about {}: look with `approvals show`, or use `stop`",
            received.grant,
            received.decision.name(),
            args.grant
        )));
    }
    output.print(&raw, || visible(&format!("{}: {} is {}", answer.name(), args.grant, received.state)))?;
    Ok(Exit::Done.into())
}
