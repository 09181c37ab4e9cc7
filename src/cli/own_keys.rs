//! Opens the broker's own keys where the configuration says they lie. What stands in the way is said with what mends it.

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::exit::Exit;
use super::keys::agent_key::{generate_agent_key, read_own_key};
use super::keys::key_file::read_own;
use crate::broker::ports::{KeptKey, OwnKey, Store};
use crate::config::{Config, KeyPlace};
use crate::domain::key::{Algorithm, PublicKey, SigningKey};
use crate::domain::secret::Secret;
use crate::ledger::checkpoint::LogKey;
use crate::providers::aws::{Identity, forbidden_endpoint_variables};
use crate::providers::own_keys::kms::{KmsSettings, KmsSigner};
use crate::providers::own_keys::pkcs11::{Pkcs11Settings, Pkcs11Signer};

/// The broker's own keys, opened.
pub(super) struct OwnKeys {
    /// Vouches for those that sign tokens.
    pub(super) token: OwnKey,
    /// Signs checkpoints.
    pub(super) log: OwnKey,
    /// Signs them beside it, where the log is between two keys.
    pub(super) next_log: Option<OwnKey>,
}

impl OwnKeys {
    /// Opens both. A broker that ran before starts without its devices too, to stop and revoke: what it knows of their
    /// keys stands, and nothing is signed until they are back.
    pub(super) async fn open(config: &Config, store: &Arc<dyn Store>) -> anyhow::Result<Self> {
        let kept = store.kept_keys().await.unwrap_or_else(|error| {
            tracing::error!(error = %error, "what is known of the broker's own keys cannot be read");
            Vec::new()
        });
        let known =
            |wanted: fn(&KeptKey) -> bool| kept.iter().find(|key| wanted(key)).map(|key| key.key().clone());
        let token = known(|key| matches!(key, KeptKey::Token(_)));
        let log = known(|key| matches!(key, KeptKey::Log(_)));
        let token = open(config, "token", &config.keys.token, token, File::MadeWhenMissing).await?;
        let log = open_log(config, &config.keys.log, log, File::MadeWhenMissing).await?;
        let next_log = match &config.keys.next_log {
            Some(place) => Some(open_log(config, place, None, File::MadeWhenMissing).await?),
            None => None,
        };
        Ok(Self { token, log, next_log })
    }

    /// Opens both as they are; makes nothing.
    pub(super) async fn look(config: &Config) -> anyhow::Result<Self> {
        let token = open(config, "token", &config.keys.token, None, File::MustBeThere).await?;
        let log = open_log(config, &config.keys.log, None, File::MustBeThere).await?;
        let next_log = match &config.keys.next_log {
            Some(place) => Some(open_log(config, place, None, File::MustBeThere).await?),
            None => None,
        };
        Ok(Self { token, log, next_log })
    }
}

/// The log as others know it; never makes a key.
pub(super) async fn log_of(config: &Config) -> anyhow::Result<LogKey> {
    let key = open_log(config, &config.keys.log, None, File::MustBeThere).await?;
    let log = LogKey::new(&config.ledger.name, key.public().clone())?;
    Ok(log.with_former(config.keys.former_log.clone())?)
}

/// What happens when a key's file is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum File {
    MadeWhenMissing,
    MustBeThere,
}

async fn open(
    config: &Config,
    purpose: &str,
    place: &KeyPlace,
    known: Option<PublicKey>,
    file: File,
) -> anyhow::Result<OwnKey> {
    let wrong = |why: String| Exit::Usage.because(format!("the broker's {purpose} key ({place}): {why}"));
    match place {
        KeyPlace::File(path) if file == File::MustBeThere && !path.exists() => Err(Exit::Usage.because(
            format!("{} is not there: start the broker once, it makes the {purpose}'s key", path.display()),
        )),
        KeyPlace::File(path) => Ok(own_key(path)?.into()),
        KeyPlace::Pkcs11 { module, token, label, pin_file } => {
            let settings = Pkcs11Settings {
                module: module.clone(),
                token: token.clone(),
                label: label.clone(),
                pin: pin(pin_file)?,
            };
            let signer = Pkcs11Signer::open(settings, known).await.map_err(|error| wrong(error.0))?;
            Ok(OwnKey::new(Arc::new(signer)))
        }
        KeyPlace::Kms { key, region, profile } => {
            nothing_sends_aws_calls_elsewhere()?;
            let settings = KmsSettings {
                key: key.clone(),
                region: region.clone(),
                identity: profile.clone().map_or(Identity::DefaultChain, Identity::Profile),
                endpoint: config.keys.kms_endpoint.clone(),
            };
            let signer = KmsSigner::open(settings, known).await.map_err(|error| wrong(error.0))?;
            Ok(OwnKey::new(Arc::new(signer)))
        }
    }
}

/// Checkpoints are signed notes, and those are Ed25519.
async fn open_log(
    config: &Config,
    place: &KeyPlace,
    known: Option<PublicKey>,
    file: File,
) -> anyhow::Result<OwnKey> {
    let key = open(config, "log", place, known, file).await?;
    match key.public().algorithm() {
        Algorithm::EdDSA => Ok(key),
        other => Err(Exit::Usage.because(format!(
            "the broker's log key ({place}) is for {other}; checkpoints are signed with Ed25519 (in KMS: ECC_NIST_EDWARDS25519)"
        ))),
    }
}

/// A key that only this process uses: read, or made when it is not there.
fn own_key(path: &Path) -> anyhow::Result<SigningKey> {
    if !path.exists() {
        let public = generate_agent_key(path)?;
        tracing::info!(key = %public.thumbprint(), file = %path.display(), "made a key");
    }
    read_own_key(path)
}

/// The first line of the PIN's file.
fn pin(file: &Path) -> anyhow::Result<Secret> {
    let bytes = read_own(file)?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    let line = Zeroizing::new(text.lines().next().unwrap_or_default().to_owned());
    if line.is_empty() {
        return Err(Exit::Usage.because(format!("{} holds no PIN in its first line", file.display())));
    }
    Ok(Secret::new(line.to_string()))
}

/// Endpoints come from the configuration alone.
pub(super) fn nothing_sends_aws_calls_elsewhere() -> anyhow::Result<()> {
    let variables = forbidden_endpoint_variables(
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
    );
    match variables.is_empty() {
        true => Ok(()),
        false => Err(Exit::Usage.because(format!(
            "{} would send AWS calls elsewhere; unset it, or allow the endpoint by name under `[aws]` or `[keys]`",
            variables.join(", ")
        ))),
    }
}
