//! Values that a catalog entry would take, for what is printed of it before any agent asks. Nothing is granted for them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::parameter::ParameterType;
use super::resolved::Entry;

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
        ParameterType::Text { written, .. } => Pattern::sample(written).map(Value::from),
        ParameterType::Integer { min, .. } => Some(Value::from(*min)),
        ParameterType::Choice(words) => words.first().map(|word| Value::from(word.as_str())),
    }
}

/// The part of the pattern that is still to be read. What a catalog's pattern may hold is in `pattern.rs`.
struct Pattern<'a>(std::iter::Peekable<std::str::Chars<'a>>);

impl Pattern<'_> {
    /// A short text that the pattern takes: the first alternative, the first character of a class, the fewest repetitions.
    fn sample(written: &str) -> Option<String> {
        let mut pattern = Pattern(written.chars().peekable());
        let text = pattern.alternatives()?;
        pattern.0.next().is_none().then_some(text)
    }

    fn alternatives(&mut self) -> Option<String> {
        let first = self.sequence()?;
        while self.0.next_if_eq(&'|').is_some() {
            self.sequence()?;
        }
        Some(first)
    }

    fn sequence(&mut self) -> Option<String> {
        let mut text = String::new();
        while let Some(c) = self.0.next_if(|c| !matches!(c, '|' | ')')) {
            let atom = match c {
                '(' => self.group()?,
                '[' => self.class()?.to_string(),
                '\\' => escaped(self.0.next()?).to_string(),
                '^' | '$' => String::new(),
                literal => literal.to_string(),
            };
            let times = self.fewest()?;
            if atom.len().checked_mul(times)?.checked_add(text.len())? > LONGEST {
                return None;
            }
            text.push_str(&atom.repeat(times));
        }
        Some(text)
    }

    fn group(&mut self) -> Option<String> {
        if self.0.next_if_eq(&'?').is_some() {
            self.0.next_if_eq(&':')?;
        }
        let text = self.alternatives()?;
        self.0.next_if_eq(&')').map(|_| text)
    }

    fn class(&mut self) -> Option<char> {
        let first = match self.0.next()? {
            '\\' => escaped(self.0.next()?),
            c => c,
        };
        loop {
            match self.0.next()? {
                ']' => return Some(first),
                '\\' => {
                    self.0.next()?;
                }
                _ => {}
            }
        }
    }

    /// How often the atom before is repeated at least.
    fn fewest(&mut self) -> Option<usize> {
        let times = match self.0.next_if(|c| matches!(c, '*' | '?' | '+' | '{')) {
            None => return Some(1),
            Some('+') => 1,
            Some('{') => {
                let mut bounds = String::new();
                while let Some(c) = self.0.next_if(|c| *c != '}') {
                    bounds.push(c);
                }
                self.0.next()?;
                bounds.split(',').next()?.trim().parse().ok()?
            }
            Some(_) => 0,
        };
        // A lazy repetition takes the same texts.
        self.0.next_if_eq(&'?');
        Some(times)
    }
}

fn escaped(c: char) -> char {
    if c == 'd' { '0' } else { c }
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
            assert_eq!(Pattern::sample(pattern).as_deref(), Some(sample));
            let compiled = super::super::pattern::compile(pattern).unwrap();
            assert!(compiled.is_match(sample), "{pattern}: {sample}");
        }
    }

    #[test]
    fn what_is_too_long_or_not_closed_has_no_sample() {
        for pattern in ["a{513}", "(a", "a)", "[a", "a{2", "(?i)a"] {
            assert_eq!(Pattern::sample(pattern), None, "{pattern}");
        }
    }
}
