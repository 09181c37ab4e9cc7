//! What a tired person reads: the story, what is proved and what is not; and the commands around it.

use std::process::Command;

use phasebroker::domain::digest::Digest;
use serde_json::Value;

use super::packed::packed;

#[tokio::test(flavor = "multi_thread")]
async fn the_verdict_tells_who_asked_who_signed_what_and_how_it_ended() {
    let it = packed().await;
    let text = it.holds().to_string();
    let (_, grant) = it.grant();
    let code = Digest::of(&phasebroker::domain::canonical::to_bytes(&grant).unwrap()).short_code();
    for said in [
        "agent:fixer opened the run in demo for alice; purpose, as written: \"checkout is slow\"",
        "Restart the service checkout (memory-leak)",
        "must sign: 1 of on-call",
        &format!("person:bob SIGNED {code} 0 s after it was sealed"),
        "kept as file",
        &format!("claimed {code}: a credential of jwt"),
        &format!("agent:fixer ENDED the credential of {code} (completed, the agent says: succeeded)"),
        "It proves:",
        "bob signed exactly it",
        "what was approved and what was possible are the same",
        "It does not prove:",
        "no witness of the trust file cosigned it",
        "VERIFIED: everything that must hold holds.",
    ] {
        assert!(text.contains(said), "`{said}` is missing:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_verdict_proves_nothing_and_names_what_failed() {
    let it = packed().await;
    let verdict = it.with(|pack| pack["texts"][0]["value"] = "AA".into()).refused_only("texts");
    let text = verdict.to_string();
    assert!(verdict.proves.is_empty() && !text.contains("It proves:"), "{text}");
    assert!(text.contains("FAILED") && text.contains("NOT VERIFIED: texts."), "{text}");
    assert!(text.contains("it is not what was recorded"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_a_pack_reaches_a_terminal_as_more_than_visible_text() {
    let it = packed().await;
    let hostile = it.with(|pack| pack["issuer"] = "\\u{1b}[2J".into());
    assert!(!hostile.refused("form").to_string().contains('\u{1b}'));
    let text = it.with(|pack| pack["texts"][0]["value"] = "G1sySg".into()).refused("texts").to_string();
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_ends_with_0_only_when_everything_holds() {
    let it = packed().await;
    let dir = tempfile::tempdir().unwrap();
    let (pack, trust) = (dir.path().join("run.evidence"), dir.path().join("trust.json"));
    std::fs::write(&trust, it.trust.to_bytes().unwrap()).unwrap();
    let verify = |bytes: &[u8], more: &[&str]| {
        std::fs::write(&pack, bytes).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_phasebroker"));
        command.args(["audit", "verify"]).arg(&pack).arg("--trust").arg(&trust).args(more);
        let output = command.env_clear().output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = verify(&it.bytes(), &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("VERIFIED"), "{text}");
    let (code, json) = verify(&it.bytes(), &["--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["ok"]), (Some(0), &Value::Bool(true)), "{json}");
    assert_eq!(json["checks"].as_array().unwrap().len(), 17, "{json}");
    let (code, text) = verify(b"{}", &[]);
    assert_eq!(code, Some(1), "{text}");
    std::fs::write(&trust, b"{}").unwrap();
    assert_eq!(verify(&it.bytes(), &[]).0, Some(2));
}

/// The other verifier knows every kind of event that decides what a grant or a lease is worth.
#[test]
fn both_verifiers_know_the_same_kinds_of_event() {
    let script = include_str!("../verify_evidence.py");
    let families = script.split("KNOWN = re.compile(").nth(1).unwrap().split("STEPS").next().unwrap();
    for kind in phasebroker::domain::event::EventKind::ALL {
        let (family, what) = kind.name().split_once('.').unwrap_or((kind.name(), ""));
        if ["grant", "approval", "lease", "playbook"].contains(&family) {
            let named = families.split(&format!("{family}.(")).nth(1).unwrap().split(')').next().unwrap();
            assert!(named.split('|').any(|known| known == what), "`{}` is unknown to it", kind.name());
        }
    }
}

#[test]
fn the_other_verifier_is_short_enough_to_be_read() {
    let script = include_str!("../verify_evidence.py");
    assert!(script.lines().count() <= 203, "{} lines", script.lines().count());
    assert!(script.lines().all(|line| line.chars().count() <= 130));
    for line in script.lines().filter(|line| line.starts_with("import ") || line.starts_with("from ")) {
        let from: Vec<&str> = line.split([' ', ',', '.']).filter(|word| !word.is_empty()).collect();
        assert!(["base64", "datetime", "cryptography"].contains(&from[1]), "{line}");
    }
}
