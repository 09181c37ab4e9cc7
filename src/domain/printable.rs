//! Texts of others in documents, answers and logs: one line of printable ASCII, and not too long.

/// At most `most` characters of `text`; whatever is no printable ASCII becomes `?`.
pub fn printable(text: &str, most: usize) -> String {
    text.chars().take(most).map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_others_stays_one_line_and_short() {
        assert_eq!(printable("a\u{202e}b\nc\u{1b}[2J", 300), "a?b?c?[2J");
        assert_eq!(printable(&"x".repeat(1_000), 300).len(), 300);
    }
}
