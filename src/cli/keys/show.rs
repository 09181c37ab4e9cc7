//! `phasebroker keys show`: a key's id, its JWK and the directory row that enrols it. Needs no passphrase.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;

use super::agent_key::read_agent_key;
use super::directory_row::{agent_row, person_row};
use super::key_file::read_public;
use super::ssh_agent::AgentKey;
use super::{PersonSigner as _, ssh_agent_socket};
use crate::cli::exit::Exit;
use crate::cli::terminal::Output;
use crate::domain::key::{Custody, PublicKey};
use crate::domain::principal::PersonSlug;
use crate::domain::proposal::visible;

/// Arguments of `keys show`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which key.
    #[command(flatten)]
    pub key: Which,
    /// Slug for the directory row; the key's comment when it is one and can be read.
    #[arg(long, value_name = "SLUG")]
    pub name: Option<PersonSlug>,
}

/// Which key to show: exactly one.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// A person's key file (private or `.pub`), or an agent's PEM file.
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Ed25519 key in the ssh-agent at SSH_AUTH_SOCK, by fingerprint or comment when it holds several.
    #[arg(long, value_name = "FINGERPRINT|COMMENT", num_args = 0..=1, require_equals = true)]
    pub ssh_agent: Option<Option<String>>,
}

/// Shows a key.
pub fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let name = args.name.as_ref().map(PersonSlug::as_str);
    let (key, comment, row) = match (&args.key.file, &args.key.ssh_agent) {
        (Some(path), _) => of_file(path, name)?,
        (None, Some(wanted)) => {
            let key = AgentKey::find(&ssh_agent_socket()?, wanted.as_deref())?;
            let row =
                person_row(name.unwrap_or(slug_or(key.comment(), "PERSON")), key.public(), Custody::SshAgent);
            (key.public().clone(), key.comment().to_owned(), row)
        }
        (None, None) => return Err(Exit::Usage.because("name a key file, or give `--ssh-agent`")),
    };
    let (kid, jwk) = (key.thumbprint(), key.jwk());
    let text = serde_json::to_string(&jwk)?;
    let value = json!({ "kid": kid, "jwk": jwk, "comment": comment, "directory_row": row });
    output.print(&value, || {
        let comment = visible(&comment).replace('\n', "\\n");
        format!("kid      {kid}\njwk      {text}\ncomment  {comment}\n\nDirectory row:\n\n{row}")
    })?;
    Ok(Exit::Done.into())
}

fn of_file(path: &Path, name: Option<&str>) -> anyhow::Result<(PublicKey, String, String)> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Exit::Usage.because(format!("cannot read {}: {error}", path.display())))?;
    if text.starts_with("-----BEGIN PRIVATE KEY-----") {
        let key = read_agent_key(path)?.public().clone();
        let row = agent_row(name.unwrap_or("AGENT"), &key);
        return Ok((key, String::new(), row));
    }
    let (key, comment) = read_public(&text).with_context(|| format!("cannot read {}", path.display()))?;
    let row = person_row(name.unwrap_or(slug_or(&comment, "PERSON")), &key, Custody::File);
    Ok((key, comment, row))
}

fn slug_or<'a>(comment: &'a str, otherwise: &'a str) -> &'a str {
    if comment.parse::<PersonSlug>().is_ok() { comment } else { otherwise }
}
