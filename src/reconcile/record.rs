//! One CloudTrail record (CloudTrail User Guide, "CloudTrail record contents"): first who and what, cheaply, then all of
//! it for those that are about us. Members that are not needed are ignored; those that are have types and lengths.

use serde::Deserialize;
use serde_json::Value;

use super::envelope::{Inside, opened};
use crate::domain::digest::Digest;
use crate::domain::time::Timestamp;

/// Longest text of a member that is kept, in bytes.
const MAX_TEXT_BYTES: usize = 2_048;
/// Most ARNs of a record that are kept.
const MAX_ARNS: usize = 64;
/// Most texts and numbers of a request that are looked at.
const MAX_LEAVES: usize = 4_096;

/// Why a record cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// Not JSON of the schema.
    #[error("not a CloudTrail record: {0}")]
    Schema(String),
    /// A text of that member is longer than any AWS writes.
    #[error("`{0}` is longer than {MAX_TEXT_BYTES} bytes")]
    TooLong(&'static str),
    /// The time is none.
    #[error("`eventTime` is not `YYYY-MM-DDTHH:MM:SSZ`")]
    Time,
    /// An event of EventBridge that is about something else.
    #[error("an event of EventBridge that is not `… via CloudTrail`")]
    OtherEvent,
    /// An event of EventBridge that anybody may have put there.
    #[error("an event of EventBridge whose `source` is none of AWS's")]
    OtherSource,
    /// What is around a record and the record itself disagree.
    #[error("the event of EventBridge and the record in it name different accounts or Regions")]
    Envelope,
}

/// Who did what, and when: enough to know whether a record is about us.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Glance {
    event_time: String,
    event_source: String,
    event_name: String,
    #[serde(default)]
    aws_region: Option<String>,
    #[serde(default)]
    recipient_account_id: Option<String>,
    #[serde(default)]
    user_identity: Option<Identity>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    #[serde(default)]
    principal_id: Option<String>,
    #[serde(default)]
    arn: Option<String>,
    #[serde(default)]
    account_id: Option<String>,
    #[serde(default)]
    access_key_id: Option<String>,
    #[serde(default)]
    invoked_by: Option<String>,
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    identity_provider: Option<String>,
    #[serde(default)]
    session_context: Option<Context>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Context {
    #[serde(default)]
    session_issuer: Option<Issuer>,
    #[serde(default)]
    source_identity: Option<String>,
    #[serde(default)]
    attributes: Option<Attributes>,
    #[serde(default)]
    web_id_federation_data: Option<Federation>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Federation {
    #[serde(default)]
    federated_provider: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attributes {
    #[serde(default)]
    creation_date: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Issuer {
    #[serde(default)]
    arn: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(rename = "eventID")]
    event_id: String,
    event_time: String,
    event_source: String,
    event_name: String,
    #[serde(default)]
    aws_region: Option<String>,
    #[serde(default)]
    recipient_account_id: Option<String>,
    #[serde(default)]
    error_code: Option<String>,
    #[serde(default)]
    user_identity: Option<Identity>,
    #[serde(default)]
    request_parameters: Option<Value>,
    #[serde(default)]
    response_elements: Option<Value>,
    #[serde(default)]
    resources: Option<Vec<Resource>>,
}

#[derive(Debug, Deserialize)]
struct Resource {
    #[serde(rename = "ARN", default)]
    arn: Option<String>,
}

/// A record that is about us.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// CloudTrail's own id of it.
    pub id: String,
    /// When, by AWS's clock.
    pub at: Timestamp,
    /// Which service, as `ec2.amazonaws.com`.
    pub source: String,
    /// Which call.
    pub name: String,
    /// In which Region.
    pub region: Option<String>,
    /// The account whose trail holds it.
    pub recipient: Option<String>,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// Who called.
    pub caller: Caller,
    /// What was asked.
    pub request: Value,
    /// What was answered.
    pub response: Value,
    /// ARNs the record names as what was touched.
    pub arns: Vec<String>,
}

/// Who made a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// Its access key id.
    pub access_key: Option<String>,
    /// The session name, as `principalId` has it.
    pub session: Option<String>,
    /// The session name, as `arn` has it.
    pub session_in_arn: Option<String>,
    /// The account of the session.
    pub account: Option<String>,
    /// The role it was assumed from.
    pub role: Option<String>,
    /// Its source identity.
    pub source_identity: Option<String>,
    /// When its session began.
    pub began: Option<Timestamp>,
    /// The AWS service that made the call in the session's name.
    pub invoked_by: Option<String>,
    /// What kind of identity, such as `AssumedRole` or `WebIdentityUser`.
    pub kind: Option<String>,
    /// Whose token was shown: of a session that is asked for, and of one that was made so.
    pub provider: Option<String>,
}

