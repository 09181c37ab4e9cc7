//! The configuration file as an operator writes it. Unknown keys are refused section by section.

pub(super) mod exports;
pub(super) mod keys;

use std::path::PathBuf;

use serde::Deserialize;

use crate::broker::publish::DEFAULT_KEEP_DAYS;
use crate::domain::key::PublicKey;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For reading.
    Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub(super) issuer: String,
    pub(super) listen: String,
    #[serde(default)]
    pub(super) dev: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Proxy {
    pub(super) behind: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Store {
    pub(super) data_dir: PathBuf,
    pub(super) head_file: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RulePaths {
    pub(super) catalog: PathBuf,
    pub(super) policy: OneOrMore,
    pub(super) directory: PathBuf,
    pub(super) guardrails: PathBuf,
}

/// A directory, a file, or a list of them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMore {
    One(PathBuf),
    More(Vec<PathBuf>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Issuer {
    pub(super) issuer: String,
    pub(super) audience: Option<String>,
    pub(super) jwks_url: Option<String>,
    pub(super) jwks_file: Option<PathBuf>,
    pub(super) algorithms: Vec<jsonwebtoken::Algorithm>,
    #[serde(default = "an_hour")]
    pub(super) longest_life_seconds: i64,
    #[serde(default = "five_minutes")]
    pub(super) ttl_seconds: i64,
    #[serde(default = "an_hour")]
    pub(super) max_age_seconds: i64,
}

fn an_hour() -> i64 {
    3_600
}

fn five_minutes() -> i64 {
    300
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resource {
    pub(super) audience: String,
    pub(super) keys: Vec<PublicKey>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Aws {
    pub(super) region: String,
    pub(super) mint_profile: Option<String>,
    pub(super) revoke_profile: Option<String>,
    pub(super) probe_profile: Option<String>,
    pub(super) doctor_profile: Option<String>,
    #[serde(default)]
    pub(super) accounts: Vec<AwsAccount>,
    #[serde(default)]
    pub(super) allow_endpoints: Vec<String>,
    pub(super) sts_endpoint: Option<String>,
    pub(super) iam_endpoint: Option<String>,
    pub(super) ec2_endpoint: Option<String>,
    pub(super) probe_endpoint: Option<String>,
    pub(super) cloudtrail_endpoint: Option<String>,
    pub(super) web_identity: Option<WebIdentity>,
    #[serde(default = "twenty")]
    pub(super) sts_calls_per_second: u32,
    #[serde(default = "forty")]
    pub(super) sts_burst: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AwsAccount {
    pub(super) account: String,
    pub(super) revoke_profile: String,
    pub(super) mint_profile: Option<String>,
    pub(super) doctor_profile: Option<String>,
    pub(super) region: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WebIdentity {
    pub(super) countersigner: String,
    pub(super) key: PathBuf,
    pub(super) ca: Option<PathBuf>,
}

fn twenty() -> u32 {
    20
}

fn forty() -> u32 {
    40
}

/// Where `audit reconcile` finds the records of the trail.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reconcile {
    /// Profile of the AWS configuration files that may read the bucket.
    pub profile: Option<String>,
    /// Region of the bucket.
    pub region: Option<String>,
    /// The bucket.
    pub bucket: Option<String>,
    /// What the keys of its log files begin with.
    pub prefix: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Ledger {
    pub(super) name: Option<String>,
    pub(super) keep_days: u32,
    pub(super) witnesses_needed: usize,
    pub(super) witness_max_age_seconds: i64,
    pub(super) witnesses: Vec<Witness>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            name: None,
            keep_days: DEFAULT_KEEP_DAYS,
            witnesses_needed: 0,
            witness_max_age_seconds: an_hour(),
            witnesses: Vec::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Witness {
    pub(super) url: String,
    pub(super) key: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tokens {
    pub(super) decide_seconds: u32,
    pub(super) reply_seconds: u32,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { decide_seconds: 300, reply_seconds: 60 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) connections: usize,
    pub(super) connections_per_peer: usize,
    pub(super) body_bytes: usize,
    pub(super) header_seconds: u64,
    pub(super) body_seconds: u64,
    pub(super) idle_seconds: u64,
    pub(super) drain_seconds: u64,
    pub(super) open_per_agent: usize,
    pub(super) open_in_all: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_024,
            connections_per_peer: 256,
            body_bytes: 65_536,
            header_seconds: 5,
            body_seconds: 10,
            idle_seconds: 30,
            drain_seconds: 20,
            open_per_agent: 20,
            open_in_all: 10_000,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OnEvent {
    pub(super) webhook: Option<String>,
    pub(super) command: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub(super) format: LogFormat,
    pub(super) level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Json, level: "info".into() }
    }
}
