//! One action with real components: the shipped configuration in a running broker, moto as AWS, a key in a real
//! ssh-agent, and the unmodified AWS CLI and boto3 inside `phasebroker exec`, with a default profile planted in HOME.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "aws_end_to_end/by_token.rs"]
mod by_token;
mod peers;
#[path = "aws_end_to_end/scene.rs"]
mod scene;

use peers::python;
use scene::{Scene, Waiting, administer, path, text};

#[test]
fn a_signed_action_runs_with_its_own_session_and_is_revoked_after_it() {
    let scene = Scene::set();
    // The CLI acts; boto3 says as whom, in the same child.
    let script = r#"set -e
        "$0" ec2 reboot-instances --instance-ids "$2"
        "$1" -c 'import boto3; print(boto3.client("sts").get_caller_identity()["Arn"])'
        env | grep -E '^(AWS_|SSH_AUTH|PHASEBROKER)' | cut -d= -f1 | sort | tr '\n' ' '"#;
    let (aws, python) = (path(&python::aws_cli()), path(&python::python()));
    let waiting =
        Waiting::of(scene.reboot("aws-basics", &["sh", "-c", script, &aws, &python, &scene.instance]));
    let signed = scene.sign(&waiting);
    assert!(signed.contains(&scene.instance), "{signed}");
    let (code, out, said) = waiting.end();
    assert_eq!(code, Some(0), "{out}\n{said}\n{}", scene.broker.log());
    assert!(out.contains("assumed-role/phasebroker-execute/execute-"), "{out}");
    assert!(!out.contains("SSH_AUTH_SOCK") && !out.contains("AWS_ACCESS_KEY_ID"), "{out}");
    assert!(out.contains("AWS_CONTAINER_CREDENTIALS_FULL_URI"), "{out}");
    assert!(said.contains("revoked: written to the provider at"), "{said}");
    // The lease is in the role's Deny policy, by its tag.
    let lease = out.split("/execute-").nth(1).unwrap().lines().next().unwrap().to_owned();
    let names = administer(
        &scene.moto,
        &["iam", "list-role-policies", "--role-name", "phasebroker-execute", "--query", "PolicyNames[0]"],
    );
    let role = ["iam", "get-role-policy", "--role-name", "phasebroker-execute", "--policy-name", &names];
    let denied = administer(&scene.moto, &[&role[..], &["--query", "PolicyDocument"]].concat());
    assert!(denied.contains(&lease), "{denied}");
}

#[test]
fn observing_needs_no_signature_and_the_childs_exit_code_is_passed_on() {
    let scene = Scene::set();
    let script = r#""$0" sts get-caller-identity --query Arn --output text; exit 7"#;
    let aws = path(&python::aws_cli());
    let child = scene.exec(&["--phase", "observe", "--set", "aws-basics"], &["sh", "-c", script, &aws]);
    let output = child.wait_with_output().unwrap();
    let (out, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(7), "{out}\n{said}");
    assert!(out.contains("assumed-role/phasebroker-observe/observe-"), "{out}\n{said}");
    // Closing a run answers before the provider has: the sentence says which of the two it was.
    assert!(said.contains("revoked: written") || said.contains("revocation is under way"), "{said}");
}

#[test]
fn a_signal_while_waiting_stops_asking_and_a_missing_command_asks_nobody() {
    let scene = Scene::set();
    let waiting = Waiting::of(scene.reboot("aws-basics", &["true"]));
    waiting.terminate();
    let (code, _, said) = waiting.end();
    assert_eq!(code, Some(128 + 15), "{said}");
    let missing = scene.reboot("aws-basics", &["no-such-command"]).wait_with_output().unwrap();
    assert_eq!(missing.status.code(), Some(127));
    assert!(!text(&missing.stderr).contains("waits for signatures"));
}
