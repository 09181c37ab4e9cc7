//! The scene: the shipped configuration with our ports and keys in a running broker, moto as AWS, a real ssh-agent.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use phasebroker::cli::keys::agent_key::generate_agent_key;
use phasebroker::domain::digest::encode;
use tempfile::TempDir;

use super::peers::lifeline::Lifeline;
use super::peers::moto::Moto;
use super::peers::ssh_agent::SshAgent;
use super::peers::{free_port, python, wait_until};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_phasebroker");
/// Moto's own account, in which every key acts that it did not hand out itself.
const ACCOUNT: &str = "123456789012";
const REGION: &str = "eu-central-1";

pub struct Scene {
    pub moto: Moto,
    pub broker: Lifeline,
    pub instance: String,
    agent: SshAgent,
    dir: TempDir,
    port: u16,
}

impl Scene {
    pub fn set() -> Self {
        Self::set_with(|_, _| ())
    }

    /// `change` is given the folder of the configuration before the broker starts, and the broker's port.
    pub fn set_with(change: impl FnOnce(&Path, u16)) -> Self {
        let (moto, mut agent, port) = (Moto::start(), SshAgent::start(), free_port());
        let alice = agent.add_ed25519("alice", false);
        let dir = tempfile::tempdir().unwrap();
        let configuration = configure(dir.path(), &moto, port, &alice);
        change(configuration.parent().unwrap(), port);
        for role in ["phasebroker-execute", "phasebroker-observe"] {
            let trust = r#"{"Version":"2012-10-17","Statement":[]}"#;
            administer(
                &moto,
                &["iam", "create-role", "--role-name", role, "--assume-role-policy-document", trust],
            );
        }
        let image = "ami-03cf127a";
        let started = ["ec2", "run-instances", "--image-id", image, "--query", "Instances[0].InstanceId"];
        let instance = administer(&moto, &started);
        let home = planted_home(dir.path());
        let arguments = |_: &Path| vec!["serve".into(), "--config".into(), path(&configuration)];
        let environment = [("HOME", path(&home)), ("AWS_EC2_METADATA_DISABLED", "true".into())];
        let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
        let broker = Lifeline::start(PROGRAM, arguments, &environment);
        let scene = Self { moto, broker, instance, agent, dir, port };
        wait_until("the broker to be ready", 20, || scene.ready().then_some(()));
        scene
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn ready(&self) -> bool {
        let mut answer = String::new();
        let mut ask = || -> std::io::Result<()> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            let host =
                format!("GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\r\n", self.port);
            stream.write_all(host.as_bytes())?;
            stream.read_to_string(&mut answer).map(drop)
        };
        let ready = ask().is_ok() && answer.starts_with("HTTP/1.1 200");
        assert!(!self.broker.log().contains("phasebroker: "), "{}", self.broker.log());
        ready
    }

    /// `phasebroker exec` as `pay-bot`, from an environment that is full of other credentials.
    pub fn exec(&self, options: &[&str], command: &[&str]) -> Child {
        let mut exec = Command::new(PROGRAM);
        exec.args([
            "exec",
            "--broker",
            &self.url(),
            "--agent",
            "pay-bot",
            "--environment",
            "production",
            "--key",
        ])
        .arg(self.dir.path().join("pay-bot.pem"))
        .args(options)
        .args(["--aws-endpoint", &format!("sts={}", self.moto.url())])
        .args(["--aws-endpoint", &format!("ec2={}", self.moto.url())])
        .arg("--")
        .args(command)
        .env("HOME", self.dir.path().join("home"))
        .env("AWS_PROFILE", "default")
        .env("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT00000")
        .env("AWS_SECRET_ACCESS_KEY", "environment")
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        .env("SSH_AUTH_SOCK", self.agent.socket());
        exec.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Proposes the reboot of our instance after observing with this set. A set of AWS makes the claim wait for a
    /// minute, until its session is certainly over.
    pub fn reboot(&self, observe_set: &str, command: &[&str]) -> Child {
        let instance = format!("instance={}", self.instance);
        let options = ["--action", "reboot-instance", "--param", &instance, "--observe-set", observe_set];
        self.exec(&[&options[..], &["--work-seconds", "120"]].concat(), command)
    }

    /// Alice signs on a terminal what the exec asks for.
    pub fn sign(&self, waiting: &Waiting) -> String {
        let url = self.url();
        let line = format!(
            "{PROGRAM} approvals sign {} --broker {url} --person alice --ssh-agent=alice",
            waiting.grant
        );
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env("SSH_AUTH_SOCK", self.agent.socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut keyboard = child.stdin.take().unwrap();
        keyboard.write_all(format!("{}\n", waiting.code).as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stdout));
        text(&output.stdout)
    }
}

/// An exec that waits for signatures.
pub struct Waiting {
    child: Child,
    errors: BufReader<std::process::ChildStderr>,
    said: String,
    pub grant: String,
    code: String,
}

impl Waiting {
    pub fn of(mut child: Child) -> Self {
        let errors = BufReader::new(child.stderr.take().unwrap());
        let mut waiting =
            Self { child, errors, said: String::new(), grant: String::new(), code: String::new() };
        let line = waiting.until(" waits for signatures; its code is ");
        let (before, code) = line.split_once(" waits for signatures; its code is ").unwrap();
        waiting.grant = before.rsplit(' ').next().unwrap().to_owned();
        waiting.code = code.trim().to_owned();
        waiting
    }

