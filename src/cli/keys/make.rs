//! `phasebroker keys new` and `keys agent`: new keys, each with the directory row that enrols it.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::agent_key::generate_agent_key;
use super::directory_row::{agent_row, person_row};
use super::key_file::generate;
use crate::cli::exit::Exit;
use crate::cli::terminal::{Output, passphrase};
use crate::domain::key::{Custody, PublicKey};
use crate::domain::principal::{AgentSlug, PersonSlug};

/// Arguments of `keys new`.
#[derive(Debug, clap::Args)]
pub struct NewArgs {
    /// File to make; an existing one is never overwritten.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Slug of the person in the directory; kept as the key's comment.
    #[arg(long, value_name = "PERSON")]
    pub name: PersonSlug,
}

/// Arguments of `keys agent`.
#[derive(Debug, clap::Args)]
pub struct AgentArgs {
    /// File to make (PKCS#8 PEM, mode 0600); an existing one is never overwritten.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Slug of the agent in the directory.
    #[arg(long, value_name = "AGENT")]
    pub name: AgentSlug,
}

/// Makes a person's key.
pub fn new(args: NewArgs, output: Output) -> anyhow::Result<ExitCode> {
    let first = passphrase(&format!("New passphrase for {}: ", args.out.display()))?;
    let second = passphrase("The same again: ")?;
    if first != second {
        return Err(Exit::Usage.because("the two passphrases differ; nothing was made"));
    }
    let key = generate(&args.out, args.name.as_str(), &first)?;
    print(&key, &args.out, person_row(args.name.as_str(), &key, Custody::File), output)
}

/// Makes an agent's key.
pub fn agent(args: AgentArgs, output: Output) -> anyhow::Result<ExitCode> {
    let key = generate_agent_key(&args.out)?;
    print(&key, &args.out, agent_row(args.name.as_str(), &key), output)
}

fn print(key: &PublicKey, file: &std::path::Path, row: String, output: Output) -> anyhow::Result<ExitCode> {
    let kid = key.thumbprint();
    let value = json!({ "file": file, "kid": kid, "jwk": key.jwk(), "directory_row": row });
    output.print(&value, || {
        format!("made {}\nkid  {kid}\n\nTo enrol it, add to the directory file:\n\n{row}", file.display())
    })?;
    Ok(Exit::Done.into())
}
