//! Keys of configured token issuers (RFC 7517): from a file, or fetched over https and kept for a while.
//! `kid`, `alg` and key type are pinned together; a key set with a private part is refused whole.

use std::path::PathBuf;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};
use std::sync::Arc;
use tokio::sync::Mutex;

use super::AuthnError;
use super::assertion::is_shared_secret;
use crate::domain::digest::decode;
use crate::domain::jws::strict_object;
use crate::domain::time::Timestamp;

/// Shortest time between two fetches, in seconds.
pub const REFETCH_SECONDS: i64 = 10;
/// Largest key set, in bytes.
pub const MAX_JWKS_BYTES: usize = 256 * 1024;
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Where an issuer's keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A JWKS file, read at start and at reload.
    File(PathBuf),
    /// A JWKS by https.
    Url(String),
}

/// A configured issuer of workload tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSettings {
    /// `iss`, exactly.
    pub issuer: String,
    /// The audience its tokens must name: by default the broker's issuer URL.
    pub audience: String,
    /// Algorithms accepted from it; never a shared-secret one.
    pub algorithms: Vec<Algorithm>,
    /// Its keys.
    pub keys: KeySource,
    /// Longest life of a token (`exp` minus `iat`), in seconds.
    pub longest_life_seconds: i64,
    /// After so many seconds fetched keys are fetched again.
    pub ttl_seconds: i64,
    /// For so many seconds fetched keys are used while they cannot be fetched again.
    pub max_age_seconds: i64,
}

/// Why an issuer's keys cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// The configuration is wrong.
    #[error("{0}")]
    Settings(String),
    /// The file cannot be read.
    #[error("{path}: {problem}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system says.
        problem: String,
    },
    /// The keys are not acceptable.
    #[error("the key set is refused: {0}")]
    Refused(String),
    /// The URL does not answer, or not with a key set.
    #[error("the key set cannot be fetched: {0}")]
    Unreachable(String),
}

/// A configured issuer with its keys.
pub struct Issuer {
    settings: IssuerSettings,
    client: Option<reqwest::Client>,
    current: ArcSwapOption<Snapshot>,
    last: Mutex<LastFetch>,
}

struct Snapshot {
    keys: KeySet,
    fetched_at: Timestamp,
}

#[derive(Default)]
struct LastFetch {
    at: Option<Timestamp>,
    failed: bool,
}

impl Issuer {
    /// Checks the settings and reads the file, if it is one; fetches nothing.
    pub fn new(settings: IssuerSettings, dev: bool) -> Result<Self, JwksError> {
        let wrong = |why: &str| JwksError::Settings(format!("issuer `{}`: {why}", settings.issuer));
        if settings.algorithms.is_empty() || settings.algorithms.iter().any(|a| is_shared_secret(*a)) {
            return Err(wrong("`algorithms` must name public-key algorithms such as EdDSA, ES256 or RS256"));
        }
        if settings.issuer.is_empty() || settings.audience.is_empty() || settings.longest_life_seconds <= 0 {
            return Err(wrong("issuer, audience and the longest life of a token must not be empty"));
        }
        if settings.ttl_seconds < REFETCH_SECONDS || settings.max_age_seconds < settings.ttl_seconds {
            return Err(wrong("the keys' time to live must be 10 s or more, and their maximum age not less"));
        }
        let client = match &settings.keys {
            KeySource::File(_) => None,
            KeySource::Url(url) => Some(client(url, dev).map_err(|why| wrong(&why))?),
        };
        let issuer = Self { settings, client, current: ArcSwapOption::empty(), last: Mutex::default() };
        issuer.replace(issuer.read_file()?);
        Ok(issuer)
    }

    /// The audience its tokens must name.
    pub fn audience(&self) -> &str {
        &self.settings.audience
    }

    /// Longest life of its tokens, in seconds.
    pub fn longest_life(&self) -> i64 {
        self.settings.longest_life_seconds
    }

