//! What the broker's two identities may become, sign and be taken by: one weakness at a time.

use phasebroker::doctor::*;
use serde_json::{Value, json};

use crate::account::*;

/// Adds an inline policy of one Allow, and takes the Denies away that would make up for it.
fn allows(role: &mut RoleSeen, action: &str, resource: Value) {
    let attached = &mut seen_of(&mut role.attached)[0];
    let mut policy: Value = serde_json::from_str(seen_of(&mut attached.text)).unwrap();
    policy["Statement"].as_array_mut().unwrap().retain(|statement| statement["Effect"] == "Allow");
    attached.text = Read::Seen(policy.to_string());
    let text = json!({"Statement": {"Effect": "Allow", "Action": action, "Resource": resource}}).to_string();
    seen_of(&mut role.inline).push(Document { name: "more".to_owned(), text: Read::Seen(text) });
}

fn trusts(role: &mut RoleSeen, principal: Value, condition: Value) {
    let mut statement = json!({"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"});
    if !condition.is_null() {
        statement["Condition"] = condition;
    }
    role.trust = json!({"Statement": [statement]}).to_string();
}

/// Severity and everything that is said, of the findings of one check.
fn said(report: &Report, check: &str) -> Vec<(Severity, String)> {
    let found = report.findings.iter().filter(|finding| finding.check == check);
    found
        .map(|found| (found.severity, format!("{} | {} | {}", found.what, found.evidence, found.fix)))
        .collect()
}

#[test]
fn the_revoker_becomes_the_revoker_of_a_configured_account_and_nobody_else() {
    let become_of = |arn: &str, spoil: fn(&mut Seen)| {
        let (mut home, mut staging) = good_both();
        spoil(&mut staging);
        allows(seen_of(&mut home.revoker), "sts:AssumeRole", json!(arn));
        said(&examine_both(home, staging), "revoker")
    };
    let revoker = format!("arn:aws:iam::{STAGING}:role/phasebroker-revoker");
    assert_eq!(become_of(&revoker, |_| {}), []);
    for stranger in [
        format!("arn:aws:iam::{STAGING}:role/admin"),
        format!("arn:aws:iam::{STAGING}:role/other/phasebroker-revoker"),
        format!("arn:aws:iam::{STAGING}:role/phasebroker-execute"),
        "arn:aws:iam::999988887777:role/phasebroker-revoker".to_owned(),
        format!("arn:aws:iam::{ACCOUNT}:role/admin"),
    ] {
        let found = become_of(&stranger, |_| {});
        let named =
            |(severity, text): &(Severity, String)| *severity == Severity::Error && text.contains(&stranger);
        assert!(found.iter().any(named), "{stranger}: {found:#?}");
    }
    // Who the revoker there is has to be known.
    let found = become_of(&revoker, |staging| {
        staging.revoke = Read::Unreadable("sts:GetCallerIdentity: ExpiredToken".to_owned());
        staging.revoker = Read::Unreadable("sts:GetCallerIdentity: ExpiredToken".to_owned());
    });
    assert!(found.iter().all(|(severity, _)| *severity == Severity::CouldNotCheck), "{found:#?}");
    assert!(
        found.iter().any(|(_, text)| text.contains(&revoker) && text.contains("ExpiredToken")),
        "{found:#?}"
    );
}

#[test]
fn the_revoker_writes_phase_roles_of_its_own_account_and_no_other_role() {
    for (arn, fine) in [
        (format!("arn:aws:iam::{ACCOUNT}:role/phasebroker-execute"), true),
        (format!("arn:aws:iam::{STAGING}:role/phasebroker-execute"), false),
        (format!("arn:aws:iam::{ACCOUNT}:role/admin"), false),
    ] {
        let (mut home, staging) = good_both();
        allows(seen_of(&mut home.revoker), "iam:GetRolePolicy", json!([arn]));
        let found = said(&examine_both(home, staging), "revoker");
        assert_eq!(found.is_empty(), fine, "{arn}: {found:#?}");
        assert!(found.iter().all(|(severity, text)| *severity == Severity::Error && text.contains(&arn)));
    }
}

