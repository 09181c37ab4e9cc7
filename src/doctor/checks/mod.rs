//! The checks, each a function over what was expected and what was read.

mod becomes;
mod boundary;
mod broker;
mod identity;
mod managed;
mod place;
mod role;
mod trail;
mod trust;

pub(super) use broker::{minter, revoker};
pub(super) use identity::identities;
pub(super) use place::{clock, endpoints};
pub(super) use role::role;
pub(super) use trail::trail;

use super::finding::{Finding, Severity};

/// What puts a role, a policy or a boundary right that was changed by hand.
const APPLY: &str = "print the ceilings and apply again: `phasebroker aws ceiling --config FILE --out ceilings.json`, then \
                     `terraform apply` (terraform/modules/aws; in a further account terraform/modules/target-account)";
/// How many of a kind a finding names.
const NAMED: usize = 4;

/// What one check says of one subject.
struct Says<'a> {
    check: &'static str,
    subject: &'a str,
    findings: &'a mut Vec<Finding>,
}

impl<'a> Says<'a> {
    fn about(check: &'static str, subject: &'a str, findings: &'a mut Vec<Finding>) -> Self {
        Self { check, subject, findings }
    }

    fn say(
        &mut self,
        severity: Severity,
        what: impl Into<String>,
        evidence: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.findings.push(Finding {
            severity,
            check: self.check,
            account: None,
            subject: self.subject.to_owned(),
            what: what.into(),
            evidence: evidence.into(),
            fix: fix.into(),
        });
    }

    fn error(&mut self, what: impl Into<String>, evidence: impl Into<String>, fix: impl Into<String>) {
        self.say(Severity::Error, what, evidence, fix);
    }

    fn warning(&mut self, what: impl Into<String>, evidence: impl Into<String>, fix: impl Into<String>) {
        self.say(Severity::Warning, what, evidence, fix);
    }

    /// INVARIANT: unknown-is-no.
    fn unknown(&mut self, what: impl Into<String>, why: &str) {
        self.say(Severity::CouldNotCheck, what, why, ALLOW_READING);
    }
}

const ALLOW_READING: &str = "let doctor read it: name the role `doctor_arn` of terraform/modules/aws (in a further account of \
                             terraform/modules/target-account) as `aws.doctor_profile`; if AWS throttled or was slow, run \
                             doctor again";

/// The first few of many, and how many more there are.
fn few(all: &[String]) -> String {
    let shown = all.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