    /// The keys of a file; nothing for an issuer with a URL.
    pub fn read_file(&self) -> Result<Option<KeySet>, JwksError> {
        let KeySource::File(path) = &self.settings.keys else { return Ok(None) };
        let unreadable =
            |problem: String| JwksError::Unreadable { path: path.display().to_string(), problem };
        let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
        KeySet::parse(&bytes).map(Some).map_err(|error| unreadable(error.to_string()))
    }

    /// Puts keys read from the file in force.
    pub fn replace(&self, keys: Option<KeySet>) {
        if let Some(keys) = keys {
            let fetched_at = Timestamp::from_seconds(i64::MAX);
            self.current.store(Some(Arc::new(Snapshot { keys, fetched_at })));
        }
    }

    /// The key named `kid` for `algorithm`; fetches when that may help. Unreachable keys are never an answer.
    pub async fn key(
        &self,
        kid: &str,
        algorithm: Algorithm,
        now: Timestamp,
    ) -> Result<DecodingKey, AuthnError> {
        if !self.settings.algorithms.contains(&algorithm) {
            return Err(AuthnError::refused(format!("`alg` {algorithm:?} is not accepted from this issuer")));
        }
        let cached = self.usable(now);
        let found = cached.as_ref().is_some_and(|set| set.keys.names(kid));
        let stale = cached.is_none_or(|set| now.since(set.fetched_at) >= self.settings.ttl_seconds);
        let failed = (stale || !found) && self.refetch(now, !found).await;
        let Some(set) = self.usable(now) else {
            return Err(AuthnError::Unavailable {
                why: format!("the keys of issuer `{}` cannot be read now; try again", self.settings.issuer),
            });
        };
        match set.keys.find(kid, algorithm) {
            Ok(Some(key)) => Ok(key.clone()),
            Ok(None) if failed => Err(AuthnError::Unavailable {
                why: "the key is not among those last read, and they cannot be read now; try again".into(),
            }),
            Ok(None) => Err(AuthnError::refused("the issuer has no key of this `kid` and `alg`")),
            Err(()) => Err(AuthnError::refused("the issuer has several keys of this `kid` and `alg`")),
        }
    }

    fn usable(&self, now: Timestamp) -> Option<Arc<Snapshot>> {
        self.current.load_full().filter(|set| now.since(set.fetched_at) < self.settings.max_age_seconds)
    }

    /// Fetches unless that was tried a moment ago; one at a time. True when the last try failed.
    async fn refetch(&self, now: Timestamp, wait: bool) -> bool {
        let (KeySource::Url(url), Some(client)) = (&self.settings.keys, &self.client) else { return false };
        let mut last = match wait {
            true => self.last.lock().await,
            false => match self.last.try_lock() {
                Ok(last) => last,
                Err(_) => return false,
            },
        };
        // Whoever waited for the lock finds here that the fetch was done meanwhile.
        if last.at.is_some_and(|at| now.since(at) < REFETCH_SECONDS) {
            return last.failed;
        }
        *last = LastFetch { at: Some(now), failed: true };
        match fetch(client, url).await {
            Ok(keys) => {
                self.current.store(Some(Arc::new(Snapshot { keys, fetched_at: now })));
                last.failed = false;
            }
            Err(error) => tracing::warn!(issuer = %self.settings.issuer, %error, "issuer keys not fetched"),
        }
        last.failed
    }
}

/// Public keys by name.
pub struct KeySet(Vec<PinnedKey>);

struct PinnedKey {
    kid: String,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl KeySet {
    /// Parses a JWKS. Keys of other types, for other uses or without a name are skipped.
    pub fn parse(bytes: &[u8]) -> Result<Self, JwksError> {
        let refused = |why: String| JwksError::Refused(why);
        if bytes.len() > MAX_JWKS_BYTES {
            return Err(refused(format!("larger than {MAX_JWKS_BYTES} bytes")));
        }
        let document = strict_object(bytes).map_err(refused)?;
        let Some(Value::Array(keys)) = document.get("keys") else {
            return Err(refused("no `keys` array".into()));
        };
        let mut pinned = Vec::new();
        for key in keys {
            let Value::Object(key) = key else { return Err(refused("a key is not an object".into())) };
            // SECURITY: whoever published a private part has lost the key; `k` would make a public file a secret.
            if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|part| key.contains_key(*part)) {
                return Err(refused(
                    "it holds a private key; publish public parts only, and replace it".into(),
                ));
            }
            pinned.extend(pin(key).map_err(refused)?);
        }
        Ok(Self(pinned))
    }

