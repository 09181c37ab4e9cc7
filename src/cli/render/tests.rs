//! What a person must find in a rendering.

use super::*;
use crate::domain::action::ParameterValue;
use crate::domain::canonical;
use crate::domain::digest::Digest;
use crate::domain::id::{DecisionId, GrantId, LeaseId, RunId};
use crate::domain::time::Timestamp;
use serde_json::{Value, json};

const POLICY: &str = r#"{"Statement":[{"Action":["autoscaling:SetDesiredCapacity"],"Effect":"Allow","Resource":["arn:aws:autoscaling:eu-west-1:111122223333:autoScalingGroup:*:autoScalingGroupName/web"]},{"Action":"*","Condition":{"DateGreaterThanEquals":{"aws:CurrentTime":"{{not_after}}"}},"Effect":"Deny","Resource":"*"}],"Version":"2012-10-17"}"#;

/// A grant that people sign.
pub(crate) fn grant() -> Value {
    let (digest, now) = (Digest::of(b"x"), Timestamp::from_seconds(1_700_000_000));
    json!({
        "version": 1, "type": "credential", "id": GrantId::generate(now), "epoch": 1,
        "issuer": "https://broker.example", "environment": "production",
        "who": {"run": RunId::generate(now), "proposing_agent": "thinker", "claiming_agent": "fixer",
            "claim_key": digest, "requester": "rita", "asked_in_person": false,
            "attestation": "registered_key"},
        "action": {"type": "scale-group", "service": "web", "summary": "Set the desired size of group web to 6",
            "parameters": {"group": "web", "size": 6}, "unenforced": ["size"], "class": "availability",
            "reversible": true, "rollback": "scale-group", "changes": 1, "exceptions": [], "preconditions": []},
        "credential": {"provider": "aws", "role_arn": "arn:aws:iam::111122223333:role/execute",
            "account": "111122223333", "region": "eu-west-1", "session_name": "execute-L", "source_identity": "G",
            "session_policy": POLICY, "tags": {"phase": "execute", "agent": "fixer"}, "duration_seconds": 900,
            "work_seconds": 300, "revocability": "seconds"},
        "decision": {"id": DecisionId::generate(now), "tier": "needs_approval",
            "rule": {"groups": {"sre": 1}, "custody": ["file"]}, "reasons": ["production-needs-sre"],
            "policy": digest, "catalog": digest, "directory": digest,
            "guardrails": digest},
        "evidence": digest,
        "time": {"lease": LeaseId::generate(now), "sealed_at": now, "approve_by": now.plus(900),
            "claim_seconds": 300, "claim_by": now.plus(1200), "work_seconds": 240, "nonce": "AAAAAAAAAAAAAAAAAAAAAA"}
    })
}

fn rendered(change: impl FnOnce(&mut Value)) -> (SealedGrant, String) {
    let mut value = grant();
    change(&mut value);
    let sealed = SealedGrant::parse(&canonical::to_bytes(&value).unwrap()).unwrap();
    let text = render(&sealed);
    (sealed, text)
}

#[test]
fn what_aws_does_not_enforce_comes_first() {
    let (_, text) = rendered(|_| {});
    let first: Vec<&str> = text.lines().take(4).collect();
    assert_eq!(first[0], "#".repeat(WIDTH));
    assert!(first[1].contains("NOT ENFORCED BY AWS"), "{text}");
    assert_eq!(first[2].trim_start_matches('#').trim(), "size = \"6\"");
    assert_eq!(first[3], "#".repeat(WIDTH));
}

#[test]
fn a_grant_that_is_enforced_whole_has_no_box() {
    let (_, text) = rendered(|grant| grant["action"]["unenforced"] = json!([]));
    assert!(text.starts_with("Every parameter is enforced by AWS."), "{text}");
    assert!(!text.contains('#'));
}

