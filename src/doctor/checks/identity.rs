//! Who the broker is at AWS: distinct roles, in the accounts where they have to be, with keys that end.

use super::super::expected::Expected;
use super::super::finding::Finding;
use super::super::seen::{Caller, Read, Seen};
use super::Says;

/// Checks every identity by itself, then all of them together.
pub(in crate::doctor) fn identities(expected: &Expected, seen: &Seen, findings: &mut Vec<Finding>) {
    let mut all: Vec<(&str, &str, &Read<Caller>)> = Vec::new();
    if seen.home.as_ref().is_none_or(|home| !home.mints) {
        all.push(("minter", "mint_profile", &seen.mint));
    }
    all.push(("revoker", "revoke_profile", &seen.revoke));
    all.extend(seen.probe.as_ref().map(|probe| ("probe", "probe_profile", probe)));
    if seen.doctor_is_own {
        all.push(("doctor", "doctor_profile", &seen.doctor));
    }
    for (name, key, caller) in &all {
        let mut says = Says::about("identity", name, findings);
        match caller {
            Read::Seen(caller) => kind(name, &expected.key(key), caller, &mut says),
            Read::Absent => says.unknown("who this identity is", "sts:GetCallerIdentity named nobody"),
            Read::Unreadable(why) => says.say(
                super::Severity::CouldNotCheck,
                "who this identity is",
                why.as_str(),
                format!(
                    "see that the profile of {} works: `aws sts get-caller-identity --profile NAME`",
                    expected.key(key)
                ),
            ),
        }
    }
    for (at, (name, key, one)) in all.iter().enumerate() {
        for (other_name, other_key, other) in all.iter().skip(at + 1) {
            if let (Some(one), Some(other)) = (one.seen(), other.seen())
                && principal(one) == principal(other)
            {
                Says::about("identity", name, findings).error(
                    format!("{name} and {other_name} are one principal: whoever has it can do both parts"),
                    format!("sts:GetCallerIdentity: `{}` and `{}`", one.arn, other.arn),
                    format!(
                        "give {} and {} two profiles with two roles (terraform/modules/aws makes them)",
                        expected.key(key),
                        expected.key(other_key)
                    ),
                );
            }
        }
    }
    if !seen.doctor_is_own {
        Says::about("identity", "doctor", findings).say(
            super::Severity::Note,
            "there is no identity of its own for doctor, so that it reads as another one, which should not be allowed to",
            format!(
                "{} is absent; read as `{}`",
                expected.key("doctor_profile"),
                seen.doctor.seen().map_or("nobody", |caller| &caller.arn)
            ),
            format!(
                "name the role `doctor_arn` of terraform/modules/aws (in a further account of terraform/modules/target-account) \
                 in a profile, and that as {}",
                expected.key("doctor_profile")
            ),
        );
    }
    accounts(expected, seen, findings);
}

fn kind(name: &str, key: &str, caller: &Caller, says: &mut Says<'_>) {
    let evidence = format!("sts:GetCallerIdentity: `{}`", caller.arn);
    let fix = format!("let the profile of {key} assume the role that terraform/ makes for it");
    if caller.arn.ends_with(":root") {
        says.error("is the root user of the account, which nothing limits", evidence, fix);
    } else if caller.role_name().is_none() {
        // Users hold keys that never end.
        match name {
            "minter" | "revoker" => says.error("is no role: it holds keys that never end", evidence, fix),
            _ => says.warning("is no role: it holds keys that never end", evidence, fix),
        }
    }
}

/// A role's sessions are one principal, whatever they are called.
fn principal(caller: &Caller) -> String {
    match caller.role_name() {
        Some(role) => format!("{}/{role}", caller.account),
        None => caller.arn.clone(),
    }
}

fn accounts(expected: &Expected, seen: &Seen, findings: &mut Vec<Finding>) {
    for account in expected.accounts() {
        let roles = || expected.roles.iter().filter(|role| role.account == account);
        let stranger = seen.revoke.seen().filter(|revoke| revoke.account != account);
        if let (Some(revoke), Some(_)) = (stranger, &expected.account) {
            Says::about("identity", "revoker", findings).error(
                "belongs to another account, and IAM lets it write nothing here: no session can be ended early",
                format!("sts:GetCallerIdentity: `{}`", revoke.arn),
                format!(
                    "let the profile of {} assume the revoker of this account (`revoker_arn` of \
                     terraform/modules/target-account)",
                    expected.key("revoke_profile")
                ),
            );
        } else if let Some(revoke) = stranger {
            Says::about("identity", "revoker", findings).warning(
                format!("belongs to another account than the roles of account {account}: nothing there can be ended early"),
                format!("sts:GetCallerIdentity: `{}`", revoke.arn),
                format!("give account {account} its `[[aws.accounts]]` with a revoker of its own (terraform/modules/target-account)"),
            );
        }
        let Some(mint) = seen.mint.seen() else { continue };
        let evidence = format!("sts:GetCallerIdentity: `{}`", mint.arn);
        for role in roles().filter(|role| mint.arn.split(':').nth(1) != Some(&role.partition)) {
            Says::about("identity", "minter", findings).error(
                format!("belongs to another partition than `{}`, which it can never assume", role.arn),
                evidence.clone(),
                "use an `aws.mint_profile` and an `aws.region` of the partition that the catalog names",
            );
        }
        if mint.account != account && roles().any(|role| role.tokens.is_none() && role.external_id.is_none())
        {
            Says::about("identity", "minter", findings).warning(
                format!("belongs to another account than the roles of account {account}, which ask for no external id"),
                evidence,
                "give the environment an `external_id` in the catalog, then print the ceilings and apply again",
            );
        }
    }
    if !expected.roles.iter().any(|role| role.region == seen.region) && !expected.roles.is_empty() {
        Says::about("region", "minter", findings).say(
            super::Severity::Note,
            format!("STS is asked in {}, where no environment of the catalog is", seen.region),
            format!("{} is `{}`", expected.key("region"), seen.region),
            format!(
                "set {} to the region of the environments: an outage elsewhere then stops nothing",
                expected.key("region")
            ),
        );
    }
}
