//! Decisions that a broker recorded, as `GET /v1/decisions` gives them page by page, or as they were saved in a file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cli::exit::Exit;
use crate::cli::keys::KeyChoice;
use crate::cli::person::{PersonArgs, PersonClient, read};
use crate::domain::decision::Tier;
use crate::domain::id::{DecisionId, GrantId};
use crate::domain::principal::PersonSlug;
use crate::domain::time::Timestamp;

/// Most decisions that are fetched; more are a mistake in the choice of `--since`, or in the broker.
const MOST: usize = 1_000_000;

/// The options of [`PersonArgs`], none of them needed: with a saved answer no broker is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct Asking {
    /// The broker's URL.
    #[arg(long, env = "PHASEBROKER_URL", value_name = "URL")]
    broker: Option<String>,
    /// The issuer the broker must name, when it differs from its URL.
    #[arg(long, env = "PHASEBROKER_ISSUER", value_name = "URL")]
    issuer: Option<String>,
    /// PEM file with the certificate authority of the broker.
    #[arg(long, env = "PHASEBROKER_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Your slug in the directory; the key's comment when it is one.
    #[arg(long = "person", env = "PHASEBROKER_PERSON", value_name = "PERSON")]
    person: Option<PersonSlug>,
    /// Key file in OpenSSH format (Ed25519 or P-256), protected by a passphrase.
    #[arg(long, value_name = "FILE", conflicts_with = "ssh_agent")]
    key: Option<PathBuf>,
    /// Ed25519 key in the ssh-agent at SSH_AUTH_SOCK, by fingerprint or comment when it holds several.
    #[arg(long, value_name = "FINGERPRINT|COMMENT", num_args = 0..=1, require_equals = true)]
    ssh_agent: Option<Option<String>>,
}

impl Asking {
    /// Opens the key and finds the broker, when both are named.
    pub async fn connect(self) -> anyhow::Result<PersonClient> {
        let broker = self.broker.ok_or_else(|| {
            Exit::Usage.because("name a broker (`--broker URL`) or a saved answer (`--from FILE`)")
        })?;
        let key = KeyChoice { key: self.key, ssh_agent: self.ssh_agent };
        PersonArgs { broker, issuer: self.issuer, ca: self.ca, person: self.person, key }.connect().await
    }
}

/// A page of decisions, or all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decisions {
    /// In the order of their times.
    pub decisions: Vec<RecordedDecision>,
    /// How long people took to sign, for each signature.
    #[serde(default)]
    pub seconds_to_sign: Vec<u64>,
}

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedDecision {
    /// Its id.
    pub id: DecisionId,
    /// When.
    pub at: Timestamp,
    /// The grant it was about.
    #[serde(default)]
    pub grant: Option<GrantId>,
    /// `propose` or `claim`.
    pub moment: String,
    /// Everything the policy saw, as JSON.
    pub facts: String,
    /// The answer.
    pub tier: Tier,
    /// Why.
    pub reasons: Vec<String>,
}

impl Decisions {
    /// Every decision since then, as the broker gives them to this person.
    pub async fn fetch(client: &PersonClient, since: Timestamp) -> anyhow::Result<Self> {
        let mut all = Self::default();
        loop {
            let skip = all.decisions.len();
            let path = format!("/v1/decisions?since={}&skip={skip}", since.seconds());
            let page: Self = read(&client.get(&path).await?)?;
            if skip == 0 {
                all.seconds_to_sign = page.seconds_to_sign;
            }
            if page.decisions.is_empty() {
                return Ok(all);
            }
            all.decisions.extend(page.decisions);
            if all.decisions.len() > MOST {
                return Err(Exit::Refused.because(format!(
                    "the broker has more than {MOST} decisions since {since}; choose a later `--since`"
                )));
            }
        }
    }

    /// The same from a file.
    pub fn from_file(path: &Path) -> anyhow::Result<Self> {
        let wrong = |what: String| Exit::Usage.because(format!("{}: {what}", path.display()));
        let bytes = std::fs::read(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| wrong(format!("not an answer of `GET /v1/decisions`: {error}")))
    }
}
