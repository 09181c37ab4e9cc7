//! A folder with everything a broker needs, whose state can be kept and put back like a backup.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Running, program, until};
use crate::broker::people::Keys;
use crate::broker::rules::{RESOURCE, Written};

/// What makes up a broker's state: the store, and the head kept outside it.
pub const STORE: &str = "data";
pub const HEAD: &str = "head";

/// The folder of one broker.
pub struct Place {
    folder: TempDir,
    pub url: String,
    pub keys: Keys,
}

impl Place {
    /// A place with fresh keys and no state. `aws` is where STS and IAM are.
    pub fn new(aws: Option<&str>) -> Self {
        let keys = Keys::generate();
        let mut rules = Written::usual(&keys);
        // One state is used again and again, so what waits in it must not lapse meanwhile.
        rules.policy = rules.policy.replace(r#"@claim_seconds("120")"#, r#"@claim_seconds("3600")"#);
        rules.policy = rules.policy.replace(r#"@work_seconds("60")"#, r#"@work_seconds("600")"#);
        rules.catalog = rules.catalog.replace("max_work_seconds = 60", "max_work_seconds = 600");
        rules.catalog = rules.catalog.replace("max_work_seconds = 120", "max_work_seconds = 600");
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let place = Self { folder, url: format!("http://{address}"), keys };
        let resource = json!([place.keys.of("resource").public().jwk()]);
        let mut config = json!({
            "issuer": place.url,
            "listen": address,
            "store": {"data_dir": STORE, "head_file": format!("{HEAD}/head.json")},
            "rules": {"catalog": "catalog.toml", "policy": "policy.cedar", "directory": "directory.toml",
                      "guardrails": "guardrails.toml"},
            "resources": [{"audience": RESOURCE, "keys": resource}],
            "tokens": {"decide_seconds": 900},
        });
        if let Some(endpoint) = aws {
            config["aws"] = json!({
                "region": "us-east-1", "mint_profile": "mint", "revoke_profile": "revoke",
                "allow_endpoints": ["sts", "iam", "ec2"],
                "sts_endpoint": endpoint, "iam_endpoint": endpoint, "ec2_endpoint": endpoint,
            });
        }
        place.write("broker.toml", &config);
        place.write("directory.toml", &rules.directory);
        fs::write(place.path("catalog.toml"), rules.catalog).unwrap();
        fs::write(place.path("policy.cedar"), rules.policy).unwrap();
        fs::write(place.path("guardrails.toml"), rules.guardrails).unwrap();
        let profile = |name: &str, id: &str| {
            format!("[profile {name}]\naws_access_key_id = {id}\naws_secret_access_key = not-a-secret\n")
        };
        let profiles = profile("mint", "AKIAMINT") + &profile("revoke", "AKIAREVOKE");
        fs::write(place.path("aws-profiles"), profiles).unwrap();
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What every process here has said, newest last.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Starts the broker, as itself or under strace with these arguments, without waiting for it.
    pub fn start(&self, strace: &[&str]) -> Running {
        self.start_with("broker.toml", strace)
    }

    /// Starts a broker with another configuration of this folder.
    pub fn start_with(&self, config: &str, strace: &[&str]) -> Running {
        let traced = [&["strace", "-f", "-qq", "-o", "/dev/null"], strace].concat();
        let mut words: Vec<String> = match strace {
            [] => Vec::new(),
            _ => traced.into_iter().map(str::to_owned).collect(),
        };
        words.extend([program(), "serve".into(), "--config".into()]);
        words.push(self.path(config).display().to_string());
        Running::start(&self.path("log"), &self.environment(), &words)
    }

    /// Starts the broker and waits until it answers.
    pub async fn serve(&self) -> Running {
        let mut running = self.start(&[]);
        assert!(self.answers(&mut running).await, "the broker did not start:\n{}", self.log());
        running
    }

    /// Waits until the broker answers; `false` when it ended instead.
    pub async fn answers(&self, running: &mut Running) -> bool {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let metadata = format!("{}/.well-known/oauth-authorization-server", self.url);
        until("the broker to answer or to end", async || {
            if running.has_ended() {
                return Some(false);
            }
            let found: Value = http.get(&metadata).send().await.ok()?.json().await.ok()?;
            (found["issuer"] == self.url.as_str()).then_some(true)
        })
        .await
    }

    /// Runs another command of the program on this place's configuration.
    pub fn command(&self, words: &[&str]) -> Output {
        let config = self.path("broker.toml");
        let mut command = Command::new(program());
        command.args(words).arg("--config").arg(config).envs(self.environment());
        command.output().unwrap()
    }

    /// Keeps the whole state under a name.
    pub fn keep(&self, name: &str) {
        for part in [STORE, HEAD] {
            copy(&self.path(part), &self.path(&format!("{name}.{part}")));
        }
    }

    /// Puts the whole state back as it was kept.
    pub fn put_back(&self, name: &str) {
        self.put_back_only(STORE, name);
        self.put_back_only(HEAD, name);
    }

    /// Puts one part back, as a restored backup does.
    pub fn put_back_only(&self, part: &str, name: &str) {
        fs::remove_dir_all(self.path(part)).unwrap();
        copy(&self.path(&format!("{name}.{part}")), &self.path(part));
    }

    /// Changes the configuration.
    pub fn configure(&self, change: impl FnOnce(&mut Value)) {
        let text = fs::read_to_string(self.path("broker.toml")).unwrap();
        let mut config = serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap();
        change(&mut config);
        self.write("broker.toml", &config);
    }

    /// Writes TOML.
    pub fn write(&self, name: &str, value: &Value) {
        fs::write(self.path(name), toml::to_string(value).unwrap()).unwrap();
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let path = |name: &str| self.path(name).display().to_string();
        vec![
            ("HOME", path("no-home")),
            ("AWS_CONFIG_FILE", path("aws-profiles")),
            ("AWS_SHARED_CREDENTIALS_FILE", path("no-credentials")),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("SOFTHSM2_CONF", path("softhsm2.conf")),
        ]
    }
}

/// Below the ports that the system gives to callers, so that none of them sits here while the broker is down.
fn free_address() -> String {
    loop {
        let address = format!("127.0.0.1:{}", rand::random_range(15_000..30_000));
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

fn copy(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}
