//! What STS received for every AWS action of the shipped catalog, asked of an independent evaluator of IAM policies:
//! random parameters go through the real compiler, seal, store and provider, and the text that arrived is judged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod fake_aws;
mod policy_evaluator;

use std::path::Path;

use fake_aws::Request;
use fake_aws::scene::{NOW, Scene, event, key, opening, settings};
use fake_aws::signed;
use phasebroker::broker::ports::*;
use phasebroker::catalog::{
    Catalog, CatalogDocument, Ids, ParameterDocument, compile, difference, iam, observe, recompile,
};
use phasebroker::domain::decision::Terms;
use phasebroker::domain::digest::Digest;
use phasebroker::domain::grant::{Circumstances, SealedGrant, Standing, Who};
use phasebroker::domain::id::{DecisionId, GrantId, LeaseId};
use phasebroker::domain::key::Custody;
use phasebroker::domain::lease::{EndReason, Ended, LeaseState, OpenedLease, Revocation};
use phasebroker::domain::phase::{Phase, RunPhase};
use phasebroker::domain::plan::{AwsCredential, Credential, Plan, ProviderKind};
use phasebroker::domain::principal::Attestation;
use phasebroker::domain::proposal::Proposal;
use phasebroker::domain::rule::Rule;
use phasebroker::domain::time::Timestamp;
use phasebroker::providers::aws::{AwsProvider, AwsSettings};
use policy_evaluator::{
    Call, Session, Texts, any_parameters, assert_exact_scope, calls, with_one_parameter_changed,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

/// AWS's clock is so far ahead of the broker's; deadlines are in AWS's.
const AHEAD: i64 = 30;

fn document() -> CatalogDocument {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/catalog.toml");
    CatalogDocument::from_toml(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn catalog() -> Catalog {
    Catalog::check(&document(), iam::ActionTable::embedded().unwrap()).unwrap()
}

fn aws(credential: &Credential) -> &AwsCredential {
    match credential {
        Credential::Aws(aws) => aws,
        Credential::Jwt(_) => panic!("an AWS credential was expected"),
    }
}

/// A provider that may ask STS as often as the cases want.
async fn scene() -> Scene {
    let mut scene = Scene::start().await;
    scene.aws.set_clock(NOW.plus(AHEAD));
    let often = AwsSettings { sts_burst: 10_000, ..settings(&scene.aws.url()) };
    scene.provider = AwsProvider::new(often, scene.store.clone(), scene.clock.clone()).await.unwrap();
    scene
}

fn proposal(
    document: &CatalogDocument,
    action: &str,
    environment: &str,
    texts: &Texts,
    seconds: u32,
) -> Proposal {
    let value = |(name, text): (&String, &String)| {
        let number = matches!(document.actions[action].parameters[name], ParameterDocument::Integer { .. });
        let value = if number { json!(text.parse::<i64>().unwrap()) } else { json!(text) };
        (name.clone(), value)
    };
    let parameters: serde_json::Map<String, Value> = texts.iter().map(value).collect();
    serde_json::from_value(json!({
        "action": action, "environment": environment, "parameters": parameters, "work_seconds": seconds,
        "claim_key": key().to_string(), "story": {"diagnosis": "none"},
    }))
    .unwrap()
}

fn seal(plan: &Plan, environment: &str, opening: &Opening, ids: &Ids) -> SealedGrant {
    let digest = Digest::of(b"x");
    let groups = [("sre".parse().unwrap(), 1)].into();
    let rule = Rule { groups, custody: [Custody::File].into(), separate_authors: false };
    let terms = Terms { rule, approve_seconds: 600, claim_seconds: 60, work_seconds: 900 };
    let around = Circumstances {
        id: ids.grant,
        lease: ids.lease,
        epoch: opening.epoch,
        issuer: "https://broker.example".to_owned(),
        environment: environment.parse().unwrap(),
        who: Who {
            run: opening.lease.run,
            proposing_agent: ids.claiming_agent.clone(),
            claiming_agent: ids.claiming_agent.clone(),
            claim_key: opening.lease.key,
            requester: "ann".parse().unwrap(),
            asked_in_person: false,
            attestation: Attestation::RegisteredKey,
        },
        decision: DecisionId::generate(NOW),
        reasons: vec!["rule".to_owned()],
        policy: digest,
        catalog: digest,
        directory: digest,
        guardrails: digest,
        standing: Standing::default(),
        evidence: digest,
        now: NOW,
    };
    SealedGrant::seal(plan, &terms, around).unwrap()
}

/// Takes a proposal through seal, approval, INTENT and mint; gives the request that STS received, its deadline in
/// AWS's clock, and the sealed grant.
async fn minted(
    scene: &Scene,
    catalog: &Catalog,
    proposal: &Proposal,
) -> Result<(Request, Timestamp, SealedGrant), String> {
    let ids = Ids {
        grant: GrantId::generate(NOW),
        lease: LeaseId::generate(NOW),
        claiming_agent: "sre-agent".parse().unwrap(),
    };
    let plan = compile(proposal, &ids, catalog).map_err(|error| error.to_string())?;
    let work = plan.credential().work_seconds();
    let prepared = scene.provider.prepare(ids.lease, plan.credential(), work, NOW).await.unwrap();
    let sent = aws(plan.credential());
    let mut opening =
        opening(&*scene.store, ids.lease, Phase::Execute, RunPhase::Decide, sent, prepared, NOW).await;
    (opening.lease.grant, opening.spends) = (Some(ids.grant), Some((ids.grant, 1)));
    opening.lease.key = signed::claim_key(ids.grant);
    let sealed = seal(&plan, proposal.environment.as_str(), &opening, &ids);
    let (opened, authority) = signed::open(scene, sealed.clone(), opening).await;
    let outcome = scene.provider.mint_execute(&opened, &authority).await;
    let MintOutcome::Minted(minted) = outcome else { return Err(format!("{outcome:?}")) };
    end(scene, &opened, minted.reference).await;
    let request = scene.aws.requests("AssumeRole").pop().unwrap();
    Ok((request, NOW.plus(AHEAD + i64::from(work)), sealed))
}

/// An agent holds one execute lease at a time.
async fn end(scene: &Scene, opened: &OpenedLease, reference: String) {
    let id = opened.lease().id;
    let ended = Ended { at: NOW, reason: EndReason::Completed, outcome: None };
    let revocation = Revocation::NotNeeded;
    for (from, step) in [
        (LeaseState::Intent, LeaseStep::Minted { reference }),
        (LeaseState::Minted, LeaseStep::Ended { ended, revocation }),
    ] {
        let change = LeaseChange { id, from, step, events: vec![event().lease(id)] };
        scene.store.change_lease(change).await.unwrap();
    }
}

/// What STS was asked for beside the policy is what was signed.
fn assert_request_is_the_signed_one(request: &Request, sealed: &SealedGrant, deadline: Timestamp) {
    let grant = sealed.grant();
    let signed = aws(&grant.credential);
    assert_eq!(request["Policy"], signed.session_policy.replace("{{not_after}}", &deadline.rfc3339()));
    assert_eq!(request["RoleArn"], signed.role_arn);
    assert_eq!(request["RoleSessionName"], format!("execute-{}", grant.time.lease));
    assert_eq!(
        (&request["DurationSeconds"], &request["SourceIdentity"]),
        (&"900".into(), &grant.id.to_string())
    );
    assert_eq!(request.get("ExternalId"), signed.external_id.as_ref());
    let tags: Vec<_> = request.keys().filter(|name| name.starts_with("Tags.member.")).collect();
    assert_eq!(tags.len(), 8, "agent, grant, lease and phase: {tags:?}");
    assert!(!request.keys().any(|name| name.starts_with("PolicyArns") || name.starts_with("Transitive")));
}

/// INVARIANT: exact-scope, self-ending.
#[test]
fn what_sts_received_allows_exactly_the_approved_calls_until_the_deadline() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let scene = runtime.block_on(scene());
    let (document, catalog) = (document(), catalog());
    let mut actions = 0;
    for (action, entry) in document.actions.iter().filter(|(_, entry)| entry.provider == ProviderKind::Aws) {
        let case = (
            any_parameters(entry),
            any_parameters(entry),
            prop::sample::select(entry.environments.clone()),
            1..=entry.max_work_seconds,
        );
        let mut runner = TestRunner::new(Config { cases: 24, ..Config::default() });
        let checked = runner.run(&case, |(signed, other, environment, seconds)| {
            let proposal = proposal(&document, action, &environment, &signed, seconds);
            let (request, deadline, sealed) = runtime
                .block_on(minted(&scene, &catalog, &proposal))
                .map_err(|why| TestCaseError::fail(format!("{action} {signed:?}: {why}")))?;
            assert_request_is_the_signed_one(&request, &sealed, deadline);
            let again = recompile(sealed.grant(), &catalog).unwrap();
            assert_eq!(difference(&again, &sealed.grant().action, &sealed.grant().credential), None);
            let approved = calls(&document, action, &environment, &signed);
            let mut others = with_one_parameter_changed(&document, action, &environment, &signed, &other);
            let elsewhere = entry.environments.iter().filter(|name| **name != environment);
            others.extend(elsewhere.flat_map(|name| calls(&document, action, name, &signed)));
            // What has no ARN is the same call in every account: the session's own account is all that binds it.
            others.retain(|call| call.resources != ["*"] || !approved.contains(call));
            assert_exact_scope(&request["Policy"], deadline, &approved, &others);
            Ok(())
        });
        checked.unwrap_or_else(|error| panic!("{action}: {error}"));
        actions += 1;
    }
    assert!(actions >= 8, "only {actions} actions were tried");
}

#[test]
fn what_sts_received_for_observing_reads_until_its_deadline_and_executes_nothing() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let scene = runtime.block_on(scene());
    let (document, catalog) = (document(), catalog());
    // A probe of a role for work makes the one read that a probe of the observe role makes too.
    let executed: Vec<(&String, &phasebroker::catalog::ActionDocument)> = document
        .actions
        .iter()
        .filter(|(name, entry)| entry.provider == ProviderKind::Aws && !name.starts_with("probe-"))
        .collect();
    let (mut runner, mut sets) = (TestRunner::new(Config { cases: 8, ..Config::default() }), 0);
    for (set, entry) in document.observe.iter().filter(|(_, set)| set.provider == ProviderKind::Aws) {
        for environment in &entry.environments {
            let request = runtime.block_on(observed(&scene, &catalog, set, environment));
            let deadline = NOW.plus(AHEAD + i64::from(entry.seconds));
            let session = Session::with(&request["Policy"]);
            let account = &document.environments[environment].aws.as_ref().unwrap().account;
            for action in entry.statements.iter().flat_map(|statement| &statement.actions) {
                let (service, name) = action.split_once(':').unwrap();
                let read = Call {
                    action: action.clone(),
                    resources: vec![format!("arn:aws:{service}:eu-central-1:{account}:thing/{name}")],
                    context: Texts::new(),
                };
                assert!(session.allows(&read, deadline.plus(-1)), "{action}");
                assert!(!session.allows(&read, deadline), "{action} at the deadline");
                assert!(!session.allows(&read, deadline.plus(3600)), "{action} after the deadline");
                let more = Call { action: format!("{action}x"), ..read };
                assert!(!session.allows(&more, deadline.plus(-1)), "{}", more.action);
            }
            for (action, entry) in &executed {
                runner
                    .run(&any_parameters(entry), |parameters| {
                        for call in calls(&document, action, environment, &parameters) {
                            assert!(!session.allows(&call, deadline.plus(-1)), "{call:?}");
                        }
                        Ok(())
                    })
                    .unwrap();
            }
            sets += 1;
        }
    }
    assert!(sets >= 4, "`aws-basics` and `aws-telemetry` in two environments");
}

/// Mints an observe session of `set`; gives the request that STS received.
async fn observed(scene: &Scene, catalog: &Catalog, set: &str, environment: &str) -> Request {
    let lease = LeaseId::generate(NOW);
    let (set, place) = (set.parse().unwrap(), environment.parse().unwrap());
    let credential = observe(&set, &place, lease, &"sre-agent".parse().unwrap(), catalog).unwrap();
    let seconds = credential.work_seconds();
    let prepared = scene.provider.prepare(lease, &credential, seconds, NOW).await.unwrap();
    let sent = aws(&credential);
    let opening = opening(&*scene.store, lease, Phase::Observe, RunPhase::Observe, sent, prepared, NOW).await;
    let opened = scene.store.open_lease(opening).await.unwrap().value;
    let credential = PhaseCredential { requester: "ann".into(), credential };
    let outcome = scene.provider.mint_phase(&opened, &credential).await;
    assert!(matches!(outcome, MintOutcome::Minted(_)), "{outcome:?}");
    let request = scene.aws.requests("AssumeRole").pop().unwrap();
    assert_eq!(request["Tags.member.4.Value"], "observe");
    request
}
