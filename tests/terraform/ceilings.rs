//! Catalog and ceilings cannot drift: every session that the catalog compiles is inside, and nothing else is.

use std::collections::BTreeSet;

use phasebroker::catalog::{
    Catalog, CatalogDocument, Ids, ParameterDocument, ceilings, compile, iam, observe,
};
use phasebroker::domain::action::ActionClass;
use phasebroker::domain::digest::Digest;
use phasebroker::domain::id::{GrantId, LeaseId};
use phasebroker::domain::plan::{Credential, ProviderKind};
use phasebroker::domain::proposal::Proposal;
use phasebroker::domain::time::Timestamp;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Map, Value, json};

use crate::judge::{Caller, every_action};
use crate::policy_evaluator::{Call, Session, Texts, any_parameters, calls};

/// What the shipped catalog has no example of: words, numbers, conditions over them, an action without ARNs.
const MORE: &str = r#"
[actions.move-stage]
summary = "x"
provider = "aws"
class = "availability"
rollback = "x"
changes = 1
max_work_seconds = 60
environments = ["production", "staging"]
unscopable = ["ec2:CancelConversionTask"]
[actions.move-stage.parameters.stage]
type = "choice"
values = ["blue", "green"]
[actions.move-stage.parameters.zone]
type = "string"
pattern = "[a-z]{2}-[a-z]+-[0-9][a-c]"
[actions.move-stage.parameters.size]
type = "integer"
min = 2
max = 9
[[actions.move-stage.statements]]
actions = ["autoscaling:UpdateAutoScalingGroup"]
resources = ["arn:{partition}:autoscaling:{region}:{account}:autoScalingGroup:x-{stage}:autoScalingGroupName/{stage}-{size}"]
conditions = { NumericLessThanEquals = { "autoscaling:MaxSize" = ["{size}"] } }
[[actions.move-stage.statements]]
actions = ["ec2:CancelConversionTask"]
resources = ["*"]
conditions = { StringEquals = { "ec2:Region" = ["{region}"] } }
"#;

fn shipped() -> String {
    std::fs::read_to_string(crate::repository("config/catalog.toml")).unwrap()
}

fn read(text: &str) -> (CatalogDocument, Catalog) {
    let document = CatalogDocument::from_toml(text).unwrap();
    let catalog = Catalog::check(&document, iam::ActionTable::embedded().unwrap()).unwrap();
    (document, catalog)
}

fn proposal(document: &CatalogDocument, action: &str, environment: &str, texts: &Texts) -> Proposal {
    let value = |(name, text): (&String, &String)| {
        let number = matches!(document.actions[action].parameters[name], ParameterDocument::Integer { .. });
        (name.clone(), if number { json!(text.parse::<i64>().unwrap()) } else { json!(text) })
    };
    let parameters: Map<String, Value> = texts.iter().map(value).collect();
    serde_json::from_value(json!({
        "action": action, "environment": environment, "parameters": parameters,
        "claim_key": Digest::of(b"key"), "story": {"diagnosis": "none"},
    }))
    .unwrap()
}

fn text_of(catalog: &Catalog, environment: &str, role: &str) -> String {
    let made = ceilings(catalog).unwrap();
    made.environments[&environment.parse().unwrap()].roles[role].ceiling.clone().unwrap()
}

fn policy_of(credential: &Credential) -> String {
    match credential {
        Credential::Aws(aws) => aws.session_policy.replace("{{not_after}}", "2100-01-01T00:00:00Z"),
        Credential::Jwt(_) => panic!("an AWS credential was expected"),
    }
}

const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

#[test]
fn the_ceilings_of_the_example_are_those_of_the_shipped_catalog() {
    let (_, catalog) = read(&shipped());
    let now = format!("{}\n", serde_json::to_string_pretty(&ceilings(&catalog).unwrap()).unwrap());
    crate::assert_reviewed("terraform/examples/single-account/ceilings.json", &now);
}