impl Glance {
    /// Reads who and what, of a record as it is or inside an event of EventBridge.
    pub fn read(bytes: &[u8]) -> Result<Self, BadRecord> {
        let glance: Self = opened(bytes)?;
        Ok(glance)
    }

    /// When.
    pub fn at(&self) -> Result<Timestamp, BadRecord> {
        Timestamp::parse_rfc3339(&self.event_time).ok_or(BadRecord::Time)
    }

    /// The account whose trail holds it.
    pub fn account(&self) -> Option<&str> {
        self.recipient_account_id.as_deref()
    }

    /// The caller's access key id.
    pub fn access_key(&self) -> Option<&str> {
        self.user_identity.as_ref()?.access_key_id.as_deref()
    }

    /// The caller's session name.
    pub fn session(&self) -> Option<&str> {
        self.user_identity.as_ref()?.principal_id.as_deref()?.split_once(':').map(|(_, name)| name)
    }

    /// The Region of the call.
    pub fn region(&self) -> Option<&str> {
        self.aws_region.as_deref()
    }

    /// The caller's source identity.
    pub fn source_identity(&self) -> Option<&str> {
        self.user_identity.as_ref()?.session_context.as_ref()?.source_identity.as_deref()
    }

    /// The role the caller's session was assumed from.
    pub fn role(&self) -> Option<&str> {
        self.user_identity.as_ref()?.session_context.as_ref()?.session_issuer.as_ref()?.arn.as_deref()
    }

    /// Whether a session was asked for.
    pub fn assumes(&self) -> bool {
        self.event_source == "sts.amazonaws.com" && self.event_name.starts_with("AssumeRo")
    }
}

impl Record {
    /// Reads all of it.
    pub fn read(bytes: &[u8]) -> Result<Self, BadRecord> {
        let written: Written = opened(bytes)?;
        let identity = written.user_identity.unwrap_or_default();
        let context = identity.session_context.unwrap_or_default();
        let session = identity.principal_id.as_deref().and_then(|text| text.split_once(':'));
        let in_arn = identity.arn.as_deref().filter(|arn| arn.contains(":assumed-role/"));
        let arns = written.resources.unwrap_or_default().into_iter().filter_map(|one| one.arn);
        let federated = context.web_id_federation_data.and_then(|data| data.federated_provider);
        let began = context.attributes.and_then(|attributes| attributes.creation_date);
        let began = began.map(|at| Timestamp::parse_rfc3339(&at).ok_or(BadRecord::Time)).transpose()?;
        let record = Self {
            id: written.event_id,
            at: Timestamp::parse_rfc3339(&written.event_time).ok_or(BadRecord::Time)?,
            source: written.event_source,
            name: written.event_name,
            region: written.aws_region,
            recipient: written.recipient_account_id,
            error: written.error_code.filter(|code| !code.is_empty()),
            caller: Caller {
                session: session.map(|(_, name)| name.to_owned()),
                session_in_arn: in_arn.and_then(|arn| arn.rsplit_once('/')).map(|(_, name)| name.to_owned()),
                access_key: identity.access_key_id.filter(|key| !key.is_empty()),
                account: identity.account_id,
                role: context.session_issuer.and_then(|issuer| issuer.arn),
                source_identity: context.source_identity,
                began,
                invoked_by: identity.invoked_by,
                kind: identity.kind,
                provider: identity.identity_provider.or(federated),
            },
            request: written.request_parameters.unwrap_or(Value::Null),
            response: written.response_elements.unwrap_or(Value::Null),
            arns: arns.take(MAX_ARNS).collect(),
        };
        record.bounded()?;
        Ok(record)
    }

