//! Text with `{name}` in it, where a name is that of an action's parameter. How a value is escaped is for the caller.

use std::collections::BTreeMap;

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
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
                return Err(format!(
                    "`{{{}}}` is no name of a parameter: use a-z, 0-9 and _",
                    name.escape_default()
                ));
            }
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(Piece::Name(name.to_owned()));
            rest = tail;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        match pieces.iter().any(|piece| matches!(piece, Piece::Text(text) if text.contains('}'))) {
            true => Err(format!("`{}` has a `}}` without `{{`", text.escape_default())),
            false => Ok(Self(pieces)),
        }
    }

    /// The name, when the whole text is one.
    pub(super) fn whole_name(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Piece::Text(before), Piece::Name(name), Piece::Text(after)]
                if before.is_empty() && after.is_empty() =>
            {
                Some(name)
            }
            _ => None,
        }
    }

    /// Every name in it.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Name(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The text with every name replaced, or the name that has no value.
    pub(super) fn fill(&self, values: &BTreeMap<String, String>) -> Result<String, String> {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => Ok(text.as_str()),
            Piece::Name(name) => values.get(name).map(String::as_str).ok_or_else(|| name.clone()),
        });
        pieces.collect()
    }
}

/// Whether `text` can be the name of a parameter, as the catalog has it.
fn is_name(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_and_one_without_a_value_is_told() {
        let template = Template::parse("service/{cluster}/{service}").unwrap();
        let values = [("cluster", "c"), ("service", "{cluster}")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        assert_eq!(template.fill(&values).unwrap(), "service/c/{cluster}", "values are not templates");
        assert_eq!(Template::parse("{zone}").unwrap().fill(&values), Err("zone".to_owned()));
        assert_eq!(Template::parse("{zone}").unwrap().whole_name(), Some("zone"));
        assert_eq!(Template::parse("{zone}x").unwrap().whole_name(), None);
    }

    #[test]
    fn unbalanced_braces_and_other_names_are_refused() {
        for bad in ["{", "}", "a}b", "{}", "{A}", "{a-b}", "{{a}}", "{a", "{a}}"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }
}
