//! What a parameter can be at most, as IAM writes it: `*` for any characters, `?` for one. Every value that the
//! parameter's own check takes matches one of these texts; the other way round does not hold.

use std::collections::BTreeMap;

use super::parameter::ParameterType;
use super::shape::{self, Either, Piece};

/// A repetition of one character is written as so many `?`; a longer one as `*`.
const MOST_SINGLES: usize = 12;
/// Words of a choice that are written out; of more words only `*` is left.
const MOST_WORDS: usize = 4;

/// The texts for each parameter, by name.
pub(super) fn globs(parameters: &BTreeMap<String, ParameterType>) -> BTreeMap<String, Vec<String>> {
    parameters.iter().map(|(name, kind)| (name.clone(), globs_of(kind))).collect()
}

fn globs_of(kind: &ParameterType) -> Vec<String> {
    match kind {
        ParameterType::Choice(words) if words.len() <= MOST_WORDS => words.clone(),
        ParameterType::Integer { min, max } if min == max => vec![min.to_string()],
        ParameterType::Choice(_) | ParameterType::Integer { .. } => vec!["*".to_owned()],
        ParameterType::Text { written, .. } => {
            vec![shape::read(written).map_or_else(|| "*".to_owned(), |shape| glob(&shape))]
        }
    }
}

fn glob(either: &Either) -> String {
    let [sequence] = &either[..] else { return "*".to_owned() };
    let mut text = String::new();
    for (piece, times) in sequence {
        let once = match piece {
            Piece::Literal(c) => c.to_string(),
            Piece::Class(_) => "?".to_owned(),
            Piece::Group(either) => glob(either),
        };
        if times.exact && once.len().saturating_mul(times.least) <= once.len().max(MOST_SINGLES) {
            text.push_str(&once.repeat(times.least));
        } else if !text.ends_with('*') {
            text.push('*');
        }
    }
    while text.contains("**") {
        text = text.replace("**", "*");
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::string::string_regex;

    use super::*;

    const PATTERNS: &[(&str, &str)] = &[
        ("i-[0-9a-f]{8,17}", "i-*"),
        ("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{12}", "????????-????-????????????"),
        ("[A-Za-z][A-Za-z0-9_-]{0,63}:[1-9][0-9]{0,5}", "?*:?*"),
        ("[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*-[A-Za-z0-9]{6}", "*-??????"),
        ("[a-z0-9]{4,7}|AppConfig\\.[A-Za-z0-9.]{9,40}", "*"),
        ("(rds:)?[A-Za-z][A-Za-z0-9-]*", "*?*"),
        ("(?:ab)[c]{0}d?\\.x", "ab*.x"),
        ("a(b|c)d{3}", "a*ddd"),
        ("(ab){13}x[0-9]{13}y", "*x*y"),
        ("prod-\\d", "prod-?"),
    ];

    #[test]
    fn literal_parts_are_kept_and_nothing_else_is_promised() {
        for (pattern, expected) in PATTERNS {
            assert_eq!(glob(&shape::read(pattern).unwrap()), *expected, "{pattern}");
        }
    }

    /// A judge of its own: `*` any characters, `?` one.
    fn matches(glob: &[u8], text: &[u8]) -> bool {
        match (glob.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                matches(rest, text) || text.split_first().is_some_and(|(_, tail)| matches(glob, tail))
            }
            (Some((b'?', rest)), Some((_, tail))) => matches(rest, tail),
            (Some((a, rest)), Some((b, tail))) => a == b && matches(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn whatever_a_pattern_takes_matches_its_glob(
            (pattern, text) in prop::sample::select(PATTERNS)
                .prop_flat_map(|(pattern, _)| (Just(pattern), string_regex(pattern).unwrap()))
                // No value holds anything else, and `\d` is ASCII in a catalog.
                .prop_filter("printable ASCII", |(_, text)| text.is_ascii())
        ) {
            let glob = glob(&shape::read(pattern).unwrap());
            prop_assert!(matches(glob.as_bytes(), text.as_bytes()), "{pattern}: {text} against {glob}");
        }
    }

    #[test]
    fn words_and_numbers_are_written_out_while_they_are_few() {
        let words = |words: &[&str]| ParameterType::Choice(words.iter().map(|w| (*w).to_owned()).collect());
        assert_eq!(globs_of(&words(&["on", "off"])), ["on", "off"]);
        assert_eq!(globs_of(&words(&["a", "b", "c", "d", "e"])), ["*"]);
        assert_eq!(globs_of(&ParameterType::Integer { min: 3, max: 3 }), ["3"]);
        assert_eq!(globs_of(&ParameterType::Integer { min: 1, max: 3 }), ["*"]);
    }
}
