//! Transmitters of security events (RFC 8417, RFC 8935): whose token this is, that it is for us, fresh, and about exactly
//! one event. A configured transmitter speaks of the subjects that it was configured for, and of nobody else.

mod once;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::assertion::{Assertion, Audience};
use super::jwks::{Issuer, IssuerSettings, JwksError};
use super::{Authn, AuthnError, CLOCK_SKEW_SECONDS};
use once::Once;

pub use once::Attempt;

use crate::domain::digest::Digest;
use crate::domain::security_event::{SET_TYP, SignalKind, SubjectId};
use crate::domain::time::Timestamp;

/// What a transmitter says of its stream, not of anybody (OpenID SSF 1.0 section 8.1).
const OF_THE_STREAM: &str = "https://schemas.openid.net/secevent/ssf/event-type/";

/// A configured transmitter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransmitterSettings {
    /// Who it is, its keys, and the longest age of a token of its.
    pub issuer: IssuerSettings,
    /// Its subjects may be people of the directory, by slug.
    pub people: bool,
    /// Issuers of whose subjects it may speak.
    pub subjects_of: BTreeSet<String>,
}

/// A security event that may be acted upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityEvent {
    /// Who says so.
    pub transmitter: String,
    /// Its subject may be a person.
    pub people: bool,
    /// What happened; `None` for what concerns the stream alone.
    pub kind: Option<SignalKind>,
    /// Issuer of the subject.
    pub issuer: String,
    /// The subject.
    pub subject: String,
    /// It tells of a rise in trust, or of nothing that lowers it.
    pub harmless: bool,
    /// Names this token among all of all transmitters.
    pub id: Digest,
    /// When its transmitter made it.
    pub issued_at: Timestamp,
    /// From when on it would be refused for its age alone.
    until: Timestamp,
}

/// Why a token is not acted upon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventRefused {
    /// Nobody configured this transmitter.
    #[error("`iss` is no configured transmitter of this broker")]
    UnknownTransmitter,
    /// Refused for good; `err` is of RFC 8935 section 2.4.
    #[error("{why}")]
    Refused {
        /// The registered code.
        err: &'static str,
        /// What is wrong.
        why: String,
        /// Who signed it, when a signature of theirs verified.
        transmitter: Option<String>,
    },
    /// It cannot be decided now.
    #[error("{why}")]
    Unavailable {
        /// What is wrong.
        why: String,
    },
}

impl EventRefused {
    fn new(err: &'static str, why: impl Into<String>) -> Self {
        Self::Refused { err, why: why.into(), transmitter: None }
    }

    fn by(self, signer: &str) -> Self {
        match self {
            Self::Refused { err, why, .. } => {
                Self::Refused { err, why, transmitter: Some(signer.to_owned()) }
            }
            other => other,
        }
    }

    fn of(err: &'static str, error: AuthnError) -> Self {
        match error {
            AuthnError::Unavailable { why } => Self::Unavailable { why },
            other => Self::new(err, other.to_string()),
        }
    }
}

/// The configured transmitters, each with its tokens that had an effect.
#[derive(Default)]
pub(super) struct Transmitters {
    known: BTreeMap<String, Transmitter>,
}

struct Transmitter {
    issuer: Issuer,
    people: bool,
    subjects_of: BTreeSet<String>,
    once: Once,
}

impl Transmitters {
    pub(super) fn issuers(&self) -> impl Iterator<Item = &Issuer> {
        self.known.values().map(|transmitter| &transmitter.issuer)
    }
}

/// RFC 8417 section 2.2, closed; `exp` and `sub` are not used in one (OpenID SSF 1.0 section 4).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventClaims {
    iss: String,
    aud: Audience,
    iat: Timestamp,
    jti: String,
    #[serde(default, rename = "txn")]
    _txn: Option<Value>,
    #[serde(default, rename = "toe")]
    _toe: Option<i64>,
    #[serde(default)]
    sub_id: Option<SubjectId>,
    events: Map<String, Value>,
}