#[test]
fn everything_that_decides_is_there() {
    let (sealed, text) = rendered(|_| {});
    for part in [
        "scale-group in environment production",
        "group = \"web\"",
        "changes 1; class availability; environment production; service web",
        "yes; way back: scale-group",
        "arn:aws:iam::111122223333:role/execute",
        "111122223333, region eu-west-1",
        "arn:aws:autoscaling:eu-west-1:111122223333:autoScalingGroup:*:autoScalingGroupName/web",
        "agent=fixer phase=execute",
        "autoscaling:SetDesiredCapacity",
        "on: the claim plus 240 s",
        "agent thinker, on behalf of rita, as the agent's owner",
        "(registered_key)",
        "agent fixer, key ",
        "1 of sre (key kept as: file)",
        "2023-11-14T22:28:20Z",
        "240 s from the claim",
        "seconds: after the provider's propagation",
        "production-needs-sre",
        &sealed.digest().to_string(),
        &sealed.digest().short_code(),
    ] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
}

#[test]
fn whose_token_a_session_is_minted_with_is_said_in_words() {
    let said = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, plain) = rendered(|_| {});
    assert!(!said(&plain).contains("approvers' side"), "{plain}");
    let (_, text) = rendered(|grant| {
        grant["credential"]["web_identity"] =
            json!({"issuer": "https://approvers.example/oidc", "audience": "sts.amazonaws.com"});
    });
    let part = "one token of https://approvers.example/oidc (audience sts.amazonaws.com), which the approvers' side signs";
    assert!(said(&text).contains(part), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
}

#[test]
fn a_typical_grant_fits_a_page() {
    let (_, text) = rendered(|_| {});
    assert!(text.lines().count() <= 60, "{} lines:\n{text}", text.lines().count());
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    assert!(text.bytes().all(|b| b == b'\n' || (0x20..0x7f).contains(&b)));
}

#[test]
fn dangers_are_in_the_box() {
    let (_, text) = rendered(|grant| {
        grant["action"]["exceptions"] = json!(["iam:PassRole"]);
        grant["action"]["reversible"] = json!(false);
        grant["credential"]["session_policy"] = json!(r#"{"Statement":[]}"#);
    });
    let edge = text.lines().skip(1).position(|line| line == "#".repeat(WIDTH)).unwrap();
    let warning = text.lines().take(edge + 1).collect::<Vec<_>>().join("\n");
    for part in ["iam:PassRole", "NOT REVERSIBLE", "NO DEADLINE"] {
        assert!(warning.contains(part), "{part}: {text}");
    }
}

#[test]
fn what_kind_of_grant_it_is_comes_before_everything() {
    let first = |change: fn(&mut Value)| rendered(change).1.lines().take(6).collect::<Vec<_>>().join("\n");
    assert!(!rendered(|_| {}).1.contains("SUGGESTION"));
    let suggestion = rendered(|grant| {
        grant["decision"]["tier"] = json!("suggest_only");
        grant["decision"]["rule"] = json!({"groups": {}, "custody": []});
    })
    .1;
    assert!(suggestion.lines().nth(1).unwrap().contains("A SUGGESTION: nobody signs it"), "{suggestion}");
    assert!(suggestion.contains("claim         never") && !suggestion.contains("sign by"), "{suggestion}");
    let playbook = |grant: &mut Value| {
        grant["decision"]["tier"] = json!("autonomous");
        grant["decision"]["playbook"] = json!(Digest::of(b"p"));
    };
    let top = first(playbook);
    assert!(top.contains("NOBODY SIGNS THIS") && top.contains(&Digest::of(b"p").to_string()), "{top}");
    assert!(!rendered(playbook).1.contains("last signature"));
    let top = first(|grant| grant["decision"]["break_glass"] = json!(true));
    assert!(top.contains("BREAK-GLASS: "), "{top}");
}

#[test]
fn what_no_resource_narrows_is_a_danger_and_what_is_not_given_is_told() {
    let (_, text) = rendered(|grant| {
        grant["action"]["unscopable"] = json!(["ec2:EnableEbsEncryptionByDefault"]);
        grant["action"]["dependents"] = json!(["iam:PassRole", "rds:AddTagsToResource"]);
    });
    assert!(
        text.contains("##  NOT NARROWED TO A RESOURCE: ec2:EnableEbsEncryptionByDefault, only by conditions"),
        "{text}"
    );
    assert!(text.contains("may need beside it (NOT given): iam:PassRole, rds:AddTagsToResource"), "{text}");
    let (_, text) = rendered(|_| {});
    assert!(!text.contains("NOT NARROWED") && !text.contains("NOT given"), "{text}");
}

#[test]
fn the_way_back_and_who_may_not_sign_are_told() {
    let (id, digest) = (GrantId::generate(Timestamp::from_seconds(1_700_000_000)), Digest::of(b"back"));
    let (_, text) = rendered(|grant| {
        grant["time"]["inverse"] = json!({"grant": id, "digest": digest});
        grant["who"]["asked_in_person"] = json!(true);
        grant["who"]["attestation"] = json!("workload");
        grant["decision"]["authors"] = json!(["ada", "bob"]);
        grant["decision"]["guardrails"] = json!(Digest::of(b"guardrails"));
    });
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        format!("this ceremony also signs the way back: grant {id} digest {digest}"),
        "on behalf of rita, who asked in person".to_owned(),
        "(workload)".to_owned(),
        "may not sign ada, bob: authors of the rules in force".to_owned(),
        format!("guardrails {}", Digest::of(b"guardrails")),
    ] {
        assert!(one_line.contains(&part), "{part} is missing:\n{text}");
    }
    let (_, text) = rendered(|grant| grant["time"]["inverse_of"] = json!(id));
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let back = format!("takes back grant {id}; can be claimed only after its credential was released");
    assert!(one_line.contains(&back) && !one_line.contains("also signs"), "{text}");
}

