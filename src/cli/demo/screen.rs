//! What the demo prints: chapters, facts, and refusals with whether they happened as they should.

use serde_json::Value;

use crate::cli::terminal::{colours, paint};
use crate::domain::proposal::visible;

/// Prints, and remembers whether everything went as it should.
#[derive(Default)]
pub struct Screen {
    refusals: usize,
    wrong: Vec<String>,
}

impl Screen {
    /// A new chapter.
    pub fn chapter(&mut self, number: &str, name: &str, what: &str) {
        println!("\n{}", paint(&format!("{number}. {name}: {what}"), colours()));
    }

    /// Something that is so.
    pub fn fact(&mut self, name: &str, text: &str) {
        println!("    {name:<10} {text}");
    }

    /// Something that must be refused.
    pub fn refused(&mut self, what: &str, refused: bool, how: &str) {
        self.refusals += 1;
        let how: String = how.chars().take(96).collect();
        if refused {
            println!("    refused    {what}\n                 -> {how}");
        } else {
            println!("    WRONG      {what} should have been refused -> {how}");
            self.wrong.push(what.to_owned());
        }
    }

    /// The events of a run, a line each.
    pub fn timeline(&self, events: &Value) {
        let text = |event: &Value, at: &str| {
            event.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        for entry in events.get("events").and_then(Value::as_array).into_iter().flatten() {
            let index = entry.get("index").and_then(Value::as_u64).unwrap_or_default();
            let event = entry.get("event").unwrap_or(&Value::Null);
            let telling = ["to", "phase", "action", "code", "outcome", "reason"];
            let facts: Vec<String> = telling
                .iter()
                .map(|name| text(event, &format!("/facts/{name}")))
                .filter(|t| !t.is_empty())
                .collect();
            let line = format!(
                "{index:>5}  {:<19} {:<12} {}",
                text(event, "/type"),
                text(event, "/actor"),
                facts.join(" ")
            );
            println!("{}", visible(line.trim_end()));
        }
        println!("    (all of it, with every digest: phasebroker audit run RUN)");
    }

    /// The last word: whether every refusal that should happen did.
    pub fn verdict(&self) -> bool {
        match self.wrong.as_slice() {
            [] => println!(
                "\nOne action was done, with one credential, signed by one person. {} attempts at anything else were refused.",
                self.refusals
            ),
            wrong => println!(
                "\nFAILED: {} of {} refusals did not happen: {}",
                wrong.len(),
                self.refusals,
                wrong.join("; ")
            ),
        }
        self.wrong.is_empty()
    }
}

/// The text, moved in.
pub fn indent(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
