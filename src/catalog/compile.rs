//! From a proposal to the plan that people sign: pure, so that the same words always give the same bytes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::permission::session_policy;
use super::refused::CompileError;
use super::resolved::{AwsTarget, Catalog, Entry, Target};
use super::template::{Filling, forbidden_in};
use crate::domain::action::{Action, ActionClass, ParameterValue, Parameters, Precondition};
use crate::domain::grant::Grant;
use crate::domain::id::{GrantId, LeaseId};
use crate::domain::phase::Phase;
use crate::domain::plan::{
    ASSUME_ROLE_SECONDS, AuthorizationDetail, AwsCredential, Credential, JwtCredential, Plan, ProviderKind,
    Revocability,
};
use crate::domain::principal::{AgentSlug, Environment};
use crate::domain::proposal::{Proposal, Story, visible};

/// Most preconditions of a proposal.
const MAX_PRECONDITIONS: usize = 16;

/// The ids that enter a plan. They are given, never made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// The grant it will be sealed into.
    pub grant: GrantId,
    /// The lease it can become.
    pub lease: LeaseId,
    /// The agent that may claim.
    pub claiming_agent: AgentSlug,
}

impl Ids {
    /// The ids of a sealed grant, to compile it again.
    pub fn of(grant: &Grant) -> Self {
        Self { grant: grant.id, lease: grant.time.lease, claiming_agent: grant.who.claiming_agent.clone() }
    }
}

/// Compiles `proposal` into the plan that a grant of these ids would hold.
pub fn compile(proposal: &Proposal, ids: &Ids, catalog: &Catalog) -> Result<Plan, CompileError> {
    let name = proposal.action.as_str();
    let entry =
        catalog.actions.get(&proposal.action).ok_or_else(|| CompileError::UnknownType(name.to_owned()))?;
    let target = target(catalog, name, &proposal.environment, &entry.environments)?;
    let work_seconds = proposal.work_seconds.unwrap_or(entry.max_work_seconds);
    if !(1..=entry.max_work_seconds).contains(&work_seconds) {
        return Err(CompileError::WorkSeconds { asked: work_seconds, longest: entry.max_work_seconds });
    }
    check_preconditions(&proposal.preconditions)?;
    let parameters = check_parameters(entry, &proposal.parameters)?;
    let mut filling: Filling =
        parameters.iter().map(|(name, value)| (name.clone(), value.to_string())).collect();
    let credential = match (entry.provider, &target.aws, &target.jwt) {
        (ProviderKind::Aws, Some(aws), _) => {
            filling.extend(aws.filling());
            let session_policy = session_policy(&entry.permissions, &filling, aws)?;
            let role = match (entry.class, &aws.trust_role) {
                (ActionClass::Trust, Some(role)) => role,
                (ActionClass::Trust, None) => return Err(no_target(name, &proposal.environment, entry)),
                (ActionClass::Availability | ActionClass::Data, _) => &aws.execute_role,
            };
            let grant = ids.grant.to_string();
            let session = Session {
                phase: Phase::Execute,
                role,
                lease: ids.lease,
                agent: &ids.claiming_agent,
                grant: &grant,
                source_identity: &grant,
            };
            Credential::Aws(session.credential(aws, session_policy, work_seconds))
        }
        (ProviderKind::Jwt, _, Some(jwt)) => Credential::Jwt(JwtCredential {
            audience: jwt.audience.clone(),
            authorization_details: vec![AuthorizationDetail {
                kind: "phasebroker_action".to_owned(),
                action: proposal.action.clone(),
                environment: proposal.environment.clone(),
                parameters: parameters.clone(),
            }],
            work_seconds,
            revocability: revocability(jwt.introspects),
        }),
        _ => return Err(no_target(name, &proposal.environment, entry)),
    };
    let action = Action {
        action_type: proposal.action.clone(),
        service: proposal.action.to_string(),
        summary: entry.summary.fill(&filling).map_err(|name| CompileError::MissingParameter { name })?,
        parameters,
        unenforced: entry.unenforced.clone(),
        class: entry.class,
        reversible: entry.reversible,
        rollback: entry.rollback.clone(),
        changes: entry.changes,
        exceptions: entry.exceptions.clone(),
        unscopable: Vec::new(),
        dependents: Vec::new(),
        plan_digest: proposal.plan_digest,
        preconditions: proposal.preconditions.clone(),
    };
    Ok(Plan::compiled(action, credential))
}