#[test]
fn who_may_sign_with_any_key_is_found_and_who_may_with_one_is_not() {
    let key = format!("arn:aws:kms:eu-central-1:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab");
    for (resource, fine) in [
        (json!(key), true),
        (json!("*"), false),
        (json!(format!("arn:aws:kms:eu-central-1:{ACCOUNT}:key/*")), false),
        (json!(format!("arn:aws:kms:eu-central-1:{ACCOUNT}:alias/x")), false),
    ] {
        let mut seen = good();
        allows(seen_of(&mut seen.minter), "kms:Sign", resource.clone());
        let found = said(&examine(&expected(), &seen), "minter");
        assert_eq!(found.is_empty(), fine, "{resource}: {found:#?}");
        assert!(
            found.iter().all(|(severity, text)| *severity == Severity::Error && text.contains("kms:Sign"))
        );
        // The revoker signs nothing at all.
        let mut seen = good();
        allows(seen_of(&mut seen.revoker), "kms:Sign", resource.clone());
        let found = said(&examine(&expected(), &seen), "revoker");
        assert!(
            found.iter().any(|(severity, text)| *severity == Severity::Error && text.contains("kms:Sign"))
        );
    }
    // IAM's own word counts where it simulates.
    let mut seen = good();
    let asked = of_minter(&expected(), &seen);
    let any_key = |question: &Question| question.action == "kms:Sign";
    seen.minter_answers = Read::Seen(asked.iter().map(|one| one.allowed || any_key(one)).collect());
    let found = said(&examine(&expected(), &seen), "minter");
    assert!(found.len() == 1 && found[0].1.contains("kms:Sign"), "{found:#?}");
}

#[test]
fn services_and_identity_providers_that_hand_the_identity_out_are_named() {
    const OIDC: &str = "arn:aws:iam::111122223333:oidc-provider/oidc.example/id/1";
    let bound = json!({"StringEquals": {"oidc.example/id/1:aud": "sts.amazonaws.com",
                                        "oidc.example/id/1:sub": "system:serviceaccount:broker:broker"}});
    let subject_alone =
        json!({"StringEquals": {"oidc.example/id/1:sub": "system:serviceaccount:broker:broker"}});
    let wild = json!({"StringEquals": {"oidc.example/id/1:aud": "sts.amazonaws.com"},
                      "StringLike": {"oidc.example/id/1:sub": "system:serviceaccount:*"}});
    let negated = json!({"StringNotEquals": {"oidc.example/id/1:aud": "x", "oidc.example/id/1:sub": "x"}});
    for (principal, condition, severity, says) in [
        (json!({"Service": "ec2.amazonaws.com"}), Value::Null, Severity::Note, "`ec2.amazonaws.com`"),
        (json!({"Service": ["ecs-tasks.amazonaws.com"]}), Value::Null, Severity::Note, "iam:PassRole"),
        (
            json!({"Service": "cloudformation.amazonaws.com"}),
            Value::Null,
            Severity::Warning,
            "cloudformation",
        ),
        (json!({"Federated": OIDC}), bound, Severity::Note, OIDC),
        (
            json!({"Federated": OIDC}),
            Value::Null,
            Severity::Warning,
            "oidc.example/id/1:aud and oidc.example/id/1:sub",
        ),
        (json!({"Federated": OIDC}), subject_alone, Severity::Warning, "oidc.example/id/1:aud not bound"),
        (json!({"Federated": OIDC}), wild, Severity::Warning, "oidc.example/id/1:sub not bound"),
        (json!({"Federated": OIDC}), negated, Severity::Warning, "oidc.example/id/1:aud"),
        (json!({"CanonicalUser": "79a59df9"}), Value::Null, Severity::Error, "CanonicalUser"),
        (json!({"AWS": 1}), Value::Null, Severity::Error, "everybody"),
    ] {
        for check in ["minter", "revoker"] {
            let mut seen = good();
            let role = if check == "minter" { &mut seen.minter } else { &mut seen.revoker };
            trusts(seen_of(role), principal.clone(), condition.clone());
            let found = said(&examine(&expected(), &seen), check);
            assert!(
                found.len() == 1 && found[0].0 == severity && found[0].1.contains(says),
                "{principal} {condition}: {found:#?}"
            );
            assert!(found[0].1.contains("Statement[0].Principal"), "{found:#?}");
        }
    }
    let mut seen = good();
    trusts(
        seen_of(&mut seen.minter),
        json!({"AWS": format!("arn:aws:iam::{ACCOUNT}:role/host")}),
        Value::Null,
    );
    assert_eq!(examine(&expected(), &seen).findings, []);
}
