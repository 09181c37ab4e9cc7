//! The broker's own keys in devices that sign: PKCS#11 modules and AWS KMS. What a device answers is verified by
//! `broker::ports::OwnKey`, not here. PINs stay in memory, wiped when dropped, and stand in no error.

pub mod kms;
pub mod pkcs11;

use crate::domain::key::{KeyError, PublicKey};

/// Why a device's key cannot be used. The text says what to do, and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CannotOpen(pub String);

/// `prime256v1` as a DER object identifier (SEC 2).
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// SubjectPublicKeyInfo up to the point of a P-256 key (RFC 5480).
const P256_INFO: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// SubjectPublicKeyInfo up to the 32 bytes of an Ed25519 key (RFC 8410).
const ED25519_INFO: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A public key from its SubjectPublicKeyInfo, in the one spelling that DER has for it.
fn from_info(der: &[u8]) -> Result<PublicKey, KeyError> {
    match (der.strip_prefix(&P256_INFO), der.strip_prefix(&ED25519_INFO)) {
        (Some(point), _) => PublicKey::p256(point),
        (_, Some(key)) => PublicKey::ed25519(key),
        _ => Err(KeyError::Unsupported),
    }
}

/// ECDSA-Sig-Value (RFC 3279) as the two 32-byte numbers of JWS (RFC 7518 section 3.4); `None` when it is not plain DER.
fn fixed(der: &[u8]) -> Option<Vec<u8>> {
    let body = sized(der, 0x30)?;
    let (r, rest) = integer(body)?;
    let (s, rest) = integer(rest)?;
    rest.is_empty().then(|| [r, s].concat())
}

/// The contents of a whole element with this tag and a short length.
fn sized(der: &[u8], tag: u8) -> Option<&[u8]> {
    let (head, body) = der.split_first_chunk::<2>()?;
    (*head == [tag, u8::try_from(body.len()).ok()?] && body.len() < 0x80).then_some(body)
}

/// A positive INTEGER of at most 32 bytes, and what follows it.
fn integer(der: &[u8]) -> Option<([u8; 32], &[u8])> {
    let ([tag, length], rest) = der.split_first_chunk::<2>()?;
    let (number, rest) = rest.split_at_checked(usize::from(*length))?;
    let plain = match number {
        // A zero in front only where the number would be negative without it.
        [0, next, ..] => *next >= 0x80,
        [first, ..] => *first < 0x80,
        [] => false,
    };
    if *tag != 0x02 || !plain {
        return None;
    }
    let digits = number.strip_prefix(&[0]).unwrap_or(number);
    let mut fixed = [0; 32];
    let start = fixed.len().checked_sub(digits.len())?;
    fixed.get_mut(start..)?.copy_from_slice(digits);
    Some((fixed, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key::SigningKey;

    fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
        let integer = |number: &[u8]| [&[0x02, number.len() as u8], number].concat();
        let body = [integer(r), integer(s)].concat();
        [vec![0x30, body.len() as u8], body].concat()
    }

    #[test]
    fn both_kinds_of_public_key_are_read_from_der() {
        let (p256, ed25519) = (SigningKey::generate_p256().unwrap(), SigningKey::generate().unwrap());
        let info = |head: &[u8], key: &SigningKey| [head, key.public().raw()].concat();
        assert_eq!(&from_info(&info(&P256_INFO, &p256)).unwrap(), p256.public());
        assert_eq!(&from_info(&info(&ED25519_INFO, &ed25519)).unwrap(), ed25519.public());
        assert!(from_info(&info(&P256_INFO, &ed25519)).is_err());
        assert!(from_info(&info(&ED25519_INFO, &p256)).is_err());
        assert!(from_info(&[info(&P256_INFO, &p256), vec![0]].concat()).is_err());
        assert!(from_info(&[]).is_err());
    }

    #[test]
    fn a_der_signature_becomes_two_fixed_numbers() {
        let high = [0xff; 32];
        let padded = [&[0][..], &high].concat();
        assert_eq!(fixed(&der(&padded, &[7])).unwrap(), [&high[..], &[0; 31], &[7]].concat());
        assert_eq!(fixed(&der(&[0x7f; 32], &[1, 2])).unwrap().len(), 64);
    }

    #[test]
    fn what_is_not_plain_der_is_refused() {
        let good = der(&[7], &[9]);
        assert!(fixed(&good).is_some());
        for (what, wrong) in [
            ("negative", der(&[0x80], &[9])),
            ("a needless zero", der(&[0, 7], &[9])),
            ("empty", der(&[], &[9])),
            ("too long", der(&[0x11; 33], &[9])),
            ("something behind", [good.clone(), vec![0]].concat()),
            ("cut off", good[..good.len() - 1].to_vec()),
            ("another tag", [&[0x31], &good[1..]].concat()),
            ("nothing", Vec::new()),
        ] {
            assert!(fixed(&wrong).is_none(), "{what}");
        }
    }
}
