//! The unmodified AWS CLI and boto3 as children of `exec`: they use the credential of the endpoint and no other, although
//! HOME holds a default profile and the environment of exec holds keys.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod peers;

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use peers::moto::Moto;
use peers::python;
use phasebroker::broker::ports::Clock as _;
use phasebroker::cli::agent::PhaseKey;
use phasebroker::cli::clock::SystemClock;
use phasebroker::cli::exec::{Fixed, Held, Surface, child_environment};
use serde_json::{Value, json};
use tempfile::TempDir;

const ROLE: &str = "arn:aws:iam::123456789012:role/phasebroker-execute";
const SESSION: &str = "assumed-role/phasebroker-execute/execute-01ARZ3NDEKTSV4RRFFQ69G5FAV";
const REGION: &str = "eu-west-1";

/// A home whose owner is an administrator by every file that an SDK reads.
fn planted_home() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    let keys = "aws_access_key_id = AKIAPLANTEDPLANTED00\naws_secret_access_key = planted\n";
    for (file, text) in [
        (".aws/credentials", format!("[default]\n{keys}")),
        (".aws/config", format!("[default]\nregion = us-east-2\n{keys}")),
        (".boto", format!("[Credentials]\n{keys}")),
    ] {
        std::fs::write(home.path().join(file), text).unwrap();
    }
    home
}

/// What moto hands out for the role: a session that names itself.
fn session(moto: &Moto) -> Value {
    let output = Command::new(python::aws_cli())
        .args(["sts", "assume-role", "--role-arn", ROLE, "--output", "json"])
        .args(["--role-session-name", "execute-01ARZ3NDEKTSV4RRFFQ69G5FAV"])
        .env_clear()
        .envs([("AWS_ACCESS_KEY_ID", "AKIAMINTER"), ("AWS_SECRET_ACCESS_KEY", "minter")])
        .envs([("AWS_DEFAULT_REGION", REGION), ("AWS_ENDPOINT_URL_STS", &moto.url())])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["Credentials"].clone()
}

struct Stage {
    moto: Moto,
    home: TempDir,
    surface: Surface,
}

impl Stage {
    async fn set() -> Self {
        let moto = Moto::start();
        let session = session(&moto);
        let end = SystemClock.wall().plus(90);
        let claimed = json!({
            "lease": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "not_after": end.seconds(), "hard_end": end.seconds() + 810,
            "execute_token": "unused", "revocability": "seconds", "recall_until": end.seconds(),
            "credential": {
                "type": "aws", "access_key_id": session["AccessKeyId"],
                "secret_access_key": session["SecretAccessKey"], "session_token": session["SessionToken"],
                "expiration": end.rfc3339(), "region": REGION, "account": "123456789012", "role_arn": ROLE,
            },
        });
        let claimed = Arc::new(serde_json::from_value(claimed).unwrap());
        let held = Arc::new(Held::Execute(claimed, Arc::new(PhaseKey::generate().unwrap())));
        let endpoints = [format!("sts={}", moto.url()).parse().unwrap()];
        let source = Arc::new(Fixed(held.clone()));
        let issuer = "http://127.0.0.1:1";
        let surface = Surface::open(source, &held, Arc::new(SystemClock), issuer, &endpoints).await.unwrap();
        Self { moto, home: planted_home(), surface }
    }

    /// Runs `program` with the environment that exec would give its child.
    async fn child(&self, program: &Path, arguments: &[&str]) -> Output {
        let ours = [
            ("PATH", "/usr/bin:/bin"),
            ("HOME", self.home.path().to_str().unwrap()),
            ("AWS_PROFILE", "default"),
            ("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT00000"),
            ("AWS_SECRET_ACCESS_KEY", "environment"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
            ("HTTP_PROXY", "http://127.0.0.1:1"),
        ];
        let ours = ours.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let environment = child_environment(ours, self.surface.variables());
        tokio::process::Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(environment)
            // Moto is on loopback as well, and the endpoint's own exception covers it.
            .output()
            .await
            .unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aws_cli_uses_the_endpoint_and_never_the_planted_profile() {
    let stage = Stage::set().await;
    let asked = ["sts", "get-caller-identity", "--query", "Arn", "--output", "text"];
    let output = stage.child(&python::aws_cli(), &asked).await;
    assert!(text(&output.stdout).contains(SESSION), "{} {}", text(&output.stdout), text(&output.stderr));
    assert!(stage.moto.pid() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_uses_the_endpoint_and_the_region_of_the_credential() {
    let stage = Stage::set().await;
    let script = "import boto3; s = boto3.client('sts'); \
                  print(s.get_caller_identity()['Arn'], s.meta.region_name, \
                  boto3.Session().get_credentials().method)";
    let output = stage.child(&python::python(), &["-c", script]).await;
    let said = text(&output.stdout);
    assert!(said.contains(SESSION) && said.contains(REGION), "{said} {}", text(&output.stderr));
    assert!(said.contains("container-role"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_end_a_child_has_no_credential_at_all() {
    let stage = Stage::set().await;
    stage.surface.endpoint().end("the work is over");
    let script = "import boto3; boto3.client('sts').get_caller_identity()";
    let output = stage.child(&python::python(), &["-c", script]).await;
    let said = text(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("CredentialRetrievalError") || said.contains("NoCredentials"), "{said}");
    assert!(!said.contains("AKIAPLANTED"), "{said}");
}
