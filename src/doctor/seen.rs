//! What was read of AWS, as plain data. Absent and unreadable are never one.

use std::collections::BTreeMap;

use super::expected::Expected;
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

    /// Whether an ARN is that of the role whose session this is. IAM knows a role of an account by its name alone,
    /// whatever its path; a unique id instead of an ARN is a role that was deleted.
    pub(super) fn is_of(&self, arn: &str) -> bool {
        match self.role_name() {
            Some(role) => {
                arn.split(':').nth(4) == Some(self.account.as_str())
                    && arn.contains(":role/")
                    && arn.rsplit('/').next() == Some(role)
            }
            None => arn == self.arn,
        }
    }
}

/// An identity that is at home in another account than the one that is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abroad {
    /// Its account, as the configuration says.
    pub account: String,
    /// Who it is.
    pub caller: Read<Caller>,
    /// Its role, where that was read.
    pub arn: Option<String>,
}

impl Abroad {
    /// Whether an ARN is that of its role.
    pub(super) fn is(&self, arn: &str) -> bool {
        let at_home = arn.split(':').nth(4) == Some(self.account.as_str());
        match (&self.arn, self.caller.seen()) {
            (Some(own), _) => at_home && arn == own,
            (None, Some(caller)) => at_home && caller.is_of(arn),
            (None, None) => false,
        }
    }
}

/// What a further account has of the broker's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// The broker's revoker, which becomes the one of that account.
    pub revoker: Abroad,
    /// Whether the minter is the broker's, and looked at where it belongs.
    pub mints: bool,
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
    /// In the broker's own account: who revokes in the further ones.
    pub further: Vec<Abroad>,
    /// In a further account: what it has of the broker's own.
    pub home: Option<Home>,
}

impl Seen {
    /// Lets each account know what the others hold: who revokes there, and who the broker's own are.
    pub fn acquaint(home: &mut Seen, further: &mut [(Expected, Seen)]) {
        let abroad = |account: &str, seen: &Seen| Abroad {
            account: account.to_owned(),
            caller: seen.revoke.clone(),
            arn: seen.revoker.name().map(str::to_owned),
        };
        home.further = further
            .iter()
            .filter_map(|(expected, seen)| Some(abroad(expected.account.as_deref()?, seen)))
            .collect();
        let account = home.revoke.seen().map(|revoke| revoke.account.clone()).unwrap_or_default();
        for (expected, seen) in further {
            let mints = !expected.own_minter;
            if mints {
                seen.mint = home.mint.clone();
                seen.minter = home.minter.clone();
            }
            seen.home = Some(Home { revoker: abroad(&account, home), mints });
        }
    }
}
