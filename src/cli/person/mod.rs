//! A person at the broker: who they are, which key they sign with, where the broker is.

mod client;
pub mod wire;

pub use client::{Endpoint, PersonClient, read};

use std::path::PathBuf;

use super::clock::SystemClock;
use super::exit::Exit;
use super::keys::{KeyChoice, PersonSigner};
use crate::domain::principal::PersonSlug;

/// Options of every command that talks to the broker as a person.
#[derive(Debug, Clone, clap::Args)]
pub struct PersonArgs {
    /// The broker's URL.
    #[arg(long, env = "PHASEBROKER_URL", value_name = "URL")]
    pub broker: String,
    /// The issuer the broker must name, when it differs from its URL.
    #[arg(long, env = "PHASEBROKER_ISSUER", value_name = "URL")]
    pub issuer: Option<String>,
    /// PEM file with the certificate authority of the broker.
    #[arg(long, env = "PHASEBROKER_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Your slug in the directory; the key's comment when it is one.
    #[arg(long = "person", env = "PHASEBROKER_PERSON", value_name = "PERSON")]
    pub person: Option<PersonSlug>,
    /// The key to sign with.
    #[command(flatten)]
    pub key: KeyChoice,
}

impl PersonArgs {
    /// Opens the key and finds the broker.
    pub async fn connect(&self) -> anyhow::Result<PersonClient> {
        let ca = match &self.ca {
            None => None,
            Some(path) => Some(std::fs::read(path).map_err(|error| {
                Exit::Usage.because(format!("cannot read the CA file {}: {error}", path.display()))
            })?),
        };
        let endpoint = Endpoint::find(&self.broker, self.issuer.as_deref(), ca.as_deref()).await?;
        let signer = self.key.open()?;
        let person = self.person(signer.as_ref())?;
        Ok(PersonClient::new(endpoint, signer, person, Box::new(SystemClock)))
    }

    fn person(&self, signer: &dyn PersonSigner) -> anyhow::Result<PersonSlug> {
        match (&self.person, signer.comment().parse()) {
            (Some(person), _) => Ok(person.clone()),
            (None, Ok(person)) => Ok(person),
            (None, Err(_)) => Err(Exit::Usage.because(
                "say who you are: `--person SLUG` or PHASEBROKER_PERSON (the key's comment is not a slug)",
            )),
        }
    }
}
