//! Keys that verify notes, in the text form of C2SP signed-note (`name+id+key`), and the rules for their names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::cosignature;
use super::spelling::{base64, unbase64};
use crate::domain::digest::Digest;
use crate::domain::key::{Algorithm, KeyError, PublicKey};
use crate::domain::time::Timestamp;

/// Longest name of a key, in bytes.
pub const NAME_BYTES: usize = 255;

/// What a key's signatures are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// The note's text (signature type 0x01).
    Ed25519,
    /// A time and the note's text (signature type 0x04), as witnesses sign.
    CosignatureV1,
}

impl KeyAlgorithm {
    /// The signature type byte of signed-note.
    pub fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::CosignatureV1 => 0x04,
        }
    }
}

/// Why a text is not a verifier key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadVerifierKey {
    /// Empty, too long, or with a character that a key name may not have.
    #[error(
        "a key name has 1 to {NAME_BYTES} bytes without spaces, control characters and `+`, like `example.com/log`"
    )]
    Name,
    /// Not three parts, or of another spelling.
    #[error("a verifier key looks like `name+1a2b3c4d+AbCd…`: name, eight hex digits, base64")]
    Form,
    /// A signature type we do not verify.
    #[error("signature type {0:#04x} is not supported: use 0x01 (Ed25519) or 0x04 (Ed25519 cosignature)")]
    Algorithm(u8),
    /// Not an Ed25519 key.
    #[error("not the 32 bytes of an Ed25519 public key")]
    Key,
    /// The id belongs to another name or key.
    #[error("the key id does not belong to this name and key: was the text edited?")]
    Id,
}

/// A named key that verifies one kind of note signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VerifierKey {
    name: String,
    id: u32,
    algorithm: KeyAlgorithm,
    key: PublicKey,
}

impl VerifierKey {
    /// Names an Ed25519 key.
    pub fn new(name: &str, algorithm: KeyAlgorithm, key: PublicKey) -> Result<Self, BadVerifierKey> {
        if !is_key_name(name) {
            return Err(BadVerifierKey::Name);
        }
        if key.algorithm() != Algorithm::EdDSA {
            return Err(BadVerifierKey::Key);
        }
        let id = key_id(name, algorithm, &key);
        Ok(Self { name: name.to_owned(), id, algorithm, key })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id that its signature lines carry.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What its signatures are over.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// The key itself.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Verifies a signature over a note's text; gives the time that a cosignature states.
    pub fn verify(&self, text: &str, signature: &[u8]) -> Result<Option<Timestamp>, KeyError> {
        match self.algorithm {
            KeyAlgorithm::Ed25519 => self.key.verify(text.as_bytes(), signature).map(|()| None),
            KeyAlgorithm::CosignatureV1 => cosignature::verify(&self.key, text, signature).map(Some),
        }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = base64(&[&[self.algorithm.byte()], self.key.raw()].concat());
        write!(f, "{}+{:08x}+{key}", self.name, self.id)
    }
}

impl FromStr for VerifierKey {
    type Err = BadVerifierKey;
    fn from_str(text: &str) -> Result<Self, BadVerifierKey> {
        // The key itself may hold `+`, the name and the id may not.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(BadVerifierKey::Form);
        };
        if id.len() != 8 || !id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(BadVerifierKey::Form);
        }
        let id = u32::from_str_radix(id, 16).map_err(|_| BadVerifierKey::Form)?;
        let key = unbase64(key).ok_or(BadVerifierKey::Form)?;
        let (algorithm, key) = match key.split_first() {
            Some((0x01, key)) => (KeyAlgorithm::Ed25519, key),
            Some((0x04, key)) => (KeyAlgorithm::CosignatureV1, key),
            Some((other, _)) => return Err(BadVerifierKey::Algorithm(*other)),
            None => return Err(BadVerifierKey::Form),
        };
        let key = PublicKey::ed25519(key).map_err(|_| BadVerifierKey::Key)?;
        let read = Self::new(name, algorithm, key)?;
        if read.id != id { Err(BadVerifierKey::Id) } else { Ok(read) }
    }
}

impl TryFrom<String> for VerifierKey {
    type Error = BadVerifierKey;
    fn try_from(text: String) -> Result<Self, BadVerifierKey> {
        text.parse()
    }
}

impl From<VerifierKey> for String {
    fn from(key: VerifierKey) -> String {
        key.to_string()
    }
}

