//! Identifiers: ULIDs with one type each, so that a lease id can never stand where a grant id belongs.
//! Time-ordered, which keeps the store's indexes appending.

use std::fmt;
use std::str::FromStr;

use rand::Rng;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::time::Timestamp;

/// Text that is not a canonical ULID (26 characters of upper-case Crockford base32).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id: 26 characters of upper-case Crockford base32 are expected")]
pub struct BadId(pub String);

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Ulid);

        impl $name {
            /// A fresh id whose leading bits are `now`.
            pub fn generate(now: Timestamp) -> Self {
                let ms = u64::try_from(now.seconds()).unwrap_or(0).saturating_mul(1000);
                Self(Ulid::from_parts(ms, rand::rng().next_u64() as u128 | ((rand::rng().next_u64() as u128) << 64)))
            }

            /// The all-zero id, which stands in documents printed offline, before any id is given out.
            pub fn nil() -> Self {
                Self(Ulid::nil())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                // SECURITY: one spelling per id; Crockford's lower case and aliases are refused.
                match Ulid::from_string(text) {
                    Ok(ulid) if ulid.to_string() == text => Ok(Self(ulid)),
                    _ => Err(BadId(text.chars().take(40).collect::<String>().escape_default().to_string())),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;
            fn try_from(text: String) -> Result<Self, BadId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    )+};
}

ids! {
    /// One piece of remediation work.
    RunId,
    /// One sealed grant (and the proposal it was sealed from).
    GrantId,
    /// One issued credential.
    LeaseId,
    /// One answer of the policy.
    DecisionId,
    /// One approval token (`jti`).
    ApprovalId,
    /// One post-action review.
    ReviewId,
    /// One signed alert (`jti`).
    AlertId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let id = LeaseId::generate(Timestamp::from_seconds(1_700_000_000));
        assert_eq!(id.to_string().parse::<LeaseId>().unwrap(), id);
        assert!(id.to_string().to_lowercase().parse::<LeaseId>().is_err());
        assert!("01ARZ3NDEKTSV4RRFFQ69G5FA".parse::<LeaseId>().is_err());
    }
}
