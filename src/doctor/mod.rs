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

pub use expected::{Expected, ExpectedRole};
pub use finding::{Finding, Report, Severity};
pub use policy::{Policy, STATEMENTS_AT_MOST};
pub use questions::{Question, of_minter, of_revoker};
pub use seen::{
    Answers, Caller, DataSelector, Document, Endpoints, ManagementSelector, Read, RoleSeen, Seen, TrailSeen,
};

/// Everything that is wrong, doubtful or unknown.
pub fn examine(expected: &Expected, seen: &Seen) -> Report {
    let mut findings = Vec::new();
    checks::identities(expected, seen, &mut findings);
    checks::endpoints(expected, seen, &mut findings);
    checks::clock(seen, &mut findings);
    for role in &expected.roles {
        checks::role(role, expected, seen, &mut findings);
    }
    checks::minter(expected, seen, &mut findings);
    checks::revoker(expected, seen, &mut findings);
    checks::trail(expected, seen, &mut findings);
    Report::of(findings, expected, seen)
}
