//! `phasebroker keys own`: opens the broker's own keys as `serve` would, and shows their public halves. Makes nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::broker::ports::OwnKey;
use crate::cli::own_keys::{File, OwnKeys};
use crate::cli::serve;
use crate::cli::terminal::{Output, table};
use crate::config::KeyPlace;
use crate::domain::digest::encode;

/// Signed by each key, so that it is known to sign; nothing of ours reads it.
const TRIAL: &[u8] = b"phasebroker keys own";

/// Arguments of `keys own`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The broker's configuration.
    #[arg(long, value_name = "FILE", env = "PHASEBROKER_CONFIG")]
    pub config: PathBuf,
}

/// Runs `keys own`.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    crate::authn::install_crypto();
    let config = serve::read(&args.config)?;
    let keys = OwnKeys::of(&config, File::MustBeThere)?.open().await?;
    let mut all = vec![("token", &config.keys.token, &keys.token), ("log", &config.keys.log, &keys.log)];
    all.extend(config.keys.next_log.iter().zip(&keys.next_log).map(|(place, key)| ("next log", place, key)));
    for (purpose, place, key) in &all {
        key.sign(TRIAL).await.with_context(|| format!("the broker's {purpose} key ({place})"))?;
    }
    let answer: Value = all.iter().map(|(purpose, place, key)| shown(purpose, place, key)).collect();
    let known: Vec<String> = std::iter::once(&keys.log)
        .chain(&keys.next_log)
        .zip(["The log is known as", "and will be as"])
        .map(|(key, says)| format!("{says} {}={}", config.ledger.name, encode(key.public().raw())))
        .collect();
    output.print(&answer, || {
        let rows = all.iter().map(|(purpose, place, key)| {
            let public = key.public();
            let id = public.thumbprint().to_string();
            vec![(*purpose).to_owned(), public.algorithm().to_string(), id, place.to_string()]
        });
        format!("{}\n{}", table(&["key", "signs", "thumbprint", "lies in"], rows), known.join("\n"))
    })?;
    Ok(ExitCode::SUCCESS)
}

fn shown(purpose: &str, place: &KeyPlace, key: &OwnKey) -> Value {
    let public = key.public();
    json!({
        "key": purpose,
        "thumbprint": public.thumbprint(),
        "jwk": public.jwk(),
        "lies_in": place.to_string(),
    })
}
