//! The one reader and writer of signed JSON: RFC 8785 bytes, integers only, printable ASCII, bounded.
//! What is signed is bytes: a document is accepted only when its bytes equal the canonical form of their own parse,
//! which refuses duplicate members, other spellings, white space and reordering in one comparison.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Largest signed document, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 64 * 1024 - 1;
/// Deepest nesting of a signed document.
pub const MAX_DEPTH: usize = 12;
/// Largest integer both sides of every JSON library agree on (RFC 8785 section 3.2.2.3, I-JSON).
pub const MAX_SAFE_INTEGER: u64 = 9_007_199_254_740_991;

/// Why bytes are not a canonical document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// So many bytes, over so many.
    #[error("the document has {0} bytes; at most {1} are accepted")]
    TooLarge(usize, usize),
    /// Not JSON at all.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// Over [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A fraction, an exponent, or beyond ±(2^53 - 1).
    #[error("a number is not an integer within 2^53-1")]
    UnsafeNumber,
    /// A control, bidirectional, zero-width or other non-ASCII character.
    #[error("a text holds a character outside printable ASCII")]
    NotPrintable,
    /// The bytes differ from RFC 8785 of their own parse.
    #[error(
        "the bytes are not in canonical form (RFC 8785): duplicate members, order, white space or spelling"
    )]
    NotCanonical,
    /// The members do not fit the closed schema.
    #[error("the document does not fit its schema: {0}")]
    Schema(String),
}

/// Canonical bytes of `document`; fails when it holds what a signed document may not.
pub fn to_bytes<T: Serialize>(document: &T) -> Result<Vec<u8>, CanonicalError> {
    to_bytes_within(document, MAX_DOCUMENT_BYTES)
}

/// The same for what is no signed document itself but holds some: at most `most` bytes.
pub fn to_bytes_within<T: Serialize>(document: &T, most: usize) -> Result<Vec<u8>, CanonicalError> {
    let value = serde_json::to_value(document).map_err(|e| CanonicalError::NotJson(e.to_string()))?;
    check(&value, 0)?;
    let (_, bytes) = write(value)?;
    match bytes.len() > most {
        true => Err(CanonicalError::TooLarge(bytes.len(), most)),
        false => Ok(bytes),
    }
}

/// Parses canonical bytes into a closed schema.
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CanonicalError> {
    from_bytes_within(bytes, MAX_DOCUMENT_BYTES)
}

/// The same of what is no signed document itself but holds some: at most `most` bytes.
pub fn from_bytes_within<T: DeserializeOwned>(bytes: &[u8], most: usize) -> Result<T, CanonicalError> {
    serde_json::from_value(value_within(bytes, most)?).map_err(|e| CanonicalError::Schema(e.to_string()))
}

/// Parses canonical bytes without a schema.
pub fn value(bytes: &[u8]) -> Result<Value, CanonicalError> {
    value_within(bytes, MAX_DOCUMENT_BYTES)
}

fn value_within(bytes: &[u8], most: usize) -> Result<Value, CanonicalError> {
    if bytes.len() > most {
        return Err(CanonicalError::TooLarge(bytes.len(), most));
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|e| CanonicalError::NotJson(e.to_string()))?;
    check(&value, 0)?;
    match write(value)? {
        (value, canonical) if canonical == bytes => Ok(value),
        _ => Err(CanonicalError::NotCanonical),
    }
}

/// For ASCII member names and integers, serde_json's compact output of sorted members is RFC 8785.
fn write(mut value: Value) -> Result<(Value, Vec<u8>), CanonicalError> {
    value.sort_all_objects();
    let bytes = serde_json::to_vec(&value).map_err(|e| CanonicalError::NotJson(e.to_string()))?;
    Ok((value, bytes))
}

fn check(value: &Value, depth: usize) -> Result<(), CanonicalError> {
    if depth > MAX_DEPTH {
        return Err(CanonicalError::TooDeep);
    }
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(n), _) if n <= MAX_SAFE_INTEGER => Ok(()),
            (None, Some(n)) if n.unsigned_abs() <= MAX_SAFE_INTEGER => Ok(()),
            _ => Err(CanonicalError::UnsafeNumber),
        },
        Value::String(text) => printable(text),
        Value::Array(items) => items.iter().try_for_each(|item| check(item, depth + 1)),
        Value::Object(members) => members.iter().try_for_each(|(name, item)| {
            printable(name)?;
            check(item, depth + 1)
        }),
    }
}

fn printable(text: &str) -> Result<(), CanonicalError> {
    // SECURITY: bidirectional, zero-width and control characters have no place in what a person signs.
    match text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        true => Ok(()),
        false => Err(CanonicalError::NotPrintable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(text: &str) -> CanonicalError {
        value(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn canonical_bytes_pass_and_every_other_spelling_is_refused() {
        assert!(value(br#"{"a":1,"b":["x",null,true]}"#).is_ok());
        assert_eq!(refused(r#"{"a":1,"a":1}"#), CanonicalError::NotCanonical);
        assert_eq!(refused(r#"{"b":1,"a":1}"#), CanonicalError::NotCanonical);
        assert_eq!(refused(r#"{"a": 1}"#), CanonicalError::NotCanonical);
        assert_eq!(refused(r#"{"a":"\u0041"}"#), CanonicalError::NotCanonical);
        assert_eq!(refused(r#"{"a":-0}"#), CanonicalError::UnsafeNumber);
    }

    #[test]
    fn numbers_beyond_what_every_parser_agrees_on_are_refused() {
        assert!(value(b"9007199254740991").is_ok());
        assert_eq!(refused("9007199254740992"), CanonicalError::UnsafeNumber);
        assert_eq!(refused("1.0"), CanonicalError::UnsafeNumber);
        assert_eq!(refused("1e3"), CanonicalError::UnsafeNumber);
    }

    #[test]
    fn hidden_characters_are_refused() {
        for hidden in ["\u{202e}", "\u{200b}", "\u{7f}", "é"] {
            assert_eq!(refused(&format!(r#"{{"a":"{hidden}"}}"#)), CanonicalError::NotPrintable);
        }
        assert_eq!(refused(r#"{"a":"\u0007"}"#), CanonicalError::NotPrintable);
    }

    #[test]
    fn depth_and_size_are_bounded() {
        assert_eq!(refused(&format!("{}{}", "[".repeat(20), "]".repeat(20))), CanonicalError::TooDeep);
        assert!(matches!(refused(&"1".repeat(70_000)), CanonicalError::TooLarge(..)));
    }

    fn documents() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-9_007_199_254_740_991i64..=9_007_199_254_740_991).prop_map(Value::from),
            "[ -~]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map("[ -~]{0,8}", inner, 0..6)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn our_bytes_are_those_of_an_independent_rfc_8785_writer(document in documents()) {
            let ours = to_bytes(&document).unwrap();
            prop_assert_eq!(&ours, &serde_json_canonicalizer::to_vec(&document).unwrap());
            prop_assert_eq!(value(&ours).unwrap(), document);
        }
    }
}
