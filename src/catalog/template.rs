//! Text with `{name}` in it. What fills a name can hold nothing that IAM or JSON would read as more than itself.

use std::collections::BTreeMap;

/// Characters that no parameter and no text of a template may hold.
// SECURITY: `*` and `?` are IAM's wildcards, `${…}` its variables, the rest is JSON's and our own syntax.
pub(super) const FORBIDDEN: &[char] = &['*', '?', '$', '{', '}', '"', '\\'];

/// Values by name.
pub(super) type Filling = BTreeMap<String, String>;

/// A parsed template.
#[derive(Debug, Clone)]
pub(super) struct Template(Vec<Piece>);

#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    Name(String),
}

impl Template {
    /// Parses `text`; the error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, tail)) = after.split_once('}') else {
                return Err(format!("`{}` has a `{{` without `}}`", text.escape_default()));
            };
            if !is_name(name) {
                return Err(format!("`{{{}}}` is no name: use a-z, 0-9 and _", name.escape_default()));
            }
            pieces.push(Piece::Text(plain(before)?));
            pieces.push(Piece::Name(name.to_owned()));
            rest = tail;
        }
        pieces.push(Piece::Text(plain(rest)?));
        Ok(Self(pieces))
    }

    /// The names it stands for.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Name(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The most characters it can become, where `longest` says how many each name can; `None` when one has no bound.
    pub(super) fn longest(&self, longest: impl Fn(&str) -> Option<usize>) -> Option<usize> {
        self.0.iter().try_fold(0_usize, |sum, piece| {
            let more = match piece {
                Piece::Text(text) => text.len(),
                Piece::Name(name) => longest(name)?,
            };
            sum.checked_add(more)
        })
    }

    /// Every text that it becomes when each name stands for each of its values.
    pub(super) fn each(&self, values: impl Fn(&str) -> Vec<String>) -> Vec<String> {
        self.0.iter().fold(vec![String::new()], |texts, piece| {
            let next = match piece {
                Piece::Text(text) => vec![text.clone()],
                Piece::Name(name) => values(name),
            };
            texts.iter().flat_map(|text| next.iter().map(move |more| format!("{text}{more}"))).collect()
        })
    }

    /// The text with every name replaced, or the name that has no value.
    pub(super) fn fill(&self, values: &Filling) -> Result<String, String> {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => Ok(text.as_str()),
            Piece::Name(name) => values.get(name).map(String::as_str).ok_or_else(|| name.clone()),
        });
        pieces.collect()
    }
}

/// Whether `text` can be the name of a parameter.
pub(super) fn is_name(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// The first character of `text` that neither a value nor a template may hold.
pub(super) fn forbidden_in(text: &str) -> Option<char> {
    text.chars().find(|c| !matches!(c, ' '..='~') || FORBIDDEN.contains(c))
}

fn plain(text: &str) -> Result<String, String> {
    match forbidden_in(text) {
        Some(c) => {
            Err(format!("`{}` may not stand here: write exact, printable ASCII text", c.escape_default()))
        }
        None => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filling() -> Filling {
        Filling::from([("account".into(), "111122223333".into()), ("instance".into(), "i-0abc".into())])
    }

    #[test]
    fn names_are_replaced_and_an_unknown_one_is_told() {
        let good = Template::parse("arn:aws:ec2:eu-west-1:{account}:instance/{instance}").unwrap();
        assert_eq!(good.names().collect::<Vec<_>>(), ["account", "instance"]);
        assert_eq!(good.fill(&filling()).unwrap(), "arn:aws:ec2:eu-west-1:111122223333:instance/i-0abc");
        assert_eq!(Template::parse("{volume}").unwrap().fill(&filling()), Err("volume".to_owned()));
    }

    #[test]
    fn syntax_of_iam_and_json_is_no_text() {
        for bad in
            ["a*", "a?", "${aws:username}", "{", "}", "{{not_after}}", "{A}", "{}", "a\"", "a\\", "é", "a\n"]
        {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }
}
