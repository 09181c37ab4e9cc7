//! Events as the broker gives them to people, and how a person reads one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::exit::Exit;
use crate::domain::canonical;
use crate::domain::time::Timestamp;
use crate::ledger::events::ReadEvent;

/// A page: `GET /v1/events`.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// In the order of the log.
    pub events: Vec<Entry>,
    /// Where to go on.
    pub next: u64,
    /// Number of events in the log.
    pub head: u64,
}

/// One entry of the ledger.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// Its place.
    pub index: u64,
    /// The event.
    pub event: Value,
    /// The texts beside it that were not erased.
    #[serde(default)]
    pub texts: BTreeMap<String, Option<String>>,
}

/// Facts that say something to a person, most telling first.
const TELLING: &[&str] = &[
    "action",
    "environment",
    "class",
    "tier",
    "rule",
    "authority",
    "from",
    "to",
    "phase",
    "reason",
    "outcome",
    "code",
    "why",
    "name",
    "key",
    "target",
    "requester",
    "claimed",
    "step",
    "trust",
    "seconds_to_sign",
    "custody",
    "not_after",
    "claim_until",
    "due_at",
    "effective_by",
    "denied_at",
    "attempts",
    "exceptions",
    "inverse_of",
    "playbook",
    "review",
    "index",
    "epoch",
];
/// Facts that are instants.
const INSTANTS: &[&str] = &["not_after", "claim_until", "due_at", "effective_by", "denied_at"];
/// Characters of a digest or key that tell two apart by eye.
const SHORT: usize = 10;

impl Entry {
    /// The event, read strictly.
    pub fn read(&self) -> anyhow::Result<ReadEvent> {
        let bytes = canonical::to_bytes(&self.event)
            .map_err(|e| Exit::Refused.because(format!("entry {}: {e}", self.index)))?;
        ReadEvent::parse(&bytes).map_err(|e| Exit::Refused.because(format!("entry {}: {e}", self.index)))
    }

    /// What a person should see of it: the telling facts, then the texts, as written or erased.
    pub fn tells(&self, event: &ReadEvent) -> String {
        let facts = TELLING
            .iter()
            .filter_map(|name| Some(format!("{name} {}", shown(name, event.facts.get(*name)?))));
        facts.chain(self.words(event)).collect::<Vec<_>>().join("\n")
    }

    /// Everything in it.
    pub fn tells_all(&self, event: &ReadEvent) -> String {
        let facts = event.facts.iter().map(|(name, value)| match value {
            Value::String(text) => format!("{name} {text}"),
            other => format!("{name} {other}"),
        });
        let bound = event.texts.iter().map(|(name, digest)| format!("{name} bound by {digest}"));
        facts.chain(bound).chain(self.words(event)).collect::<Vec<_>>().join("\n")
    }

    fn words<'a>(&'a self, event: &'a ReadEvent) -> impl Iterator<Item = String> + 'a {
        event.texts.keys().map(|name| match self.texts.get(name).cloned().flatten() {
            Some(text) => format!("{name} (as written) {text:?}"),
            None => format!("{name} (erased)"),
        })
    }
}

/// What an event is about: the narrowest id it names.
pub fn about(event: &ReadEvent) -> String {
    match (event.lease, event.grant, event.run) {
        (Some(lease), ..) => format!("lease {lease}"),
        (None, Some(grant), _) => format!("grant {grant}"),
        (None, None, Some(run)) => format!("run {run}"),
        (None, None, None) => String::new(),
    }
}

fn shown(name: &str, value: &Value) -> String {
    match value {
        Value::Number(number) if INSTANTS.contains(&name) => {
            number.as_i64().map_or_else(|| number.to_string(), |at| Timestamp::from_seconds(at).to_string())
        }
        Value::Array(items) => items.iter().map(|item| shown("", item)).collect::<Vec<_>>().join(", "),
        Value::String(text) if matches!(name, "key" | "playbook") && text.len() > 2 * SHORT => {
            text.chars().take(SHORT).chain("…".chars()).collect()
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
