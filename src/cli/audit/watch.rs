//! `phasebroker audit watch`: events as they happen. Ends with Ctrl-C, or when nobody reads its output any more.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use super::entry::{Entry, about};
use super::filters::{Filters, Walk};
use super::log::head;
use crate::cli::exit::Exit;
use crate::cli::person::PersonArgs;
use crate::cli::terminal::{Output, ascii_json};
use crate::domain::proposal::visible;

/// Arguments of `audit watch`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which events.
    #[command(flatten)]
    pub filters: Filters,
    /// From this index on, instead of from now on.
    #[arg(long, value_name = "INDEX")]
    pub from: Option<u64>,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub every: u64,
    /// Who asks, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// Runs `audit watch`.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let client = args.person.connect().await?;
    let from = match args.from {
        Some(from) => from,
        None => head(&client).await?,
    };
    let mut walk = Walk::new(&client, args.filters.query(client.now()), from);
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        let found = tokio::select! {
            _ = &mut interrupted => break,
            found = walk.more() => found,
        };
        let more = match found {
            Ok(entries) => {
                for entry in &entries {
                    if !put(entry, output)? {
                        return Ok(Exit::Done.into());
                    }
                }
                !walk.is_at_end()
            }
            // A broker that restarts is waited for.
            Err(error) if Exit::of(&error) == Exit::Unreachable => {
                eprintln!("phasebroker: {error:#}; trying again");
                false
            }
            Err(error) => return Err(error),
        };
        if !more {
            tokio::select! {
                _ = &mut interrupted => break,
                () = tokio::time::sleep(Duration::from_secs(args.every)) => {}
            }
        }
    }
    Ok(Exit::Done.into())
}

/// One line per event; false when nobody reads any more.
fn put(entry: &Entry, output: Output) -> anyhow::Result<bool> {
    let line = match output.json {
        true => ascii_json(&serde_json::to_string(entry)?),
        false => {
            let event = entry.read()?;
            let facts = entry.tells(&event).replace('\n', "; ");
            visible(&format!(
                "{:>6}  {}  {:<20} {:<16} {}  {facts}",
                entry.index,
                event.at,
                event.kind.name(),
                event.actor,
                about(&event)
            ))
        }
    };
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}