/// Whether a text may name a key: not empty, and without spaces, `+` and control characters.
pub fn is_key_name(name: &str) -> bool {
    let fits = (1..=NAME_BYTES).contains(&name.len());
    fits && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

/// The first four bytes of SHA-256 over name, newline, signature type and key.
fn key_id(name: &str, algorithm: KeyAlgorithm, key: &PublicKey) -> u32 {
    let named = [name.as_bytes(), b"\n", &[algorithm.byte()], key.raw()].concat();
    let [a, b, c, d, ..] = *Digest::of(&named).as_bytes();
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key::SigningKey;

    fn key(algorithm: KeyAlgorithm) -> VerifierKey {
        VerifierKey::new("w.example/1", algorithm, SigningKey::generate().unwrap().public().clone()).unwrap()
    }

    #[test]
    fn a_verifier_key_is_read_back_as_it_was_written() {
        for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::CosignatureV1] {
            let key = key(algorithm);
            let again: VerifierKey = key.to_string().parse().unwrap();
            assert_eq!(again, key);
            assert_eq!(again.algorithm(), algorithm);
            assert_eq!(serde_json::from_value::<VerifierKey>(serde_json::json!(key)).unwrap(), key);
        }
    }

    #[test]
    fn the_published_key_of_the_go_checksum_database_is_read() {
        let text = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
        let key: VerifierKey = text.parse().unwrap();
        assert_eq!((key.name(), key.id()), ("sum.golang.org", 0x033d_e0ae));
        assert_eq!(key.to_string(), text);
    }

    #[test]
    fn one_key_has_another_id_for_each_name_and_kind() {
        let key = key(KeyAlgorithm::Ed25519);
        let other_kind = VerifierKey::new(key.name(), KeyAlgorithm::CosignatureV1, key.key.clone()).unwrap();
        let other_name = VerifierKey::new("w.example/2", KeyAlgorithm::Ed25519, key.key.clone()).unwrap();
        assert_ne!(key.id(), other_kind.id());
        assert_ne!(key.id(), other_name.id());
    }

    #[test]
    fn an_edited_or_foreign_verifier_key_is_refused() {
        let text = key(KeyAlgorithm::CosignatureV1).to_string();
        assert!(text.parse::<VerifierKey>().is_ok());
        let parts: Vec<&str> = text.splitn(3, '+').collect();
        let (name, id, key) = (parts[0], parts[1], parts[2]);
        for (wrong, why) in [
            (format!("v.example/1+{id}+{key}"), BadVerifierKey::Id),
            (
                format!("{name}+{}+{key}", id.to_uppercase().replace(|c: char| c.is_ascii_digit(), "A")),
                BadVerifierKey::Form,
            ),
            (format!("{name}+0{id}+{key}"), BadVerifierKey::Form),
            (format!("{name}+00000000+{key}"), BadVerifierKey::Id),
            (format!("{name}+{id}"), BadVerifierKey::Form),
            (format!("{name}+{id}+{}", &key[..key.len() - 1]), BadVerifierKey::Form),
            (format!("{name}+{id}+{key}\n"), BadVerifierKey::Form),
            (format!("{name}+{id}+"), BadVerifierKey::Form),
            (format!("{name}+{id}+{}", base64(&[&[4_u8][..], &[1; 31]].concat())), BadVerifierKey::Key),
            (
                format!("{name}+{id}+{}", base64(&[&[2_u8][..], &[1; 32]].concat())),
                BadVerifierKey::Algorithm(2),
            ),
            (format!("+{id}+{key}"), BadVerifierKey::Name),
            (format!("a b+{id}+{key}"), BadVerifierKey::Name),
        ] {
            assert_eq!(wrong.parse::<VerifierKey>(), Err(why), "{wrong}");
        }
    }

    #[test]
    fn a_key_name_has_no_spaces_plus_or_control_characters() {
        for good in ["a", "example.com/log/3", "127.0.0.1:8080", "ü", &"n".repeat(255)] {
            assert!(is_key_name(good), "{good}");
        }
        for bad in ["", "a b", "a+b", "a\u{a0}b", "a\u{2003}b", "a\nb", "a\u{7f}", "a\t", &"n".repeat(256)] {
            assert!(!is_key_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_p256_key_signs_no_notes() {
        let key = SigningKey::generate_p256().unwrap();
        let named = VerifierKey::new("a", KeyAlgorithm::Ed25519, key.public().clone());
        assert_eq!(named, Err(BadVerifierKey::Key));
    }
}
