//! The spellings that every text of the log shares, each in its one canonical form: base64 of RFC 4648 section 4 with
//! padding, and decimal numbers without leading zeros.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::domain::digest::Digest;

/// Base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Decodes canonical base64; missing padding, the other alphabet and non-zero trailing bits are refused.
pub fn unbase64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// A hash on a line of its own.
pub fn digest(line: &str) -> Option<Digest> {
    Some(Digest::from_bytes(unbase64(line)?.try_into().ok()?))
}

/// A number as ASCII digits, without leading zeros unless it is `0`.
pub fn decimal(text: &str) -> Option<u64> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_spelling() {
        assert_eq!(decimal("0"), Some(0));
        assert_eq!(decimal("18446744073709551615"), Some(u64::MAX));
        for other in ["", "00", "01", "+1", "-1", " 1", "1 ", "1_0", "0x1", "１", "18446744073709551616"] {
            assert_eq!(decimal(other), None, "{other:?}");
        }
    }

    #[test]
    fn base64_has_one_spelling() {
        assert_eq!(unbase64("+/8="), Some(vec![0xfb, 0xff]));
        for other in ["+/8", "+/9=", "-_8=", "+/8==", "+/8=\n", " +/8=", "=", "+/8=+/8="] {
            assert_eq!(unbase64(other), None, "{other:?}");
        }
        let hash = Digest::of(b"x");
        assert_eq!(digest(&base64(hash.as_bytes())), Some(hash));
        assert_eq!(digest(&base64(&[1; 31])), None);
        assert_eq!(digest(&base64(&[1; 33])), None);
    }
}
