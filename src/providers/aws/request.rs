//! The AssumeRole request of a credential, checked against the lease it is for.

use super::deny::may_be_minted;
use crate::domain::id::LeaseId;
use crate::domain::lease::OpenedLease;
use crate::domain::plan::{ASSUME_ROLE_SECONDS, AwsCredential, NOT_AFTER_PLACEHOLDER, ProviderKind};
use crate::domain::time::Timestamp;
use crate::domain::web_identity::is_action_tag;

/// The tags a session may carry.
const TAGS: [&str; 4] = ["agent", "grant", "lease", "phase"];
/// Seconds by which the deadline of a prepared text may lie beyond a fresh one: clocks tick in whole seconds.
const DEADLINE_SLACK_SECONDS: i64 = 2;

/// INVARIANT: exact-scope. Whether this opened lease may be minted as exactly this credential.
pub(super) fn check(
    opened: &OpenedLease,
    credential: &AwsCredential,
    aws_now: Timestamp,
) -> Result<(), &'static str> {
    let (lease, prepared) = (opened.lease(), opened.prepared());
    if lease.provider != ProviderKind::Aws || lease.target != credential.role_arn {
        return Err("the lease was opened for another provider or role");
    }
    if lease.sent != prepared.digest() {
        return Err("the text to be sent is not the text the intent recorded");
    }
    check_names(lease.id, lease.phase.name(), credential)?;
    let (before, after) = credential
        .session_policy
        .split_once(NOT_AFTER_PLACEHOLDER)
        .ok_or("the session policy has no place for the deadline")?;
    let deadline = prepared
        .document
        .strip_prefix(before)
        .and_then(|rest| rest.strip_suffix(after))
        .and_then(Timestamp::parse_rfc3339)
        .ok_or("the text to be sent is not the session policy of this credential")?;
    let latest = aws_now.plus(i64::from(credential.work_seconds) + DEADLINE_SLACK_SECONDS);
    if deadline > latest || deadline.has_passed(aws_now) {
        return Err("the deadline in the text to be sent has passed, or lies too far ahead");
    }
    if !may_be_minted(lease.opened_at, aws_now) {
        return Err("the lease was opened too long ago, by AWS's clock; claim again");
    }
    Ok(())
}

// Revocation finds a session by its lease tag: a session without the right one could not be ended early.
fn check_names(lease: LeaseId, phase: &str, credential: &AwsCredential) -> Result<(), &'static str> {
    if credential.duration_seconds != ASSUME_ROLE_SECONDS {
        return Err("a session lasts exactly 900 seconds at AWS");
    }
    if credential.session_name != format!("{phase}-{lease}") {
        return Err("the session name is not `<phase>-<lease id>`");
    }
    let tag = |name: &str| credential.tags.get(name).map(String::as_str);
    if tag("lease") != Some(lease.to_string().as_str()) || tag("phase") != Some(phase) {
        return Err("the tags `lease` and `phase` do not name this lease");
    }
    let own = |name: &str| TAGS.contains(&name) || (credential.web_identity.is_some() && is_action_tag(name));
    if credential.tags.keys().any(|name| !own(name)) {
        return Err("a session carries no other tags than agent, grant, lease and phase");
    }
    Ok(())
}

