//! `phasebroker audit pack --run RUN`: writes everything about one run into one file, for others to check without us.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::exit::Exit;
use crate::cli::person::{PersonArgs, PersonClient};
use crate::cli::terminal::Output;
use crate::domain::canonical;
use crate::domain::id::RunId;
use crate::ledger::checkpoint::Statement;
use crate::ledger::evidence::{MAX_PACK_BYTES, Pack};
use crate::ledger::note::SignedNote;

/// How often, and how far apart, a checkpoint is waited for: the broker signs one a second.
const TRIES: u32 = 12;
const BETWEEN: Duration = Duration::from_millis(500);

/// Arguments of `audit pack`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run.
    #[arg(long)]
    pub run: RunId,
    /// Where to write it; `<run>.evidence` when not given.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Who asks, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// Runs `audit pack`.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let client = args.person.connect().await?;
    let path = args.out.unwrap_or_else(|| PathBuf::from(format!("{}.evidence", args.run)));
    let pack = write(&client, args.run, &path).await?;
    let told = json!({ "file": path.display().to_string(), "entries": pack.entries.len() });
    output.print(&told, || {
        format!(
            "{} holds {} events of run {}. Check it with `phasebroker audit verify {} --trust trust.json`.",
            path.display(),
            pack.entries.len(),
            args.run,
            path.display()
        )
    })?;
    Ok(Exit::Done.into())
}

/// Fetches the pack of a run, waits until a checkpoint covers it, and writes it to `path`.
pub async fn write(client: &PersonClient, run: RunId, path: &Path) -> anyhow::Result<Pack> {
    let mut tries = 0;
    let (pack, bytes) = loop {
        let found = fetch(client, run).await?;
        tries += 1;
        if covered(&found.0) {
            break found;
        }
        if tries == TRIES {
            return Err(Exit::Refused.because(
                "no checkpoint of the log covers the run's last event yet; does the broker sign checkpoints?",
            ));
        }
        tokio::time::sleep(BETWEEN).await;
    };
    std::fs::write(path, bytes)
        .map_err(|error| Exit::Refused.because(format!("cannot write {}: {error}", path.display())))?;
    Ok(pack)
}

async fn fetch(client: &PersonClient, run: RunId) -> anyhow::Result<(Pack, Vec<u8>)> {
    let answer: Value = client.get(&format!("/v1/runs/{run}/evidence")).await?;
    let bytes = canonical::to_bytes_within(&answer, MAX_PACK_BYTES)?;
    let pack = Pack::parse(&bytes)
        .map_err(|why| Exit::Refused.because(format!("the broker's answer is no evidence pack: {why}")))?;
    Ok((pack, bytes))
}

/// Whether the checkpoint says that it is of a tree with the last entry; who signed it is for the verifier.
fn covered(pack: &Pack) -> bool {
    let last = pack.entries.last().map_or(0, |entry| entry.index);
    SignedNote::parse(&pack.checkpoint.0)
        .ok()
        .and_then(|note| Statement::parse(note.unverified_text()).ok().map(|(stated, _)| stated.size))
        .is_some_and(|size| size > last)
}