impl Authn {
    /// With transmitters from the configuration; reads the JWKS files, and fetches nothing.
    pub fn with_transmitters(
        mut self,
        settings: Vec<TransmitterSettings>,
        dev: bool,
    ) -> Result<Self, JwksError> {
        for one in settings {
            let name = one.issuer.issuer.clone();
            let (people, subjects_of) = (one.people, one.subjects_of);
            let issuer = Issuer::new(one.issuer, dev)?;
            let transmitter = Transmitter { issuer, people, subjects_of, once: Once::default() };
            if self.transmitters.known.insert(name.clone(), transmitter).is_some() {
                return Err(JwksError::Settings(format!("transmitter `{name}` is configured twice")));
            }
        }
        Ok(self)
    }

    /// Checks a token that somebody pushed. Whether it came before is another question: [`Authn::attempt`].
    pub async fn security_event(&self, token: &str, now: Timestamp) -> Result<SecurityEvent, EventRefused> {
        let parsed = Assertion::parse(token).map_err(|error| EventRefused::of("invalid_request", error))?;
        // SECURITY: the issuer is matched exactly and only chooses among configured ones.
        let known = parsed.peek_issuer().and_then(|name| self.transmitters.known.get(name));
        let transmitter = known.ok_or(EventRefused::UnknownTransmitter)?;
        // SECURITY: a login or an access token of the same issuer says nothing about security (RFC 8417 section 4.5).
        if !parsed.is_typ(SET_TYP) {
            return Err(EventRefused::new("invalid_request", format!("`typ` must be `{SET_TYP}`")));
        }
        let key = transmitter.issuer.key(parsed.kid(), parsed.algorithm(), now).await;
        let key = key.map_err(|error| EventRefused::of("invalid_key", error))?;
        parsed.verify_signature(&key).map_err(|error| EventRefused::of("authentication_failed", error))?;
        let claims: EventClaims =
            parsed.claims().map_err(|error| EventRefused::of("invalid_request", error))?;
        let signer = claims.iss.clone();
        transmitter.event(claims, now).map_err(|refused| refused.by(&signer))
    }

    /// Begins to act upon an event that is not harmless; `None` when that was done before. Only what had an effect is
    /// remembered ([`Attempt::done`]): everything else may come again, and does nothing again.
    pub fn attempt(
        &self,
        event: &SecurityEvent,
        now: Timestamp,
    ) -> Result<Option<Attempt<'_>>, EventRefused> {
        let transmitter = self.transmitters.known.get(&event.transmitter);
        transmitter.ok_or(EventRefused::UnknownTransmitter)?.once.begin(event, now)
    }

    /// Whether a former life of this process may have acted upon it: only the ledger knows.
    pub fn may_be_known(&self, event: &SecurityEvent) -> bool {
        event.issued_at < self.guard.started_at()
    }
}

