//! Environments in which the approvers' side signs the token of an execute session: the tags that its role's own policy
//! knows action and resources by, and what cannot be said by tags.

use std::collections::BTreeSet;

use super::parameter::ParameterType;
use super::permission::Permission;
use super::refused::CompileError;
use super::resolved::Entry;
use super::template::{Filling, Template};
use crate::domain::action::Parameters;
use crate::domain::plan::AwsCredential;
use crate::domain::principal::ActionType;
use crate::domain::web_identity::{ACTION_TAG, MAX_TAGS, WebIdentity, is_tag_value, parameter_tag};

/// Tags that every session has: agent, grant, lease, phase, action.
const OWN_TAGS: usize = 5;
/// Operators under which IAM takes policy variables (IAM User Guide, policy variables).
const TAKE_VARIABLES: &[&str] = &["StringEquals", "ArnEquals"];

/// The credential with the tags of action and parameters, minted with a token of `web`.
pub(super) fn tagged(
    credential: AwsCredential,
    web: &WebIdentity,
    action: &ActionType,
    entry: &Entry,
    parameters: &Parameters,
) -> Result<AwsCredential, CompileError> {
    let mut tags = credential.tags;
    tags.insert(ACTION_TAG.to_owned(), action.to_string());
    for name in tag_names(entry) {
        let Some(value) = parameters.get(name).map(ToString::to_string) else { continue };
        if !is_tag_value(&value) {
            return Err(CompileError::NoTag { name: name.to_owned() });
        }
        tags.insert(parameter_tag(name), value);
    }
    // AssumeRoleWithWebIdentity takes no external id.
    Ok(AwsCredential { tags, web_identity: Some(web.clone()), external_id: None, ..credential })
}

/// The parameters that stand in a resource or a condition.
fn tag_names(entry: &Entry) -> BTreeSet<&str> {
    let names = entry.permissions.iter().flat_map(Permission::names);
    names.filter(|name| entry.parameters.contains_key(*name)).collect()
}

/// The variables that stand for the parameters in a policy of the role itself.
pub(super) fn variables(entry: &Entry) -> Filling {
    let variable = |name: &str| format!("${{aws:PrincipalTag/{}}}", parameter_tag(name));
    tag_names(entry).into_iter().map(|name| (name.to_owned(), variable(name))).collect()
}

/// Whatever of an entry cannot be said by tags: path and problem of each.
pub(super) fn unsayable(entry: &Entry) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    let given = tag_names(entry);
    if given.len() + OWN_TAGS > MAX_TAGS {
        let most = MAX_TAGS - OWN_TAGS;
        problems.push((
            "parameters".to_owned(),
            format!("{} of them become tags of a session; AWS takes {most}", given.len()),
        ));
    }
    let uses = |template: &Template| template.names().find(|name| given.contains(name)).map(str::to_owned);
    for (at, permission) in entry.permissions.iter().enumerate() {
        for (operator, keys) in &permission.conditions {
            for (key, values) in keys {
                let path = format!("statements[{at}].conditions.{operator}.\"{key}\"");
                if key.to_ascii_lowercase().starts_with("aws:principaltag/") {
                    problems.push((path, "the tags of a session are the broker's: leave it out".to_owned()));
                } else if let Some(name) = values.iter().find_map(&uses)
                    && !TAKE_VARIABLES.contains(&operator.as_str())
                {
                    let problem = format!(
                        "`{{{name}}}` stands under {operator}, where IAM takes no variable: with a web identity the role's own \
                         policy could not hold it; use another environment, or {}",
                        TAKE_VARIABLES.join(" or ")
                    );
                    problems.push((path, problem));
                }
            }
        }
        for (place, template) in permission.resources.iter().flatten().enumerate() {
            if let Some(name) = before_resource(template, &entry.parameters) {
                let problem = format!(
                    "`{{{name}}}` stands before the fifth colon, where IAM takes no variable: with a web identity the role's own \
                     policy could not hold it"
                );
                problems.push((format!("statements[{at}].resources[{place}]"), problem));
            }
        }
    }
    problems
}

