//! What autonomous grants rest on: a playbook that people signed, that the grant lies inside, and whose template gives
//! exactly its credential.

use super::case::{At, Case};
use super::leases::{ENDINGS, Use};
use crate::catalog;
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
    if document.epoch != sealed.grant().epoch {
        return Err(format!("the playbook is of epoch {}, and died with it", document.epoch));
    }
    // SECURITY: owners of the agents that signers were told apart from, and no others, could not sign.
    if !playbook.agents.is_subset(&document.agents) {
        return Err("the playbook is for agents whose owners could have signed it".into());
    }
    let over = [EventKind::PlaybookSuspended].into_iter().chain(ENDINGS).collect::<Vec<_>>();
    if let Some(over) = case.about(id, &over).find(|at| at.index < intent.index) {
        return Err(format!("event {} had ended the playbook before: {}", over.index, over.event.kind));
    }
    let rule = &document.decision.rule;
    let directory = case.trust.directory();
    let quorum = Quorum { rule, authors: &document.decision.authors, then: directory, now: directory };
    let signed = match SignedPlaybook::check(administration.clone(), approvals, &quorum) {
        Some(Ok(signed)) => signed,
        _ => return Err(format!("the playbook's signatures do not satisfy its rule, {rule}")),
    };
    CoveredGrant::check(sealed.clone(), signed).map_err(|why| format!("the playbook: {why}"))?;
    catalog::as_signed(sealed.grant(), playbook).map_err(|why| format!("the playbook: {why}"))
}

/// Whether the uses of its playbook that are in this pack, up to this one, are as many as people signed; otherwise how not.
pub(super) fn not_used_up(case: &Case<'_>, uses: &[Use<'_>], one: &Use<'_>) -> Result<(), String> {
    let playbook = named(case, one.sealed).and_then(|(_, administration)| administration.playbook());
    let playbook = playbook.ok_or("the playbook that the grant names is not in this pack")?;
    let (digest, now) = (one.sealed.grant().decision.playbook, one.intent.event.at);
    let refused = |other: &Use<'_>| {
        let mut all = case.of_lease(other.sealed.grant().time.lease, EventKind::LeaseRefused);
        all.any(|at| at.index > other.intent.index)
    };
    let counts = |other: &&Use<'_>| {
        let grant = other.sealed.grant();
        other.intent.index <= one.intent.index && grant.decision.playbook == digest && !refused(other)
    };
    let since = now.plus(-i64::from(playbook.budget.seconds));
    let all: Vec<_> = uses.iter().filter(counts).map(|other| other.intent.event.at).collect();
    let recent = all.iter().filter(|at| **at > since).count();
    let within = |count: usize, limit: u32| u32::try_from(count).is_ok_and(|count| count <= limit);
    match within(all.len(), playbook.max_uses) && within(recent, playbook.budget.uses) {
        true => Ok(()),
        false => Err(format!("the playbook was used {} times, {recent} of them lately", all.len())),
    }
}
