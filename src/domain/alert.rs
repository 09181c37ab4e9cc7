//! A signed alert: what a monitoring system of the operator's says, as a compact JWS by a key registered for it.
//! It can start a playbook, once; the word of an agent never can.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::id::AlertId;
use super::jws::{JwsError, KeyHeader, Unverified};
use super::key::{PublicKey, Thumbprint};
use super::principal::{Environment, Name};
use super::time::Timestamp;

/// The `typ` of an alert.
pub const ALERT_TYP: &str = "alert+jwt";
/// Longest name of an alert, in characters.
pub const MAX_ALERT_CHARS: usize = 128;
/// Seconds by which a source's clock may be ahead of ours.
const MAX_AHEAD_SECONDS: i64 = 60;

/// Who may send signed alerts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertSource {
    /// Its public keys.
    pub keys: Vec<PublicKey>,
    /// Seconds for which an alert counts after it was signed.
    pub fresh_seconds: u32,
}

/// The closed claims of an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertClaims {
    /// The source, as the guardrails name it.
    pub iss: Name,
    /// The broker's issuer URL.
    pub aud: String,
    /// The alert's name, which a playbook names exactly: 1 to [`MAX_ALERT_CHARS`] printable ASCII characters.
    pub alert: String,
    /// Where it fired.
    pub environment: Environment,
    /// Signed at, seconds since the epoch.
    pub iat: Timestamp,
    /// Worthless from here on, however fresh.
    pub exp: Timestamp,
    /// Single use, within its source.
    pub jti: AlertId,
}

/// Why an alert does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlertError {
    /// Not a well-formed alert, or its signature fails.
    #[error("the alert is refused: {0}")]
    Token(#[from] JwsError),
    /// `iss` is no configured source.
    #[error("`{0}` is no configured source of alerts")]
    UnknownSource(Name),
    /// The key is not one of that source.
    #[error("the key {key} is not registered for the source of alerts `{source_name}`")]
    UnknownKey {
        /// `iss`.
        source_name: Name,
        /// `kid`.
        key: Thumbprint,
    },
    /// `aud` names another broker.
    #[error("the alert is for another broker")]
    OtherBroker,
    /// `alert` is empty, too long, or not printable ASCII.
    #[error("`alert` must be 1 to {MAX_ALERT_CHARS} printable ASCII characters")]
    BadName,
    /// `iat` lies in the future.
    #[error("the alert was signed at {iat}, more than {MAX_AHEAD_SECONDS} s after now, {now}")]
    FromTheFuture {
        /// `iat`.
        iat: Timestamp,
        /// Our clock.
        now: Timestamp,
    },
    /// Signed too long ago.
    #[error("the alert was signed at {iat}; one of this source counts for {fresh_seconds} s")]
    Stale {
        /// `iat`.
        iat: Timestamp,
        /// For how long it counted.
        fresh_seconds: u32,
    },
    /// `exp` has passed.
    #[error("the alert expired at {0}")]
    Expired(Timestamp),
}

impl AlertError {
    /// Why, in words of ours alone: the claims of a token that does not count are whatever its bearer wrote.
    pub fn fixed_words(&self) -> &'static str {
        match self {
            Self::Token(_) => "the alert is not well formed, or its signature does not verify",
            Self::UnknownSource(_) => "the alert names no configured source",
            Self::UnknownKey { .. } => "the alert's key is not registered for its source",
            Self::OtherBroker => "the alert is for another broker",
            Self::BadName => "the alert's name is empty, too long, or not printable ASCII",
            Self::FromTheFuture { .. } => "the alert was signed in the future",
            Self::Stale { .. } => "the alert was signed too long ago",
            Self::Expired(_) => "the alert expired",
        }
    }
}

/// A verified alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Its claims.
    pub claims: AlertClaims,
    /// The key that signed.
    pub key: Thumbprint,
    /// It counts for nothing from here on.
    pub counts_until: Timestamp,
}

/// The alert that started a grant, as the grant names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartingAlert {
    /// Who signed it, as the guardrails name the source.
    pub source: Name,
    /// Its `jti`: it starts nothing else.
    pub id: AlertId,
    /// Thumbprint of the key that verified it.
    pub key: Thumbprint,
    /// It counts for nothing from here on.
    pub counts_until: Timestamp,
}

impl From<&Alert> for StartingAlert {
    fn from(alert: &Alert) -> Self {
        let Alert { claims, key, counts_until } = alert;
        Self { source: claims.iss.clone(), id: claims.jti, key: *key, counts_until: *counts_until }
    }
}

impl StartingAlert {
    /// Whether it still counts at `now`: its time has not passed, and its key is still one of its source's.
    pub fn still_counts(
        &self,
        sources: &BTreeMap<Name, AlertSource>,
        now: Timestamp,
    ) -> Result<(), &'static str> {
        if self.counts_until.has_passed(now) {
            return Err("the alert that started it does not count any more");
        }
        let source = sources.get(&self.source);
        match source.is_some_and(|source| source.keys.iter().any(|key| key.thumbprint() == self.key)) {
            true => Ok(()),
            false => Err("the key of the alert that started it is not its source's any more"),
        }
    }
}

