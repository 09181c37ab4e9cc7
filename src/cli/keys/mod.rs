//! Keys of people, agents and the broker itself, and how a person signs: with a passphrase-protected file or through an ssh-agent.

pub mod agent_key;
pub mod directory_row;
pub mod key_file;
mod make;
mod own;
mod rotation;
mod show;
pub mod ssh_agent;

pub use key_file::{KeyFile, generate};

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::exit::Exit;
use super::terminal::{self, Output};
use crate::domain::digest::encode;
use crate::domain::jws::{self, KeyHeader};
use crate::domain::key::{Custody, PublicKey};

/// `phasebroker keys …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a passphrase-protected Ed25519 key for a person.
    New(make::NewArgs),
    /// Make a key for an agent's client assertions.
    Agent(make::AgentArgs),
    /// Show a key's id, its JWK and the directory row that enrols it.
    Show(show::Args),
    /// Open the broker's own keys, wherever they lie, and show their public halves.
    Own(own::Args),
    /// Tell where the rotation of the broker's own keys stands, and what to do next. Changes nothing.
    Rotation(rotation::Args),
}

/// Runs a `keys` command.
pub async fn run(command: Command, output: Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::New(args) => make::new(args, output),
        Command::Agent(args) => make::agent(args, output),
        Command::Show(args) => show::run(args, output),
        Command::Own(args) => own::run(args, output).await,
        Command::Rotation(args) => rotation::run(args, output).await,
    }
}

/// Something that signs for a person. The private half never leaves it.
pub trait PersonSigner: Send + Sync {
    /// The public half.
    fn public(&self) -> &PublicKey;
    /// How the private half is kept.
    fn custody(&self) -> Custody;
    /// The comment the key carries, often its person's slug.
    fn comment(&self) -> &str;
    /// A raw 64-byte signature over `message`.
    fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>>;
}

/// Signs `claims` as a compact JWS, and verifies the signature before anybody else sees it.
pub fn sign_jws<C: Serialize>(typ: &str, signer: &dyn PersonSigner, claims: &C) -> anyhow::Result<String> {
    let input = jws::signing_input(typ, signer.public(), KeyHeader::Kid, claims)?;
    let signature = signer.sign(input.as_bytes())?;
    signer
        .public()
        .verify(input.as_bytes(), &signature)
        .context("the key gave a signature that is not its own")?;
    Ok(format!("{input}.{}", encode(&signature)))
}

/// Which key a person signs with.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct KeyChoice {
    /// Key file in OpenSSH format (Ed25519 or P-256), protected by a passphrase.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Ed25519 key in the ssh-agent at SSH_AUTH_SOCK, by fingerprint or comment when it holds several.
    #[arg(long, value_name = "FINGERPRINT|COMMENT", num_args = 0..=1, require_equals = true)]
    pub ssh_agent: Option<Option<String>>,
}

impl KeyChoice {
    /// Opens the key: asks for the passphrase on the terminal, or finds it in the ssh-agent.
    pub fn open(&self) -> anyhow::Result<Box<dyn PersonSigner>> {
        match (&self.key, &self.ssh_agent) {
            (Some(path), None) => {
                let mut ask = |prompt: &str| terminal::passphrase(prompt);
                Ok(Box::new(KeyFile::open(path, &mut ask)?))
            }
            (None, Some(wanted)) => {
                Ok(Box::new(ssh_agent::AgentKey::find(&ssh_agent_socket()?, wanted.as_deref())?))
            }
            _ => Err(Exit::Usage.because("choose one key: `--key FILE` or `--ssh-agent[=COMMENT]`")),
        }
    }
}

/// The socket of the user's ssh-agent.
pub fn ssh_agent_socket() -> anyhow::Result<PathBuf> {
    std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from).ok_or_else(|| {
        Exit::Usage.because("SSH_AUTH_SOCK is not set: start an ssh-agent, or use `--key FILE`")
    })
}
