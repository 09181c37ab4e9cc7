//! `phasebroker store restore`: a backup takes the place of the store, under a new epoch. What was there is moved aside,
//! never deleted: it may be all that remembers what happened since.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;

use super::{Outside, Where, of_head, sync_folder};
use crate::broker::ports::Clock as _;
use crate::cli::clock::SystemClock;
use crate::cli::exit::Exit;
use crate::cli::host::private_dir;
use crate::cli::serve;
use crate::cli::terminal::{Output, ask_for_word, say_progress};
use crate::domain::event::{Event, EventKind};
use crate::domain::principal::Actor;
use crate::store::{SqliteStore, copy};

/// Arguments of `store restore`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Where,
    /// The backup.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let config = serve::read(&args.place.config)?;
    let database = serve::database(&config);
    private_dir(&config.data_dir)?;
    if let Some(parent) = config.head_file.parent() {
        private_dir(parent)?;
    }
    say_progress("checking the backup");
    let from = args.from.clone();
    let backup = tokio::task::spawn_blocking(move || copy::check(&from)).await??;
    // Held from here to the end: no broker starts in between.
    let lock = copy::lock(&database)?;
    let outside = Outside::of(&config).await;
    let aside = aside(&database)?;
    let question = format!(
        "The backup stands at epoch {}, {} entries, the last one of {}. The head kept outside says: {}.\n\
         What the store records beyond the backup is not in it: approvals that were used may look unused, and credentials\n\
         issued since cannot be revoked by this broker; each ends at its own deadline. A new epoch begins, in which every\n\
         grant and approval of older ones is dead. The store as it is now is kept as {}.",
        backup.epoch,
        backup.size,
        backup.at,
        outside.words,
        aside.display()
    );
    if !args.yes && !ask_for_word(&question, "Type restore to go on, anything else to leave it: ", "restore")?
    {
        return Err(Exit::Refused.because("nothing was changed"));
    }
    say_progress("copying the backup");
    let (from, to, kept) = (args.from.clone(), database.clone(), aside.clone());
    tokio::task::spawn_blocking(move || copy::replace(&from, &to, &kept)).await??;
    sync_folder(&database)?;
    let store = SqliteStore::open_locked(lock)?;
    let event = Event::new(EventKind::StoreFenced, Actor::Broker, SystemClock.wall())
        .fact("old_epoch", backup.epoch)
        .fact("old_size", backup.size)
        .fact("why", "restore");
    let head = outside.begin_epoch(&store, event, &config).await?;
    let answer = json!({ "epoch": head.epoch, "size": head.size, "backup": of_head(&backup), "kept": aside });
    output.print(&answer, || {
        format!(
            "epoch {} begins from the backup; grants of older epochs are dead. The former store is kept as {}",
            head.epoch,
            aside.display()
        )
    })?;
    Ok(Exit::Done.into())
}

/// A name beside the store that nothing has.
fn aside(database: &Path) -> anyhow::Result<PathBuf> {
    let now = SystemClock.wall().seconds();
    let mut name = database.file_name().context("the store has no name")?.to_owned();
    name.push(format!(".before-restore-{now}"));
    Ok(database.with_file_name(name))
}