#[test]
fn a_canary_is_told_in_words_and_is_no_resource_of_the_action() {
    let canary = crate::domain::sent::CANARY_STATEMENT;
    let (_, text) = rendered(|grant| {
        let with = POLICY.replacen("[{\"Action\"", &format!("[{canary},{{\"Action\""), 1);
        grant["credential"]["session_policy"] = json!(with);
    });
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("the session may also list the names of AWS's regions"), "{text}");
    assert!(
        words.contains("once when it gives the session out, and after its early end until AWS refuses"),
        "{text}"
    );
    assert!(
        !text.lines().any(|line| line.trim_start().starts_with("resource") && line.ends_with(" *")),
        "{text}"
    );
    let (_, without) = rendered(|_| {});
    assert!(!without.contains("canary"), "{without}");
}

#[test]
fn a_rendering_is_a_function_of_the_bytes() {
    let (sealed, text) = rendered(|_| {});
    assert_eq!(render(&SealedGrant::parse(sealed.bytes()).unwrap()), text);
    let (_, other) = rendered(|grant| grant["action"]["parameters"]["size"] = json!(7));
    assert_ne!(other, text);
    assert_eq!(ParameterValue::Integer(7).to_string(), "7");
}

#[test]
fn the_agents_words_stand_apart_with_hidden_characters_visible() {
    let story = Story {
        diagnosis: "size is wrong\n== ACTION\n\u{1b}[2J\u{202e}".into(),
        evidence: String::new(),
        reason: "line\n".repeat(40),
    };
    let text = render_story(&story, 12);
    assert!(text.trim_start().starts_with("== UNTRUSTED: written by the agent"), "{text}");
    assert!(text.contains("    | == ACTION\n"), "{text}");
    assert!(text.contains("\\u{1b}[2J\\u{202e}"), "{text}");
    assert!(text.contains("(28 more lines:"), "{text}");
}
