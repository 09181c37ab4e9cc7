//! `phasebroker doctor`: whether an AWS account is what a catalog and a broker need, and nothing wider.
//! Pure: what was read stands in [`Seen`], each check is a function over it, and what could not be read is a finding of
//! its own, never "fine". INVARIANT: unknown-is-no.

mod checks;
mod expected;
mod finding;
mod globs;
mod policy;
mod questions;
mod seen;

pub use expected::{Expected, ExpectedRole, FurtherAccount};
pub use finding::{Finding, Report, Severity};
pub use policy::{Policy, STATEMENTS_AT_MOST};
pub use questions::{Question, of_minter, of_revoker};
pub use seen::{
    Abroad, Answers, Caller, DataSelector, Document, Endpoints, Home, ManagementSelector, Read, RoleSeen,
    Seen, TrailSeen,
};

/// Everything that is wrong, doubtful or unknown, in one account.
pub fn examine(expected: &Expected, seen: &Seen) -> Report {
    examine_all(expected, seen, &[])
}

/// The same of the broker's own account and of the further ones, each by itself.
pub fn examine_all(expected: &Expected, seen: &Seen, further: &[(Expected, Seen)]) -> Report {
    let mut findings = of_account(expected, seen);
    for (expected, seen) in further {
        findings.extend(of_account(expected, seen));
    }
    Report::of(findings, expected, seen, further)
}

fn of_account(expected: &Expected, seen: &Seen) -> Vec<Finding> {
    let mut findings = Vec::new();
    checks::identities(expected, seen, &mut findings);
    // These are of the broker's host, whichever account it works in.
    if expected.account.is_none() {
        checks::endpoints(expected, seen, &mut findings);
        checks::clock(seen, &mut findings);
    }
    for role in &expected.roles {
        checks::role(role, expected, seen, &mut findings);
    }
    if seen.home.as_ref().is_none_or(|home| !home.mints) {
        checks::minter(expected, seen, &mut findings);
    }
    checks::revoker(expected, seen, &mut findings);
    if !expected.roles.is_empty() {
        checks::trail(expected, seen, &mut findings);
    }
    for finding in &mut findings {
        finding.account.clone_from(&expected.account);
    }
    findings
}
