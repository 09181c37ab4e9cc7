//! What doctor says: each finding with its severity, what was read, and the way to put it right.

use std::collections::BTreeSet;

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
    /// The account, where it is not the broker's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
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
    pub(super) fn of(
        mut findings: Vec<Finding>,
        expected: &Expected,
        seen: &Seen,
        further: &[(Expected, Seen)],
    ) -> Self {
        findings.sort_by_key(|finding| finding.severity);
        let mut looked_at = looked_at(expected, seen);
        for (expected, seen) in further {
            let account = expected.account.as_deref().unwrap_or_default();
            looked_at.push(format!("account {account}, read as {}", reader(seen)));
            looked_at.extend(self::looked_at(expected, seen));
        }
        let mut unseen =
            vec![resource_policies(std::iter::once(expected).chain(further.iter().map(|(one, _)| one)))];
        unseen.extend(UNSEEN.iter().map(|text| (*text).to_owned()));
        unseen.extend(expected.left_out.iter().cloned());
        let tokens = std::iter::once(expected).chain(further.iter().map(|(one, _)| one));
        if tokens.flat_map(|one| &one.roles).any(|role| role.tokens.is_some()) {
            unseen.push(
                "the identity providers whose tokens roles trust, and who can write what AWS reads under their URL: whoever can \
                 makes another key count"
                    .to_owned(),
            );
        }
        if expected.roles.is_empty() {
            unseen
                .push("the trail of the broker's own account: no environment there was looked at".to_owned());
        }
        Self {
            version: 1,
            catalog_digest: expected.catalog_digest.clone(),
            read_as: reader(seen),
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

fn reader(seen: &Seen) -> String {
    seen.doctor.seen().map_or_else(|| "nobody".to_owned(), |caller| caller.arn.clone())
}

fn looked_at(expected: &Expected, seen: &Seen) -> Vec<String> {
    let mut all: Vec<String> =
        expected.roles.iter().map(|role| format!("{} ({})", role.name, role.arn)).collect();
    // The broker's minter is looked at where it belongs.
    let minter = seen.minter.name().filter(|_| seen.home.as_ref().is_none_or(|home| !home.mints));
    all.extend(minter.map(|arn| format!("minter ({arn})")));
    all.extend(seen.revoker.name().map(|arn| format!("revoker ({arn})")));
    all.extend(seen.trails.seen().into_iter().flatten().map(|trail| format!("trail ({})", trail.arn)));
    all
}

/// Services whose resources have policies of their own (IAM User Guide, "AWS services that work with IAM").
const WITH_POLICIES: [&str; 22] = [
    "acm-pca",
    "apigateway",
    "backup",
    "codeartifact",
    "codebuild",
    "dynamodb",
    "ecr",
    "elasticfilesystem",
    "es",
    "events",
    "execute-api",
    "glacier",
    "glue",
    "kinesis",
    "kms",
    "lambda",
    "logs",
    "s3",
    "secretsmanager",
    "sns",
    "sqs",
    "ssm",
];

/// What exact scope leaves open (design: "what a resource policy of the account grants to this session or to everyone"), and
/// nobody looks at here.
fn resource_policies<'a>(all: impl Iterator<Item = &'a Expected>) -> String {
    let services: BTreeSet<String> = all.flat_map(Expected::services).collect();
    let named: Vec<&str> =
        services.iter().map(String::as_str).filter(|service| WITH_POLICIES.contains(service)).collect();
    let of = match named.is_empty() {
        true => "no service that sessions may use is known to have them".to_owned(),
        false => format!("of the services that sessions may use, these have them: {}", named.join(", ")),
    };
    format!(
        "policies of resources that name a session of ours, its role, or everybody; none is read ({of}). Within the ceiling such \
         a policy gives a session that it names more than was signed, for as long as the session lives; outside of the ceiling, \
         after the deadline and after the Deny of an early end the explicit Denies beat it. IAM Access Analyzer lists those that \
         it finds"
    )
}

/// What else doctor does not read.
const UNSEEN: [&str; 4] = [
    "service control policies of an organization, but for what a simulation includes",
    "grants of KMS keys, and who may change what is made here (administrators of the account)",
    "the rules that tell people, their topics, and who subscribed; and whether every region that a role may be assumed in has them",
    "whether AWS already enforces what IAM shows: `doctor probe` measures that",
];