/// A parameter that stands in an ARN's partition, service, region or account.
fn before_resource(
    template: &Template,
    parameters: &std::collections::BTreeMap<String, ParameterType>,
) -> Option<String> {
    let marked = |name: &str| match parameters.contains_key(name) {
        true => vec![format!("{{{name}}}")],
        false => vec!["x".to_owned()],
    };
    let whole = template.each(marked).into_iter().next()?;
    let before: Vec<&str> = whole.splitn(6, ':').take(5).collect();
    let (_, after) = before.iter().find_map(|part| part.split_once('{'))?;
    after.split_once('}').map(|(name, _)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::catalog::iam::ActionTable;
    use crate::catalog::{Catalog, CatalogDocument, Ids, ceilings, compile};
    use crate::domain::id::{GrantId, LeaseId};
    use crate::domain::plan::Credential;
    use crate::domain::proposal::Proposal;

    const SHIPPED: &str = include_str!("../../config/catalog.toml");
    const WEB: &str = "\n[environments.staging.aws.web_identity]\nissuer = \"https://approvers.example.com/oidc\"\n\
                       audience = \"sts.amazonaws.com\"\n";

    fn checked(text: &str) -> Result<Catalog, Vec<String>> {
        let document = CatalogDocument::from_toml(text).unwrap();
        let errors =
            |errors: Vec<crate::catalog::CatalogError>| errors.iter().map(ToString::to_string).collect();
        Catalog::check(&document, ActionTable::embedded().unwrap()).map_err(errors)
    }

    fn compiled(text: &str, action: &str, parameters: Value) -> Result<AwsCredential, CompileError> {
        let ids = Ids {
            grant: GrantId::nil(),
            lease: LeaseId::nil(),
            claiming_agent: "sre-agent".parse().unwrap(),
        };
        let proposal: Proposal = serde_json::from_value(json!({
            "action": action, "environment": "staging", "parameters": parameters,
            "claim_key": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
        }))
        .unwrap();
        match compile(&proposal, &ids, &checked(text).unwrap())?.credential() {
            Credential::Aws(aws) => Ok(aws.clone()),
            Credential::Jwt(_) => panic!("an AWS credential was expected"),
        }
    }

    /// The shipped entry that scales a group, whose number AWS does not enforce.
    fn scale() -> Value {
        json!({"group": "web", "group_id": "01234567-89ab-cdef-0123-456789abcdef", "desired": 4, "current": 2})
    }

    #[test]
    fn a_session_carries_action_and_enforced_parameters_as_tags_and_no_external_id() {
        let plain = compiled(SHIPPED, "scale-asg", scale()).unwrap();
        assert_eq!((plain.tags.len(), plain.web_identity, plain.external_id.is_some()), (4, None, true));
        let web = compiled(&(SHIPPED.to_owned() + WEB), "scale-asg", scale()).unwrap();
        assert_eq!(web.session_policy, plain.session_policy, "what people read of it is the same");
        assert_eq!(web.external_id, None);
        assert_eq!(web.web_identity.unwrap().issuer, "https://approvers.example.com/oidc");
        let more: Vec<(&str, &str)> = web.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let uuid = "01234567-89ab-cdef-0123-456789abcdef";
        for tag in [("action", "scale-asg"), ("p_group", "web"), ("p_group_id", uuid)] {
            assert!(more.contains(&tag), "{more:?}");
        }
        assert_eq!(more.len(), 7, "and nothing of what AWS does not enforce: {more:?}");
    }

    #[test]
    fn a_value_that_no_tag_takes_is_refused_at_the_proposal_and_taken_elsewhere() {
        let text = SHIPPED.replace("pattern = \"i-[0-9a-f]{8,17}\"", "pattern = \"i-[0-9a-f,]{8,17}\"");
        let reboot = |text: &str| compiled(text, "reboot-instance", json!({"instance": "i-0abc,1234"}));
        assert!(reboot(&text).is_ok());
        let refused = reboot(&(text + WEB)).unwrap_err();
        assert_eq!(refused, CompileError::NoTag { name: "instance".into() });
        assert!(refused.to_string().contains("letters, digits, space and _ . : / = + - @ only"), "{refused}");
    }

    const NUMBER: &str = "\n[actions.resize]\nsummary = \"x\"\nprovider = \"aws\"\nclass = \"availability\"\nsettles = \"x\"\n\
        changes = 1\nmax_work_seconds = 60\nenvironments = [\"staging\"]\n[actions.resize.parameters.size]\ntype = \"integer\"\n\
        min = 2\nmax = 9\n[[actions.resize.statements]]\nactions = [\"autoscaling:UpdateAutoScalingGroup\"]\n\
        resources = [\"arn:{partition}:autoscaling:{region}:{account}:autoScalingGroup:x:autoScalingGroupName/x\"]\n\
        conditions = { NumericLessThanEquals = { \"autoscaling:MaxSize\" = [\"{size}\"] } }\n";

    #[test]
    fn an_entry_whose_number_iam_compares_cannot_be_used_there() {
        checked(&(SHIPPED.to_owned() + NUMBER)).unwrap();
        let refused = checked(&(SHIPPED.to_owned() + NUMBER + WEB)).unwrap_err();
        assert_eq!(refused.len(), 1, "{refused:?}");
        let path = "actions.resize.statements[0].conditions.NumericLessThanEquals.\"autoscaling:MaxSize\"";
        assert!(refused[0].starts_with(path) && refused[0].contains("`{size}` stands under"), "{refused:?}");
        let literal = NUMBER.replace("[\"{size}\"]", "[\"9\"]");
        checked(&(SHIPPED.to_owned() + &literal + WEB)).unwrap();
    }

    #[test]
    fn the_tags_of_a_session_are_the_brokers_and_stand_behind_the_fifth_colon() {
        let tag = NUMBER
            .replace("NumericLessThanEquals", "StringEquals")
            .replace("\"autoscaling:MaxSize\" = [\"{size}\"]", "\"aws:PrincipalTag/action\" = [\"x\"]");
        let refused = checked(&(SHIPPED.to_owned() + &tag + WEB)).unwrap_err();
        assert!(refused.iter().any(|one| one.contains("are the broker's")), "{refused:?}");
        let catalog = checked(&(SHIPPED.to_owned() + WEB)).unwrap();
        let entry = &catalog.actions[&"reboot-instance".parse().unwrap()];
        let before = |text: &str| before_resource(&Template::parse(text).unwrap(), &entry.parameters);
        assert_eq!(before("arn:{partition}:ec2:{region}:{account}:instance/{instance}"), None);
        assert_eq!(before("arn:aws:ec2:{instance}:{account}:instance/x").as_deref(), Some("instance"));
    }

    #[test]
    fn an_issuer_that_aws_cannot_reach_is_refused() {
        for (from, to) in [
            ("https://approvers", "http://approvers"),
            ("example.com/oidc", "example.com:8443/oidc"),
            ("example.com/oidc", "example.com/oidc/"),
            ("example.com/oidc", "example.com/oidc?x"),
            ("https://approvers.example.com/oidc", "https://"),
            ("sts.amazonaws.com", ""),
        ] {
            let refused = checked(&(SHIPPED.to_owned() + &WEB.replace(from, to))).unwrap_err();
            assert!(refused[0].contains("environments.staging.aws.web_identity."), "{to}: {refused:?}");
        }
    }

    #[test]
    fn a_role_that_no_token_can_name_is_refused_where_tokens_name_roles() {
        let role = "444455556666:role/phasebroker-execute";
        let far = SHIPPED.replacen(role, &role.replace("role/", &format!("role/{}/", "x".repeat(230))), 1);
        checked(&far).unwrap();
        let refused = checked(&(far + WEB)).unwrap_err();
        assert!(
            refused.len() == 1 && refused[0].contains("aws.execute_role: a token names it"),
            "{refused:?}"
        );
    }

    #[test]
    fn the_ceiling_of_such_a_role_has_a_variable_for_each_parameter_and_names_the_action() {
        let made = ceilings(&checked(&(SHIPPED.to_owned() + WEB)).unwrap()).unwrap();
        let staging = &made.environments[&"staging".parse().unwrap()];
        assert_eq!((made.version, staging.version), (2, 2));
        assert_eq!(staging.web_identity.as_ref().unwrap().audience, "sts.amazonaws.com");
        let text = staging.roles["execute"].ceiling.as_ref().unwrap();
        let policy: Value = serde_json::from_str(text).unwrap();
        for statement in policy["Statement"].as_array().unwrap() {
            assert!(
                statement["Condition"]["StringEquals"]["aws:PrincipalTag/action"].is_array(),
                "{statement}"
            );
            assert!(!statement["Resource"].to_string().contains('*'), "{statement}");
        }
        assert!(text.contains(":instance/${aws:PrincipalTag/p_instance}\""), "{text}");
        let observe = staging.roles["observe"].ceiling.as_ref().unwrap();
        assert!(!observe.contains("PrincipalTag"), "observing keeps the minter: {observe}");
        let production = &made.environments[&"production".parse().unwrap()];
        assert_eq!((production.version, &production.web_identity), (1, &None));
    }

    #[test]
    fn only_actions_at_aws_of_such_an_environment_need_a_token_of_the_approvers_side() {
        let catalog = checked(&(SHIPPED.to_owned() + WEB)).unwrap();
        assert!(catalog.web_identity(&"scale-asg".parse().unwrap(), &"staging".parse().unwrap()).is_some());
        assert!(
            catalog.web_identity(&"scale-asg".parse().unwrap(), &"production".parse().unwrap()).is_none()
        );
        assert!(
            catalog.web_identity(&"restart-service".parse().unwrap(), &"demo".parse().unwrap()).is_none()
        );
    }
}
