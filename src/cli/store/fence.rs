//! `phasebroker store fence`: after a restore, begin a new epoch. Grants of older epochs are dead from then on.

use std::process::ExitCode;

use serde_json::json;

use super::{Outside, Where};
use crate::broker::ports::{Clock as _, Store as _};
use crate::cli::clock::SystemClock;
use crate::cli::exit::Exit;
use crate::cli::serve;
use crate::cli::terminal::{Output, ask_for_word};
use crate::domain::event::{Event, EventKind};
use crate::domain::principal::Actor;
use crate::store::SqliteStore;

/// Arguments of `store fence`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Where,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let config = serve::read(&args.place.config)?;
    let store = SqliteStore::open(&serve::database(&config))?;
    let outside = Outside::of(&config).await;
    let before = store.head().await?;
    let question = format!(
        "The store stands at epoch {}, {} events. The head kept outside says: {}.\n\
         A fence begins epoch {}: every open grant and approval is dead, and nothing else changes.\n\
         Witnesses know the log of that epoch as a new one, which goes on from this store.",
        before.epoch,
        before.size,
        outside.words,
        before.epoch.max(outside.epoch).saturating_add(1)
    );
    if !args.yes && !ask_for_word(&question, "Type fence to go on, anything else to leave it: ", "fence")? {
        return Err(Exit::Refused.because("nothing was changed"));
    }
    let event = Event::new(EventKind::StoreFenced, Actor::Broker, SystemClock.wall())
        .fact("old_epoch", before.epoch)
        .fact("old_size", before.size)
        .fact("why", "fence");
    let head = outside.begin_epoch(&store, event, &config).await?;
    let answer = json!({ "epoch": head.epoch, "size": head.size });
    output.print(&answer, || format!("epoch {} begins; grants of older epochs are dead", head.epoch))?;
    Ok(Exit::Done.into())
}