#[test]
fn every_session_of_an_action_is_inside_the_ceiling_of_its_role() {
    let (document, catalog) = read(&(shipped() + MORE));
    let mut tried = 0;
    for (action, entry) in document.actions.iter().filter(|(_, entry)| entry.provider == ProviderKind::Aws) {
        for environment in &entry.environments {
            let role = if entry.class == ActionClass::Trust { "trust" } else { "execute" };
            let ceiling = text_of(&catalog, environment, role);
            let mut runner = TestRunner::new(Config { cases: 24, ..Config::default() });
            let checked = runner.run(&any_parameters(entry), |texts| {
                let ids = Ids {
                    grant: GrantId::nil(),
                    lease: LeaseId::nil(),
                    claiming_agent: "sre-agent".parse().unwrap(),
                };
                let proposal = proposal(&document, action, environment, &texts);
                let plan = compile(&proposal, &ids, &catalog)
                    .map_err(|error| TestCaseError::fail(error.to_string()))?;
                let session = policy_of(plan.credential());
                for call in calls(&document, action, environment, &texts) {
                    assert!(Session::with(&session).allows(&call, NOW), "{call:?} in {session}");
                    assert!(Session::with(&ceiling).allows(&call, NOW), "{call:?} in {ceiling}");
                }
                Ok(())
            });
            checked.unwrap_or_else(|error| panic!("{action} in {environment}: {error}"));
            tried += 1;
        }
    }
    assert!(tried >= 18, "only {tried} were tried");
}

#[test]
fn a_signed_session_does_its_calls_under_ceiling_and_boundary_and_nothing_without_its_lease() {
    let (document, catalog) = read(&shipped());
    let mut tried = 0;
    for (action, entry) in document.actions.iter().filter(|(_, entry)| entry.provider == ProviderKind::Aws) {
        let role = if entry.class == ActionClass::Trust { "trust" } else { "execute" };
        let mut runner = TestRunner::new(Config { cases: 8, ..Config::default() });
        let checked = runner.run(&any_parameters(entry), |texts| {
            let ids = Ids {
                grant: GrantId::nil(),
                lease: LeaseId::nil(),
                claiming_agent: "sre-agent".parse().unwrap(),
            };
            let plan = compile(&proposal(&document, action, "production", &texts), &ids, &catalog)
                .map_err(|error| TestCaseError::fail(error.to_string()))?;
            let mut session = Caller::session(role, &text_of(&catalog, "production", role))
                .with("aws:CurrentTime", &NOW.rfc3339());
            session.session = Some(awsim_iam_policy::parse(&policy_of(plan.credential())).unwrap());
            for call in calls(&document, action, "production", &texts) {
                assert!(session.may(&call), "{call:?}");
            }
            let session = session.without("aws:PrincipalTag/lease");
            for call in calls(&document, action, "production", &texts) {
                assert!(!session.may(&call), "{call:?}");
            }
            Ok(())
        });
        checked.unwrap_or_else(|error| panic!("{action}: {error}"));
        tried += 1;
    }
    assert!(tried >= 8, "only {tried} were tried");
}

#[test]
fn every_observe_session_is_inside_the_ceiling_of_its_role() {
    let (document, catalog) = read(&shipped());
    let mut tried = 0;
    for (set, entry) in document.observe.iter().filter(|(_, set)| set.provider == ProviderKind::Aws) {
        for environment in &entry.environments {
            let (agent, place) = ("sre-agent".parse().unwrap(), environment.parse().unwrap());
            let credential =
                observe(&set.parse().unwrap(), &place, LeaseId::nil(), &agent, &catalog).unwrap();
            let session = Session::with(&policy_of(&credential));
            let ceiling = Session::with(&text_of(&catalog, environment, "observe"));
            for action in entry.statements.iter().flat_map(|statement| &statement.actions) {
                let (action, resources) = (action.clone(), vec!["arn:aws:x:::y".to_owned()]);
                let call = Call { action, resources, context: Texts::new() };
                assert!(session.allows(&call, NOW) && ceiling.allows(&call, NOW), "{call:?}");
                tried += 1;
            }
        }
    }
    assert!(tried >= 40, "only {tried} were tried");
}

