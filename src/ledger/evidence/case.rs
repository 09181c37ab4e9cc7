//! A pack read as far as it goes: events, documents and tokens, ready to be compared with each other.

use std::collections::BTreeMap;

use super::Pack;
use super::verdict::Check;
use crate::domain::administration::SealedAdministration;
use crate::domain::approval::{Approval, Signable};
use crate::domain::event::EventKind;
use crate::domain::grant::SealedGrant;
use crate::domain::id::{GrantId, LeaseId};
use crate::ledger::events::ReadEvent;
use crate::ledger::trust::Trust;

/// An event with its place.
#[derive(Debug)]
pub(super) struct At {
    pub(super) index: u64,
    pub(super) event: ReadEvent,
}

/// Whether events of a kind decide what a grant or a lease is worth.
fn weighs(kind: &str) -> bool {
    ["grant.", "approval.", "lease.", "playbook."].iter().any(|family| kind.starts_with(family))
}

/// What is compared.
pub(super) struct Case<'a> {
    pub(super) pack: &'a Pack,
    pub(super) trust: &'a Trust,
    /// Events that read, ascending.
    pub(super) events: Vec<At>,
    pub(super) grants: BTreeMap<GrantId, SealedGrant>,
    pub(super) administrations: BTreeMap<GrantId, SealedAdministration>,
    /// Tokens that verified, each with the place of its event.
    pub(super) approvals: BTreeMap<GrantId, Vec<(u64, Approval)>>,
}

impl<'a> Case<'a> {
    /// Reads events and documents; what does not read is in the checks.
    pub(super) fn read(pack: &'a Pack, trust: &'a Trust) -> (Self, [Check; 2]) {
        let (mut events, mut bad_events) = (Vec::new(), Vec::new());
        for entry in &pack.entries {
            match ReadEvent::parse(&entry.event.0) {
                Ok(event) => {
                    // What it does to a grant or a lease nobody here can tell; what else it says is not checked anyway.
                    if event.kind.known().is_none() && weighs(event.kind.name()) {
                        bad_events
                            .push(format!("entry {}: this version knows no `{}`", entry.index, event.kind));
                    }
                    events.push(At { index: entry.index, event });
                }
                Err(why) => bad_events.push(format!("entry {} is no event: {why}", entry.index)),
            }
        }
        let mut bad_grants = Vec::new();
        let mut grants = BTreeMap::new();
        for (id, bytes) in &pack.grants {
            match SealedGrant::parse(&bytes.0) {
                Ok(sealed) if sealed.grant().id == *id => drop(grants.insert(*id, sealed)),
                Ok(_) => bad_grants.push(format!("grants.{id}: the bytes are of another grant")),
                Err(why) => bad_grants.push(format!("grants.{id}: {why}")),
            }
        }
        let mut administrations = BTreeMap::new();
        for (id, bytes) in &pack.administrations {
            match SealedAdministration::parse(&bytes.0) {
                Ok(sealed) if sealed.document().id == *id => drop(administrations.insert(*id, sealed)),
                Ok(_) => bad_grants.push(format!("administrations.{id}: the bytes are of another grant")),
                Err(why) => bad_grants.push(format!("administrations.{id}: {why}")),
            }
        }
        let case = Self { pack, trust, events, grants, administrations, approvals: BTreeMap::new() };
        let found = format!("all {} read", case.events.len());
        let read = Check::of("events", bad_events, found);
        bad_grants.extend(case.sealed());
        let all = case.grants.len() + case.administrations.len();
        let there = format!("{all} documents, each with the digest that the log has of it");
        let absent = "the run asked for nothing that people sign";
        let grants = Check::or_absent("grants", bad_grants, all, there, absent);
        (case, [read, grants])
    }

    /// The event at a place.
    pub(super) fn at(&self, index: u64) -> Option<&At> {
        let place = self.events.binary_search_by_key(&index, |at| at.index).ok()?;
        self.events.get(place)
    }

    /// What is signed, of either type.
    pub(super) fn signable(&self, id: &GrantId) -> Option<Signable<'_>> {
        let grant = self.grants.get(id).map(Signable::from);
        grant.or_else(|| self.administrations.get(id).map(Signable::from))
    }

    /// Events of these kinds about a grant.
    pub(super) fn about(&self, grant: GrantId, kinds: &[EventKind]) -> impl Iterator<Item = &At> {
        self.events
            .iter()
            .filter(move |at| at.event.grant == Some(grant) && kinds.iter().any(|kind| at.event.is(*kind)))
    }

    /// Events of this kind about a lease.
    pub(super) fn of_lease(&self, lease: LeaseId, kind: EventKind) -> impl Iterator<Item = &At> {
        self.events.iter().filter(move |at| at.event.lease == Some(lease) && at.event.is(kind))
    }

    /// Whether a document is the one that was sealed, and every sealed one is here.
    fn sealed(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let kinds = [EventKind::GrantSealed, EventKind::GrantSuggested, EventKind::AdministrationSealed];
        let mut compare = |member: String, id: GrantId, issuer: &str, digest: String| {
            if issuer != self.trust.document().issuer || issuer != self.pack.issuer {
                problems.push(format!("{member}: it was sealed by another broker, `{issuer}`"));
            }
            let events: Vec<&At> = self.about(id, &kinds).collect();
            match events.as_slice() {
                [one] if one.event.fact_text("digest") == Some(digest.as_str()) => {}
                [one] => problems.push(format!(
                    "{member}: its bytes have the digest {digest}, but event {} sealed another document",
                    one.index
                )),
                found => problems.push(format!(
                    "{member}: the pack has {} events that seal it; there is exactly one",
                    found.len()
                )),
            }
        };
        for (id, sealed) in &self.grants {
            compare(format!("grants.{id}"), *id, &sealed.grant().issuer, sealed.digest().to_string());
        }
        for (id, sealed) in &self.administrations {
            let issuer = &sealed.document().issuer;
            compare(format!("administrations.{id}"), *id, issuer, sealed.digest().to_string());
        }
        let opened = self.events.iter().find(|at| at.event.is(EventKind::RunOpened));
        for (id, sealed) in &self.grants {
            let grant = sealed.grant();
            if grant.who.run != self.pack.run {
                problems.push(format!("grants.{id}: it belongs to run {}", grant.who.run));
            }
            for (name, value) in
                [("requester", grant.who.requester.as_str()), ("environment", grant.environment.as_str())]
            {
                let of_run = opened.and_then(|at| at.event.fact_text(name));
                if of_run != Some(value) {
                    let of_run = of_run.unwrap_or("nothing");
                    problems.push(format!("grants.{id}: its {name} is `{value}`, but the run's `{of_run}`"));
                }
            }
        }
        for at in self.events.iter().filter(|at| kinds.iter().any(|kind| at.event.is(*kind))) {
            let there = at.event.grant.is_some_and(|id| self.signable(&id).is_some());
            if !there {
                problems.push(format!("event {} seals a grant whose bytes are missing", at.index));
            }
        }
        problems
    }
}
