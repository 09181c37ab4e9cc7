//! `phasebroker audit verify FILE --trust FILE`: checks an evidence pack offline, with nothing but the trust file.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::exit::Exit;
use crate::cli::terminal::Output;
use crate::ledger::evidence::MAX_PACK_BYTES;
use crate::ledger::evidence::verdict::Verdict;
use crate::ledger::evidence::verify::verify;
use crate::ledger::trust::{MAX_TRUST_BYTES, Trust};

/// Arguments of `audit verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The evidence pack.
    pub file: PathBuf,
    /// The organisation's trust file: whose signatures and which keys count. Yours, never one that came with the pack.
    #[arg(long, value_name = "FILE")]
    pub trust: PathBuf,
}

/// Runs `audit verify`; exit code 0 only if everything that must hold holds.
pub fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let verdict = verdict(&args.file, &args.trust)?;
    output.print(&serde_json::to_value(&verdict)?, || verdict.to_string())?;
    Ok(if verdict.ok { Exit::Done } else { Exit::Refused }.into())
}

/// What the pack in `file` is worth to whoever trusts `trust`.
pub fn verdict(file: &Path, trust: &Path) -> anyhow::Result<Verdict> {
    Ok(verify(&read(file, MAX_PACK_BYTES)?, &trusted(trust)?))
}

/// The trust file at `path`.
pub(super) fn trusted(path: &Path) -> anyhow::Result<Trust> {
    Trust::parse(&read(path, MAX_TRUST_BYTES)?)
        .map_err(|why| Exit::Usage.because(format!("{}: {why}", path.display())))
}

/// A file, and one byte more than it may have when it is too large: its reader says so.
fn read(path: &Path, most: usize) -> anyhow::Result<Vec<u8>> {
    let failed = |error| Exit::Usage.because(format!("cannot read {}: {error}", path.display()));
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(2);
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
