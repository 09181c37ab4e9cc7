//! The keys that sign the broker's tokens, one after another: each is published before it signs, signs in its own time,
//! and stays published until the last thing it signed has ended. Private halves live here, in memory, and nowhere else.

use std::sync::Arc;

use super::key::{PublicKey, SigningKey, Thumbprint};
use super::time::Timestamp;

/// Seconds for which others may keep the published keys (`Cache-Control` of the JWKS).
pub const JWKS_MAX_AGE_SECONDS: i64 = 300;
/// Seconds for which a key stays published after it signed for the last time: longer than any token lives (900 s).
pub const KEPT_SECONDS: i64 = 3_600;

/// A public key with the time in which it signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedKey {
    /// The key.
    pub key: PublicKey,
    /// It signs nothing before.
    pub begins: Timestamp,
    /// It signs nothing from here on.
    pub ends: Timestamp,
    /// What vouches for it (`key_certificate`); nothing vouches for a key that is the broker's own.
    pub certificate: Option<String>,
}

impl PublishedKey {
    /// Whether it signs at `at`.
    pub fn signs(&self, at: Timestamp) -> bool {
        at >= self.begins && !self.ends.has_passed(at)
    }

    /// Whether nothing it signed is good any more.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.ends.plus(KEPT_SECONDS).has_passed(now)
    }
}

/// The keys of former lives of the broker, each up to when it signed at the latest: the beginning of the next one, or `now`.
// SECURITY: a key dies with the process that held it; whoever read that memory signs nothing that says it is newer.
pub fn of_former_lives(mut keys: Vec<PublishedKey>, now: Timestamp) -> Vec<PublishedKey> {
    keys.sort_by_key(|key| std::cmp::Reverse(key.begins));
    let mut next = now;
    for key in &mut keys {
        // One second more: both may have signed in the one in which they changed places.
        key.ends = key.ends.min(next.plus(1));
        next = next.min(key.begins);
    }
    keys
}

#[derive(Debug, Clone)]
struct Entry {
    public: PublishedKey,
    /// Absent for a key of a former life.
    private: Option<Arc<SigningKey>>,
}

/// The ring, as it is at one moment.
#[derive(Debug, Clone, Default)]
pub struct KeyRing {
    entries: Vec<Entry>,
}

impl KeyRing {
    /// A ring of one key that always signs.
    pub fn of_one(key: SigningKey) -> Self {
        let public = PublishedKey {
            key: key.public().clone(),
            begins: Timestamp::from_seconds(i64::MIN),
            ends: Timestamp::from_seconds(i64::MAX),
            certificate: None,
        };
        // Nothing saturates into being over: the end is the last second there is.
        Self { entries: vec![Entry { public, private: Some(Arc::new(key)) }] }
    }

    /// The same, with a key of a former life, which verifies and signs nothing.
    pub fn with_former(mut self, public: PublishedKey) -> Self {
        self.forget(public.key.thumbprint());
        self.entries.push(Entry { public, private: None });
        self
    }

    /// The same, with a key that signs in its time, without those that are over.
    pub fn with(mut self, public: PublishedKey, private: Arc<SigningKey>, now: Timestamp) -> Self {
        self.forget(public.key.thumbprint());
        self.entries.retain(|entry| !entry.public.is_over(now));
        self.entries.push(Entry { public, private: Some(private) });
        self
    }

    /// The key that signs at `at`: of several, the one that began last.
    pub fn signing(&self, at: Timestamp) -> Option<&SigningKey> {
        let able = self.entries.iter().filter(|entry| entry.public.signs(at));
        let able = able.filter_map(|entry| Some((entry.public.begins, entry.private.as_deref()?)));
        able.max_by_key(|(begins, _)| *begins).map(|(_, key)| key)
    }

    /// When the last key that we can sign with ends.
    pub fn signs_until(&self) -> Option<Timestamp> {
        let ours = self.entries.iter().filter(|entry| entry.private.is_some());
        ours.map(|entry| entry.public.ends).max()
    }

