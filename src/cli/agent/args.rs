//! Options of every command that talks to the broker as an agent.

use std::path::PathBuf;
use std::sync::Arc;

use super::{AgentClient, AgentSettings, Login};
use crate::cli::clock::SystemClock;
use crate::cli::exit::Exit;
use crate::cli::keys::agent_key::read_agent_key;
use crate::domain::principal::AgentSlug;

/// The broker, and who calls it.
#[derive(Debug, Clone, clap::Args)]
pub struct AgentArgs {
    /// The broker's URL.
    #[arg(long, env = "PHASEBROKER_URL", value_name = "URL")]
    pub broker: String,
    /// The issuer that logins name, when it differs from the broker's URL.
    #[arg(long, env = "PHASEBROKER_ISSUER", value_name = "URL")]
    pub issuer: Option<String>,
    /// PEM file with the certificate authority of the broker.
    #[arg(long, env = "PHASEBROKER_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The agent's slug in the directory; goes with --key.
    #[arg(long, env = "PHASEBROKER_AGENT", value_name = "AGENT")]
    pub agent: Option<AgentSlug>,
    /// The agent's registered key (PKCS#8 PEM, mode 0600).
    #[arg(long = "key", env = "PHASEBROKER_AGENT_KEY", value_name = "FILE")]
    pub agent_key: Option<PathBuf>,
    /// A workload JWT (Kubernetes, CI, SPIFFE) instead of a key; read again for every call.
    #[arg(long, env = "PHASEBROKER_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

impl AgentArgs {
    /// The client these options describe.
    pub fn client(&self) -> anyhow::Result<AgentClient> {
        let login = match (&self.agent, &self.agent_key, &self.token_file) {
            (Some(agent), Some(key), None) => Login::Key { agent: agent.clone(), key: read_agent_key(key)? },
            (_, None, Some(file)) => Login::TokenFile(file.clone()),
            _ => {
                return Err(
                    Exit::Usage.because("say who the agent is: --agent with --key, or --token-file alone")
                );
            }
        };
        let settings = AgentSettings {
            broker: self.broker.clone(),
            issuer: self.issuer.clone().unwrap_or_else(|| self.broker.clone()),
            login,
            ca: self.ca.clone(),
        };
        Ok(AgentClient::new(settings, Arc::new(SystemClock))?)
    }
}
