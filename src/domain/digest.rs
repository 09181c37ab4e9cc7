//! SHA-256 digests and the base64url alphabet, in their one canonical spelling (RFC 4648 section 5, no padding).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// A SHA-256 digest; its text form is 43 characters of base64url.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// Text that is not canonical base64url of the expected length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not canonical base64url (RFC 4648 section 5, no padding, no stray bits)")]
pub struct BadBase64;

impl Digest {
    /// SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
        Self(out)
    }

    /// SHA-256 of `parts`, one after another.
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        parts.iter().for_each(|part| context.update(part));
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        Self(out)
    }

    /// SHA-256 over a fixed domain, a NUL and `bytes`: digests of different kinds never collide.
    pub fn tagged(domain: &str, bytes: &[u8]) -> Self {
        let mut all = Vec::with_capacity(domain.len() + 1 + bytes.len());
        all.extend_from_slice(domain.as_bytes());
        all.push(0);
        all.extend_from_slice(bytes);
        Self::of(&all)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From 32 stored bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The code a person compares by eye: the first 8 characters of the digest in two groups of Crockford base32.
    pub fn short_code(&self) -> String {
        const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let [a, b, c, d, e, ..] = self.0;
        let bits = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
        let mut code = String::with_capacity(9);
        for group in (0..8).rev() {
            let at = usize::try_from((bits >> (group * 5)) & 31).unwrap_or(0);
            code.push(ALPHABET.get(at).map_or('0', |c| char::from(*c)));
            if group == 4 {
                code.push('-');
            }
        }
        code
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = BadBase64;
    fn from_str(text: &str) -> Result<Self, BadBase64> {
        Ok(Self(decode(text)?.try_into().map_err(|_| BadBase64)?))
    }
}

impl TryFrom<String> for Digest {
    type Error = BadBase64;
    fn try_from(text: String) -> Result<Self, BadBase64> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

/// Base64url without padding.
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes canonical base64url; padding, other alphabets and non-zero trailing bits are refused.
pub fn decode(text: &str) -> Result<Vec<u8>, BadBase64> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| BadBase64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stray_bits_padding_and_the_other_alphabet_are_refused() {
        assert_eq!(decode("AA").unwrap(), vec![0]);
        assert!(decode("AB").is_err(), "trailing bits must be zero");
        assert!(decode("AA==").is_err());
        assert!(decode("+/8").is_err());
    }

    #[test]
    fn the_short_code_has_two_groups_of_four() {
        let code = Digest::of(b"x").short_code();
        assert_eq!(code.len(), 9);
        assert_eq!(code.chars().nth(4), Some('-'));
        assert_ne!(code, Digest::of(b"y").short_code());
    }

    #[test]
    fn domains_keep_digests_apart() {
        assert_ne!(Digest::tagged("a", b"x"), Digest::tagged("b", b"x"));
        assert_ne!(Digest::tagged("a", b"x"), Digest::of(b"x"));
    }
}
