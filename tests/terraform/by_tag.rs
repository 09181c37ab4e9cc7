//! Roles whose sessions are made with a token of the approvers' side. The caller chooses session policy and duration, so
//! every session here has no policy of its own: what is left is the role's own policy, which knows action and resources
//! by the session's tags.

use awsim_iam_policy::{ContextValue, Decision, parse};
use phasebroker::catalog::{Catalog, CatalogDocument, Ids, ceilings, compile, iam};
use phasebroker::domain::action::ActionClass;
use phasebroker::domain::digest::Digest;
use phasebroker::domain::id::{GrantId, LeaseId};
use phasebroker::domain::plan::{AwsCredential, Credential, ProviderKind};
use phasebroker::domain::proposal::Proposal;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Map, Value, json};

use crate::judge::{Caller, EVERYTHING, LEASE, document, documents};
use crate::policy_evaluator::{Texts, any_parameters, calls, with_one_parameter_changed};

const WEB: &str = "\n[environments.production.aws.web_identity]\nissuer = \"https://approvers.example.com/oidc\"\n\
                   audience = \"sts.amazonaws.com\"\n";
const PROVIDER: &str = "arn:aws:iam::111122223333:oidc-provider/approvers.example.com/oidc";
const MINTER: &str = "arn:aws:iam::111122223333:role/phasebroker-minter";
const GRANT: &str = "01BX5ZZKBKACTAV9WEVGEMMVRZ";

/// The shipped catalog with a web identity and a second role for work in production.
fn catalog() -> (CatalogDocument, Catalog) {
    let role = "execute_role = \"arn:aws:iam::111122223333:role/phasebroker-execute\"";
    let shipped = std::fs::read_to_string(crate::repository("config/catalog.toml")).unwrap();
    let text = shipped.replacen(role, &format!("{role}\nshards = 2"), 1) + WEB;
    let document = CatalogDocument::from_toml(&text).unwrap();
    let catalog = Catalog::check(&document, iam::ActionTable::embedded().unwrap()).unwrap();
    (document, catalog)
}

fn compiled(
    document: &CatalogDocument,
    catalog: &Catalog,
    action: &str,
    texts: &Texts,
) -> Result<AwsCredential, TestCaseError> {
    use phasebroker::catalog::ParameterDocument::Integer;
    let value = |(name, text): (&String, &String)| {
        let number = matches!(document.actions[action].parameters[name], Integer { .. });
        (name.clone(), if number { json!(text.parse::<i64>().unwrap()) } else { json!(text) })
    };
    let parameters: Map<String, Value> = texts.iter().map(value).collect();
    let proposal: Proposal = serde_json::from_value(json!({
        "action": action, "environment": "production", "parameters": parameters,
        "claim_key": Digest::of(b"key"), "story": {"diagnosis": "none"},
    }))
    .unwrap();
    let ids =
        Ids { grant: GrantId::nil(), lease: LeaseId::nil(), claiming_agent: "sre-agent".parse().unwrap() };
    let plan = compile(&proposal, &ids, catalog).map_err(|error| TestCaseError::fail(error.to_string()))?;
    match plan.credential() {
        Credential::Aws(aws) => Ok(aws.clone()),
        Credential::Jwt(_) => panic!("an AWS credential was expected"),
    }
}

/// The alphabet of session tags, as far as it is ASCII (STS API reference, Tag).
fn in_a_tag(c: char) -> bool {
    c.is_ascii_alphanumeric() || " _.:/=+-@".contains(c)
}

fn role_of(class: ActionClass) -> &'static str {
    if class == ActionClass::Trust { "trust" } else { "execute" }
}

/// A session with the tags of a credential and no session policy, of a role that carries `identity`.
fn session(role: &str, aws: &AwsCredential, identity: &str) -> Caller {
    let arn = format!("arn:aws:sts::111122223333:assumed-role/phasebroker-{role}/x");
    let mut caller = Caller::new(&arn, &[identity]);
    let boundary = document("by_tag", "boundaries", &format!("production-{role}"));
    caller.boundary = Some(parse(&boundary).unwrap());
    aws.tags
        .iter()
        .fold(caller, |caller, (tag, value)| caller.with(&format!("aws:PrincipalTag/{tag}"), value))
}

fn ceiling(role: &str) -> String {
    document("by_tag", "ceilings", &format!("production-{role}"))
}

#[test]
fn the_ceilings_that_are_judged_are_those_of_the_shipped_catalog_with_a_web_identity() {
    let now = format!("{}\n", serde_json::to_string_pretty(&ceilings(&catalog().1).unwrap()).unwrap());
    crate::assert_reviewed("tests/terraform/by_tag.json", &now);
}

