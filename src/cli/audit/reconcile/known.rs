//! What the ledger says of AWS leases, read as far as it goes and on from there, with the grants that people signed.

use std::collections::BTreeSet;

use super::reader::Progress;
use crate::cli::audit::filters::{Filters, Walk};
use crate::cli::exit::Exit;
use crate::cli::person::{PersonClient, wire::Document};
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
    /// Leases of which something is new that nobody was given yet.
    changed: BTreeSet<LeaseId>,
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
        let (ledger, changed, signed) = (Ledger::default(), BTreeSet::new(), BTreeSet::new());
        Ok(Self { ledger, next: 0, scope, changed, signed, kept_from })
    }

    /// What is judged.
    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Where the ledger was pruned: from when on it is known.
    pub(super) fn kept_from(&self) -> Option<Timestamp> {
        self.kept_from
    }

    /// Reads on; the leases of which something is new. Where it fails, asking again goes on from there.
    pub(super) async fn refresh(&mut self, client: &PersonClient) -> anyhow::Result<Vec<Expected>> {
        let kinds = KINDS.iter().map(|kind| kind.name().to_owned()).collect();
        let query = Filters { kinds, ..Filters::default() }.query(client.now());
        let mut walk = Walk::new(client, query, self.next);
        while let Some(page) = walk.page().await? {
            for entry in page {
                let event = entry.read()?;
                self.ledger.follow(&event).map_err(|why| Exit::Refused.because(why.to_string()))?;
                self.changed.extend(event.lease);
            }
            self.next = walk.next_index();
        }
        let changed = self.changed.iter();
        let mut leases: Vec<Expected> =
            changed.filter_map(|lease| self.ledger.lease(lease)).cloned().collect();
        self.sign(client, &mut leases).await?;
        self.changed.clear();
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
        let (mut progress, mut done) = (Progress::new(), BTreeSet::new());
        for one in leases.iter_mut().filter(|one| is_judged(one)) {
            let Some(grant) = one.grant else { continue };
            let got = client.get_bytes(&format!("/v1/grants/{grant}/document")).await;
            sign_by(one, got)?;
            done.insert(one.lease);
            progress.say(|| format!("fetched {} of {of} grants", done.len()));
        }
        self.signed.extend(done);
        Ok(())
    }
}

/// Takes what the broker answers of a lease's grant. That there is no such grant is final, and told of the lease; whatever
/// else goes wrong is asked again.
fn sign_by(one: &mut Expected, got: anyhow::Result<Option<Vec<u8>>>) -> anyhow::Result<()> {
    match got? {
        Some(bytes) => {
            let wrong =
                |why: String| Exit::Refused.because(format!("the broker's answer is not understood: {why}"));
            let document: Document =
                serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
            one.sign(&decode(&document.document).unwrap_or_default());
        }
        None => one.signed = Signed::Unproven("the broker knows no such grant".into()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::digest::Digest;
    use crate::domain::id::RunId;

    #[test]
    fn only_a_grant_that_is_not_there_is_final_and_every_other_failure_is_asked_again() {
        let now = Timestamp::from_seconds(1_795_000_000);
        let unread = Expected {
            lease: LeaseId::generate(now),
            run: RunId::generate(now),
            grant: None,
            phase: "execute".into(),
            agent: "fixer".into(),
            role: "arn:aws:iam::111122223333:role/execute".into(),
            sent: Digest::of(b"policy"),
            grant_digest: None,
            opened_at: now,
            not_after: now,
            minted: Minted::Unknown,
            ended: None,
            effective_by: None,
            signed: Signed::Unread,
        };
        for failure in [Exit::Unreachable.because("away"), Exit::Refused.because("503: busy")] {
            let mut one = unread.clone();
            assert!(sign_by(&mut one, Err(failure)).is_err() && matches!(one.signed, Signed::Unread));
        }
        let mut one = unread.clone();
        assert!(sign_by(&mut one, Ok(Some(b"<html>".to_vec()))).is_err());
        assert!(matches!(one.signed, Signed::Unread));
        sign_by(&mut one, Ok(None)).unwrap();
        assert!(matches!(one.signed, Signed::Unproven(_)));
    }
}
