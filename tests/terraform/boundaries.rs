//! What holds whatever else is attached to a phase role: each session here belongs to a role that somebody gave
//! everything, and only its boundary is left.

use awsim_iam_policy::{Decision, parse};
use serde_json::Value;

use crate::judge::{Caller, EVERYTHING, document, every_action};

const INSTANCE: &str = "arn:aws:ec2:eu-central-1:111122223333:instance/i-0abc1234";
const ROLE: &str = "arn:aws:iam::111122223333:role/shop";
const POLICY: &str = "arn:aws:iam::111122223333:policy/too-wide";

fn detach(caller: &Caller, role: &str, more: &[(&str, &str)]) -> Decision {
    let mut context = vec![("iam:PolicyARN", POLICY)];
    context.extend(more);
    caller.asks_in("iam:DetachRolePolicy", role, &context)
}

#[test]
fn observe_cannot_write_whatever_its_role_is_given() {
    let wide = Caller::session("observe", EVERYTHING);
    let as_made = Caller::session("observe", &document("production", "ceilings", "production-observe"));
    assert_eq!(as_made.asks("ec2:DescribeInstances", "*"), Decision::Allow);
    assert_eq!(wide.asks("ec2:DescribeInstances", "*"), Decision::Allow);
    let (mut reads, mut writes) = (0, 0);
    for (action, level) in every_action() {
        let allowed = wide.asks(&action, "*") == Decision::Allow;
        assert!(!allowed || matches!(level, 'R' | 'L'), "{action}");
        reads += usize::from(allowed);
        writes += usize::from(!matches!(level, 'R' | 'L'));
    }
    assert!((20..60).contains(&reads) && writes > 10_000, "{reads} and {writes}");
}

#[test]
fn execute_does_only_what_its_ceiling_names() {
    for identity in [EVERYTHING.to_owned(), document("production", "ceilings", "production-execute")] {
        let session = Caller::session("execute", &identity);
        assert_eq!(session.asks("ec2:RebootInstances", INSTANCE), Decision::Allow);
        for (action, resource) in [
            ("ec2:TerminateInstances", INSTANCE),
            ("ec2:RebootInstances", "arn:aws:ec2:us-east-1:111122223333:instance/i-0abc1234"),
            ("ec2:DescribeInstances", "*"),
            ("s3:GetObject", "arn:aws:s3:::orders/1"),
            ("iam:DetachRolePolicy", ROLE),
            (
                "secretsmanager:RotateSecret",
                "arn:aws:secretsmanager:eu-central-1:111122223333:secret:db-AbCdEf",
            ),
        ] {
            assert_ne!(session.asks(action, resource), Decision::Allow, "{action} on {resource}");
        }
    }
    let allowed = |role: &str| {
        let session = Caller::session(role, EVERYTHING);
        every_action().into_iter().filter(|(action, _)| session.asks(action, "*") == Decision::Allow).count()
    };
    assert_eq!((allowed("execute"), allowed("trust")), (0, 0), "no action is allowed on every resource");
}

#[test]
fn actions_of_class_trust_belong_to_their_own_role() {
    let trust = Caller::session("trust", EVERYTHING);
    assert_eq!(detach(&trust, ROLE, &[]), Decision::Allow);
    assert_ne!(trust.asks("ec2:RebootInstances", INSTANCE), Decision::Allow);
    assert_ne!(detach(&Caller::session("execute", EVERYTHING), ROLE, &[]), Decision::Allow);
    for action in ["iam:AttachRolePolicy", "iam:PutRolePolicy", "iam:CreateAccessKey", "iam:PassRole"] {
        assert_eq!(trust.asks(action, ROLE), Decision::ExplicitDeny, "{action}");
    }
}

