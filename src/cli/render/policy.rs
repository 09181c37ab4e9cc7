//! A session policy as text: laid out without changing a character outside white space, and what it says about itself.

use serde_json::Value;

use crate::domain::plan::NOT_AFTER_PLACEHOLDER;
use crate::domain::sent::{ends_itself, is_canary, is_plain, statements};

/// The text a provider will send, or another JSON text that is signed.
pub struct PolicyText<'a>(pub &'a str);

impl PolicyText<'_> {
    /// The text with line breaks, at most `width` columns where its values allow. Works on the text, not on a parse:
    /// a parse would hide a duplicate member.
    pub fn layout(&self, width: usize) -> Vec<String> {
        let mut lines = Vec::new();
        lay_out(self.0, "", 0, width, &mut lines);
        lines
    }

    /// Every resource the Allow statements name, but for a canary's; `everything except …` where they exclude.
    pub fn resources(&self) -> Vec<String> {
        let mut all = Vec::new();
        let allows = |s: &&Value| text(s, "Effect") != Some("Deny") && !is_canary(s);
        for statement in statements(self.0).iter().filter(allows) {
            all.extend(texts(statement.get("Resource")));
            all.extend(texts(statement.get("NotResource")).map(|r| format!("EVERYTHING EXCEPT {r}")));
        }
        all.sort();
        all.dedup();
        all
    }

    /// Where the deadline stands.
    pub fn deadline(&self, work_seconds: u32) -> String {
        match ends_itself(self.0) {
            true => format!(
                "the last statement denies everything from {NOT_AFTER_PLACEHOLDER} on: the claim plus {work_seconds} s"
            ),
            false => "NONE in the policy".to_owned(),
        }
    }

    /// What must be said before anything else.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !ends_itself(self.0) {
            warnings
                .push("NO DEADLINE: the policy does not end with our Deny from {{not_after}} on".to_owned());
        }
        if !is_plain(self.0) {
            warnings.push(
                "UNUSUAL POLICY TEXT: duplicate members or spelling; trust no list made from it".to_owned(),
            );
        }
        warnings
    }
}

fn text<'a>(statement: &'a Value, name: &str) -> Option<&'a str> {
    statement.get(name).and_then(Value::as_str)
}

fn texts(value: Option<&Value>) -> impl Iterator<Item = String> {
    let items = match value {
        Some(Value::Array(items)) => items.clone(),
        Some(item) => vec![item.clone()],
        None => Vec::new(),
    };
    items.into_iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
}

/// Levels of brackets that are laid out; what lies deeper stays on one line.
const MAX_LEVELS: usize = 16;

/// Writes `text` (one JSON value, perhaps with its member name and a comma in `after`) as lines.
fn lay_out(text: &str, after: &str, depth: usize, width: usize, lines: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    let broken =
        opening(text).filter(|_| depth < MAX_LEVELS && indent.len() + text.len() + after.len() > width);
    let Some((head, body, tail)) = broken else {
        lines.push(format!("{indent}{text}{after}"));
        return;
    };
    lines.push(format!("{indent}{head}"));
    let parts = elements(body);
    let mut open_line = false;
    for (at, part) in parts.iter().enumerate() {
        let comma = if at + 1 < parts.len() { "," } else { "" };
        let mut own = Vec::new();
        lay_out(part, comma, depth + 1, width, &mut own);
        match (lines.last_mut(), own.as_slice()) {
            // Short siblings share a line.
            (Some(line), [one]) if open_line && line.len() + part.len() + comma.len() <= width => {
                line.push_str(one.strip_prefix(&"  ".repeat(depth + 1)).unwrap_or(one));
            }
            _ => {
                open_line = own.len() == 1;
                lines.append(&mut own);
            }
        }
    }
    lines.push(format!("{indent}{tail}{after}"));
}

/// `"name":[`, what is inside, and `]`, when the text ends in the bracket that its first one opens.
fn opening(text: &str) -> Option<(&str, &str, &str)> {
    let at = outside_strings(text).find(|(_, c)| matches!(c, '{' | '['))?.0;
    let (head, rest) = text.split_at_checked(at + 1)?;
    let (body, tail) = rest.split_at_checked(rest.len().checked_sub(1)?)?;
    (matches!(tail, "}" | "]") && !body.is_empty()).then_some((head, body, tail))
}

