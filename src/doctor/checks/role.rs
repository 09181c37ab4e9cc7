//! One phase role, whole: it exists, is trusted, bounded and filled as the catalog needs it, and nothing more.

use super::super::expected::{Expected, ExpectedRole};
use super::super::finding::Finding;
use super::super::seen::{Read, RoleSeen, Seen};
use super::{APPLY, Says, boundary, managed, trust};

/// The shortest limit on sessions that AWS takes, seconds.
const SESSION_SECONDS: i32 = 3_600;

/// Checks one role.
pub(in crate::doctor) fn role(
    expected: &ExpectedRole,
    all: &Expected,
    seen: &Seen,
    findings: &mut Vec<Finding>,
) {
    let read = format!("iam:GetRole {}", expected.role_name());
    let subject = expected.name.as_str();
    let role = match seen.roles.get(&expected.arn) {
        Some(Read::Seen(role)) => role,
        Some(Read::Absent) => {
            return Says::about("role", subject, findings).error(
                format!("`{}` does not exist: nothing of this environment can be minted", expected.arn),
                format!("{read}: NoSuchEntity"),
                APPLY,
            );
        }
        Some(Read::Unreadable(why)) => {
            return Says::about("role", subject, findings).unknown("the role", why);
        }
        None => return Says::about("role", subject, findings).unknown("the role", "it was not read"),
    };
    if role.arn != expected.arn {
        Says::about("role", subject, findings).error(
            "is named by the catalog with another path, or belongs to another account",
            format!("{read}: `{}`, and the catalog names `{}`", role.arn, expected.arn),
            "write the role into the catalog as it is, or apply Terraform with the right provider",
        );
    }
    trust::trust(expected, role, seen, &mut Says::about("trust", subject, findings));
    let bounded =
        boundary::boundary(expected, all, role, seen, &mut Says::about("boundary", subject, findings));
    managed::attached(expected, role, &mut Says::about("ceiling", subject, findings));
    managed::inline(role, &mut Says::about("inline", subject, findings));
    if expected.kind == "observe" {
        managed::observing(all, role, bounded.as_ref(), &mut Says::about("observe", subject, findings));
    }
    limits(role, &read, subject, findings);
}

fn limits(role: &RoleSeen, read: &str, subject: &str, findings: &mut Vec<Finding>) {
    if role.max_session_seconds > SESSION_SECONDS {
        Says::about("session", subject, findings).warning(
            format!("gives sessions of up to {} s to whoever holds the minter", role.max_session_seconds),
            format!("{read}: MaxSessionDuration = {}", role.max_session_seconds),
            "leave `max_session_seconds` of terraform/modules/policies at 3600, and apply",
        );
    }
    if role.tags.get("phasebroker").map(String::as_str) != Some("control") {
        Says::about("tags", subject, findings).warning(
            "does not carry the tag by which the boundaries deny what is ours",
            format!("{read}: Tags without phasebroker = control"),
            APPLY,
        );
    }
}