#[test]
fn nothing_opens_what_every_boundary_denies() {
    for role in ["observe", "execute", "trust"] {
        let session = Caller::session(role, EVERYTHING);
        for action in [
            "organizations:LeaveOrganization",
            "account:CloseAccount",
            "sts:AssumeRole",
            "sts:AssumeRoot",
            "sts:GetFederationToken",
            "sts:GetSessionToken",
            "sts:GetWebIdentityToken",
            "sts:GetDelegatedAccessToken",
            "sts:TagSession",
            "ecr:GetAuthorizationToken",
            "codeartifact:GetAuthorizationToken",
            "rds-db:connect",
            "cloudtrail:StopLogging",
            "cloudtrail:DeleteTrail",
            "cloudtrail:PutEventSelectors",
            "iam:DeleteRolePermissionsBoundary",
            "kms:Sign",
            "kms:ScheduleKeyDeletion",
        ] {
            assert_eq!(session.asks(action, "*"), Decision::ExplicitDeny, "{role}: {action}");
        }
    }
}

/// One call that the role is for.
type Asks = fn(&Caller) -> Decision;

#[test]
fn a_session_without_its_lease_or_of_another_phase_can_do_nothing() {
    let sessions: [(&str, Asks); 3] = [
        ("observe", |caller| caller.asks("ec2:DescribeInstances", "*")),
        ("execute", |caller| caller.asks("ec2:RebootInstances", INSTANCE)),
        ("trust", |caller| detach(caller, ROLE, &[])),
    ];
    for (role, asks) in sessions {
        let session = || Caller::session(role, EVERYTHING);
        assert_eq!(asks(&session()), Decision::Allow, "{role}");
        assert_eq!(asks(&session().without("aws:PrincipalTag/lease")), Decision::ExplicitDeny, "{role}");
        assert_eq!(asks(&session().without("aws:PrincipalTag/phase")), Decision::ExplicitDeny, "{role}");
        let other = if role == "observe" { "execute" } else { "observe" };
        assert_eq!(asks(&session().with("aws:PrincipalTag/phase", other)), Decision::ExplicitDeny, "{role}");
    }
}

#[test]
fn no_action_touches_what_is_ours() {
    let trust = Caller::session("trust", EVERYTHING);
    assert_eq!(detach(&trust, ROLE, &[]), Decision::Allow);
    for name in ["phasebroker-observe", "phasebroker-execute", "phasebroker-minter", "phasebroker-anything"] {
        let arn = format!("arn:aws:iam::111122223333:role/{name}");
        assert_eq!(detach(&trust, &arn, &[]), Decision::ExplicitDeny, "{arn}");
    }
    // However the call spells it, IAM finds the role and its tag.
    let spelled = "arn:aws:iam::111122223333:role/PhaseBroker-Execute";
    let tagged = [("aws:ResourceTag/phasebroker", "control")];
    assert_eq!(detach(&trust, spelled, &tagged), Decision::ExplicitDeny);
    assert_eq!(detach(&trust, ROLE, &tagged), Decision::ExplicitDeny);
    assert_eq!(detach(&trust, ROLE, &[("aws:ResourceTag/phasebroker", "other")]), Decision::Allow);
}

#[test]
fn execute_is_kept_from_what_is_ours_even_where_its_ceiling_reaches() {
    let execute = Caller::session("execute", EVERYTHING);
    let tagged =
        |value| execute.asks_in("ec2:RebootInstances", INSTANCE, &[("aws:ResourceTag/phasebroker", value)]);
    assert_eq!((tagged("other"), tagged("control")), (Decision::Allow, Decision::ExplicitDeny));
    for ours in [
        "arn:aws:s3:::phasebroker-trail-111122223333-eu-central-1/log",
        "arn:aws:cloudtrail:eu-central-1:111122223333:trail/phasebroker-trail",
        "arn:aws:events:us-east-1:111122223333:rule/phasebroker-long-session",
        "arn:aws:sns:us-east-1:111122223333:phasebroker-alarms",
        "arn:aws:iam::111122223333:policy/phasebroker-production-execute-boundary",
    ] {
        assert_eq!(execute.asks("ec2:RebootInstances", ours), Decision::ExplicitDeny, "{ours}");
    }
    assert_eq!(execute.asks("ec2:RebootInstances", "arn:aws:s3:::orders/1"), Decision::ImplicitDeny);
}