/// Splits at the commas of the outermost level.
fn elements(body: &str) -> Vec<&str> {
    let (mut depth, mut from, mut parts) = (0usize, 0usize, Vec::new());
    for (at, c) in outside_strings(body) {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.extend(body.get(from..at));
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(body.get(from..));
    parts
}

/// The characters that are not inside a JSON string.
fn outside_strings(text: &str) -> impl Iterator<Item = (usize, char)> + '_ {
    let (mut inside, mut escaped) = (false, false);
    text.char_indices().filter(move |(_, c)| {
        let was_inside = inside;
        match (inside, escaped, c) {
            (true, true, _) => escaped = false,
            (true, false, '\\') => escaped = true,
            (_, _, '"') => inside = !inside,
            _ => {}
        }
        !was_inside && *c != '"'
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALLOW: &str = r#"{"Action":["ec2:RebootInstances"],"Effect":"Allow","Resource":["arn:aws:ec2:eu-west-1:111122223333:instance/i-0abc"]}"#;
    const DENY: &str = r#"{"Action":"*","Condition":{"DateGreaterThanEquals":{"aws:CurrentTime":"{{not_after}}"}},"Effect":"Deny","Resource":"*"}"#;

    fn policy(statements: &[&str]) -> String {
        format!(r#"{{"Statement":[{}],"Version":"2012-10-17"}}"#, statements.join(","))
    }

    #[test]
    fn every_resource_is_listed_and_the_deadline_is_found() {
        let text = policy(&[ALLOW, DENY]);
        let policy = PolicyText(&text);
        assert_eq!(policy.resources(), ["arn:aws:ec2:eu-west-1:111122223333:instance/i-0abc"]);
        assert!(policy.deadline(300).contains("claim plus 300 s"));
        assert!(policy.warnings().is_empty(), "{:?}", policy.warnings());
    }

    #[test]
    fn a_policy_without_its_deadline_says_so() {
        for text in [policy(&[ALLOW]), policy(&[DENY, ALLOW]), policy(&[ALLOW, DENY, DENY]), "rubbish".into()]
        {
            assert!(PolicyText(&text).warnings().iter().any(|w| w.starts_with("NO DEADLINE")), "{text}");
        }
    }

    #[test]
    fn a_duplicate_member_is_shown_and_warned_of() {
        let twice = ALLOW.replace(r#""Effect":"Allow","#, r#""Effect":"Allow","Resource":"*","#);
        let text = policy(&[&twice, DENY]);
        let policy = PolicyText(&text);
        assert!(policy.warnings().iter().any(|w| w.starts_with("UNUSUAL")));
        assert!(
            policy.layout(80).concat().contains(r#""Resource":"*","Resource":["#)
                || policy.layout(80).iter().any(|l| l.contains(r#""Resource":"*""#))
        );
    }

    #[test]
    fn what_is_excluded_is_not_shown_as_included() {
        let text = policy(&[r#"{"Action":"s3:*","Effect":"Allow","NotResource":"arn:aws:s3:::a"}"#, DENY]);
        assert_eq!(PolicyText(&text).resources(), ["EVERYTHING EXCEPT arn:aws:s3:::a"]);
    }

    proptest! {
        #[test]
        fn the_layout_loses_no_character(text in "[ -~]{0,300}", width in 1usize..120) {
            let lines = PolicyText(&text).layout(width);
            let plain = |t: &str| t.replace(' ', "");
            prop_assert_eq!(plain(&lines.concat()), plain(&text));
        }

        #[test]
        fn the_layout_of_a_policy_parses_to_the_same(width in 1usize..120) {
            let text = policy(&[ALLOW, DENY]);
            let again: Value = serde_json::from_str(&PolicyText(&text).layout(width).join("\n")).unwrap();
            prop_assert_eq!(again, serde_json::from_str::<Value>(&text).unwrap());
        }
    }
}
