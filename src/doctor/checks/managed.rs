//! What a phase role carries: managed policies within the ceiling, and no inline policy but the broker's own Deny.

use std::collections::BTreeSet;

use super::super::expected::{Expected, ExpectedRole};
use super::super::globs::covers;
use super::super::policy::{Condition, Policy, Statement};
use super::super::seen::{Document, Read, RoleSeen};
use super::{APPLY, Says, few};
use crate::catalog::iam::AccessLevel;

/// The one inline policy that a phase role may carry.
const OURS: &str = "phasebroker-deny";

/// Whether managed policies stay within the ceiling.
pub(super) fn attached(expected: &ExpectedRole, role: &RoleSeen, says: &mut Says<'_>) {
    let documents = match &role.attached {
        Read::Seen(documents) => documents,
        Read::Absent => return says.unknown("its managed policies", "the role is gone"),
        Read::Unreadable(why) => return says.unknown("its managed policies", why),
    };
    let nothing = Policy { statements: Vec::new() };
    let ceiling = expected.ceiling.as_ref().unwrap_or(&nothing);
    let mut all = Policy { statements: Vec::new() };
    let mut whole = true;
    for document in documents {
        let read = format!("iam:GetPolicyVersion {}", document.name);
        let Some(policy) = understood(document, &read, "managed policy", says) else {
            whole = false;
            continue;
        };
        let beyond = policy.beyond(ceiling);
        if !beyond.is_empty() {
            says.error(
                format!(
                    "carries a managed policy that is wider than the catalog's ceiling: `{}`",
                    document.name
                ),
                format!("{read}: {}", few(&beyond)),
                APPLY,
            );
        }
        all.statements.extend(policy.statements);
    }
    let missing = ceiling.beyond(&all);
    if whole && !missing.is_empty() {
        says.warning(
            "carries less than the catalog needs: AWS will refuse what people sign",
            format!(
                "iam:ListAttachedRolePolicies {}: nothing allows {}",
                expected.role_name(),
                few(&missing)
            ),
            APPLY,
        );
    }
}

/// Whether the only inline policy is the broker's Deny, and only denies.
pub(super) fn inline(role: &RoleSeen, says: &mut Says<'_>) {
    let name = role.arn.rsplit('/').next().unwrap_or_default();
    let documents = match &role.inline {
        Read::Seen(documents) => documents,
        Read::Absent => return says.unknown("its inline policies", "the role is gone"),
        Read::Unreadable(why) => return says.unknown("its inline policies", why),
    };
    for document in documents {
        let read = format!("iam:GetRolePolicy {name} {}", document.name);
        let remove = format!("aws iam delete-role-policy --role-name {name} --policy-name {}", document.name);
        if document.name != OURS {
            says.error(
                format!("carries the inline policy `{}`, which the broker did not write", document.name),
                format!("iam:ListRolePolicies {name}: {}", document.name),
                format!("`{remove}`, and see in CloudTrail who wrote it"),
            );
            continue;
        }
        let Some(policy) = understood(document, &read, "inline policy", says) else { continue };
        if let Some(foreign) = policy.statements.iter().find(|statement| !is_deny_of_ours(statement)) {
            says.error(
                format!("carries a `{OURS}` that is not what the broker writes"),
                format!("{read}: Statement[{}]", foreign.at),
                format!(
                    "`{remove}`; the broker writes it again within 30 s while something has to be denied"
                ),
            );
        }
    }
}

/// Whether an observe role can change anything.
pub(super) fn observing(all: &Expected, role: &RoleSeen, boundary: Option<&Policy>, says: &mut Says<'_>) {
    let documents = role.attached.seen().into_iter().chain(role.inline.seen()).flatten();
    let held: Vec<Policy> =
        documents.filter_map(|document| Policy::parse(document.text.seen()?).ok()).collect();
    let actions = match all.table.every() {
        Ok(actions) => actions,
        Err(error) => return says.unknown("whether it can change anything", &error.to_string()),
    };
    let gives = |policy: &Policy, action: &str| {
        policy.allows().any(|statement| statement.actions.names_action(action))
    };
    let takes = |policy: &Policy, action: &str| {
        policy.denies().any(|statement| {
            let everywhere =
                statement.resources.as_ref().is_some_and(|listed| !listed.not && listed.names("*"));
            statement.conditions.is_empty() && everywhere && statement.actions.names_action(action)
        })
    };
    let changing = |level: &AccessLevel| !matches!(level, AccessLevel::Read | AccessLevel::List);
    let given = Given::by(&held);
    let changes: Vec<String> = actions
        .into_iter()
        .filter(|(_, level)| changing(level))
        .map(|(action, _)| action)
        .filter(|action| given.holds(action) && held.iter().any(|policy| gives(policy, action)))
        .filter(|action| boundary.is_none_or(|boundary| gives(boundary, action)))
        .filter(|action| !held.iter().chain(boundary).any(|policy| takes(policy, action)))
        .collect();
    if !changes.is_empty() {
        says.error(
            "is for observing, and can change things",
            format!("its policies and boundary allow {}", few(&changes)),
            APPLY,
        );
    }
}

/// What policies may give, quick to ask of some twenty thousand actions: those named exactly, and whether others are too.
struct Given {
    exact: BTreeSet<String>,
    wild: Vec<String>,
    all_but: bool,
}

impl Given {
    fn by(held: &[Policy]) -> Self {
        let statements = || held.iter().flat_map(Policy::allows);
        let named = statements().filter(|statement| !statement.actions.not);
        let patterns =
            named.flat_map(|statement| statement.actions.patterns.iter().map(|one| one.to_ascii_lowercase()));
        let (wild, exact): (Vec<String>, Vec<String>) =
            patterns.partition(|pattern| pattern.contains(['*', '?']));
        Self {
            exact: exact.into_iter().collect(),
            wild,
            all_but: statements().any(|statement| statement.actions.not),
        }
    }

    fn holds(&self, action: &str) -> bool {
        let action = action.to_ascii_lowercase();
        self.all_but
            || self.exact.contains(&action)
            || self.wild.iter().any(|pattern| covers(pattern, &action))
    }
}

fn understood(document: &Document, read: &str, kind: &str, says: &mut Says<'_>) -> Option<Policy> {
    let text = match &document.text {
        Read::Seen(text) => text,
        Read::Absent => return None,
        Read::Unreadable(why) => {
            says.unknown(format!("what its {kind} `{}` says", document.name), why);
            return None;
        }
    };
    match Policy::parse(text) {
        Ok(policy) => Some(policy),
        Err(why) => {
            says.error(format!("carries a {kind} that cannot be understood"), format!("{read} {why}"), APPLY);
            None
        }
    }
}

/// A Deny of everything: of leases by their tag, or of sessions older than a watermark, but for leases that it spares.
fn is_deny_of_ours(statement: &Statement) -> bool {
    let lease = |condition: &Condition| condition.key == "aws:PrincipalTag/lease";
    let form = match statement.conditions.as_slice() {
        [one] if one.operator == "StringEquals" => lease(one),
        [one] => one.operator == "DateLessThan" && one.key == "aws:TokenIssueTime",
        [one, other] => {
            let date = |c: &Condition| c.operator == "DateLessThan" && c.key == "aws:TokenIssueTime";
            let spared = |c: &Condition| c.operator == "StringNotEquals" && lease(c);
            date(one) && spared(other) || date(other) && spared(one)
        }
        _ => false,
    };
    statement.denies_all() && form
}
