//! Sessions whose token is signed on the approvers' side: AWS knows action and resources of such a session by its tags,
//! because its session policy and duration are the caller's choice. AWS: STS API reference (AssumeRoleWithWebIdentity).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::grant::Grant;
use super::id::GrantId;
use super::plan::AwsCredential;
use super::time::Timestamp;

/// The `typ` of a token.
pub const TOKEN_TYP: &str = "JWT";
/// The tag that names the action type.
pub const ACTION_TAG: &str = "action";
/// How the tag of a parameter begins; no other tag does.
const PARAMETER_PREFIX: &str = "p_";
/// Most tags of a session (STS API reference).
pub const MAX_TAGS: usize = 50;
/// Longest value of a tag, in characters.
const MAX_TAG_CHARS: usize = 256;

/// Whose token a session is made with. People sign both with the grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebIdentity {
    /// The OIDC issuer, an https URL; its signing key is held on the approvers' side.
    pub issuer: String,
    /// The one `aud` of its tokens.
    pub audience: String,
}

/// The tag of a parameter.
pub fn parameter_tag(name: &str) -> String {
    format!("{PARAMETER_PREFIX}{name}")
}

/// Whether a tag of this name says what is done: the action, or a parameter of it.
pub fn is_action_tag(name: &str) -> bool {
    name == ACTION_TAG || name.starts_with(PARAMETER_PREFIX)
}

/// Whether AWS takes `text` as the value of a session tag (of its alphabet, what printable ASCII has).
pub fn is_tag_value(text: &str) -> bool {
    let taken = |b: u8| b.is_ascii_alphanumeric() || b" _.:/=+-@".contains(&b);
    (1..=MAX_TAG_CHARS).contains(&text.len()) && text.bytes().all(taken)
}

/// Whether the tags are those of the grant: lease, phase, agent and grant, and with a web identity the action and
/// parameters, each with the value that stands in the grant.
pub fn has_tags_of(aws: &AwsCredential, grant: &Grant) -> bool {
    let mut own = BTreeMap::from([
        ("agent".to_owned(), grant.who.claiming_agent.to_string()),
        ("grant".to_owned(), grant.id.to_string()),
        ("lease".to_owned(), grant.time.lease.to_string()),
        ("phase".to_owned(), "execute".to_owned()),
    ]);
    if aws.web_identity.is_some() {
        own.insert(ACTION_TAG.to_owned(), grant.action.action_type.to_string());
        let parameters = &grant.action.parameters;
        let named = parameters.iter().map(|(name, value)| (parameter_tag(name), value.to_string()));
        own.extend(named.filter(|(tag, _)| aws.tags.contains_key(tag)));
    }
    aws.tags == own
}

/// The `https://aws.amazon.com/tags` claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TagsClaim {
    /// The tags, each with its one value; none goes on into a session made from this one.
    pub principal_tags: BTreeMap<String, [String; 1]>,
}

/// The claims of a token for AWS (IAM User Guide, session tags with AssumeRoleWithWebIdentity).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityClaims {
    /// The issuer.
    pub iss: String,
    /// ARN of the one role that takes it: a role's trust policy asks for its own.
    pub sub: String,
    /// The audience.
    pub aud: String,
    /// Issued at.
    pub iat: Timestamp,
    /// Not before.
    pub nbf: Timestamp,
    /// Of no use from here on.
    pub exp: Timestamp,
    /// The grant: each gets one token at most.
    pub jti: GrantId,
    /// The session's tags.
    #[serde(rename = "https://aws.amazon.com/tags")]
    pub tags: TagsClaim,
    /// The session's source identity.
    #[serde(rename = "https://aws.amazon.com/source_identity")]
    pub source_identity: String,
}

impl IdentityClaims {
    /// What the credential of `grant` is minted with; `None` where it has no web identity.
    pub fn of(grant: &Grant, aws: &AwsCredential, iat: Timestamp, exp: Timestamp) -> Option<Self> {
        let WebIdentity { issuer, audience } = aws.web_identity.clone()?;
        let principal_tags = aws.tags.iter().map(|(key, value)| (key.clone(), [value.clone()])).collect();
        Some(Self {
            iss: issuer,
            sub: aws.role_arn.clone(),
            aud: audience,
            iat,
            nbf: iat,
            exp,
            jti: grant.id,
            tags: TagsClaim { principal_tags },
            source_identity: aws.source_identity.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_value_is_of_the_alphabet_of_aws_and_not_too_long() {
        for good in ["i-0abc", "a b", "arn:aws:x/y=z+1@_.", &"x".repeat(256)] {
            assert!(is_tag_value(good), "{good}");
        }
        for bad in ["", "a*", "a,b", "(x)", "a#b", "é", &"x".repeat(257)] {
            assert!(!is_tag_value(bad), "{bad}");
        }
    }

    #[test]
    fn no_tag_of_a_parameter_is_one_of_the_others() {
        for own in ["agent", "grant", "lease", "phase", ACTION_TAG] {
            assert!(!own.starts_with(PARAMETER_PREFIX), "{own}");
        }
        assert_eq!(parameter_tag("instance"), "p_instance");
    }
}
