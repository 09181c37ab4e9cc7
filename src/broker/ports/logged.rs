//! One event of the log, read back for those who get a copy of it, with the lease that it is about.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::domain::digest::Digest;
use crate::domain::event::EventKind;
use crate::domain::id::{GrantId, LeaseId, RunId};
use crate::domain::jws::JwsError;
use crate::domain::lease::Lease;
use crate::domain::principal::{Actor, AgentSlug};
use crate::domain::security_event::{SessionChange, SetClaims, SignalKind, SubjectId};
use crate::domain::time::Timestamp;
use crate::domain::token::TokenSigner;
use crate::ledger::events::{ReadEvent, ReadKind};
use crate::ledger::hash::leaf_hash;

/// An event of the log. A copy of it carries its place and its leaf; the copy is never the record.
#[derive(Debug, Clone)]
pub struct LoggedEvent {
    /// The log's base name.
    pub log: String,
    /// Epoch of the store: `<log>/<epoch>` is the origin of the checkpoint that covers it now.
    pub epoch: u64,
    /// Its place.
    pub index: u64,
    /// Its leaf (RFC 6962 section 2.1): SHA-256 over a zero byte and the event's bytes.
    pub leaf: Digest,
    /// What happened.
    pub kind: EventKind,
    /// When.
    pub at: Timestamp,
    /// Who did it.
    pub actor: Actor,
    /// In which run.
    pub run: Option<RunId>,
    /// About which grant.
    pub grant: Option<GrantId>,
    /// About which lease.
    pub lease: Option<LeaseId>,
    /// Identifiers, numbers and digests.
    pub facts: Map<String, Value>,
    /// Salted digests of texts beside it.
    pub texts: BTreeMap<String, Digest>,
    /// The record of the lease, where the event is about one; only what never changes in it is of the event's time.
    pub about: Option<Box<Lease>>,
}

/// A signed security event token, and its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedSet {
    /// `jti`.
    pub jti: String,
    /// The compact JWS. It is no credential.
    pub token: String,
}

/// The bytes are no event that this build knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {index} cannot be read back: {why}")]
pub struct UnreadableEvent {
    /// Its place.
    pub index: u64,
    /// Why.
    pub why: String,
}

impl LoggedEvent {
    /// Reads an event's bytes, of the log `log` in `epoch`.
    pub fn read(log: &str, epoch: u64, index: u64, bytes: &[u8]) -> Result<Self, UnreadableEvent> {
        let wrong = |why: String| UnreadableEvent { index, why };
        let read = ReadEvent::parse(bytes).map_err(|error| wrong(error.to_string()))?;
        let kind = match read.kind {
            ReadKind::Known(kind) => kind,
            ReadKind::Unknown(kind) => return Err(wrong(format!("`{kind}` is a kind of a newer build"))),
        };
        Ok(Self {
            log: log.to_owned(),
            epoch,
            index,
            leaf: leaf_hash(bytes),
            kind,
            at: read.at,
            actor: read.actor,
            run: read.run,
            grant: read.grant,
            lease: read.lease,
            facts: read.facts.into_iter().collect(),
            texts: read.texts,
            about: None,
        })
    }

    /// Its name among all logs: the same each time it is delivered, another for another event at the same place of a
    /// restored log.
    pub fn uid(&self) -> String {
        let leaf = self.leaf.to_string();
        format!("{}:{}:{}", self.log, self.index, leaf.get(..16).unwrap_or_default())
    }

