//! What the broker answers to an agent, where it holds secrets. None of it can be printed or written again.

use serde::{Deserialize, Deserializer};

use crate::domain::id::{LeaseId, RunId};
use crate::domain::plan::Revocability;
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;

/// The credential of an observe or decide phase.
#[derive(Deserialize)]
pub struct PhaseToken {
    /// The phase token.
    #[serde(deserialize_with = "secret")]
    pub access_token: Secret,
    /// Its lease.
    pub lease: LeaseId,
    /// The run.
    pub run: RunId,
    /// Useless from here on.
    pub not_after: Timestamp,
    /// The AWS session of an observe set of AWS.
    #[serde(default)]
    pub aws: Option<AwsSession>,
}

/// An AWS session.
#[derive(Deserialize)]
pub struct AwsSession {
    /// Not secret; CloudTrail's join key.
    pub access_key_id: String,
    /// Secret access key.
    #[serde(deserialize_with = "secret")]
    pub secret_access_key: Secret,
    /// Session token.
    #[serde(deserialize_with = "secret")]
    pub session_token: Secret,
    /// The deadline, RFC 3339.
    pub expiration: String,
    /// Where it acts.
    pub region: String,
    /// Whose account it acts in.
    #[serde(default)]
    pub account: Option<String>,
}

/// What a claim yields.
#[derive(Deserialize)]
pub struct Claimed {
    /// The lease.
    pub lease: LeaseId,
    /// Useless from here on.
    pub not_after: Timestamp,
    /// Good for recall, complete and cancel of this lease only.
    #[serde(deserialize_with = "secret")]
    pub execute_token: Secret,
    /// The credential.
    pub credential: ExecuteCredential,
    /// How soon it can be ended early.
    pub revocability: Revocability,
    /// A lost reply can be asked for again until here.
    pub recall_until: Timestamp,
}

/// The credential of the one approved action.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ExecuteCredential {
    /// A DPoP-bound access token.
    Token {
        /// The token.
        #[serde(deserialize_with = "secret")]
        access_token: Secret,
        /// The one resource that takes it.
        audience: String,
    },
    /// An AWS session.
    Aws(AwsSession),
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
    String::deserialize(from).map(Secret::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    fn claimed(credential: serde_json::Value) -> Claimed {
        serde_json::from_value(serde_json::json!({
            "lease": LEASE, "not_after": 10, "hard_end": 20, "execute_token": "e", "provider": "any",
            "credential": credential, "revocability": "seconds", "recall_until": 5,
        }))
        .unwrap()
    }

    #[test]
    fn both_kinds_of_execute_credential_are_read() {
        let token = claimed(serde_json::json!({"type":"token","access_token":"t","audience":"https://r"}));
        assert!(
            matches!(token.credential, ExecuteCredential::Token { access_token, .. } if access_token.expose() == "t")
        );
        let aws = claimed(serde_json::json!({
            "type":"aws","access_key_id":"ASIA","secret_access_key":"s","session_token":"t",
            "expiration":"2026-01-01T00:00:00Z","region":"eu-west-1","account":"123456789012","role_arn":"arn",
        }));
        assert!(matches!(aws.credential, ExecuteCredential::Aws(session) if session.account.is_some()));
    }
}
