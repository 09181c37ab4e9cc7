//! What the demo prints: chapters, facts, and refusals with whether they happened as they should.

use serde_json::{Value, json};

use crate::cli::terminal::{colours, say};
use crate::domain::proposal::visible;

/// Prints for people, or keeps every step for machines; remembers whether everything went as it should.
pub struct Screen {
    json: bool,
    steps: Vec<Value>,
    refusals: usize,
    wrong: Vec<String>,
}

impl Screen {
    /// For people, or for machines.
    pub fn new(json: bool) -> Self {
        Self { json, steps: Vec::new(), refusals: 0, wrong: Vec::new() }
    }

    /// A new chapter.
    pub fn chapter(&mut self, number: &str, name: &str, what: &str) {
        self.steps.push(json!({ "chapter": name, "what": what }));
        let (bold, plain) = if colours() { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
        self.print(&format!("\n{bold}{number}. {name}: {what}{plain}"));
    }

    /// Something that is so.
    pub fn fact(&mut self, name: &str, text: &str) {
        self.steps.push(json!({ "fact": name, "text": text }));
        self.print(&format!("    {name:<10} {text}"));
    }

    /// A longer text, moved in; for people only.
    pub fn show(&self, text: &str) {
        self.print(&text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n"));
    }

    /// Something that must be refused.
    pub fn refused(&mut self, what: &str, refused: bool, how: &str) {
        self.refusals += 1;
        let how: String = how.chars().take(96).collect();
        self.steps.push(json!({ "attempt": what, "refused": refused, "how": how }));
        if refused {
            self.print(&format!("    refused    {what}\n                 -> {how}"));
        } else {
            self.print(&format!("    WRONG      {what} should have been refused -> {how}"));
            self.wrong.push(what.to_owned());
        }
    }

    /// Something that must hold.
    pub fn must(&mut self, what: &str, holds: bool, why_not: &str) {
        self.steps.push(json!({ "check": what, "holds": holds }));
        if holds {
            self.print(&format!("    holds      {what}"));
        } else {
            self.print(&format!("    WRONG      {what} should be so -> {why_not}"));
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
            self.print(&visible(line.trim_end()));
        }
        self.print("    (all of it, with every digest: phasebroker audit run RUN)");
    }

    /// The last word: whether every refusal that should happen did.
    pub fn verdict(&self) -> bool {
        let ok = self.wrong.is_empty();
        if self.json {
            println!(
                "{}",
                json!({ "ok": ok, "refused": self.refusals, "wrong": self.wrong, "steps": self.steps })
            );
        } else if ok {
            out(&format!(
                "\nOne action was done, with one credential, signed by one person. {} attempts at anything else were refused.",
                self.refusals
            ));
        } else {
            out(&format!(
                "\nFAILED: of {} refusals and the proof, {} did not happen: {}",
                self.refusals,
                self.wrong.len(),
                self.wrong.join("; ")
            ));
        }
        ok
    }

    fn print(&self, text: &str) {
        if !self.json {
            out(text);
        }
    }
}

/// A reader that went away (`| head`) ends the showing, not the demo.
fn out(text: &str) {
    let _ = say(&format!("{text}\n"));
}
