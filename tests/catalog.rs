//! The shipped catalog: it loads, its examples compile, and each session policy allows exactly what was approved.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod policy_evaluator;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use phasebroker::catalog::{
    Catalog, CatalogDocument, Ids, ParameterDocument, compile, difference, iam, inverse_proposal, observe,
    recompile,
};
use phasebroker::domain::action::ParameterValue;
use phasebroker::domain::decision::Terms;
use phasebroker::domain::digest::Digest;
use phasebroker::domain::grant::{Circumstances, SealedGrant, Standing, Who};
use phasebroker::domain::id::{DecisionId, GrantId, LeaseId, RunId};
use phasebroker::domain::key::Custody;
use phasebroker::domain::observation::Trust;
use phasebroker::domain::plan::{
    AwsCredential, Credential, NOT_AFTER_PLACEHOLDER, Plan, ProviderKind, Revocability,
};
use phasebroker::domain::principal::Attestation;
use phasebroker::domain::proposal::Proposal;
use phasebroker::domain::rule::Rule;
use phasebroker::domain::time::Timestamp;
use policy_evaluator::{
    Call, Session, Texts, any_parameters, assert_exact_scope, calls, with_one_parameter_changed,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

const NOT_AFTER: Timestamp = Timestamp::from_seconds(1_795_233_600);

fn config() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config"))
}

fn document() -> CatalogDocument {
    CatalogDocument::from_toml(&std::fs::read_to_string(config().join("catalog.toml")).unwrap()).unwrap()
}

fn catalog() -> Catalog {
    Catalog::check(&document(), iam::ActionTable::embedded().unwrap()).unwrap()
}

fn ids() -> Ids {
    Ids { grant: GrantId::nil(), lease: LeaseId::nil(), claiming_agent: "sre-agent".parse().unwrap() }
}

fn examples() -> BTreeMap<String, Proposal> {
    let files = std::fs::read_dir(config().join("proposals")).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
    };
    files.map(read).collect()
}

fn aws(plan: &Plan) -> &AwsCredential {
    match plan.credential() {
        Credential::Aws(aws) => aws,
        Credential::Jwt(_) => panic!("an AWS credential was expected"),
    }
}

/// The text as it is minted.
fn minted(policy: &str) -> String {
    policy.replace(NOT_AFTER_PLACEHOLDER, &NOT_AFTER.rfc3339())
}

fn aws_actions(document: &CatalogDocument) -> Vec<String> {
    let aws = document.actions.iter().filter(|(_, action)| action.provider == ProviderKind::Aws);
    aws.map(|(name, _)| name.clone()).collect()
}

fn proposal(document: &CatalogDocument, action: &str, environment: &str, texts: &Texts) -> Proposal {
    let mut proposal = examples().remove(action).unwrap();
    proposal.environment = environment.parse().unwrap();
    let value = |(name, text): (&String, &String)| {
        let number = matches!(document.actions[action].parameters[name], ParameterDocument::Integer { .. });
        let value = if number { text.parse::<i64>().unwrap().into() } else { text.as_str().into() };
        (name.clone(), value)
    };
    proposal.parameters = texts.iter().map(value).collect();
    proposal
}

#[test]
fn there_is_one_example_proposal_per_action_type_and_it_compiles() {
    let (document, catalog, examples) = (document(), catalog(), examples());
    let types: BTreeSet<&String> = document.actions.keys().collect();
    assert_eq!(examples.keys().collect::<BTreeSet<_>>(), types);
    for (name, proposal) in &examples {
        assert_eq!(proposal.action.as_str(), name);
        let plan = compile(proposal, &ids(), &catalog).unwrap_or_else(|error| panic!("{name}: {error}"));
        let given: Vec<_> = plan.action().parameters.keys().collect();
        assert_eq!(given, document.actions[name].parameters.keys().collect::<Vec<_>>(), "{name}");
        assert!(!proposal.story.diagnosis.is_empty(), "{name}");
    }
}

#[test]
fn the_eight_changes_of_production_are_there() {
    let shipped = aws_actions(&document());
    for name in [
        "reboot-instance",
        "isolate-instance",
        "rollback-ecs-service",
        "scale-asg",
        "flip-appconfig-flag",
        "rotate-secret",
        "restore-snapshot",
        "detach-policy",
    ] {
        assert!(shipped.iter().any(|s| s == name), "{name}");
    }
}

#[test]
fn what_aws_cannot_enforce_is_listed_and_nothing_else() {
    let catalog = catalog();
    for (name, entry) in catalog.actions() {
        let expected: &[&str] = match name.as_str() {
            "scale-asg" => &["desired"],
            "flip-appconfig-flag" => &["flag", "state"],
            _ => &[],
        };
        assert_eq!(entry.unenforced(), expected, "{name}");
    }
}

