//! `phasebroker store …`: what an operator does to the file of the store, on its host.

mod backup;
mod fence;
mod prune;
mod restore;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::serve::journal_of;
use super::terminal::Output;
use crate::broker::ports::{EndJournal as _, Head, HeadKeeper as _, KeptEnds, Store};
use crate::config::Config;
use crate::domain::canonical::MAX_SAFE_INTEGER;
use crate::domain::event::Event;
use crate::store::{EndFile, HeadFile};

/// `phasebroker store …`
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Begin a new epoch: every grant and approval of older epochs is dead. The broker must not be running.
    Fence(fence::Args),
    /// Write a checked copy of the store to a file, also while the broker runs. Keys are not part of it.
    Backup(backup::Args),
    /// Put a backup in the place of the store, and begin a new epoch. The broker must not be running.
    Restore(restore::Args),
    /// Take away the bytes of old entries of the ledger; every proof stays valid. The broker must not be running.
    Prune(prune::Args),
}

/// Where the configuration is.
#[derive(Debug, clap::Args)]
pub struct Where {
    /// The configuration whose store is meant.
    #[arg(long, value_name = "FILE", env = "PHASEBROKER_CONFIG")]
    pub config: PathBuf,
}

/// Runs a `store` command.
pub async fn run(command: Command, output: Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::Fence(args) => fence::run(args, output).await,
        Command::Backup(args) => backup::run(args, output).await,
        Command::Restore(args) => restore::run(args, output).await,
        Command::Prune(args) => prune::run(args, output).await,
    }
}

/// The head kept outside the store, in words and as far as it can be read.
struct Outside {
    keeper: HeadFile,
    epoch: u64,
    words: String,
}

impl Outside {
    async fn of(config: &Config) -> Self {
        let keeper = HeadFile::at(&config.head_file);
        let (epoch, words) = match keeper.known().await {
            Ok(Some(known)) if known.size == MAX_SAFE_INTEGER => {
                (known.epoch, format!("epoch {}, and that the store was behind it", known.epoch))
            }
            Ok(Some(known)) => (known.epoch, format!("epoch {}, {} events", known.epoch, known.size)),
            Ok(None) => (0, "none".to_owned()),
            Err(error) => (0, error.to_string()),
        };
        Self { keeper, epoch, words }
    }

    /// Begins an epoch above every known one, and makes its head the known one.
    async fn begin_epoch(&self, store: &dyn Store, event: Event, config: &Config) -> anyhow::Result<Head> {
        let head = store.fence(event, self.epoch).await?;
        self.keep(head, config).await?;
        Ok(head)
    }

    /// Makes this head the known one.
    async fn keep(&self, head: Head, config: &Config) -> anyhow::Result<()> {
        self.keeper.replace(head).await?;
        // One that is not there would have everything frozen at the next start; who fences vouches that nothing was kept.
        let journal = EndFile::at(journal_of(&config.head_file));
        if matches!(journal.kept().await, Ok(None)) {
            journal.keep(KeptEnds::default()).await?;
        }
        Ok(())
    }
}

/// A head, for machines.
fn of_head(head: &Head) -> Value {
    json!({ "epoch": head.epoch, "size": head.size, "at": head.at, "root": head.root })
}

/// The folder of a file is synced after a change of names in it.
fn sync_folder(file: &Path) -> anyhow::Result<()> {
    let folder = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| folder.display().to_string())
}
