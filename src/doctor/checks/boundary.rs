//! The permission boundary of a phase role: no wider than the catalog's ceiling, and with every Deny.

use super::super::expected::{Expected, ExpectedRole};
use super::super::globs::covers_action;
use super::super::policy::{Condition, Policy, Statement};
use super::super::seen::{Read, RoleSeen, Seen};
use super::{APPLY, Says, few};
use crate::catalog::ALWAYS_DENIED;

/// Judges the boundary of one role; gives it where it was read.
pub(super) fn boundary(
    expected: &ExpectedRole,
    all: &Expected,
    role: &RoleSeen,
    seen: &Seen,
    says: &mut Says<'_>,
) -> Option<Policy> {
    let Some(attached) = &role.boundary else {
        says.error(
            "has no permission boundary: whoever writes a policy into the role widens it without limit",
            format!("iam:GetRole {}: no PermissionsBoundary", expected.role_name()),
            APPLY,
        );
        return None;
    };
    let read = format!("iam:GetPolicyVersion {}", attached.name);
    let text = match &attached.text {
        Read::Seen(text) => text,
        Read::Absent => {
            says.error("has a permission boundary that does not exist", read, APPLY);
            return None;
        }
        Read::Unreadable(why) => {
            says.unknown("what its permission boundary says", why);
            return None;
        }
    };
    let policy = match Policy::parse(text) {
        Ok(policy) => policy,
        Err(why) => {
            says.error("has a permission boundary that cannot be understood", format!("{read} {why}"), APPLY);
            return None;
        }
    };
    allows(expected, &policy, &read, says);
    denies(expected, all, seen, &policy, &read, says);
    Some(policy)
}

fn allows(expected: &ExpectedRole, policy: &Policy, read: &str, says: &mut Says<'_>) {
    let nothing = Policy { statements: Vec::new() };
    let ceiling = expected.ceiling.as_ref().unwrap_or(&nothing);
    let beyond: Vec<String> = policy.beyond(ceiling);
    if !beyond.is_empty() {
        says.error(
            "has a permission boundary that is wider than the catalog's ceiling",
            format!("{read}: {}", few(&beyond)),
            APPLY,
        );
    }
    let missing = ceiling.beyond(policy);
    if !missing.is_empty() {
        says.warning(
            "has a permission boundary that is narrower than the catalog: AWS will refuse what people sign",
            format!("{read} does not allow {}", few(&missing)),
            APPLY,
        );
    }
}

fn denies(
    expected: &ExpectedRole,
    all: &Expected,
    seen: &Seen,
    policy: &Policy,
    read: &str,
    says: &mut Says<'_>,
) {
    let has = |wanted: &dyn Fn(&Statement) -> bool| policy.denies().any(wanted);
    let actions = expected.actions();
    if actions.is_empty() {
        if !has(&|statement| statement.denies_all() && statement.conditions.is_empty()) {
            says.error(
                "has nothing to do by the catalog, and its permission boundary does not deny everything",
                format!("{read}: no Deny of `*` on `*`"),
                APPLY,
            );
        }
        return;
    }
    let mut missing = |what: &str, deny: String| {
        says.error(
            format!("has a permission boundary without the Deny of {what}"),
            format!("{read}: no {deny}"),
            APPLY,
        );
    };
    if !has(&|statement| outside(statement, &actions)) {
        missing(
            "everything outside the ceiling, which also beats policies of resources",
            "Deny with `NotAction` = the actions of the ceiling, on `*`".to_owned(),
        );
    }
    let iam: &[&str] = if expected.kind.starts_with("execute") { &["iam:*"] } else { &[] };
    let open: Vec<String> = ALWAYS_DENIED
        .iter()
        .chain(iam)
        .filter(|denied| !has(&|statement| always(statement, denied)))
        .map(|denied| format!("`{denied}`"))
        .collect();
    if !open.is_empty() {
        missing("what nothing in a catalog opens", format!("Deny of {}", few(&open)));
    }
    let conditions = [
        ("sessions without a lease", Condition::new("Null", "aws:PrincipalTag/lease", &["true"]), true),
        (
            "sessions of another phase",
            Condition::new("StringNotEquals", "aws:PrincipalTag/phase", &[expected.phase]),
            true,
        ),
        (
            "what carries our tag",
            Condition::new("StringEquals", "aws:ResourceTag/phasebroker", &["control"]),
            // Observing changes nothing, and may look at what is ours.
            expected.kind != "observe",
        ),
    ];
    for (what, condition, _) in conditions.iter().filter(|(_, _, wanted)| *wanted) {
        if !has(&|statement| statement.denies_all() && only(statement, condition)) {
            missing(
                what,
                format!("Deny of `*` when {} {} {:?}", condition.operator, condition.key, condition.values),
            );
        }
    }
    if expected.kind != "observe" {
        let open: Vec<String> = ours(expected, all, seen)
            .into_iter()
            .filter(|arn| {
                !has(&|statement| {
                    statement.conditions.is_empty()
                        && !statement.actions.not
                        && statement.actions.names_action("*")
                        && statement.resources.as_ref().is_some_and(|listed| listed.names(arn))
                })
            })
            .map(|arn| format!("`{arn}`"))
            .collect();
        if !open.is_empty() {
            missing("what is ours", format!("Deny of `*` on {}", few(&open)));
        }
    }
}

/// Whether this denies whatever the ceiling does not name.
fn outside(statement: &Statement, actions: &[String]) -> bool {
    let within = |named: &String| actions.iter().any(|action| covers_action(action, named));
    statement.actions.not
        && statement.actions.patterns.iter().all(within)
        && statement.conditions.is_empty()
        && on_everything(statement)
}

fn always(statement: &Statement, denied: &str) -> bool {
    !statement.actions.not
        && statement.actions.names_action(denied)
        && statement.conditions.is_empty()
        && on_everything(statement)
}

fn on_everything(statement: &Statement) -> bool {
    statement
        .resources
        .as_ref()
        .is_some_and(|listed| !listed.not && listed.patterns.iter().any(|pattern| pattern == "*"))
}

/// Whether this is the statement's one condition: with a second one it would deny less.
fn only(statement: &Statement, condition: &Condition) -> bool {
    matches!(statement.conditions.as_slice(), [one] if one.is_same(condition))
}

/// ARNs of ours in this account, and what the operator protects.
fn ours(expected: &ExpectedRole, all: &Expected, seen: &Seen) -> Vec<String> {
    let mut arns: Vec<String> = all.roles.iter().map(|role| role.arn.clone()).collect();
    arns.extend(all.roles.iter().filter_map(|role| Some(role.provider()?.0)));
    arns.extend(seen.minter.name().map(str::to_owned));
    arns.extend(seen.revoker.name().map(str::to_owned));
    for named in &all.roles {
        let Some(role) = seen.roles.get(&named.arn).and_then(Read::seen) else { continue };
        arns.extend(role.boundary.as_ref().map(|boundary| boundary.name.clone()));
        // What somebody else attached is told of by itself.
        let own = format!("{}-ceiling", named.name);
        let attached = role.attached.seen().into_iter().flatten().map(|document| &document.name);
        arns.extend(attached.filter(|arn| arn.ends_with(&own)).cloned());
    }
    // What another account owns, or AWS itself, is out of a session's reach anyway.
    arns.retain(|arn| arn.split(':').nth(4) == Some(expected.account.as_str()));
    arns.extend(expected.protected.iter().cloned());
    arns.sort();
    arns.dedup();
    arns
}
