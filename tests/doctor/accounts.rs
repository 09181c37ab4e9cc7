//! A further account of `[[aws.accounts]]` is looked at like the broker's own, and its findings name it.

use phasebroker::doctor::*;

use crate::account::*;

type Spoil = fn(&mut Seen, &mut Seen);

#[test]
fn nothing_is_wrong_with_two_accounts_as_terraform_makes_them() {
    let (home, staging) = good_both();
    let report = examine_both(home, staging);
    assert_eq!(report.findings, []);
    let looked_at = |text: &str| report.looked_at.iter().any(|one| one.contains(text));
    assert!(looked_at(&format!(
        "account {STAGING}, read as arn:aws:sts::{STAGING}:assumed-role/phasebroker-doctor"
    )));
    assert!(looked_at(&format!("arn:aws:iam::{STAGING}:role/phasebroker-trust")));
    assert!(looked_at(&format!("revoker (arn:aws:iam::{STAGING}:role/phasebroker-revoker)")));
    assert_eq!(report.looked_at.iter().filter(|one| one.starts_with("minter")).count(), 1);
}

#[test]
fn what_is_wrong_in_a_further_account_is_found_and_names_it() {
    fn execute(seen: &mut Seen) -> &mut RoleSeen {
        seen_of(seen.roles.get_mut(&format!("arn:aws:iam::{STAGING}:role/phasebroker-execute")).unwrap())
    }
    let planted: &[(Spoil, &str, Severity, &str)] = &[
        (
            |_, staging| {
                staging.roles.insert(format!("arn:aws:iam::{STAGING}:role/phasebroker-trust"), Read::Absent);
            },
            "role",
            Severity::Error,
            "does not exist",
        ),
        (
            |_, staging| replace(&mut execute(staging).trust, "sts:ExternalId", "sts:ExternalID2"),
            "trust",
            Severity::Error,
            "external id",
        ),
        (
            |_, staging| {
                replace(
                    &mut execute(staging).trust,
                    &format!("{ACCOUNT}:role/phasebroker-minter"),
                    &format!("{STAGING}:role/phasebroker-minter"),
                )
            },
            "trust",
            Severity::Error,
            "somebody else than the minter",
        ),
        (
            |_, staging| execute(staging).boundary = None,
            "boundary",
            Severity::Error,
            "no permission boundary",
        ),
        (
            |_, staging| staging.revoke = caller_of(ACCOUNT, "phasebroker-other"),
            "identity",
            Severity::Error,
            "another account",
        ),
        (|_, staging| staging.doctor = staging.revoke.clone(), "identity", Severity::Error, "one principal"),
        (
            |_, staging| staging.doctor_is_own = false,
            "identity",
            Severity::Note,
            "`[[aws.accounts]]` of 444455556666",
        ),
        (
            |_, staging| staging.revoke = Read::Unreadable("sts:GetCallerIdentity: ExpiredToken".to_owned()),
            "identity",
            Severity::CouldNotCheck,
            "ExpiredToken",
        ),
        (|_, staging| staging.region = "us-east-1".to_owned(), "region", Severity::Note, "us-east-1"),
        (
            |_, staging| seen_of(&mut seen_of(&mut staging.revoker).attached).clear(),
            "revoker",
            Severity::Error,
            "cannot write the Deny",
        ),
        (
            |_, staging| {
                replace(&mut seen_of(&mut staging.revoker).trust, "role/phasebroker-revoker", "role/host")
            },
            "revoker",
            Severity::Warning,
            "somebody else than the broker's revoker",
        ),
        (
            |_, staging| replace(&mut seen_of(&mut staging.revoker).trust, "phasebroker-staging", "another"),
            "revoker",
            Severity::Error,
            "without the external id",
        ),
        (|_, staging| seen_of(&mut staging.trails).clear(), "trail", Severity::Error, "records nothing"),
    ];
    for (at, (spoil, check, severity, says)) in planted.iter().enumerate() {
        let (mut home, mut staging) = good_both();
        spoil(&mut home, &mut staging);
        let report = examine_both(home, staging);
        let found = report.findings.iter().find(|finding| {
            let text = format!("{} {} {}", finding.what, finding.evidence, finding.fix);
            finding.check == *check && finding.severity == *severity && text.contains(says)
        });
        let found = found.unwrap_or_else(|| panic!("{at} ({says}): {:#?}", report.findings));
        assert_eq!(found.account.as_deref(), Some(STAGING), "{found:#?}");
    }
}

