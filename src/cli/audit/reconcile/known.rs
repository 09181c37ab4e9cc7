//! What the ledger says of AWS leases, read as far as it goes and on from there, with the grants that people signed.

use std::collections::BTreeSet;

use super::reader::Progress;
use crate::cli::audit::filters::{Filters, Walk};
use crate::cli::exit::Exit;
use crate::cli::person::{PersonClient, read, wire::Document};
use crate::domain::digest::decode;
use crate::domain::event::EventKind as E;
use crate::domain::id::LeaseId;
use crate::domain::time::Timestamp;
use crate::reconcile::{Expected, HARD_END_SECONDS, Ledger, Minted, Scope, Signed};

/// Kinds of event that say what a lease is and was.
const KINDS: [E; 7] = [
    E::LeaseIntent,
    E::LeaseRefused,
    E::LeaseUnknown,
    E::LeaseMinted,
    E::LeaseReleased,
    E::LeaseEnded,
    E::RevocationDone,
];

/// The ledger, as far as it was read.
pub(super) struct Known {
    ledger: Ledger,
    next: u64,
    scope: Scope,
    /// Leases whose grants were read.
    signed: BTreeSet<LeaseId>,
    kept_from: Option<Timestamp>,
}

impl Known {
    /// Finds where the ledger begins.
    pub(super) async fn begin(client: &PersonClient, scope: Scope) -> anyhow::Result<Self> {
        let first =
            Walk::new(client, String::new(), 0).page().await?.and_then(|page| page.into_iter().next());
        let kept_from = match first {
            // A session whose intent was pruned lived for so long at most.
            Some(first) if first.index > 0 => Some(first.read()?.at.plus(HARD_END_SECONDS)),
            _ => None,
        };
        let (since, records_from) = (scope.since.max(kept_from), scope.records_from.max(kept_from));
        let scope = Scope { since, records_from, ..scope };
        Ok(Self { ledger: Ledger::default(), next: 0, scope, signed: BTreeSet::new(), kept_from })
    }

    /// What is judged.
    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Where the ledger was pruned: from when on it is known.
    pub(super) fn kept_from(&self) -> Option<Timestamp> {
        self.kept_from
    }

    /// Reads on; the leases of which something is new.
    pub(super) async fn refresh(&mut self, client: &PersonClient) -> anyhow::Result<Vec<Expected>> {
        let kinds = KINDS.iter().map(|kind| kind.name().to_owned()).collect();
        let query = Filters { kinds, ..Filters::default() }.query(client.now());
        let mut walk = Walk::new(client, query, self.next);
        let mut changed = BTreeSet::new();
        while let Some(page) = walk.page().await? {
            for entry in page {
                let event = entry.read()?;
                self.ledger.follow(&event).map_err(|why| Exit::Refused.because(why.to_string()))?;
                changed.extend(event.lease);
            }
        }
        self.next = walk.next_index();
        let mut leases: Vec<Expected> =
            changed.iter().filter_map(|lease| self.ledger.lease(lease)).cloned().collect();
        self.sign(client, &mut leases).await?;
        Ok(leases)
    }

    /// Fetches the grants of the leases that are judged.
    async fn sign(&mut self, client: &PersonClient, leases: &mut [Expected]) -> anyhow::Result<()> {
        let (scope, signed) = (&self.scope, &self.signed);
        let is_judged = |one: &Expected| {
            matches!(one.signed, Signed::Unread)
                && one.minted != Minted::Refused
                && scope.run.is_none_or(|run| run == one.run)
                && scope.since.is_none_or(|since| one.hard_end() >= since)
                && !signed.contains(&one.lease)
        };
        let of = leases.iter().filter(|one| is_judged(one)).count();
        let (mut progress, mut done) = (Progress::new(), Vec::new());
        for one in leases.iter_mut().filter(|one| is_judged(one)) {
            let Some(grant) = one.grant else { continue };
            match client.get(&format!("/v1/grants/{grant}/document")).await {
                Ok(answer) => {
                    let document: Document = read(&answer)?;
                    one.sign(&decode(&document.document).unwrap_or_default());
                }
                Err(error) if Exit::of(&error) == Exit::Unreachable => return Err(error),
                // Its lease is told as one whose approval is not known.
                Err(error) => one.signed = Signed::Unproven(format!("its grant is not to be had: {error:#}")),
            }
            done.push(one.lease);
            progress.say(|| format!("fetched {} of {of} grants", done.len()));
        }
        self.signed.extend(done);
        Ok(())
    }
}