    /// Whether some key has this name.
    pub fn names(&self, kid: &str) -> bool {
        self.0.iter().any(|key| key.kid == kid)
    }

    /// The one key of this name for this algorithm; `Err` when there are several.
    fn find(&self, kid: &str, algorithm: Algorithm) -> Result<Option<&DecodingKey>, ()> {
        let mut fitting = self.0.iter().filter(|key| key.kid == kid && key.algorithms.contains(&algorithm));
        match (fitting.next(), fitting.next()) {
            (found, None) => Ok(found.map(|key| &key.key)),
            _ => Err(()),
        }
    }
}

fn pin(key: &Map<String, Value>) -> Result<Option<PinnedKey>, String> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let signs = text("use").is_none_or(|purpose| ["sig", "jwt-svid"].contains(&purpose));
    let (Some(kid), true) = (text("kid"), signs) else { return Ok(None) };
    let part = |name: &str, least: usize, most: usize| match text(name).map(decode) {
        Some(Ok(bytes)) if (least..=most).contains(&bytes.len()) => Ok(text(name).unwrap_or_default()),
        _ => Err(format!("`{name}` of key `{}` is missing or of a wrong length", kid.escape_default())),
    };
    let (mut algorithms, key) = match (text("kty"), text("crv")) {
        (Some("OKP"), Some("Ed25519")) => (vec![EdDSA], DecodingKey::from_ed_components(part("x", 32, 32)?)),
        (Some("EC"), Some("P-256")) => {
            (vec![ES256], DecodingKey::from_ec_components(part("x", 32, 32)?, part("y", 32, 32)?))
        }
        (Some("EC"), Some("P-384")) => {
            (vec![ES384], DecodingKey::from_ec_components(part("x", 48, 48)?, part("y", 48, 48)?))
        }
        (Some("RSA"), _) => (
            vec![RS256, RS384, RS512, PS256, PS384, PS512],
            DecodingKey::from_rsa_components(part("n", 256, 1024)?, part("e", 1, 8)?),
        ),
        _ => return Ok(None),
    };
    if let Some(own) = text("alg") {
        algorithms.retain(|algorithm| own.parse::<Algorithm>().is_ok_and(|own| own == *algorithm));
    }
    let key = key.map_err(|_| format!("key `{}` does not parse", kid.escape_default()))?;
    Ok(Some(PinnedKey { kid: kid.to_owned(), algorithms, key }))
}

fn client(url: &str, dev: bool) -> Result<reqwest::Client, String> {
    let parsed = reqwest::Url::parse(url).map_err(|error| format!("`{url}` is not a URL: {error}"))?;
    let loopback = match parsed.host_str().map(|host| host.trim_matches(['[', ']'])) {
        Some("localhost") => true,
        Some(host) => host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        None => false,
    };
    let plain = parsed.scheme() == "http" && dev && loopback;
    if parsed.scheme() != "https" && !plain {
        return Err(
            "keys are fetched over https only (plain http: from loopback, in a dev configuration)".into()
        );
    }
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(FETCH_TIMEOUT)
        .https_only(!plain);
    if loopback {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| format!("no https client: {error}"))
}

async fn fetch(client: &reqwest::Client, url: &str) -> Result<KeySet, JwksError> {
    let unreachable = |error: reqwest::Error| JwksError::Unreachable(error.to_string());
    let mut answer = client.get(url).send().await.map_err(unreachable)?;
    if answer.status() != reqwest::StatusCode::OK {
        return Err(JwksError::Unreachable(format!("status {}", answer.status().as_u16())));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_JWKS_BYTES {
            return Err(JwksError::Unreachable(format!("larger than {MAX_JWKS_BYTES} bytes")));
        }
    }
    KeySet::parse(&body)
}
