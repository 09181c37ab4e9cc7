//! `[[exports]]` and `[caep]` as an operator writes them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Issuer, an_hour, five_minutes};

/// Kinds of sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum ExportKind {
    File,
    Stdout,
    Webhook,
    Syslog,
    CaepPush,
}

impl ExportKind {
    pub(in crate::config) fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Stdout => "stdout",
            Self::Webhook => "webhook",
            Self::Syslog => "syslog",
            Self::CaepPush => "caep-push",
        }
    }
}

/// What an event is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Format {
    Ocsf,
}

/// What a batch is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Body {
    Lines,
    Array,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Export {
    pub(in crate::config) name: String,
    pub(in crate::config) kind: ExportKind,
    pub(in crate::config) format: Option<Format>,
    #[serde(default)]
    pub(in crate::config) from_start: bool,
    pub(in crate::config) path: Option<PathBuf>,
    pub(in crate::config) url: Option<String>,
    pub(in crate::config) body: Option<Body>,
    pub(in crate::config) header: Option<String>,
    pub(in crate::config) secret_file: Option<PathBuf>,
    pub(in crate::config) audience: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Caep {
    pub(in crate::config) poll: Vec<String>,
    pub(in crate::config) poll_all: Vec<String>,
    pub(in crate::config) transmitters: Vec<Transmitter>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Transmitter {
    issuer: String,
    audience: Option<String>,
    jwks_url: Option<String>,
    jwks_file: Option<PathBuf>,
    algorithms: Vec<jsonwebtoken::Algorithm>,
    #[serde(default)]
    pub(in crate::config) people: bool,
    pub(in crate::config) subjects_of: Option<BTreeSet<String>>,
    #[serde(default = "an_hour")]
    longest_age_seconds: i64,
    #[serde(default = "five_minutes")]
    ttl_seconds: i64,
    #[serde(default = "an_hour")]
    max_age_seconds: i64,
}

impl Transmitter {
    /// Its keys are read as those of an issuer of workload tokens are; its tokens have an age where those have a life.
    pub(in crate::config) fn into_issuer(self) -> Issuer {
        Issuer {
            issuer: self.issuer,
            audience: self.audience,
            jwks_url: self.jwks_url,
            jwks_file: self.jwks_file,
            algorithms: self.algorithms,
            longest_life_seconds: self.longest_age_seconds,
            ttl_seconds: self.ttl_seconds,
            max_age_seconds: self.max_age_seconds,
        }
    }
}
