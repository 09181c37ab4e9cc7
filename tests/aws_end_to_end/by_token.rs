//! The same where the operator cannot forge: the approvers' side signs the token of the session, in a process of its own.

use std::path::Path;
use std::process::Command;

use super::peers::lifeline::Lifeline;
use super::peers::openssl::certificate;
use super::peers::{free_port, python, wait_until};
use super::scene::{PROGRAM, Scene, Waiting, path, text};

/// Makes a key of `countersign key` and gives what it prints for the other side's configuration.
fn key(file: &Path, more: &[&str]) -> String {
    let made =
        Command::new(PROGRAM).args(["countersign", "key", "--out"]).arg(file).args(more).output().unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    let said = text(&made.stdout);
    said.lines().find(|line| line.starts_with("key = ")).unwrap_or_default().to_owned()
}

/// Replaces a text that the shipped file has exactly once.
fn edit(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert_eq!(text.matches(from).count(), 1, "`{from}` in {}", file.display());
    std::fs::write(file, text.replace(from, to)).unwrap();
}

/// The shipped countersigner, by the same files of rules; and the broker, which asks it and logs everything.
fn countersigner(config: &Path, broker_port: u16) -> Lifeline {
    let port = free_port();
    let url = format!("https://127.0.0.1:{port}");
    certificate(config);
    key(&config.join("identity.pem"), &[]);
    let proves = key(&config.join("countersign.pem"), &["--broker"]);

    let catalog = config.join("catalog.toml");
    for (from, to) in [
        ("#[environments.production.aws.web_identity]", "[environments.production.aws.web_identity]"),
        ("#issuer = \"https://approvers", "issuer = \"https://approvers"),
        ("#audience = \"sts.amazonaws.com\"", "audience = \"sts.amazonaws.com\""),
        // What the agents observe with here is no session of AWS.
        (
            "[environments.demo.jwt]",
            "[environments.production.jwt]\naudience = \"http://127.0.0.1:8478\"\n\n[environments.demo.jwt]",
        ),
        (
            "environments = [\"demo\"]\nseconds = 300",
            "environments = [\"demo\", \"production\"]\nseconds = 300",
        ),
    ] {
        edit(&catalog, from, to);
    }
    let broker = config.join("phasebroker.toml");
    edit(&broker, "level = \"info\"", "level = \"trace\"");
    let asks = format!(
        "\n[aws.web_identity]\ncountersigner = \"{url}\"\nkey = \"countersign.pem\"\nca = \"cert.pem\"\n"
    );
    std::fs::write(&broker, std::fs::read_to_string(&broker).unwrap() + &asks).unwrap();

    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/countersigner.toml");
    let own = config.join("countersigner.toml");
    std::fs::copy(shipped, &own).unwrap();
    edit(&own, "https://countersigner.example.com", &url);
    edit(&own, "0.0.0.0:8479", &format!("127.0.0.1:{port}"));
    edit(&own, "https://broker.example.com", &format!("http://127.0.0.1:{broker_port}"));
    let text = std::fs::read_to_string(&own).unwrap();
    let shipped_key = text.lines().find(|line| line.starts_with("key = { kty = \"OKP\"")).unwrap();
    edit(&own, shipped_key, &proves);
    let arguments = |_: &Path| ["countersign", "serve", "--config", &path(&own)].map(str::to_owned).to_vec();
    let running = Lifeline::start(PROGRAM, arguments, &[]);
    wait_until("the countersigner to listen", 20, || running.log().contains("listens on").then_some(()));
    running
}

#[test]
fn a_signed_action_runs_with_the_approvers_token_which_no_log_shows_at_any_level() {
    let mut side = None;
    let scene = Scene::set_with(|config, port| side = Some(countersigner(config, port)));
    let side = side.unwrap();
    let script = r#"set -e
        "$0" ec2 reboot-instances --instance-ids "$2"
        "$1" -c 'import boto3; print(boto3.client("sts").get_caller_identity()["Arn"])'"#;
    let (aws, python) = (path(&python::aws_cli()), path(&python::python()));
    let waiting =
        Waiting::of(scene.reboot("service-status", &["sh", "-c", script, &aws, &python, &scene.instance]));
    let grant = waiting.grant.clone();
    scene.sign(&waiting);
    let (code, out, said) = waiting.end();
    assert_eq!(code, Some(0), "{out}\n{said}\n{}\n{}", scene.broker.log(), side.log());
    assert!(out.contains("assumed-role/phasebroker-execute/execute-"), "{out}");
    assert!(said.contains("revoked: written to the provider at"), "{said}");
    assert!(side.log().contains(&grant), "the approvers' side signed for it: {}", side.log());
    let log = scene.broker.log();
    assert!(log.contains("DEBUG"), "not everything was logged");
    for log in [log, side.log(), said] {
        assert!(!log.contains("eyJ"), "a token was logged: {log}");
    }
}

#[test]
fn without_the_approvers_side_the_broker_mints_nothing_and_says_whom_it_cannot_reach() {
    let mut side = None;
    let scene = Scene::set_with(|config, port| side = Some(countersigner(config, port)));
    drop(side);
    let folder = tempfile::tempdir().unwrap();
    let ran = folder.path().join("ran");
    let mut waiting = Waiting::of(scene.reboot("service-status", &["touch", &path(&ran)]));
    scene.sign(&waiting);
    let told = waiting.until("countersigner");
    assert!(told.contains("cannot be reached") && told.contains("trying again"), "{told}");
    waiting.terminate();
    let (code, out, said) = waiting.end();
    assert_eq!(code, Some(128 + 15), "{out}\n{said}");
    assert!(!ran.exists(), "the command ran without a session");
}
