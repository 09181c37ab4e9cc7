//! C2SP tlog-cosignature, `cosignature/v1`: a witness signs, with a time, that it saw this checkpoint and none that
//! contradicts it. The signed message does not name the witness, so one key must never serve two.

use super::note::{NoteError, SignatureLine};
use super::verifier_key::{BadVerifierKey, KeyAlgorithm, VerifierKey};
use crate::domain::key::{KeyError, PublicKey, SigningKey};
use crate::domain::time::Timestamp;

/// A key under the name it cosigns with.
#[derive(Debug)]
pub struct Cosigner<'k> {
    key: &'k SigningKey,
    verifier: VerifierKey,
}

impl<'k> Cosigner<'k> {
    /// Cosigns as `name`.
    pub fn new(name: &str, key: &'k SigningKey) -> Result<Self, BadVerifierKey> {
        let verifier = VerifierKey::new(name, KeyAlgorithm::CosignatureV1, key.public().clone())?;
        Ok(Self { key, verifier })
    }

    /// What others verify with.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// A line to put under the checkpoint with this text.
    pub fn cosign(&self, text: &str, at: Timestamp) -> Result<SignatureLine, NoteError> {
        let seconds = u64::try_from(at.seconds())
            .map_err(|_| NoteError::Malformed("a cosignature states no time before 1970"))?;
        let signature = self.key.sign(message(seconds, text).as_bytes())?;
        Ok(SignatureLine::by(&self.verifier, [&seconds.to_be_bytes(), &signature[..]].concat()))
    }
}

/// Verifies the timestamped signature over a checkpoint's text; gives its time.
pub(super) fn verify(key: &PublicKey, text: &str, signature: &[u8]) -> Result<Timestamp, KeyError> {
    let (time, signature) = signature.split_first_chunk::<8>().ok_or(KeyError::BadSignature)?;
    let seconds = u64::from_be_bytes(*time);
    let at = i64::try_from(seconds).map_err(|_| KeyError::BadSignature)?;
    key.verify(message(seconds, text).as_bytes(), signature)?;
    Ok(Timestamp::from_seconds(at))
}

fn message(seconds: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {seconds}\n{text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::note::{NoteSigner, SignedNote};

    const TEXT: &str = "log.example/1\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";
    const AT: Timestamp = Timestamp::from_seconds(1_679_315_147);

    #[test]
    fn the_signed_message_has_the_published_form() {
        assert_eq!(message(1_679_315_147, "a\n1\n"), "cosignature/v1\ntime 1679315147\na\n1\n");
    }

    #[test]
    fn a_cosignature_verifies_and_tells_its_time() {
        let key = SigningKey::generate().unwrap();
        let cosigner = Cosigner::new("w.example", &key).unwrap();
        let note = SignedNote::new(TEXT, vec![cosigner.cosign(TEXT, AT).unwrap()]).unwrap();
        let keys = [cosigner.verifier().clone()];
        let signed = SignedNote::parse(note.to_string().as_bytes()).unwrap();
        assert_eq!(signed.verify(&keys).unwrap()[0].at, Some(AT));
    }

    #[test]
    fn another_time_text_or_key_is_a_bad_signature() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let signature =
            |at: u64| [&at.to_be_bytes(), &key.sign(message(5, TEXT).as_bytes()).unwrap()[..]].concat();
        assert_eq!(verify(key.public(), TEXT, &signature(5)).unwrap(), Timestamp::from_seconds(5));
        assert!(verify(key.public(), TEXT, &signature(6)).is_err());
        assert!(verify(key.public(), "else\n", &signature(5)).is_err());
        assert!(verify(other.public(), TEXT, &signature(5)).is_err());
        assert!(verify(key.public(), TEXT, &signature(5)[..71]).is_err());
        assert!(verify(key.public(), TEXT, &[]).is_err());
    }

    #[test]
    fn times_outside_the_range_of_a_cosignature_are_refused() {
        let key = SigningKey::generate().unwrap();
        let far = (i64::MAX as u64) + 1;
        let signature = [&far.to_be_bytes(), &key.sign(message(far, TEXT).as_bytes()).unwrap()[..]].concat();
        assert!(verify(key.public(), TEXT, &signature).is_err());
        let cosigner = Cosigner::new("w", &key).unwrap();
        assert!(cosigner.cosign(TEXT, Timestamp::from_seconds(-1)).is_err());
        assert!(cosigner.cosign(TEXT, Timestamp::from_seconds(i64::MAX)).is_ok());
    }

    #[test]
    fn a_log_signature_is_no_cosignature_even_by_one_key() {
        let key = SigningKey::generate().unwrap();
        let signed = NoteSigner::new("same", &key).unwrap().sign(TEXT).unwrap();
        let cosigner = Cosigner::new("same", &key).unwrap();
        assert_eq!(signed.verify(&[cosigner.verifier().clone()]), Err(NoteError::NoKnownSignature));
    }
}
