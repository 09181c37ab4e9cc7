//! A record of a call by a session of ours: whose it is, and whatever of it contradicts what the ledger says of that lease.

use super::super::expected::Signed;
use super::super::record::Record;
use super::{AROUND_MINT_SECONDS, FORGED, STOP, Trail, cut};

impl Trail {
    /// A call was made by a session of ours.
    pub(super) fn called(&mut self, record: &Record) {
        let caller = &record.caller;
        let session = cut(caller.session.as_deref().unwrap_or("no name"));
        if caller.session != caller.session_in_arn && caller.session_in_arn.is_some() {
            let what = format!("`principalId` names the session `{session}`, `arn` another");
            self.incident("other_session_name", self.caller(record), record, what, FORGED);
        }
        let Some(at) = self.caller(record) else {
            if let Some(at) = self.chained(record) {
                let role = cut(caller.role.as_deref().unwrap_or("none"));
                let what =
                    format!("`{}` in the name of its grant, by a session of `{role}`", cut(&record.name));
                return self.incident("chained_session", Some(at), record, what, STOP);
            }
            let what = format!("`{}` by a session `{session}` that no lease explains", cut(&record.name));
            return self.incident("unrecorded_use", None, record, what, STOP);
        };
        let Some((expected, _)) = self.leases.get(at) else { return };
        let mut wrong: Vec<(&'static str, String, &'static str)> = Vec::new();
        // A service that goes on in the session's name (`invokedBy`) does so with a key of its own.
        let is_key = caller.access_key.as_deref() == expected.access_key() || caller.invoked_by.is_some();
        if !expected.released() {
            let what = format!("`{}` by a session that never left the broker", cut(&record.name));
            wrong.push(("unreleased_session", what, STOP));
        } else if !is_key {
            let key = cut(caller.access_key.as_deref().unwrap_or("none"));
            let what = format!("its session name, with another access key (`{key}`)");
            wrong.push(("other_access_key", what, STOP));
        }
        if caller.session.as_deref() != Some(&expected.session()) {
            wrong.push(("other_session_name", format!("its access key, as session `{session}`"), FORGED));
        }
        let source_is_unsaid = caller.source_identity.is_none() && caller.invoked_by.is_some();
        if caller.source_identity.as_deref() != Some(&expected.source_identity()) && !source_is_unsaid {
            let source = cut(caller.source_identity.as_deref().unwrap_or("none"));
            wrong.push(("other_source_identity", format!("its source identity is `{source}`"), FORGED));
        }
        if caller.account.as_deref() != Some(expected.account()) {
            let account = cut(caller.account.as_deref().unwrap_or("none"));
            wrong.push(("other_account", format!("its account is `{account}`"), FORGED));
        }
        if !caller.role.as_deref().is_some_and(|role| expected.is_role(role)) {
            let role = cut(caller.role.as_deref().unwrap_or("none"));
            wrong.push(("other_role", format!("its role is `{role}`"), FORGED));
        }
        // Of a grant that is not known it is not known whose token it takes.
        let is_known = matches!(expected.signed, Signed::Credential { .. } | Signed::Nobody);
        let provider = caller.provider.as_deref().filter(|_| is_known);
        if let Some(provider) = provider.filter(|provider| !expected.is_provider(provider)) {
            let what = format!("its session was made with a token of `{}`", cut(provider));
            wrong.push(("other_federation", what, FORGED));
        }
        if record.at < expected.opened_at.plus(-AROUND_MINT_SECONDS) {
            let what = format!("`{}` from before its intent", cut(&record.name));
            wrong.push(("before_intent", what, FORGED));
        }
        let began = caller.began.filter(|_| caller.invoked_by.is_none());
        if let Some(began) = began.filter(|at| at.since(expected.opened_at).abs() > AROUND_MINT_SECONDS) {
            wrong.push(("other_session_time", format!("its session began at {began}"), FORGED));
        }
        // What another key did is no use of the lease; what its own key did is one, whatever else the record says.
        if is_key && let Some((expected, seen)) = self.leases.get_mut(at) {
            seen.call(expected, record);
        }
        for (kind, what, todo) in wrong {
            self.incident(kind, Some(at), record, what, todo);
        }
    }
}
