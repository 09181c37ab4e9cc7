//! The broker's own keys, opened where the configuration says they lie, whenever they are there. What stands in the way is
//! said with what mends it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use async_trait::async_trait;

use super::exit::Exit;
use super::keys::agent_key::{generate_agent_key, read_own_key};
use super::keys::key_file::read_own;
use crate::broker::ports::{HeadKeeper as _, KeySource, OwnKey, SignError};
use crate::config::{Config, KeyPlace};
use crate::domain::key::{Algorithm, PublicKey, SigningKey};
use crate::domain::secret::Secret;
use crate::ledger::checkpoint::LogKey;
use crate::providers::aws::{Identity, forbidden_endpoint_variables};
use crate::providers::own_keys::kms::{KmsSettings, KmsSigner};
use crate::providers::own_keys::pkcs11::{Modules, Pkcs11Key, Pkcs11Settings};
use crate::store::HeadFile;

/// The places of the broker's own keys.
pub(super) struct OwnKeys {
    /// Vouches for those that sign tokens.
    pub(super) token: Arc<dyn KeySource>,
    /// Signs checkpoints.
    pub(super) log: Arc<dyn KeySource>,
    /// Signs them beside it, where the log is between two keys.
    pub(super) next_log: Option<Arc<dyn KeySource>>,
}

/// The broker's own keys, opened.
pub(super) struct Opened {
    /// Vouches for those that sign tokens.
    pub(super) token: OwnKey,
    /// Signs checkpoints.
    pub(super) log: OwnKey,
    /// Signs them beside it, where the log is between two keys.
    pub(super) next_log: Option<OwnKey>,
}

/// What happens when a key's file is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum File {
    MadeWhenMissing,
    MustBeThere,
}

impl OwnKeys {
    /// Nothing is opened yet.
    pub(super) fn of(config: &Config, file: File) -> anyhow::Result<Self> {
        let (keys, modules) = (&config.keys, Arc::new(Modules::default()));
        let known = Arc::new(Known::default());
        for former in &keys.former_log {
            known.add("a former log", &former.key);
        }
        for former in &keys.former_token {
            known.add("a former token", former);
        }
        let source = |purpose, place: &KeyPlace| {
            Ok::<_, anyhow::Error>(Arc::new(Source {
                purpose,
                place: place.clone(),
                device: device(config, place, &modules)?,
                file,
                known: known.clone(),
            }) as Arc<dyn KeySource>)
        };
        Ok(Self {
            token: source("token", &keys.token)?,
            log: source("log", &keys.log)?,
            next_log: keys.next_log.as_ref().map(|place| source("next log", place)).transpose()?,
        })
    }

    /// Opens all of them now, or says what stands in the way of the first that does not open.
    pub(super) async fn open(&self) -> anyhow::Result<Opened> {
        let open = async |source: &Arc<dyn KeySource>| {
            source.open().await.map_err(|error| Exit::Usage.because(error.to_string()))
        };
        let (token, log) = (open(&self.token).await?, open(&self.log).await?);
        let next_log = match &self.next_log {
            Some(next) => Some(open(next).await?),
            None => None,
        };
        Ok(Opened { token, log, next_log })
    }
}

/// The log as others know it; never makes a key.
pub(super) async fn log_of(config: &Config) -> anyhow::Result<LogKey> {
    let keys = OwnKeys::of(config, File::MustBeThere)?;
    let key = keys.log.open().await.map_err(|error| Exit::Usage.because(error.to_string()))?;
    let log = LogKey::new(&config.ledger.name, key.public().clone())?
        .with_former(config.keys.former_log.clone())?;
    // A trust file with a last checkpoint beyond the log would let whoever steals the former key go on with it.
    let head = HeadFile::at(&config.head_file).known().await.context("the head file cannot be read")?;
    match head.and_then(|head| Some((log.beyond(head.epoch, head.size)?.clone(), head))) {
        None => Ok(log),
        Some((former, head)) => Err(Exit::Usage.because(format!(
            "[[keys.former_log]] names {} entries of epoch {} as the last checkpoint of a former key, and the log holds {} of epoch {}",
            former.size, former.epoch, head.size, head.epoch
        ))),
    }
}