    /// The next line of its standard error that has these words.
    pub fn until(&mut self, words: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.errors.read_line(&mut line).unwrap() > 0, "exec ended: {}", self.said);
            self.said.push_str(&line);
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Sends it SIGTERM.
    pub fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// Exit code, standard output, standard error.
    pub fn end(mut self) -> (Option<i32>, String, String) {
        let mut out = String::new();
        self.errors.read_to_string(&mut self.said).unwrap();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        (self.child.wait().unwrap().code(), out, self.said)
    }
}

/// The shipped configuration with our port, our keys, moto's account and endpoints.
fn configure(dir: &Path, moto: &Moto, port: u16, alice: &Path) -> PathBuf {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let read = |name: &str| std::fs::read_to_string(shipped.join(name)).unwrap();
    std::fs::create_dir_all(dir.join("config/policy")).unwrap();
    for policy in std::fs::read_dir(shipped.join("policy")).unwrap() {
        let policy = policy.unwrap();
        std::fs::copy(policy.path(), dir.join("config/policy").join(policy.file_name())).unwrap();
    }
    let bot = generate_agent_key(&dir.join("pay-bot.pem")).unwrap().jwk().x;
    let directory = read("directory.toml")
        .replace("Tjgg9y32io--spIjXhIvpr9G9SenU7lBTli3vbLFiIE", &ed25519_x(alice))
        .replace("n1qYsmub3UM0nObu3XrikoQGdFmKHBfoQ9zoVpQ7QyI", &bot);
    std::fs::write(dir.join("config/directory.toml"), directory).unwrap();
    let catalog = read("catalog.toml").replace("111122223333", ACCOUNT);
    std::fs::write(dir.join("config/catalog.toml"), catalog).unwrap();
    std::fs::write(dir.join("config/guardrails.toml"), read("guardrails.toml")).unwrap();
    let aws = format!(
        "\n[aws]\nregion = \"{REGION}\"\nmint_profile = \"phasebroker-mint\"\nrevoke_profile = \"phasebroker-revoke\"\n\
         allow_endpoints = [\"sts\", \"iam\"]\nsts_endpoint = \"{0}\"\niam_endpoint = \"{0}\"\n\
         [[aws.accounts]]\naccount = \"444455556666\"\nrevoke_profile = \"phasebroker-revoke-staging\"\n",
        moto.url()
    );
    let configuration =
        read("phasebroker.toml").replace("127.0.0.1:8477", &format!("127.0.0.1:{port}")) + &aws;
    let file = dir.join("config/phasebroker.toml");
    std::fs::write(&file, configuration).unwrap();
    file
}

/// The `x` of a public key in OpenSSH's form: its blob ends with the 32 bytes.
fn ed25519_x(public_key: &Path) -> String {
    let line = std::fs::read_to_string(public_key).unwrap();
    let blob = STANDARD.decode(line.split(' ').nth(1).unwrap()).unwrap();
    encode(&blob[blob.len() - 32..])
}

/// A home with the broker's two identities, and a default profile that must not be used.
fn planted_home(dir: &Path) -> PathBuf {
    let home = dir.join("home");
    std::fs::create_dir_all(home.join(".aws")).unwrap();
    let profile = |name: &str, key: &str| {
        format!("[{name}]\naws_access_key_id = {key}\naws_secret_access_key = secret\n")
    };
    let credentials = [
        profile("default", "AKIAPLANTEDPLANTED00"),
        profile("phasebroker-mint", "AKIAMINTMINTMINT0000"),
        profile("phasebroker-revoke", "AKIAREVOKEREVOKE0000"),
    ];
    std::fs::write(home.join(".aws/credentials"), credentials.concat()).unwrap();
    std::fs::write(home.join(".aws/config"), "[default]\nregion = us-east-2\n").unwrap();
    home
}

pub fn administer(moto: &Moto, arguments: &[&str]) -> String {
    let output: Output = Command::new(python::aws_cli())
        .args(arguments)
        .args(["--output", "text"])
        .env_clear()
        .envs([("AWS_ACCESS_KEY_ID", "AKIAADMIN"), ("AWS_SECRET_ACCESS_KEY", "admin")])
        .envs([("AWS_DEFAULT_REGION", REGION), ("AWS_ENDPOINT_URL", &moto.url())])
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

pub fn path(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
