//! What a probe was answered, read strictly: JSON without duplicate members, one value at a JSON pointer (RFC 6901).
//! Whatever is missing, ambiguous or of another kind is an error, never a value.

use std::fmt;

use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Longest value that is taken, in bytes.
const MAX_VALUE_BYTES: usize = 512;

/// Whether `text` is a JSON pointer.
pub(super) fn is_pointer(text: &str) -> bool {
    let escapes = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    escapes && (text.is_empty() || text.starts_with('/'))
}

/// Parses JSON in which no member appears twice.
// SECURITY: readers disagree on which of two members of one name counts.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice::<Unique>(bytes).map(|unique| unique.0).map_err(|error| error.to_string())
}

/// The value at `pointer`: a string, a whole number, `true`, `false` or `null`.
pub(super) fn value_at(bytes: &[u8], pointer: &str) -> Result<String, String> {
    // The parser's own message could quote the answer.
    let document = parse(bytes).map_err(|_| "the answer is not JSON with unique members".to_owned())?;
    let found = document.pointer(pointer).ok_or_else(|| format!("the answer has nothing at `{pointer}`"))?;
    let value = match found {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Null => "null".to_owned(),
        Value::Number(number) if !number.is_f64() => number.to_string(),
        Value::Number(_) => return Err(format!("the number at `{pointer}` is not whole, or too large")),
        Value::Array(_) | Value::Object(_) => {
            return Err(format!("the answer has a list or an object at `{pointer}`, not one value"));
        }
    };
    if value.len() > MAX_VALUE_BYTES || value.chars().any(char::is_control) {
        return Err(format!(
            "the value at `{pointer}` is longer than {MAX_VALUE_BYTES} bytes, or holds control characters"
        ));
    }
    Ok(value)
}

struct Unique(Value);

impl<'de> serde::Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Strict).map(Unique)
    }
}

struct Strict;

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with unique members")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Unique(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some((name, Unique(item))) = members.next_entry::<String, _>()? {
            if all.insert(name, item).is_some() {
                return Err(A::Error::custom("a member appears twice"));
            }
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_found_and_written_as_text() {
        let answer =
            br#"{"services":[{"status":"ACTIVE","running":3,"at":1.5,"on":true,"x":null,"a/b":"s"}]}"#;
        for (pointer, value) in [
            ("/services/0/status", "ACTIVE"),
            ("/services/0/running", "3"),
            ("/services/0/on", "true"),
            ("/services/0/x", "null"),
            ("/services/0/a~1b", "s"),
        ] {
            assert_eq!(value_at(answer, pointer).as_deref(), Ok(value), "{pointer}");
        }
        assert_eq!(value_at(b"\"up\"", "").as_deref(), Ok("up"));
    }

    #[test]
    fn a_missing_value_a_list_a_fraction_and_ambiguous_json_are_errors() {
        let answer = br#"{"services":[{"at":1.5,"big":99999999999999999999}],"o":{}}"#;
        for pointer in [
            "/services/1/at",
            "/services/00/at",
            "/services",
            "/o",
            "/services/0/at",
            "/services/0/big",
            "/nothing",
        ] {
            assert!(value_at(answer, pointer).is_err(), "{pointer}");
        }
        for bad in [
            &b"{\"a\":1,\"a\":1}"[..],
            b"{\"o\":{\"b\":1,\"b\":2},\"a\":1}",
            b"{\"a\":1} {}",
            b"<html>",
            b"",
            b"\xff",
        ] {
            assert!(value_at(bad, "/a").is_err(), "{bad:?}");
        }
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(513));
        assert!(value_at(long.as_bytes(), "/a").is_err());
        assert!(value_at(b"{\"a\":\"line\\n\"}", "/a").is_err());
    }

    #[test]
    fn pointers_are_those_of_rfc_6901() {
        assert!(["", "/", "/a", "/a~0b/~1", "/0"].iter().all(|pointer| is_pointer(pointer)));
        assert!(!["a", "#/a", "/~", "/~2", "/a~"].iter().any(|pointer| is_pointer(pointer)));
    }
}
