//! Patterns of string parameters: regular expressions that name the characters they take.
//!
//! Whatever could match a character with a meaning for IAM or JSON (`.`, a negated class, a range across `*`) is
//! refused when the catalog is loaded; values are looked at again when they arrive.

use regex_lite::Regex;

use super::template::FORBIDDEN;

const ADVICE: &str = "name the characters it takes, such as `[A-Za-z0-9_-]`";

/// Compiles `pattern`, anchored at both ends.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    // SECURITY: alone first, so that `a)|(?:b` cannot close the group of the anchored form.
    Regex::new(pattern).map_err(|error| format!("is no regular expression: {error}"))?;
    closed(pattern)?;
    Regex::new(&format!("^(?:{pattern})$")).map_err(|error| format!("is no regular expression: {error}"))
}

/// Refuses what could match a forbidden character.
fn closed(pattern: &str) -> Result<(), String> {
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => escape(chars.next())?,
            '.' => return Err(format!("`.` matches any character: {ADVICE}")),
            '(' if chars.as_str().starts_with('?') && !chars.as_str().starts_with("?:") => {
                return Err("groups with flags or names are not taken: write `(…)` or `(?:…)`".to_owned());
            }
            '[' => class(&mut chars)?,
            '"' => return Err(format!("it takes `\"`: {ADVICE}")),
            c if !matches!(c, ' '..='~') => return Err(format!("it is not printable ASCII: {ADVICE}")),
            _ => {}
        }
    }
    Ok(())
}

/// Only escapes that stand for one harmless character, and `\d`, which is ASCII here.
fn escape(c: Option<char>) -> Result<(), String> {
    match c {
        Some('d' | '.' | '-' | '+' | '(' | ')' | '[' | ']' | '|' | '^' | '/' | '_') => Ok(()),
        Some(c) => Err(format!("`\\{}` is not taken in a pattern: {ADVICE}", c.escape_default())),
        None => Err("it ends in `\\`".to_owned()),
    }
}

/// Reads a class after its `[`: single characters and ranges, none of which holds a forbidden character.
fn class(chars: &mut std::str::Chars<'_>) -> Result<(), String> {
    let mut previous: Option<char> = None;
    while let Some(c) = chars.next() {
        match c {
            ']' => return Ok(()),
            '^' | '[' | '&' | '~' => return Err(format!("a class may not hold `{c}`: {ADVICE}")),
            '\\' => {
                escape(chars.next())?;
                previous = None;
            }
            '-' if previous.is_some() && !chars.as_str().starts_with(']') => {
                let (Some(from), Some(to)) = (previous, chars.next()) else { break };
                let alphanumeric =
                    |range: std::ops::RangeInclusive<char>| range.contains(&from) && range.contains(&to);
                if !(alphanumeric('a'..='z') || alphanumeric('A'..='Z') || alphanumeric('0'..='9')) {
                    return Err(format!("the range `{from}-{to}` is wider than letters or digits: {ADVICE}"));
                }
                previous = None;
            }
            c if FORBIDDEN.contains(&c) || !matches!(c, ' '..='~') => {
                return Err(format!("a class may not hold `{}`: {ADVICE}", c.escape_default()));
            }
            c => previous = Some(c),
        }
    }
    Err("a class has no end".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_values_only() {
        let pattern = compile("i-[0-9a-f]{8,17}").unwrap();
        assert!(pattern.is_match("i-0abc1234"));
        for bad in ["xi-0abc1234", "i-0abc1234x", "i-0abc1234\n", "i-0abc1234\ni-0abc1234", "i-0", ""] {
            assert!(!pattern.is_match(bad), "{bad:?}");
        }
        let either = compile("ab|cd").unwrap();
        assert!(either.is_match("ab") && either.is_match("cd") && !either.is_match("abx"));
    }

    #[test]
    fn patterns_that_could_take_syntax_are_refused() {
        for bad in [
            ".*",
            "a.",
            "[^a]+",
            "[!-~]",
            "[*]",
            "[a$]",
            "\\*",
            "\\?",
            "\\$",
            "\\{",
            "\\\\",
            "\"",
            "\\w",
            "\\W",
            "\\S",
            "\\D",
            "\\x2a",
            "[\\x2a]",
            "[[:punct:]]",
            "(?s).",
            "(?x)a",
            "a)|(?:b",
            "(",
            "[",
            "[A-z]",
            "é",
            "[a-é]",
        ] {
            assert!(compile(bad).is_err(), "{bad}");
        }
        for good in
            ["[A-Za-z0-9_-]{1,64}", "(?:a|b)+", "[a-z]+(/[a-z]+)*", "\\d{4}\\.x", "[A-Za-z0-9_.:/=+@-]+"]
        {
            assert!(compile(good).is_ok(), "{good}");
        }
    }
}
