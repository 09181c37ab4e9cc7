//! Every peer starts, is reached by the program that tests use it with, and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod peers;

use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};

use peers::moto::Moto;
use peers::ssh_agent::SshAgent;
use peers::{python, strace};

const ROLE: &str = "arn:aws:iam::123456789012:role/observe";

fn isolated(program: &Path, home: &Path, endpoint: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home).env("AWS_ENDPOINT_URL_STS", endpoint).envs([
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "example"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ]);
    command
}

fn assume_role_by_cli(moto: &Moto) -> Output {
    let home = tempfile::tempdir().unwrap();
    isolated(&python::aws_cli(), home.path(), &moto.url())
        .args(["sts", "assume-role", "--role-arn", ROLE, "--role-session-name", "cli"])
        .args(["--query", "Credentials.AccessKeyId", "--output", "text"])
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is_running(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

fn sign_with(agent: &SshAgent, public_key: &Path) -> Output {
    let message = public_key.with_extension("message");
    std::fs::write(&message, "hello").unwrap();
    Command::new("ssh-keygen")
        .args(["-Y", "sign", "-q", "-n", "test", "-f"])
        .args([public_key, &message])
        .env("SSH_AUTH_SOCK", agent.socket())
        .output()
        .unwrap()
}

#[test]
fn moto_answers_the_aws_cli() {
    let output = assume_role_by_cli(&Moto::start());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("ASIA"), "{}", text(&output.stdout));
}

#[test]
fn moto_that_checks_keys_refuses_an_unknown_one() {
    let output = assume_role_by_cli(&Moto::start_checking_keys_after(0));
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("InvalidClientTokenId"), "{}", text(&output.stderr));
}

#[test]
fn moto_answers_boto3() {
    let (moto, home) = (Moto::start(), tempfile::tempdir().unwrap());
    let script = "import boto3; print(boto3.client('sts').get_caller_identity()['Account'])";
    let output = isolated(&python::python(), home.path(), &moto.url()).args(["-c", script]).output().unwrap();
    assert_eq!(text(&output.stdout).trim(), "123456789012", "{}", text(&output.stderr));
}

#[test]
fn two_motos_do_not_meet() {
    let (one, other) = (Moto::start(), Moto::start());
    assert_ne!(one.url(), other.url());
}

#[test]
fn moto_leaves_nothing_behind() {
    let moto = Moto::start();
    let (pid, address) = (moto.pid(), moto.url().replace("http://", ""));
    assert!(is_running(pid) && TcpStream::connect(&address).is_ok());
    drop(moto);
    assert!(!is_running(pid));
    assert!(TcpStream::connect(&address).is_err());
}

#[test]
fn ssh_agent_signs_with_the_key_it_was_given() {
    let mut agent = SshAgent::start();
    let public_key = agent.add_ed25519("ana", false);
    assert!(std::fs::read_to_string(&public_key).unwrap().trim_end().ends_with(" ana"));
    assert!(!public_key.with_extension("").exists(), "the private key stays in the agent only");
    let output = sign_with(&agent, &public_key);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn ssh_agent_signs_with_a_confirmed_key_when_its_user_agrees() {
    let mut agent = SshAgent::start();
    let public_key = agent.add_ed25519("ana", true);
    let output = sign_with(&agent, &public_key);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn ssh_agent_does_not_sign_when_its_user_refuses() {
    let mut agent = SshAgent::start_refusing();
    let public_key = agent.add_ed25519("ana", true);
    assert!(!sign_with(&agent, &public_key).status.success());
}

#[test]
fn ssh_agent_leaves_nothing_behind() {
    let mut agent = SshAgent::start();
    let public_key = agent.add_ed25519("ana", false);
    let (pid, socket) = (agent.pid(), agent.socket());
    assert!(is_running(pid) && socket.exists());
    drop(agent);
    assert!(!is_running(pid));
    assert!(!socket.exists() && !public_key.exists());
}

#[test]
fn strace_can_trace_here() {
    strace::available();
}
