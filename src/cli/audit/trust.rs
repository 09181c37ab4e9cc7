//! `phasebroker audit trust`: writes the organisation's trust file, from the directory file and the log's key.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;

use crate::cli::exit::Exit;
use crate::cli::own_keys::log_of;
use crate::cli::serve;
use crate::cli::terminal::{Output, table};
use crate::config::Config;
use crate::ledger::trust::{NamedKey, Trust};

const HEADER: [&str; 4] = ["person", "counts for", "key", "kept as"];

/// Arguments of `audit trust`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The broker's configuration.
    #[arg(long, value_name = "FILE", env = "PHASEBROKER_CONFIG")]
    pub config: PathBuf,
    /// Where to write it; printed when not given.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Runs `audit trust`.
pub async fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let trust = of(&serve::read(&args.config)?).await?;
    let bytes = trust.to_bytes()?;
    match &args.out {
        None => crate::cli::terminal::say(&format!("{}\n", String::from_utf8(bytes)?))?,
        Some(path) => {
            std::fs::write(path, &bytes).map_err(|error| {
                Exit::Refused.because(format!("cannot write {}: {error}", path.display()))
            })?;
            let value: Value = serde_json::from_slice(&bytes)?;
            output.print(&value, || {
                format!(
                    "{}\nLog `{}`, key {}. Witnesses: {}, of which {} must have cosigned.\n\
                     {} is written. Compare these keys with the people they belong to, then keep the file where the broker cannot write.",
                    people(&trust),
                    trust.document().log.name,
                    trust.document().log.key,
                    trust.document().witnesses.len(),
                    trust.document().witnesses_needed,
                    path.display()
                )
            })?;
        }
    }
    Ok(Exit::Done.into())
}

/// The trust file of a broker with this configuration.
pub async fn of(config: &Config) -> anyhow::Result<Trust> {
    let log = NamedKey::of(&log_of(config).await?);
    let witnesses = config.ledger.witnesses.iter().map(|(_, key)| key.clone()).collect();
    let needed = u32::try_from(config.ledger.witnesses_needed)?;
    Ok(Trust::of(&config.rules.directory, &config.issuer, log, witnesses, needed)?)
}

fn people(trust: &Trust) -> String {
    let rows = trust.document().people.iter().flat_map(|(slug, person)| {
        let groups: Vec<&str> = person.groups.iter().map(|group| group.as_str()).collect();
        person.keys.iter().map(move |key| {
            vec![
                slug.to_string(),
                groups.join(", "),
                key.jwk.thumbprint().to_string(),
                key.custody.to_string(),
            ]
        })
    });
    table(&HEADER, rows)
}
