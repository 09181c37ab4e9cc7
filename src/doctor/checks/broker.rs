//! The broker's two identities: the minter assumes phase roles and writes nothing, the revoker writes their Deny and
//! assumes nothing, and neither touches a boundary. Asked of IAM's own simulation where that is allowed, and of their
//! policies in any case.

use super::super::expected::Expected;
use super::super::finding::{Finding, Severity};
use super::super::policy::{Condition, Listed, Policy, Statement};
use super::super::questions::{Question, of_minter, of_revoker};
use super::super::seen::{Answers, Read, RoleSeen, Seen};
use super::becomes::{abroad, becomes};
use super::{APPLY, Says, few};

const MINT: [&str; 3] = ["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"];
/// What it may know of keys.
const KNOW: [&str; 2] = ["kms:DescribeKey", "kms:GetPublicKey"];

/// Checks the minter.
pub(in crate::doctor) fn minter(expected: &Expected, seen: &Seen, findings: &mut Vec<Finding>) {
    let mut says = Says::about("minter", "minter", findings);
    let minted = expected.every_role.iter().filter(|arn| !expected.by_token.contains(*arn));
    let roles: Vec<&str> = minted.map(String::as_str).collect();
    // Signing is granted by a key's own policy; a grant of its own names the one key, or it is one for every key that
    // leaves its use to IAM.
    let held = held(&seen.minter);
    let keys: Vec<&str> =
        named_for(&held, "kms:Sign").filter(|arn| arn.contains(":kms:") && arn.contains(":key/")).collect();
    let part = Policy {
        statements: vec![
            allow(&MINT, &roles, Vec::new()),
            allow(&KNOW, &["*"], Vec::new()),
            allow(&["kms:Sign"], &keys, Vec::new()),
        ],
    };
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
    // It becomes the revoker of a further account, and nobody else there: what is known of those is who the profiles of
    // `[[aws.accounts]]` are.
    let held = held(&seen.revoker);
    let mut further = Vec::new();
    for arn in named_for(&held, "sts:AssumeRole") {
        let there = seen.further.iter().find(|abroad| arn.split(':').nth(4) == Some(&abroad.account));
        match there {
            Some(abroad) if abroad.is(arn) => further.push(arn),
            Some(abroad) if abroad.caller.seen().is_none() => {
                let why = abroad.caller.unreadable().unwrap_or("sts:GetCallerIdentity named nobody");
                says.unknown(
                    format!(
                        "whether `{arn}`, which it may become, is the revoker of account {}",
                        abroad.account
                    ),
                    why,
                );
                further.push(arn);
            }
            // One that is the configuration's, and of which nobody asked.
            None if expected.elsewhere.iter().any(|account| arn.split(':').nth(4) == Some(account)) => {
                says.say(
                    Severity::Note,
                    format!("may become `{arn}`: whether that is the revoker there was not looked at"),
                    "nothing of that account of `[[aws.accounts]]` was read, since no environment of it was asked for",
                    "run `phasebroker doctor` without --environment, or with one of that account",
                );
                further.push(arn);
            }
            _ => {}
        }
    }
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
    if let (Some(home), Some(role)) = (&seen.home, seen.revoker.seen()) {
        let mut ids: Vec<&str> =
            expected.roles.iter().filter_map(|role| role.external_id.as_deref()).collect();
        ids.sort_unstable();
        ids.dedup();
        abroad(role, home, &ids, &mut says);
    }
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

/// What an identity's policies say, as far as they were read.
fn held(role: &Read<RoleSeen>) -> Vec<Policy> {
    role.seen().map(|role| policies(role).0).unwrap_or_default()
}

/// The exact resources on which policies allow an action by name.
fn named_for<'a>(held: &'a [Policy], action: &'a str) -> impl Iterator<Item = &'a str> {
    held.iter()
        .flat_map(Policy::allows)
        .filter(|statement| !statement.actions.not && statement.actions.names_action(action))
        .flat_map(|statement| statement.resources.iter().filter(|listed| !listed.not))
        .flat_map(|listed| listed.patterns.iter().map(String::as_str))
        .filter(|arn| !arn.contains(['*', '?']))
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
