//! `[keys]`: where the broker's own keys lie. Nothing here is a secret: a PIN is named by its file.

use std::fmt;
use std::path::{Path, PathBuf};

use super::resolve::Resolver;
use super::written::keys as written;
use crate::broker::working_keys::{LONGEST_LIFE_SECONDS, SHORTEST_LIFE_SECONDS};
use crate::domain::digest::decode;
use crate::domain::key::PublicKey;
use crate::ledger::checkpoint::FormerLogKey;

/// File of the key that vouches for those that sign tokens, in the data folder.
const TOKEN_KEY: &str = "token-key.pem";
/// File of the key that signs checkpoints, in the data folder.
const LOG_KEY: &str = "log-key.pem";
/// File of the key that will sign them, in the data folder.
const NEXT_LOG_KEY: &str = "next-log-key.pem";

/// The broker's own keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// How long a key signs tokens before the next does, seconds.
    pub working_key_seconds: u32,
    /// The key that vouches for those that sign tokens.
    pub token: KeyPlace,
    /// Keys that vouched for them before: what those signed in their time still verifies.
    pub former_token: Vec<PublicKey>,
    /// The key that signs checkpoints.
    pub log: KeyPlace,
    /// The key that will, and signs them already.
    pub next_log: Option<KeyPlace>,
    /// Keys that signed them once.
    pub former_log: Vec<FormerLogKey>,
    /// Another KMS endpoint, allowed by name.
    pub kms_endpoint: Option<String>,
}

/// Where a key lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPlace {
    /// A file that only this process's user can read; made at the first start.
    File(PathBuf),
    /// A PKCS#11 token.
    Pkcs11 {
        /// The module: a shared library.
        module: PathBuf,
        /// Label of the token.
        token: String,
        /// Label of the key.
        label: String,
        /// File of the PIN.
        pin_file: PathBuf,
    },
    /// AWS KMS.
    Kms {
        /// Key id, ARN or alias.
        key: String,
        /// Its region.
        region: String,
        /// Profile of the shared AWS configuration that may use it; absent, the SDK's default chain.
        profile: Option<String>,
    },
}

impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Pkcs11 { module, token, label, .. } => {
                write!(f, "pkcs11 key `{label}` of token `{token}` ({})", module.display())
            }
            Self::Kms { key, region, .. } => write!(f, "kms key {key} in {region}"),
        }
    }
}

impl Resolver<'_> {
    pub(super) fn keys(&mut self, written: written::Keys, data_dir: &Path, dev: bool) -> Keys {
        let life = written.working_key_seconds;
        self.within("keys.working_key_seconds", life, SHORTEST_LIFE_SECONDS, LONGEST_LIFE_SECONDS);
        for name in written.allow_endpoints.iter().filter(|name| name.as_str() != "kms") {
            let problem = format!("`{name}` is not `kms`");
            self.errors.at(&self.source, "keys.allow_endpoints", problem);
        }
        if let Some(endpoint) = &written.kms_endpoint {
            if written.allow_endpoints.is_empty() {
                let problem = "is refused unless `keys.allow_endpoints` names \"kms\"";
                self.errors.at(&self.source, "keys.kms_endpoint", problem);
            }
            self.callable("keys.kms_endpoint", endpoint);
        }
        let token = self.key_place("keys.token", written.token, data_dir.join(TOKEN_KEY), dev);
        let log = self.key_place("keys.log", written.log, data_dir.join(LOG_KEY), dev);
        // SECURITY: what is signed for one use must be nothing in the other.
        if token == log {
            self.errors.at(&self.source, "keys.log", "must be another key than that of [keys.token]");
        }
        let next = data_dir.join(NEXT_LOG_KEY);
        let next_log = written.next_log.map(|place| self.key_place("keys.next_log", place, next, dev));
        if next_log.as_ref().is_some_and(|next| [&token, &log].contains(&next)) {
            let problem = "must be another key than those of [keys.token] and [keys.log]";
            self.errors.at(&self.source, "keys.next_log", problem);
        }
        let (former_token, former_log) = (written.former_token, self.former_log(written.former_log));
        if former_log.iter().any(|one| former_token.contains(&one.key)) {
            let problem = "must be another key than those of [[keys.former_log]]";
            self.errors.at(&self.source, "keys.former_token", problem);
        }
        let (working_key_seconds, kms_endpoint) = (life, written.kms_endpoint);
        Keys { working_key_seconds, token, former_token, log, next_log, former_log, kms_endpoint }
    }

    fn former_log(&mut self, written: Vec<written::FormerLog>) -> Vec<FormerLogKey> {
        let mut former = Vec::new();
        for (at, one) in written.into_iter().enumerate() {
            let key = decode(&one.key).ok().and_then(|bytes| PublicKey::ed25519(&bytes).ok());
            match key {
                Some(key) => former.push(FormerLogKey { key, epoch: one.epoch, size: one.size }),
                None => {
                    let problem = "is not base64url of the 32 bytes of an Ed25519 public key";
                    self.errors.at(&self.source, &format!("keys.former_log[{at}].key"), problem);
                }
            }
        }
        former
    }

    fn key_place(&mut self, at: &str, written: written::KeyPlace, usual: PathBuf, dev: bool) -> KeyPlace {
        if dev && !matches!(written, written::KeyPlace::File { .. }) {
            self.errors.at(&self.source, at, "a configuration marked `dev` keeps its keys in files");
        }
        match written {
            written::KeyPlace::File { file } => KeyPlace::File(file.map_or(usual, |file| self.path(&file))),
            written::KeyPlace::Pkcs11 { module, token, label, pin_file } => {
                self.not_empty(&[(&format!("{at}.token"), &token), (&format!("{at}.label"), &label)]);
                // Whether the file can be used is asked when the token is opened: it must not keep a broker from starting.
                let (module, pin_file) = (self.path(&module), self.path(&pin_file));
                KeyPlace::Pkcs11 { module, token, label, pin_file }
            }
            written::KeyPlace::Kms { key, region, profile } => {
                self.not_empty(&[(&format!("{at}.key"), &key), (&format!("{at}.region"), &region)]);
                if let Some(named) = key.strip_prefix("arn:").and_then(|rest| rest.split(':').nth(2))
                    && named != region
                {
                    let problem = format!("is `{region}`, and the ARN of the key names `{named}`");
                    self.errors.at(&self.source, &format!("{at}.region"), problem);
                }
                KeyPlace::Kms { key, region, profile }
            }
        }
    }

    fn not_empty(&mut self, given: &[(&str, &String)]) {
        for (path, _) in given.iter().filter(|(_, text)| text.is_empty()) {
            self.errors.at(&self.source, path, "is empty");
        }
    }
}