impl Transmitter {
    /// The event of verified claims.
    fn event(&self, claims: EventClaims, now: Timestamp) -> Result<SecurityEvent, EventRefused> {
        let invalid = |why: String| Err(EventRefused::new("invalid_request", why));
        if !claims.aud.all().iter().any(|aud| aud == self.issuer.audience()) {
            let why = format!("`aud` must name `{}`", self.issuer.audience());
            return Err(EventRefused::new("invalid_audience", why));
        }
        let until = claims.iat.plus(self.issuer.longest_life());
        if until.has_passed(now) || claims.iat > now.plus(CLOCK_SKEW_SECONDS) {
            return invalid(format!(
                "`iat` must lie within the last {} s; make a new token",
                self.issuer.longest_life()
            ));
        }
        if !(1..=256).contains(&claims.jti.len()) || !claims.jti.bytes().all(|byte| byte.is_ascii_graphic()) {
            return invalid("`jti` must be 1 to 256 printable ASCII characters without spaces".into());
        }
        let mut events = claims.events.into_iter();
        let (Some((uri, said)), None) = (events.next(), events.next()) else {
            return invalid("`events` must hold exactly one event".into());
        };
        let Value::Object(said) = said else { return invalid("the event is not an object".into()) };
        let kind = SignalKind::from_uri(&uri);
        if kind.is_none() && !uri.starts_with(OF_THE_STREAM) {
            return invalid("the broker understands no event of this type".into());
        }
        let (issuer, subject) = match (kind, claims.sub_id) {
            (None, _) => (String::new(), String::new()),
            (Some(_), Some(subject)) => match subject.iss_sub() {
                Some((iss, sub)) if self.subjects_of.contains(iss) => (iss.to_owned(), sub.to_owned()),
                Some(_) => {
                    let why = "this transmitter is not configured for subjects of that issuer";
                    return Err(EventRefused::new("access_denied", why));
                }
                None => {
                    return invalid(
                        "`sub_id` must have the format `iss_sub`, or `complex` with such a `user`".into(),
                    );
                }
            },
            (Some(_), None) => return invalid("`sub_id` is missing".into()),
        };
        let issued_at = claims.iat;
        let id = Digest::tagged("phasebroker-set-v1", format!("{}\0{}", claims.iss, claims.jti).as_bytes());
        let harmless = kind.is_none_or(|kind| is_harmless(kind, &said));
        Ok(SecurityEvent {
            transmitter: claims.iss,
            people: self.people,
            kind,
            issuer,
            subject,
            harmless,
            id,
            issued_at,
            until,
        })
    }
}

