//! A record as it is, or inside an event of EventBridge. What is around it is AWS's word only where its source is.

use serde::Deserialize;

use super::record::BadRecord;

/// How the kinds of event end that hold a record.
const VIA: &str = " via CloudTrail";

/// What EventBridge puts around a record (EventBridge User Guide, "AWS service events delivered via CloudTrail").
#[derive(Debug, Deserialize)]
struct Envelope<T> {
    #[serde(rename = "detail-type")]
    kind: String,
    source: String,
    account: String,
    region: String,
    detail: T,
}

/// What both readings of a record have in common with what EventBridge puts around it.
pub(super) trait Inside: serde::de::DeserializeOwned {
    fn place(&self) -> (Option<&str>, Option<&str>);
    /// The account to which it was delivered, where it does not say that itself.
    fn delivered_to(&mut self, account: String);
}

/// Reads a record, or the one that is inside.
pub(super) fn opened<T: Inside>(bytes: &[u8]) -> Result<T, BadRecord> {
    const MARK: &[u8] = b"\"detail-type\"";
    let error = match serde_json::from_slice::<T>(bytes) {
        Ok(bare) => return Ok(bare),
        Err(error) => error,
    };
    if !bytes.windows(MARK.len()).any(|part| part == MARK) {
        return Err(schema(error));
    }
    // A record that merely speaks of one is told by its own mistake.
    let Ok(mut envelope) = serde_json::from_slice::<Envelope<T>>(bytes) else {
        return Err(match serde_json::from_slice::<Kind>(bytes) {
            Ok(one) if !one.kind.ends_with(VIA) => BadRecord::OtherEvent,
            Ok(one) if !is_aws(&one.source) => BadRecord::OtherSource,
            _ => schema(error),
        });
    };
    if !envelope.kind.ends_with(VIA) {
        return Err(BadRecord::OtherEvent);
    }
    if !is_aws(&envelope.source) {
        return Err(BadRecord::OtherSource);
    }
    let (account, region) = envelope.detail.place();
    let same = |inside: Option<&str>, around: &str| inside.is_none_or(|inside| inside == around);
    match same(account, &envelope.account) && same(region, &envelope.region) {
        true => {
            envelope.detail.delivered_to(envelope.account);
            Ok(envelope.detail)
        }
        false => Err(BadRecord::Envelope),
    }
}

#[derive(Debug, Deserialize)]
struct Kind {
    #[serde(rename = "detail-type")]
    kind: String,
    #[serde(default)]
    source: String,
}

/// SECURITY: whoever may put events on a bus chooses all of one, but no source that begins so.
fn is_aws(source: &str) -> bool {
    source.starts_with("aws.")
}

fn schema(error: serde_json::Error) -> BadRecord {
    // SECURITY: what serde quotes of a hostile record is cut short; whoever shows it makes it visible.
    BadRecord::Schema(error.to_string().chars().take(200).collect())
}
