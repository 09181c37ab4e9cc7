//! Who may assume a phase role: the minter alone, and only as the broker does it; or, where the approvers' side signs, its
//! tokens alone; and in named regions, which Terraform watches. Whatever is broader than what `terraform/modules/policies`
//! makes is named, whoever wrote it.

use serde_json::Value;

use super::super::expected::ExpectedRole;
use super::super::policy::{Condition, Policy, Statement};
use super::super::seen::{RoleSeen, Seen};
use super::{APPLY, Says};

/// A ULID.
const ULID: &str = "??????????????????????????";
const ACTIONS: [&str; 3] = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"];
const BY_TOKEN: [&str; 3] = ["sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"];
/// The tags of a session by token: those of every session, the action and its parameters.
const TOKEN_TAGS: [&str; 6] = ["agent", "grant", "lease", "phase", "action", "p_*"];

/// Where a session is asked for.
const REGION: &str = "aws:RequestedRegion";

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
    let actions = if expected.tokens.is_some() { BY_TOKEN } else { ACTIONS };
    let [assume, ..] = actions;
    for statement in policy.allows() {
        let at = |what: String| read(&format!(".Statement[{}]{what}", statement.at));
        if let Some(principal) = &statement.principal {
            if let Some((provider, _)) = expected.provider() {
                if alone(principal, "Federated") != Some(provider.as_str()) {
                    says.error(
                        "may be assumed by somebody else than the approvers' side: a broker that is taken over could mint from it",
                        at(format!(".{} = {}, and not {provider}", principal.0, principal.1)),
                        APPLY,
                    );
                }
            } else if !is_minter(principal, seen) {
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
        if statement.actions.not
            || !statement.actions.patterns.iter().all(|action| is_one_of(&actions, action))
        {
            let element = if statement.actions.not { "NotAction" } else { "Action" };
            says.error(
                "trusts for more than assuming, tagging and naming a session",
                at(format!(".{element} = {:?}", statement.actions.patterns)),
                APPLY,
            );
        }
        if statement.actions.names_action(assume) && regions(statement).is_none() {
            says.error(
                format!("lets {assume} be called in any region, also where no rule tells of it"),
                at(format!(".Condition has no StringEquals {REGION}")),
                APPLY,
            );
        }
        for action in actions.into_iter().filter(|action| statement.actions.names_action(action)) {
            for missing in needed(expected, action).iter().filter(|needed| !meets(statement, needed)) {
                says.error(
                    format!("lets {action} be called without {}", meaning(missing)),
                    at(format!(
                        ".Condition has no {} {} {:?} (nor a narrower one)",
                        missing.operator, missing.key, missing.values
                    )),
                    APPLY,
                );
            }
        }
    }
    for action in actions {
        if !policy.allows().any(|statement| statement.actions.names_action(action)) {
            says.error(format!("gives nobody {action}: nothing can be minted from it"), read(""), APPLY);
        }
    }
    let named: Vec<_> = policy.allows().filter(|one| one.actions.names_action(assume)).map(regions).collect();
    let here = |regions: &&[String]| regions.contains(&seen.region);
    if !named.is_empty() && !named.iter().any(|regions| regions.as_ref().is_none_or(here)) {
        says.error(
            format!(
                "cannot be assumed in {}, where the broker asks: nothing can be minted from it",
                seen.region
            ),
            read(&format!(
                " names the regions {:?}",
                named.into_iter().flatten().flatten().collect::<Vec<_>>()
            )),
            "name the broker's region in `watched_regions`, or another one as `region` in its configuration",
        );
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
    if let (Some(tokens), Some((_, host))) = (&role.tokens, role.provider()) {
        let audience = Condition::new("StringEquals", &format!("{host}:aud"), &[tokens.audience.as_str()]);
        let subject = Condition::new("StringEquals", &format!("{host}:sub"), &[role.arn.as_str()]);
        return by_token(role.phase, [audience, subject], action);
    }
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

/// The same where AWS takes audience, subject, tags and source identity from the token.
fn by_token(phase: &str, token: [Condition; 2], action: &str) -> Vec<Condition> {
    let phase_tag = Condition::new("StringEquals", "aws:RequestTag/phase", &[phase]);
    let like = |key: &str, value: &str| Condition::new("StringLike", key, &[value]);
    let tags = Condition::new("ForAllValues:StringLike", "aws:TagKeys", &TOKEN_TAGS);
    let alone = Condition::new("Null", "sts:TransitiveTagKeys", &["true"]);
    let [lease, action_tag] = [like("aws:RequestTag/lease", ULID), like("aws:RequestTag/action", "?*")];
    let named = like("sts:SourceIdentity", ULID);
    match action {
        "sts:AssumeRoleWithWebIdentity" => {
            let mut all = vec![phase_tag, lease, action_tag, tags, alone, named];
            all.extend(token);
            all.push(like("sts:RoleSessionName", &format!("{phase}-{ULID}")));
            all.push(like("aws:RequestTag/grant", ULID));
            all.push(like("aws:RequestTag/agent", "?*"));
            all
        }
        "sts:TagSession" => vec![phase_tag, lease, action_tag, tags, alone],
        _ => vec![named],
    }
}

/// The regions that a statement names, none of them by a pattern.
fn regions(statement: &Statement) -> Option<&[String]> {
    let names = |one: &&Condition| {
        one.operator.eq_ignore_ascii_case("StringEquals") && one.key.eq_ignore_ascii_case(REGION)
    };
    statement.conditions.iter().find(names).map(|one| one.values.as_slice())
}

fn meaning(condition: &Condition) -> String {
    match condition.key.as_str() {
        "sts:SourceIdentity" => "a source identity".to_owned(),
        "sts:RoleSessionName" => "the broker's session name".to_owned(),
        "sts:ExternalId" => "the external id of the catalog".to_owned(),
        "aws:TagKeys" => "keeping to the tags of a session".to_owned(),
        key if key.ends_with(":aud") => "the audience of the tokens of the approvers' side".to_owned(),
        key if key.ends_with(":sub") => "that the token is for this role".to_owned(),
        "sts:TransitiveTagKeys" => "keeping its tags out of further sessions".to_owned(),
        other => format!("the session tag `{}` of this role", other.trim_start_matches("aws:RequestTag/")),
    }
}

fn meets(statement: &Statement, needed: &Condition) -> bool {
    statement.conditions.iter().any(|given| given.implies(needed))
}

fn is_one_of(actions: &[&str], action: &str) -> bool {
    actions.iter().any(|ours| ours.eq_ignore_ascii_case(action))
}

/// The one principal of this kind, where there is no other.
fn alone<'a>((element, principal): &'a (String, Value), kind: &str) -> Option<&'a str> {
    let members = principal.as_object().filter(|members| element == "Principal" && members.len() == 1)?;
    match members.get(kind)? {
        Value::String(one) => Some(one),
        Value::Array(all) => match all.as_slice() {
            [Value::String(one)] => Some(one),
            _ => None,
        },
        _ => None,
    }
}

/// Whether `{"AWS": <the minter's role, exactly>}`.
fn is_minter(principal: &(String, Value), seen: &Seen) -> bool {
    let Some(named) = alone(principal, "AWS") else { return false };
    match (seen.minter.seen(), seen.mint.seen()) {
        (Some(minter), _) => named == minter.arn,
        (None, Some(mint)) => mint.is_of(named),
        (None, None) => false,
    }
}