impl Alert {
    /// Verifies a token for the broker `issuer` at `now`. That it is used once is for the caller to see to.
    pub fn verify(
        token: &str,
        sources: &BTreeMap<Name, AlertSource>,
        issuer: &str,
        now: Timestamp,
    ) -> Result<Self, AlertError> {
        let unverified = Unverified::parse(token, ALERT_TYP, KeyHeader::Kid)?;
        let kid = unverified.kid().ok_or(JwsError::Malformed)?;
        let claimed = unverified.peek::<AlertClaims>()?.iss;
        let source = sources.get(&claimed).ok_or_else(|| AlertError::UnknownSource(claimed.clone()))?;
        let key = source.keys.iter().find(|key| key.thumbprint() == kid);
        let key = key.ok_or(AlertError::UnknownKey { source_name: claimed, key: kid })?;
        // The signed bytes are the peeked ones, so `iss` is the source whose key this is.
        let claims = unverified.verify::<AlertClaims>(key)?.claims;
        if claims.aud != issuer {
            return Err(AlertError::OtherBroker);
        }
        let printable = claims.alert.chars().all(|c| matches!(c, ' '..='~'));
        if !printable || !(1..=MAX_ALERT_CHARS).contains(&claims.alert.len()) {
            return Err(AlertError::BadName);
        }
        if claims.iat.since(now) > MAX_AHEAD_SECONDS {
            return Err(AlertError::FromTheFuture { iat: claims.iat, now });
        }
        if now.since(claims.iat) > i64::from(source.fresh_seconds) {
            return Err(AlertError::Stale { iat: claims.iat, fresh_seconds: source.fresh_seconds });
        }
        if claims.exp.has_passed(now) {
            return Err(AlertError::Expired(claims.exp));
        }
        // It is fresh through the whole of its last second.
        let fresh_until = claims.iat.plus(i64::from(source.fresh_seconds) + 1);
        let counts_until = fresh_until.min(claims.exp);
        Ok(Self { claims, key: kid, counts_until })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::digest::encode;
    use crate::domain::jws;
    use crate::domain::key::SigningKey;

    const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);
    const ISSUER: &str = "https://broker.example";

    struct Scene {
        key: SigningKey,
        sources: BTreeMap<Name, AlertSource>,
    }

    impl Scene {
        fn set() -> Self {
            let key = SigningKey::generate().unwrap();
            let other = SigningKey::generate_p256().unwrap();
            let source =
                |key: &SigningKey| AlertSource { keys: vec![key.public().clone()], fresh_seconds: 300 };
            let sources =
                [("alertmanager".parse().unwrap(), source(&key)), ("pager".parse().unwrap(), source(&other))];
            Self { key, sources: sources.into() }
        }

        fn with(&self, change: impl FnOnce(&mut Value)) -> Result<Alert, AlertError> {
            self.signed(ALERT_TYP, &self.key, change)
        }

        fn signed(
            &self,
            typ: &str,
            key: &SigningKey,
            change: impl FnOnce(&mut Value),
        ) -> Result<Alert, AlertError> {
            let mut claims = json!({
                "iss": "alertmanager", "aud": ISSUER, "alert": "CheckoutLatencyHigh", "environment": "production",
                "iat": NOW, "exp": NOW.plus(300), "jti": AlertId::generate(NOW),
            });
            change(&mut claims);
            let header = json!({"typ": typ, "alg": "EdDSA", "kid": key.public().thumbprint()});
            // By hand: our own writer signs no text that is not printable.
            let input = format!(
                "{}.{}",
                encode(header.to_string().as_bytes()),
                encode(claims.to_string().as_bytes())
            );
            let token = format!("{input}.{}", encode(&key.sign(input.as_bytes()).unwrap()));
            Alert::verify(&token, &self.sources, ISSUER, NOW)
        }
    }

    #[test]
    fn a_fresh_alert_of_a_configured_source_counts() {
        let scene = Scene::set();
        let alert = scene.with(|_| {}).unwrap();
        assert_eq!(alert.claims.alert, "CheckoutLatencyHigh");
        assert_eq!(alert.key, scene.key.public().thumbprint());
        assert!(scene.with(|claims| claims["alert"] = json!("x".repeat(128))).is_ok());
    }

    #[test]
    fn no_word_of_a_refused_alert_is_in_the_reason_it_is_refused_for() {
        let scene = Scene::set();
        let said = "sign-this-now";
        for change in [
            |claims: &mut Value| claims["iss"] = json!("sign-this-now"),
            |claims: &mut Value| claims["environment"] = json!("sign-this-now!"),
            |claims: &mut Value| claims["sign-this-now"] = json!(1),
        ] {
            let error = scene.with(change).unwrap_err();
            assert!(!error.fixed_words().contains(said), "{error}");
        }
        let unknown = scene.with(|claims| claims["iss"] = json!(said)).unwrap_err();
        assert_eq!(unknown.fixed_words(), "the alert names no configured source");
    }

