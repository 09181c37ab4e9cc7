//! Records that cannot be read: counted, and held against the lease whose session or access key they seem to name.

use serde_json::Value;

use super::super::record::BadRecord;
use super::{MAX_REASONS, Trail};

impl Trail {
    /// A record could not be read, or only these bytes of it came.
    pub(super) fn unread(&mut self, why: String, bytes: &[u8]) {
        self.unreadable(why);
        let Some(at) = self.named_in(bytes) else { return };
        if let Some((_, seen)) = self.leases.get_mut(at) {
            seen.unreadable = seen.unreadable.saturating_add(1);
        }
    }

    /// A whole record could not be read.
    pub(super) fn bad(&mut self, error: &BadRecord, bytes: &[u8]) {
        match error {
            // Anybody may have written it, about anybody.
            BadRecord::OtherSource | BadRecord::OtherEvent => self.unreadable(error.to_string()),
            _ => self.unread(error.to_string(), bytes),
        }
    }

    fn unreadable(&mut self, why: String) {
        self.report.unreadable = self.report.unreadable.saturating_add(1);
        if self.report.unreadable_because.len() < MAX_REASONS {
            self.report.unreadable_because.push(format!("record {}: {why}", self.report.records));
        }
    }

    /// The lease that a record seems to be of.
    fn named_in(&self, bytes: &[u8]) -> Option<usize> {
        match serde_json::from_slice::<Value>(bytes) {
            Ok(record) => {
                let record = record.get("detail").unwrap_or(&record);
                // What a request says beside is chosen by whoever makes it.
                let places =
                    ["/userIdentity", "/responseElements/credentials", "/requestParameters/roleSessionName"];
                places.iter().filter_map(|place| record.pointer(place)).find_map(|value| self.named_by(value))
            }
            Err(_) => {
                let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(byte);
                let parts = bytes.split(|byte| !is_part(byte)).filter(|part| !part.is_empty());
                parts.filter_map(|part| std::str::from_utf8(part).ok()).find_map(|text| self.known_as(text))
            }
        }
    }

    fn named_by(&self, value: &Value) -> Option<usize> {
        match value {
            Value::String(text) => self.known_as(text),
            Value::Array(items) => items.iter().find_map(|item| self.named_by(item)),
            Value::Object(members) => members.values().find_map(|member| self.named_by(member)),
            _ => None,
        }
    }

    /// The lease of an access key id, of a session by its name, or of an ARN or id that ends with that name.
    fn known_as(&self, text: &str) -> Option<usize> {
        let name = text.rsplit([':', '/']).next().unwrap_or(text);
        let found = self.by_key.get(text).or_else(|| self.by_session.get(name));
        found.or_else(|| self.by_grant.get(text)).copied()
    }
}
