//! `phasebroker store fence`: after a restore, begin a new epoch. Grants of older epochs are dead from then on.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use super::clock::SystemClock;
use super::exit::Exit;
use super::terminal::{Output, ask_for_word};
use crate::broker::ports::{Clock as _, EndJournal as _, HeadKeeper as _, KeptEnds, Store};
use crate::domain::canonical::MAX_SAFE_INTEGER;
use crate::domain::event::{Event, EventKind};
use crate::domain::principal::Actor;
use crate::store::{EndFile, HeadFile, SqliteStore};

/// `phasebroker store …`
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Begin a new epoch: every grant and approval of older epochs is dead. The broker must not be running.
    Fence(Args),
}

/// Arguments of `store fence`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration whose store is fenced.
    #[arg(long, value_name = "FILE", env = "PHASEBROKER_CONFIG")]
    pub config: PathBuf,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
}

/// Runs a `store` command.
pub async fn run(command: Command, output: Output) -> anyhow::Result<ExitCode> {
    let Command::Fence(args) = command;
    let config = super::serve::read(&args.config)?;
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&super::serve::database(&config))?);
    let heads = HeadFile::at(&config.head_file);
    let before = store.head().await?;
    let known = heads.known().await.map_or_else(
        |e| e.to_string(),
        |known| match known {
            Some(known) if known.size == MAX_SAFE_INTEGER => {
                format!("epoch {}, and that the store was behind it", known.epoch)
            }
            Some(known) => format!("epoch {}, {} events", known.epoch, known.size),
            None => "none".to_owned(),
        },
    );
    let question = format!(
        "The store stands at epoch {}, {} events. The head kept outside says: {known}.\n\
         A fence begins epoch {}: every open grant and approval is dead, and nothing else changes.",
        before.epoch,
        before.size,
        before.epoch.saturating_add(1)
    );
    if !args.yes && !ask_for_word(&question, "Type fence to go on, anything else to leave it: ", "fence")? {
        return Err(Exit::Refused.because("nothing was changed"));
    }
    let event = Event::new(EventKind::StoreFenced, Actor::Broker, SystemClock.wall())
        .fact("old_epoch", before.epoch)
        .fact("old_size", before.size);
    let head = store.fence(event).await?;
    heads.replace(head).await?;
    // One that is not there would have everything frozen at the next start; who fences vouches that nothing was kept.
    let journal = EndFile::at(super::serve::beside(&config.head_file));
    if matches!(journal.kept().await, Ok(None)) {
        journal.keep(KeptEnds::default()).await?;
    }
    let answer = json!({ "epoch": head.epoch, "size": head.size });
    output.print(&answer, || format!("epoch {} begins; grants of older epochs are dead", head.epoch))?;
    Ok(Exit::Done.into())
}
