//! `phasebroker audit receipt INDEX`: one event with its proof, checked here before it is shown; and `audit consistency`:
//! that the log of today goes on from a checkpoint that somebody kept.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;

use crate::broker::receipts::{Continuation, Receipt};
use crate::cli::exit::Exit;
use crate::cli::person::{PersonArgs, read};
use crate::cli::terminal::Output;
use crate::domain::digest::decode;
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::hash::leaf_hash;
use crate::ledger::note::SignedNote;
use crate::ledger::proof::{verify_consistency, verify_inclusion};
use crate::ledger::trust::Trust;

/// Arguments of `audit receipt`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Index of the event, as `audit log` and `audit run` show it.
    pub index: u64,
    /// Also write the proof as one file (C2SP tlog-proof).
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The organisation's trust file, as `audit trust` writes it.
    #[arg(long, value_name = "FILE")]
    pub trust: PathBuf,
    /// Who asks, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// Arguments of `audit consistency`.
#[derive(Debug, clap::Args)]
pub struct ConsistencyArgs {
    /// A checkpoint that was kept, for example with `curl …/log/checkpoint`.
    #[arg(value_name = "CHECKPOINT")]
    pub kept: PathBuf,
    /// The organisation's trust file, as `audit trust` writes it.
    #[arg(long, value_name = "FILE")]
    pub trust: PathBuf,
    /// Who asks, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// Runs `audit receipt`.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let trust = super::verify::trusted(&args.trust)?;
    let client = args.person.connect().await?;
    let raw = client.get(&format!("/v1/receipts/{}", args.index)).await?;
    let receipt: Receipt = read(&raw)?;
    let wrong = |why: String| Exit::Refused.because(format!("the receipt proves nothing: {why}"));
    let bytes = decode(&receipt.event).map_err(|error| wrong(error.to_string()))?;
    if receipt.index != args.index {
        return Err(wrong(format!("it is about entry {}", receipt.index)));
    }
    let checkpoint = Opened::of(&receipt.checkpoint, &trust).map_err(|why| wrong(format!("{why:#}")))?;
    verify_inclusion(
        &leaf_hash(&bytes),
        args.index,
        checkpoint.signed.size,
        &checkpoint.signed.root,
        &receipt.path,
    )
    .map_err(|bad| wrong(bad.to_string()))?;
    if let Some(out) = &args.out {
        std::fs::write(out, &receipt.proof).with_context(|| out.display().to_string())?;
    }
    let event = String::from_utf8(bytes).map_err(|_| wrong("its event is no text".into()))?;
    let answer = json!({
        "receipt": raw, "size": checkpoint.signed.size, "witnesses": checkpoint.witnesses,
    });
    output.print(&answer, || {
        format!(
            "Entry {} is in the log of {} entries ({}).\n{}\n{event}",
            args.index,
            checkpoint.signed.size,
            checkpoint.signed.origin,
            checkpoint.words()
        )
    })?;
    Ok(Exit::Done.into())
}

/// Runs `audit consistency`.
pub async fn consistency(args: ConsistencyArgs, output: Output) -> anyhow::Result<ExitCode> {
    let trust = super::verify::trusted(&args.trust)?;
    let kept = std::fs::read_to_string(&args.kept).with_context(|| args.kept.display().to_string())?;
    let kept = Opened::of(&kept, &trust).map_err(|why| {
        Exit::Usage.because(format!("{} is no checkpoint of this log: {why:#}", args.kept.display()))
    })?;
    let client = args.person.connect().await?;
    let raw = client.get(&format!("/log/consistency?old={}", kept.signed.size)).await?;
    let now: Continuation = read(&raw)?;
    let wrong = |why: String| {
        Exit::Refused.because(format!("the log does not continue the checkpoint that was kept: {why}"))
    };
    let newest = Opened::of(&now.checkpoint, &trust).map_err(|why| wrong(format!("{why:#}")))?;
    let (old, new): (&Checkpoint, &Checkpoint) = (&kept.signed, &newest.signed);
    if old.origin.name() != new.origin.name() || old.origin.epoch() > new.origin.epoch() {
        return Err(wrong(format!("it is now `{}`, and was `{}`", new.origin, old.origin)));
    }
    verify_consistency(old.size, &old.root, new.size, &new.root, &now.path)
        .map_err(|bad| wrong(bad.to_string()))?;
    let answer = json!({
        "old": old.size, "new": new.size, "old_origin": old.origin.to_string(),
        "origin": new.origin.to_string(), "witnesses": newest.witnesses,
    });
    output.print(&answer, || {
        let epochs = match old.origin.epoch() == new.origin.epoch() {
            true => String::new(),
            false => format!(
                "\nThe epoch changed from {} to {} in between: the store was fenced or restored.",
                old.origin.epoch(),
                new.origin.epoch()
            ),
        };
        format!(
            "The log of {} entries begins with the {} entries of the checkpoint that was kept: nothing was changed or dropped.\n{}{epochs}",
            new.size,
            old.size,
            newest.words()
        )
    })?;
    Ok(Exit::Done.into())
}

/// A checkpoint that the log of the trust file signed, and which of its witnesses cosigned it.
struct Opened {
    signed: Checkpoint,
    witnesses: Vec<String>,
}

impl Opened {
    fn of(note: &str, trust: &Trust) -> anyhow::Result<Self> {
        let note = SignedNote::parse(note.as_bytes())?;
        let signed = Checkpoint::open(&note, trust.log())?;
        let cosigned = trust.witnesses().cosigned_by(&note)?;
        Ok(Self { signed, witnesses: cosigned.into_iter().map(|cosigned| cosigned.witness).collect() })
    }

    fn words(&self) -> String {
        match self.witnesses.as_slice() {
            [] => "Signed by the log's key; no witness has cosigned this checkpoint (yet).".to_owned(),
            names => format!("Signed by the log's key, cosigned by {}.", names.join(", ")),
        }
    }
}
