//! `phasebroker countersign …`: the process on the approvers' side that signs the token of a session for work, once for
//! each grant that people signed. It holds the issuer's key and nothing else that opens anything.

pub mod jwks;
pub mod key;
mod records;
mod routes;
pub mod serve;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;

use super::exit::Exit;
use super::keys::agent_key::read_agent_key;
use super::terminal::Output;
use crate::config::Config;
use crate::domain::countersign::Access;
use crate::domain::key::Algorithm;

/// `phasebroker countersign …`
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Run the countersigner.
    Serve(serve::Args),
    /// Write the two documents from which AWS learns its key, for an https site of the approvers' side.
    Jwks(jwks::Args),
    /// Make a key: the issuer's, or the one with which a broker proves itself.
    Key(key::Args),
}

/// Runs a `countersign` command.
pub async fn run(command: Command, output: Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => serve::run(args, output).await,
        Command::Jwks(args) => jwks::run(&args, output),
        Command::Key(args) => key::run(&args, output),
    }
}

/// How the broker of this configuration asks its countersigner, where it has one.
pub fn access(config: &Config) -> anyhow::Result<Option<Access>> {
    let Some(asked) = config.aws.as_ref().and_then(|aws| aws.countersigner.as_ref()) else { return Ok(None) };
    let key = read_agent_key(&asked.key)?;
    if key.public().algorithm() != Algorithm::EdDSA {
        let file = asked.key.display();
        return Err(Exit::Usage
            .because(format!("{file}: `countersign key --broker` makes the key that belongs here")));
    }
    let read = |file: &PathBuf| {
        std::fs::read(file).with_context(|| format!("`aws.web_identity.ca`: {}", file.display()))
    };
    let ca = asked.ca.as_ref().map(read).transpose()?;
    Ok(Some(Access { url: asked.url.clone(), broker: config.issuer.clone(), key: Arc::new(key), ca }))
}