/// Name of the role (without its path), as the IAM API wants it.
pub(super) fn role_name(role_arn: &str) -> Option<&str> {
    let mut parts = role_arn.splitn(6, ':');
    let is_role = parts.next() == Some("arn")
        && parts.next().is_some_and(|partition| partition.starts_with("aws"))
        && parts.next() == Some("iam")
        && parts.next() == Some("")
        && parts.next().is_some_and(|account| account.len() == 12);
    let path = parts.next()?.strip_prefix("role/")?;
    path.rsplit('/').next().filter(|name| is_role && !name.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::deny::MINT_BEGINS_WITHIN_SECONDS;
    use super::*;
    use crate::domain::digest::Digest;
    use crate::domain::id::RunId;
    use crate::domain::lease::{Lease, LeaseState, Prepared, Revocation};
    use crate::domain::phase::Phase;
    use crate::domain::plan::Revocability;
    use crate::domain::sent::session_policy_text;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn credential(lease: LeaseId) -> AwsCredential {
        let tags = [("lease", lease.to_string()), ("phase", "execute".into()), ("agent", "sre".into())];
        AwsCredential {
            role_arn: "arn:aws:iam::123456789012:role/execute".into(),
            account: "123456789012".into(),
            region: "eu-central-1".into(),
            session_name: format!("execute-{lease}"),
            source_identity: "grant".into(),
            session_policy: r#"{"until":"{{not_after}}"}"#.into(),
            tags: tags.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<BTreeMap<_, _>>(),
            web_identity: None,
            external_id: None,
            duration_seconds: 900,
            work_seconds: 120,
            revocability: Revocability::Seconds,
        }
    }

    fn opened(credential: &AwsCredential, lease: LeaseId, document: String) -> OpenedLease {
        let prepared = Prepared { document, not_after: NOW.plus(120), hard_end: NOW.plus(930) };
        let lease = Lease {
            id: lease,
            run: RunId::generate(NOW),
            agent: "sre".parse().unwrap(),
            proposing_agent: None,
            phase: Phase::Execute,
            environment: "production".parse().unwrap(),
            provider: ProviderKind::Aws,
            revocability: Revocability::Seconds,
            grant: None,
            action: None,
            key: serde_json::from_value(serde_json::json!(Digest::of(b"key"))).unwrap(),
            target: credential.role_arn.clone(),
            state: LeaseState::Intent,
            opened_at: NOW,
            not_after: prepared.not_after,
            hard_end: prepared.hard_end,
            sent: prepared.digest(),
            reference: None,
            released_at: None,
            ended: None,
            revocation: Revocation::NotNeeded,
        };
        OpenedLease::committed(lease, prepared)
    }

    fn verdict(change: impl FnOnce(&mut AwsCredential), until: Timestamp) -> Result<(), &'static str> {
        let lease = LeaseId::generate(NOW);
        let mut credential = credential(lease);
        let document = session_policy_text(&credential, until).unwrap();
        let opened = opened(&credential, lease, document);
        change(&mut credential);
        check(&opened, &credential, NOW)
    }

    #[test]
    fn the_credential_of_the_lease_passes_and_any_other_is_refused() {
        let until = NOW.plus(120);
        assert_eq!(verdict(|_| {}, until), Ok(()));
        let other = LeaseId::generate(NOW);
        let changes: [fn(&mut AwsCredential, LeaseId); 7] = [
            |c, _| c.role_arn.push('x'),
            |c, _| c.duration_seconds = 3600,
            |c, other| c.session_name = format!("execute-{other}"),
            |c, other| drop(c.tags.insert("lease".into(), other.to_string())),
            |c, _| drop(c.tags.insert("phase".into(), "observe".into())),
            |c, _| drop(c.tags.insert("admin".into(), "yes".into())),
            |c, _| c.session_policy = r#"{"since":"{{not_after}}"}"#.into(),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            assert!(verdict(|c| change(c, other), until).is_err(), "change {index}");
        }
    }

    #[test]
    fn a_deadline_passed_or_beyond_the_work_time_is_refused() {
        assert_eq!(verdict(|_| {}, NOW.plus(122)), Ok(()));
        assert!(verdict(|_| {}, NOW.plus(123)).is_err());
        assert!(verdict(|_| {}, NOW).is_err());
    }

    #[test]
    fn a_lease_is_minted_soon_after_it_was_opened_or_not_at_all() {
        let id = LeaseId::generate(NOW);
        let credential = AwsCredential { work_seconds: 900, ..credential(id) };
        let opened = opened(&credential, id, session_policy_text(&credential, NOW.plus(600)).unwrap());
        let late = MINT_BEGINS_WITHIN_SECONDS;
        for (by, allowed) in [(0, true), (late, true), (late + 1, false), (180, false), (-late - 1, false)] {
            assert_eq!(check(&opened, &credential, NOW.plus(by)).is_ok(), allowed, "{by}");
        }
    }

    #[test]
    fn a_policy_without_its_one_placeholder_gets_no_deadline() {
        let mut credential = credential(LeaseId::generate(NOW));
        assert!(session_policy_text(&credential, NOW).unwrap().contains("2023-11-14T22:13:20Z"));
        for bad in ["{}", "{{not_after}}{{not_after}}"] {
            credential.session_policy = bad.into();
            assert!(session_policy_text(&credential, NOW).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_role_name_is_read_without_its_path() {
        assert_eq!(role_name("arn:aws:iam::123456789012:role/broker/x/execute"), Some("execute"));
        assert_eq!(role_name("arn:aws-cn:iam::123456789012:role/execute"), Some("execute"));
        for bad in [
            "execute",
            "arn:aws:iam::123456789012:user/execute",
            "arn:aws:iam::1:role/x",
            "arn:aws:iam::123456789012:role/",
        ] {
            assert_eq!(role_name(bad), None, "{bad}");
        }
    }
}
