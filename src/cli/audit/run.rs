//! `phasebroker audit run RUN`: what happened, in the order of the ledger.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::exit::Exit;
use crate::cli::person::{PersonArgs, read};
use crate::cli::terminal::{Output, table};
use crate::domain::id::RunId;
use crate::domain::time::Timestamp;

/// Arguments of `audit run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run.
    pub run: RunId,
    /// Who asks, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// Events as the broker gives them: `GET /v1/runs/{run}/events`.
#[derive(Debug, Deserialize)]
struct Events {
    events: Vec<Entry>,
}

/// One entry of the ledger.
#[derive(Debug, Deserialize)]
struct Entry {
    index: u64,
    event: Event,
    #[serde(default)]
    texts: BTreeMap<String, Option<String>>,
}

/// The part of an event that a timeline shows.
#[derive(Debug, Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    at: Timestamp,
    actor: String,
    #[serde(default)]
    facts: BTreeMap<String, Value>,
}

const HEADER: [&str; 5] = ["#", "at", "what", "who", "facts"];

/// Runs `audit run`.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let client = args.person.connect().await?;
    // The broker answers in pages; an empty one is the end.
    let (mut all, mut from) = (Vec::new(), 0);
    loop {
        let page = client.get(&format!("/v1/runs/{}/events?from={from}", args.run)).await?;
        let Some(last) = read::<Events>(&page)?.events.last().map(|entry| entry.index) else { break };
        if last < from {
            return Err(Exit::Refused.because("the broker repeats a page of events"));
        }
        from = last.saturating_add(1);
        all.extend(page.get("events").and_then(Value::as_array).into_iter().flatten().cloned());
    }
    let raw = json!({ "events": all });
    let text = timeline(&raw)?;
    output.print(&raw, || text)?;
    Ok(Exit::Done.into())
}

/// The timeline of an answer of `GET /v1/runs/{run}/events`, for people.
pub fn timeline(raw: &Value) -> anyhow::Result<String> {
    let events: Events = read(raw)?;
    Ok(table(&HEADER, events.events.iter().map(cells)))
}

fn cells(entry: &Entry) -> Vec<String> {
    let facts = entry.event.facts.iter().map(|(name, value)| match value {
        Value::String(text) => format!("{name} {text}"),
        other => format!("{name} {other}"),
    });
    let texts = entry.texts.iter().map(|(name, value)| match value {
        Some(text) => format!("{name} (as written) {text:?}"),
        None => format!("{name} (erased)"),
    });
    vec![
        entry.index.to_string(),
        entry.event.at.to_string(),
        entry.event.kind.clone(),
        entry.event.actor.clone(),
        facts.chain(texts).collect::<Vec<_>>().join("\n"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_shows_every_event_and_no_hidden_character() {
        let raw = json!({"events": [
            {"index": 0, "event": {"version": 1, "type": "run.opened", "at": 0, "actor": "agent:bot",
                "facts": {"environment": "demo"}}, "texts": {"purpose": "fix\u{202e}it"}},
            {"index": 3, "event": {"version": 1, "type": "lease.ended", "at": 60, "actor": "broker", "facts": {}},
                "texts": {"note": null}}
        ]});
        let text = timeline(&raw).unwrap();
        for part in
            ["run.opened", "agent:bot", "environment demo", "\\u{202e}", "lease.ended", "note (erased)"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains('\u{202e}'));
    }
}
