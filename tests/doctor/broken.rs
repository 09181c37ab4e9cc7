//! One weakness at a time, planted in the good account.

use phasebroker::doctor::*;

use crate::account::*;

const EVERYTHING: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;

/// What is planted, the check that finds it, its severity, a part of what is said or was read, and a part of the fix.
type Planted = (fn(&mut Seen), &'static str, Severity, &'static str, &'static str);

/// Every one is found by its own check and by no other.
fn assert_found(planted: &[Planted]) {
    for (at, (plant, check, severity, says, fix)) in planted.iter().enumerate() {
        let mut seen = good();
        plant(&mut seen);
        let report = examine(&expected(), &seen);
        let others: Vec<_> = report.findings.iter().filter(|finding| finding.check != *check).collect();
        assert!(others.is_empty(), "{at} ({says}): {others:#?}");
        let found = report.findings.iter().find(|finding| {
            finding.severity == *severity && (finding.what.contains(says) || finding.evidence.contains(says))
        });
        let found = found.unwrap_or_else(|| panic!("{at} ({says}): {:#?}", report.findings));
        assert!(found.fix.contains(fix) && !found.evidence.is_empty(), "{at} ({says}): {found:#?}");
    }
}

#[test]
fn nothing_is_wrong_with_what_terraform_makes() {
    let report = examine(&expected(), &good());
    assert_eq!(report.findings, []);
    assert_eq!(report.worst(), None);
    assert_eq!(report.looked_at.len(), 6, "{:?}", report.looked_at);
    assert!(report.unseen.iter().any(|text| text.contains("policies of resources")));
    assert!(report.unseen.iter().any(|text| text.contains("`staging`")));
}

#[test]
fn nothing_is_wrong_with_it_where_iam_simulates() {
    let mut seen = good();
    let minter: Vec<bool> = of_minter(&expected(), &seen).iter().map(|question| question.allowed).collect();
    let revoker: Vec<bool> = of_revoker(&expected(), &seen).iter().map(|question| question.allowed).collect();
    seen.minter_answers = Read::Seen(minter.clone());
    seen.revoker_answers = Read::Seen(revoker);
    assert_eq!(examine(&expected(), &seen).findings, []);
    // What IAM simulates counts before what its policies seem to say.
    seen.minter_answers = Read::Seen(minter.iter().map(|answer| !answer).collect());
    let report = examine(&expected(), &seen);
    assert_eq!(told(&report), [("minter", Severity::Error), ("minter", Severity::Error)]);
    assert!(report.findings.iter().all(|finding| finding.evidence.contains("iam:SimulatePrincipalPolicy")));
}

#[test]
fn a_wide_trust_policy_is_found() {
    fn spoil(seen: &mut Seen, from: &str, to: &str) {
        replace(&mut role(seen, "execute").trust, from, to);
    }
    const MINTER: &str = r#"{"AWS":"arn:aws:iam::111122223333:role/phasebroker-minter"}"#;
    assert_found(&[
        (
            |seen| spoil(seen, MINTER, r#""*""#),
            "trust",
            Severity::Error,
            "Principal = \"*\"",
            "terraform apply",
        ),
        (
            |seen| spoil(seen, MINTER, r#"{"AWS":"arn:aws:iam::111122223333:root"}"#),
            "trust",
            Severity::Error,
            "somebody else than the minter",
            "terraform apply",
        ),
        (
            |seen| {
                spoil(
                    seen,
                    MINTER,
                    r#"{"AWS":["arn:aws:iam::111122223333:role/phasebroker-minter","arn:aws:iam::111122223333:role/x"]}"#,
                )
            },
            "trust",
            Severity::Error,
            "role/x",
            "terraform apply",
        ),
        (
            |seen| spoil(seen, MINTER, r#"{"AWS":"AROAEXAMPLEEXAMPLE12"}"#),
            "trust",
            Severity::Error,
            "AROAEXAMPLEEXAMPLE12",
            "terraform apply",
        ),
        (
            |seen| spoil(seen, r#""sts:SourceIdentity":"#, r#""sts:SourceIdentitY2":"#),
            "trust",
            Severity::Error,
            "without a source identity",
            "terraform apply",
        ),
        (
            |seen| {
                spoil(
                    seen,
                    r#""aws:RequestTag/lease":"??????????????????????????""#,
                    r#""aws:RequestTag/lease":"*""#,
                )
            },
            "trust",
            Severity::Error,
            "session tag `lease`",
            "terraform apply",
        ),
        (
            |seen| {
                spoil(
                    seen,
                    r#"{"aws:RequestTag/phase":"execute""#,
                    r#"{"aws:RequestTag/phase":["execute","observe"]"#,
                )
            },
            "trust",
            Severity::Error,
            "session tag `phase`",
            "terraform apply",
        ),
        (
            |seen| spoil(seen, r#""aws:RequestedRegion":"#, r#""aws:RequestedRegion2":"#),
            "trust",
            Severity::Error,
            "be called in any region",
            "terraform apply",
        ),
        (
            |seen| spoil(seen, r#""eu-central-1","#, ""),
            "trust",
            Severity::Error,
            "cannot be assumed in eu-central-1",
            "watched_regions",
        ),
        (
            |seen| spoil(seen, "execute-??????????????????????????", "execute-*"),
            "trust",
            Severity::Error,
            "the broker's session name",
            "terraform apply",
        ),
        (
            |seen| spoil(seen, r#""sts:TransitiveTagKeys":"true""#, r#""sts:TransitiveTagKeys":"false""#),
            "trust",
            Severity::Error,
            "further sessions",
            "terraform apply",
        ),
        (
            |seen| {
                spoil(
                    seen,
                    r#"["agent","grant","lease","phase"]"#,
                    r#"["agent","grant","lease","phase","x"]"#,
                )
            },
            "trust",
            Severity::Error,
            "keeping to the tags",
            "terraform apply",
        ),
        (
            |seen| spoil(seen, r#""sts:AssumeRole""#, r#""sts:*""#),
            "trust",
            Severity::Error,
            "sts:*",
            "terraform apply",
        ),
        (
            |seen| {
                spoil(
                    seen,
                    r#""Statement":["#,
                    r#""Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"},"#,
                )
            },
            "trust",
            Severity::Error,
            "ec2.amazonaws.com",
            "terraform apply",
        ),
        (
            |seen| role(seen, "execute").trust = r#"{"Version":"2012-10-17","Statement":[]}"#.to_owned(),
            "trust",
            Severity::Error,
            "gives nobody sts:AssumeRole",
            "terraform apply",
        ),
        (
            |seen| spoil(seen, r#""Principal":"#, r#""Prinicpal":"#),
            "trust",
            Severity::Error,
            "has an element `Prinicpal`",
            "terraform apply",
        ),
    ]);
}

#[test]
fn an_external_id_of_the_catalog_is_asked_for() {
    let catalog = std::fs::read_to_string(crate::repository("config/catalog.toml")).unwrap();
    let production = "account = \"111122223333\"\n";
    assert!(catalog.contains(production));
    let expected =
        of_catalog(&catalog.replacen(production, &format!("{production}external_id = \"id-1\"\n"), 1));
    let mut seen = good();
    let report = examine(&expected, &seen);
    assert_eq!(told(&report), [("trust", Severity::Error); 3], "{:#?}", report.findings);
    assert!(report.findings[0].what.contains("external id"));
    for kind in ["observe", "execute", "trust"] {
        let phase = if kind == "observe" { "observe" } else { "execute" };
        let without = format!(r#"{{"aws:RequestTag/phase":"{phase}","#);
        let asks = format!(r#"{without}"sts:ExternalId":"id-1","#);
        let trust = &mut role(&mut seen, kind).trust;
        *trust = trust.replacen(&without, &asks, 1);
    }
    assert_eq!(examine(&expected, &seen).findings, []);
}

#[test]
fn a_boundary_that_is_gone_wide_or_without_a_deny_is_found() {
    fn spoil(seen: &mut Seen, kind: &str, from: &str, to: &str) {
        replace_in(role(seen, kind).boundary.as_mut().unwrap(), from, to);
    }
    assert_found(&[
        (
            |seen| role(seen, "execute").boundary = None,
            "boundary",
            Severity::Error,
            "no permission boundary",
            "terraform apply",
        ),
        (
            |seen| {
                spoil(
                    seen,
                    "execute",
                    r#""Action":["ec2:RebootInstances"]"#,
                    r#""Action":["ec2:RebootInstances","ec2:TerminateInstances"]"#,
                )
            },
            "boundary",
            Severity::Error,
            "`ec2:TerminateInstances`",
            "terraform apply",
        ),
        (
            |seen| spoil(seen, "execute", "111122223333:instance/i-*", "111122223333:instance/*"),
            "boundary",
            Severity::Error,
            "instance/*",
            "terraform apply",
        ),
        (
            |seen| {
                spoil(seen, "execute", r#""rds:PubliclyAccessible":["false"]"#, r#""rds:Multi":["false"]"#)
            },
            "boundary",
            Severity::Error,
            "wider than the catalog's ceiling",
            "terraform apply",
        ),
        (
            |seen| {
                spoil(
                    seen,
                    "execute",
                    r#""Action":["ec2:RebootInstances"],"#,
                    r#""Action":["ec2:DescribeTags"],"#,
                )
            },
            "boundary",
            Severity::Warning,
            "narrower than the catalog",
            "aws ceiling",
        ),
        (
            |seen| spoil(seen, "execute", r#""NotAction":["#, r#""NotAction":["s3:GetObject","#),
            "boundary",
            Severity::Error,
            "everything outside the ceiling",
            "terraform apply",
        ),
        (
            |seen| spoil(seen, "execute", r#""organizations:*","#, ""),
            "boundary",
            Severity::Error,
            "`organizations:*`",
            "terraform apply",
        ),
        (
            |seen| spoil(seen, "execute", r#","iam:*""#, ""),
            "boundary",
            Severity::Error,
            "`iam:*`",
            "terraform apply",
        ),
        (
            |seen| {
                spoil(
                    seen,
                    "observe",
                    r#"{"aws:PrincipalTag/lease":"true"}"#,
                    r#"{"aws:PrincipalTag/lease":"false"}"#,
                )
            },
            "boundary",
            Severity::Error,
            "sessions without a lease",
            "terraform apply",
        ),
        (
            |seen| {
                spoil(
                    seen,
                    "observe",
                    r#"{"StringNotEquals":{"aws:PrincipalTag/phase":"observe"}}"#,
                    r#"{"StringNotEquals":{"aws:PrincipalTag/phase":["observe","execute"]}}"#,
                )
            },
            "boundary",
            Severity::Error,
            "sessions of another phase",
            "terraform apply",
        ),
        (
            |seen| spoil(seen, "trust", r#""arn:aws:iam::111122223333:role/phasebroker-*","#, ""),
            "boundary",
            Severity::Error,
            "role/phasebroker-execute",
            "terraform apply",
        ),
        (
            |seen| {
                spoil(
                    seen,
                    "trust",
                    r#"{"aws:ResourceTag/phasebroker":"control"}"#,
                    r#"{"aws:ResourceTag/x":"control"}"#,
                )
            },
            "boundary",
            Severity::Error,
            "what carries our tag",
            "terraform apply",
        ),
    ]);
}

#[test]
fn what_a_phase_role_carries_beside_its_ceiling_is_found() {
    fn inline(seen: &mut Seen, name: &str, text: &str) {
        let document = Document { name: name.to_owned(), text: Read::Seen(text.to_owned()) };
        role(seen, "execute").inline = Read::Seen(vec![document]);
    }
    assert_found(&[
        (
            |seen| {
                let name = "arn:aws:iam::aws:policy/AdministratorAccess".to_owned();
                let document = Document { name, text: Read::Seen(EVERYTHING.to_owned()) };
                seen_of(&mut role(seen, "execute").attached).push(document);
            },
            "ceiling",
            Severity::Error,
            "AdministratorAccess",
            "terraform apply",
        ),
        (
            |seen| seen_of(&mut role(seen, "execute").attached).clear(),
            "ceiling",
            Severity::Warning,
            "less than the catalog needs",
            "terraform apply",
        ),
        (
            |seen| inline(seen, "extra", EVERYTHING),
            "inline",
            Severity::Error,
            "`extra`",
            "delete-role-policy",
        ),
        (
            |seen| inline(seen, "phasebroker-deny", EVERYTHING),
            "inline",
            Severity::Error,
            "Statement[0]",
            "delete-role-policy",
        ),
        (
            |seen| {
                inline(
                    seen,
                    "phasebroker-deny",
                    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/agent":"x"}}}]}"#,
                )
            },
            "inline",
            Severity::Error,
            "not what the broker writes",
            "delete-role-policy",
        ),
        (
            |seen| role(seen, "execute").max_session_seconds = 43_200,
            "session",
            Severity::Warning,
            "43200",
            "max_session_seconds",
        ),
        (
            |seen| role(seen, "execute").tags.clear(),
            "tags",
            Severity::Warning,
            "does not carry the tag",
            "terraform apply",
        ),
    ]);
}

#[test]
fn the_brokers_own_deny_is_no_finding() {
    let deny = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Deny","Action":"*","Resource":"*","Condition":{"DateLessThan":{"aws:TokenIssueTime":"2026-11-26T00:00:00Z"},"StringNotEquals":{"aws:PrincipalTag/lease":["01ARZ3NDEKTSV4RRFFQ69G5FAV"]}}},
        {"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/lease":["01ARZ3NDEKTSV4RRFFQ69G5FAW"]}}}]}"#;
    let mut seen = good();
    let document = Document { name: "phasebroker-deny".to_owned(), text: Read::Seen(deny.to_owned()) };
    role(&mut seen, "execute").inline = Read::Seen(vec![document]);
    assert_eq!(examine(&expected(), &seen).findings, []);
}

#[test]
fn an_observe_role_that_can_write_is_found_where_both_policy_and_boundary_let_it() {
    let wide = Document {
        name: "arn:aws:iam::111122223333:policy/x".to_owned(),
        text: Read::Seen(EVERYTHING.to_owned()),
    };
    let mut seen = good();
    seen_of(&mut role(&mut seen, "observe").attached).push(wide);
    // The boundary still holds it.
    let report = examine(&expected(), &seen);
    assert_eq!(told(&report), [("ceiling", Severity::Error)], "{:#?}", report.findings);
    role(&mut seen, "observe").boundary = None;
    let report = examine(&expected(), &seen);
    let found: Vec<&str> = told(&report).iter().map(|(check, _)| *check).collect();
    assert_eq!(found, ["boundary", "ceiling", "observe"], "{:#?}", report.findings);
    assert!(report.findings[2].evidence.contains("more"), "{:#?}", report.findings[2]);
}

#[test]
fn a_role_that_is_missing_or_elsewhere_is_found() {
    let missing = |seen: &mut Seen, read: Read<RoleSeen>| {
        seen.roles.insert(format!("arn:aws:iam::{ACCOUNT}:role/phasebroker-execute"), read);
    };
    let mut seen = good();
    missing(&mut seen, Read::Absent);
    let report = examine(&expected(), &seen);
    assert_eq!(told(&report), [("role", Severity::Error)], "{:#?}", report.findings);
    assert!(
        report.findings[0].evidence.contains("NoSuchEntity")
            && report.findings[0].fix.contains("terraform apply")
    );
    missing(&mut seen, Read::Unreadable("iam:GetRole phasebroker-execute: AccessDenied".to_owned()));
    let report = examine(&expected(), &seen);
    assert_eq!(told(&report), [("role", Severity::CouldNotCheck)]);
    assert!(report.findings[0].evidence.contains("AccessDenied"));
    let mut seen = good();
    role(&mut seen, "execute").arn = format!("arn:aws:iam::{ACCOUNT}:role/other/phasebroker-execute");
    assert_eq!(told(&examine(&expected(), &seen)), [("role", Severity::Error)]);
}

#[test]
fn a_broker_that_can_do_more_than_its_part_is_found() {
    fn carries(read: &mut Read<RoleSeen>, text: &str) {
        let document = Document { name: "more".to_owned(), text: Read::Seen(text.to_owned()) };
        seen_of(&mut seen_of(read).inline).push(document);
    }
    fn without_denies(read: &mut Read<RoleSeen>) {
        let document = &mut seen_of(&mut seen_of(read).attached)[0];
        let mut policy: serde_json::Value = serde_json::from_str(seen_of(&mut document.text)).unwrap();
        policy["Statement"].as_array_mut().unwrap().retain(|statement| statement["Effect"] == "Allow");
        document.text = Read::Seen(policy.to_string());
    }
    const PUT: &str = r#"{"Statement":{"Effect":"Allow","Action":"iam:PutRolePolicy","Resource":"*"}}"#;
    const ASSUME: &str = r#"{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}}"#;
    const BOUNDARY: &str =
        r#"{"Statement":{"Effect":"Allow","Action":"iam:DeleteRolePermissionsBoundary","Resource":"*"}}"#;
    assert_found(&[
        (
            |seen| {
                without_denies(&mut seen.minter);
                carries(&mut seen.minter, PUT);
            },
            "minter",
            Severity::Error,
            "iam:PutRolePolicy",
            "terraform apply",
        ),
        (
            |seen| {
                without_denies(&mut seen.minter);
                carries(&mut seen.minter, ASSUME);
            },
            "minter",
            Severity::Error,
            "role/no-role-of-the-catalog",
            "terraform apply",
        ),
        (
            |seen| {
                without_denies(&mut seen.revoker);
                carries(&mut seen.revoker, BOUNDARY);
            },
            "revoker",
            Severity::Error,
            "iam:DeleteRolePermissionsBoundary",
            "terraform apply",
        ),
        (
            |seen| {
                without_denies(&mut seen.revoker);
                carries(&mut seen.revoker, ASSUME);
            },
            "revoker",
            Severity::Error,
            "sts:AssumeRole",
            "terraform apply",
        ),
        (
            |seen| {
                replace_in(
                    &mut seen_of(&mut seen_of(&mut seen.revoker).attached)[0],
                    r#""iam:PermissionsBoundary""#,
                    r#""aws:PrincipalArn""#,
                )
            },
            "revoker",
            Severity::Error,
            "may do more than",
            "terraform apply",
        ),
        (
            |seen| seen_of(&mut seen_of(&mut seen.minter).attached).clear(),
            "minter",
            Severity::Error,
            "cannot assume the phase roles",
            "terraform apply",
        ),
        (
            |seen| replace(&mut seen_of(&mut seen.minter).trust, ":role/host", ":root"),
            "minter",
            Severity::Error,
            "a whole account",
            "broker_principals",
        ),
        (
            |seen| seen.minter = Read::Unreadable("iam:GetRole phasebroker-minter: AccessDenied".to_owned()),
            "minter",
            Severity::CouldNotCheck,
            "AccessDenied",
            "doctor_profile",
        ),
    ]);
}

#[test]
fn an_extra_permission_that_a_deny_takes_back_is_no_finding() {
    let mut seen = good();
    let text = r#"{"Statement":{"Effect":"Allow","Action":["s3:GetObject","iam:Create*"],"Resource":"*"}}"#;
    let document = Document { name: "more".to_owned(), text: Read::Seen(text.to_owned()) };
    seen_of(&mut seen_of(&mut seen.minter).inline).push(document);
    assert_eq!(examine(&expected(), &seen).findings, []);
}

#[test]
fn identities_that_are_one_or_hold_keys_that_never_end_are_found() {
    fn is(arn: &str) -> Read<Caller> {
        Read::Seen(Caller { arn: arn.to_owned(), account: ACCOUNT.to_owned() })
    }
    let mut seen = good();
    seen.revoke = caller("phasebroker-minter");
    let report = examine(&expected(), &seen);
    assert!(told(&report).contains(&("identity", Severity::Error)), "{:#?}", report.findings);
    assert!(report.findings[0].what.contains("minter and revoker are one principal"));
    assert_found(&[
        (
            |seen| seen.probe = Some(is("arn:aws:iam::111122223333:root")),
            "identity",
            Severity::Error,
            "root user",
            "probe_profile",
        ),
        (
            |seen| seen.probe = Some(is("arn:aws:iam::111122223333:user/u")),
            "identity",
            Severity::Warning,
            "never end",
            "probe_profile",
        ),
        (
            |seen| seen.revoke = is("arn:aws:iam::111122223333:user/u"),
            "identity",
            Severity::Error,
            "never end",
            "revoke_profile",
        ),
        (|seen| seen.doctor_is_own = false, "identity", Severity::Note, "as another one", "doctor_profile"),
        (
            |seen| seen.probe = Some(Read::Unreadable("sts:GetCallerIdentity: ExpiredToken".to_owned())),
            "identity",
            Severity::CouldNotCheck,
            "ExpiredToken",
            "get-caller-identity",
        ),
        (
            |seen| {
                seen.endpoints.configured =
                    vec![("aws.sts_endpoint".to_owned(), "http://127.0.0.1:1".to_owned())]
            },
            "endpoints",
            Severity::Warning,
            "http://127.0.0.1:1",
            "aws.allow_endpoints",
        ),
        (
            |seen| {
                seen.endpoints.configured =
                    vec![("keys.kms_endpoint".to_owned(), "http://127.0.0.1:1".to_owned())]
            },
            "endpoints",
            Severity::Warning,
            "`keys.kms_endpoint`",
            "keys.allow_endpoints",
        ),
        (
            |seen| seen.endpoints.variables = vec!["AWS_ENDPOINT_URL".to_owned()],
            "endpoints",
            Severity::Error,
            "AWS_ENDPOINT_URL",
            "unset",
        ),
        (|seen| seen.region = "us-east-1".to_owned(), "region", Severity::Note, "us-east-1", "aws.region"),
        (|seen| seen.here = NOW.plus(30), "clock", Severity::Warning, "30 s off", "NTP"),
        (|seen| seen.here = NOW.plus(-180), "clock", Severity::Error, "nothing is minted", "NTP"),
        (|seen| seen.at_aws = Read::Absent, "clock", Severity::CouldNotCheck, "no `Date`", "again"),
    ]);
}

#[test]
fn a_trail_with_a_gap_is_found() {
    fn trail(seen: &mut Seen) -> &mut TrailSeen {
        &mut seen_of(&mut seen.trails)[0]
    }
    assert_found(&[
        (
            |seen| seen_of(&mut seen.trails).clear(),
            "trail",
            Severity::Error,
            "records nothing",
            "trail = true",
        ),
        (|seen| trail(seen).multi_region = false, "trail", Severity::Error, "one region", "trail = true"),
        (|seen| trail(seen).global_services = false, "trail", Severity::Error, "IAM and STS", "trail = true"),
        (|seen| trail(seen).validated = false, "trail", Severity::Warning, "validate", "trail = true"),
        (
            |seen| trail(seen).logging = Read::Seen(false),
            "trail",
            Severity::Error,
            "stopped",
            "start-logging",
        ),
        (
            |seen| trail(seen).delivered = Read::Absent,
            "trail",
            Severity::Warning,
            "never delivered",
            "bucket",
        ),
        (
            |seen| trail(seen).delivered = Read::Seen(NOW.plus(-7_200)),
            "trail",
            Severity::Warning,
            "7200 s",
            "bucket",
        ),
        (
            |seen| trail(seen).delivery_error = Some("AccessDenied".into()),
            "trail",
            Severity::Error,
            "AccessDenied",
            "bucket",
        ),
        (
            |seen| trail(seen).management = Read::Seen(Vec::new()),
            "trail",
            Severity::Error,
            "every management event",
            "trail = true",
        ),
        (
            |seen| seen_of(&mut trail(seen).management)[0].without = vec!["rds.amazonaws.com".to_owned()],
            "trail",
            Severity::Error,
            "rds.amazonaws.com",
            "trail = true",
        ),
        (
            |seen| seen.trails = Read::Unreadable("cloudtrail:DescribeTrails: AccessDenied".to_owned()),
            "trail",
            Severity::CouldNotCheck,
            "AccessDenied",
            "doctor_profile",
        ),
    ]);
    let mut seen = good();
    seen_of(&mut trail(&mut seen).management)[0].without =
        vec!["kms.amazonaws.com".to_owned(), "rdsdata.amazonaws.com".to_owned()];
    assert_eq!(examine(&expected(), &seen).findings, [], "no session uses that service");
    // A second trail that records less hides nothing of the first.
    let mut other = trail(&mut seen).clone();
    other.logging = Read::Seen(false);
    seen_of(&mut seen.trails).insert(0, other);
    assert_eq!(examine(&expected(), &seen).findings, []);
}

#[test]
fn a_service_that_a_trail_leaves_out_is_known_by_its_event_source() {
    let catalog = std::fs::read_to_string(crate::repository("config/catalog.toml")).unwrap();
    let found = |expected: &Expected, without: &str| {
        let mut seen = good();
        seen_of(&mut seen_of(&mut seen.trails)[0].management)[0].without = vec![without.to_owned()];
        let report = examine(expected, &seen);
        let found = report.findings.iter().filter(|finding| finding.check == "trail");
        found.map(|finding| (finding.severity, finding.what.clone())).collect::<Vec<_>>()
    };
    // The shipped catalog observes alarms: `cloudwatch:DescribeAlarms` is told under another name.
    let shipped = expected();
    assert_eq!(found(&shipped, "monitoring.amazonaws.com")[0].0, Severity::Error);
    assert_eq!(found(&shipped, "rdsdata.amazonaws.com"), []);
    let entry = "\n[observe.tags]\nprovider = \"aws\"\nenvironments = [\"production\"]\nseconds = 300\n\
                 [[observe.tags.statements]]\nactions = [\"tag:GetResources\"]\nresources = [\"*\"]\n";
    let with_tags = catalog + entry;
    assert_eq!(found(&of_catalog(&with_tags), "tagging.amazonaws.com")[0].0, Severity::Error);
    assert_eq!(found(&shipped, "tagging.amazonaws.com"), []);
    // What nobody knows is not taken for a stranger.
    let strange = found(&shipped, "something.amazonaws.com");
    assert!(strange.len() == 1 && strange[0].0 == Severity::CouldNotCheck, "{strange:?}");
}

#[test]
fn data_events_that_are_not_known_are_said_to_be_unknown() {
    let catalog = std::fs::read_to_string(crate::repository("config/catalog.toml")).unwrap();
    let entry = |action: &str, resource: &str| {
        format!(
            "\n[actions.other]\nsummary = \"x\"\nprovider = \"aws\"\nclass = \"data\"\nrollback = \"x\"\nchanges = 1\n\
             max_work_seconds = 60\nenvironments = [\"production\"]\n\n[[actions.other.statements]]\nactions = [\"{action}\"]\n\
             resources = [\"arn:{{partition}}:{resource}\"]\n"
        )
    };
    let unknown = |action: &str, resource: &str| {
        let report = examine(&of_catalog(&(catalog.clone() + &entry(action, resource))), &good());
        let found = report.findings.into_iter().find(|finding| finding.what.contains("unknown, not judged"));
        found.map(|finding| (finding.severity, finding.what.contains(action)))
    };
    let snapshot = "rds:{region}:{account}:snapshot:orders";
    assert_eq!(unknown("rds:DeleteDBSnapshot", snapshot), Some((Severity::Note, true)));
    assert_eq!(unknown("rds:RebootDBInstance", "rds:{region}:{account}:db:orders"), None);
    assert_eq!(unknown("dynamodb:DeleteItem", "dynamodb:{region}:{account}:table/orders"), None);
}

#[test]
fn what_policies_of_resources_may_give_is_said_of_the_services_that_sessions_use() {
    let report = examine(&expected(), &good());
    let told = report.unseen.iter().find(|text| text.contains("policies of resources")).unwrap();
    for part in ["none is read", "secretsmanager", "name a session of ours", "more than was signed"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("sqs"), "{told}");
}

#[test]
fn data_that_execute_sessions_touch_has_to_be_recorded() {
    let catalog = std::fs::read_to_string(crate::repository("config/catalog.toml")).unwrap();
    let entry = "\n[actions.drop-object]\nsummary = \"x\"\nprovider = \"aws\"\nclass = \"data\"\nrollback = \"x\"\nchanges = 1\n\
         max_work_seconds = 60\nenvironments = [\"production\"]\n\n[[actions.drop-object.statements]]\nactions = [\"sqs:PurgeQueue\"]\n\
         resources = [\"arn:{partition}:sqs:{region}:{account}:orders\"]\n";
    let expected = of_catalog(&(catalog + entry));
    assert!(expected.data_events.contains_key("AWS::SQS::Queue"), "{:?}", expected.data_events);
    let trails = |report: &Report| -> Vec<String> {
        let found = report.findings.iter().filter(|finding| finding.check == "trail");
        found.map(|finding| finding.evidence.clone()).collect()
    };
    let mut seen = good();
    let missing = trails(&examine(&expected, &seen));
    assert!(
        missing.len() == 1
            && missing[0].contains("AWS::SQS::Queue `arn:aws:sqs:eu-central-1:111122223333:orders`"),
        "{missing:?}"
    );
    for (beginning, fits) in
        [(None, true), (Some("arn:aws:sqs:eu-central-1:111122223333:"), true), (Some("arn:aws:sqs:x"), false)]
    {
        let selector = DataSelector {
            kind: "AWS::SQS::Queue".into(),
            beginnings: beginning.map(|b| vec![b.to_owned()]),
        };
        seen_of(&mut seen_of(&mut seen.trails)[0].data).retain(|selector| selector.kind != "AWS::SQS::Queue");
        seen_of(&mut seen_of(&mut seen.trails)[0].data).push(selector);
        assert_eq!(trails(&examine(&expected, &seen)).is_empty(), fits, "{beginning:?}");
    }
}