#[test]
fn a_session_without_a_policy_does_what_its_grant_says_and_touches_nothing_of_another_grant() {
    let (document, catalog) = catalog();
    let (mut tried, mut others_tried) = (0, 0);
    let at_aws = |(_, entry): &(&String, &phasebroker::catalog::ActionDocument)| {
        entry.provider == ProviderKind::Aws && entry.environments.contains(&"production".to_owned())
    };
    for (action, entry) in document.actions.iter().filter(at_aws) {
        let role = role_of(entry.class);
        let mut runner = TestRunner::new(Config { cases: 12, ..Config::default() });
        let others_in_all = std::cell::Cell::new(0);
        let pairs = (any_parameters(entry), any_parameters(entry));
        let checked = runner.run(&pairs, |(signed, other)| {
            let aws = match compiled(&document, &catalog, action, &signed) {
                Ok(aws) => aws,
                // What no tag can say is not even asked for.
                Err(_) if signed.values().any(|text| text.contains(|c| !in_a_tag(c))) => return Ok(()),
                Err(error) => return Err(error),
            };
            assert!(aws.tags.values().all(|value| value.chars().all(in_a_tag)), "{:?}", aws.tags);
            // Also with everything attached, by a revoker that was taken over: the boundary alone says the same.
            for identity in [ceiling(role), EVERYTHING.to_owned()] {
                let session = session(role, &aws, &identity);
                for call in calls(&document, action, "production", &signed) {
                    assert!(session.may(&call), "{action}: {call:?}");
                }
                let others = with_one_parameter_changed(&document, action, "production", &signed, &other);
                for call in &others {
                    assert!(!session.may(call), "{action}: {call:?} with {:?}", aws.tags);
                }
                others_in_all.set(others_in_all.get() + others.len());
            }
            Ok(())
        });
        checked.unwrap_or_else(|error| panic!("{action}: {error}"));
        others_tried += others_in_all.get();
        tried += 1;
    }
    assert!(tried >= 8 && others_tried > 100, "only {tried} and {others_tried} were tried");
}

#[test]
fn a_session_does_nothing_of_another_action_and_nothing_without_its_tags() {
    let (document, catalog) = catalog();
    let instance = Texts::from([("instance".to_owned(), "i-0abc1234".to_owned())]);
    let aws = compiled(&document, &catalog, "reboot-instance", &instance).unwrap();
    let reboot = calls(&document, "reboot-instance", "production", &instance);
    for identity in [ceiling("execute"), EVERYTHING.to_owned()] {
        let own = || session("execute", &aws, &identity);
        assert!(reboot.iter().all(|call| own().may(call)));
        for (what, changed) in [
            ("no lease", own().without("aws:PrincipalTag/lease")),
            ("no phase", own().without("aws:PrincipalTag/phase")),
            ("no action", own().without("aws:PrincipalTag/action")),
            ("another action", own().with("aws:PrincipalTag/action", "scale-asg")),
            ("no parameter", own().without("aws:PrincipalTag/p_instance")),
            ("another parameter", own().with("aws:PrincipalTag/p_instance", "i-0abc1235")),
            (
                "a parameter of another name",
                own().without("aws:PrincipalTag/p_instance").with("aws:PrincipalTag/instance", "i-0abc1234"),
            ),
        ] {
            assert!(!reboot.iter().any(|call| changed.may(call)), "{what}");
        }
        // In the role for trust the same tags open nothing.
        let trust = session("trust", &aws, EVERYTHING);
        assert!(!reboot.iter().any(|call| trust.may(call)));
        for action in
            ["ec2:TerminateInstances", "iam:DetachRolePolicy", "sts:AssumeRole", "iam:PutRolePolicy"]
        {
            assert_ne!(own().asks(action, &reboot[0].resources[0]), Decision::Allow, "{action}");
        }
    }
}

/// Somebody with a token of the approvers' side for a grant, who asks for a session.
fn bearer() -> (Caller, String) {
    let mut caller = Caller::new(PROVIDER, &[]);
    // The evaluator knows no federated principals; the provider's ARN stands for whom AWS makes of its token.
    let trust =
        document("by_tag", "trust_policies", "production-execute").replace("\"Federated\"", "\"AWS\"");
    caller.resource = Some(parse(&trust).unwrap());
    let caller = caller
        .with("approvers.example.com/oidc:aud", "sts.amazonaws.com")
        .with("approvers.example.com/oidc:sub", "arn:aws:iam::111122223333:role/phasebroker-execute")
        .with("aws:RequestTag/lease", LEASE)
        .with("aws:RequestTag/phase", "execute")
        .with("aws:RequestTag/agent", "sre-agent")
        .with("aws:RequestTag/grant", GRANT)
        .with("aws:RequestTag/action", "reboot-instance")
        .with("aws:RequestTag/p_instance", "i-0abc1234")
        .with("sts:RoleSessionName", &format!("execute-{LEASE}"))
        .with("sts:SourceIdentity", GRANT)
        .with("aws:RequestedRegion", "eu-central-1");
    let arn = documents("by_tag")["roles"]["production-execute"]["arn"].as_str().unwrap().to_owned();
    (tags(caller, &["action", "agent", "grant", "lease", "p_instance", "phase"]), arn)
}

