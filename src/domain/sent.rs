//! The text that a provider really sends: the signed credential with its deadline filled in, and nothing else.
//! Pure, so that whoever holds the signed grant makes the text again and compares it with the digest INTENT recorded.

use serde_json::Value;

use super::canonical::{self, CanonicalError};
use super::digest::Digest;
use super::id::LeaseId;
use super::plan::{AwsCredential, Credential, MAX_SESSION_POLICY_CHARS, NOT_AFTER_PLACEHOLDER};
use super::time::Timestamp;

/// The first second of the year 10000, which no text of ours can write.
const YEAR_10000: i64 = 253_402_300_800;
/// Seconds by which AWS's clock, in which a session's deadline is written, may differ from the broker's.
pub const MAX_CLOCK_OFFSET_SECONDS: i64 = 120;

/// What a token of ours is minted from: lease, signed credential and deadline, as canonical JSON.
pub fn token_text(
    lease: LeaseId,
    credential: &Credential,
    not_after: Timestamp,
) -> Result<String, CanonicalError> {
    let sent = serde_json::json!({ "lease": lease, "credential": credential, "not_after": not_after });
    let bytes = canonical::to_bytes(&sent)?;
    String::from_utf8(bytes).map_err(|e| CanonicalError::NotJson(e.to_string()))
}

/// The session policy with its deadline in AWS's clock, or why there is none.
pub fn session_policy_text(
    credential: &AwsCredential,
    not_after_at_aws: Timestamp,
) -> Result<String, &'static str> {
    if credential.session_policy.matches(NOT_AFTER_PLACEHOLDER).count() != 1 {
        return Err(
            "the session policy must contain `{{not_after}}` exactly once; compile it from the catalog",
        );
    }
    let text = credential.session_policy.replace(NOT_AFTER_PLACEHOLDER, &not_after_at_aws.rfc3339());
    if text.chars().count() > MAX_SESSION_POLICY_CHARS {
        return Err(
            "the session policy is longer than the 2,048 characters STS takes; name fewer resources in the action type",
        );
    }
    Ok(text)
}

/// Whether the last statement of a session policy is our Deny of everything from the deadline on, and the deadline
/// stands nowhere else.
pub fn ends_itself(policy: &str) -> bool {
    let expected = serde_json::json!({
        "Effect": "Deny", "Action": "*", "Resource": "*",
        "Condition": {"DateGreaterThanEquals": {"aws:CurrentTime": NOT_AFTER_PLACEHOLDER}}
    });
    let last = statements(policy).pop().map(|mut last| {
        if let Value::Object(members) = &mut last {
            members.remove("Sid");
        }
        last
    });
    policy.matches(NOT_AFTER_PLACEHOLDER).count() == 1 && last == Some(expected)
}

/// What a canary calls.
pub const CANARY_ACTION: &str = "ec2:DescribeRegions";
/// The one statement of a canary: a harmless read without resources, with which the broker sees whether AWS still takes
/// the session. Its name tells it from a statement of the catalog, which has none.
pub const CANARY_STATEMENT: &str =
    r#"{"Sid":"Canary","Effect":"Allow","Action":["ec2:DescribeRegions"],"Resource":["*"]}"#;

/// Whether a statement is the canary's, and nothing more.
pub fn is_canary(statement: &Value) -> bool {
    serde_json::from_str::<Value>(CANARY_STATEMENT).is_ok_and(|canary| canary == *statement)
}

/// Whether a session policy has a canary.
pub fn has_canary(policy: &str) -> bool {
    statements(policy).iter().any(is_canary)
}

/// Whether the compact writing of a policy's parse has its length: then no member appears twice and nothing is escaped.
pub fn is_plain(policy: &str) -> bool {
    serde_json::from_str::<Value>(policy).is_ok_and(|value| value.to_string().len() == policy.len())
}

/// The statements of a session policy, as parsed; none when it does not read.
pub fn statements(policy: &str) -> Vec<Value> {
    let parsed = serde_json::from_str::<Value>(policy).ok();
    match parsed.and_then(|mut policy| policy.get_mut("Statement").map(Value::take)) {
        Some(Value::Array(statements)) => statements,
        Some(one) => vec![one],
        None => Vec::new(),
    }
}

