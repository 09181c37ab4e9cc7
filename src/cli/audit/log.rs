//! `phasebroker audit log`: the newest events that the filters let through.

use std::collections::VecDeque;
use std::process::ExitCode;

use serde_json::json;

use super::entry::{Entry, about};
use super::filters::{Filters, Walk};
use crate::cli::exit::Exit;
use crate::cli::person::{PersonArgs, PersonClient};
use crate::cli::terminal::{Output, table};
use crate::domain::canonical::MAX_SAFE_INTEGER;

/// Arguments of `audit log`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which events.
    #[command(flatten)]
    pub filters: Filters,
    /// So many of the newest that were found.
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    pub last: usize,
    /// All that were found.
    #[arg(long, conflicts_with = "last")]
    pub all: bool,
    /// Show every fact, digests included.
    #[arg(long)]
    pub full: bool,
    /// Who asks, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// The columns of events.
pub(super) const HEADER: [&str; 6] = ["#", "at", "what", "who", "about", "facts"];

/// Runs `audit log`.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let client = args.person.connect().await?;
    let most = if args.all { usize::MAX } else { args.last };
    let found = newest(&client, &args.filters, most).await?;
    let rows = found.iter().map(|entry| cells(entry, args.full)).collect::<anyhow::Result<Vec<_>>>()?;
    output.print(&json!({ "events": found }), || match rows.is_empty() {
        true => "no event fits".to_owned(),
        false => table(&HEADER, rows),
    })?;
    Ok(Exit::Done.into())
}

/// The newest events that `filters` let through, oldest first.
pub async fn newest(client: &PersonClient, filters: &Filters, most: usize) -> anyhow::Result<Vec<Entry>> {
    let query = filters.query(client.now());
    let from = match filters.narrow() {
        // Nothing is searched for: the newest are the last.
        false => head(client).await?.saturating_sub(u64::try_from(most).unwrap_or(u64::MAX)),
        true => 0,
    };
    let mut walk = Walk::new(client, query, from);
    let mut found = VecDeque::new();
    while let Some(page) = walk.page().await? {
        found.extend(page);
        let over = found.len().saturating_sub(most);
        found.drain(..over);
    }
    Ok(found.into())
}

/// Number of events in the log.
pub(super) async fn head(client: &PersonClient) -> anyhow::Result<u64> {
    let mut walk = Walk::new(client, "&limit=1".to_owned(), MAX_SAFE_INTEGER);
    // Beyond the end there is nothing, and the answer says where the end is.
    walk.more().await?;
    Ok(walk.head().unwrap_or_default())
}

/// One event as a row.
pub(super) fn cells(entry: &Entry, full: bool) -> anyhow::Result<Vec<String>> {
    let event = entry.read()?;
    let facts = if full { entry.tells_all(&event) } else { entry.tells(&event) };
    let (kind, who) = (event.kind.to_string(), event.actor.to_string());
    Ok(vec![entry.index.to_string(), event.at.to_string(), kind, who, about(&event), facts])
}
