//! `phasebroker countersign jwks`: the static documents of the issuer. AWS reads them over https; no process serves them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::serve::{read, signing_key};
use crate::cli::exit::Exit;
use crate::cli::terminal::Output;
use crate::countersign::discovery::{CONFIGURATION, KEYS, configuration, keys};

/// Arguments of `countersign jwks`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Put the folder's contents under the issuer's URL, on a host of the approvers' side: who can write there \
can let AWS trust another key. To exchange the key, publish the new one in `identity.further_keys` first."
)]
pub struct Args {
    /// The countersigner's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The folder that they are written to.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Runs `countersign jwks`.
pub fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let config = read(&args.config)?;
    let own = signing_key(&config.key)?;
    let all = [own.public()].into_iter().chain(&config.further_keys);
    let (about, published) = (configuration(&config.issuer), keys(all));
    write(&args.out.join(CONFIGURATION), &about)?;
    write(&args.out.join(KEYS), &published)?;
    let answer = json!({"issuer": config.issuer, "kid": own.public().thumbprint(), "out": args.out});
    output.print(&answer, || {
        format!(
            "{0}/{CONFIGURATION} and {0}/{KEYS} are written: publish them as {1}/{CONFIGURATION} and {1}/{KEYS}",
            args.out.display(),
            config.issuer
        )
    })?;
    Ok(Exit::Done.into())
}

fn write(path: &Path, value: &Value) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let text = format!("{}\n", serde_json::to_string_pretty(value)?);
    std::fs::write(path, text).with_context(|| path.display().to_string())
}
