//! The commands people type, run as they type them: exit codes, and the question that only a terminal can answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod lying_broker;
mod peers;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use lying_broker::{Lie, LyingBroker, directory_with};
use peers::ssh_agent::SshAgent;
use phasebroker::broker::ports::Clock as _;
use phasebroker::cli::clock::SystemClock;
use phasebroker::cli::keys::PersonSigner as _;
use phasebroker::cli::keys::ssh_agent::AgentKey;
use phasebroker::domain::approval::{Answer, Approval};
use phasebroker::domain::key::Custody;

const PROGRAM: &str = env!("CARGO_BIN_EXE_phasebroker");

fn agent_of_ana() -> SshAgent {
    let mut agent = SshAgent::start();
    agent.add_ed25519("ana", false);
    agent
}

/// Runs the program without a terminal.
fn without_terminal(arguments: &[&str], agent: &SshAgent) -> Output {
    let mut command = Command::new("setsid");
    command.args(["--wait", PROGRAM]).args(arguments).env("SSH_AUTH_SOCK", agent.socket());
    command.stdin(Stdio::null()).output().unwrap()
}

/// Runs the program on a terminal of its own and types `answer`.
fn on_terminal(arguments: &[&str], agent: &SshAgent, answer: &str) -> (Option<i32>, String) {
    let line = format!("{PROGRAM} {}", arguments.join(" "));
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env("SSH_AUTH_SOCK", agent.socket())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keyboard = child.stdin.take().unwrap();
    keyboard.write_all(format!("{answer}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(keyboard);
    (output.status.code(), text(&output.stdout))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn sign_arguments(broker: &LyingBroker) -> Vec<String> {
    let grant = broker.grant().to_string();
    ["approvals", "sign", &grant, "--broker", &broker.url(), "--ssh-agent"].map(str::to_owned).to_vec()
}

fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_short_code_typed_on_a_terminal_signs() {
    let (broker, agent) = (LyingBroker::start(Lie::None).await, agent_of_ana());
    let code = broker.sealed().digest().short_code();
    let (exit, shown) = on_terminal(&borrowed(&sign_arguments(&broker)), &agent, &code);
    assert_eq!(exit, Some(0), "{shown}");
    assert_eq!(broker.tokens().len(), 1);
    for part in ["UNTRUSTED", "Flip the flag", "ssh-add -c", "signed "] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_answer_on_the_terminal_does_not_sign() {
    let (broker, agent) = (LyingBroker::start(Lie::None).await, agent_of_ana());
    let (exit, shown) = on_terminal(&borrowed(&sign_arguments(&broker)), &agent, "yes");
    assert_eq!(exit, Some(4), "{shown}");
    assert!(broker.tokens().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_nothing_is_signed() {
    let (broker, agent) = (LyingBroker::start(Lie::None).await, agent_of_ana());
    let output = without_terminal(&borrowed(&sign_arguments(&broker)), &agent);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("on a terminal only"), "{}", text(&output.stderr));
    assert!(broker.tokens().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn show_prints_what_sign_would_but_never_words_that_are_not_the_grants() {
    let agent = agent_of_ana();
    for (lie, exit) in [(Lie::None, 0), (Lie::Story, 4)] {
        let broker = LyingBroker::start(lie).await;
        let grant = broker.grant().to_string();
        let arguments = ["approvals", "show", &grant, "--broker", &broker.url(), "--ssh-agent"];
        let output = without_terminal(&arguments, &agent);
        assert_eq!(output.status.code(), Some(exit), "{lie:?}: {}", text(&output.stderr));
        let shown = text(&output.stdout);
        assert!(shown.contains(&broker.sealed().digest().to_string()), "{shown}");
        assert_eq!(shown.contains("web is slow"), exit == 0, "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_a_table_for_people_and_json_for_machines() {
    let (broker, agent) = (LyingBroker::start(Lie::None).await, agent_of_ana());
    let (grant, url) = (broker.grant().to_string(), broker.url());
    let table = without_terminal(&["approvals", "list", "--broker", &url, "--ssh-agent=ana"], &agent);
    assert!(text(&table.stdout).contains(&grant) && text(&table.stdout).contains("may sign"));
    let json =
        without_terminal(&["--json", "approvals", "list", "--broker", &url, "--ssh-agent=ana"], &agent);
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(value["approvals"][0]["grant"], grant.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn deny_and_withdraw_send_what_was_said_with_its_reason() {
    let agent = agent_of_ana();
    let public = AgentKey::find(&agent.socket(), None).unwrap().public().clone();
    for (command, answer) in [("deny", Answer::Deny), ("withdraw", Answer::Withdraw)] {
        let broker = LyingBroker::start(Lie::None).await;
        let (grant, url) = (broker.grant().to_string(), broker.url());
        let arguments =
            ["approvals", command, &grant, "--reason", "not now", "--broker", &url, "--ssh-agent"];
        let output = without_terminal(&arguments, &agent);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let directory = directory_with(&public, Custody::SshAgent);
        let token = &broker.tokens()[0];
        let said = Approval::verify(token, &broker.sealed(), &directory, SystemClock.wall()).unwrap();
        assert_eq!(said.claims.decision, answer);
    }
}

#[test]
fn exit_codes_tell_a_mistake_from_a_broker_that_is_not_there() {
    let agent = agent_of_ana();
    let nobody = format!("http://127.0.0.1:{}", peers::free_port());
    let list =
        |more: &[&str]| without_terminal(&[&["approvals", "list"], more].concat(), &agent).status.code();
    assert_eq!(list(&["--broker", &nobody, "--ssh-agent"]), Some(3));
    assert_eq!(list(&["--broker", "http://broker.example", "--ssh-agent"]), Some(2));
    assert_eq!(list(&["--broker", &nobody]), Some(2), "no key was chosen");
}

#[test]
fn an_agents_key_is_made_with_the_row_that_registers_it_and_shown_again() {
    let (dir, agent) = (tempfile::tempdir().unwrap(), agent_of_ana());
    let path = dir.path().join("bot.pem");
    let file = path.to_str().unwrap();
    let made = without_terminal(&["keys", "agent", "--out", file, "--name", "bot", "--json"], &agent);
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    assert!(made["directory_row"].as_str().unwrap().contains("[agents.bot]"));
    let shown = without_terminal(&["keys", "show", file, "--name", "bot", "--json"], &agent);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!((&shown["kid"], &shown["directory_row"]), (&made["kid"], &made["directory_row"]));
    let again = without_terminal(&["keys", "agent", "--out", file, "--name", "bot"], &agent);
    assert_eq!(again.status.code(), Some(2), "an existing key is never overwritten");
    assert!(Path::new(file).exists());
}

#[test]
fn a_person_gets_no_key_without_a_terminal() {
    let (dir, agent) = (tempfile::tempdir().unwrap(), agent_of_ana());
    let path = dir.path().join("ana");
    let made = without_terminal(&["keys", "new", "--out", path.to_str().unwrap(), "--name", "ana"], &agent);
    assert_eq!(made.status.code(), Some(2), "{}", text(&made.stderr));
    assert!(!path.exists());
}