    #[test]
    fn an_alert_starts_a_claim_while_it_counts_and_its_key_is_its_sources() {
        let scene = Scene::set();
        let fresh = scene.with(|claims| claims["exp"] = json!(NOW.plus(9_000))).unwrap();
        assert_eq!(fresh.counts_until, NOW.plus(301));
        let alert = scene.with(|claims| claims["exp"] = json!(NOW.plus(200))).unwrap();
        assert_eq!(alert.counts_until, NOW.plus(200));
        let started = StartingAlert::from(&alert);
        assert_eq!(started.still_counts(&scene.sources, NOW.plus(199)), Ok(()));
        assert!(started.still_counts(&scene.sources, NOW.plus(200)).unwrap_err().contains("not count"));
        let pager: Name = "pager".parse().unwrap();
        let other = StartingAlert { source: pager, ..started.clone() };
        assert!(other.still_counts(&scene.sources, NOW).unwrap_err().contains("key"));
        let mut sources = scene.sources.clone();
        sources.get_mut(&started.source).unwrap().keys =
            vec![SigningKey::generate().unwrap().public().clone()];
        assert!(started.still_counts(&sources, NOW).unwrap_err().contains("key"));
        assert!(started.still_counts(&BTreeMap::new(), NOW).unwrap_err().contains("key"));
    }

    #[test]
    fn an_unknown_source_and_another_sources_key_are_told_apart() {
        let scene = Scene::set();
        let unknown = scene.with(|claims| claims["iss"] = json!("nobody"));
        assert!(matches!(unknown, Err(AlertError::UnknownSource(_))), "{unknown:?}");
        let foreign = scene.with(|claims| claims["iss"] = json!("pager"));
        assert!(matches!(foreign, Err(AlertError::UnknownKey { .. })), "{foreign:?}");
        let stranger = SigningKey::generate().unwrap();
        let forged = scene.signed(ALERT_TYP, &stranger, |_| {});
        assert!(matches!(forged, Err(AlertError::UnknownKey { .. })), "{forged:?}");
    }

    #[test]
    fn an_alert_counts_within_its_freshness_and_before_its_end_and_not_a_second_longer() {
        let scene = Scene::set();
        let signed = |at: i64, until: i64| {
            scene.with(|claims| {
                claims["iat"] = json!(NOW.plus(at));
                claims["exp"] = json!(NOW.plus(until));
            })
        };
        assert!(signed(-300, 1).is_ok());
        assert!(matches!(signed(-301, 1), Err(AlertError::Stale { fresh_seconds: 300, .. })));
        assert!(matches!(signed(-1, 0), Err(AlertError::Expired(_))));
        assert!(signed(60, 100).is_ok());
        assert!(matches!(signed(61, 100), Err(AlertError::FromTheFuture { .. })));
        let forever = scene.with(|claims| claims["iat"] = json!(-9_007_199_254_740_991_i64));
        assert!(matches!(forever, Err(AlertError::Stale { .. })));
    }

    #[test]
    fn another_broker_another_type_and_open_claims_are_refused() {
        let scene = Scene::set();
        assert_eq!(
            scene.with(|claims| claims["aud"] = json!("https://b.example")),
            Err(AlertError::OtherBroker)
        );
        for bad in ["", &"x".repeat(129), "tab\t", "é", "line\n"] {
            assert_eq!(
                scene.with(|claims| claims["alert"] = json!(bad)),
                Err(AlertError::BadName),
                "{bad:?}"
            );
        }
        for change in [
            |claims: &mut Value| claims["extra"] = json!(1),
            |claims: &mut Value| claims["jti"] = json!("not-a-ulid"),
            |claims: &mut Value| claims["environment"] = json!("Production"),
            |claims: &mut Value| drop(claims.as_object_mut().unwrap().remove("exp")),
        ] {
            assert!(matches!(scene.with(change), Err(AlertError::Token(JwsError::Claims(_)))));
        }
        let approval = scene.signed("approval+jwt", &scene.key, |_| {});
        assert!(matches!(approval, Err(AlertError::Token(JwsError::Header(_)))));
    }

    #[test]
    fn a_changed_alert_does_not_verify() {
        let scene = Scene::set();
        let claims = json!({
            "iss": "alertmanager", "aud": ISSUER, "alert": "A", "environment": "production",
            "iat": NOW, "exp": NOW.plus(300), "jti": AlertId::generate(NOW),
        });
        let token = jws::sign(ALERT_TYP, &scene.key, KeyHeader::Kid, &claims).unwrap();
        let other = jws::sign(
            ALERT_TYP,
            &scene.key,
            KeyHeader::Kid,
            &json!({ "iss": "alertmanager", "aud": ISSUER, "alert": "B", "environment": "production",
                     "iat": NOW, "exp": NOW.plus(300), "jti": AlertId::generate(NOW) }),
        )
        .unwrap();
        let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
        let (first, second) = (parts(&token), parts(&other));
        let mixed = format!("{}.{}.{}", first[0], second[1], first[2]);
        assert_eq!(
            Alert::verify(&mixed, &scene.sources, ISSUER, NOW),
            Err(AlertError::Token(JwsError::Signature))
        );
    }
}
