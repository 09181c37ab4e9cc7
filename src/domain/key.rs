//! Public keys as the directory enrols them, and signing keys as their owners hold them.
//! The algorithm always comes from the enrolled key, never from what arrives.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};

use super::digest::{Digest, decode, encode};

/// A signature algorithm of RFC 7518 / RFC 8037.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// Ed25519.
    EdDSA,
    /// ECDSA on P-256 with SHA-256.
    ES256,
}

impl Algorithm {
    /// The `alg` value.
    pub fn name(self) -> &'static str {
        match self {
            Self::EdDSA => "EdDSA",
            Self::ES256 => "ES256",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How an enrolled key is kept. A rule may demand one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Custody {
    /// A file that opens by a passphrase typed on the terminal.
    File,
    /// An ssh-agent, which signs for any process of its user.
    SshAgent,
    /// A WebAuthn authenticator.
    Passkey,
    /// A PKCS#11 token.
    Pkcs11,
}

impl Custody {
    /// The spelling used in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::SshAgent => "ssh_agent",
            Self::Passkey => "passkey",
            Self::Pkcs11 => "pkcs11",
        }
    }
}

impl fmt::Display for Custody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A key that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not one of the two key types, or of another length, or with a private part.
    #[error("not a public Ed25519 (OKP) or P-256 (EC) key of RFC 7517 with just its public members")]
    Unsupported,
    /// The private key does not parse.
    #[error("not a PKCS#8 Ed25519 or P-256 private key")]
    BadPrivateKey,
    /// The signature does not verify under this key.
    #[error("the signature does not verify")]
    BadSignature,
}

/// A JSON Web Key with its required public members only (RFC 7517, RFC 8037).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jwk {
    /// `OKP` or `EC`.
    pub kty: String,
    /// `Ed25519` or `P-256`.
    pub crv: String,
    /// Base64url of the x coordinate, or of the Ed25519 key.
    pub x: String,
    /// Base64url of the y coordinate (EC only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub y: Option<String>,
}

/// The RFC 7638 thumbprint of a public key; also its `kid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Thumbprint(Digest);

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for Thumbprint {
    type Err = super::digest::BadBase64;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.parse()?))
    }
}

/// A public key that verifies.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Jwk", into = "Jwk")]
pub struct PublicKey {
    algorithm: Algorithm,
    /// 32 bytes (Ed25519) or 65 bytes (uncompressed point).
    bytes: Vec<u8>,
}

impl PublicKey {
    /// From the 32 bytes of an Ed25519 public key.
    pub fn ed25519(bytes: &[u8]) -> Result<Self, KeyError> {
        match bytes.len() {
            32 => Ok(Self { algorithm: Algorithm::EdDSA, bytes: bytes.to_vec() }),
            _ => Err(KeyError::Unsupported),
        }
    }

    /// From the 65 bytes of an uncompressed P-256 point.
    pub fn p256(bytes: &[u8]) -> Result<Self, KeyError> {
        aws_lc_rs::signature::ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes)
            .map_err(|_| KeyError::Unsupported)?;
        match (bytes.len(), bytes.first()) {
            (65, Some(4)) => Ok(Self { algorithm: Algorithm::ES256, bytes: bytes.to_vec() }),
            _ => Err(KeyError::Unsupported),
        }
    }

    /// The one algorithm this key is used with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The raw bytes: 32 of Ed25519, or the 65 of an uncompressed P-256 point.
    pub fn raw(&self) -> &[u8] {
        &self.bytes
    }

    /// RFC 7638: SHA-256 over the required members in lexicographic order.
    pub fn thumbprint(&self) -> Thumbprint {
        let jwk = self.jwk();
        let text = match &jwk.y {
            Some(y) => format!(r#"{{"crv":"{}","kty":"{}","x":"{}","y":"{y}"}}"#, jwk.crv, jwk.kty, jwk.x),
            None => format!(r#"{{"crv":"{}","kty":"{}","x":"{}"}}"#, jwk.crv, jwk.kty, jwk.x),
        };
        Thumbprint(Digest::of(text.as_bytes()))
    }

    /// As a JSON Web Key.
    pub fn jwk(&self) -> Jwk {
        let part = |from: usize, to: usize| encode(self.bytes.get(from..to).unwrap_or_default());
        match self.algorithm {
            Algorithm::EdDSA => Jwk { kty: "OKP".into(), crv: "Ed25519".into(), x: part(0, 32), y: None },
            Algorithm::ES256 => {
                Jwk { kty: "EC".into(), crv: "P-256".into(), x: part(1, 33), y: Some(part(33, 65)) }
            }
        }
    }

    /// Verifies a raw 64-byte signature over `message` with this key's own algorithm.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), KeyError> {
        let outcome = match self.algorithm {
            Algorithm::EdDSA => UnparsedPublicKey::new(&ED25519, &self.bytes).verify(message, signature),
            Algorithm::ES256 => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.bytes).verify(message, signature)
            }
        };
        outcome.map_err(|_| KeyError::BadSignature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.algorithm, self.thumbprint())
    }
}

