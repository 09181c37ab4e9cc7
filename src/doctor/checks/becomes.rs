//! Who becomes one of the broker's identities: named roles, never an account or everybody. What a service or an identity
//! provider may hand the identity to is named, since whoever governs that governs the identity.
//! AWS: IAM User Guide (JSON policy element Principal; condition keys of web identity and SAML federation).

use serde_json::Value;

use super::super::finding::Severity;
use super::super::policy::{Condition, Policy, Statement};
use super::super::seen::{Home, RoleSeen};
use super::{APPLY, Says};

/// Services that run a broker's own host as a role.
const HOSTS: [&str; 4] =
    ["ec2.amazonaws.com", "ecs-tasks.amazonaws.com", "lambda.amazonaws.com", "pods.eks.amazonaws.com"];
const NAME_THE_HOST: &str =
    "name the role of the broker's host in `broker_principals` of terraform/modules/aws, and apply";

/// Judges the trust policy of an identity.
pub(super) fn becomes(role: &RoleSeen, says: &mut Says<'_>) {
    let Ok(policy) = Policy::parse(&role.trust) else {
        return says.error(
            "has a trust policy that cannot be understood",
            format!("iam:GetRole {}", role.arn),
            APPLY,
        );
    };
    for statement in policy.allows() {
        match &statement.principal {
            Some((element, Value::Object(members))) if element == "Principal" => {
                for (kind, named) in members {
                    for name in texts(named) {
                        of_kind(kind, name, statement, role, says);
                    }
                }
            }
            _ => says.error("may be assumed by everybody", read(role, statement), NAME_THE_HOST),
        }
    }
}

/// Judges that the revoker of a further account is the broker's own there, and nobody else's.
pub(super) fn abroad(role: &RoleSeen, home: &Home, external_ids: &[&str], says: &mut Says<'_>) {
    let Ok(policy) = Policy::parse(&role.trust) else { return };
    let fix =
        "give terraform/modules/target-account the broker's `revoker_arn` as `broker_revoker_arn`, and apply";
    for statement in policy.allows() {
        let named = match &statement.principal {
            Some((_, Value::Object(members))) => members.get("AWS").map(texts).unwrap_or_default(),
            _ => Vec::new(),
        };
        for name in named.into_iter().filter(|name| !home.revoker.is(name)) {
            match home.revoker.caller.unreadable() {
                Some(why) => {
                    says.unknown(format!("whether `{name}`, who becomes it, is the broker's revoker"), why)
                }
                None => says.warning(
                    "may be assumed by somebody else than the broker's revoker",
                    format!("{} names `{name}`", read(role, statement)),
                    fix,
                ),
            }
        }
        let asked = Condition::new("StringEquals", "sts:ExternalId", external_ids);
        if !external_ids.is_empty() && !statement.conditions.iter().any(|given| given.implies(&asked)) {
            says.error(
                "may be assumed without the external id of the catalog",
                format!(
                    "{}: no condition StringEquals sts:ExternalId {external_ids:?}",
                    read(role, statement)
                ),
                fix,
            );
        }
    }
}

fn of_kind(kind: &str, name: &str, statement: &Statement, role: &RoleSeen, says: &mut Says<'_>) {
    let read = read(role, statement);
    match kind {
        "AWS" if is_wide(name) => {
            says.error("may be assumed by everybody, or by a whole account", read, NAME_THE_HOST);
        }
        "AWS" => {}
        "Service" => {
            let (severity, what) = match HOSTS.contains(&name) {
                true => (Severity::Note, "is handed by"),
                false => (Severity::Warning, "is handed, which Terraform never makes it, by"),
            };
            says.say(
                severity,
                format!("{what} the service `{name}` to whatever runs there as this role: whoever may pass the role (iam:PassRole) becomes it"),
                read,
                "let nobody but the broker's host be started as this role (iam:PassRole), or name the role of the host in \
                 `broker_principals` of terraform/modules/aws, and apply",
            );
        }
        "Federated" => {
            let provider = provider(name);
            let open: Vec<String> = ["aud", "sub"]
                .iter()
                .map(|claim| format!("{provider}:{claim}"))
                .filter(|key| !statement.conditions.iter().any(|condition| binds(condition, key)))
                .collect();
            if open.is_empty() {
                let what = format!(
                    "is taken with tokens of `{name}`, bound to an audience and a subject: who governs that provider becomes it"
                );
                let fix = "let those who govern the provider be those who may become the broker, or name the role of the host in \
                           `broker_principals` of terraform/modules/aws, and apply";
                return says.say(Severity::Note, what, read, fix);
            }
            says.warning(
                format!(
                    "may be assumed with a token of `{name}` that was made for somebody else: {} not bound",
                    open.join(" and ")
                ),
                read,
                format!(
                    "bind {} to the exact values of the broker's host (StringEquals), or {NAME_THE_HOST}",
                    open.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(" and ")
                ),
            );
        }
        other => says.error(
            format!("may be assumed by a principal of the kind `{other}`, of which nothing is known"),
            read,
            NAME_THE_HOST,
        ),
    }
}

/// What the condition keys of an identity provider begin with.
fn provider(name: &str) -> &str {
    match name.split_once(":oidc-provider/") {
        Some((_, host)) => host,
        None if name.contains(":saml-provider/") => "saml",
        None => name,
    }
}

/// Whether exact values are asked for under this key.
fn binds(condition: &Condition, key: &str) -> bool {
    let operator = condition.operator.to_ascii_lowercase();
    let exact = match operator.trim_start_matches("foranyvalue:") {
        "stringequals" => true,
        "stringlike" => condition.values.iter().all(|value| !value.contains(['*', '?'])),
        _ => false,
    };
    exact && condition.key.eq_ignore_ascii_case(key) && !condition.values.is_empty()
}

fn is_wide(arn: &str) -> bool {
    arn.contains('*') || arn.ends_with(":root") || arn.bytes().all(|b| b.is_ascii_digit())
}

/// One text or several; what is neither is as wide as can be.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().map(|one| one.as_str().unwrap_or("*")).collect(),
        _ => vec!["*"],
    }
}

fn read(role: &RoleSeen, statement: &Statement) -> String {
    let told = statement
        .principal
        .as_ref()
        .map_or_else(String::new, |(element, value)| format!(".{element} = {value}"));
    format!("iam:GetRole {}: AssumeRolePolicyDocument.Statement[{}]{told}", role.arn, statement.at)
}
