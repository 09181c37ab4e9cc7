//! Lines of a fixed width. Everything is wrapped by us and indented, so that no value can look like a line of ours.

const LABEL: usize = 16;

/// Text under construction.
pub struct Page {
    text: String,
    width: usize,
}

impl Page {
    /// An empty page.
    pub fn new(width: usize) -> Self {
        Self { text: String::new(), width }
    }

    /// One line, wrapped with its own indentation.
    pub fn line(&mut self, text: &str) {
        let indent = text.len() - text.trim_start_matches(' ').len();
        let prefix = " ".repeat(indent);
        self.wrapped(&prefix, &prefix, text.trim_start_matches(' '));
    }

    /// An empty line.
    pub fn blank(&mut self) {
        self.text.push('\n');
    }

    /// A heading of a group.
    pub fn heading(&mut self, text: &str) {
        self.wrapped("== ", "== ", text);
    }

    /// A label and its value.
    pub fn field(&mut self, label: &str, value: &str) {
        let first = format!("  {label:<width$}", width = LABEL - 2);
        let unbroken = !value.contains(' ') && value.len() > self.width.saturating_sub(LABEL);
        if unbroken && value.len() <= self.width.saturating_sub(4) {
            // A name such as an ARN is easier compared whole.
            self.text.push_str(&format!("{}\n    {value}\n", first.trim_end()));
            return;
        }
        self.wrapped(&first, &" ".repeat(LABEL), value);
    }

    /// A box that cannot be missed.
    pub fn warning(&mut self, lines: &[String]) {
        let edge = "#".repeat(self.width);
        self.text.push_str(&format!("{edge}\n"));
        for line in lines {
            let indent = line.len() - line.trim_start_matches(' ').len();
            let prefix = format!("##  {}", " ".repeat(indent));
            self.wrapped(&prefix, &format!("{prefix}  "), line.trim_start_matches(' '));
        }
        self.text.push_str(&format!("{edge}\n"));
    }

    /// Somebody else's text: each line marked, at most `limit` of them, and how many are left out.
    pub fn quoted(&mut self, label: &str, text: &str, limit: usize) {
        self.text.push_str(&format!("  {label}:\n"));
        let room = self.width.saturating_sub(6);
        let lines: Vec<String> = text.lines().flat_map(|line| wrap(line, room)).collect();
        for line in lines.iter().take(limit) {
            self.text.push_str(&format!("    | {line}\n"));
        }
        if lines.len() > limit {
            let more = lines.len() - limit;
            self.text
                .push_str(&format!("    ({more} more lines: `phasebroker approvals show` prints them)\n"));
        }
    }

    /// The finished text.
    pub fn into_text(self) -> String {
        self.text
    }

    fn wrapped(&mut self, first: &str, rest: &str, text: &str) {
        for (at, part) in
            wrap(text, self.width.saturating_sub(rest.len().max(first.len()))).iter().enumerate()
        {
            let prefix = if at == 0 { first } else { rest };
            self.text.push_str(&format!("{prefix}{part}\n"));
        }
    }
}

/// Cuts `text` into pieces of at most `width` characters, at a space where the second half of the piece has one.
/// SECURITY: every character is kept, spaces too: what is shown is what is signed.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(8);
    let mut parts = Vec::new();
    let mut rest: &[char] = &text.chars().collect::<Vec<_>>();
    while rest.len() > width {
        let cut = rest.iter().take(width).rposition(|c| *c == ' ').filter(|at| *at >= width / 2);
        let (head, tail) = rest.split_at(cut.map_or(width, |at| at + 1));
        parts.push(head.iter().collect());
        rest = tail;
    }
    parts.push(rest.iter().collect());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapping_keeps_every_character() {
        let text = format!("{} {}", "word ".repeat(40), "x".repeat(250));
        let parts = wrap(&text, 60);
        assert_eq!(parts.concat(), text);
        assert!(parts.iter().all(|part| part.len() <= 60));
    }

    #[test]
    fn a_value_full_of_spaces_cannot_make_a_line_that_looks_like_ours() {
        let mut page = Page::new(40);
        page.field("summary", &format!("{}SHORT CODE", " ".repeat(38)));
        let text = page.into_text();
        assert!(text.lines().skip(1).all(|line| line.starts_with(&" ".repeat(LABEL))), "{text}");
    }
}
