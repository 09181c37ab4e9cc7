//! The broker's two identities: the minter assumes phase roles and writes nothing, the revoker writes their Deny and
//! assumes nothing, and neither touches a boundary. Asked of IAM's own simulation where that is allowed, and of their
//! policies in any case.

use serde_json::Value;

use super::super::expected::Expected;
use super::super::finding::Finding;
use super::super::policy::{Condition, Listed, Policy, Statement};
use super::super::questions::{Question, of_minter, of_revoker};
use super::super::seen::{Answers, Read, RoleSeen, Seen};
use super::{APPLY, Says, few};

const MINT: [&str; 3] = ["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"];
/// Signing is granted by the key's own policy.
const SIGN: [&str; 3] = ["kms:DescribeKey", "kms:GetPublicKey", "kms:Sign"];

/// Checks the minter.
pub(in crate::doctor) fn minter(expected: &Expected, seen: &Seen, findings: &mut Vec<Finding>) {
    let mut says = Says::about("minter", "minter", findings);
    let roles: Vec<&str> = expected.every_role.iter().map(String::as_str).collect();
    let part =
        Policy { statements: vec![allow(&MINT, &roles, Vec::new()), allow(&SIGN, &["*"], Vec::new())] };
    let questions = of_minter(expected, seen);
    examine("assume the phase roles", &part, &questions, &seen.minter, &seen.minter_answers, &mut says);
}

/// Checks the revoker.
pub(in crate::doctor) fn revoker(expected: &Expected, seen: &Seen, findings: &mut Vec<Finding>) {
    let mut says = Says::about("revoker", "revoker", findings);
    let account = seen.revoke.seen().map(|revoke| revoke.account.clone()).unwrap_or_default();
    let own = |arn: &&String| arn.split(':').nth(4) == Some(account.as_str());
    let roles: Vec<&str> = expected.every_role.iter().filter(own).map(String::as_str).collect();
    let bounded =
        Condition::new("StringLike", "iam:PermissionsBoundary", &[&format!("arn:*:iam::{account}:policy/*")]);
    let mut statements = vec![
        allow(&["iam:GetRolePolicy"], &roles, Vec::new()),
        allow(&["iam:DeleteRolePolicy", "iam:PutRolePolicy"], &roles, vec![bounded]),
    ];
    // In a further account it becomes that account's own revoker.
    let held = seen.revoker.seen().map(|role| policies(role).0).unwrap_or_default();
    let further: Vec<&str> = held
        .iter()
        .flat_map(Policy::allows)
        .filter(|statement| statement.actions.patterns == ["sts:AssumeRole"])
        .flat_map(|statement| statement.resources.iter().filter(|listed| !listed.not))
        .flat_map(|listed| listed.patterns.iter().map(String::as_str))
        .filter(|arn| !arn.contains(['*', '?']) && arn.split(':').nth(4) != Some(account.as_str()))
        .filter(|arn| !expected.every_role.iter().any(|role| role == arn))
        .collect();
    statements.push(allow(&["sts:AssumeRole"], &further, Vec::new()));
    let part = Policy { statements };
    let questions = of_revoker(expected, seen);
    examine(
        "write the Deny of phase roles",
        &part,
        &questions,
        &seen.revoker,
        &seen.revoker_answers,
        &mut says,
    );
}

