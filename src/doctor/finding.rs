//! What doctor says: each finding with its severity, what was read, and the way to put it right.

use serde::Serialize;

use super::expected::Expected;
use super::seen::Seen;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Somebody can do more than was signed, or the broker cannot work.
    Error,
    /// It could not be read. Never taken for "fine".
    CouldNotCheck,
    /// Not as it is made by the Terraform modules, and weaker for it.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::CouldNotCheck => "could not be checked",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// One thing that is wrong, doubtful or unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// Which check found it, a stable name.
    pub check: &'static str,
    /// The role, identity or trail that it is about.
    pub subject: String,
    /// What is so.
    pub what: String,
    /// What was read: the call and its answer.
    pub evidence: String,
    /// What to do: a command, or what to set in Terraform or the configuration.
    pub fix: String,
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Version of this document.
    pub version: u32,
    /// Digest of the catalog that AWS was compared with.
    pub catalog_digest: String,
    /// Who was asked as.
    pub read_as: String,
    /// What was looked at: roles, identities, trails.
    pub looked_at: Vec<String>,
    /// The worst first.
    pub findings: Vec<Finding>,
    /// What no reading of this kind can see.
    pub unseen: Vec<String>,
}

impl Report {
    pub(super) fn of(mut findings: Vec<Finding>, expected: &Expected, seen: &Seen) -> Self {
        findings.sort_by_key(|finding| finding.severity);
        let mut looked_at: Vec<String> =
            expected.roles.iter().map(|role| format!("{} ({})", role.name, role.arn)).collect();
        looked_at.extend(seen.minter.name().map(|arn| format!("minter ({arn})")));
        looked_at.extend(seen.revoker.name().map(|arn| format!("revoker ({arn})")));
        looked_at
            .extend(seen.trails.seen().into_iter().flatten().map(|trail| format!("trail ({})", trail.arn)));
        let mut unseen: Vec<String> = UNSEEN.iter().map(|text| (*text).to_owned()).collect();
        unseen.extend(expected.left_out.iter().cloned());
        Self {
            version: 1,
            catalog_digest: expected.catalog_digest.clone(),
            read_as: seen.doctor.seen().map_or_else(|| "nobody".to_owned(), |caller| caller.arn.clone()),
            looked_at,
            findings,
            unseen,
        }
    }

    /// The worst severity; `None` when nothing was found.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).min()
    }

    /// How many findings have this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

/// What doctor does not read.
const UNSEEN: [&str; 4] = [
    "policies of resources (buckets, keys, queues, …) that grant to a session by name or to everybody: an explicit Deny of \
     boundary or session beats them for what is outside; IAM Access Analyzer lists them",
    "service control policies of an organization, but for what a simulation includes",
    "grants of KMS keys, and who may change what is made here (administrators of the account)",
    "whether AWS already enforces what IAM shows: `doctor probe` measures that",
];
