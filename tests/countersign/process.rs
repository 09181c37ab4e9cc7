//! `phasebroker countersign serve` as a process of its own, with copies of the test world's catalog and directory.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use phasebroker::broker::rules::Rules;
use phasebroker::cli::keys::agent_key::{read_agent_key, write_key};
use phasebroker::domain::countersign::{PATH, ProofClaims, Request};
use phasebroker::domain::key::SigningKey;
use phasebroker::domain::time::Timestamp;
use serde_json::Value;

use super::signed::ISSUER;
use crate::broker::TestBroker;
use crate::broker::rules::Written;
use crate::peers::lifeline::Lifeline;
use crate::peers::{free_port, wait_until};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_phasebroker");

/// A countersigner for one broker; it runs from `start` on.
pub struct Countersigner {
    pub url: String,
    pub dir: tempfile::TempDir,
    pub broker_key: SigningKey,
    running: Option<Lifeline>,
}

impl Countersigner {
    /// Its port and keys; nothing runs.
    pub fn planned() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let broker_key = SigningKey::generate().unwrap();
        write_key(&dir.path().join("broker.pem"), &broker_key).unwrap();
        let made = Command::new(PROGRAM)
            .args(["countersign", "key", "--out"])
            .arg(dir.path().join("identity.pem"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let url = format!("http://127.0.0.1:{}", free_port());
        Self { url, dir, broker_key, running: None }
    }

    /// Writes its files: the broker's rules, changed by its own people.
    pub fn configure(&self, b: &TestBroker, change: impl FnOnce(&mut Written)) {
        let mut written = Written::usual(&b.keys);
        {
            let own = b.written.lock().unwrap();
            (written.catalog, written.directory) = (own.catalog.clone(), own.directory.clone());
        }
        change(&mut written);
        let _: Rules = written.rules().unwrap();
        let jwk = self.broker_key.public().jwk();
        let configuration = format!(
            "url = \"{0}\"\nlisten = \"{1}\"\nenvironments = [\"cloud\"]\ndata_dir = \"data\"\n\n[broker]\nissuer = \"{2}\"\n\
             key = {{ kty = \"OKP\", crv = \"Ed25519\", x = \"{3}\" }}\n\n[identity]\nissuer = \"{ISSUER}\"\n\
             key = \"identity.pem\"\n\n[rules]\ncatalog = \"catalog.toml\"\ndirectory = \"directory.toml\"\n",
            self.url,
            self.url.trim_start_matches("http://"),
            b.issuer,
            jwk.x
        );
        self.write("catalog.toml", &written.catalog);
        self.write("directory.toml", &toml::to_string(&written.directory).unwrap());
        self.write("countersigner.toml", &configuration);
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.file(name), text).unwrap();
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command of it that ends by itself.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(PROGRAM);
        command.arg("countersign").args(arguments).arg("--config").arg(self.file("countersigner.toml"));
        command.output().unwrap()
    }

    pub fn start(&mut self) {
        let config = self.file("countersigner.toml").display().to_string();
        let arguments =
            |_: &Path| ["--json", "countersign", "serve", "--config", &config].map(str::to_owned).to_vec();
        let running = Lifeline::start(PROGRAM, arguments, &[]);
        wait_until("the countersigner to listen", 30, || running.log().contains("\"kid\"").then_some(()));
        self.running = Some(running);
    }

    pub fn stop(&mut self) {
        self.running = None;
    }

    pub fn hang_up(&self) {
        let pid = self.running.as_ref().unwrap().pid().to_string();
        assert!(Command::new("kill").args(["-s", "HUP", &pid]).status().unwrap().success());
    }

    pub fn log(&self) -> String {
        self.running.as_ref().map(Lifeline::log).unwrap_or_default()
    }

    pub fn public(&self) -> phasebroker::domain::key::PublicKey {
        read_agent_key(&self.file("identity.pem")).unwrap().public().clone()
    }

    /// What it answers to a request with this proof.
    pub async fn ask(&self, body: &[u8], proof: Option<&str>) -> (u16, Value) {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut asked = http.post(format!("{}{PATH}", self.url)).body(body.to_vec());
        if let Some(proof) = proof {
            asked = asked.bearer_auth(proof);
        }
        let answer = asked.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }

    /// The same as the broker does it.
    pub async fn ask_for(&self, b: &TestBroker, bytes: &[u8], tokens: &[String]) -> (u16, Value) {
        let body = serde_json::to_vec(&Request::new(bytes, tokens.to_vec())).unwrap();
        let proof = self.claims(b, &body).sign(&self.broker_key).unwrap();
        self.ask(&body, Some(&proof)).await
    }

    pub fn claims(&self, b: &TestBroker, body: &[u8]) -> ProofClaims {
        ProofClaims::new(&b.issuer, &self.url, body, present())
    }
}

/// The time of this moment, for a process that has a clock of its own.
pub fn present() -> Timestamp {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_seconds(i64::try_from(now.as_secs()).unwrap())
}
