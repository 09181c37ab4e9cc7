//! `[keys]` as an operator writes it.

use std::path::PathBuf;

use serde::Deserialize;

use crate::broker::working_keys::DEFAULT_LIFE_SECONDS;
use crate::domain::key::PublicKey;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Keys {
    pub(in crate::config) working_key_seconds: u32,
    pub(in crate::config) allow_endpoints: Vec<String>,
    pub(in crate::config) kms_endpoint: Option<String>,
    pub(in crate::config) token: KeyPlace,
    pub(in crate::config) former_token: Vec<PublicKey>,
    pub(in crate::config) log: KeyPlace,
    pub(in crate::config) next_log: Option<KeyPlace>,
    pub(in crate::config) former_log: Vec<FormerLog>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct FormerLog {
    pub(in crate::config) key: String,
    pub(in crate::config) epoch: u64,
    pub(in crate::config) size: u64,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            working_key_seconds: DEFAULT_LIFE_SECONDS,
            allow_endpoints: Vec::new(),
            kms_endpoint: None,
            token: KeyPlace::default(),
            former_token: Vec::new(),
            log: KeyPlace::default(),
            next_log: None,
            former_log: Vec::new(),
        }
    }
}

/// Where a key lies; `custody` says which of the other members there are.
#[derive(Debug, Deserialize)]
#[serde(tag = "custody", rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::config) enum KeyPlace {
    File { file: Option<PathBuf> },
    Pkcs11 { module: PathBuf, token: String, label: String, pin_file: PathBuf },
    Kms { key: String, region: String, profile: Option<String> },
}

impl Default for KeyPlace {
    fn default() -> Self {
        Self::File { file: None }
    }
}
