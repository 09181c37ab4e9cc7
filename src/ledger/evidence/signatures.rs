//! The approvals of a pack: every token and every event of its receipt belong together, and each verifies under the
//! trust file's keys by the code that the broker verifies with.

use std::collections::BTreeSet;

use super::case::{At, Case};
use super::verdict::Check;
use crate::domain::approval::{Answer, Approval};
use crate::domain::digest::Digest;
use crate::domain::event::EventKind;
use crate::domain::id::GrantId;

/// Events of the receipt of a token.
const RECEIPTS: [EventKind; 3] =
    [EventKind::ApprovalReceived, EventKind::GrantDenied, EventKind::ApprovalWithdrawn];

/// Verifies every token; those that verify are kept in the case.
pub(super) fn check(case: &mut Case<'_>) -> Check {
    let mut problems = Vec::new();
    let mut used: BTreeSet<u64> = BTreeSet::new();
    let mut all = Vec::new();
    for (id, tokens) in &case.pack.approvals {
        let mut verified = Vec::new();
        for (place, token) in tokens.iter().enumerate() {
            match receipt(case, *id, token) {
                Ok((at, _)) if !used.insert(at.index) => {
                    problems.push(format!("approvals.{id}.{place}: the token of event {} again", at.index));
                }
                Ok((at, approval)) => verified.push((at.index, approval)),
                Err(why) => problems.push(format!("approvals.{id}.{place}: {why}")),
            }
        }
        verified.sort_by_key(|(index, _)| *index);
        all.push((*id, verified));
    }
    for at in case.events.iter().filter(|at| RECEIPTS.iter().any(|kind| at.event.is(*kind))) {
        if !used.contains(&at.index) {
            problems.push(format!(
                "event {} received the token `{}` of {}, which is missing or does not verify",
                at.index,
                at.event.fact_text("jti").unwrap_or("?"),
                at.event.actor
            ));
        }
    }
    case.approvals = all.into_iter().collect();
    let found = format!("{} signatures, by keys of the trust file, over exactly these documents", used.len());
    Check::or_absent("approvals", problems, used.len(), found, "nobody signed anything in this run")
}

/// A verified token with the event of its receipt.
fn receipt<'c>(case: &'c Case<'_>, id: GrantId, token: &str) -> Result<(&'c At, Approval), String> {
    let signed = case.signable(&id).ok_or("it is for a grant that is not in this pack")?;
    let jti = Approval::peek_id(token).ok_or("it is no approval token")?.to_string();
    let mut receipts = case.about(id, &RECEIPTS).filter(|at| at.event.fact_text("jti") == Some(&jti));
    let (Some(at), None) = (receipts.next(), receipts.next()) else {
        return Err(format!("the log has not exactly one receipt of `{jti}`"));
    };
    let index = at.index;
    let approval = Approval::verify(token, signed.clone(), case.trust.directory(), at.event.at)
        .map_err(|why| format!("{why} (received by event {index})"))?;
    let kind = match approval.claims.decision {
        Answer::Approve => EventKind::ApprovalReceived,
        Answer::Deny => EventKind::GrantDenied,
        Answer::Withdraw => EventKind::ApprovalWithdrawn,
    };
    let event = &at.event;
    for (same, what) in [
        (event.is(kind), "its type"),
        (event.person() == Some(&approval.claims.iss), "its person"),
        (event.fact_digest("token") == Some(Digest::of(token.as_bytes())), "the token's digest"),
        (event.fact_text("key") == Some(&approval.key.to_string()), "its key"),
        (event.fact_text("custody") == Some(approval.custody.name()), "the key's custody"),
        (event.fact_digest("digest") == Some(signed.digest), "the digest of what was signed"),
    ] {
        if !same {
            return Err(format!("event {index} of its receipt says otherwise: {what}"));
        }
    }
    Ok((at, approval))
}

/// The approvals that counted just before `index`: received, and not taken back since.
pub(super) fn counting(case: &Case<'_>, id: GrantId, index: u64) -> Vec<(u64, Approval)> {
    let Some(all) = case.approvals.get(&id) else { return Vec::new() };
    let before: Vec<&(u64, Approval)> = all.iter().filter(|(at, _)| *at < index).collect();
    let taken_back = |at: u64, approval: &Approval| {
        before.iter().any(|(later, other)| {
            *later > at
                && other.claims.decision == Answer::Withdraw
                && other.claims.iss == approval.claims.iss
        })
    };
    before
        .iter()
        .filter(|(at, a)| a.claims.decision == Answer::Approve && !taken_back(*at, a))
        .map(|one| (*one).clone())
        .collect()
}
