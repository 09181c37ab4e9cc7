//! What the ledger records: identifiers and digests, never secrets. Free text and personal fields stand beside an
//! event by salted digest, so that they can be erased without breaking a proof.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::canonical::{self, CanonicalError};
use super::digest::{Digest, encode};
use super::id::{GrantId, LeaseId, RunId};
use super::principal::Actor;
use super::time::Timestamp;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// Kinds of event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum EventKind {
            $($(#[$doc])* $name),+
        }

        impl EventKind {
            /// Every kind.
            pub const ALL: &'static [EventKind] = &[$(Self::$name),+];

            /// The spelling used everywhere.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text),+
                }
            }

            /// Reads [`EventKind::name`] back.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// The broker started; with the digests in force.
    BrokerStarted = "broker.started",
    /// A new epoch began; grants of older epochs are dead.
    StoreFenced = "store.fenced",
    /// The bytes of old entries went; their leaves, and every proof, stay.
    LogPruned = "log.pruned",
    /// Policy, catalog or directory changed; old and new digest.
    RulesChanged = "rules.changed",
    /// A key of the broker's own is another than before: the one that vouches for those that sign tokens, or the log's.
    KeyChanged = "key.changed",
    /// The broker's own key vouched for a working key, which signs tokens in its time; with the certificate.
    KeyCertified = "key.certified",
    /// A run was opened.
    RunOpened = "run.opened",
    /// A run was closed.
    RunClosed = "run.closed",
    /// A run moved to another phase.
    PhaseEntered = "phase.entered",
    /// A grant was sealed and waits for signatures.
    GrantSealed = "grant.sealed",
    /// A signature was received.
    ApprovalReceived = "approval.received",
    /// The full rule is satisfied.
    GrantApproved = "grant.approved",
    /// A person said no.
    GrantDenied = "grant.denied",
    /// A signature was taken back.
    ApprovalWithdrawn = "approval.withdrawn",
    /// The requester stopped asking.
    GrantCancelled = "grant.cancelled",
    /// Its time ran out.
    GrantLapsed = "grant.lapsed",
    /// The grant is consumed; the provider may be called.
    LeaseIntent = "lease.intent",
    /// The provider certainly minted nothing.
    LeaseRefused = "lease.refused",
    /// Nobody knows whether the provider minted.
    LeaseUnknown = "lease.unknown",
    /// The provider answered.
    LeaseMinted = "lease.minted",
    /// The credential may have left.
    LeaseReleased = "lease.released",
    /// The lease is over.
    LeaseEnded = "lease.ended",
    /// The provider took the early end.
    RevocationDone = "revocation.done",
    /// An attempt to end a credential early failed.
    RevocationFailed = "revocation.failed",
    /// The credential's own end came before the revocation succeeded.
    RevocationOutlived = "revocation.outlived",
    /// After the early end the provider refused the session; with the code, and when it first did.
    RevocationSeen = "revocation.seen",
    /// Whether the provider refuses the session after its early end could not be told.
    RevocationUnseen = "revocation.unseen",
    /// A lost reply was asked for again.
    LeaseRecalled = "lease.recalled",
    /// A known caller was refused.
    Refused = "refused",
    /// A person stopped something.
    Stopped = "stopped",
    /// A transmitter told that a person or an agent is not to be trusted any more.
    SignalReceived = "signal.received",
    /// A person froze something.
    Frozen = "frozen",
    /// People signed that something may go on again.
    Unfrozen = "unfrozen",
    /// An administration grant was sealed and waits for signatures.
    AdministrationSealed = "administration.sealed",
    /// People signed a playbook.
    PlaybookSigned = "playbook.signed",
    /// A playbook was taken out of use.
    PlaybookSuspended = "playbook.suspended",
    /// Something was done without a signature of its own, or under break-glass: people must look at it.
    ReviewOpened = "review.opened",
    /// A person found it right.
    ReviewAccepted = "review.accepted",
    /// A person found it wrong.
    ReviewRejected = "review.rejected",
    /// Nobody looked in time.
    ReviewOverdue = "review.overdue",
    /// A login in the name of a known agent or person failed, and whoever sent it proved nothing.
    LoginFailed = "login.failed",
    /// An agent told of one step of its run.
    StepRecorded = "step.recorded",
    /// A text beside an event was erased; its digest stays.
    TextRedacted = "text.redacted",
    /// An agent told what it read elsewhere.
    ObservationRecorded = "observation.recorded",
    /// A plan was rendered for a person to carry out.
    GrantSuggested = "grant.suggested",
    /// People are asked to sign under the break-glass rule.
    BreakGlassAsked = "break_glass.asked",
    /// A credential was issued under the break-glass rule.
    BreakGlassUsed = "break_glass.used",
    /// A person held the provider's records against a lease.
    Reconciled = "reconciled",
    /// A person found something in them that no lease explains, or that a lease contradicts.
    IncidentFound = "incident.found",
}

