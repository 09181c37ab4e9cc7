//! The broker's two identities and its keys: each does its own part, and nobody can do both.

use awsim_iam_policy::{Decision, parse};

use crate::judge::{Caller, EVERYTHING, document, documents};

const MINTER: &str = "arn:aws:iam::111122223333:role/phasebroker-minter";
const REVOKER: &str = "arn:aws:iam::111122223333:role/phasebroker-revoker";
const EXECUTE: &str = "arn:aws:iam::111122223333:role/phasebroker-execute";
const BOUNDARY: &str = "arn:aws:iam::111122223333:policy/phasebroker-production-execute-boundary";
const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1";

/// One of them, to whom somebody gave everything besides.
fn identity(arn: &str, policy: &str) -> Caller {
    Caller::new(arn, &[documents("production")[policy].as_str().unwrap(), EVERYTHING])
}

#[test]
fn the_minter_assumes_phase_roles_and_nothing_makes_it_do_more() {
    let minter = identity(MINTER, "minter_policy");
    for role in ["observe", "execute", "trust"] {
        for account in ["111122223333", "444455556666"] {
            let arn = format!("arn:aws:iam::{account}:role/phasebroker-{role}");
            assert_eq!(minter.asks("sts:AssumeRole", &arn), Decision::Allow, "{arn}");
        }
    }
    assert_eq!(minter.asks("sts:AssumeRole", "arn:aws:iam::111122223333:role/admin"), Decision::ExplicitDeny);
    for action in ["iam:PutRolePolicy", "iam:DeleteRolePolicy", "iam:GetRolePolicy", "s3:GetObject"] {
        assert_eq!(minter.asks(action, EXECUTE), Decision::ExplicitDeny, "{action}");
    }
}

#[test]
fn the_revoker_writes_where_the_boundary_is_and_nothing_makes_it_do_more() {
    let bounded = [("iam:PermissionsBoundary", BOUNDARY)];
    let policy = documents("production")["revoker_policy"].as_str().unwrap().to_owned();
    let revoker = Caller::new(REVOKER, &[&policy]);
    for action in ["iam:PutRolePolicy", "iam:DeleteRolePolicy"] {
        assert_eq!(revoker.asks_in(action, EXECUTE, &bounded), Decision::Allow, "{action}");
        assert_ne!(revoker.asks(action, EXECUTE), Decision::Allow, "{action} without a boundary");
        let other = [("iam:PermissionsBoundary", "arn:aws:iam::111122223333:policy/other")];
        assert_ne!(revoker.asks_in(action, EXECUTE, &other), Decision::Allow, "{action}");
    }
    assert_eq!(revoker.asks("iam:GetRolePolicy", EXECUTE), Decision::Allow);
    let wide = identity(REVOKER, "revoker_policy");
    for action in [
        "sts:AssumeRole",
        "iam:DeleteRolePermissionsBoundary",
        "iam:PutRolePermissionsBoundary",
        "iam:AttachRolePolicy",
        "iam:UpdateAssumeRolePolicy",
        "iam:CreatePolicyVersion",
        "kms:Sign",
    ] {
        assert_eq!(wide.asks_in(action, EXECUTE, &bounded), Decision::ExplicitDeny, "{action}");
    }
    let admin = "arn:aws:iam::111122223333:role/admin";
    assert_eq!(wide.asks_in("iam:PutRolePolicy", admin, &bounded), Decision::ExplicitDeny);
}

/// `arn` asks KMS; the key's own policy is all that allows, unless somebody gave the caller everything.
fn asks_key(arn: &str, identity: &[&str], spec: &str, action: &str, algorithm: &str) -> Decision {
    let mut caller = Caller::new(arn, identity).with("aws:PrincipalArn", arn);
    caller.resource = Some(parse(&document("production", "key_policies", spec)).unwrap());
    caller.asks_in(action, KEY, &[("kms:SigningAlgorithm", algorithm)])
}

#[test]
fn the_broker_signs_administrators_administer_and_auditors_verify() {
    let (platform, audit) =
        ("arn:aws:iam::111122223333:role/platform", "arn:aws:iam::111122223333:role/audit");
    for (spec, algorithm) in
        [("ECC_NIST_P256", "ECDSA_SHA_256"), ("ECC_NIST_EDWARDS25519", "ED25519_SHA_512")]
    {
        let asks = |arn, action| asks_key(arn, &[], spec, action, algorithm);
        assert_eq!(asks(MINTER, "kms:Sign"), Decision::Allow);
        assert_eq!(asks(MINTER, "kms:GetPublicKey"), Decision::Allow);
        assert_eq!(asks_key(MINTER, &[], spec, "kms:Sign", "OTHER"), Decision::ImplicitDeny);
        for action in ["kms:ScheduleKeyDeletion", "kms:PutKeyPolicy", "kms:DisableKey", "kms:CreateGrant"] {
            assert_ne!(asks(MINTER, action), Decision::Allow, "{action}");
        }
        assert_eq!(asks(platform, "kms:DisableKey"), Decision::Allow);
        assert_eq!(asks(audit, "kms:Verify"), Decision::Allow);
        assert_ne!(asks(audit, "kms:DisableKey"), Decision::Allow);
        for stranger in [platform, audit, REVOKER, "arn:aws:iam::111122223333:role/admin"] {
            for action in ["kms:Sign", "kms:CreateGrant"] {
                let decision = asks_key(stranger, &[EVERYTHING], spec, action, algorithm);
                assert_eq!(decision, Decision::ExplicitDeny, "{stranger} {action}");
            }
        }
    }
}