/// Where one of them lies.
struct Source {
    purpose: &'static str,
    place: KeyPlace,
    device: Device,
    file: File,
    known: Arc<Known>,
}

enum Device {
    File,
    Pkcs11(Pkcs11Key),
    Kms(KmsSettings),
}

fn device(config: &Config, place: &KeyPlace, modules: &Arc<Modules>) -> anyhow::Result<Device> {
    Ok(match place {
        KeyPlace::File(_) => Device::File,
        KeyPlace::Pkcs11 { module, token, label, pin_file } => {
            let file = pin_file.clone();
            let settings = Pkcs11Settings {
                module: module.clone(),
                token: token.clone(),
                label: label.clone(),
                pin: Box::new(move || pin(&file)),
            };
            Device::Pkcs11(Pkcs11Key::new(settings, modules)?)
        }
        KeyPlace::Kms { key, region, profile } => Device::Kms(KmsSettings {
            key: key.clone(),
            region: region.clone(),
            identity: profile.clone().map_or(Identity::DefaultChain, Identity::Profile),
            endpoint: config.keys.kms_endpoint.clone(),
        }),
    })
}

#[async_trait]
impl KeySource for Source {
    async fn open(&self) -> Result<OwnKey, SignError> {
        let named =
            |why: String| SignError(format!("the broker's {} key ({}): {why}", self.purpose, self.place));
        let key = self.find().await.map_err(named)?;
        let algorithm = key.public().algorithm();
        // Checkpoints are signed notes, and those are Ed25519.
        if self.purpose != "token" && algorithm != Algorithm::EdDSA {
            return Err(named(format!(
                "it is for {algorithm}; checkpoints are signed with Ed25519 (in KMS: ECC_NIST_EDWARDS25519)"
            )));
        }
        match self.known.other(self.purpose, key.public()) {
            None => Ok(key),
            // SECURITY: what is signed for one use must be nothing in the other, wherever the same key may lie twice.
            Some(other) => Err(named(format!("it is the same as that of {other}; must be another key"))),
        }
    }
}

impl Source {
    async fn find(&self) -> Result<OwnKey, String> {
        match (&self.place, &self.device) {
            (_, Device::Pkcs11(key)) => Ok(OwnKey::new(Arc::new(key.open().await.map_err(|error| error.0)?))),
            (_, Device::Kms(settings)) => {
                nothing_sends_aws_calls_elsewhere().map_err(|error| format!("{error:#}"))?;
                Ok(OwnKey::new(Arc::new(KmsSigner::open(settings).await.map_err(|error| error.0)?)))
            }
            (KeyPlace::File(path), Device::File) => {
                if self.file == File::MustBeThere && !path.exists() {
                    let purpose = self.purpose;
                    return Err(format!(
                        "{} is not there: start the broker once, it makes the {purpose}'s key",
                        path.display()
                    ));
                }
                Ok(own_key(path).map_err(|error| format!("{error:#}"))?.into())
            }
            (_, Device::File) => Err("it lies in no file".into()),
        }
    }
}

/// The keys that were opened, and those that were once: each is for one use.
#[derive(Default)]
struct Known(Mutex<Vec<(&'static str, PublicKey)>>);

impl Known {
    fn add(&self, purpose: &'static str, key: &PublicKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((purpose, key.clone()));
    }

    /// Another use of this key; without one it is from now on for `purpose`.
    fn other(&self, purpose: &'static str, key: &PublicKey) -> Option<&'static str> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = all.iter().find(|(other, known)| known == key && *other != purpose);
        let other = found.map(|(other, _)| *other);
        if other.is_none() && !all.iter().any(|(_, known)| known == key) {
            all.push((purpose, key.clone()));
        }
        other
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
fn pin(file: &Path) -> Result<Secret, String> {
    let bytes = read_own(file).map_err(|error| format!("pin_file: {error:#}"))?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    match text.lines().next().filter(|line| !line.is_empty()) {
        Some(line) => Ok(Secret::new(line.to_owned())),
        None => Err(format!("pin_file: {} holds no PIN in its first line", file.display())),
    }
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
