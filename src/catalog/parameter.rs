//! A parameter's type, and the typed check of a value that an agent wrote.

use regex_lite::Regex;
use serde_json::Value;

use super::document::ParameterDocument;
use super::pattern;
use super::refused::CompileError;
use super::template::forbidden_in;
use crate::domain::action::ParameterValue;
use crate::domain::canonical::MAX_SAFE_INTEGER;

/// Longest text when the catalog names no other, in characters.
const DEFAULT_MAX_LENGTH: usize = 128;
/// Longest text that the catalog may name.
const LONGEST: usize = 512;

/// A checked type.
#[derive(Debug, Clone)]
pub(super) enum ParameterType {
    Text { pattern: Regex, written: String, max_length: usize },
    Integer { min: i64, max: i64 },
    Choice(Vec<String>),
}

impl ParameterType {
    /// Checks a type as written; the error names the key and what is wrong with it.
    pub(super) fn check(document: &ParameterDocument) -> Result<Self, (&'static str, String)> {
        match document {
            ParameterDocument::String { pattern: written, max_length } => {
                let max_length = max_length.unwrap_or(DEFAULT_MAX_LENGTH);
                if !(1..=LONGEST).contains(&max_length) {
                    return Err(("max_length", format!("{max_length} is not within 1 to {LONGEST}")));
                }
                let pattern = pattern::compile(written).map_err(|problem| ("pattern", problem))?;
                if pattern.is_match("") {
                    return Err((
                        "pattern",
                        "it takes the empty text: ask for one character at least".to_owned(),
                    ));
                }
                Ok(Self::Text { pattern, written: written.clone(), max_length })
            }
            ParameterDocument::Integer { min, max } if min > max => {
                Err(("min", format!("{min} is larger than `max`, {max}")))
            }
            ParameterDocument::Integer { min, max }
                if min.unsigned_abs() > MAX_SAFE_INTEGER || max.unsigned_abs() > MAX_SAFE_INTEGER =>
            {
                Err(("max", "a signed document holds integers within 2^53-1 only".to_owned()))
            }
            ParameterDocument::Integer { min, max } => Ok(Self::Integer { min: *min, max: *max }),
            ParameterDocument::Choice { values } => {
                if values.is_empty() {
                    return Err(("values", "it offers nothing: name the words to choose from".to_owned()));
                }
                for value in values {
                    if value.is_empty() || value.len() > DEFAULT_MAX_LENGTH || forbidden_in(value).is_some() {
                        let shown = value.escape_default();
                        return Err((
                            "values",
                            format!(
                                "`{shown}` is empty, too long or holds a character with a meaning for IAM or JSON"
                            ),
                        ));
                    }
                }
                Ok(Self::Choice(values.clone()))
            }
        }
    }

    /// Checks the value that was given for `name`.
    pub(super) fn value(&self, name: &str, given: &Value) -> Result<ParameterValue, CompileError> {
        let name = || name.to_owned();
        let wrong = |expected| CompileError::WrongType { name: name(), expected };
        match self {
            Self::Text { pattern, written, max_length } => {
                let text = harmless(given, *max_length, name)?.ok_or_else(|| wrong("a string"))?;
                if !pattern.is_match(text) {
                    return Err(CompileError::Pattern { name: name(), pattern: written.clone() });
                }
                Ok(ParameterValue::Text(text.to_owned()))
            }
            Self::Integer { min, max } => {
                let number = given.as_i64().ok_or_else(|| wrong("a whole number"))?;
                match (*min..=*max).contains(&number) {
                    true => Ok(ParameterValue::Integer(number)),
                    false => Err(CompileError::OutOfRange { name: name(), min: *min, max: *max }),
                }
            }
            Self::Choice(values) => {
                let text = harmless(given, DEFAULT_MAX_LENGTH, name)?.ok_or_else(|| wrong("a string"))?;
                match values.iter().any(|value| value == text) {
                    true => Ok(ParameterValue::Text(text.to_owned())),
                    false => Err(CompileError::NotAChoice { name: name(), values: values.join(", ") }),
                }
            }
        }
    }

    /// The most characters a value has.
    pub(super) fn longest(&self) -> usize {
        match self {
            Self::Text { max_length, .. } => *max_length,
            Self::Integer { min, max } => min.to_string().len().max(max.to_string().len()),
            Self::Choice(values) => values.iter().map(String::len).max().unwrap_or(0),
        }
    }

    /// Checks that every value of this type is one of `other` too; the error says why not.
    pub(super) fn within(&self, other: &Self) -> Result<(), String> {
        match (self, other) {
            (
                Self::Text { written, max_length, .. },
                Self::Text { written: pattern, max_length: longest, .. },
            ) => match written == pattern && max_length <= longest {
                true => Ok(()),
                false => Err(format!(
                    "texts only fit for certain with the same pattern, `{pattern}`, and a `max_length` of at most {longest}"
                )),
            },
            (Self::Integer { min, max }, Self::Integer { min: least, max: most }) => {
                match least <= min && max <= most {
                    true => Ok(()),
                    false => Err(format!("{min} to {max} is not within {least} to {most}")),
                }
            }
            (Self::Choice(values), Self::Text { .. } | Self::Choice(_)) => {
                let refused = values.iter().find(|v| other.value("", &Value::from(v.as_str())).is_err());
                refused.map_or(Ok(()), |value| Err(format!("`{value}` is no value of it")))
            }
            (Self::Text { .. }, _) => Err("it does not take any text of that pattern".to_owned()),
            (Self::Integer { .. }, _) => Err("it takes no whole number".to_owned()),
            (Self::Choice(_), Self::Integer { .. }) => Err("it takes whole numbers only".to_owned()),
        }
    }

    /// A value for the checks that are made before any value is known.
    pub(super) fn sample(&self) -> String {
        match self {
            Self::Text { .. } => "x".to_owned(),
            Self::Integer { min, .. } => min.to_string(),
            Self::Choice(values) => values.first().cloned().unwrap_or_default(),
        }
    }
}

/// The text, if it is one, refused when it is too long or holds a forbidden character, whatever its pattern says.
fn harmless(given: &Value, longest: usize, name: impl Fn() -> String) -> Result<Option<&str>, CompileError> {
    let Some(text) = given.as_str() else { return Ok(None) };
    if text.chars().count() > longest {
        return Err(CompileError::TooLong { name: name(), longest });
    }
    match forbidden_in(text) {
        Some(c) => Err(CompileError::Forbidden { name: name(), character: c.escape_unicode().to_string() }),
        None => Ok(Some(text)),
    }
}
