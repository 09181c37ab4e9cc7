//! What people see and type. Passphrases and answers come from `/dev/tty`, never from a pipe that an agent could hold.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Write};

use anyhow::Context as _;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;
use zeroize::Zeroizing;

use super::exit::Exit;
use crate::domain::proposal::visible;

/// How results are printed.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// JSON for machines instead of text for people.
    pub json: bool,
}

impl Output {
    /// Prints `value` when JSON was asked for, `text` otherwise.
    pub fn print(&self, value: &Value, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        let mut text = if self.json { ascii_json(&serde_json::to_string_pretty(value)?) } else { text() };
        if !text.ends_with('\n') {
            text.push('\n');
        }
        say(&text)
    }
}

/// The same JSON in ASCII. SECURITY: an agent's direction marks and C1 controls reach a terminal as escapes only.
pub(super) fn ascii_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() && c != '\u{7f}' {
            out.push(c);
        } else {
            let mut units = [0; 2];
            out.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    out
}

/// Says on standard error how far long work has come.
pub fn say_progress(text: &str) {
    eprintln!("{text} …");
}

/// Writes to standard output; a reader that went away is no error.
pub fn say(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

/// A table for people. Every cell is made of visible characters, whoever wrote it.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    for row in rows {
        table.add_row(row.iter().map(|cell| visible(cell)));
    }
    table.to_string()
}

/// Whether standard output takes colour: a terminal, and the user did not say otherwise (`NO_COLOR`).
pub fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Makes the lines of a warning box red; changes nothing but colour.
pub fn paint(text: &str, colours: bool) -> String {
    if !colours {
        return text.to_owned();
    }
    text.lines()
        .map(|line| match line.starts_with('#') {
            true => format!("\u{1b}[1;31m{line}\u{1b}[0m\n"),
            false => format!("{line}\n"),
        })
        .collect()
}

/// Asks for a passphrase on the terminal, without echo.
pub fn passphrase(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    rpassword::prompt_password(prompt)
        .map(Zeroizing::new)
        .map_err(|error| Exit::Usage.because(format!("a passphrase is typed on a terminal only: {error}")))
}

/// Shows `text` on the terminal and asks for the short code; true only when it was typed.
pub fn ask_for_code(text: &str, code: &str) -> anyhow::Result<bool> {
    ask_for_word(text, &format!("Type the short code {code} to sign, anything else to leave it: "), code)
}

/// Whether there is a terminal to ask on.
pub fn has_terminal() -> bool {
    OpenOptions::new().read(true).write(true).open("/dev/tty").is_ok()
}

/// Shows `text` and `question` on the terminal; true only when `word` was typed.
pub fn ask_for_word(text: &str, question: &str, word: &str) -> anyhow::Result<bool> {
    let open = || OpenOptions::new().read(true).write(true).open("/dev/tty");
    let mut tty = open().map_err(|error| {
        Exit::NotSigned
            .because(format!("nothing was done: the question is asked on a terminal only: {error}"))
    })?;
    let shown = paint(text, std::env::var_os("NO_COLOR").is_none());
    write!(tty, "{shown}\n{question}")?;
    tty.flush()?;
    let mut answer = String::new();
    BufReader::new(open()?).read_line(&mut answer)?;
    Ok(is_code(&answer, word))
}

/// Whether `answer` is the short code, in either case, with or without its hyphen.
fn is_code(answer: &str, code: &str) -> bool {
    let plain = |text: &str| text.trim().replace('-', "").to_ascii_uppercase();
    !plain(code).is_empty() && plain(answer) == plain(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_code_itself_is_an_answer() {
        assert!(is_code("abcd-1234\n", "ABCD-1234"));
        assert!(is_code("ABCD1234", "ABCD-1234"));
        for answer in ["", "\n", "y", "yes", "ABCD", "ABCD-1235"] {
            assert!(!is_code(answer, "ABCD-1234"), "{answer}");
        }
    }

    #[test]
    fn json_for_machines_moves_no_cursor_and_says_the_same() {
        let value = serde_json::json!({"diagnosis": "a\u{9b}2J\u{202e}\u{7f}\u{1f600}é"});
        let text = ascii_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(text.bytes().all(|b| b == b'\n' || (0x20..0x7f).contains(&b)), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }

    #[test]
    fn a_cell_cannot_move_the_cursor() {
        let table = table(&["a"], [vec!["\u{1b}[2Jx\u{202e}".to_owned()]]);
        assert!(!table.contains('\u{1b}') && !table.contains('\u{202e}'), "{table}");
    }

    #[test]
    fn paint_changes_nothing_but_colour() {
        assert_eq!(paint("# a\nb\n", false), "# a\nb\n");
        assert!(paint("# a\nb\n", true).contains("b\n"));
    }
}
