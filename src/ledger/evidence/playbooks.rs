//! What autonomous grants rest on: a playbook that people signed, and that the grant lies inside.

use super::case::{At, Case};
use crate::domain::administration::SealedAdministration;
use crate::domain::approval::Approval;
use crate::domain::authority::{CoveredGrant, Quorum, SignedPlaybook};
use crate::domain::event::EventKind;
use crate::domain::grant::SealedGrant;
use crate::domain::id::GrantId;

/// The playbook that a grant names, where it names one that is in the pack.
pub(super) fn named<'c>(
    case: &'c Case<'_>,
    sealed: &SealedGrant,
) -> Option<(GrantId, &'c SealedAdministration)> {
    let digest = sealed.grant().decision.playbook?;
    case.administrations.iter().find(|(_, one)| one.digest() == digest).map(|(id, one)| (*id, one))
}

/// Whether the grant that `intent` claims lies inside a playbook that was signed before, by these approvals of it;
/// otherwise why not.
pub(super) fn covers(
    case: &Case<'_>,
    sealed: &SealedGrant,
    intent: &At,
    approvals: Vec<Approval>,
) -> Result<(), String> {
    let (id, administration) =
        named(case, sealed).ok_or("the playbook that the grant names is not in this pack")?;
    let playbook = administration.playbook().ok_or("what the grant names is no playbook")?;
    let signed_at = case.about(id, &[EventKind::PlaybookSigned]).next();
    match signed_at {
        Some(at) if at.index < intent.index => {}
        _ => return Err("the playbook came in force after the intent, or never".into()),
    }
    if playbook.not_after.has_passed(intent.event.at) {
        return Err(format!("the playbook covers nothing from {} on", playbook.not_after));
    }
    let document = administration.document();
    let rule = &document.decision.rule;
    let directory = case.trust.directory();
    let quorum = Quorum { rule, authors: &document.decision.authors, then: directory, now: directory };
    let signed = match SignedPlaybook::check(administration.clone(), approvals, &quorum) {
        Some(Ok(signed)) => signed,
        _ => return Err(format!("the playbook's signatures do not satisfy its rule, {rule}")),
    };
    CoveredGrant::check(sealed.clone(), signed).map(drop).map_err(|why| format!("the playbook: {why}"))
}
