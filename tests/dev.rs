//! `dev` takes up the folder it made: same addresses, same keys, same ledger. `demo` never touches an existing one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod peers;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use peers::wait_until;
use phasebroker::broker::runs::OpenRun;
use phasebroker::cli::agent::{AgentClient, AgentSettings, Login};
use phasebroker::cli::clock::SystemClock;
use phasebroker::cli::keys::agent_key::read_agent_key;

/// A running `dev`, with what it printed in a file.
struct Dev {
    child: Child,
    url: String,
}

impl Dev {
    fn start(dir: &Path) -> Self {
        let out = dir.with_extension("out");
        let mut child = Command::new(env!("CARGO_BIN_EXE_phasebroker"))
            .arg("dev")
            .arg("--dir")
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&out).unwrap())
            .stderr(std::fs::File::create(dir.with_extension("err")).unwrap())
            .spawn()
            .unwrap();
        let url = wait_until("dev to serve", 120, || {
            let err = || std::fs::read_to_string(dir.with_extension("err")).unwrap();
            assert!(child.try_wait().unwrap().is_none(), "it ended: {}", err());
            let said = std::fs::read_to_string(&out).unwrap();
            let at = said.find("listens on ")? + "listens on ".len();
            Some(said[at..].split_once(';')?.0.to_owned())
        });
        Self { child, url }
    }

    fn end(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
        let ended = wait_until("dev to end", 30, || self.child.try_wait().unwrap());
        assert_eq!(ended.code(), Some(0));
    }

    fn fixer(&self, dir: &Path) -> AgentClient {
        let key = read_agent_key(&dir.join("keys/fixer.pem")).unwrap();
        let login = Login::Key { agent: "fixer".parse().unwrap(), key };
        let settings = AgentSettings { broker: self.url.clone(), issuer: self.url.clone(), login, ca: None };
        AgentClient::new(settings, Arc::new(SystemClock)).unwrap()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every file that says who is who, with its bytes.
fn written(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let keys = std::fs::read_dir(dir.join("keys")).unwrap().map(|entry| entry.unwrap().path());
    let rules = [
        "phasebroker.toml",
        "catalog.toml",
        "policy.cedar",
        "directory.toml",
        "guardrails.toml",
        "data/token-key.pem",
    ];
    let files = keys.chain(rules.map(|name| dir.join(name)));
    files.map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}

async fn resource_answers(dir: &Path) -> u16 {
    let config: toml::Table = std::fs::read_to_string(dir.join("phasebroker.toml")).unwrap().parse().unwrap();
    let audience = config["resources"][0]["audience"].as_str().unwrap().to_owned();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    http.get(format!("{audience}/services")).send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_takes_up_the_folder_it_made_and_demo_refuses_it() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("dev");
    let first = Dev::start(&dir);
    let (url, files) = (first.url.clone(), written(&dir));
    let asked = OpenRun {
        environment: "demo".parse().unwrap(),
        purpose: "to be found again".into(),
        ticket: None,
        prompt_digest: None,
        requester_token: None,
    };
    let run = first.fixer(&dir).open_run(&asked).await.unwrap().run;
    let second =
        Command::new(env!("CARGO_BIN_EXE_phasebroker")).arg("dev").arg("--dir").arg(&dir).output().unwrap();
    assert!(!second.status.success(), "two at a time on one folder");
    let why = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(why.contains("another `phasebroker dev`"), "{why}");
    first.end();

    let again = Dev::start(&dir);
    assert_eq!(again.url, url);
    assert!(written(&dir) == files, "keys and rules stay as they were");
    again.fixer(&dir).run(run).await.unwrap();
    assert_eq!(resource_answers(&dir).await, 401, "the resource is there, and wants a token");
    again.end();

    let args = ["demo", "--yes", "--dir", dir.to_str().unwrap()];
    let demo = Command::new(env!("CARGO_BIN_EXE_phasebroker")).args(args).output().unwrap();
    assert!(!demo.status.success());
    assert!(String::from_utf8_lossy(&demo.stderr).contains("holds a demo already"));
    assert!(written(&dir) == files);
}

#[test]
fn dev_takes_up_no_folder_that_it_did_not_make() {
    let dir = tempfile::tempdir().unwrap();
    let shipped = std::fs::read_to_string("config/phasebroker.toml").unwrap();
    let config = std::env::current_dir().unwrap().join("config");
    let mut text = shipped;
    for name in ["catalog.toml", "policy", "directory.toml", "guardrails.toml"] {
        let whole = config.join(name).display().to_string();
        text = text.replace(&format!("= \"{name}\""), &format!("= \"{whole}\""));
    }
    std::fs::write(dir.path().join("phasebroker.toml"), text).unwrap();
    let refused = Command::new(env!("CARGO_BIN_EXE_phasebroker"))
        .arg("dev")
        .arg("--dir")
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("not written by `phasebroker dev`"), "{why}");
}
