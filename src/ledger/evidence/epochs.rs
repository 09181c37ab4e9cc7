//! The epochs of the store: each ends with a fence, after which grants and playbooks of it are dead. The log's origin
//! names the last one, so that the fences lead back from it to the epoch of every event of the pack.

use super::case::{At, Case};
use super::leases::Use;
use super::playbooks;
use super::verdict::Check;
use crate::domain::event::EventKind;

/// Where one epoch ended and another began.
struct Fence {
    index: u64,
    from: u64,
    to: u64,
}

/// Whether what each use rests on was sealed and claimed in one epoch, its own.
pub(super) fn check(case: &Case<'_>, origin: Option<u64>, uses: &[Use<'_>]) -> Check {
    let (fences, mut problems) = fences(case, origin);
    // Without a checkpoint nobody knows the last epoch; that check says so.
    let last = origin.or_else(|| fences.last().map(|fence| fence.to));
    let in_force =
        |at: &At| fences.iter().find(|fence| fence.index > at.index).map(|fence| fence.from).or(last);
    for one in uses {
        let (index, grant) = (one.intent.index, one.sealed.grant());
        let mut look = |what: &str, epoch: u64, at: &At| {
            if let Some(in_force) = in_force(at).filter(|in_force| *in_force != epoch) {
                problems.push(format!(
                    "event {index}: {what} is of epoch {epoch}, and event {} lies in epoch {in_force}",
                    at.index
                ));
            }
        };
        look("its grant", grant.epoch, one.intent);
        for at in case.about(grant.id, &[EventKind::GrantSealed]) {
            look("its grant", grant.epoch, at);
        }
        if let Some((id, playbook)) = playbooks::named(case, one.sealed) {
            for at in case.about(id, &[EventKind::AdministrationSealed]) {
                look("its playbook", playbook.document().epoch, at);
            }
        }
    }
    let found = match fences.len() {
        0 => "no epoch ended since; everything that a credential rests on is of this one".to_owned(),
        ended => {
            format!("{ended} epochs ended since the pack's first event, none between a grant and its use")
        }
    };
    Check::or_absent(
        "epochs",
        problems,
        uses.len().max(fences.len()),
        found,
        "no credential for work was asked for",
    )
}

/// The fences in order, which form a chain up to the epoch of the log's origin.
fn fences(case: &Case<'_>, origin: Option<u64>) -> (Vec<Fence>, Vec<String>) {
    let (mut fences, mut problems) = (Vec::<Fence>::new(), Vec::new());
    for at in case.events.iter().filter(|at| at.event.is(EventKind::StoreFenced)) {
        let number = |name| at.event.fact_number(name).and_then(|number| u64::try_from(number).ok());
        match (number("old_epoch"), number("epoch")) {
            (Some(from), Some(to)) if (1..to).contains(&from) => {
                if let Some(before) = fences.last().filter(|before| before.to != from) {
                    problems.push(format!(
                        "event {}: it ends epoch {from}, but event {} began epoch {}",
                        at.index, before.index, before.to
                    ));
                }
                fences.push(Fence { index: at.index, from, to });
            }
            _ => problems.push(format!("event {}: it does not say which epoch it ends and begins", at.index)),
        }
    }
    if let Some((last, origin)) = fences.last().zip(origin).filter(|(last, origin)| last.to != *origin) {
        problems
            .push(format!("event {} began epoch {}, but the log is in epoch {origin}", last.index, last.to));
    }
    (fences, problems)
}
