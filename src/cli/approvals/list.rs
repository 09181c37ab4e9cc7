//! `phasebroker approvals list`: the grants that wait for people.

use std::process::ExitCode;

use crate::cli::exit::Exit;
use crate::cli::person::wire::{OpenGrants, missing};
use crate::cli::person::{PersonArgs, read};
use crate::cli::terminal::{Output, table};

/// Arguments of `approvals list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Plans that a person may carry out by hand, instead of what waits for signatures.
    #[arg(long)]
    pub suggested: bool,
    /// Who asks, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

const HEADER: [&str; 7] = ["grant", "code", "what", "asked by", "state", "missing", "you"];

/// Lists them.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let path = if args.suggested { "/v1/approvals?suggested=true" } else { "/v1/approvals" };
    let raw = args.person.connect().await?.get(path).await?;
    let open: OpenGrants = read(&raw)?;
    output.print(&raw, || {
        if open.approvals.is_empty() {
            return match args.suggested {
                true => "nothing was suggested lately".to_owned(),
                false => "nothing waits for a signature".to_owned(),
            };
        }
        let rows = open.approvals.iter().map(|row| {
            let you = match (row.you_may_sign, &row.why_not) {
                (true, _) => "may sign".to_owned(),
                (false, why) => why.clone().unwrap_or_else(|| "may not sign".to_owned()),
            };
            vec![
                row.grant.to_string(),
                row.short_code.clone(),
                match row.kind.as_str() {
                    "administration" => format!("{} (administration)", row.summary),
                    _ => format!("{} ({}, {})", row.summary, row.class, row.environment),
                },
                match row.agent.is_empty() {
                    true => row.requester.clone(),
                    false => format!("{} for {}", row.agent, row.requester),
                },
                format!("{}, sign by {}", row.state, row.approve_by),
                missing(&row.outstanding),
                you,
            ]
        });
        table(&HEADER, rows)
    })?;
    Ok(Exit::Done.into())
}
