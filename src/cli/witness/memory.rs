//! What a witness knows: its key and name, and the newest checkpoint it cosigned of each log, each in a file of its own.
//! What is cosigned is on the disk before the cosignature exists, and comparing and replacing are one step.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::broker::ports::Clock;
use crate::cli::exit::Exit;
use crate::cli::keys::agent_key::{generate_agent_key, read_agent_key};
use crate::domain::canonical;
use crate::domain::digest::Digest;
use crate::domain::key::SigningKey;
use crate::domain::time::Timestamp;
use crate::ledger::cosignature::Cosigner;
use crate::ledger::note::{SignatureLine, SignedNote};
use crate::ledger::verifier_key::{VerifierKey, is_key_name};
use crate::ledger::witness::{AddCheckpoint, Held, Refusal, WatchedLogs};
use crate::store::replace_file;

/// Ended epochs whose last checkpoint is remembered: they show what a restored log lost.
const EARLIER: usize = 32;
const KEY_FILE: &str = "witness-key.pem";
const NAME_FILE: &str = "witness.json";

/// The name and key of a witness.
pub(super) struct Identity {
    name: String,
    key: SigningKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

impl Identity {
    /// Reads them from the folder, or makes them there; a name that differs from the kept one is refused.
    pub(super) fn open(folder: &Path, wanted: Option<&str>) -> anyhow::Result<Self> {
        let (key_path, name_path) = (folder.join(KEY_FILE), folder.join(NAME_FILE));
        if !key_path.exists() {
            // SECURITY: with another key it would be another witness, that has seen nothing of what this one has.
            if name_path.exists() {
                return Err(Exit::Usage.because(format!(
                    "{} is missing, but this witness had a key: put it back, or begin in an empty folder",
                    key_path.display()
                )));
            }
            generate_agent_key(&key_path)?;
            File::open(folder).and_then(|folder| folder.sync_all()).context("cannot keep the key")?;
        }
        let key = read_agent_key(&key_path)?;
        let kept = match name_path.exists() {
            true => Some(read::<Named>(&name_path)?.name),
            false => None,
        };
        let name = match (kept, wanted) {
            (Some(kept), Some(wanted)) if kept != wanted => {
                return Err(Exit::Usage.because(format!(
                    "this witness is named `{kept}`, and others know its key by that name; leave --name out"
                )));
            }
            (Some(kept), _) => kept,
            (None, wanted) => {
                let code = || Digest::of(key.public().raw()).short_code().to_ascii_lowercase();
                let name = wanted.map_or_else(|| format!("witness-{}", code()), str::to_owned);
                if !is_key_name(&name) || !name.is_ascii() {
                    return Err(Exit::Usage.because(format!(
                        "`{name}` cannot name a witness: use ASCII without spaces and `+`, like `witness.example.com`"
                    )));
                }
                replace_file(&name_path, &canonical::to_bytes(&Named { name: name.clone() })?)
                    .with_context(|| name_path.display().to_string())?;
                name
            }
        };
        Ok(Self { name, key })
    }

    /// What others verify with.
    pub(super) fn verifier(&self) -> anyhow::Result<VerifierKey> {
        Ok(self.cosigner()?.verifier().clone())
    }

    fn cosigner(&self) -> anyhow::Result<Cosigner<'_>> {
        Ok(Cosigner::new(&self.name, &self.key)?)
    }
}

/// A checkpoint as the file keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seen {
    pub(super) origin: String,
    pub(super) size: u64,
    pub(super) root: Digest,
}

/// What is kept of one log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) log: String,
    pub(super) newest: Seen,
    pub(super) at: Timestamp,
    /// The last checkpoints of ended epochs, oldest first.
    pub(super) earlier: Vec<Seen>,
}

impl Record {
    fn held(&self) -> Held {
        let Seen { origin, size, root } = self.newest.clone();
        Held { origin, size, root }
    }

    /// What is kept once `held` is the newest.
    fn then(before: Option<Self>, log: &str, held: Held, at: Timestamp) -> Self {
        let Held { origin, size, root } = held;
        let newest = Seen { origin, size, root };
        let mut earlier = Vec::new();
        if let Some(before) = before {
            earlier = before.earlier;
            if before.newest.origin != newest.origin {
                earlier.push(before.newest);
            }
        }
        earlier.drain(..earlier.len().saturating_sub(EARLIER));
        Self { log: log.to_owned(), newest, at, earlier }
    }
}

