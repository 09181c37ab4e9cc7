//! The broker's own keys: what signs with them, wherever they lie, and what the store keeps of them. A device is slow, may
//! be gone, and may lie: every signature is bounded in time and verified before anybody sees it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::key::{PublicKey, SigningKey};
use crate::domain::key_ring::PublishedKey;

/// How long one signature may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a key does not sign. The text is for operators: it holds no secret, and is shown to nobody else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SignError(pub String);

/// Something that holds a private key and signs with it.
#[async_trait]
pub trait Signer: Send + Sync {
    /// The public half, which does not change.
    fn public(&self) -> &PublicKey;
    /// A raw 64-byte signature over `message`.
    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

#[async_trait]
impl Signer for SigningKey {
    fn public(&self) -> &PublicKey {
        SigningKey::public(self)
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        SigningKey::sign(self, message).map_err(|error| SignError(error.to_string()))
    }
}

/// One of the broker's own keys, as the rest of the broker signs with it.
#[derive(Clone)]
pub struct OwnKey {
    signer: Arc<dyn Signer>,
    patience: Duration,
}

impl OwnKey {
    /// Over whatever holds the key.
    pub fn new(signer: Arc<dyn Signer>) -> Self {
        Self { signer, patience: PATIENCE }
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        self.signer.public()
    }

    /// A signature over `message` that verified, or an error after at most ten seconds.
    pub async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let signature = tokio::time::timeout(self.patience, self.signer.sign(message))
            .await
            .map_err(|_| SignError(format!("no signature within {:?}", self.patience)))??;
        // SECURITY: a device that signs something else, or with another key, is heard by nobody.
        self.public()
            .verify(message, &signature)
            .map_err(|_| SignError("what it signed does not verify under its own public key".into()))?;
        Ok(signature)
    }
}

/// Where one of the broker's own keys is found, whenever it is there.
#[async_trait]
pub trait KeySource: Send + Sync {
    /// Opens the key as it is now. While it is away this is asked again and again, so that no restart is needed.
    async fn open(&self) -> Result<OwnKey, SignError>;
}

#[async_trait]
impl KeySource for OwnKey {
    async fn open(&self) -> Result<OwnKey, SignError> {
        Ok(self.clone())
    }
}

impl From<SigningKey> for OwnKey {
    fn from(key: SigningKey) -> Self {
        Self::new(Arc::new(key))
    }
}

impl fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnKey({})", self.public().thumbprint())
    }
}

/// What the store keeps of the broker's own keys: public halves only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptKey {
    /// The key that vouches for those that sign tokens.
    Token(PublicKey),
    /// The key that signs checkpoints.
    Log(PublicKey),
    /// A key that signs tokens in its time, or did.
    Working(PublishedKey),
}

impl KeptKey {
    /// The key itself.
    pub fn key(&self) -> &PublicKey {
        match self {
            Self::Token(key) | Self::Log(key) => key,
            Self::Working(working) => &working.key,
        }
    }
}

/// Everything that is kept of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptKeys {
    /// The rows that read; nothing says that they are true.
    pub keys: Vec<KeptKey>,
    /// How many do not.
    pub unreadable: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signs with another key than it shows, as a device that was exchanged would.
    struct Liar(PublicKey, SigningKey);

    #[async_trait]
    impl Signer for Liar {
        fn public(&self) -> &PublicKey {
            &self.0
        }

        async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
            Signer::sign(&self.1, message).await
        }
    }

    /// Never answers.
    struct Silent(PublicKey);

    #[async_trait]
    impl Signer for Silent {
        fn public(&self) -> &PublicKey {
            &self.0
        }

        async fn sign(&self, _message: &[u8]) -> Result<Vec<u8>, SignError> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_device_that_signs_with_another_key_is_refused() {
        let (shown, used) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let public = shown.public().clone();
        let honest = OwnKey::from(shown).sign(b"m").await.unwrap();
        public.verify(b"m", &honest).unwrap();
        let lied = OwnKey::new(Arc::new(Liar(public, used))).sign(b"m").await.unwrap_err();
        assert!(lied.to_string().contains("does not verify"), "{lied}");
    }

    #[tokio::test]
    async fn a_device_that_never_answers_holds_nobody_up() {
        let public = SigningKey::generate().unwrap().public().clone();
        let mut key = OwnKey::new(Arc::new(Silent(public)));
        key.patience = Duration::from_millis(20);
        let late = key.sign(b"m").await.unwrap_err();
        assert!(late.to_string().contains("within 20ms"), "{late}");
    }
}
