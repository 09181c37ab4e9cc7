//! The configuration of a countersigner, on another host and by other people than the broker's: its own catalog and
//! directory, the one broker that may ask, and the key of the issuer that AWS trusts.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::mistakes::{ConfigErrors, Source};
use super::rules::{read_catalog, read_directory, text};
use super::serving::Serving;
use super::{TlsFiles, written};
use crate::catalog::Catalog;
use crate::domain::directory::Directory;
use crate::domain::key::{Algorithm, PublicKey};
use crate::domain::principal::Environment;

/// A countersigner's configuration that passed every check.
#[derive(Debug, Clone)]
pub struct CountersignerConfig {
    /// Its URL, at which the broker asks.
    pub url: String,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Certificate and key of the listener.
    pub tls: Option<TlsFiles>,
    /// Issuer URL of the one broker whose grants count.
    pub broker: String,
    /// The key with which that broker proves itself.
    pub broker_key: PublicKey,
    /// The issuer that AWS trusts.
    pub issuer: String,
    /// File of its signing key.
    pub key: PathBuf,
    /// Keys published beside it: the next one, or the one before.
    pub further_keys: Vec<PublicKey>,
    /// Environments that it signs for.
    pub environments: BTreeSet<Environment>,
    /// Where it keeps which grants had their token.
    pub data_dir: PathBuf,
    /// Its rules as read.
    pub rules: CountersignerRules,
    file: PathBuf,
}

/// What a countersigner judges by, swapped as one.
#[derive(Debug, Clone)]
pub struct CountersignerRules {
    /// Its own catalog.
    pub catalog: Catalog,
    /// Its own directory.
    pub directory: Directory,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    url: String,
    listen: String,
    environments: BTreeSet<Environment>,
    data_dir: PathBuf,
    broker: Broker,
    identity: Identity,
    rules: Rules,
    tls: Option<written::Tls>,
    #[serde(default)]
    proxy: written::Proxy,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Broker {
    issuer: String,
    key: PublicKey,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    issuer: String,
    key: PathBuf,
    #[serde(default)]
    further_keys: Vec<PublicKey>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    catalog: PathBuf,
    directory: PathBuf,
}

impl CountersignerConfig {
    /// Reads the file and the rules that it names; explains every mistake at once.
    pub fn read(file: &Path) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let config = read(file, &mut errors);
        errors.or(config)
    }

    /// Reads catalog and directory again, for a reload.
    pub fn reread_rules(&self) -> Result<CountersignerRules, ConfigErrors> {
        Ok(Self::read(&self.file)?.rules)
    }
}

fn read(file: &Path, errors: &mut ConfigErrors) -> Option<CountersignerConfig> {
    let text = text(file, errors)?;
    let source = Source { file, text: &text };
    let written: Written = toml::from_str(&text).map_err(|error| errors.toml(&source, &error)).ok()?;
    let path = |path: &Path| file.parent().unwrap_or(Path::new("")).join(path);
    let tls =
        written.tls.as_ref().map(|tls| TlsFiles { certificate: path(&tls.certificate), key: path(&tls.key) });
    let listen = written.listen.parse::<SocketAddr>();
    if let Ok(listen) = listen {
        let (url, behind_proxy) = (&written.url, written.proxy.behind);
        let serving =
            Serving { key: "url", issuer: url, listen, tls: tls.is_some(), behind_proxy, dev: false };
        serving.check(&source, errors);
    } else {
        let problem = format!("`{}` is not an address and port such as `127.0.0.1:8479`", written.listen);
        errors.at(&source, "listen", problem);
    }
    if written.broker.key.algorithm() != Algorithm::EdDSA {
        errors.at(&source, "broker.key", "a broker proves itself by an Ed25519 key");
    }
    // AWS takes RS256, RS384, RS512, ES256, ES384 and ES512 (STS API reference, WebIdentityToken), so no Ed25519.
    if written.identity.further_keys.iter().any(|key| key.algorithm() != Algorithm::ES256) {
        errors.at(&source, "identity.further_keys", "AWS takes no Ed25519 here: publish P-256 keys only");
    }
    let rules = CountersignerRules {
        catalog: read_catalog(&path(&written.rules.catalog), errors)?,
        directory: read_directory(&path(&written.rules.directory), errors)?,
    };
    if written.environments.is_empty() {
        errors.at(&source, "environments", "name the environments that are signed for");
    }
    for place in &written.environments {
        let aws = rules.catalog.environments().get(place).and_then(|target| target.aws.as_ref());
        let web = aws.and_then(|aws| aws.web_identity.as_ref());
        if web.is_none_or(|web| web.issuer != written.identity.issuer) {
            let problem = format!(
                "the catalog has no AWS account of `{place}` whose `web_identity` is of the issuer `{}`",
                written.identity.issuer
            );
            errors.at(&source, "environments", problem);
        }
    }
    Some(CountersignerConfig {
        url: written.url,
        listen: listen.ok()?,
        tls,
        broker: written.broker.issuer,
        broker_key: written.broker.key,
        issuer: written.identity.issuer,
        key: path(&written.identity.key),
        further_keys: written.identity.further_keys,
        environments: written.environments,
        data_dir: path(&written.data_dir),
        rules,
        file: file.to_owned(),
    })
}
