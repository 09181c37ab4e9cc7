//! The files of `demo` and `dev`: a configuration marked `dev`, a catalog, a policy, a directory, guardrails, a
//! playbook to try, and everyone's keys.
//! The keys are demo keys: their passphrase is a constant, and the configuration that trusts them is refused by `serve`.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;

use crate::broker::ports::Clock as _;
use crate::cli::clock::SystemClock;
use crate::cli::exit::Exit;
use crate::cli::keys::agent_key::generate_agent_key;
use crate::cli::keys::key_file;
use crate::cli::serve;
use crate::config::Config;
use crate::domain::key::PublicKey;

const CONFIG: &str = "phasebroker.toml";
/// Life of the example playbook, seconds: a month.
const PLAYBOOK_SECONDS: i64 = 30 * 86_400;
/// The passphrase of every demo key.
pub const PASSPHRASE: &str = "demo";

/// Where everything of a demo is.
#[derive(Debug, Clone)]
pub struct World {
    /// Its folder.
    pub dir: PathBuf,
    /// The configuration.
    pub config: PathBuf,
    /// The broker's URL and issuer.
    pub issuer: String,
    /// The resource's URL and audience.
    pub audience: String,
}

impl World {
    /// Writes a fresh world for a broker at `broker` and a resource at `resource`.
    pub fn create(dir: &Path, broker: SocketAddr, resource: SocketAddr) -> anyhow::Result<Self> {
        let world = Self {
            dir: dir.to_owned(),
            config: dir.join(CONFIG),
            issuer: format!("http://{broker}"),
            audience: format!("http://{resource}"),
        };
        anyhow::ensure!(!Self::is_in(dir), "{} holds a demo already; give another --dir", dir.display());
        for folder in [dir.to_owned(), dir.join("keys"), dir.join("head")] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .with_context(|| folder.display().to_string())?;
        }
        world.write_keys_and_directory()?;
        let listen = broker.to_string();
        let config = format!(
            "# Written by `phasebroker demo` or `dev`. The mark below makes `serve` refuse it.\n\
             dev = true\nissuer = \"{}\"\nlisten = \"{listen}\"\n\n[store]\ndata_dir = \"data\"\nhead_file = \"head/head.json\"\n\n\
             [rules]\ncatalog = \"catalog.toml\"\npolicy = [\"policy.cedar\"]\ndirectory = \"directory.toml\"\n\
             guardrails = \"guardrails.toml\"\n\n\
             [[resources]]\naudience = \"{}\"\nkeys = [{}]\n",
            world.issuer,
            world.audience,
            jwk(&generate_agent_key(&world.agent_key("resource"))?),
        );
        world.put("catalog.toml", &include_str!("catalog.toml").replace("@AUDIENCE@", &world.audience))?;
        world.put("policy.cedar", include_str!("policy.cedar"))?;
        world.put(
            "guardrails.toml",
            &include_str!("guardrails.toml").replace("@AUDIENCE@", &world.audience),
        )?;
        let end = SystemClock.wall().plus(PLAYBOOK_SECONDS).rfc3339();
        world.put("playbook.toml", &include_str!("playbook.toml").replace("@NOT_AFTER@", &end))?;
        // Last: a folder with a configuration is whole.
        world.put(CONFIG, &config)?;
        Ok(world)
    }

    /// Whether `dir` holds a world.
    pub fn is_in(dir: &Path) -> bool {
        dir.join(CONFIG).exists()
    }

    /// Finds the world that was written into `dir` before, with its configuration.
    pub fn open(dir: &Path) -> anyhow::Result<(Self, Config)> {
        let path = dir.join(CONFIG);
        let config = serve::read(&path)?;
        let wrong =
            |what: &str| Exit::Usage.because(format!("{} {what}; give another --dir", path.display()));
        // SECURITY: the demo's keys have a known passphrase, and it would open no other broker with them.
        if !config.dev {
            return Err(wrong("is not marked `dev = true`: it was not written by `phasebroker dev`"));
        }
        let [resource] = config.resources.as_slice() else {
            return Err(wrong("does not name exactly one resource"));
        };
        let world = Self {
            dir: dir.to_owned(),
            config: path.clone(),
            issuer: config.issuer.clone(),
            audience: resource.audience.clone(),
        };
        Ok((world, config))
    }

    /// Where the resource listens.
    pub fn resource(&self) -> anyhow::Result<SocketAddr> {
        let address = self.audience.strip_prefix("http://").and_then(|address| address.parse().ok());
        let loopback = address.filter(|address: &SocketAddr| address.ip().is_loopback());
        loopback.ok_or_else(|| {
            Exit::Usage.because(format!("the demo's resource cannot listen at `{}`", self.audience))
        })
    }

    /// The private key file of an agent or of the resource.
    pub fn agent_key(&self, name: &str) -> PathBuf {
        self.dir.join("keys").join(format!("{name}.pem"))
    }

    /// The encrypted key file of a person.
    pub fn person_key(&self, name: &str) -> PathBuf {
        self.dir.join("keys").join(name)
    }

    fn write_keys_and_directory(&self) -> anyhow::Result<()> {
        let mut directory = String::from("# People, groups and agents of the demo.\n");
        for (slug, name, roles) in [
            ("alice", "Alice, who owns the agent", "\"approver\""),
            ("bob", "Bob, on call tonight", "\"approver\""),
            ("dana", "Dana, who owns the data", "\"approver\""),
            ("erin", "Erin, who looks at what ran by itself", "\"approver\""),
            ("olga", "Olga, who operates and audits", "\"operator\", \"auditor\""),
        ] {
            let key = key_file::generate(&self.person_key(slug), slug, PASSPHRASE)?;
            directory.push_str(&format!("\n[people.{slug}]\nname = \"{name}\"\nroles = [{roles}]\n"));
            directory.push_str(&format!("[[people.{slug}.keys]]\ncustody = \"file\"\njwk = {}\n", jwk(&key)));
        }
        directory.push_str("\n[groups.on-call]\npeople = [\"alice\", \"bob\"]\n\n[groups.data-owners]\npeople = [\"dana\"]\n\n[groups.reviewers]\npeople = [\"erin\"]\n");
        for slug in ["fixer", "twin"] {
            let key = generate_agent_key(&self.agent_key(slug))?;
            directory.push_str(&format!("\n[agents.{slug}]\nowner = \"alice\"\nkeys = [{}]\n", jwk(&key)));
        }
        self.put("directory.toml", &directory)
    }

    fn put(&self, name: &str, text: &str) -> anyhow::Result<()> {
        use std::io::Write as _;
        let path = self.dir.join(name);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(text.as_bytes()).with_context(|| path.display().to_string())
    }
}

/// A public key as an inline table of TOML.
fn jwk(key: &PublicKey) -> String {
    let jwk = key.jwk();
    format!("{{ kty = {}, crv = {}, x = {} }}", json!(jwk.kty), json!(jwk.crv), json!(jwk.x))
}