struct Kept {
    log: String,
    path: PathBuf,
    record: Mutex<Option<Record>>,
}

/// Why there is no cosignature.
#[derive(Debug)]
pub(super) enum NotCosigned {
    /// The rule forbids it.
    Refused(Refusal),
    /// It could not be kept or signed.
    Failed(anyhow::Error),
}

impl From<Refusal> for NotCosigned {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A witness with its folder, which no other process has open.
pub(super) struct Memory {
    identity: Identity,
    logs: WatchedLogs,
    kept: Vec<Kept>,
    clock: Arc<dyn Clock>,
    _lock: File,
}

impl Memory {
    /// Opens the folder, and reads what is held of each log. What cannot be read is an error, never nothing.
    pub(super) fn open(
        folder: &Path,
        name: Option<&str>,
        logs: WatchedLogs,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let lock = lock(folder)?;
        let identity = Identity::open(folder, name)?;
        let mut kept = Vec::new();
        for log in logs.all() {
            let path =
                folder.join(format!("{}.json", Digest::tagged("witnessed-log", log.name().as_bytes())));
            let record = match path.try_exists().with_context(|| path.display().to_string())? {
                true => Some(read::<Record>(&path)?),
                false => None,
            };
            if record.as_ref().is_some_and(|record| record.log != log.name()) {
                anyhow::bail!("{} is about another log than `{}`", path.display(), log.name());
            }
            kept.push(Kept { log: log.name().to_owned(), path, record: Mutex::new(record) });
        }
        Ok(Self { identity, logs, kept, clock, _lock: lock })
    }

    /// What others verify with.
    pub(super) fn verifier(&self) -> anyhow::Result<VerifierKey> {
        self.identity.verifier()
    }

    /// Every log with what is held of it.
    pub(super) fn records(&self) -> Vec<(String, Option<Record>)> {
        let record = |kept: &Kept| kept.record.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.kept.iter().map(|kept| (kept.log.clone(), record(kept))).collect()
    }

    /// What the log really signed of a refused request.
    pub(super) fn evidence(&self, request: &AddCheckpoint) -> Option<SignedNote> {
        self.logs.evidence(request)
    }

    /// Cosigns what follows what is held, and holds it from now on.
    pub(super) fn add(&self, request: &AddCheckpoint) -> Result<SignatureLine, NotCosigned> {
        let submitted = self.logs.identify(request)?;
        let kept = self.kept.iter().find(|kept| kept.log == submitted.log().name());
        let kept = kept.ok_or_else(|| NotCosigned::Failed(anyhow::anyhow!("a log without a record")))?;
        // Held until the answer is made: a second request must see what this one leaves.
        let mut record = kept.record.lock().unwrap_or_else(PoisonError::into_inner);
        let before = record.as_ref().map(Record::held);
        let next = submitted.follows(before.as_ref())?;
        // A clock that was put back would state that an older tree was the newest at a time when it was not.
        let now = self.clock.wall();
        let at = record.as_ref().map_or(now, |record| record.at.max(now));
        let changed = before.as_ref() != Some(&next);
        let following = Record::then(record.clone(), &kept.log, next, at);
        if changed {
            let bytes = canonical::to_bytes(&following).map_err(|error| NotCosigned::Failed(error.into()))?;
            replace_file(&kept.path, &bytes)
                .with_context(|| format!("cannot keep {}", kept.path.display()))
                .map_err(NotCosigned::Failed)?;
        }
        *record = Some(following);
        let text = request.checkpoint.unverified_text();
        let line = self.identity.cosigner().and_then(|cosigner| Ok(cosigner.cosign(text, at)?));
        line.map_err(NotCosigned::Failed)
    }
}

fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("lock");
    let options = File::options().create(true).truncate(false).write(true).open(&path);
    let file = options.with_context(|| path.display().to_string())?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Exit::Usage
                .because(format!("another witness has {} open: end that one first", folder.display())))
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| path.display().to_string()),
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    canonical::from_bytes(&bytes)
        .with_context(|| format!("{} cannot be understood: put back what it held", path.display()))
}