/// A session that begins, and a level that changes for the better, take nothing away from anybody.
fn is_harmless(kind: SignalKind, said: &Map<String, Value>) -> bool {
    let text = |name: &str| said.get(name).and_then(Value::as_str);
    match kind {
        SignalKind::SessionEstablished => true,
        SignalKind::SessionRevoked | SignalKind::CredentialChange => false,
        SignalKind::AssuranceLevelChange => text("change_direction") == Some("increase"),
        SignalKind::RiskLevelChange => text("current_level") == Some("LOW"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{Fixture, ISSUER, NOW, fixture, token, with};
    use super::super::jwks::KeySource;
    use super::*;
    use crate::domain::key::SigningKey;

    const IDP: &str = "https://idp.test";

    fn broker(key: &SigningKey) -> (Fixture, tempfile::NamedTempFile) {
        let jwk = with(json!(key.public().jwk()), json!({"kid": "k1"}));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), json!({"keys": [jwk]}).to_string()).unwrap();
        let mut f = fixture(vec![]);
        let issuer = IssuerSettings {
            issuer: IDP.into(),
            audience: ISSUER.into(),
            algorithms: vec![jsonwebtoken::Algorithm::EdDSA],
            keys: KeySource::File(file.path().to_owned()),
            longest_life_seconds: 3600,
            ttl_seconds: 60,
            max_age_seconds: 600,
        };
        let settings = TransmitterSettings { issuer, people: true, subjects_of: [IDP.to_owned()].into() };
        f.authn = f.authn.with_transmitters(vec![settings], false).unwrap();
        (f, file)
    }

    fn claims() -> Value {
        json!({"iss": IDP, "aud": ISSUER, "iat": NOW.seconds(), "jti": "set-1", "txn": "1",
            "sub_id": {"format": "iss_sub", "iss": IDP, "sub": "alice"},
            "events": {SignalKind::SessionRevoked.uri(): {"event_timestamp": NOW.seconds()}}})
    }

    async fn read(
        f: &Fixture,
        header: &Value,
        claims: &Value,
        key: &SigningKey,
    ) -> Result<SecurityEvent, EventRefused> {
        f.authn.security_event(&token(&header.to_string(), &claims.to_string(), key), NOW).await
    }

    fn err(refused: Result<SecurityEvent, EventRefused>) -> &'static str {
        match refused.unwrap_err() {
            EventRefused::Refused { err, .. } => err,
            EventRefused::UnknownTransmitter => "unknown",
            EventRefused::Unavailable { .. } => "unavailable",
        }
    }

    #[tokio::test]
    async fn an_event_of_a_configured_transmitter_is_read_once() {
        let key = SigningKey::generate().unwrap();
        let (f, _file) = broker(&key);
        let header = json!({"typ": "secevent+jwt", "alg": "EdDSA", "kid": "k1"});
        let event = read(&f, &header, &claims(), &key).await.unwrap();
        assert_eq!((event.kind, event.subject.as_str()), (Some(SignalKind::SessionRevoked), "alice"));
        assert!(!event.harmless);
        f.authn.attempt(&event, NOW).unwrap().unwrap().done();
        assert!(f.authn.attempt(&event, NOW.plus(3599)).unwrap().is_none());
        let stream = json!({"events": {format!("{OF_THE_STREAM}verification"): {"state": "x"}},
                            "sub_id": {"format": "opaque", "id": "stream"}});
        assert_eq!(read(&f, &header, &with(claims(), stream), &key).await.unwrap().kind, None);
    }

    #[tokio::test]
    async fn forged_foreign_stale_and_unclear_events_are_refused() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let (f, _file) = broker(&key);
        let header = json!({"typ": "secevent+jwt", "alg": "EdDSA", "kid": "k1"});
        assert_eq!(err(read(&f, &header, &claims(), &other).await), "authentication_failed");
        for typ in [json!("JWT"), json!("at+jwt"), json!(null)] {
            let header = with(header.clone(), json!({"typ": typ}));
            assert_eq!(err(read(&f, &header, &claims(), &key).await), "invalid_request", "{header}");
        }
        let unknown_key = with(header.clone(), json!({"kid": "k2"}));
        assert_eq!(err(read(&f, &unknown_key, &claims(), &key).await), "invalid_key");
        let two =
            json!({"events": {SignalKind::SessionRevoked.uri(): {}, SignalKind::CredentialChange.uri(): {}}});
        for (change, expected) in [
            (json!({"iss": "https://other.test"}), "unknown"),
            (json!({"aud": "https://other.test"}), "invalid_audience"),
            (json!({"iat": NOW.plus(-3600).seconds()}), "invalid_request"),
            (json!({"iat": NOW.plus(6).seconds()}), "invalid_request"),
            (json!({"jti": ""}), "invalid_request"),
            (json!({"jti": null}), "invalid_request"),
            (json!({"exp": NOW.plus(60).seconds()}), "invalid_request"),
            (json!({"sub": "alice"}), "invalid_request"),
            (two, "invalid_request"),
            (json!({"events": {}}), "invalid_request"),
            (json!({"events": {"https://other.test/event": {}}}), "invalid_request"),
            (json!({"sub_id": {"format": "email", "email": "alice@idp.test"}}), "invalid_request"),
            (
                json!({"sub_id": {"format": "iss_sub", "iss": "https://other.test", "sub": "alice"}}),
                "access_denied",
            ),
            (json!({"sub_id": null}), "invalid_request"),
        ] {
            assert_eq!(
                err(read(&f, &header, &with(claims(), change.clone()), &key).await),
                expected,
                "{change}"
            );
        }
        assert!(
            read(&f, &header, &with(claims(), json!({"iat": NOW.plus(-3599).seconds()})), &key).await.is_ok()
        );
    }

    #[test]
    fn only_what_lowers_trust_takes_something_away() {
        let harmless = |kind, said: Value| is_harmless(kind, said.as_object().unwrap());
        assert!(harmless(SignalKind::AssuranceLevelChange, json!({"change_direction": "increase"})));
        assert!(!harmless(SignalKind::AssuranceLevelChange, json!({"change_direction": "decrease"})));
        assert!(!harmless(SignalKind::AssuranceLevelChange, json!({})));
        assert!(harmless(SignalKind::RiskLevelChange, json!({"current_level": "LOW"})));
        assert!(!harmless(SignalKind::RiskLevelChange, json!({"current_level": "HIGH"})));
        assert!(!harmless(SignalKind::CredentialChange, json!({"change_type": "create"})));
    }
}