    /// A text among its facts.
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.get(name).and_then(Value::as_str)
    }

    /// The agent it is about: that of the lease, or who acted.
    pub fn agent(&self) -> Option<&AgentSlug> {
        match (&self.about, &self.actor) {
            (Some(lease), _) => Some(&lease.agent),
            (None, Actor::Agent(agent)) => Some(agent),
            (None, _) => None,
        }
    }

    /// As a signed security event token for one receiver; nothing where no session began or ended.
    pub fn set(
        &self,
        signer: &TokenSigner,
        audience: &str,
        now: Timestamp,
    ) -> Option<Result<SignedSet, JwsError>> {
        let change = self.session_change()?;
        let lease = self.lease?;
        let user = self.agent().map(|agent| {
            Box::new(SubjectId::IssSub { iss: signer.issuer().to_owned(), sub: agent.to_string() })
        });
        let session = Some(Box::new(SubjectId::Opaque { id: lease.to_string() }));
        let jti = self.uid();
        let claims = SetClaims {
            iss: signer.issuer().to_owned(),
            aud: audience.to_owned(),
            jti: jti.clone(),
            iat: now,
            txn: self.run,
            sub_id: SubjectId::Complex { user, session },
            events: change.event(),
        };
        Some(signer.sign_event(&claims).map(|token| SignedSet { jti, token }))
    }

    /// What it says of a session: released is established; ended is over, and so is what nobody knows of.
    pub fn session_change(&self) -> Option<SessionChange> {
        let revoked = |initiating, reason: String| SessionChange {
            kind: SignalKind::SessionRevoked,
            at: self.at,
            initiating,
            reason: Some(reason),
        };
        match self.kind {
            EventKind::LeaseReleased => Some(SessionChange {
                kind: SignalKind::SessionEstablished,
                at: self.at,
                initiating: "user",
                reason: None,
            }),
            EventKind::LeaseEnded => {
                let reason = self.fact("reason").unwrap_or("unknown");
                let by = match reason {
                    "completed" | "cancelled" | "phase_left" | "renewed" => "user",
                    "stopped" => "admin",
                    "expired" | "cut_off" => "policy",
                    _ => "system",
                };
                Some(revoked(by, format!("the lease ended: {reason}")))
            }
            EventKind::LeaseUnknown => {
                Some(revoked("system", "nobody knows whether the credential exists; treat it as over".into()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{Event, SaltedText};
    use crate::domain::key::SigningKey;

    const NOW: Timestamp = Timestamp::from_seconds(1_000);

    fn read(event: &Event) -> LoggedEvent {
        LoggedEvent::read("broker.test", 1, 7, &event.bytes(None).unwrap()).unwrap()
    }

    #[test]
    fn every_kind_is_read_back_as_it_was_written() {
        for kind in EventKind::ALL {
            let text = SaltedText::new("why", "hostile".into());
            let event = Event::new(*kind, Actor::Person("alice".parse().unwrap()), NOW)
                .run(RunId::generate(NOW))
                .fact("count", 3)
                .text(text.clone());
            let back = read(&event);
            assert_eq!((back.kind, back.at, back.run), (*kind, NOW, event.run_id()));
            assert_eq!(back.actor.to_string(), "person:alice");
            assert_eq!(back.texts["why"], text.digest());
        }
    }

    #[test]
    fn what_is_no_event_is_an_error_and_never_nothing() {
        let good = String::from_utf8(Event::new(EventKind::Frozen, Actor::Broker, NOW).bytes(None).unwrap())
            .unwrap();
        assert!(LoggedEvent::read("b", 1, 0, good.as_bytes()).is_ok());
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("frozen", "thawed"),
            ("broker", "nobody"),
            ("\"at\"", "\"when\""),
            ("{", ""),
        ] {
            let bad = good.replacen(from, to, 1);
            assert!(LoggedEvent::read("b", 1, 0, bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_redelivered_event_has_the_same_id_and_another_event_at_its_place_another() {
        let signer = TokenSigner::new("https://broker.test".into(), SigningKey::generate().unwrap());
        let ended = |reason: &str| {
            Event::new(EventKind::LeaseEnded, Actor::Broker, NOW)
                .lease(LeaseId::generate(NOW))
                .fact("reason", reason)
        };
        let event = ended("stopped");
        let first = read(&event).set(&signer, "https://siem.test", NOW).unwrap().unwrap();
        let again = read(&event).set(&signer, "https://siem.test", NOW.plus(60)).unwrap().unwrap();
        assert_eq!(first.jti, again.jti);
        let other = read(&ended("stopped")).set(&signer, "https://siem.test", NOW).unwrap().unwrap();
        assert_ne!(first.jti, other.jti);
    }

    #[test]
    fn only_sessions_that_begin_or_end_are_told() {
        let told = EventKind::ALL
            .iter()
            .filter(|kind| read(&Event::new(**kind, Actor::Broker, NOW)).session_change().is_some());
        let names: Vec<&str> = told.map(|kind| kind.name()).collect();
        assert_eq!(names, ["lease.unknown", "lease.released", "lease.ended"]);
    }
}
