//! Percent-encoding: everything but RFC 3986's unreserved characters, so that no two texts look the same afterwards.

/// The text with every byte escaped that is not `A-Z a-z 0-9 - . _ ~`.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