    /// What others verify with at `now`.
    pub fn published(&self, now: Timestamp) -> impl Iterator<Item = &PublishedKey> {
        self.entries.iter().map(|entry| &entry.public).filter(move |public| !public.is_over(now))
    }

    /// The key that something of `at` names, if it could have signed it then and is not over.
    pub fn verifying(&self, kid: Thumbprint, at: Timestamp, now: Timestamp) -> Option<&PublicKey> {
        // SECURITY: a key that is stolen after its time signs nothing that says it is newer.
        let found = self.published(now).find(|public| public.key.thumbprint() == kid);
        found.filter(|public| public.signs(at)).map(|public| &public.key)
    }

    fn forget(&mut self, kid: Thumbprint) {
        self.entries.retain(|entry| entry.public.key.thumbprint() != kid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn key(begins: i64, ends: i64) -> (PublishedKey, Arc<SigningKey>) {
        let private = SigningKey::generate().unwrap();
        let public = PublishedKey {
            key: private.public().clone(),
            begins: at(begins),
            ends: at(ends),
            certificate: None,
        };
        (public, Arc::new(private))
    }

    #[test]
    fn each_key_signs_in_its_time_and_is_published_before_and_after() {
        let ((first, a), (second, b)) = (key(0, 100), key(100, 200));
        let ring = KeyRing::default().with(first.clone(), a, at(0)).with(second.clone(), b, at(50));
        assert_eq!(ring.published(at(50)).count(), 2, "the next is there before it signs");
        assert_eq!(ring.signing(at(99)).unwrap().public(), &first.key);
        assert_eq!(ring.signing(at(100)).unwrap().public(), &second.key);
        assert!(ring.signing(at(200)).is_none(), "nothing signs out of its time");
        let (kid, over) = (first.key.thumbprint(), 100 + KEPT_SECONDS);
        assert!(ring.verifying(kid, at(99), at(over - 1)).is_some());
        assert!(ring.verifying(kid, at(99), at(over)).is_none(), "nothing it signed lives so long");
        assert!(ring.verifying(kid, at(100), at(101)).is_none(), "it did not sign then");
    }

    #[test]
    fn a_key_of_a_former_life_verifies_and_never_signs() {
        let (former, _) = key(0, 100);
        let ring = KeyRing::default().with_former(former.clone());
        assert!(ring.signing(at(50)).is_none() && ring.signs_until().is_none());
        assert!(ring.verifying(former.key.thumbprint(), at(10), at(50)).is_some());
        assert!(ring.verifying(key(0, 100).0.key.thumbprint(), at(10), at(50)).is_none());
    }

    #[test]
    fn a_key_of_a_former_life_verifies_nothing_from_after_that_life() {
        let kept = [key(0, 1_000).0, key(100, 1_100).0, key(1_100, 2_100).0];
        let former = of_former_lives(kept.to_vec(), at(200));
        let ends = |key: &PublishedKey| {
            former.iter().find(|one| one.key == key.key).map(|one| one.ends.seconds()).unwrap()
        };
        // The third was published and never signed.
        assert_eq!([ends(&kept[0]), ends(&kept[1]), ends(&kept[2])], [101, 201, 201]);
        let ring = former.into_iter().fold(KeyRing::default(), KeyRing::with_former);
        let verifies =
            |key: &PublishedKey, iat| ring.verifying(key.key.thumbprint(), at(iat), at(300)).is_some();
        assert!(verifies(&kept[0], 100) && !verifies(&kept[0], 101));
        assert!(verifies(&kept[1], 200) && !verifies(&kept[1], 201));
        assert!(!verifies(&kept[2], 1_100), "it never signed");
    }

    #[test]
    fn a_single_key_never_ends() {
        let ring = KeyRing::of_one(SigningKey::generate().unwrap());
        assert!(ring.signing(at(0)).is_some() && ring.signing(at(i64::MAX - 1)).is_some());
        assert_eq!(ring.published(at(i64::MAX - 1)).count(), 1);
    }
}
