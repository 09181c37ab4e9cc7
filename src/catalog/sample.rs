//! Values that a catalog entry would take, for what is printed of it before any agent asks. Nothing is granted for them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::parameter::ParameterType;
use super::resolved::Entry;
use super::shape::{self, Either, Piece};

/// Most characters of a sample; a pattern that repeats more often is not sampled.
const LONGEST: usize = 512;

impl Entry {
    /// One value for each parameter that passes its own check; the error names a parameter that none was found for.
    pub fn sample_parameters(&self) -> Result<BTreeMap<String, Value>, String> {
        let sampled = self.parameters.iter().map(|(name, kind)| {
            let value = sample(kind).filter(|value| kind.value(name, value).is_ok());
            value.map(|value| (name.clone(), value)).ok_or_else(|| name.clone())
        });
        sampled.collect()
    }
}

fn sample(kind: &ParameterType) -> Option<Value> {
    match kind {
        ParameterType::Text { written, .. } => shortest(&shape::read(written)?).map(Value::from),
        ParameterType::Integer { min, .. } => Some(Value::from(*min)),
        ParameterType::Choice(words) => words.first().map(|word| Value::from(word.as_str())),
    }
}

/// A short text that the pattern takes: the first alternative, the first character of a class, the fewest repetitions.
fn shortest(either: &Either) -> Option<String> {
    let mut text = String::new();
    for (piece, times) in either.first()? {
        let atom = match piece {
            Piece::Literal(c) | Piece::Class(c) => c.to_string(),
            Piece::Group(either) => shortest(either)?,
        };
        if atom.len().checked_mul(times.least)?.checked_add(text.len())? > LONGEST {
            return None;
        }
        text.push_str(&atom.repeat(times.least));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_taken_by_its_own_pattern() {
        for (pattern, sample) in [
            ("i-[0-9a-f]{8,17}", "i-00000000"),
            ("[A-Za-z][A-Za-z0-9_-]{0,63}:[1-9][0-9]{0,5}", "A:1"),
            ("[a-z0-9]{4,7}|AppConfig\\.[A-Za-z0-9.]{9,40}", "aaaa"),
            ("(rds:)?[A-Za-z]+(?:/x)*", "A"),
            ("(a|b){2}\\d{3}", "aa000"),
            ("^[\\-a]x??$", "-"),
        ] {
            assert_eq!(shape::read(pattern).and_then(|shape| shortest(&shape)).as_deref(), Some(sample));
            let compiled = super::super::pattern::compile(pattern).unwrap();
            assert!(compiled.is_match(sample), "{pattern}: {sample}");
        }
    }

    #[test]
    fn what_is_too_long_or_not_closed_has_no_sample() {
        for pattern in ["a{513}", "(a", "a)", "[a", "a{2", "(?i)a"] {
            assert_eq!(shape::read(pattern).and_then(|shape| shortest(&shape)), None, "{pattern}");
        }
    }
}
