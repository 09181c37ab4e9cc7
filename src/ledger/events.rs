//! Reading an event back from its bytes: canonical (RFC 8785), closed at its top level, nothing guessed. A kind this
//! version does not know is kept as text, so that an older auditor can still read a newer log and say so.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use crate::domain::canonical::{self, CanonicalError};
use crate::domain::digest::Digest;
use crate::domain::event::{EventKind, salted_digest};
use crate::domain::id::{GrantId, LeaseId, RunId};
use crate::domain::principal::{Actor, AgentSlug, BadActor, PersonSlug};
use crate::domain::time::Timestamp;

/// The only version of event bytes there is.
pub const VERSION: u32 = 1;
/// Longest name of a kind, in bytes.
const MAX_KIND_BYTES: usize = 64;

/// One event, as its bytes say.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadEvent {
    /// What happened.
    pub kind: ReadKind,
    /// When.
    pub at: Timestamp,
    /// Who did it.
    pub actor: Actor,
    /// The run it is about.
    pub run: Option<RunId>,
    /// The grant it is about.
    pub grant: Option<GrantId>,
    /// The lease it is about.
    pub lease: Option<LeaseId>,
    /// Index of the run's event before this one; absent for the run's first.
    pub previous: Option<u64>,
    /// Identifiers, numbers and digests.
    pub facts: BTreeMap<String, Value>,
    /// Salted digests of the texts that stand beside it.
    pub texts: BTreeMap<String, Digest>,
}

/// What happened, as far as this version knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReadKind {
    /// A kind this version knows.
    Known(EventKind),
    /// A kind of a newer version, as written.
    Unknown(String),
}

