//! `phasebroker store prune`: what the broker does by itself every hour, now and for another age.

use std::process::ExitCode;

use serde_json::json;

use super::Where;
use crate::broker::ports::{Clock as _, Log as _, Store as _};
use crate::broker::retain::{LONGEST_BREAK_SECONDS, PRUNED_AT_A_TIME, pruned_event};
use crate::cli::clock::SystemClock;
use crate::cli::exit::Exit;
use crate::cli::serve;
use crate::cli::terminal::{Output, ask_for_word, say_progress};
use crate::store::SqliteStore;

/// Arguments of `store prune`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Where,
    /// Keep the bytes of entries of so many days; by default as many as `[ledger] keep_days` says.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    keep_days: Option<u32>,
    /// Do not ask, even when the clock stands far ahead of the newest entry.
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let config = serve::read(&args.place.config)?;
    let store = SqliteStore::open(&serve::database(&config))?;
    if let Some(damage) = store.damage().await? {
        return Err(Exit::Refused.because(format!(
            "nothing was pruned: the ledger is damaged ({damage}), and what goes could never be compared again"
        )));
    }
    let head = store.head().await?;
    if SystemClock.wall().since(head.at) > LONGEST_BREAK_SECONDS && !args.yes {
        let question = format!(
            "The newest entry is of {}: either this broker was off for long, or the clock of this machine is wrong. What is pruned is gone.",
            head.at
        );
        if !ask_for_word(&question, "Type prune to go on, anything else to leave it: ", "prune")? {
            return Err(Exit::Refused.because("nothing was pruned"));
        }
    }
    let days = args.keep_days.unwrap_or(config.ledger.keep_days);
    let before = SystemClock.wall().plus(-i64::from(days) * 86_400);
    let mut entries = 0_u64;
    while let Some(pruned) = store.prune(before, PRUNED_AT_A_TIME, pruned_event).await? {
        entries = entries.saturating_add(pruned.entries);
        say_progress(&format!("{entries} entries pruned"));
    }
    let first_kept = store.first_kept().await?;
    let answer = json!({ "entries": entries, "first_kept": first_kept, "keep_days": days });
    output.print(&answer, || match entries {
        0 => format!(
            "nothing to prune: entry {first_kept} is younger than {days} days, or something open still rests on it"
        ),
        _ => format!("{entries} entries pruned; the first whose bytes are kept is {first_kept}. Every proof holds"),
    })?;
    Ok(Exit::Done.into())
}
