//! Policies before they are in force: vectors, the reviewed matrix, what differs, explanations and replays; and that no
//! word of an agent reaches a policy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use phasebroker::cli::policy::asked::{self, Asker};
use phasebroker::cli::policy::{check, diff, matrix};
use phasebroker::config::Config;
use phasebroker::domain::proposal::{Proposal, Story};
use phasebroker::domain::time::Timestamp;
use phasebroker::policy::Facts;
use proptest::prelude::*;
use serde_json::{Value, json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn shipped() -> PathBuf {
    root().join("config/phasebroker.toml")
}

fn read(path: &Path) -> Config {
    Config::read(path).unwrap_or_else(|errors| panic!("{errors}"))
}

fn noon() -> Timestamp {
    matrix::instant(matrix::NOON).unwrap()
}

fn example(name: &str) -> Proposal {
    let file = root().join(format!("config/proposals/{name}.json"));
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// A copy of the shipped configuration, with one text of one file replaced.
fn candidate(file: &str, from: &str, to: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let mut folders = vec![(root().join("config"), dir.path().join("config"))];
    while let Some((source, copy)) = folders.pop() {
        std::fs::create_dir_all(&copy).unwrap();
        for entry in std::fs::read_dir(source).unwrap() {
            let (path, copy) = {
                let entry = entry.unwrap();
                (entry.path(), copy.join(entry.file_name()))
            };
            match path.is_dir() {
                true => folders.push((path, copy)),
                false => {
                    std::fs::copy(path, copy).unwrap();
                }
            }
        }
    }
    let changed = dir.path().join("config").join(file);
    let text = std::fs::read_to_string(&changed).unwrap();
    assert!(text.contains(from), "{from}");
    std::fs::write(&changed, text.replacen(from, to, 1)).unwrap();
    let config = dir.path().join("config/phasebroker.toml");
    (dir, config)
}

fn policy(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_phasebroker"))
        .arg("policy")
        .args(arguments)
        .env_remove("PHASEBROKER_URL")
        .output()
        .unwrap()
}

fn shown(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn every_decision_vector_holds() {
    let ran = check::run_folder(&root().join("tests/policy"), &read(&shipped()).rules.policy).unwrap();
    assert!(ran.len() > 10, "the files were found");
    for (file, outcome) in ran {
        let outcome = outcome.unwrap_or_else(|problem| panic!("{file}: {problem}"));
        assert!(outcome.failures.is_empty(), "{file}: {:#?}", outcome.failures);
        assert!(outcome.passed > 0, "{file}");
    }
}

#[test]
fn the_shipped_matrix_is_the_reviewed_one() {
    let answers = matrix::matrix(&read(&shipped()).rules, noon()).unwrap();
    assert!(answers.values().all(Result::is_ok), "every entry can be asked about");
    let path = root().join("tests/policy/matrix.txt");
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    let lines = matrix::lines(&answers);
    assert_eq!(lines, reviewed, "review the difference and write it to {}", path.display());
}

#[test]
fn diff_names_each_answer_that_changes_and_no_other() {
    let file = "policy/data-and-trust.cedar";
    let (_dir, changed) = candidate(file, "\"sre:1, database:1\"", "\"sre:2, database:1\"");
    let of = |path: &Path| matrix::matrix(&read(path).rules, noon()).unwrap();
    let changes = diff::changes(&of(&shipped()), &of(&changed));
    assert!(!changes.is_empty());
    for change in &changes {
        assert_eq!(change.row.class, "data", "{change:?}");
        let people = |side: &Option<Result<phasebroker::domain::decision::Decision, String>>| {
            side.clone().unwrap().unwrap().terms().unwrap().rule.people()
        };
        assert!(people(&change.after) > people(&change.before), "{change:?}");
    }
    assert_eq!(diff::changes(&of(&shipped()), &of(&shipped())), []);
}

#[test]
fn a_new_action_and_a_gone_one_are_changes() {
    let renamed = candidate("catalog.toml", "[actions.reboot-instance]", "[actions.reboot-machine]");
    let text = std::fs::read_to_string(renamed.1.with_file_name("catalog.toml")).unwrap();
    let text = text.replace("actions.reboot-instance", "actions.reboot-machine");
    std::fs::write(renamed.1.with_file_name("catalog.toml"), text).unwrap();
    let guardrails = renamed.1.with_file_name("guardrails.toml");
    let text = std::fs::read_to_string(&guardrails).unwrap().replace("reboot-instance", "reboot-machine");
    std::fs::write(&guardrails, text).unwrap();
    let output = policy(&["diff", shipped().to_str().unwrap(), renamed.1.to_str().unwrap(), "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    for change in answer["changes"].as_array().unwrap() {
        let (old, new) = (&change["before"], &change["after"]);
        match change["action"].as_str().unwrap() {
            "reboot-instance" => assert!(old.is_object() && new.is_null(), "{change}"),
            "reboot-machine" => assert!(old.is_null() && new.is_object(), "{change}"),
            other => panic!("{other}: {change}"),
        }
    }
}

#[test]
fn check_tells_a_mistake_from_an_answer_that_is_not_the_expected_one() {
    let vectors = tempfile::tempdir().unwrap();
    let base = std::fs::read_to_string(root().join("tests/policy/base.facts.toml")).unwrap();
    std::fs::write(vectors.path().join("base.facts.toml"), base).unwrap();
    let claim = |tier: &str| {
        let text = format!(
            "about = \"a\"\nbase = \"base.facts.toml\"\n[[case]]\nname = \"one\"\nexpect = {{ tier = \"{tier}\" }}\n"
        );
        std::fs::write(vectors.path().join("claim.toml"), text).unwrap();
    };
    let run = |config: &Path| {
        let (config, folder) = (config.to_str().unwrap(), vectors.path().to_str().unwrap());
        policy(&["check", "--config", config, "--vectors", folder])
    };
    claim("needs_approval");
    assert_eq!(run(&shipped()).status.code(), Some(0), "{}", shown(&run(&shipped())));
    claim("autonomous");
    let failed = run(&shipped());
    assert_eq!(failed.status.code(), Some(1));
    assert!(shown(&failed).contains("claim.toml: case `one`: expected autonomous"), "{}", shown(&failed));
    claim("always");
    assert_eq!(run(&shipped()).status.code(), Some(2));
    let (_dir, wrong) = candidate("policy/guardrails.cedar", "context.changes", "context.chnages");
    let mistake = run(&wrong);
    assert_eq!(mistake.status.code(), Some(2));
    assert!(shown(&mistake).contains("guardrails.cedar:10"), "{}", shown(&mistake));
    let never =
        "resource == ActionType::\"reboot-instnace\"\n)\nwhen { context.environment == \"production\"";
    let (_dir, never) = candidate(
        "policy/guardrails.cedar",
        "resource\n)\nwhen { context.environment == \"production\"",
        never,
    );
    let stray = run(&never);
    assert_eq!(stray.status.code(), Some(2));
    assert!(
        shown(&stray).contains("guardrails.cedar:3: policy `one-change-in-production`"),
        "{}",
        shown(&stray)
    );
}

#[test]
fn explain_names_the_policies_with_their_places_and_what_would_change_the_answer() {
    let config = shipped();
    let proposal = root().join("config/proposals/reboot-instance.json");
    let base = ["--config", config.to_str().unwrap(), "--proposal", proposal.to_str().unwrap(), "--json"];
    let explain = |more: &[&str]| {
        let output = policy(&[&["explain"], &base[..], &["--at", matrix::NOON], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let plain = explain(&[]);
    assert_eq!(plain["decision"]["tier"], "needs_approval");
    assert_eq!(plain["policies"][0]["id"], "production-availability");
    assert!(plain["policies"][0]["place"].as_str().unwrap().starts_with("availability.cedar:"), "{plain}");
    let whens = |answer: &Value| -> Vec<String> {
        let rows = answer["otherwise"].as_array().unwrap().iter();
        rows.map(|row| row["when"].as_str().unwrap().to_owned()).collect()
    };
    for expected in [
        "the agent were tainted",
        "the budget privilege-day were crossed",
        "it were in staging",
        "it made 2 changes",
        "the agent were of no group",
    ] {
        assert!(whens(&plain).iter().any(|when| when == expected), "{expected}: {:?}", whens(&plain));
    }
    assert!(!whens(&plain).iter().any(|when| when.contains("in person")), "{:?}", whens(&plain));
    let raised = explain(&["--tainted", "--crossed", "privilege-day"]);
    assert_eq!(raised["decision"]["rule"]["groups"], json!({"security": 1, "sre": 2}));
    assert!(whens(&raised).contains(&"the budget privilege-day were not crossed".to_owned()));
    for wrong in [&["--crossed", "privilege-week"][..], &["--agent", "nobody"], &["--at", "noon"]] {
        assert_eq!(policy(&[&["explain"], &base[..], wrong].concat()).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn explain_finds_the_hours_and_days_of_a_window() {
    let window = "@id(\"window\") forbid (principal, action, resource)\n\
        when { context.weekday > 4 || context.hour < 7 || context.hour >= 16 };\n\n@id(\"no-exceptions\")";
    let (_dir, config) = candidate("policy/guardrails.cedar", "@id(\"no-exceptions\")", window);
    let proposal = root().join("config/proposals/reboot-instance.json");
    let (config, proposal) = (config.to_str().unwrap(), proposal.to_str().unwrap());
    let output = policy(&["explain", "--config", config, "--proposal", proposal, "--at", matrix::NOON]);
    let text = shown(&output);
    for expected in
        ["between 00:00 and 06:59 UTC", "between 16:00 and 23:59 UTC", "Friday or Saturday or Sunday"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

/// Facts of an example as the shipped rules see them, recorded with an answer.
fn recorded(name: &str, grant: &str, moment: &str, tier: &str, change: impl Fn(&mut Facts)) -> Value {
    let rules = read(&shipped()).rules;
    let asker = Asker::named(&"pay-bot".parse().unwrap(), &rules).unwrap();
    let mut facts = asked::facts(&example(name), &asker, &rules, noon()).unwrap();
    change(&mut facts);
    json!({
        "id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "at": noon(), "grant": grant, "moment": moment,
        "facts": serde_json::to_string(&facts).unwrap(), "tier": tier, "reasons": ["then"],
    })
}

fn replay(decisions: Value, more: &[&str]) -> (Option<i32>, Value) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("decisions.json");
    std::fs::write(&file, decisions.to_string()).unwrap();
    let (config, file) = (shipped(), file.to_str().unwrap().to_owned());
    let arguments = ["replay", "--config", config.to_str().unwrap(), "--from", &file, "--json"];
    let output = policy(&[&arguments[..], more].concat());
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", shown(&output)));
    (output.status.code(), answer)
}

const FIRST: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAA";
const SECOND: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAB";

#[test]
fn replay_counts_what_changes_and_what_it_costs() {
    let plain = |_: &mut Facts| {};
    let decisions = json!([
        recorded("reboot-instance", FIRST, "propose", "deny", plain),
        recorded("reboot-instance", FIRST, "claim", "needs_approval", plain),
        recorded("rotate-secret", SECOND, "propose", "needs_approval", plain),
        recorded("reboot-instance", SECOND, "propose", "needs_approval", |facts| facts.changes = 2),
    ]);
    let saved = json!({ "decisions": decisions, "seconds_to_sign": [100, 40, 4000] });
    let (exit, answer) = replay(saved, &[]);
    assert_eq!(exit, Some(0), "{answer}");
    assert_eq!(answer["tiers"]["needs_approval"], json!({ "before": 3, "after": 3 }));
    assert_eq!(answer["tiers"]["deny"], json!({ "before": 1, "after": 1 }));
    // One person for the reboot, however often it was decided about, and two for the secret.
    assert_eq!((&answer["signatures"], &answer["approver_minutes"]), (&json!(3), &json!(5)));
    let changed = answer["changed"].as_array().unwrap();
    assert_eq!(changed.len(), 2, "{answer}");
    assert_eq!(changed[1]["after"]["reasons"], json!(["one-change-in-production"]));
}

#[test]
fn replay_measures_budgets_by_the_candidates_lines() {
    let used = |name: &'static str| {
        move |facts: &mut Facts| {
            let fact =
                phasebroker::policy::BudgetFact { used: 9_999, amount: 1, step_up_at: None, limit: None };
            facts.budgets = [(name.parse().unwrap(), fact)].into();
        }
    };
    let of = |name| {
        replay(json!({ "decisions": [recorded("reboot-instance", FIRST, "propose", "needs_approval", used(name))] }), &[]).1
    };
    assert_eq!(of("run-changes")["changed"][0]["after"]["reasons"], json!(["budget.run-changes"]));
    assert_eq!(of("last-years-budget")["changed"], json!([]));
}

#[test]
fn replay_says_what_it_cannot_ask_again_and_takes_only_what_is_late_enough() {
    let mut broken = recorded("reboot-instance", FIRST, "propose", "needs_approval", |_| {});
    broken["facts"] = json!("{\"agent\":\"pay-bot\"}");
    let (exit, answer) = replay(json!({ "decisions": [broken] }), &[]);
    assert_eq!((exit, answer["unreadable"].as_array().unwrap().len()), (Some(1), 1));
    let one = || recorded("reboot-instance", FIRST, "propose", "needs_approval", |_| {});
    let kept =
        |since: &str| replay(json!({ "decisions": [one()] }), &["--since", since]).1["decisions"].clone();
    assert_eq!((kept(matrix::NOON), kept("2026-01-07T12:00:01Z")), (json!(1), json!(0)));
    let empty = replay(json!({ "decisions": [] }), &[]).1;
    assert_eq!((&empty["seconds_per_signature"], &empty["approver_minutes"]), (&json!(300), &json!(0)));
}

#[test]
fn replay_needs_a_time_and_somebody_to_ask() {
    let config = shipped();
    for arguments in [&[][..], &["--since", "7d"], &["--since", "soon", "--broker", "http://127.0.0.1:1"]] {
        let all = [&["replay", "--config", config.to_str().unwrap()], arguments].concat();
        assert_eq!(policy(&all).status.code(), Some(2), "{arguments:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// SECURITY: what an agent writes persuades no policy. Only parameters of a type, and names of known probes, arrive.
    #[test]
    fn proposals_that_differ_in_words_alone_give_the_same_facts(
        diagnosis in ".{0,200}", evidence in ".{0,200}", reason in ".{0,200}"
    ) {
        static RULES: std::sync::LazyLock<Config> = std::sync::LazyLock::new(|| read(&shipped()));
        let rules = &RULES.rules;
        let asker = Asker::named(&"pay-bot".parse().unwrap(), rules).unwrap();
        let bytes = |proposal: &Proposal| {
            serde_json::to_vec(&asked::facts(proposal, &asker, rules, noon()).unwrap()).unwrap()
        };
        for name in ["reboot-instance", "restore-snapshot", "restart-service"] {
            let quiet = Proposal { story: Story::default(), ..example(name) };
            let story = Story { diagnosis: diagnosis.clone(), evidence: evidence.clone(), reason: reason.clone() };
            let told = Proposal { story, ..quiet.clone() };
            prop_assert_eq!(bytes(&quiet), bytes(&told));
        }
    }
}
