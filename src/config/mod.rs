//! The configuration: as written, then resolved once, whole or not at all. Unknown keys are refused, every mistake is
//! named with file, path and key. Secrets stay where they are: a key here is a path. Reads files, no environment.

mod aws;
mod countersigner;
mod exports;
mod issuers;
mod keys;
mod ledger;
mod locate;
mod mistakes;
mod resolve;
mod rules;
mod serving;
#[cfg(test)]
mod tests;
mod written;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::authn::jwks::IssuerSettings;
use crate::authn::resource::ResourceServer;
use crate::broker::rules::Rules;
use crate::ledger::verifier_key::VerifierKey;

pub use aws::{Aws, AwsAccount, CountersignerAccess};
pub use countersigner::{CountersignerConfig, CountersignerRules};
pub use exports::{CaepSettings, ExportSettings, ExportTo, SecretFile, SyslogAddress};
pub use keys::{KeyPlace, Keys};
pub use mistakes::{ConfigError, ConfigErrors};
pub use rules::RuleFiles;
use rules::{Around, shared_keys};
pub use written::{LogFormat, Reconcile};

/// A configuration that passed every check, with the rules it names.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// The broker's issuer URL, without a closing slash.
    pub issuer: String,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Marked `dev = true`: `serve` refuses it.
    pub dev: bool,
    /// A declared proxy terminates TLS.
    pub behind_proxy: bool,
    /// Certificate and key of the listener.
    pub tls: Option<TlsFiles>,
    /// Where the store is.
    pub data_dir: PathBuf,
    /// Where the ledger's head is kept, outside `data_dir`.
    pub head_file: PathBuf,
    /// How the log is named, witnessed and kept.
    pub ledger: Ledger,
    /// Where the broker's own keys are.
    pub keys: Keys,
    /// Where the rules are, to read them again.
    pub rule_files: RuleFiles,
    /// The rules as read.
    pub rules: Rules,
    /// Issuers of workload tokens.
    pub issuers: Vec<IssuerSettings>,
    /// Resource servers that may introspect.
    pub resources: Vec<ResourceServer>,
    /// The `aws` provider, where there is one.
    pub aws: Option<Aws>,
    /// What tokens and replies live.
    pub tokens: Tokens,
    /// What callers may cost.
    pub limits: Limits,
    /// Who is told that people are needed.
    pub on_event: Option<OnEvent>,
    /// Where copies of the log go.
    pub exports: Vec<ExportSettings>,
    /// Security events, given and taken.
    pub caep: CaepSettings,
    /// Where `audit reconcile` finds the records of the trail.
    pub reconcile: Option<Reconcile>,
    /// How to log.
    pub log: Log,
}

/// Certificate and key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// How the log is named, witnessed and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// The name in its origins, before the epoch.
    pub name: String,
    /// Days for which the bytes of entries are kept.
    pub keep_days: u32,
    /// Witnesses: where, and known by which key.
    pub witnesses: Vec<(String, VerifierKey)>,
    /// How many of them must have seen the newest state.
    pub witnesses_needed: usize,
    /// Within so many seconds, or nothing is issued.
    pub witness_max_age_seconds: i64,
}

/// Lives of what the broker itself hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tokens {
    /// Life of a decide token, seconds.
    pub decide_seconds: u32,
    /// Seconds a lost reply can be asked for again.
    pub reply_seconds: u32,
}

/// What callers may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Connections at a time of one peer that is not loopback.
    pub connections_per_peer: usize,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// For the handshake and each request's headers.
    pub header_timeout: Duration,
    /// For each request's body.
    pub body_timeout: Duration,
    /// Between two requests.
    pub idle_timeout: Duration,
    /// How long shutdown waits for requests in flight.
    pub drain_timeout: Duration,
    /// Open proposals of one agent.
    pub open_per_agent: usize,
    /// Open proposals in all.
    pub open_in_all: usize,
}

/// Who is told, with kind, id and link only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnEvent {
    /// POST as JSON.
    Webhook(String),
    /// Program and arguments, no shell.
    Command(Vec<String>),
}

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// For machines or for people.
    pub format: LogFormat,
    /// A level, or levels per module; parsed where logging starts.
    pub level: String,
}

impl Config {
    /// Reads the file and everything it names; explains every mistake at once.
    pub fn read(path: &Path) -> Result<Self, ConfigErrors> {
        resolve::read(path)
    }

    /// Reads catalog, policy, directory and guardrails again, for a reload; nothing half-valid is ever returned.
    pub fn reread_rules(&self) -> Result<Rules, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let rules = self.rule_files.read(&mut errors);
        if let Some(rules) = &rules {
            let around = Around {
                resources: &self.resources,
                issuers: &self.issuers,
                aws: self.aws.as_ref(),
                dev: self.dev,
            };
            self.rule_files.fit(rules, &around, &mut errors);
            for (path, problem) in shared_keys(&self.resources, rules) {
                errors.0.push(ConfigError {
                    file: self.file.display().to_string(),
                    line: None,
                    path,
                    problem,
                });
            }
        }
        errors.or(rules)
    }
}
