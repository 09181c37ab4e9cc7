//! The commands as auditors type them, against the broker of `phasebroker dev`.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::life::text;
use crate::dev_world::{DevWorld, Ran};

const PROGRAM: &str = env!("CARGO_BIN_EXE_phasebroker");

/// Olga proposes the shipped playbook, bob signs it, the agent uses it.
fn used(world: &DevWorld) {
    let file = world.path("playbook.toml").display().to_string();
    let proposed = world.json("olga", &["playbooks", "propose", "--file", &file]);
    let code = text(&proposed, "short_code").to_owned();
    world.typing("bob", &["playbooks", "sign", text(&proposed, "grant")], &code).ends(0);
    let action =
        ["--action", "restart-service", "--param", "service=checkout", "--param", "reason_code=memory-leak"];
    world.exec(&[&action[..], &["--wait", "1", "--", "echo", "restarted"]].concat()).ends(0);
}

fn check(world: &DevWorld, more: &[&str]) -> Ran {
    let output = Command::new(PROGRAM)
        .args(more)
        .args(["audit", "check", "--config"])
        .arg(world.path("phasebroker.toml"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

fn kinds(answer: &Value) -> Vec<&str> {
    answer["events"].as_array().unwrap().iter().map(|one| text(&one["event"], "type")).collect()
}

#[test]
fn an_auditor_finds_reads_reports_and_checks() {
    let world = DevWorld::start();
    used(&world);

    let all = world.json("erin", &["audit", "log", "--all"]);
    let newest = world.json("erin", &["audit", "log", "--last", "3"]);
    assert_eq!(
        newest["events"].as_array().unwrap(),
        &all["events"].as_array().unwrap()[kinds(&all).len() - 3..]
    );
    let claims = ["audit", "log", "--type", "lease.intent", "--decision", "autonomous"];
    let claimed = world.json("erin", &[&claims[..], &["--since", "1h", "--agent", "fixer"]].concat());
    assert_eq!(kinds(&claimed), ["lease.intent"]);
    assert_eq!(kinds(&world.json("erin", &[&claims[..], &["--until", "1h"]].concat())), Vec::<&str>::new());
    let none = world.person("erin", &["audit", "log", "--approver", "erin"]).ends(0);
    assert!(none.contains("no event fits"), "{none}");
    let table =
        world.person("erin", &["audit", "log", "--approver", "bob", "--type", "approval.received"]).ends(0);
    assert!(table.contains("person:bob") && table.contains("seconds_to_sign"), "{table}");
    world.person("erin", &["audit", "log", "--since", "yesterday"]).ends(2);
    let unknown = world.person("erin", &["audit", "log", "--type", "lease.dead"]).ends(1);
    assert!(unknown.contains("lease.dead"), "{unknown}");

    let run = text(&claimed["events"][0]["event"], "run").to_owned();
    let timeline = world.person("erin", &["audit", "run", &run]).ends(0);
    for part in
        ["run of agent:fixer in demo", "restart-service in demo", "by playbook", "ended", "lease.released"]
    {
        assert!(timeline.contains(part), "{part}: {timeline}");
    }
    let of_run = world.json("erin", &["audit", "run", &run]);
    assert!(kinds(&of_run).starts_with(&["run.opened"]), "{of_run}");

    let report = world.json("erin", &["audit", "report", "--since", "1h"]);
    assert_eq!(report["autonomy"]["autonomous_percent"], 100);
    assert_eq!(report["standing"]["playbooks"][0]["name"], "restart-degraded");
    assert_eq!(
        (&report["approvers"][0]["person"], &report["approvers"][0]["approved"]),
        (&"bob".into(), &1.into())
    );
    let shown = world.person("erin", &["audit", "report"]).ends(0);
    for part in
        ["Who approved what", "bob", "restart-degraded", "inside playbooks: 100 %", "never handed out: 0"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let earlier = world.json("erin", &["audit", "report", "--since", "2d", "--until", "1d"]);
    assert_eq!((&earlier["events"], &earlier["standing"]["playbooks"]), (&0.into(), &Value::Array(vec![])));

    let said = check(&world, &[]).ends(0);
    assert!(said.contains("everything agrees"), "{said}");
    let checked = check(&world, &["--json"]).json();
    assert_eq!((&checked["ok"], &checked["findings"]), (&true.into(), &Value::Array(vec![])));
    assert_eq!(checked["checkpoints"], checked["checkpoints_signed"]);
    assert!(checked["checkpoints_signed"].as_u64().unwrap() > 0, "{checked}");

    let trust = world.file("trust.json", "");
    let config = world.path("phasebroker.toml").display().to_string();
    let wrote = Command::new(PROGRAM).args(["audit", "trust", "--config", &config, "--out", &trust]).status();
    assert!(wrote.unwrap().success());
    let remote = world.json("erin", &["audit", "check-remote", "--trust", &trust]);
    assert_eq!((&remote["ok"], &remote["findings"]), (&true.into(), &Value::Array(vec![])));
    assert_eq!(remote["signed_by"], serde_json::json!(["the log"]));
    assert!(remote["size"].as_u64() >= checked["events"].as_u64(), "{remote}");
    let unsigned = world.person("erin", &["audit", "check-remote"]).ends(0);
    assert!(unsigned.contains("no signature was checked"), "{unsigned}");
    let other = std::fs::read_to_string(&trust).unwrap();
    let key = serde_json::from_str::<Value>(&other).unwrap()["log"]["name"].as_str().unwrap().to_owned();
    let foreign = world.file("foreign.json", &other.replace(&key, "log.example.com"));
    let refused = world.person("erin", &["audit", "check-remote", "--trust", &foreign]).ends(1);
    assert!(refused.contains("checkpoint is refused"), "{refused}");

    let opened = of_run["events"][0]["index"].as_u64().unwrap().to_string();
    let erase = ["audit", "redact", &opened, "purpose", "--reason", "asked for"];
    world.typing("olga", &erase, "no").ends(1);
    world.typing("olga", &erase, "erase").ends(0);
    world.person("bob", &[&erase[..], &["--yes"]].concat()).ends(1);
    let timeline = world.person("erin", &["audit", "run", &run]).ends(0);
    assert!(timeline.contains("(erased)"), "{timeline}");
    check(&world, &[]).ends(0);

    let file = rusqlite::Connection::open(world.path("data/phasebroker.sqlite")).unwrap();
    file.execute("UPDATE texts SET value = 'x'", []).unwrap();
    let said = check(&world, &[]).ends(1);
    assert!(
        said.contains("is not the one that was recorded") && !said.contains("everything agrees"),
        "{said}"
    );
}

#[test]
fn a_watch_tells_what_happened_and_ends_when_nobody_reads() {
    let world = DevWorld::start();
    let at = world.said.find("listens on ").unwrap() + "listens on ".len();
    let url = world.said[at..].split_once(';').unwrap().0.to_owned();
    let key = world.path("keys/erin").display().to_string();
    let out = world.file("watched", "");
    let line = format!(
        "{PROGRAM} --json audit watch --from 0 --every 1 --broker {url} --person erin --key {key} | head -n 2 > {out}"
    );
    let mut script = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut keyboard = script.stdin.take().unwrap();
    std::io::Write::write_all(&mut keyboard, b"demo\n").unwrap();
    // It goes on until it has something to tell and nobody to tell it to.
    let ended = crate::peers::wait_until("the watch to end", 60, || {
        let ended = script.try_wait().unwrap();
        if ended.is_none() {
            world.exec(&["--action", "restart-service", "--param", "service=checkout", "--", "true"]);
        }
        ended
    });
    drop(keyboard);
    assert!(ended.success(), "{ended:?}");
    let lines: Vec<Value> = std::fs::read_to_string(out)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.iter().map(|line| line["index"].as_u64()).collect::<Vec<_>>(), [Some(0), Some(1)]);
}

#[test]
fn a_receipt_and_the_continuation_of_a_kept_checkpoint_are_checked_before_they_are_shown() {
    let world = DevWorld::start();
    let trust = world.path("trust.json").display().to_string();
    let config = world.path("phasebroker.toml").display().to_string();
    let wrote = Command::new(PROGRAM).args(["audit", "trust", "--config", &config, "--out", &trust]).status();
    assert!(wrote.unwrap().success());
    let kept = world.json("erin", &["audit", "receipt", "0", "--trust", &trust]);
    let kept = world.file("checkpoint", text(&kept["receipt"], "checkpoint"));
    used(&world);

    let claims =
        world.json("erin", &["audit", "log", "--type", "lease.intent", "--action", "restart-service"]);
    let index = claims["events"][0]["index"].as_u64().unwrap().to_string();
    let out = world.path("intent.tlog-proof").display().to_string();
    let receipt = ["audit", "receipt", &index, "--trust", &trust, "--out", &out];
    let shown = world.person("erin", &receipt).ends(0);
    assert!(shown.contains("lease.intent") && shown.contains("no witness has cosigned"), "{shown}");
    assert!(std::fs::read_to_string(&out).unwrap().starts_with("c2sp.org/tlog-proof@v1"));
    let missing = world.person("erin", &["audit", "receipt", "99999", "--trust", &trust]).ends(1);
    assert!(missing.contains("no entry 99999"), "{missing}");

    let goes_on = world.person("erin", &["audit", "consistency", &kept, "--trust", &trust]).ends(0);
    assert!(goes_on.contains("nothing was changed or dropped"), "{goes_on}");
    let edited = std::fs::read_to_string(&kept).unwrap().replacen('\n', "\n1", 1);
    let edited = world.file("edited", &edited);
    let refused = world.person("erin", &["audit", "consistency", &edited, "--trust", &trust]).ends(2);
    assert!(refused.contains("no checkpoint of this log"), "{refused}");
    let foreign = std::fs::read_to_string(&trust).unwrap();
    let name = serde_json::from_str::<Value>(&foreign).unwrap()["log"]["name"].as_str().unwrap().to_owned();
    let foreign = world.file("foreign.json", &foreign.replace(&name, "log.example.com"));
    let refused = world.person("erin", &["audit", "receipt", "0", "--trust", &foreign]).ends(1);
    assert!(refused.contains("the receipt proves nothing"), "{refused}");
}