#[test]
fn the_brokers_minter_is_asked_for_the_roles_of_every_account_and_named_once() {
    let (mut home, staging) = good_both();
    let policy = &mut seen_of(&mut seen_of(&mut home.minter).attached)[0];
    let theirs = format!(",\"arn:aws:iam::{STAGING}:role/phasebroker-trust\"");
    replace_in(policy, &theirs, "");
    let report = examine_both(home, staging);
    assert_eq!(told(&report), [("minter", Severity::Error)], "{:#?}", report.findings);
    assert!(report.findings[0].account.is_none());
    assert!(report.findings[0].evidence.contains(&format!("{STAGING}:role/phasebroker-trust")));
}

#[test]
fn a_minter_of_its_own_is_looked_at_in_its_own_account() {
    let examine_own = |spoil: fn(&mut Seen)| {
        let staging = FurtherAccount { account: STAGING.to_owned(), own_minter: true };
        let (expected, mut abroad) = all().split(&[staging]);
        let (mut home, mut staging) = good_both();
        let policy = &mut seen_of(&mut seen_of(&mut home.minter).attached)[0];
        for role in ["execute", "observe", "trust"] {
            replace_in(policy, &format!(",\"arn:aws:iam::{STAGING}:role/phasebroker-{role}\""), "");
        }
        staging.mint = caller_of(STAGING, "phasebroker-minter");
        staging.minter =
            of_broker_in(STAGING, "minter", documents("staging")["minter_policy"].as_str().unwrap());
        for role in staging.roles.values_mut() {
            replace(&mut seen_of(role).trust, &format!("{ACCOUNT}:role"), &format!("{STAGING}:role"));
        }
        spoil(&mut staging);
        let mut further = [(abroad.remove(0), staging)];
        Seen::acquaint(&mut home, &mut further);
        examine_all(&expected, &home, &further)
    };
    assert_eq!(examine_own(|_| {}).findings, []);
    let report = examine_own(|staging| seen_of(&mut seen_of(&mut staging.minter).attached).clear());
    assert_eq!(told(&report), [("minter", Severity::Error)], "{:#?}", report.findings);
    assert_eq!(report.findings[0].account.as_deref(), Some(STAGING));
    let report = examine_own(|staging| {
        let trust = &mut seen_of(staging.roles.values_mut().next().unwrap()).trust;
        replace(trust, &format!("{STAGING}:role"), &format!("{ACCOUNT}:role"));
    });
    assert_eq!(told(&report), [("trust", Severity::Error); 3], "{:#?}", report.findings);
}

#[test]
fn environments_that_were_not_asked_for_leave_their_accounts_alone() {
    let catalog = std::fs::read_to_string(crate::repository("config/catalog.toml")).unwrap();
    let staging = FurtherAccount { account: STAGING.to_owned(), own_minter: false };
    let (home, further) = of_catalog(&catalog).split(std::slice::from_ref(&staging));
    assert!(home.roles.len() == 3 && further.is_empty());
    let report = examine(&home, &good());
    assert_eq!(report.findings, []);
}

#[test]
fn a_revoker_of_an_account_that_was_not_looked_at_is_a_note_and_one_of_a_strange_account_an_error() {
    let staging = FurtherAccount { account: STAGING.to_owned(), own_minter: false };
    let of = |further: &[FurtherAccount]| {
        let (home, further) = expected().split(further);
        assert!(further.is_empty());
        examine(&home, &good_both().0)
    };
    let report = of(std::slice::from_ref(&staging));
    assert_eq!(told(&report), [("revoker", Severity::Note)], "{:#?}", report.findings);
    assert!(report.findings[0].what.contains(&format!("{STAGING}:role/phasebroker-revoker")));
    let report = of(&[]);
    assert!(told(&report).contains(&("revoker", Severity::Error)), "{:#?}", report.findings);
}
