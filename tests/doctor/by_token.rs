//! Roles that trust tokens of the approvers' side: exactly as Terraform makes them, and nobody else's.

use phasebroker::doctor::*;

use crate::account::*;

const WEB: &str = "\n[environments.production.aws.web_identity]\nissuer = \"https://approvers.example.com/oidc\"\n\
                   audience = \"sts.amazonaws.com\"\n";
const FEDERATED: &str =
    r#"{"Federated":"arn:aws:iam::111122223333:oidc-provider/approvers.example.com/oidc"}"#;
const MINTER: &str = r#"{"AWS":"arn:aws:iam::111122223333:role/phasebroker-minter"}"#;

/// The shipped catalog with a web identity and a second role for work, as the documents are made of it.
fn expected() -> Expected {
    let role = "execute_role = \"arn:aws:iam::111122223333:role/phasebroker-execute\"";
    let shipped = std::fs::read_to_string(crate::repository("config/catalog.toml")).unwrap();
    of_catalog(&(shipped.replacen(role, &format!("{role}\nshards = 2"), 1) + WEB))
}

fn found(spoil: impl FnOnce(&mut Seen)) -> Report {
    let mut seen = good_of("by_tag");
    spoil(&mut seen);
    examine(&expected(), &seen)
}

#[test]
fn nothing_is_wrong_with_roles_by_token_as_terraform_makes_them() {
    let report = found(|_| {});
    assert_eq!(report.findings, []);
    assert!(report.unseen.iter().any(|text| text.contains("identity providers")), "{:?}", report.unseen);
    let without = examine(&crate::account::expected(), &good());
    assert!(!without.unseen.iter().any(|text| text.contains("identity providers")));
}

#[test]
fn only_tokens_of_the_approvers_side_for_this_role_are_trusted() {
    let provider = "oidc-provider/approvers.example.com/oidc";
    for kind in ["execute", "execute-1", "trust"] {
        let subject = format!("arn:aws:iam::111122223333:role/phasebroker-{kind}\"");
        for (from, to, says) in [
            (FEDERATED, MINTER, "somebody else than the approvers' side"),
            (FEDERATED, r#""*""#, "somebody else than the approvers' side"),
            (provider, "oidc-provider/approvers.example.com/other", "somebody else than the approvers' side"),
            (
                "/oidc\"}",
                "/oidc\",\"AWS\":\"arn:aws:iam::111122223333:role/x\"}",
                "somebody else than the approvers' side",
            ),
            ("oidc:aud", "oidc:azp", "the audience of the tokens"),
            ("\"sts.amazonaws.com\"", "[\"sts.amazonaws.com\",\"x\"]", "the audience of the tokens"),
            ("oidc:sub", "oidc:azp", "that the token is for this role"),
            (
                &subject,
                "arn:aws:iam::111122223333:role/phasebroker-other\"",
                "that the token is for this role",
            ),
            ("aws:RequestTag/action", "aws:RequestTag/x", "the session tag `action`"),
            ("aws:RequestedRegion", "aws:RequestedRegion2", "be called in any region"),
            ("\"eu-central-1\",", "", "cannot be assumed in eu-central-1"),
            ("\"p_*\"", "\"*\"", "keeping to the tags"),
            ("\"sts:SourceIdentity\"", "\"sts:Other\"", "a source identity"),
            ("sts:AssumeRoleWithWebIdentity", "sts:AssumeRole", "trusts for more than"),
        ] {
            let report = found(|seen| replace(&mut role(seen, kind).trust, from, to));
            let told = |finding: &Finding| finding.severity == Severity::Error && finding.what.contains(says);
            assert!(report.findings.iter().all(|finding| finding.check == "trust"), "{:#?}", report.findings);
            assert!(report.findings.iter().any(told), "{kind} {from}: {:#?}", report.findings);
        }
    }
    // Observing stays the minter's.
    let report = found(|seen| replace(&mut role(seen, "observe").trust, MINTER, FEDERATED));
    assert_eq!(told(&report), [("trust", Severity::Error); 3], "{:#?}", report.findings);
}

#[test]
fn a_role_of_the_minter_that_trusts_tokens_is_found() {
    let mut seen = good();
    replace(&mut role(&mut seen, "execute").trust, MINTER, FEDERATED);
    let report = examine(&crate::account::expected(), &seen);
    assert_eq!(told(&report), [("trust", Severity::Error); 3], "{:#?}", report.findings);
}

#[test]
fn a_minter_that_could_assume_a_role_by_token_is_found() {
    let report = found(|seen| seen.minter = good().minter);
    let errors: Vec<_> = report.findings.iter().filter(|one| one.severity == Severity::Error).collect();
    assert!(errors.iter().all(|finding| finding.check == "minter"), "{errors:#?}");
    assert!(
        errors.iter().any(|finding| finding.evidence.contains("role/phasebroker-execute")),
        "{errors:#?}"
    );
    // IAM's own word counts where it simulates.
    let mut seen = good_of("by_tag");
    let asked = of_minter(&expected(), &seen);
    seen.minter_answers = Read::Seen(asked.iter().map(|one| one.allowed).collect());
    assert_eq!(examine(&expected(), &seen).findings, []);
    let wrong = |one: &Question| one.action == "sts:AssumeRole" && one.resource.ends_with("broker-execute-1");
    seen.minter_answers = Read::Seen(asked.iter().map(|one| one.allowed || wrong(one)).collect());
    assert_eq!(told(&examine(&expected(), &seen)), [("minter", Severity::Error)]);
}

#[test]
fn a_boundary_by_tag_holds_no_more_than_the_tags_say() {
    let variable = "instance/${aws:PrincipalTag/p_instance}";
    let action = r#""aws:PrincipalTag/action":["reboot-instance"]"#;
    let provider = r#","arn:aws:iam::111122223333:oidc-provider/approvers.example.com/oidc""#;
    for (from, to, says) in [
        (variable, "instance/i-*", "wider than the catalog's ceiling"),
        (variable, "instance/${aws:PrincipalTag/p_other}", "wider than the catalog's ceiling"),
        (
            action,
            r#""aws:PrincipalTag/action":["reboot-instance","other"]"#,
            "wider than the catalog's ceiling",
        ),
        (provider, "", "without the Deny of what is ours"),
    ] {
        let report = found(|seen| replace_in(role(seen, "execute").boundary.as_mut().unwrap(), from, to));
        let told = |finding: &Finding| finding.severity == Severity::Error && finding.what.contains(says);
        assert!(report.findings.iter().all(|finding| finding.check == "boundary"), "{:#?}", report.findings);
        assert!(report.findings.iter().any(told), "{from}: {:#?}", report.findings);
    }
}