#[test]
fn no_action_outside_the_catalog_is_inside_a_ceiling() {
    let (document, catalog) = read(&(shipped() + MORE));
    for role in ["observe", "execute", "trust"] {
        let named: BTreeSet<&str> = match role {
            "observe" => {
                let sets = document.observe.values().flat_map(|set| &set.statements);
                sets.flat_map(|statement| &statement.actions).map(String::as_str).collect()
            }
            _ => {
                let of_role = |class| (class == ActionClass::Trust) == (role == "trust");
                let entries = document.actions.values().filter(|entry| of_role(entry.class));
                let statements = entries.flat_map(|entry| &entry.statements);
                statements.flat_map(|statement| &statement.actions).map(String::as_str).collect()
            }
        };
        let text = text_of(&catalog, "production", role);
        let policy: Value = serde_json::from_str(&text).unwrap();
        let mut resources: BTreeSet<String> = ["*".to_owned()].into();
        for statement in policy["Statement"].as_array().unwrap() {
            let listed = statement["Resource"].as_array().unwrap().iter();
            resources.extend(listed.map(|arn| arn.as_str().unwrap().replace(['*', '?'], "0")));
        }
        let caller = Caller::new("arn:aws:iam::111122223333:role/x", &[&text]);
        for (action, _) in every_action().iter().filter(|(action, _)| !named.contains(action.as_str())) {
            for resource in &resources {
                let decision = caller.asks(action, resource);
                assert_ne!(decision, awsim_iam_policy::Decision::Allow, "{role}: {action} on {resource}");
            }
        }
        assert!(!named.is_empty() && resources.len() > usize::from(role != "observe"));
    }
}

#[test]
fn what_no_parameter_could_say_is_outside_the_ceiling() {
    let (_, catalog) = read(&(shipped() + MORE));
    let session = Session::with(&text_of(&catalog, "production", "execute"));
    let allows = |action: &str, resource: &str, context: &[(&str, &str)]| {
        let context = context.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        session
            .allows(&Call { action: action.to_owned(), resources: vec![resource.to_owned()], context }, NOW)
    };
    let ec2 = |rest: &str| format!("arn:aws:ec2:eu-central-1:111122223333:{rest}");
    assert!(allows("ec2:RebootInstances", &ec2("instance/i-0abc1234"), &[]));
    for wrong in [
        ec2("instance/x-0abc1234"),
        ec2("volume/i-0abc1234"),
        ec2("instance/i-0abc1234").replace("eu-central-1", "us-east-1"),
        ec2("instance/i-0abc1234").replace("111122223333", "444455556666"),
        ec2("instance/i-0abc1234").replace("arn:aws:", "arn:aws-cn:"),
        "*".to_owned(),
    ] {
        assert!(!allows("ec2:RebootInstances", &wrong, &[]), "{wrong}");
    }
    let group = |name: &str| {
        format!(
            "arn:aws:autoscaling:eu-central-1:111122223333:autoScalingGroup:x-{name}:autoScalingGroupName/{name}-3"
        )
    };
    let update = "autoscaling:UpdateAutoScalingGroup";
    assert!(allows(update, &group("blue"), &[("autoscaling:MaxSize", "9")]));
    assert!(!allows(update, &group("red"), &[("autoscaling:MaxSize", "9")]), "another word");
    assert!(!allows(update, &group("blue"), &[]), "a number that the session would compare has to be there");
    let cancel = "ec2:CancelConversionTask";
    assert!(allows(cancel, "arn:aws:ec2:x", &[("ec2:Region", "eu-central-1")]));
    assert!(!allows(cancel, "arn:aws:ec2:x", &[("ec2:Region", "us-east-1")]));
    assert!(!allows(cancel, "arn:aws:ec2:x", &[]));
    let restore = "rds:RestoreDBInstanceFromDBSnapshot";
    let db = "arn:aws:rds:eu-central-1:111122223333:db:new";
    assert!(allows(restore, db, &[("rds:PubliclyAccessible", "false")]));
    assert!(!allows(restore, db, &[("rds:PubliclyAccessible", "true")]) && !allows(restore, db, &[]));
}