/// Compiles what `grant` holds with the catalog in force; compare with [`difference`](super::difference()).
// INVARIANT: re-decided — nothing but the parameters, the times and the ids comes from the grant.
pub fn recompile(grant: &Grant, catalog: &Catalog) -> Result<Plan, CompileError> {
    let value = |value: &ParameterValue| match value {
        ParameterValue::Integer(number) => Value::from(*number),
        ParameterValue::Text(text) => Value::from(text.as_str()),
    };
    let parameters = grant.action.parameters.iter().map(|(name, given)| (name.clone(), value(given)));
    let proposal = Proposal {
        action: grant.action.action_type.clone(),
        environment: grant.environment.clone(),
        parameters: parameters.collect(),
        work_seconds: Some(grant.credential.work_seconds()),
        claiming_agent: Some(grant.who.claiming_agent.clone()),
        claim_key: grant.who.claim_key,
        plan_digest: grant.action.plan_digest,
        preconditions: grant.action.preconditions.clone(),
        story: Story::default(),
    };
    compile(&proposal, &Ids::of(grant), catalog)
}

/// The target of `environment`, where `name` is allowed.
pub(super) fn target<'a>(
    catalog: &'a Catalog,
    name: &str,
    environment: &Environment,
    allowed: &std::collections::BTreeSet<Environment>,
) -> Result<&'a Target, CompileError> {
    let refused = || CompileError::Environment {
        name: name.to_owned(),
        environment: environment.to_string(),
        allowed: allowed.iter().map(Environment::as_str).collect::<Vec<_>>().join(", "),
    };
    if !allowed.contains(environment) {
        return Err(refused());
    }
    catalog.environments.get(environment).ok_or_else(refused)
}

/// An AWS session before its policy is known.
pub(super) struct Session<'a> {
    pub(super) phase: Phase,
    pub(super) role: &'a str,
    pub(super) lease: LeaseId,
    pub(super) agent: &'a AgentSlug,
    pub(super) grant: &'a str,
    pub(super) source_identity: &'a str,
}

impl Session<'_> {
    /// The exact AssumeRole request.
    pub(super) fn credential(
        &self,
        aws: &AwsTarget,
        session_policy: String,
        work_seconds: u32,
    ) -> AwsCredential {
        let tags = [
            ("lease", self.lease.to_string()),
            ("phase", self.phase.name().to_owned()),
            ("agent", self.agent.to_string()),
            ("grant", self.grant.to_owned()),
        ];
        AwsCredential {
            role_arn: self.role.to_owned(),
            account: aws.account.clone(),
            region: aws.region.clone(),
            session_name: format!("{}-{}", self.phase, self.lease),
            source_identity: self.source_identity.to_owned(),
            session_policy,
            tags: tags.map(|(key, value)| (key.to_owned(), value)).into(),
            external_id: aws.external_id.clone(),
            duration_seconds: ASSUME_ROLE_SECONDS,
            work_seconds,
            revocability: Revocability::Seconds,
        }
    }
}

/// How soon a resource hears of an early end.
pub(super) fn revocability(introspects: bool) -> Revocability {
    match introspects {
        true => Revocability::Immediate,
        false => Revocability::AtExpiry,
    }
}

fn no_target(name: &str, environment: &Environment, entry: &Entry) -> CompileError {
    let allowed = entry.environments.iter().map(Environment::as_str).collect::<Vec<_>>().join(", ");
    CompileError::Environment { name: name.to_owned(), environment: environment.to_string(), allowed }
}

fn check_parameters(entry: &Entry, given: &BTreeMap<String, Value>) -> Result<Parameters, CompileError> {
    if let Some(name) = given.keys().find(|name| !entry.parameters.contains_key(*name)) {
        let name = visible(&name.chars().take(40).collect::<String>());
        let known = entry.parameters().collect::<Vec<_>>().join(", ");
        return Err(CompileError::UnknownParameter { name, known });
    }
    let checked = entry.parameters.iter().map(|(name, kind)| {
        let value = given.get(name).ok_or_else(|| CompileError::MissingParameter { name: name.clone() })?;
        Ok((name.clone(), kind.value(name, value)?))
    });
    checked.collect()
}

