//! The events that a telling becomes.

use super::told::{IncidentFound, LeaseFound, Reconciliation};
use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind};
use crate::domain::lease::{Lease, LeaseState};
use crate::domain::principal::{Actor, PersonSlug};
use crate::domain::time::Timestamp;
use crate::ledger::events::ReadEvent;

/// Whether it ever had a credential that records can be about.
pub(super) fn had_credential(lease: &Lease) -> bool {
    !matches!(lease.state, LeaseState::Intent | LeaseState::Refused)
}

/// The event about one lease; nothing where the ledger says the same already.
pub(super) fn about_lease(
    history: &[ReadEvent],
    lease: &Lease,
    one: &LeaseFound,
    told: &Reconciliation,
    person: &PersonSlug,
    now: Timestamp,
) -> Option<Event> {
    let of = |event: &&ReadEvent| event.is(EventKind::Reconciled) && event.lease == Some(lease.id);
    let same = |event: &ReadEvent| {
        let number = |name| event.fact_number(name).and_then(|number| u64::try_from(number).ok());
        let is = |name: &str| event.facts.get(name) == Some(&serde_json::Value::Bool(true));
        event.fact_text("verdict") == Some(one.verdict.name())
            && number("calls") == Some(one.calls)
            && number("failed") == Some(one.failed)
            && number("denied") == Some(one.denied)
            && number("findings") == Some(one.findings)
            && is("mint_seen") == one.mint_seen
            && is("hours_missing") == one.hours_missing
            && is("reach_covered") == one.reach_covered
            && is("untold") == one.untold
            && is("named_only") == one.named_only
    };
    let before = history.iter().rfind(of);
    let told_before = history
        .iter()
        .filter(of)
        .any(|event| event.fact_digest("report") == Some(told.report) && same(event));
    if told_before || before.is_some_and(same) {
        return None;
    }
    let event = Event::new(EventKind::Reconciled, Actor::Person(person.clone()), now)
        .run(lease.run)
        .lease(lease.id)
        .fact("verdict", one.verdict.name())
        .fact("calls", one.calls)
        .fact("failed", one.failed)
        .fact("denied", one.denied)
        .fact("findings", one.findings)
        .fact("mint_seen", one.mint_seen)
        .fact("hours_missing", one.hours_missing)
        .fact("reach_covered", one.reach_covered)
        .fact("untold", one.untold)
        .fact("named_only", one.named_only)
        .fact("report", told.report.to_string())
        .fact("records", told.records);
    let event = match lease.grant {
        Some(grant) => event.grant(grant),
        None => event,
    };
    let event = told.first.into_iter().fold(event, |event, at| event.fact("first", at.seconds()));
    let event = told.last.into_iter().fold(event, |event, at| event.fact("last", at.seconds()));
    Some(match before.and_then(|event| event.fact_text("verdict")) {
        Some(before) => event.fact("before", before),
        None => event,
    })
}

pub(super) fn incident_event(
    lease: Option<&Lease>,
    one: &IncidentFound,
    told: &Reconciliation,
    person: &PersonSlug,
    key: Digest,
    now: Timestamp,
) -> Event {
    let event = Event::new(EventKind::IncidentFound, Actor::Person(person.clone()), now)
        .fact("kind", one.kind.as_str())
        .fact("event", one.event.as_str())
        .fact("at", one.at.seconds())
        .fact("incident", key.to_string())
        .fact("report", told.report.to_string());
    let event = one.key.iter().fold(event, |event, key| event.fact("key", key.as_str()));
    match lease {
        // Its grant may still be claimed under the same lease: what is told now is not of that credential.
        Some(lease) if !had_credential(lease) => event.fact("of", lease.id.to_string()),
        Some(lease) => {
            let event = event.run(lease.run).lease(lease.id);
            lease.grant.into_iter().fold(event, Event::grant)
        }
        None => event,
    }
}

/// The event that says of how many incidents no more is told.
pub(super) fn counted_event(
    told: &Reconciliation,
    person: &PersonSlug,
    key: Digest,
    now: Timestamp,
) -> Event {
    Event::new(EventKind::IncidentFound, Actor::Person(person.clone()), now)
        .fact("kind", "more_incidents")
        .fact("count", told.more_incidents)
        .fact("event", format!("sha256:{}", told.report))
        .fact("at", told.last.unwrap_or(now).seconds())
        .fact("incident", key.to_string())
        .fact("report", told.report.to_string())
}
