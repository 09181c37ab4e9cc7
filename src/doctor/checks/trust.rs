//! Who may assume a phase role: the minter alone, and only as the broker does it. Whatever is broader than what
//! `terraform/modules/policies` makes is named, whoever wrote it.

use serde_json::Value;

use super::super::expected::ExpectedRole;
use super::super::policy::{Condition, Policy, Statement};
use super::super::seen::{RoleSeen, Seen};
use super::{APPLY, Says};

/// A ULID.
const ULID: &str = "??????????????????????????";
const ACTIONS: [&str; 3] = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"];

/// Judges the trust policy of one role.
pub(super) fn trust(expected: &ExpectedRole, role: &RoleSeen, seen: &Seen, says: &mut Says<'_>) {
    let read = |at: &str| format!("iam:GetRole {}: AssumeRolePolicyDocument{at}", expected.role_name());
    let policy = match Policy::parse(&role.trust) {
        Ok(policy) => policy,
        Err(why) => {
            return says.error(
                "has a trust policy that cannot be understood, so that nobody knows who may assume it",
                read(&format!(" {why}")),
                APPLY,
            );
        }
    };
    for statement in policy.allows() {
        let at = |what: String| read(&format!(".Statement[{}]{what}", statement.at));
        if let Some(principal) = &statement.principal {
            if !is_minter(principal, seen) {
                says.error(
                    match seen.mint.seen() {
                        Some(_) => "may be assumed by somebody else than the minter",
                        None => "may be assumed by somebody, and who the minter is could not be read",
                    },
                    at(format!(".{} = {}", principal.0, principal.1)),
                    APPLY,
                );
            }
        } else {
            says.error("has a trust statement without a principal", at(String::new()), APPLY);
        }
        if statement.actions.not || !statement.actions.patterns.iter().all(|action| is_one_of_ours(action)) {
            let element = if statement.actions.not { "NotAction" } else { "Action" };
            says.error(
                "trusts for more than assuming, tagging and naming a session",
                at(format!(".{element} = {:?}", statement.actions.patterns)),
                APPLY,
            );
        }
        for action in ACTIONS.into_iter().filter(|action| statement.actions.names_action(action)) {
            for missing in needed(expected, action).iter().filter(|needed| !meets(statement, needed)) {
                says.error(
                    format!("lets the minter call {action} without {}", meaning(missing)),
                    at(format!(
                        ".Condition has no {} {} {:?} (nor a narrower one)",
                        missing.operator, missing.key, missing.values
                    )),
                    APPLY,
                );
            }
        }
    }
    for action in ACTIONS {
        if !policy.allows().any(|statement| statement.actions.names_action(action)) {
            says.error(format!("gives nobody {action}: nothing can be minted from it"), read(""), APPLY);
        }
    }
    for statement in policy.denies() {
        says.say(
            super::Severity::Note,
            "has a Deny in its trust policy that Terraform does not make: a mint may be refused",
            read(&format!(".Statement[{}]", statement.at)),
            APPLY,
        );
    }
}

/// What the broker always sends with an action, and the role therefore asks for. The Terraform module has the same.
fn needed(role: &ExpectedRole, action: &str) -> Vec<Condition> {
    let source = if role.phase == "observe" { "?*" } else { ULID };
    let grant = if role.phase == "observe" { "none" } else { ULID };
    let tags =
        Condition::new("ForAllValues:StringEquals", "aws:TagKeys", &["agent", "grant", "lease", "phase"]);
    let phase = Condition::new("StringEquals", "aws:RequestTag/phase", &[role.phase]);
    let lease = Condition::new("StringLike", "aws:RequestTag/lease", &[ULID]);
    let named = Condition::new("StringLike", "sts:SourceIdentity", &[source]);
    let alone = Condition::new("Null", "sts:TransitiveTagKeys", &["true"]);
    match action {
        "sts:AssumeRole" => {
            let mut all = vec![
                phase,
                Condition::new("StringLike", "sts:RoleSessionName", &[&format!("{}-{ULID}", role.phase)]),
                named,
                lease,
                Condition::new("StringLike", "aws:RequestTag/agent", &["?*"]),
                Condition::new("StringLike", "aws:RequestTag/grant", &[grant]),
                tags,
                alone,
            ];
            all.extend(
                role.external_id.as_deref().map(|id| Condition::new("StringEquals", "sts:ExternalId", &[id])),
            );
            all
        }
        "sts:TagSession" => vec![phase, lease, tags, alone],
        _ => vec![named],
    }
}

fn meaning(condition: &Condition) -> String {
    match condition.key.as_str() {
        "sts:SourceIdentity" => "a source identity".to_owned(),
        "sts:RoleSessionName" => "the broker's session name".to_owned(),
        "sts:ExternalId" => "the external id of the catalog".to_owned(),
        "aws:TagKeys" => "keeping to the four tags of a session".to_owned(),
        "sts:TransitiveTagKeys" => "keeping its tags out of further sessions".to_owned(),
        other => format!("the session tag `{}` of this role", other.trim_start_matches("aws:RequestTag/")),
    }
}

fn meets(statement: &Statement, needed: &Condition) -> bool {
    statement.conditions.iter().any(|given| given.implies(needed))
}

fn is_one_of_ours(action: &str) -> bool {
    ACTIONS.iter().any(|ours| ours.eq_ignore_ascii_case(action))
}

/// Whether `{"AWS": <the minter's role, exactly>}`.
fn is_minter((element, principal): &(String, Value), seen: &Seen) -> bool {
    let Some(members) = principal.as_object().filter(|members| element == "Principal" && members.len() == 1)
    else {
        return false;
    };
    let named = match members.get("AWS") {
        Some(Value::String(arn)) => arn,
        Some(Value::Array(all)) => match all.as_slice() {
            [Value::String(arn)] => arn,
            _ => return false,
        },
        _ => return false,
    };
    match (seen.minter.seen(), seen.mint.seen()) {
        (Some(minter), _) => *named == minter.arn,
        (None, Some(mint)) => mint.is_of(named),
        (None, None) => false,
    }
}