    fn bounded(&self) -> Result<(), BadRecord> {
        let caller = &self.caller;
        let optional = [
            ("awsRegion", &self.region),
            ("recipientAccountId", &self.recipient),
            ("errorCode", &self.error),
            ("accessKeyId", &caller.access_key),
            ("principalId", &caller.session),
            ("arn", &caller.session_in_arn),
            ("accountId", &caller.account),
            ("sessionIssuer", &caller.role),
            ("sourceIdentity", &caller.source_identity),
            ("invokedBy", &caller.invoked_by),
            ("type", &caller.kind),
            ("identityProvider", &caller.provider),
        ];
        let certain = [("eventID", &self.id), ("eventSource", &self.source), ("eventName", &self.name)];
        let arns = self.arns.iter().map(|arn| ("resources", arn));
        let optional = optional.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?)));
        let long = certain.into_iter().chain(optional).chain(arns);
        let mut long = long.filter(|(_, text)| text.len() > MAX_TEXT_BYTES).map(|(name, _)| name);
        match long.next() {
            Some(name) => Err(BadRecord::TooLong(name)),
            None => Ok(()),
        }
    }

    /// Digest of everything of it that is judged: two records of one id must agree in it. Whose trail holds it differs
    /// between those of two accounts, and is not there where EventBridge delivers.
    pub fn digest(&self) -> Digest {
        let Self { id, at, source, name, region, recipient: _, error, caller, request, response, arns } =
            self;
        let judged = (id, at, source, name, region, error, caller, request, response, arns);
        Digest::of(format!("{judged:?}").as_bytes())
    }

    /// Whether AWS refused it for want of permission or of a living credential.
    pub fn denied(&self) -> bool {
        const SAID: [&str; 6] = [
            "AccessDenied",
            "Unauthorized",
            "ExpiredToken",
            "InvalidClientTokenId",
            "NotAuthorized",
            "RequestExpired",
        ];
        self.error.as_deref().is_some_and(|code| SAID.iter().any(|said| code.contains(said)))
    }

    /// A text of the request.
    pub fn asked(&self, name: &str) -> Option<&str> {
        self.request.get(name).and_then(Value::as_str)
    }

    /// Access key id of the session that was answered.
    pub fn new_access_key(&self) -> Option<&str> {
        self.response.get("credentials")?.get("accessKeyId")?.as_str()
    }

    /// Every text and number of the request, at whatever depth; `None` when there are too many to look at.
    pub fn leaves(&self) -> Option<Vec<String>> {
        let (mut found, mut open) = (Vec::new(), vec![&self.request]);
        while let Some(value) = open.pop() {
            match value {
                Value::Object(members) => open.extend(members.values()),
                Value::Array(items) => open.extend(items),
                Value::String(text) => found.push(text.clone()),
                Value::Number(number) => found.push(number.to_string()),
                Value::Null | Value::Bool(_) => {}
            }
            if found.len() > MAX_LEAVES || open.len() > MAX_LEAVES {
                return None;
            }
        }
        Some(found)
    }
}

impl Inside for Glance {
    fn place(&self) -> (Option<&str>, Option<&str>) {
        (self.recipient_account_id.as_deref(), self.aws_region.as_deref())
    }

    fn delivered_to(&mut self, account: String) {
        self.recipient_account_id.get_or_insert(account);
    }
}

impl Inside for Written {
    fn place(&self) -> (Option<&str>, Option<&str>) {
        (self.recipient_account_id.as_deref(), self.aws_region.as_deref())
    }

