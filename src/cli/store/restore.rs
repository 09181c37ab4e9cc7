//! `phasebroker store restore`: a backup takes the place of the store, under a new epoch. What was there is moved aside,
//! never deleted: it may be all that remembers what happened since.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;

use super::{Outside, Where, of_head};
use crate::broker::ports::{Clock as _, Head, Store as _};
use crate::cli::clock::SystemClock;
use crate::cli::exit::Exit;
use crate::cli::host::private_dir;
use crate::cli::serve;
use crate::cli::terminal::{Output, ask_for_word, say_progress};
use crate::domain::event::{Event, EventKind};
use crate::domain::freeze::{Freeze, FreezeKey};
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
    // Held from here to the end: no broker starts in between. All below goes by the store's one name.
    let lock = copy::lock(&database)?;
    let database = lock.path().to_owned();
    say_progress("copying the backup and checking the copy");
    let (from, to) = (args.from.clone(), database.clone());
    let (candidate, backup) = tokio::task::spawn_blocking(move || copy::candidate(&from, &to)).await??;
    let outside = Outside::of(&config).await;
    let aside = aside(&database)?;
    let carried = Carried::from(&database);
    let question = format!(
        "The backup stands at epoch {}, {} entries, the last one of {}. The head kept outside says: {}.\n\
         What the store records beyond the backup is not in it: approvals that were used may look unused, and credentials\n\
         issued since cannot be revoked by this broker; each ends at its own deadline. A new epoch begins, in which every\n\
         grant and approval of older ones is dead. {}\n\
         The store as it is now is kept as {}.",
        backup.epoch,
        backup.size,
        backup.at,
        outside.words,
        carried.words,
        aside.display()
    );
    if !args.yes && !ask_for_word(&question, "Type restore to go on, anything else to leave it: ", "restore")?
    {
        copy::discard(&candidate);
        return Err(Exit::Refused.because("nothing was changed"));
    }
    let (head, frozen) = match fenced(&candidate, &backup, outside.epoch, carried.freezes).await {
        Ok(done) => done,
        Err(error) => {
            copy::discard(&candidate);
            return Err(error);
        }
    };
    let (copied, to, kept) = (candidate.clone(), database.clone(), aside.clone());
    tokio::task::spawn_blocking(move || copy::replace(&copied, &to, &kept)).await??;
    outside.keep(head, &config).await?;
    drop(lock);
    let kept = aside.exists().then_some(&aside);
    let answer = json!({
        "epoch": head.epoch, "size": head.size, "backup": of_head(&backup), "kept": kept, "frozen": frozen,
    });
    output.print(&answer, || {
        let kept = kept.map_or_else(
            || "There was no store before".to_owned(),
            |kept| format!("The former store is kept as {}", kept.display()),
        );
        format!(
            "epoch {} begins from the backup; grants of older epochs are dead. {kept}. {}",
            head.epoch, carried.words
        )
    })?;
    Ok(Exit::Done.into())
}

/// What is frozen in the store that is moved aside, and stays frozen.
struct Carried {
    freezes: Vec<Freeze>,
    words: String,
}

impl Carried {
    /// SECURITY: a restore never lifts a freeze. Where none can be read, there may be any.
    fn from(database: &Path) -> Self {
        match copy::freezes(database) {
            Ok(None) => {
                let words = "There is no store here whose freezes could be carried over.".to_owned();
                Self { freezes: Vec::new(), words }
            }
            Ok(Some(freezes)) if freezes.is_empty() => {
                Self { freezes, words: "Nothing is frozen in the store as it is now.".to_owned() }
            }
            Ok(Some(freezes)) => {
                let keys: Vec<String> = freezes.iter().map(|freeze| format!("`{}`", freeze.key)).collect();
                Self { freezes, words: format!("What is frozen now stays frozen: {}.", keys.join(", ")) }
            }
            Err(error) => {
                let at = SystemClock.wall();
                let everything = Freeze { key: FreezeKey::Everything, by: Actor::Broker, at };
                let words = format!("The freezes of now cannot be read, so everything is frozen ({error}).");
                Self { freezes: vec![everything], words }
            }
        }
    }
}

/// Fences the copy and freezes in it what was frozen, before it is anybody's store.
async fn fenced(
    candidate: &Path,
    backup: &Head,
    known: u64,
    freezes: Vec<Freeze>,
) -> anyhow::Result<(Head, Vec<FreezeKey>)> {
    let store = SqliteStore::open(candidate)?;
    if store.head().await? != *backup {
        return Err(Exit::Refused.because("the copy is not what was checked; nothing was changed"));
    }
    let now = SystemClock.wall();
    let event = Event::new(EventKind::StoreFenced, Actor::Broker, now)
        .fact("old_epoch", backup.epoch)
        .fact("old_size", backup.size)
        .fact("why", "restore");
    let mut head = store.fence(event, known).await?;
    let frozen: Vec<FreezeKey> = freezes.iter().map(|freeze| freeze.key.clone()).collect();
    for freeze in freezes {
        let event = Event::new(EventKind::Frozen, Actor::Broker, now)
            .fact("key", freeze.key.to_string())
            .fact("why", "restore");
        head = store.freeze(freeze, event).await?;
    }
    Ok((head, frozen))
}

/// A name beside the store that nothing has.
fn aside(database: &Path) -> anyhow::Result<PathBuf> {
    let now = SystemClock.wall().seconds();
    let name = database.file_name().context("the store has no name")?;
    let named = |suffix: String| {
        let mut name = name.to_owned();
        name.push(suffix);
        database.with_file_name(name)
    };
    let mut aside = named(format!(".before-restore-{now}"));
    let mut further = 1_u32;
    while aside.symlink_metadata().is_ok() {
        further = further.saturating_add(1);
        aside = named(format!(".before-restore-{now}-{further}"));
    }
    Ok(aside)
}