/// INVARIANT: exact-scope. The deadline with which the signed credential becomes the text of this digest; `None` when
/// something else was sent. `not_after` is INTENT's, in the broker's clock.
pub fn deadline_in(
    sent: Digest,
    lease: LeaseId,
    credential: &Credential,
    not_after: Timestamp,
) -> Option<Timestamp> {
    let is_sent = |text: String| Digest::of(text.as_bytes()) == sent;
    match credential {
        Credential::Jwt(_) => {
            token_text(lease, credential, not_after).is_ok_and(is_sent).then_some(not_after)
        }
        // AWS's clock is not recorded, but it was at most so far off.
        Credential::Aws(aws) => (-MAX_CLOCK_OFFSET_SECONDS..=MAX_CLOCK_OFFSET_SECONDS)
            .map(|offset| not_after.plus(offset))
            // SECURITY: outside of these years a time has no text of its own, and all of them would be the same.
            .filter(|deadline| (0..YEAR_10000).contains(&deadline.seconds()))
            .find(|deadline| session_policy_text(aws, *deadline).is_ok_and(is_sent)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::{JwtCredential, Revocability};

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn aws(policy: &str) -> AwsCredential {
        AwsCredential {
            role_arn: "arn:aws:iam::123456789012:role/execute".into(),
            account: "123456789012".into(),
            region: "eu-central-1".into(),
            session_name: "execute-x".into(),
            source_identity: "grant".into(),
            session_policy: policy.into(),
            tags: Default::default(),
            web_identity: None,
            external_id: None,
            duration_seconds: 900,
            work_seconds: 60,
            revocability: Revocability::Seconds,
        }
    }

    #[test]
    fn a_canary_is_its_whole_statement_and_nothing_like_it() {
        let policy = |statement: &str| format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#);
        assert!(has_canary(&policy(CANARY_STATEMENT)));
        for (from, to) in [
            ("ec2:DescribeRegions", "ec2:DescribeInstances"),
            (r#"["*"]"#, r#""*""#),
            (r#""Sid":"Canary","#, ""),
            ("Allow", "Deny"),
            (r#"["*"]"#, r#"["*"],"Condition":{}"#),
        ] {
            assert!(!has_canary(&policy(&CANARY_STATEMENT.replace(from, to))), "{to}");
        }
    }

    #[test]
    fn the_text_of_a_session_is_found_again_within_the_clocks_difference_and_not_beyond() {
        let lease = LeaseId::generate(NOW);
        let signed = aws(r#"{"until":"{{not_after}}"}"#);
        let credential = Credential::Aws(signed.clone());
        for (offset, found) in [(0, true), (120, true), (-120, true), (121, false), (-121, false)] {
            let text = session_policy_text(&signed, NOW.plus(offset)).unwrap();
            let deadline = deadline_in(Digest::of(text.as_bytes()), lease, &credential, NOW);
            assert_eq!(deadline, found.then_some(NOW.plus(offset)), "{offset}");
        }
        let wider = session_policy_text(&aws(r#"{"Resource":"*","until":"{{not_after}}"}"#), NOW).unwrap();
        assert_eq!(deadline_in(Digest::of(wider.as_bytes()), lease, &credential, NOW), None);
    }

    #[test]
    fn a_deadline_that_cannot_be_written_is_none() {
        let lease = LeaseId::generate(NOW);
        let credential = Credential::Aws(aws(r#"{"until":"{{not_after}}"}"#));
        let sent = Digest::of(br#"{"until":"9999-12-31T23:59:59Z"}"#);
        for (seconds, found) in [(253_402_300_799, true), (253_402_300_920, false), (i64::MIN, false)] {
            let deadline = deadline_in(sent, lease, &credential, Timestamp::from_seconds(seconds));
            assert_eq!(deadline.is_some(), found, "{seconds}");
        }
    }

    #[test]
    fn the_text_of_a_token_is_of_one_lease_one_credential_and_one_deadline() {
        let lease = LeaseId::generate(NOW);
        let credential = |audience: &str| {
            Credential::Jwt(JwtCredential {
                audience: audience.into(),
                authorization_details: vec![],
                work_seconds: 60,
                revocability: Revocability::Immediate,
            })
        };
        let signed = credential("https://shop.example");
        let sent = Digest::of(token_text(lease, &signed, NOW).unwrap().as_bytes());
        assert_eq!(deadline_in(sent, lease, &signed, NOW), Some(NOW));
        assert_eq!(deadline_in(sent, lease, &signed, NOW.plus(1)), None);
        assert_eq!(deadline_in(sent, lease, &credential("https://other.example"), NOW), None);
        assert_eq!(deadline_in(sent, LeaseId::generate(NOW.plus(1)), &signed, NOW), None);
    }
}