impl TryFrom<Jwk> for PublicKey {
    type Error = KeyError;
    fn try_from(jwk: Jwk) -> Result<Self, KeyError> {
        let coordinate = |text: &str| match decode(text) {
            Ok(bytes) if bytes.len() == 32 => Ok(bytes),
            _ => Err(KeyError::Unsupported),
        };
        match (jwk.kty.as_str(), jwk.crv.as_str(), &jwk.y) {
            ("OKP", "Ed25519", None) => Self::ed25519(&coordinate(&jwk.x)?),
            ("EC", "P-256", Some(y)) => {
                let point = [&[4][..], &coordinate(&jwk.x)?, &coordinate(y)?].concat();
                Self::p256(&point)
            }
            _ => Err(KeyError::Unsupported),
        }
    }
}

impl From<PublicKey> for Jwk {
    fn from(key: PublicKey) -> Jwk {
        key.jwk()
    }
}

/// A private key in memory; wiped by aws-lc when dropped, never printed.
pub struct SigningKey {
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

impl SigningKey {
    /// A fresh Ed25519 key.
    pub fn generate() -> Result<Self, KeyError> {
        Self::from_ed25519(Ed25519KeyPair::generate().map_err(|_| KeyError::BadPrivateKey)?)
    }

    /// A fresh P-256 key.
    pub fn generate_p256() -> Result<Self, KeyError> {
        let pair =
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| KeyError::BadPrivateKey)?;
        Self::from_p256(pair)
    }

    /// From a PKCS#8 document (RFC 5958) of either kind.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        if let Ok(pair) =
            Ed25519KeyPair::from_pkcs8(der).or_else(|_| Ed25519KeyPair::from_pkcs8_maybe_unchecked(der))
        {
            return Self::from_ed25519(pair);
        }
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der);
        Self::from_p256(pair.map_err(|_| KeyError::BadPrivateKey)?)
    }

    /// From an Ed25519 seed and the public key that belongs to it.
    pub fn from_ed25519_seed(seed: &[u8], public: &[u8]) -> Result<Self, KeyError> {
        let pair =
            Ed25519KeyPair::from_seed_and_public_key(seed, public).map_err(|_| KeyError::BadPrivateKey)?;
        Self::from_ed25519(pair)
    }

    /// From a P-256 scalar and its uncompressed public point.
    pub fn from_p256_scalar(scalar: &[u8], public: &[u8]) -> Result<Self, KeyError> {
        let pair =
            EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, scalar, public);
        Self::from_p256(pair.map_err(|_| KeyError::BadPrivateKey)?)
    }

    /// The PKCS#8 document of an Ed25519 key, to be written where only its owner can read.
    pub fn to_pkcs8(&self) -> Result<zeroize::Zeroizing<Vec<u8>>, KeyError> {
        let document = match &self.pair {
            Pair::Ed25519(pair) => pair.to_pkcs8(),
            Pair::P256(pair) => pair.to_pkcs8v1(),
        };
        Ok(zeroize::Zeroizing::new(document.map_err(|_| KeyError::BadPrivateKey)?.as_ref().to_vec()))
    }

    /// Its public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// A raw 64-byte signature over `message`.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.pair {
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::P256(pair) => {
                let signature =
                    pair.sign(&SystemRandom::new(), message).map_err(|_| KeyError::BadPrivateKey)?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }

    fn from_ed25519(pair: Ed25519KeyPair) -> Result<Self, KeyError> {
        let public = PublicKey::ed25519(pair.public_key().as_ref())?;
        Ok(Self { pair: Pair::Ed25519(pair), public })
    }

    fn from_p256(pair: EcdsaKeyPair) -> Result<Self, KeyError> {
        let public = PublicKey::p256(pair.public_key().as_ref())?;
        Ok(Self { pair: Pair::P256(pair), public })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public.thumbprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_sign_verify_and_go_through_jwk_and_pkcs8() {
        for key in [SigningKey::generate().unwrap(), SigningKey::generate_p256().unwrap()] {
            let signature = key.sign(b"m").unwrap();
            key.public().verify(b"m", &signature).unwrap();
            assert!(key.public().verify(b"n", &signature).is_err());
            let again = PublicKey::try_from(key.public().jwk()).unwrap();
            assert_eq!(again.thumbprint(), key.public().thumbprint());
            let reread = SigningKey::from_pkcs8(&key.to_pkcs8().unwrap()).unwrap();
            assert_eq!(reread.public(), key.public());
        }
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_8037_appendix_a() {
        let jwk = Jwk {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".into(),
            y: None,
        };
        let key = PublicKey::try_from(jwk).unwrap();
        assert_eq!(key.thumbprint().to_string(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn other_curves_short_keys_and_points_off_the_curve_are_refused() {
        let key = |kty: &str, crv: &str, x: Vec<u8>, y: Option<Vec<u8>>| {
            PublicKey::try_from(Jwk {
                kty: kty.into(),
                crv: crv.into(),
                x: encode(&x),
                y: y.map(|y| encode(&y)),
            })
        };
        assert!(key("OKP", "X25519", vec![1; 32], None).is_err());
        assert!(key("OKP", "Ed25519", vec![1; 31], None).is_err());
        assert!(key("EC", "P-384", vec![1; 32], Some(vec![1; 32])).is_err());
        assert!(key("EC", "P-256", vec![1; 32], Some(vec![1; 32])).is_err());
    }
}
