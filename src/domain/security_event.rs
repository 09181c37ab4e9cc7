//! Security event tokens (RFC 8417) of the OpenID Continuous Access Evaluation Profile: what we say of our sessions, and
//! what transmitters tell of people and agents. Closed schemas; one event to a token.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::id::RunId;
use super::time::Timestamp;

/// `typ` of every security event token (RFC 8417 section 2.3).
pub const SET_TYP: &str = "secevent+jwt";
/// Media type of a token that is pushed (RFC 8935 section 2.1).
pub const SET_MEDIA_TYPE: &str = "application/secevent+jwt";

const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";

/// Events of the profile that we tell or understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalKind {
    /// A session began.
    SessionEstablished,
    /// A session is over.
    SessionRevoked,
    /// A credential was made, changed, revoked or deleted.
    CredentialChange,
    /// How surely somebody was authenticated has changed.
    AssuranceLevelChange,
    /// How risky somebody is has changed.
    RiskLevelChange,
}

impl SignalKind {
    /// Every kind.
    pub const ALL: [SignalKind; 5] = [
        Self::SessionEstablished,
        Self::SessionRevoked,
        Self::CredentialChange,
        Self::AssuranceLevelChange,
        Self::RiskLevelChange,
    ];

    /// The last segment of its URI.
    pub fn name(self) -> &'static str {
        match self {
            Self::SessionEstablished => "session-established",
            Self::SessionRevoked => "session-revoked",
            Self::CredentialChange => "credential-change",
            Self::AssuranceLevelChange => "assurance-level-change",
            Self::RiskLevelChange => "risk-level-change",
        }
    }

    /// Its URI: the one member of `events`.
    pub fn uri(self) -> String {
        format!("{CAEP}{}", self.name())
    }

    /// Reads [`SignalKind::uri`] back.
    pub fn from_uri(uri: &str) -> Option<Self> {
        let name = uri.strip_prefix(CAEP)?;
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Whom an event is about (RFC 9493).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "snake_case", deny_unknown_fields)]
pub enum SubjectId {
    /// An issuer and its subject.
    IssSub {
        /// `iss`, exactly.
        iss: String,
        /// `sub`, exactly.
        sub: String,
    },
    /// Text that only the two sides understand.
    Opaque {
        /// The text.
        id: String,
    },
    /// Several at once: the event is about what all of them name.
    Complex {
        /// Who.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<Box<SubjectId>>,
        /// Which session.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<Box<SubjectId>>,
    },
}

impl SubjectId {
    /// The issuer and subject it names, itself or as the user of a complex subject.
    pub fn iss_sub(&self) -> Option<(&str, &str)> {
        match self {
            Self::IssSub { iss, sub } => Some((iss, sub)),
            Self::Complex { user: Some(user), .. } => match &**user {
                Self::IssSub { iss, sub } => Some((iss, sub)),
                _ => None,
            },
            Self::Opaque { .. } | Self::Complex { .. } => None,
        }
    }
}

/// Claims of a token of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetClaims {
    /// The broker.
    pub iss: String,
    /// The one receiver.
    pub aud: String,
    /// The same for the same event of the log, however often it is delivered.
    pub jti: String,
    /// When this token was made.
    pub iat: Timestamp,
    /// The run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txn: Option<RunId>,
    /// Which session, and whose.
    pub sub_id: SubjectId,
    /// Exactly one.
    pub events: BTreeMap<String, Value>,
}

/// What we tell of a session of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionChange {
    /// Established or revoked.
    pub kind: SignalKind,
    /// When.
    pub at: Timestamp,
    /// Who caused it: `admin`, `user`, `policy` or `system`.
    pub initiating: &'static str,
    /// In words, for administrators.
    pub reason: Option<String>,
}

impl SessionChange {
    /// The member of `events`.
    pub fn event(&self) -> BTreeMap<String, Value> {
        let mut said = Map::new();
        said.insert("event_timestamp".into(), json!(self.at));
        said.insert("initiating_entity".into(), json!(self.initiating));
        if let Some(reason) = &self.reason {
            said.insert("reason_admin".into(), json!({ "en": reason }));
        }
        BTreeMap::from([(self.kind.uri(), Value::Object(said))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_known_by_its_whole_uri() {
        for kind in SignalKind::ALL {
            assert_eq!(SignalKind::from_uri(&kind.uri()), Some(kind));
            assert_eq!(SignalKind::from_uri(kind.name()), None);
            assert_eq!(SignalKind::from_uri(&format!("{}/", kind.uri())), None);
        }
    }

    #[test]
    fn a_subject_is_an_issuer_and_its_subject_or_nobody_we_know() {
        let read = |value: Value| serde_json::from_value::<SubjectId>(value);
        let plain = read(json!({"format": "iss_sub", "iss": "https://idp", "sub": "alice"})).unwrap();
        assert_eq!(plain.iss_sub(), Some(("https://idp", "alice")));
        let user = json!({"format": "iss_sub", "iss": "https://idp", "sub": "alice"});
        let complex =
            read(json!({"format": "complex", "user": user, "session": {"format": "opaque", "id": "1"}}));
        assert_eq!(complex.unwrap().iss_sub(), Some(("https://idp", "alice")));
        assert_eq!(read(json!({"format": "opaque", "id": "alice"})).unwrap().iss_sub(), None);
        assert!(read(json!({"format": "email", "email": "a@example.com"})).is_err());
        assert!(read(json!({"format": "iss_sub", "iss": "i", "sub": "s", "more": 1})).is_err());
        // A narrower subject than we understand is not taken for a wider one.
        assert!(
            read(json!({"format": "complex", "user": plain, "device": {"format": "opaque", "id": "1"}}))
                .is_err()
        );
    }
}
