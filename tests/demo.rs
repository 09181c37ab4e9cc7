//! The demo is the first thing a newcomer runs: its story, its exit code, what it keeps and what it cleans up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

fn phasebroker(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_phasebroker")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_demo_plays_an_agents_whole_life_and_every_refusal_happens() {
    let dir = tempfile::tempdir().unwrap();
    let kept = dir.path().join("kept");
    let played = phasebroker(&["demo", "--yes", "--dir", kept.to_str().unwrap()]);
    let story = text(&played.stdout);
    assert!(played.status.success(), "{story}{}", text(&played.stderr));
    for chapter in ["1. OBSERVE", "2. DECIDE", "3. APPROVE", "4. EXECUTE", "5. END", "6. PROVE"] {
        assert!(story.contains(chapter), "{chapter} is missing:\n{story}");
    }
    for said in [
        "alice, who owns the agent, signing it herself",
        "the same signature for the twin",
        "claiming the same grant again",
        "the same credential after completion",
        "attempts at anything else were refused",
        "the evidence holds",
        "It proves:",
        "what was approved and what was possible are the same",
        "It does not prove:",
        "the same file with one bit changed",
    ] {
        assert!(story.contains(said), "{said} is missing:\n{story}");
    }
    assert!(!story.contains("WRONG"), "{story}");
    for (name, mode) in
        [("phasebroker.toml", 0o600), ("keys/bob", 0o600), ("keys/fixer.pem", 0o600), ("data", 0o700)]
    {
        let found = std::fs::metadata(kept.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}");
    }
    assert_no_secret_was_kept(&kept, &story);
    assert_a_grant_compiles_to_itself_offline(&kept);
    assert_it_left_evidence_that_is_checked_without_a_broker(&kept);
    let again = phasebroker(&["demo", "--yes", "--dir", kept.to_str().unwrap()]);
    assert!(!again.status.success(), "a second demo must not overwrite the first");
    let config = kept.join("phasebroker.toml");
    let served = phasebroker(&["serve", "--config", config.to_str().unwrap()]);
    assert_eq!(served.status.code(), Some(2));
    assert!(text(&served.stderr).contains("dev = true"), "{}", text(&served.stderr));
}

/// INVARIANT: no-stored-secrets. The header of every access token of ours ends alike; none is in a file or on the screen.
fn assert_no_secret_was_kept(dir: &Path, story: &str) {
    // base64url of `"typ":"at+jwt"}`, at the place where our headers have it.
    let header = "InR5cCI6ImF0K2p3dCJ9";
    assert!(!story.contains(header), "a token is on the screen");
    let (mut folders, mut files) = (vec![dir.to_owned()], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            assert!(
                !text(&std::fs::read(&path).unwrap()).contains(header),
                "a token is in {}",
                path.display()
            );
        }
    }
    assert!(files > 8, "the files were looked at");
}

/// `DIR/<run>.evidence` and `DIR/trust.json`, and the trust file is the one that `audit trust` writes.
fn assert_it_left_evidence_that_is_checked_without_a_broker(kept: &Path) {
    let files: Vec<_> = std::fs::read_dir(kept).unwrap().map(|entry| entry.unwrap().path()).collect();
    let packs: Vec<_> =
        files.iter().filter(|path| path.extension().is_some_and(|e| e == "evidence")).collect();
    let [pack] = packs.as_slice() else { panic!("{files:?}") };
    let (trust, again) = (kept.join("trust.json"), kept.join("again.json"));
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let verified = phasebroker(&["audit", "verify", &path(pack), "--trust", &path(&trust)]);
    assert!(verified.status.success(), "{}", text(&verified.stdout));
    assert!(text(&verified.stdout).contains("person:bob SIGNED "), "{}", text(&verified.stdout));
    let config = path(&kept.join("phasebroker.toml"));
    let written = phasebroker(&["audit", "trust", "--config", &config, "--out", &path(&again)]);
    assert!(text(&written.stdout).contains("bob"), "{}{}", text(&written.stdout), text(&written.stderr));
    assert_eq!(std::fs::read(&again).unwrap(), std::fs::read(&trust).unwrap());
    let printed = phasebroker(&["audit", "trust", "--config", &config]);
    std::fs::write(&again, &printed.stdout).unwrap();
    let verified = phasebroker(&["audit", "verify", &path(pack), "--trust", &path(&again)]);
    assert!(verified.status.success(), "{}", text(&verified.stdout));
    // Another broker's log key.
    let other = text(&std::fs::read(&trust).unwrap());
    let key = other.split("\"key\":\"").nth(1).unwrap().split('"').next().unwrap();
    std::fs::write(&again, other.replace(key, "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")).unwrap();
    let refused = phasebroker(&["audit", "verify", &path(pack), "--trust", &path(&again)]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stdout).contains("NOT VERIFIED: checkpoint"), "{}", text(&refused.stdout));
}

/// `grant compile --against`: the sealed grant of the demo is what its proposal compiles to, and a changed one is not.
fn assert_a_grant_compiles_to_itself_offline(kept: &Path) {
    let store = rusqlite::Connection::open(kept.join("data/phasebroker.sqlite")).unwrap();
    let bytes: Vec<u8> = store.query_row("SELECT bytes FROM grants LIMIT 1", [], |row| row.get(0)).unwrap();
    let grant: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let (sealed, proposal) = (kept.join("grant.json"), kept.join("proposal.json"));
    std::fs::write(&sealed, &bytes).unwrap();
    let mut asked = serde_json::json!({
        "action": grant["action"]["type"], "environment": grant["environment"],
        "parameters": grant["action"]["parameters"], "work_seconds": grant["credential"]["work_seconds"],
        "claim_key": grant["who"]["claim_key"],
    });
    let config = kept.join("phasebroker.toml");
    let compare = |asked: &serde_json::Value| {
        std::fs::write(&proposal, asked.to_string()).unwrap();
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let (config, proposal, sealed) = (path(&config), path(&proposal), path(&sealed));
        let args = ["grant", "compile", "--config", &config, "--proposal", &proposal, "--against", &sealed];
        let output = phasebroker(&args);
        (output.status.code(), text(&output.stdout).trim().to_owned())
    };
    assert_eq!(compare(&asked), (Some(0), "identical".into()));
    asked["parameters"]["service"] = "other".into();
    assert_eq!(compare(&asked), (Some(1), "differs at action.parameters.service".into()));
}

#[test]
fn the_shipped_configuration_checks_and_every_example_compiles_to_itself() {
    let checked = phasebroker(&["config", "check", "--config", "config/phasebroker.toml"]);
    assert!(checked.status.success(), "{}{}", text(&checked.stdout), text(&checked.stderr));
    let mut compiled = 0;
    for entry in std::fs::read_dir("config/proposals").unwrap() {
        let path = entry.unwrap().path();
        let args =
            ["grant", "compile", "--config", "config/phasebroker.toml", "--proposal", path.to_str().unwrap()];
        let plan = phasebroker(&args);
        assert!(plan.status.success(), "{}: {}", path.display(), text(&plan.stderr));
        let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
        assert!(plan.pointer("/credential/provider").is_some(), "{plan}");
        compiled += 1;
    }
    assert!(compiled >= 8);
}
