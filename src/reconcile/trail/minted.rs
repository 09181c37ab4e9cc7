//! A record of a session that was asked for: whether an intent explains it, and whether it is the one that was signed.

use super::super::allowed::Allowed;
use super::super::expected::Minted;
use super::super::mint::{self, Policy};
use super::super::record::Record;
use super::{STOP, Trail, cut};

impl Trail {
    /// A session was asked for, on a role of ours or in the name of a lease.
    pub(super) fn minted(&mut self, record: &Record) {
        let by_name = record.asked("roleSessionName").and_then(|name| self.by_session.get(name)).copied();
        let by_key = record.new_access_key().and_then(|key| self.by_key.get(key)).copied();
        let Some((expected, seen)) = by_key.or(by_name).and_then(|at| self.leases.get_mut(at)) else {
            let session = cut(record.asked("roleSessionName").unwrap_or("no name"));
            let what = match &record.error {
                None => {
                    format!("`{}` of a session `{session}` of which the ledger knows no intent", record.name)
                }
                Some(code) => format!("a session `{session}` without an intent was tried ({})", cut(code)),
            };
            return self.incident("unrecorded_session", None, record, what, STOP);
        };
        if record.error.is_some() {
            return;
        }
        let at = by_key.or(by_name);
        let unrecorded = match (&expected.minted, record.new_access_key()) {
            (Minted::Key { id, .. }, Some(key)) if id != key => {
                Some("a second session in the name of a lease that has one")
            }
            (Minted::Unknown, Some(key)) if seen.mint.as_deref().is_some_and(|first| first != key) => {
                Some("a second session in the name of a lease of which one may exist")
            }
            (Minted::Refused, _) => Some("a session in the name of a lease that was refused"),
            _ => None,
        };
        if let Some(what) = unrecorded {
            return self.incident("unrecorded_session", at, record, what.to_owned(), STOP);
        }
        seen.was_in(record);
        seen.mint = Some(cut(record.new_access_key().unwrap_or_default()));
        match mint::policy(expected, record) {
            Policy::Sent => seen.allowed = record.asked("policy").and_then(Allowed::read),
            Policy::Unsaid => seen.policy_unsaid = true,
            Policy::Other => {}
        }
        let differences = mint::differences(expected, record);
        if !differences.is_empty() {
            let what = format!("the session is not the one that was signed: {}", differences.join("; "));
            self.incident("other_request", at, record, what, STOP);
        }
    }
}
