//! What was read of AWS, as plain data. Absent and unreadable are never one.

use std::collections::BTreeMap;

use crate::domain::time::Timestamp;

/// The outcome of reading one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read<T> {
    /// It was read.
    Seen(T),
    /// AWS says that it does not exist.
    Absent,
    /// It could not be read: the call, and why.
    Unreadable(String),
}

impl<T> Read<T> {
    /// What was read, if it was.
    pub fn seen(&self) -> Option<&T> {
        match self {
            Self::Seen(value) => Some(value),
            _ => None,
        }
    }

    /// Why it was not read, if it could not be.
    pub fn unreadable(&self) -> Option<&str> {
        match self {
            Self::Unreadable(why) => Some(why),
            _ => None,
        }
    }

    /// The same of something made of it.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Read<U> {
        match self {
            Self::Seen(value) => Read::Seen(make(value)),
            Self::Absent => Read::Absent,
            Self::Unreadable(why) => Read::Unreadable(why),
        }
    }
}

/// Who an identity is, as STS says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Of the session, user or root.
    pub arn: String,
    /// Twelve digits.
    pub account: String,
}

impl Caller {
    /// The name of the role whose session this is.
    pub fn role_name(&self) -> Option<&str> {
        self.arn.split(':').nth(5)?.strip_prefix("assumed-role/")?.split('/').next()
    }
}

/// A policy of a role: its name or ARN, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The name of an inline policy, the ARN of a managed one.
    pub name: String,
    /// Its text.
    pub text: Read<String>,
}

/// A role with everything that says what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSeen {
    /// With its path.
    pub arn: String,
    /// Its trust policy.
    pub trust: String,
    /// Longest session, seconds.
    pub max_session_seconds: i32,
    /// Its permission boundary, if it has one.
    pub boundary: Option<Document>,
    /// Managed policies.
    pub attached: Read<Vec<Document>>,
    /// Inline policies.
    pub inline: Read<Vec<Document>>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

impl Read<RoleSeen> {
    /// The ARN of a role that was read.
    pub fn name(&self) -> Option<&str> {
        self.seen().map(|role| role.arn.as_str())
    }
}

/// What a simulation answered, in the order of the questions.
pub type Answers = Read<Vec<bool>>;

/// A trail, and what it records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrailSeen {
    /// Its ARN.
    pub arn: String,
    /// Whether it records every region.
    pub multi_region: bool,
    /// Whether IAM and STS are recorded.
    pub global_services: bool,
    /// Whether its files can be validated.
    pub validated: bool,
    /// Whether it records now.
    pub logging: Read<bool>,
    /// Seconds since it last delivered; absent when it never did.
    pub delivered: Read<Timestamp>,
    /// What went wrong at the last delivery.
    pub delivery_error: Option<String>,
    /// Its selectors of management events.
    pub management: Read<Vec<ManagementSelector>>,
    /// Its selectors of data events.
    pub data: Read<Vec<DataSelector>>,
}

/// A selector of management events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagementSelector {
    /// Whether reads and writes are both recorded, and nothing else narrows it.
    pub everything: bool,
    /// Event sources that are left out, such as `kms.amazonaws.com`.
    pub without: Vec<String>,
}

/// A selector of data events that takes reads and writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSelector {
    /// Resource type of CloudTrail.
    pub kind: String,
    /// Beginnings of ARNs; `None` takes all.
    pub beginnings: Option<Vec<String>>,
}

/// Endpoints that are not AWS's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Those of the configuration: key and address.
    pub configured: Vec<(String, String)>,
    /// Variables of the environment that name some.
    pub variables: Vec<String>,
}

/// Everything that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The clock of this machine, when AWS's was asked.
    pub here: Timestamp,
    /// AWS's clock.
    pub at_aws: Read<Timestamp>,
    /// The region whose STS was asked.
    pub region: String,
    /// Endpoints that are not AWS's own.
    pub endpoints: Endpoints,
    /// Who mints.
    pub mint: Read<Caller>,
    /// Who revokes.
    pub revoke: Read<Caller>,
    /// Who reads for probes, where there is such an identity.
    pub probe: Option<Read<Caller>>,
    /// Who reads for doctor.
    pub doctor: Read<Caller>,
    /// Whether doctor has an identity of its own.
    pub doctor_is_own: bool,
    /// The phase roles, by ARN.
    pub roles: BTreeMap<String, Read<RoleSeen>>,
    /// The role of the minting identity.
    pub minter: Read<RoleSeen>,
    /// The role of the revoking identity.
    pub revoker: Read<RoleSeen>,
    /// What IAM simulated of the minter.
    pub minter_answers: Answers,
    /// What IAM simulated of the revoker.
    pub revoker_answers: Answers,
    /// The trails of the account.
    pub trails: Read<Vec<TrailSeen>>,
}