/// Why bytes are not an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEvent {
    /// Not canonical, or not the closed schema.
    #[error(transparent)]
    Document(#[from] CanonicalError),
    /// Of another version.
    #[error("version {0} of event bytes is not known; this program reads version {VERSION}")]
    Version(u32),
    /// No name of a kind.
    #[error("`type` is not a name of at most {MAX_KIND_BYTES} characters of a-z, 0-9, `.` and `_`")]
    Kind,
    /// Nobody.
    #[error(transparent)]
    Actor(#[from] BadActor),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    #[serde(rename = "type")]
    kind: String,
    at: Timestamp,
    actor: String,
    #[serde(default, deserialize_with = "present")]
    run: Option<RunId>,
    #[serde(default, deserialize_with = "present")]
    grant: Option<GrantId>,
    #[serde(default, deserialize_with = "present")]
    lease: Option<LeaseId>,
    #[serde(default, deserialize_with = "present")]
    previous: Option<u64>,
    facts: BTreeMap<String, Value>,
    texts: BTreeMap<String, Digest>,
}

impl ReadEvent {
    /// Reads the bytes of one event.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadEvent> {
        let written: Written = canonical::from_bytes(bytes)?;
        if written.version != VERSION {
            return Err(BadEvent::Version(written.version));
        }
        Ok(Self {
            kind: ReadKind::parse(written.kind)?,
            at: written.at,
            actor: written.actor.parse()?,
            run: written.run,
            grant: written.grant,
            lease: written.lease,
            previous: written.previous,
            facts: written.facts,
            texts: written.texts,
        })
    }

    /// Whether it is of this kind.
    pub fn is(&self, kind: EventKind) -> bool {
        self.kind == ReadKind::Known(kind)
    }

    /// A fact that is a text.
    pub fn fact_text(&self, name: &str) -> Option<&str> {
        self.facts.get(name).and_then(Value::as_str)
    }

    /// A fact that is a number.
    pub fn fact_number(&self, name: &str) -> Option<i64> {
        self.facts.get(name).and_then(Value::as_i64)
    }

    /// A fact that is a digest.
    pub fn fact_digest(&self, name: &str) -> Option<Digest> {
        self.fact_text(name).and_then(|text| text.parse().ok())
    }

    /// A fact that is a list of texts; empty when it is absent or another thing.
    pub fn fact_list(&self, name: &str) -> Vec<&str> {
        let items = self.facts.get(name).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Whether `value` under `salt` is the text `name` that this event binds.
    pub fn binds(&self, name: &str, salt: &[u8; 16], value: &str) -> bool {
        self.texts.get(name).is_some_and(|digest| *digest == salted_digest(salt, value))
    }

    /// The agent that did it.
    pub fn agent(&self) -> Option<&AgentSlug> {
        match &self.actor {
            Actor::Agent(agent) => Some(agent),
            _ => None,
        }
    }

    /// The person who did it.
    pub fn person(&self) -> Option<&PersonSlug> {
        match &self.actor {
            Actor::Person(person) => Some(person),
            _ => None,
        }
    }
}

impl ReadKind {
    /// The spelling in the bytes.
    pub fn name(&self) -> &str {
        match self {
            Self::Known(kind) => kind.name(),
            Self::Unknown(name) => name,
        }
    }

    /// The kind, where this version knows it.
    pub fn known(&self) -> Option<EventKind> {
        match self {
            Self::Known(kind) => Some(*kind),
            Self::Unknown(_) => None,
        }
    }

    fn parse(name: String) -> Result<Self, BadEvent> {
        if let Some(kind) = EventKind::from_name(&name) {
            return Ok(Self::Known(kind));
        }
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'_';
        match (1..=MAX_KIND_BYTES).contains(&name.len()) && name.bytes().all(plain) {
            true => Ok(Self::Unknown(name)),
            false => Err(BadEvent::Kind),
        }
    }
}

impl fmt::Display for ReadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An optional member is absent or has a value; `null` is neither, and the writer never writes it.
fn present<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{Event, SaltedText};

    fn written(kind: EventKind) -> Event {
        Event::new(kind, Actor::Agent("bot-one".parse().unwrap()), Timestamp::from_seconds(7))
    }

    fn refused(text: &str) -> BadEvent {
        ReadEvent::parse(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn every_kind_that_is_written_is_read_back() {
        for kind in EventKind::ALL {
            let run = RunId::generate(Timestamp::from_seconds(7));
            let text = SaltedText::new("note", "as said".into());
            let event = written(*kind).run(run).fact("count", 3).fact("why", "because").text(text.clone());
            let read = ReadEvent::parse(&event.bytes(None).unwrap()).unwrap();
            assert!(read.is(*kind));
            assert_eq!((read.run, read.grant, read.lease), (Some(run), None, None));
            assert_eq!(read.agent().unwrap().as_str(), "bot-one");
            assert_eq!((read.fact_number("count"), read.fact_text("why")), (Some(3), Some("because")));
            assert!(read.binds("note", &text.salt, "as said"));
            assert!(!read.binds("note", &text.salt, "as I wish it were"));
            assert!(!read.binds("reason", &text.salt, "as said"));
        }
    }

    #[test]
    fn a_kind_of_a_newer_version_is_kept_as_text() {
        let newer =
            r#"{"actor":"broker","at":1,"facts":{},"previous":4,"texts":{},"type":"moon.risen","version":1}"#;
        let read = ReadEvent::parse(newer.as_bytes()).unwrap();
        assert_eq!(read.kind, ReadKind::Unknown("moon.risen".into()));
        assert_eq!((read.kind.known(), read.previous), (None, Some(4)));
        for name in ["", "Moon", "moon risen", &"m".repeat(65)] {
            assert_eq!(refused(&newer.replace("moon.risen", name)), BadEvent::Kind, "{name}");
        }
    }

    #[test]
    fn anything_but_the_closed_schema_is_refused() {
        let good = r#"{"actor":"broker","at":1,"facts":{},"texts":{},"type":"refused","version":1}"#;
        assert!(ReadEvent::parse(good.as_bytes()).is_ok());
        assert_eq!(refused(&good.replace(r#""version":1"#, r#""version":2"#)), BadEvent::Version(2));
        for (from, to) in [
            (r#""texts""#, r#""signed":true,"texts""#),
            (r#""texts":{},"#, ""),
            (r#""facts":{},"#, r#""facts":{},"lease":"none","#),
            (r#""facts":{},"#, r#""facts":{},"run":null,"#),
            (r#""at":1"#, r#""at":"1""#),
        ] {
            let bad = refused(&good.replacen(from, to, 1));
            assert!(matches!(bad, BadEvent::Document(CanonicalError::Schema(_))), "{from} -> {to}: {bad}");
        }
        assert_eq!(refused(&good.replace(':', ": ")), BadEvent::Document(CanonicalError::NotCanonical));
        for nobody in ["", "root", "agent:", "agent:X", "person:a/b", "broker:x"] {
            let bad = refused(&good.replace("broker", nobody));
            assert!(matches!(bad, BadEvent::Actor(_)), "{nobody}: {bad}");
        }
    }
}