#[test]
fn what_a_resource_grants_to_a_session_by_name_is_outside_too() {
    let mut session = Caller::session("execute", &document("production", "ceilings", "production-execute"));
    let bucket = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"{}"}},"Action":"s3:GetObject","Resource":"*"}}]}}"#,
        session.arn
    );
    session.resource = Some(parse(&bucket).unwrap());
    assert_eq!(session.asks("s3:GetObject", "arn:aws:s3:::orders/1"), Decision::ExplicitDeny);
    session.boundary = None;
    assert_eq!(
        session.asks("s3:GetObject", "arn:aws:s3:::orders/1"),
        Decision::Allow,
        "the grant itself works"
    );
}

/// Every boundary of `documents.json`: environment, role and statements.
fn boundaries() -> Vec<(&'static str, &'static str, Vec<Value>)> {
    let all = ["production", "staging"].into_iter().flat_map(|environment| {
        ["observe", "execute", "trust"].map(|role| {
            let text = document(environment, "boundaries", &format!("{environment}-{role}"));
            let policy: Value = serde_json::from_str(&text).unwrap();
            (environment, role, policy["Statement"].as_array().unwrap().clone())
        })
    });
    all.collect()
}

#[test]
fn the_module_denies_what_the_command_refuses() {
    for (environment, role, statements) in boundaries() {
        let always = statements.iter().find(|one| one["Sid"] == "Always").unwrap();
        let mut expected = phasebroker::catalog::ALWAYS_DENIED.to_vec();
        expected.extend((role == "execute").then_some("iam:*"));
        assert_eq!(always["Action"], serde_json::json!(expected), "{environment} {role}");
        assert_eq!((&always["Effect"], &always["Resource"]), (&"Deny".into(), &"*".into()));
    }
}

#[test]
fn a_boundary_allows_exactly_what_the_command_printed() {
    let text = std::fs::read_to_string(crate::repository("terraform/examples/single-account/ceilings.json"));
    let ceilings: Value = serde_json::from_str(&text.unwrap()).unwrap();
    for (environment, role, statements) in boundaries() {
        let printed = &ceilings["environments"][environment]["roles"][role]["ceiling"];
        let printed: Value = serde_json::from_str(printed.as_str().unwrap()).unwrap();
        let allowed: Vec<&Value> = statements.iter().filter(|one| one["Effect"] == "Allow").collect();
        assert_eq!(serde_json::json!(allowed), printed["Statement"], "{environment} {role}");
        assert_eq!(printed.to_string(), document_of(environment, role), "{environment} {role}");
    }
}

fn document_of(environment: &str, role: &str) -> String {
    let text = document(environment, "ceilings", &format!("{environment}-{role}"));
    serde_json::from_str::<Value>(&text).unwrap().to_string()
}

#[test]
fn a_boundary_is_never_longer_than_the_command_said() {
    let text = std::fs::read_to_string(crate::repository("terraform/examples/single-account/ceilings.json"));
    let ceilings: Value = serde_json::from_str(&text.unwrap()).unwrap();
    for environment in ["production", "staging"] {
        for role in ["observe", "execute", "trust"] {
            let boundary = document(environment, "boundaries", &format!("{environment}-{role}"));
            let said = &ceilings["environments"][environment]["roles"][role]["boundary_chars"];
            let length = boundary.chars().filter(|c| !c.is_whitespace()).count() as u64;
            let said = said.as_u64().unwrap();
            assert!(length <= said && said <= 6144, "{environment} {role}: {length} and {said}");
        }
    }
}