#[test]
fn the_assume_role_request_is_exact() {
    let catalog = catalog();
    for (name, proposal) in examples().into_iter().filter(|(name, _)| aws_actions(&document()).contains(name))
    {
        let plan = compile(&proposal, &ids(), &catalog).unwrap();
        let sent = aws(&plan);
        let id = GrantId::nil().to_string();
        let trust = ["rotate-secret", "detach-policy", "probe-trust-role"];
        let role = if trust.contains(&name.as_str()) { "trust" } else { "execute" };
        assert!(sent.role_arn.ends_with(&format!(":role/phasebroker-{role}")), "{name}");
        assert_eq!(sent.session_name, format!("execute-{id}"));
        assert_eq!((sent.source_identity.as_str(), sent.duration_seconds), (id.as_str(), 900));
        let tags = [("agent", "sre-agent"), ("grant", &id), ("lease", &id), ("phase", "execute")];
        assert_eq!(sent.tags, tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        assert_eq!(sent.session_policy.matches(NOT_AFTER_PLACEHOLDER).count(), 1, "{name}");
        assert!(sent.session_policy.len() <= 2048 && !sent.session_policy.contains(['\n', '\t']), "{name}");
        let policy: serde_json::Value = serde_json::from_str(&sent.session_policy).unwrap();
        let deny = policy["Statement"].as_array().unwrap().last().unwrap().clone();
        let deadline = serde_json::json!({"aws:CurrentTime": NOT_AFTER_PLACEHOLDER});
        let condition = serde_json::json!({"DateGreaterThanEquals": deadline});
        assert_eq!(
            deny,
            serde_json::json!({"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition})
        );
    }
}

#[test]
fn a_session_policy_allows_exactly_the_approved_calls_until_its_deadline() {
    let (document, catalog) = (document(), catalog());
    for action in aws_actions(&document) {
        let entry = &document.actions[&action];
        let two =
            (any_parameters(entry), any_parameters(entry), prop::sample::select(entry.environments.clone()));
        let mut runner = TestRunner::new(Config { cases: 64, ..Config::default() });
        let checked = runner.run(&two, |(signed, other, environment)| {
            let plan = compile(&proposal(&document, &action, &environment, &signed), &ids(), &catalog)
                .map_err(|error| TestCaseError::fail(format!("{action} {signed:?}: {error}")))?;
            let approved = calls(&document, &action, &environment, &signed);
            let mut others = with_one_parameter_changed(&document, &action, &environment, &signed, &other);
            let elsewhere = entry.environments.iter().filter(|name| **name != environment);
            others.extend(elsewhere.flat_map(|name| calls(&document, &action, name, &signed)));
            // What has no ARN is the same call in every account: the session's own account is all that binds it.
            others.retain(|call| call.resources != ["*"] || !approved.contains(call));
            assert_exact_scope(&minted(&aws(&plan).session_policy), NOT_AFTER, &approved, &others);
            Ok(())
        });
        checked.unwrap_or_else(|error| panic!("{action}: {error}"));
    }
}

#[test]
fn every_enforced_parameter_changes_a_call_and_no_other_one_does() {
    let (document, catalog) = (document(), catalog());
    let mut runner = TestRunner::deterministic();
    for action in aws_actions(&document) {
        let strategy = any_parameters(&document.actions[&action]);
        let signed = strategy.new_tree(&mut runner).unwrap().current();
        for name in document.actions[&action].parameters.keys() {
            let mut other = signed.clone();
            while other[name] == signed[name] {
                let again = strategy.new_tree(&mut runner).unwrap().current();
                other.insert(name.clone(), again[name].clone());
            }
            let changed = with_one_parameter_changed(&document, &action, "production", &signed, &other);
            let entry = &catalog.actions()[&action.parse().unwrap()];
            let told = entry.unenforced().contains(name) || only_for_the_way_back(&document, &action, name);
            assert_eq!(changed.is_empty(), told, "{action}.{name}");
        }
    }
}

/// Whether nothing but the inverse of `action` uses the parameter.
fn only_for_the_way_back(document: &CatalogDocument, action: &str, name: &str) -> bool {
    let entry = &document.actions[action];
    let named = ParameterValue::Text(format!("{{{name}}}"));
    let ParameterValue::Text(text) = &named else { unreachable!() };
    let back = entry.inverse.as_ref().is_some_and(|inverse| inverse.parameters.values().any(|v| *v == named));
    let statements = serde_json::to_string(&entry.statements).unwrap();
    back && !statements.contains(text) && !entry.summary.contains(text)
}

#[test]
fn what_has_an_inverse_is_taken_back_by_a_plan_that_compiles() {
    let (document, catalog, examples) = (document(), catalog(), examples());
    let mut with = BTreeSet::new();
    for (name, proposal) in &examples {
        let plan = compile(proposal, &ids(), &catalog).unwrap();
        let (place, agent) = (&proposal.environment, ids().claiming_agent);
        let inverse = inverse_proposal(&plan, place, proposal.claim_key, &agent, &catalog).unwrap();
        let entry = &document.actions[name];
        assert_eq!(plan.action().reversible, entry.settles.is_some() || entry.inverse.is_some(), "{name}");
        assert_eq!(inverse.is_some(), entry.inverse.is_some(), "{name}");
        let Some((inverse, _)) = inverse else { continue };
        let back = compile(&inverse, &ids(), &catalog).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_ne!(back.action().parameters, plan.action().parameters, "{name}");
        with.insert(name.as_str());
    }
    let expected =
        ["flip-appconfig-flag", "isolate-instance", "rollback-ecs-service", "scale-asg", "scale-service"];
    assert_eq!(with, expected.into());
}

#[test]
fn what_has_no_way_back_is_irreversible_whatever_it_tells_people() {
    let catalog = catalog();
    for (name, proposal) in examples() {
        let plan = compile(&proposal, &ids(), &catalog).unwrap();
        let irreversible = ["rotate-secret", "detach-policy"].contains(&name.as_str());
        assert_eq!(plan.action().reversible, !irreversible, "{name}");
        assert!(plan.action().rollback.is_some(), "{name}");
    }
}

#[test]
fn what_anyone_may_have_written_is_in_untrusted_sets_only() {
    let catalog = catalog();
    for (name, set) in catalog.observe_sets() {
        let telemetry = set.aws_actions().iter().any(|action| iam::is_telemetry(action));
        assert_eq!(set.trust() == Trust::Untrusted, telemetry, "{name}");
    }
}

#[test]
fn a_value_that_fits_its_pattern_but_holds_syntax_never_reaches_a_policy() {
    let (document, catalog) = (document(), catalog());
    let hostile =
        ["*", "?", "${aws:username}", "{{not_after}}", "\"", "\\", "\u{202e}", "\u{200b}", "\n", "\0", "é"];
    for (name, example) in examples() {
        let texts = document.actions[&name].parameters.iter();
        for (parameter, _) in texts.filter(|(_, kind)| matches!(kind, ParameterDocument::String { .. })) {
            for syntax in hostile {
                let mut proposal = example.clone();
                let value = proposal.parameters[parameter].as_str().unwrap().to_owned() + syntax;
                proposal.parameters.insert(parameter.clone(), value.into());
                let error = compile(&proposal, &ids(), &catalog).unwrap_err().to_string();
                assert!(error.contains(&format!("`{parameter}` holds the character")), "{name}: {error}");
            }
        }
    }
}

#[test]
fn the_same_proposal_gives_the_same_plan_and_a_changed_one_names_the_member() {
    let catalog = catalog();
    let example = examples().remove("scale-asg").unwrap();
    let plan = compile(&example, &ids(), &catalog).unwrap();
    let again = compile(&example, &ids(), &catalog).unwrap();
    assert_eq!(difference(&again, plan.action(), plan.credential()), None);
    let mut other = example.clone();
    other.parameters.insert("desired".into(), 13.into());
    let other = compile(&other, &ids(), &catalog).unwrap();
    assert_eq!(difference(&other, plan.action(), plan.credential()).unwrap(), "action.parameters.desired");
    let Credential::Aws(mut credential) = plan.credential().clone() else { panic!() };
    credential.session_policy.push(' ');
    let changed = Credential::Aws(credential);
    assert_eq!(difference(&plan, plan.action(), &changed).unwrap(), "credential.session_policy");
}

fn sealed(proposal: &Proposal, plan: &Plan) -> SealedGrant {
    let (id, digest, now) = (GrantId::nil(), Digest::of(b"x"), Timestamp::from_seconds(1_795_000_000));
    let agent = ids().claiming_agent;
    let who = Who {
        run: RunId::nil(),
        proposing_agent: agent.clone(),
        claiming_agent: agent,
        claim_key: proposal.claim_key,
        requester: "ada".parse().unwrap(),
        asked_in_person: false,
        attestation: Attestation::RegisteredKey,
    };
    let groups = [("sre".parse().unwrap(), 1)].into();
    let rule = Rule { groups, custody: [Custody::File].into(), separate_authors: false };
    let terms = Terms { rule, approve_seconds: 600, claim_seconds: 60, work_seconds: 30 };
    let around = Circumstances {
        id,
        lease: LeaseId::nil(),
        epoch: 1,
        issuer: "https://broker.example".to_owned(),
        environment: proposal.environment.clone(),
        who,
        decision: DecisionId::nil(),
        reasons: vec!["example".to_owned()],
        policy: digest,
        catalog: digest,
        directory: digest,
        guardrails: digest,
        standing: Standing::default(),
        evidence: digest,
        now,
    };
    SealedGrant::seal(plan, &terms, around).unwrap()
}

#[test]
fn a_sealed_grant_compiles_again_to_what_was_signed_until_the_catalog_moves() {
    let catalog = catalog();
    for (name, proposal) in examples() {
        let plan = compile(&proposal, &ids(), &catalog).unwrap();
        let sealed = sealed(&proposal, &plan);
        let grant = sealed.grant();
        let again = recompile(grant, &catalog).unwrap();
        assert_eq!(difference(&again, &grant.action, &grant.credential), None, "{name}");
    }
    let example = examples().remove("reboot-instance").unwrap();
    let sealed = sealed(&example, &compile(&example, &ids(), &catalog).unwrap());
    let grant = sealed.grant();
    let moved = |change: fn(&mut CatalogDocument)| {
        let mut document = document();
        change(&mut document);
        let catalog = Catalog::check(&document, iam::ActionTable::embedded().unwrap()).unwrap();
        recompile(grant, &catalog).map(|plan| difference(&plan, &grant.action, &grant.credential))
    };
    let role = moved(|document| {
        let aws = document.environments.get_mut("production").unwrap().aws.as_mut().unwrap();
        aws.execute_role.push('2');
    });
    assert_eq!(role.unwrap().as_deref(), Some("credential.role_arn"));
    let changes = moved(|document| document.actions.get_mut("reboot-instance").unwrap().changes = 2);
    assert_eq!(changes.unwrap().as_deref(), Some("action.changes"));
    let other_entry = moved(|document| document.actions.get_mut("scale-asg").unwrap().changes = 2);
    assert_eq!(other_entry.unwrap(), None);
    assert!(
        moved(|document| document.actions.get_mut("reboot-instance").unwrap().max_work_seconds = 5).is_err()
    );
    assert!(moved(|document| drop(document.actions.remove("reboot-instance"))).is_err());
}

#[test]
fn an_observe_session_reads_until_its_deadline_and_changes_nothing() {
    let (lease, agent) = (LeaseId::nil(), "sre-agent".parse().unwrap());
    let (set, place) = ("aws-basics".parse().unwrap(), "production".parse().unwrap());
    let Credential::Aws(sent) = observe(&set, &place, lease, &agent, &catalog()).unwrap() else { panic!() };
    assert_eq!(sent.role_arn, "arn:aws:iam::111122223333:role/phasebroker-observe");
    assert_eq!((sent.source_identity.as_str(), sent.tags["grant"].as_str()), ("sre-agent", "none"));
    assert_eq!((sent.session_name, sent.tags["phase"].as_str()), (format!("observe-{lease}"), "observe"));
    assert_eq!(sent.session_policy.matches(NOT_AFTER_PLACEHOLDER).count(), 1);
    let session = Session::with(&minted(&sent.session_policy));
    let call = |action: &str| Call {
        action: action.to_owned(),
        resources: vec!["arn:aws:ec2:eu-central-1:111122223333:instance/i-0abc1234".to_owned()],
        context: Texts::new(),
    };
    assert!(session.allows(&call("ec2:DescribeInstances"), NOT_AFTER.plus(-1)));
    assert!(!session.allows(&call("ec2:DescribeInstances"), NOT_AFTER));
    for action in ["ec2:RebootInstances", "secretsmanager:GetSecretValue", "ec2:DescribeInstanceAttribute"] {
        assert!(!session.allows(&call(action), NOT_AFTER.plus(-1)), "{action}");
    }
}

#[test]
fn a_token_for_a_resource_says_its_one_action_and_an_observe_token_says_none() {
    let catalog = catalog();
    let plan = compile(&examples()["restart-service"], &ids(), &catalog).unwrap();
    let Credential::Jwt(token) = plan.credential() else { panic!() };
    assert_eq!(token.revocability, Revocability::Immediate);
    let [detail] = token.authorization_details.as_slice() else { panic!() };
    assert_eq!((detail.kind.as_str(), detail.action.as_str()), ("phasebroker_action", "restart-service"));
    assert_eq!(detail.parameters, plan.action().parameters);
    assert_eq!(plan.action().summary, "Restart the service checkout, reason memory-leak");
    let (set, place) = ("service-status".parse().unwrap(), "demo".parse().unwrap());
    let Credential::Jwt(token) =
        observe(&set, &place, LeaseId::nil(), &ids().claiming_agent, &catalog).unwrap()
    else {
        panic!()
    };
    assert!(token.authorization_details.is_empty());
}
