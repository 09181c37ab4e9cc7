//! The keys that sign tokens: short-lived, in memory, each vouched for by the broker's own key, which may be slow. The next
//! is made long before it signs, so that a device may be away meanwhile. Without a key nothing is issued, and everything
//! can still be stopped.

use std::sync::Arc;

use super::Broker;
use super::ports::{KeptKey, OwnKey, SignError, StoreError};
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
    own: OwnKey,
    life_seconds: i64,
}

impl WorkingKeys {
    /// Takes up what a former life published, records whose keys they are, and makes the first key.
    pub async fn start(broker: Arc<Broker>, own: OwnKey, life_seconds: u32) -> Result<Self, StoreError> {
        let kept = match broker.store.kept_keys().await {
            // INVARIANT: stop-always-works. A damaged store is no reason not to start and revoke.
            Err(error) if broker.is_distrusted() => {
                tracing::error!(error = %error, "the keys of the former life cannot be read");
                Vec::new()
            }
            kept => kept?,
        };
        let working = kept.iter().filter_map(|key| match key {
            KeptKey::Working(working) => Some(working.clone()),
            KeptKey::Token(_) | KeptKey::Log(_) => None,
        });
        for former in of_former_lives(working.collect(), broker.gate.now()) {
            broker.signer.remember(&former);
        }
        // What is not trusted is not written to either.
        if !broker.is_distrusted() {
            let log = broker.ledger.log().key().clone();
            for now in [KeptKey::Token(own.public().clone()), KeptKey::Log(log)] {
                broker.note_own_key(&kept, now).await?;
            }
        }
        let life = life_seconds.clamp(SHORTEST_LIFE_SECONDS, LONGEST_LIFE_SECONDS);
        let keys = Self { broker, own, life_seconds: i64::from(life) };
        keys.turn().await;
        Ok(keys)
    }

    /// Makes the next key when its time has come, and closes the gate while there is none. Called again and again, by one
    /// caller at a time.
    pub async fn turn(&self) {
        let now = self.broker.gate.now();
        let until = self.broker.signer.ring().signs_until();
        let mut lacking = Refusal::new(
            Code::NoSigningKey,
            "nothing can sign a token now; an operator must bring back the broker's own key (its log says why)",
        )
        .retry_after(10);
        if until.is_some() {
            // Making one may take as long as the device: meanwhile nothing is opened that could not be signed.
            self.show(&lacking);
        }
        if until.is_none_or(|until| until.plus(-self.ahead()).has_passed(now)) {
            // Where one still signs, the next one goes on from its end.
            let begins = until.map_or(now, |until| until.max(now));
            match self.make(begins, now).await {
                Ok(public) => {
                    let (key, begins) = (public.key.thumbprint(), public.begins);
                    tracing::info!(key = %key, begins = %begins, ends = %public.ends, "made a working key");
                }
                Err(error) => {
                    if let NotMade::Store(error) = &error {
                        lacking = self.broker.gate.store_failed(error);
                    }
                    tracing::error!(error = %error, "no working key; the next seconds try again");
                }
            }
        }
        self.show(&lacking);
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

    async fn make(&self, begins: Timestamp, now: Timestamp) -> Result<PublishedKey, NotMade> {
        let key = match self.own.public().algorithm() {
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
        let input = claims.signing_input(self.own.public())?;
        let signature = self.own.sign(input.as_bytes()).await?;
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
                .fact("by", self.own.public().thumbprint().to_string())
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

impl Broker {
    /// Records that a key of our own is another than the kept one, or is there for the first time.
    async fn note_own_key(&self, kept: &[KeptKey], key: KeptKey) -> Result<(), StoreError> {
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
