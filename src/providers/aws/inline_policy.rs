//! The one inline policy of ours on a role, by IAM: put, deleted, read back.

use aws_sdk_iam::error::{ProvideErrorMetadata, SdkError};
use serde_json::Value;

use super::errors::{chain, is_throttling};
use super::role::NotWritten;
use super::writer::POLICY_NAME;
use crate::broker::ports::DenyFate;

/// Makes the policy this text; `None` is none.
pub(super) async fn write(
    iam: &aws_sdk_iam::Client,
    role: &str,
    text: Option<&str>,
) -> Result<(), NotWritten> {
    let Some(text) = text else {
        let gone = iam.delete_role_policy().role_name(role).policy_name(POLICY_NAME).send().await;
        return match gone {
            Err(error) if !is_absent(&error) => Err(said("DeleteRolePolicy", &error)),
            _ => Ok(()),
        };
    };
    let put = iam.put_role_policy().role_name(role).policy_name(POLICY_NAME).policy_document(text);
    put.send().await.map(drop).map_err(|error| said("PutRolePolicy", &error))
}

/// The policy as it is; `None` where there is none.
pub(super) async fn read(iam: &aws_sdk_iam::Client, role: &str) -> Result<Option<String>, NotWritten> {
    match iam.get_role_policy().role_name(role).policy_name(POLICY_NAME).send().await {
        Ok(found) => Ok(Some(percent_decoded(found.policy_document()))),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(said("GetRolePolicy", &error)),
    }
}

/// Whether two policies say the same, however they are spelled.
pub(super) fn same(found: Option<&str>, desired: Option<&str>) -> bool {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).ok();
    match (found, desired) {
        (None, None) => true,
        (Some(found), Some(desired)) => parsed(found).is_some_and(|found| Some(found) == parsed(desired)),
        _ => false,
    }
}

fn is_absent<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    error.code() == Some("NoSuchEntity")
}

fn said<E, R>(call: &str, error: &SdkError<E, R>) -> NotWritten
where
    E: ProvideErrorMetadata,
    SdkError<E, R>: std::error::Error + 'static,
{
    let code = error.code().unwrap_or("no answer");
    let fate = if is_throttling(code) { DenyFate::Throttled } else { DenyFate::Failed };
    NotWritten { fate, ..NotWritten::failed(format!("{call} failed ({code}): {}", chain(error))) }
}

/// IAM gives policies percent-encoded (RFC 3986).
pub(super) fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let coded = (first == b'%').then(|| after.get(..2)).flatten();
        let byte = coded
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_compared_by_what_they_say() {
        let encoded = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%5D%7D";
        let desired = r#"{ "Statement": [], "Version": "2012-10-17" }"#;
        assert!(same(Some(&percent_decoded(encoded)), Some(desired)));
        assert!(!same(Some("{}"), Some(desired)));
        assert!(!same(Some("not json"), Some("not json")));
        assert!(same(None, None) && !same(None, Some(desired)) && !same(Some(desired), None));
    }

    #[test]
    fn a_stray_percent_sign_is_left_alone() {
        assert_eq!(percent_decoded("100%25 %zz %"), "100% %zz %");
    }
}