/// One event, before the sequencer gives it an index.
#[derive(Debug, Clone)]
pub struct Event {
    kind: EventKind,
    at: Timestamp,
    actor: Actor,
    run: Option<RunId>,
    grant: Option<GrantId>,
    lease: Option<LeaseId>,
    facts: BTreeMap<&'static str, Value>,
    texts: Vec<SaltedText>,
}

/// A text kept beside the ledger, bound to its event by a salted digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaltedText {
    /// What it is.
    pub name: &'static str,
    /// 128 random bits.
    pub salt: [u8; 16],
    /// The text itself; erasable.
    pub value: String,
}

impl SaltedText {
    /// Salts `value` afresh.
    pub fn new(name: &'static str, value: String) -> Self {
        Self { name, salt: rand::random(), value }
    }

    /// SHA-256(salt ‖ value).
    pub fn digest(&self) -> Digest {
        salted_digest(&self.salt, &self.value)
    }
}

/// SHA-256(salt ‖ value): what an event holds of a text that stands beside it.
pub fn salted_digest(salt: &[u8; 16], value: &str) -> Digest {
    Digest::of(&[&salt[..], value.as_bytes()].concat())
}

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    #[serde(rename = "type")]
    kind: &'a str,
    at: Timestamp,
    actor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<GrantId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<LeaseId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<u64>,
    facts: &'a BTreeMap<&'static str, Value>,
    texts: BTreeMap<&'a str, Digest>,
}

impl Event {
    /// An event of `kind` by `actor` at `at`.
    pub fn new(kind: EventKind, actor: Actor, at: Timestamp) -> Self {
        Self {
            kind,
            at,
            actor,
            run: None,
            grant: None,
            lease: None,
            facts: BTreeMap::new(),
            texts: Vec::new(),
        }
    }

    /// About this run.
    pub fn run(mut self, run: RunId) -> Self {
        self.run = Some(run);
        self
    }

    /// About this grant.
    pub fn grant(mut self, grant: GrantId) -> Self {
        self.grant = Some(grant);
        self
    }

    /// About this lease.
    pub fn lease(mut self, lease: LeaseId) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Adds an identifier, number or digest. Never agent text, a personal field or a secret.
    pub fn fact(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.facts.insert(name, value.into());
        self
    }

    /// Adds a free text or personal field, by salted digest.
    pub fn text(mut self, text: SaltedText) -> Self {
        self.texts.push(text);
        self
    }

    /// Its kind.
    pub fn kind(&self) -> EventKind {
        self.kind
    }

    /// When.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// The run it is about.
    pub fn run_id(&self) -> Option<RunId> {
        self.run
    }

    /// The grant it is about.
    pub fn grant_id(&self) -> Option<GrantId> {
        self.grant
    }

    /// The lease it is about.
    pub fn lease_id(&self) -> Option<LeaseId> {
        self.lease
    }

    /// Texts to keep beside it.
    pub fn texts(&self) -> &[SaltedText] {
        &self.texts
    }

    /// The immutable bytes (RFC 8785) that are stored and hashed into the tree. `previous` is the index of the run's
    /// event before this one: the events of a run are a chain, so that none can be left out in the middle.
    pub fn bytes(&self, previous: Option<u64>) -> Result<Vec<u8>, CanonicalError> {
        canonical::to_bytes(&Written {
            version: 1,
            kind: self.kind.name(),
            at: self.at,
            actor: self.actor.to_string(),
            run: self.run,
            grant: self.grant,
            lease: self.lease,
            previous,
            facts: &self.facts,
            texts: self.texts.iter().map(|text| (text.name, text.digest())).collect(),
        })
    }
}

/// Base64url of a salt, for the side table's readers.
pub fn salt_text(salt: &[u8; 16]) -> String {
    encode(salt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_binds_its_texts_without_holding_them() {
        let event = Event::new(EventKind::RunOpened, Actor::Broker, Timestamp::from_seconds(1))
            .text(SaltedText::new("purpose", "Ünïcode and \u{202e} stay outside".into()))
            .fact("count", 3);
        let text = String::from_utf8(event.bytes(None).unwrap()).unwrap();
        assert!(text.contains(&event.texts()[0].digest().to_string()));
        assert!(!text.contains("stay outside"));
        assert!(text.starts_with(r#"{"actor":"broker","at":1,"facts":{"count":3}"#), "{text}");
    }
}
