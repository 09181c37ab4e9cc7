//! A key of the broker's own that may not be there yet: it is asked for again and again, but not at every breath, and once it
//! was opened it is the same for the whole life of the process.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::ports::{KeySource, OwnKey, SignError};

/// Seconds between two tries to open a key that is away.
const AGAIN_SECONDS: i64 = 5;
/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A key, or the place where it will be.
pub(super) struct LateKey {
    source: Arc<dyn KeySource>,
    key: OnceLock<OwnKey>,
    /// Seconds since boot before which it is not asked for again.
    again_at: AtomicI64,
}

impl LateKey {
    /// A key that is opened when somebody asks for it.
    pub(super) fn new(source: Arc<dyn KeySource>) -> Self {
        Self { source, key: OnceLock::new(), again_at: AtomicI64::new(i64::MIN) }
    }

    /// A key that is there.
    pub(super) fn there(key: OwnKey) -> Self {
        Self { key: OnceLock::from(key.clone()), ..Self::new(Arc::new(key)) }
    }

    /// The key, where it was opened.
    pub(super) fn opened(&self) -> Option<&OwnKey> {
        self.key.get()
    }

    /// The key, opened now where it was not. The clock tells seconds since boot.
    pub(super) async fn open(&self, since_boot: impl Fn() -> i64) -> Result<&OwnKey, SignError> {
        if let Some(key) = self.key.get() {
            return Ok(key);
        }
        if since_boot() < self.again_at.load(Ordering::Acquire) {
            return Err(SignError(
                "it was away a moment ago, and is asked for again in a few seconds".into(),
            ));
        }
        let late = || Err(SignError(format!("it cannot be opened within {} s", PATIENCE.as_secs())));
        match tokio::time::timeout(PATIENCE, self.source.open()).await.unwrap_or_else(|_| late()) {
            Ok(key) => Ok(self.key.get_or_init(|| key)),
            Err(error) => {
                tracing::error!(error = %error, "a key of the broker's own cannot be opened; it is asked for again");
                // By now: a try that took long would otherwise be followed by the next at once.
                self.again_at.store(since_boot().saturating_add(AGAIN_SECONDS), Ordering::Release);
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use async_trait::async_trait;

    use super::*;
    use crate::domain::key::SigningKey;

    /// Opens at the third try.
    struct Third(AtomicUsize);

    #[async_trait]
    impl KeySource for Third {
        async fn open(&self) -> Result<OwnKey, SignError> {
            match self.0.fetch_add(1, Ordering::SeqCst) {
                0 | 1 => Err(SignError("away".into())),
                _ => Ok(SigningKey::generate().unwrap().into()),
            }
        }
    }

    #[tokio::test]
    async fn a_key_that_is_away_is_asked_for_again_in_a_while_and_stays_the_one_that_it_was() {
        let source = Arc::new(Third(AtomicUsize::new(0)));
        let key = LateKey::new(source.clone());
        assert!(key.open(|| 100).await.is_err() && key.open(|| 104).await.is_err());
        assert_eq!(source.0.load(Ordering::SeqCst), 1, "not at every breath");
        assert!(key.open(|| 105).await.is_err() && key.opened().is_none());
        let first = key.open(|| 110).await.unwrap().public().clone();
        assert_eq!(key.open(|| 111).await.unwrap().public(), &first);
        assert_eq!(source.0.load(Ordering::SeqCst), 3, "nobody is asked for what is there");
    }

    /// Takes 20 s of its own clock to say that it is away.
    struct Slow {
        now: AtomicI64,
        tries: AtomicUsize,
    }

    #[async_trait]
    impl KeySource for Slow {
        async fn open(&self) -> Result<OwnKey, SignError> {
            self.tries.fetch_add(1, Ordering::SeqCst);
            self.now.fetch_add(20, Ordering::SeqCst);
            Err(SignError("hangs".into()))
        }
    }

    #[tokio::test]
    async fn a_key_that_hangs_is_left_alone_for_a_while_after_each_try() {
        let source = Arc::new(Slow { now: AtomicI64::new(100), tries: AtomicUsize::new(0) });
        let (key, clock) = (LateKey::new(source.clone()), || source.now.load(Ordering::SeqCst));
        for tries in 1..=2 {
            assert!(key.open(clock).await.is_err() && key.open(clock).await.is_err());
            source.now.fetch_add(AGAIN_SECONDS - 1, Ordering::SeqCst);
            assert!(key.open(clock).await.is_err());
            assert_eq!(source.tries.load(Ordering::SeqCst), tries, "not at once after a try that took long");
            source.now.fetch_add(1, Ordering::SeqCst);
        }
    }
}