fn tags(mut caller: Caller, keys: &[&str]) -> Caller {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    caller.context.insert("aws:TagKeys".to_owned(), ContextValue::StringList(keys));
    caller
}

const QUESTIONS: [&str; 3] = ["sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"];

fn assumes(caller: &Caller, arn: &str) -> bool {
    QUESTIONS.iter().all(|question| caller.asks(question, arn) == Decision::Allow)
}

#[test]
fn a_token_of_the_issuer_assumes_the_role_and_one_for_anything_else_does_not() {
    let (caller, arn) = bearer();
    assert!(assumes(&caller, &arn));
    type Change = fn(Caller) -> Caller;
    let changes: [(&str, Change); 16] = [
        ("a region that nobody watches", |it| it.with("aws:RequestedRegion", "eu-west-1")),
        ("no region", |it| it.without("aws:RequestedRegion")),
        ("another audience", |it| it.with("approvers.example.com/oidc:aud", "shop.example.com")),
        ("no audience", |it| it.without("approvers.example.com/oidc:aud")),
        ("a second role for work", |it| {
            it.with("approvers.example.com/oidc:sub", "arn:aws:iam::111122223333:role/phasebroker-execute-1")
        }),
        ("no subject", |it| it.without("approvers.example.com/oidc:sub")),
        ("no lease", |it| it.without("aws:RequestTag/lease")),
        ("no action", |it| it.without("aws:RequestTag/action")),
        ("no grant", |it| it.without("aws:RequestTag/grant")),
        ("another phase", |it| it.with("aws:RequestTag/phase", "observe")),
        ("no source identity", |it| it.without("sts:SourceIdentity")),
        ("an odd source identity", |it| it.with("sts:SourceIdentity", "ann")),
        ("an odd session name", |it| it.with("sts:RoleSessionName", "ann")),
        ("a further tag", |it| tags(it, &["action", "admin", "agent", "grant", "lease", "phase"])),
        ("a tag that goes on", |it| it.with("sts:TransitiveTagKeys", "lease")),
        ("another issuer", |mut it| {
            it.arn = PROVIDER.replace("approvers", "others");
            it
        }),
    ];
    for (what, change) in changes {
        assert!(!assumes(&change(bearer().0), &arn), "{what}");
    }
}

#[test]
fn the_minter_assumes_no_role_that_trusts_the_approvers_side_and_is_not_even_allowed_to_ask() {
    for role in ["execute", "execute-1", "trust"] {
        let name = format!("production-{role}");
        let arn = documents("by_tag")["roles"][&name]["arn"].as_str().unwrap().to_owned();
        let trust = document("by_tag", "trust_policies", &name);
        assert!(!trust.contains("\"AWS\""), "no role is trusted: {trust}");
        let minter = Caller::new(MINTER, &[documents("by_tag")["minter_policy"].as_str().unwrap()]);
        assert_eq!(minter.asks("sts:AssumeRole", &arn), Decision::ExplicitDeny, "{role}");
        let observe = documents("by_tag")["roles"]["production-observe"]["arn"].as_str().unwrap().to_owned();
        assert_eq!(minter.asks("sts:AssumeRole", &observe), Decision::Allow);
    }
}

#[test]
fn the_issuer_is_ours_and_its_documents_are_named_once() {
    let providers = &documents("by_tag")["identity_providers"];
    assert_eq!(
        *providers,
        json!({"approvers.example.com/oidc": {
            "arn": PROVIDER, "audiences": ["sts.amazonaws.com"], "url": "https://approvers.example.com/oidc",
        }})
    );
    assert_eq!(documents("production")["identity_providers"], json!({}));
    for role in ["execute", "execute-1", "trust"] {
        let boundary = document("by_tag", "boundaries", &format!("production-{role}"));
        assert!(boundary.contains(PROVIDER), "no action touches it: {boundary}");
        assert!(boundary.len() <= 6_144, "{}", boundary.len());
    }
}

#[test]
fn every_role_for_work_trusts_only_what_was_signed_for_it_and_is_held_by_the_same_tags() {
    for kind in ["boundaries", "ceilings"] {
        let of = |role: &str| document("by_tag", kind, &format!("production-{role}"));
        assert_eq!(of("execute-1"), of("execute"), "{kind}");
    }
    let trust = |role: &str| document("by_tag", "trust_policies", &format!("production-{role}"));
    let subject = |role: &str| format!("oidc:sub\":\"arn:aws:iam::111122223333:role/phasebroker-{role}\"");
    for role in ["execute", "execute-1", "trust"] {
        assert!(trust(role).contains(&subject(role)), "a token is of one role: {}", trust(role));
    }
    assert_eq!(trust("execute-1"), trust("execute").replace(&subject("execute"), &subject("execute-1")));
    let observe = document("by_tag", "trust_policies", "production-observe");
    assert!(observe.contains(MINTER) && !observe.contains(PROVIDER), "the minter observes: {observe}");
}