fn check_preconditions(preconditions: &[Precondition]) -> Result<(), CompileError> {
    let plain = |text: &str| (1..=128).contains(&text.len()) && forbidden_in(text).is_none();
    for (at, precondition) in preconditions.iter().enumerate() {
        let repeated = preconditions.iter().take(at).any(|earlier| earlier.name == precondition.name);
        if at >= MAX_PRECONDITIONS || repeated || !plain(&precondition.name) || !plain(&precondition.value) {
            return Err(CompileError::Precondition { at });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalog::CatalogDocument;
    use crate::catalog::iam::ActionTable;

    const SHIPPED: &str = include_str!("../../config/catalog.toml");

    fn catalog(text: &str) -> Catalog {
        Catalog::check(&CatalogDocument::from_toml(text).unwrap(), ActionTable::embedded().unwrap()).unwrap()
    }

    fn ids() -> Ids {
        Ids { grant: GrantId::nil(), lease: LeaseId::nil(), claiming_agent: "sre-agent".parse().unwrap() }
    }

    fn proposal(action: &str, environment: &str, parameters: Value) -> Proposal {
        let claim_key = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
        let written = json!({
            "action": action, "environment": environment, "parameters": parameters, "claim_key": claim_key,
        });
        serde_json::from_value(written).unwrap()
    }

    fn refused(proposal: &Proposal) -> CompileError {
        compile(proposal, &ids(), &catalog(SHIPPED)).unwrap_err()
    }

    fn reboot(parameters: Value) -> Proposal {
        proposal("reboot-instance", "production", parameters)
    }

    #[test]
    fn a_plan_names_the_role_the_arn_and_the_longest_work_time() {
        let plan = compile(&reboot(json!({"instance": "i-0abc1234"})), &ids(), &catalog(SHIPPED)).unwrap();
        let Credential::Aws(aws) = plan.credential() else { panic!() };
        assert!(aws.session_policy.contains("arn:aws:ec2:eu-central-1:111122223333:instance/i-0abc1234"));
        assert_eq!((aws.work_seconds, aws.revocability), (120, Revocability::Seconds));
        assert_eq!(plan.action().summary, "Reboot the EC2 instance i-0abc1234");
    }

    #[test]
    fn unknown_types_and_other_environments_are_refused() {
        let good = json!({"instance": "i-0abc1234"});
        let unknown = refused(&proposal("reboot-planet", "production", good.clone()));
        assert_eq!(unknown, CompileError::UnknownType("reboot-planet".into()));
        for place in ["demo", "moon"] {
            let error = refused(&proposal("reboot-instance", place, good.clone()));
            assert!(matches!(error, CompileError::Environment { .. }), "{error}");
        }
    }

    #[test]
    fn each_wrong_parameter_has_an_error_of_its_own() {
        let is = |parameters: Value, fits: fn(&CompileError) -> bool| {
            let error = refused(&reboot(parameters.clone()));
            assert!(fits(&error), "{parameters}: {error}");
        };
        is(json!({}), |e| matches!(e, CompileError::MissingParameter { .. }));
        is(json!({"instance": "i-0abc1234", "force": true}), |e| {
            matches!(e, CompileError::UnknownParameter { .. })
        });
        for value in [json!(7), json!(null), json!(true), json!(["i-0abc1234"]), json!({"a": 1})] {
            is(json!({"instance": value}), |e| matches!(e, CompileError::WrongType { .. }));
        }
        is(json!({"instance": "i-0"}), |e| matches!(e, CompileError::Pattern { .. }));
        is(json!({"instance": "i-".to_owned() + &"0".repeat(200)}), |e| {
            matches!(e, CompileError::TooLong { .. })
        });
        is(json!({"instance": "i-0abc1234*"}), |e| matches!(e, CompileError::Forbidden { .. }));
        let group =
            json!({"group_id": "6d2c0a5e-1f3b-4c7d-9e8f-0a1b2c3d4e5f", "group": "web", "desired": 51});
        let error = refused(&proposal("scale-asg", "production", group.clone()));
        assert!(matches!(error, CompileError::OutOfRange { min: 1, max: 50, .. }), "{error}");
        for number in [json!(3.5), json!("3"), json!(1e3), json!(u64::MAX)] {
            let mut group = group.clone();
            group["desired"] = number;
            let error = refused(&proposal("scale-asg", "production", group));
            assert!(matches!(error, CompileError::WrongType { .. }), "{error}");
        }
        let reason = json!({"service": "checkout", "reason_code": "because"});
        let error = refused(&proposal("restart-service", "demo", reason));
        assert!(matches!(error, CompileError::NotAChoice { .. }), "{error}");
    }

    #[test]
    fn an_unknown_name_is_shown_with_its_hidden_characters() {
        let error = refused(&reboot(json!({"instance": "i-0abc1234", "a\u{202e}b": 1}))).to_string();
        assert!(error.contains("a\\u{202e}b") && !error.contains('\u{202e}'), "{error}");
    }

    #[test]
    fn work_is_at_least_a_second_and_at_most_what_the_catalog_allows() {
        let catalog = catalog(SHIPPED);
        for (seconds, good) in [(0, false), (1, true), (120, true), (121, false)] {
            let mut proposal = reboot(json!({"instance": "i-0abc1234"}));
            proposal.work_seconds = Some(seconds);
            assert_eq!(compile(&proposal, &ids(), &catalog).is_ok(), good, "{seconds}");
        }
    }

    #[test]
    fn an_arn_of_another_type_account_or_region_is_refused() {
        let nested = SHIPPED.replacen("i-[0-9a-f]{8,17}", "i-[0-9a-f/]{8,17}", 1);
        let error =
            compile(&reboot(json!({"instance": "i-0abc/1234"})), &ids(), &catalog(&nested)).unwrap_err();
        assert!(matches!(error, CompileError::Resource(_)), "{error}");
        for (written, member) in [
            ("arn:aws:ec2:{region}:999988887777:instance/{instance}", "account"),
            ("arn:aws:ec2:us-east-1:{account}:instance/{instance}", "region"),
            ("arn:aws-cn:ec2:{region}:{account}:instance/{instance}", "partition"),
        ] {
            let text =
                SHIPPED.replacen("arn:{partition}:ec2:{region}:{account}:instance/{instance}", written, 1);
            let error =
                compile(&reboot(json!({"instance": "i-0abc1234"})), &ids(), &catalog(&text)).unwrap_err();
            assert!(matches!(&error, CompileError::Foreign { member: m, .. } if *m == member), "{error}");
        }
    }

    #[test]
    fn no_action_touches_our_own_roles_or_the_boundary_in_any_case() {
        for (role, policy) in [
            ("phasebroker-execute", "harmless"),
            ("PhaseBroker-Observe", "harmless"),
            ("phasebroker-revoker", "harmless"),
            ("app", "phasebroker-boundary"),
        ] {
            let error =
                refused(&proposal("detach-policy", "production", json!({"role": role, "policy": policy})));
            assert!(matches!(error, CompileError::Protected { .. }), "{role}: {error}");
        }
    }

    #[test]
    fn a_policy_that_sts_would_refuse_is_refused_here() {
        let more = "arn:{partition}:ec2:{region}:{account}:instance/{instance}";
        let many: Vec<String> = (0..40).map(|n| format!("\"{more}{n}\"")).collect();
        let text = SHIPPED.replacen(&format!("\"{more}\""), &many.join(", "), 1);
        let error = compile(&reboot(json!({"instance": "i-0abc1234"})), &ids(), &catalog(&text)).unwrap_err();
        assert!(matches!(error, CompileError::PolicyTooLong { characters } if characters > 2048), "{error}");
    }

    #[test]
    fn preconditions_are_plain_and_each_named_once() {
        let with = |preconditions: &[(&str, &str)]| {
            let mut proposal = reboot(json!({"instance": "i-0abc1234"}));
            let plain =
                |(name, value): &(&str, &str)| Precondition { name: (*name).into(), value: (*value).into() };
            proposal.preconditions = preconditions.iter().map(plain).collect();
            compile(&proposal, &ids(), &catalog(SHIPPED))
        };
        assert_eq!(with(&[("state", "impaired")]).unwrap().action().preconditions.len(), 1);
        for bad in [&[("", "x")][..], &[("a", "")], &[("a", "{{not_after}}")], &[("a", "1"), ("a", "2")]] {
            assert!(matches!(with(bad), Err(CompileError::Precondition { .. })), "{bad:?}");
        }
        assert!(with(&[("a", "x"); 17]).is_err());
    }
}