    fn delivered_to(&mut self, account: String) {
        self.recipient_account_id.get_or_insert(account);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn whole() -> Value {
        json!({
            "eventVersion": "1.11", "eventID": "e1", "eventTime": "2026-11-26T01:00:00Z",
            "eventSource": "ec2.amazonaws.com", "eventName": "RebootInstances",
            "recipientAccountId": "111122223333", "errorCode": "",
            "userIdentity": {
                "type": "AssumedRole", "principalId": "AROAX:execute-1", "accountId": "111122223333",
                "arn": "arn:aws:sts::111122223333:assumed-role/exec/execute-1", "accessKeyId": "ASIAX",
                "sessionContext": {"sessionIssuer": {"arn": "arn:aws:iam::111122223333:role/exec"},
                    "sourceIdentity": "g1", "attributes": {"creationDate": "2026-11-26T00:59:00Z"}}
            },
            "requestParameters": {"instancesSet": {"items": [{"instanceId": "i-1"}]}, "n": 6},
            "responseElements": null, "resources": null, "somethingNew": {"a": [1]}
        })
    }

    fn read(value: &Value) -> Result<Record, BadRecord> {
        Record::read(value.to_string().as_bytes())
    }

    #[test]
    fn a_record_is_read_and_what_is_not_needed_is_ignored() {
        let glance = Glance::read(whole().to_string().as_bytes()).unwrap();
        assert_eq!((glance.access_key(), glance.session()), (Some("ASIAX"), Some("execute-1")));
        assert_eq!(glance.role(), Some("arn:aws:iam::111122223333:role/exec"));
        assert!(!glance.assumes());
        let record = read(&whole()).unwrap();
        assert_eq!(record.caller.session.as_deref(), Some("execute-1"));
        assert_eq!(record.caller.session_in_arn.as_deref(), Some("execute-1"));
        assert_eq!(record.caller.source_identity.as_deref(), Some("g1"));
        assert_eq!(record.error, None);
        let mut leaves = record.leaves().unwrap();
        leaves.sort();
        assert_eq!(leaves, ["6", "i-1"]);
    }

    #[test]
    fn a_record_of_wrong_types_lengths_or_twice_a_member_is_refused() {
        for (pointer, bad) in [
            ("/eventTime", json!("yesterday")),
            ("/eventName", json!(7)),
            ("/userIdentity/accessKeyId", json!(["ASIAX"])),
            ("/eventName", json!("x".repeat(3_000))),
            ("/userIdentity/sessionContext/sourceIdentity", json!("x".repeat(3_000))),
        ] {
            let mut value = whole();
            *value.pointer_mut(pointer).unwrap() = bad;
            assert!(read(&value).is_err(), "{pointer}");
        }
        let twice = whole().to_string().replacen('{', r#"{"eventName":"DescribeInstances","#, 1);
        assert!(matches!(Record::read(twice.as_bytes()), Err(BadRecord::Schema(_))));
    }

    #[test]
    fn a_record_in_an_event_of_eventbridge_is_the_same_record_and_in_anybody_elses_event_none() {
        let around = |kind: &str, account: &str| {
            json!({"version": "0", "detail-type": kind, "source": "aws.ec2", "account": account,
                "region": "eu-central-1", "resources": [], "detail": whole()})
        };
        let call = "AWS API Call via CloudTrail";
        let inside = read(&around(call, "111122223333")).unwrap();
        assert_eq!((inside.digest(), &inside), (read(&whole()).unwrap().digest(), &read(&whole()).unwrap()));
        assert!(Glance::read(around(call, "111122223333").to_string().as_bytes()).is_ok());
        assert_eq!(read(&around(call, "444455556666")), Err(BadRecord::Envelope));
        assert_eq!(read(&around("EC2 Instance State-change Notification", "1")), Err(BadRecord::OtherEvent));
        let other = json!({"detail-type": "Scheduled Event", "detail": {}});
        assert_eq!(read(&other), Err(BadRecord::OtherEvent));
        for source in ["custom.ec2", "", "awsx"] {
            let mut other = around(call, "111122223333");
            other["source"] = json!(source);
            assert_eq!(read(&other), Err(BadRecord::OtherSource), "{source}");
        }
        let mut bad = around(call, "111122223333");
        bad["detail"] = json!({"eventID": 7});
        assert!(matches!(read(&bad), Err(BadRecord::Schema(_))));
        bad["source"] = json!("custom.ec2");
        assert_eq!(read(&bad), Err(BadRecord::OtherSource));
    }

    #[test]
    fn a_refusal_is_told_from_another_failure() {
        let of = |code: &str| {
            let mut value = whole();
            value["errorCode"] = json!(code);
            read(&value).unwrap().denied()
        };
        for code in ["AccessDenied", "Client.UnauthorizedOperation", "AccessDeniedException", "ExpiredToken"]
        {
            assert!(of(code), "{code}");
        }
        for code in ["", "ThrottlingException", "Client.InvalidInstanceID.NotFound"] {
            assert!(!of(code), "{code}");
        }
    }
}