fn examine(
    part: &str,
    ceiling: &Policy,
    questions: &[Question],
    role: &Read<RoleSeen>,
    answers: &Answers,
    says: &mut Says<'_>,
) {
    let simulated = answers.seen().filter(|answers| answers.len() == questions.len());
    let role = match role {
        Read::Seen(role) => Some(role),
        Read::Absent => {
            says.error(
                "has a role that does not exist any more",
                "iam:GetRole: NoSuchEntity",
                "let the profile assume the role that terraform/modules/aws makes",
            );
            None
        }
        Read::Unreadable(why) => {
            says.unknown("the role of this identity, and what it may do", why);
            None
        }
    };
    let (held, mut whole) = role.map(policies).unwrap_or_default();
    if let Some(role) = role {
        becomes(role, says);
        for why in unread(role) {
            whole = false;
            says.unknown("what all of its policies say", &why);
        }
        let held: Vec<&Policy> = held.iter().collect();
        let beyond = Policy::excess(&held, ceiling);
        if !beyond.is_empty() {
            says.error(
                format!("may do more than {part}"),
                format!(
                    "its policies (iam:ListAttachedRolePolicies, iam:ListRolePolicies {}) allow {}",
                    role.arn,
                    few(&beyond)
                ),
                APPLY,
            );
        }
    }
    let held: Vec<&Policy> = held.iter().collect();
    let (source, given): (&str, Vec<bool>) = match simulated {
        Some(answers) => ("iam:SimulatePrincipalPolicy", answers.clone()),
        None if whole && role.is_some() => (
            "its policies, since nothing was simulated",
            questions.iter().map(|one| one.of_policies(&held)).collect(),
        ),
        None => {
            let why = answers.unreadable().unwrap_or("nothing was simulated");
            return says.unknown("what it may do, neither by simulation nor by its policies", why);
        }
    };
    let wrong = |allowed: bool| -> Vec<String> {
        let asked = questions.iter().zip(&given);
        let wrong = asked.filter(|(question, given)| question.allowed == allowed && **given != allowed);
        wrong.map(|(question, _)| format!("{} on `{}`", question.action, question.resource)).collect()
    };
    let (cannot, can) = (wrong(true), wrong(false));
    if !can.is_empty() {
        says.error(
            format!("may do what is not its part ({part})"),
            format!("{source}: allowed is {}", few(&can)),
            APPLY,
        );
    }
    if !cannot.is_empty() {
        says.error(format!("cannot {part}"), format!("{source}: denied is {}", few(&cannot)), APPLY);
    }
}

/// Who becomes this identity: named roles, never an account or everybody.
fn becomes(role: &RoleSeen, says: &mut Says<'_>) {
    let Ok(policy) = Policy::parse(&role.trust) else {
        return says.error(
            "has a trust policy that cannot be understood",
            format!("iam:GetRole {}", role.arn),
            APPLY,
        );
    };
    for statement in policy.allows() {
        let wide = match &statement.principal {
            Some((element, principal)) => element != "Principal" || is_wide(principal),
            None => true,
        };
        if wide {
            let told = statement
                .principal
                .as_ref()
                .map_or_else(String::new, |(element, value)| format!(".{element} = {value}"));
            says.error(
                "may be assumed by everybody, or by a whole account",
                format!("iam:GetRole {}: AssumeRolePolicyDocument.Statement[{}]{told}", role.arn, statement.at),
                "name the role of the broker's host in `broker_principals` of terraform/modules/aws, and apply",
            );
        }
    }
}

fn is_wide(principal: &Value) -> bool {
    let account =
        |arn: &str| arn.contains('*') || arn.ends_with(":root") || arn.bytes().all(|b| b.is_ascii_digit());
    match principal {
        Value::String(everybody) => account(everybody),
        Value::Array(all) => all.iter().any(is_wide),
        // A service or an identity provider acts for whoever it likes: instances and workloads are meant to.
        Value::Object(members) => members.get("AWS").is_some_and(is_wide),
        _ => true,
    }
}

fn policies(role: &RoleSeen) -> (Vec<Policy>, bool) {
    let documents = role.attached.seen().into_iter().chain(role.inline.seen()).flatten();
    let read: Vec<Option<Policy>> =
        documents.map(|document| Policy::parse(document.text.seen()?).ok()).collect();
    let whole =
        read.iter().all(Option::is_some) && role.attached.seen().is_some() && role.inline.seen().is_some();
    (read.into_iter().flatten().collect(), whole)
}

/// Why some of its policies were not understood.
fn unread(role: &RoleSeen) -> Vec<String> {
    let lists =
        [role.attached.unreadable(), role.inline.unreadable()].into_iter().flatten().map(str::to_owned);
    let documents = role.attached.seen().into_iter().chain(role.inline.seen()).flatten();
    let texts = documents.filter_map(|document| match &document.text {
        Read::Seen(text) => Policy::parse(text).err().map(|why| format!("`{}` {why}", document.name)),
        Read::Absent => Some(format!("`{}` is gone", document.name)),
        Read::Unreadable(why) => Some(why.clone()),
    });
    lists.chain(texts).collect()
}

fn allow(actions: &[&str], resources: &[&str], conditions: Vec<Condition>) -> Statement {
    let listed =
        |all: &[&str]| Listed { not: false, patterns: all.iter().map(|one| (*one).to_owned()).collect() };
    Statement {
        at: 0,
        allow: true,
        principal: None,
        actions: listed(actions),
        resources: Some(listed(resources)),
        conditions,
    }
}
