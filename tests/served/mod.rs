//! The real `phasebroker serve` as a process, with TLS and a directory whose keys are in the test's hands.

pub mod flow;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use phasebroker::cli::agent::{AgentClient, AgentSettings, Login};
use phasebroker::cli::clock::SystemClock;
use phasebroker::cli::keys::PersonSigner;
use phasebroker::cli::keys::directory_row::{agent_row, person_row};
use phasebroker::cli::person::{Endpoint, PersonClient};
use phasebroker::domain::key::{Custody, PublicKey, SigningKey};
use serde_json::Value;

use super::peers::openssl::certificate;
use super::peers::{free_port, wait_until};

const AUDIENCE: &str = "http://127.0.0.1:9";

/// A broker that serves until it is dropped.
pub struct Served {
    /// Its URL and issuer.
    pub url: String,
    /// Its files: `cert.pem`, `key.pem`, `directory.toml`, `log`, `notices`.
    pub dir: tempfile::TempDir,
    /// `alice` (owns the agent), `bob` and `carol` (on call), `dana` (owns data), and the agent `fixer`.
    keys: Vec<(&'static str, SigningKey)>,
    child: Child,
}

impl Served {
    /// Starts it; `more` are further rows of the directory.
    pub fn start(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let names = ["alice", "bob", "carol", "dana", "fixer"];
        let keys: Vec<_> = names.map(|name| (name, SigningKey::generate().unwrap())).into();
        let url = format!("https://127.0.0.1:{}", free_port());
        certificate(dir.path());
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write(
            "catalog.toml",
            &include_str!("../../src/cli/demo/catalog.toml").replace("@AUDIENCE@", AUDIENCE),
        );
        write("policy.cedar", include_str!("../../src/cli/demo/policy.cedar"));
        write(
            "guardrails.toml",
            &include_str!("../../src/cli/demo/guardrails.toml").replace("@AUDIENCE@", AUDIENCE),
        );
        let notices = dir.path().join("notices").display().to_string();
        write("phasebroker.toml", &configuration(&url, &notices));
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let mut served = Self { url, dir, keys, child: Command::new("true").spawn().unwrap() };
        served.child.wait().unwrap();
        served.write_directory(&["alice", "bob", "carol"], more);
        served.child = Command::new(env!("CARGO_BIN_EXE_phasebroker"))
            .args(["serve", "--config"])
            .arg(served.file("phasebroker.toml"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        wait_until("the broker to serve", 60, || {
            assert!(served.child.try_wait().unwrap().is_none(), "it ended: {}", served.log());
            served.log().contains("\"serving\"").then_some(())
        });
        served
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a directory in which `people` are on call.
    pub fn write_directory(&self, people: &[&str], more: &str) {
        let mut text = String::new();
        for person in people.iter().chain(&["dana"]) {
            text += &format!("[people.{person}]\nname = \"{person}\"\nroles = [\"approver\"]\n");
            text += &person_row(person, self.key(person).public(), Custody::File);
            text += "\n";
        }
        text += &format!("\n[groups.on-call]\npeople = {people:?}\n");
        text += "\n[groups.data-owners]\npeople = [\"dana\"]\n\n[groups.reviewers]\npeople = [\"dana\"]\n\n";
        text += &agent_row("fixer", self.key("fixer").public()).replace('…', "alice");
        text += "\n";
        text += more;
        fs::write(self.file("directory.toml"), text).unwrap();
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// Its log, line by line.
    pub fn log_lines(&self) -> Vec<Value> {
        let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        self.log().lines().map(line).collect()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        wait_until("the broker to end", 30, || self.child.try_wait().unwrap())
    }

    /// A client that trusts the certificate of this moment and nothing else.
    pub fn http(&self) -> reqwest::Client {
        let pem = fs::read(self.file("cert.pem")).unwrap();
        let ca = reqwest::Certificate::from_pem(&pem).unwrap();
        reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap()
    }

    pub async fn text(&self, path: &str) -> reqwest::Result<String> {
        self.http().get(format!("{}{path}", self.url)).send().await?.text().await
    }

    pub fn agent(&self) -> AgentClient {
        let login = Login::Key { agent: "fixer".parse().unwrap(), key: self.copy("fixer") };
        let ca = Some(self.file("cert.pem"));
        let settings = AgentSettings { broker: self.url.clone(), issuer: self.url.clone(), login, ca };
        AgentClient::new(settings, Arc::new(SystemClock)).unwrap()
    }

    pub async fn person(&self, name: &'static str) -> PersonClient {
        let pem = fs::read(self.file("cert.pem")).unwrap();
        let endpoint = Endpoint::find(&self.url, None, Some(&pem)).await.unwrap();
        let pen = Pen { key: self.copy(name), name };
        PersonClient::new(endpoint, Box::new(pen), name.parse().unwrap(), Box::new(SystemClock))
    }

    fn key(&self, name: &str) -> &SigningKey {
        &self.keys.iter().find(|(known, _)| *known == name).unwrap().1
    }

    fn copy(&self, name: &str) -> SigningKey {
        SigningKey::from_pkcs8(&self.key(name).to_pkcs8().unwrap()).unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A person's key without a passphrase.
struct Pen {
    key: SigningKey,
    name: &'static str,
}

impl PersonSigner for Pen {
    fn public(&self) -> &PublicKey {
        self.key.public()
    }
    fn custody(&self) -> Custody {
        Custody::File
    }
    fn comment(&self) -> &str {
        self.name
    }
    fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        Ok(self.key.sign(message)?)
    }
}

fn configuration(url: &str, notices: &str) -> String {
    let resource = SigningKey::generate().unwrap();
    let key = serde_json::to_value(resource.public().jwk()).unwrap();
    format!(
        "issuer = \"{url}\"\nlisten = \"{}\"\n\n[tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n\n\
         [store]\ndata_dir = \"data\"\nhead_file = \"head/head.json\"\n\n\
         [rules]\ncatalog = \"catalog.toml\"\npolicy = \"policy.cedar\"\ndirectory = \"directory.toml\"\n\
         guardrails = \"guardrails.toml\"\n\n\
         [log]\nlevel = \"trace\"\n\n\
         [on_event]\ncommand = [\"/bin/sh\", \"-c\", \"cat >> {notices}; echo >> {notices}\"]\n\n\
         [[resources]]\naudience = \"{AUDIENCE}\"\nkeys = [{{ kty = {}, crv = {}, x = {} }}]\n",
        url.strip_prefix("https://").unwrap(),
        key["kty"],
        key["crv"],
        key["x"]
    )
}
