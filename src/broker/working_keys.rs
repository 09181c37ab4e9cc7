//! The keys that sign tokens: short-lived, in memory, each vouched for by the broker's own key, which may be slow. The next
//! is made long before it signs, so that a device may be away meanwhile. Without a key nothing is issued, and everything
//! can still be stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Broker;
use super::late_key::LateKey;
use super::ports::{KeptKey, KeptKeys, KeySource, OwnKey, SignError, StoreError};
use super::refusal::{Code, Refusal};
use crate::domain::digest::encode;
use crate::domain::event::{Event, EventKind};
use crate::domain::jws::JwsError;
use crate::domain::key::{Algorithm, KeyError, PublicKey, SigningKey};
use crate::domain::key_certificate::{KeyCertificate, KeyUse};
use crate::domain::key_ring::{JWKS_MAX_AGE_SECONDS, PublishedKey, of_former_lives};
use crate::domain::principal::Actor;
use crate::domain::time::Timestamp;

/// The shortest life of a working key, seconds: its successor is published, and nobody still holds an older key set.
pub const SHORTEST_LIFE_SECONDS: u32 = 900;
/// The longest.
pub const LONGEST_LIFE_SECONDS: u32 = 604_800;
/// Its life when an operator says nothing.
pub const DEFAULT_LIFE_SECONDS: u32 = 86_400;

/// Why no working key could be made.
#[derive(Debug, thiserror::Error)]
enum NotMade {
    #[error("the broker's own key does not vouch for it: {0}")]
    Own(#[from] SignError),
    #[error("it cannot be made: {0}")]
    Key(#[from] KeyError),
    #[error("its certificate cannot be written: {0}")]
    Certificate(#[from] JwsError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Keeps a broker in working keys.
pub struct WorkingKeys {
    broker: Arc<Broker>,
    own: LateKey,
    /// Keys that vouched before this one, by the configuration.
    former: Vec<PublicKey>,
    life_seconds: i64,
    started: Timestamp,
    taken_up: AtomicBool,
}

impl WorkingKeys {
    /// Working keys that `own` vouches for, once it is there; what one of the `former` vouched for still verifies. Nothing is
    /// made before the first [`Self::turn`].
    pub fn new(
        broker: Arc<Broker>,
        own: Arc<dyn KeySource>,
        former: Vec<PublicKey>,
        life_seconds: u32,
    ) -> Self {
        let life = life_seconds.clamp(SHORTEST_LIFE_SECONDS, LONGEST_LIFE_SECONDS);
        let keys = Self {
            own: LateKey::new(own),
            former,
            life_seconds: i64::from(life),
            started: broker.gate.now(),
            taken_up: AtomicBool::new(false),
            broker,
        };
        keys.broker.gate.before_keys(false);
        keys
    }

    /// Makes the next key when its time has come, and closes the gate while there is none. Called again and again, by one
    /// caller at a time.
    pub async fn turn(&self) {
        let now = self.broker.gate.now();
        let until = self.broker.signer.ring().signs_until();
        let mut lacking = no_signing_key();
        if until.is_some() {
            // Making one may take as long as the device: meanwhile nothing is opened that could not be signed.
            self.show(&lacking);
        }
        if let Err(error) = self.make_when_due(until, now).await {
            if let NotMade::Store(error) = &error {
                lacking = self.broker.gate.store_failed(error);
            }
            tracing::error!(error = %error, "no working key; the next seconds try again");
        }
        self.show(&lacking);
    }

    async fn make_when_due(&self, until: Option<Timestamp>, now: Timestamp) -> Result<(), NotMade> {
        let own = self.own.open(|| self.broker.gate.since_boot()).await?;
        self.take_up(own.public()).await?;
        if until.is_none_or(|until| until.plus(-self.ahead()).has_passed(now)) {
            // Where one still signs, the next one goes on from its end.
            let begins = until.map_or(now, |until| until.max(now));
            let made = self.make(own, begins, now).await?;
            let (key, begins) = (made.key.thumbprint(), made.begins);
            tracing::info!(key = %key, begins = %begins, ends = %made.ends, "made a working key");
        }
        Ok(())
    }

    /// Closes the gate for `lacking` while no key signs, and opens it otherwise.
    fn show(&self, lacking: &Refusal) {
        let missing = self.broker.signer.ring().signing(self.broker.gate.now()).is_none();
        self.broker.gate.keys(missing.then(|| lacking.clone()));
    }

    /// Seconds before the end of a key at which the next is made: enough for everybody to have read it, and for a device
    /// that is away for a while.
    fn ahead(&self) -> i64 {
        (self.life_seconds / 4).max(JWKS_MAX_AGE_SECONDS + 60)
    }

    /// Takes up what former lives published, and records who vouches now: once.
    async fn take_up(&self, own: &PublicKey) -> Result<(), StoreError> {
        if self.taken_up.load(Ordering::Acquire) {
            return Ok(());
        }
        let kept = match self.broker.store.kept_keys().await {
            // INVARIANT: stop-always-works. What is not trusted may be unreadable, too.
            Err(error) if self.broker.is_distrusted() => {
                tracing::error!(error = %error, "the keys of the former life cannot be read");
                KeptKeys::default()
            }
            kept => kept?,
        };
        // What is not trusted is not written to either.
        if !self.broker.is_distrusted() {
            self.broker.note_own_key(&kept.keys, KeptKey::Token(own.clone())).await?;
        }
        self.remember(&kept, own);
        self.broker.signer.remembers_all();
        self.taken_up.store(true, Ordering::Release);
        Ok(())
    }

    /// Lets keys of former lives verify what they signed.
    // SECURITY: whoever writes the store's file can write any row: only what a key vouches for counts, that the configuration
    // names or that signs for us now, and only as its certificate says.
    fn remember(&self, kept: &KeptKeys, own: &PublicKey) {
        let mut distrusted = kept.unreadable;
        let mut working = Vec::new();
        for key in &kept.keys {
            let KeptKey::Working(key) = key else { continue };
            match self.vouched(key, own) {
                Ok(()) => working.push(key.clone()),
                Err(why) => {
                    tracing::warn!(key = %key.key.thumbprint(), why, "a kept working key is not believed");
                    distrusted += 1;
                }
            }
        }
        self.broker.metrics.distrusted_keys(distrusted);
        // Up to the start of this life, however late the key that vouches came back.
        for former in of_former_lives(working, self.started) {
            self.broker.signer.remember(&former);
        }
    }

    fn vouched(&self, kept: &PublishedKey, own: &PublicKey) -> Result<(), &'static str> {
        let certificate = kept.certificate.as_deref().ok_or("nothing vouches for it")?;
        let issuer = self.broker.signer.issuer();
        let claims = std::iter::once(own)
            .chain(&self.former)
            .find_map(|by| KeyCertificate::open(certificate, by, issuer).ok())
            .ok_or("neither the token key nor a former one that the configuration names vouches for it")?;
        let says = (&claims.jwk, claims.nbf, claims.exp) == (&kept.key, kept.begins, kept.ends);
        says.then_some(()).ok_or("its certificate says something else")
    }

    async fn make(&self, own: &OwnKey, begins: Timestamp, now: Timestamp) -> Result<PublishedKey, NotMade> {
        let key = match own.public().algorithm() {
            Algorithm::EdDSA => SigningKey::generate()?,
            Algorithm::ES256 => SigningKey::generate_p256()?,
        };
        let claims = KeyCertificate {
            iss: self.broker.signer.issuer().to_owned(),
            sub: key.public().thumbprint(),
            jwk: key.public().clone(),
            usage: KeyUse::Token,
            epoch: self.broker.gate.epoch(),
            iat: now,
            nbf: begins,
            exp: begins.plus(self.life_seconds),
        };
        let input = claims.signing_input(own.public())?;
        let signature = own.sign(input.as_bytes()).await?;
        let certificate = format!("{input}.{}", encode(&signature));
        let public = PublishedKey {
            key: claims.jwk,
            begins: claims.nbf,
            ends: claims.exp,
            certificate: Some(certificate.clone()),
        };
        // A store that is not trusted records nothing, and nothing is issued on it; what ended can still be told.
        if !self.broker.is_distrusted() {
            let event = Event::new(EventKind::KeyCertified, Actor::Broker, now)
                .fact("key", public.key.thumbprint().to_string())
                .fact("by", own.public().thumbprint().to_string())
                .fact("begins", public.begins.seconds())
                .fact("ends", public.ends.seconds())
                .fact("certificate", certificate);
            // INVARIANT: logged-before-released. Nobody sees a key that a later life would not know.
            let head = self.broker.store.keep_key(KeptKey::Working(public.clone()), event).await?;
            self.broker.gate.committed(head);
        }
        self.broker.signer.add(&public, key, now);
        Ok(public)
    }
}

/// Why nothing is issued without a working key.
pub(super) fn no_signing_key() -> Refusal {
    let why =
        "nothing can sign a token now; an operator must bring back the broker's own key (its log says why)";
    Refusal::new(Code::NoSigningKey, why).retry_after(10)
}

/// INVARIANT: honest-revocation. Nothing is said of a token as long as its key may be one of the former life.
pub fn former_keys_unknown() -> Refusal {
    let why = "whose token this is cannot be told before the broker's own key is back, which vouches for the keys before this start; \
               come again, or let a person stop the run";
    Refusal::new(Code::NoSigningKey, why).retry_after(10)
}

impl Broker {
    /// Whether something may be issued, and at what time: nothing is opened for which no token could be signed, also in the
    /// seconds between the end of a key and the next look at it.
    pub(super) fn may_issue(&self) -> Result<Timestamp, Refusal> {
        let now = self.gate.may_issue()?;
        self.signer.ring().signing(now).map(|_| now).ok_or_else(no_signing_key)
    }

    /// Records that a key of our own is another than the kept one, or is there for the first time.
    pub(super) async fn note_own_key(&self, kept: &[KeptKey], key: KeptKey) -> Result<(), StoreError> {
        let same_kind = |other: &&KeptKey| std::mem::discriminant(*other) == std::mem::discriminant(&key);
        let former: Option<&PublicKey> = kept.iter().find(same_kind).map(KeptKey::key);
        if former == Some(key.key()) {
            return Ok(());
        }
        let purpose = if matches!(key, KeptKey::Log(_)) { "log" } else { "token" };
        let public = key.key().jwk();
        let mut event = Event::new(EventKind::KeyChanged, Actor::Broker, self.gate.now())
            .fact("purpose", purpose)
            .fact("key", key.key().thumbprint().to_string())
            .fact("jwk", serde_json::to_string(&public).unwrap_or_default());
        if let Some(former) = former {
            event = event.fact("old_key", former.thumbprint().to_string());
            tracing::warn!(purpose, key = %key.key().thumbprint(), "a key of the broker's own was changed");
        }
        let head = self.store.keep_key(key, event).await?;
        self.gate.committed(head);
        Ok(())
    }
}
