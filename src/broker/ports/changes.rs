//! Changes: each names what it read, and loses to whatever changed it meanwhile.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::filters::OpenCount;
use super::records::AdministrationState;
use super::store::StoreError;
use crate::domain::approval::Approval;
use crate::domain::digest::Digest;
use crate::domain::event::Event;
use crate::domain::freeze::FreezeKey;
use crate::domain::grant::{GrantState, SealedGrant};
use crate::domain::id::{GrantId, LeaseId, ReviewId};
use crate::domain::lease::{Ended, LeaseState, Revocation};
use crate::domain::phase::RunPhase;
use crate::domain::principal::PersonSlug;
use crate::domain::proposal::Evidence;
use crate::domain::review::ReviewState;
use crate::domain::time::Timestamp;

/// A change of a grant that loses to any other change made meanwhile.
#[derive(Debug, Clone)]
pub struct GrantChange {
    /// Which grant.
    pub id: GrantId,
    /// The revision it was read at.
    pub revision: u64,
    /// Where it goes (may be where it stands).
    pub state: GrantState,
    /// Until when it can be claimed.
    pub claim_until: Option<Timestamp>,
    /// A token received with this change.
    pub approval: Option<Approval>,
    /// What the ledger records.
    pub events: Vec<Event>,
}

/// A grant that is stored.
#[derive(Debug, Clone)]
pub struct Sealing {
    /// The document.
    pub sealed: SealedGrant,
    /// The agent's words.
    pub evidence: Evidence,
    /// Pending, suggested, or approved under a playbook (its own, or that of the grant whose inverse it is).
    pub state: GrantState,
    /// Until when it can be claimed, when approved.
    pub claim_until: Option<Timestamp>,
    /// None of these may be frozen.
    pub freezes: Vec<FreezeKey>,
}

/// Why a grant was not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealRefused {
    /// The run is closed.
    #[error("the run is in `{0}`")]
    RunMoved(RunPhase),
    /// The run is not there.
    #[error("no such run")]
    Missing,
    /// As many grants are open as may be: the counts.
    #[error("{} proposals of this agent are open, {} in all", .0.own, .0.all)]
    TooManyOpen(OpenCount),
    /// The claim key proved something already, in whatever run, or another open grant names it.
    #[error("`claim_key` was used before; make a fresh key for the claim")]
    KeyReused,
    /// It is frozen.
    #[error("`{0}` is frozen")]
    Frozen(FreezeKey),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One step of one lease; refused when the lease is not where the caller read it.
#[derive(Debug, Clone)]
pub struct LeaseChange {
    /// Which lease.
    pub id: LeaseId,
    /// Where it must stand.
    pub from: LeaseState,
    /// The step.
    pub step: LeaseStep,
    /// What the ledger records.
    pub events: Vec<Event>,
}

/// The steps.
#[derive(Debug, Clone)]
pub enum LeaseStep {
    /// Certainly nothing was minted: the grant is approved again, the run decides again, reservations are given back
    /// and the review is void.
    Refused,
    /// Nobody knows.
    Unknown,
    /// The provider answered with its own name for the credential.
    Minted {
        /// Access key id or `jti`; never a secret.
        reference: String,
    },
    /// The credential may leave, from the time of the last event on; without an event nothing is released.
    Released,
    /// It is over.
    Ended {
        /// When and why.
        ended: Ended,
        /// Whether the provider must be told.
        revocation: Revocation,
    },
    /// The early end at the provider came further; the state stays.
    Revocation(Revocation),
}

/// A change of an administration grant that loses to any other change made meanwhile. A change to `Approved` lifts the
/// freeze, or makes the playbook active, in the same transaction; it is refused as moved when the same
/// key was frozen, or frozen again, after the sealing, or a new epoch has begun.
#[derive(Debug, Clone)]
pub struct AdministrationChange {
    /// Which grant.
    pub id: GrantId,
    /// The revision it was read at.
    pub revision: u64,
    /// Where it goes (may be where it stands).
    pub state: AdministrationState,
    /// A token received with this change.
    pub approval: Option<Approval>,
    /// What the ledger records.
    pub events: Vec<Event>,
}

/// What a person found in a review. A rejection suspends the playbook in the same transaction.
#[derive(Debug, Clone)]
pub struct ReviewDecision {
    /// Which.
    pub id: ReviewId,
    /// Accepted or rejected.
    pub state: ReviewState,
    /// Who.
    pub by: PersonSlug,
    /// When.
    pub at: Timestamp,
    /// What the ledger records.
    pub events: Vec<Event>,
}

/// Why a change was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeRefused {
    /// Something else changed it first.
    #[error("it was changed meanwhile")]
    Moved,
    /// It is not there.
    #[error("no such record")]
    Missing,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Digests of the rules in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesDigests {
    /// Of the policy set.
    pub policy: Digest,
    /// Of the catalog.
    pub catalog: Digest,
    /// Of the directory.
    pub directory: Digest,
    /// Of the guardrails.
    pub guardrails: Digest,
}

/// Rules that are put in force.
#[derive(Debug, Clone)]
pub struct RulesInForce {
    /// Their digests.
    pub digests: RulesDigests,
    /// The directory's document, kept for as long as a grant may name it.
    pub directory: String,
    /// Who wrote them or put them in force, as far as is known.
    pub authors: RulesAuthors,
}

/// Who wrote each part of the rules in force, or put it in force, as far as is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulesAuthors {
    /// Of the policy set.
    pub policy: BTreeSet<PersonSlug>,
    /// Of the catalog.
    pub catalog: BTreeSet<PersonSlug>,
    /// Of the directory.
    pub directory: BTreeSet<PersonSlug>,
    /// Of the guardrails.
    pub guardrails: BTreeSet<PersonSlug>,
}

impl RulesAuthors {
    /// Everybody, of whatever part.
    pub fn all(&self) -> BTreeSet<PersonSlug> {
        [&self.policy, &self.catalog, &self.directory, &self.guardrails]
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    /// After `by` put `new` in force in the place of `old`: a part that is the same keeps those who stood for it.
    pub fn changed_by(mut self, old: &RulesDigests, new: &RulesDigests, by: &BTreeSet<PersonSlug>) -> Self {
        let parts = [
            (&mut self.policy, old.policy == new.policy),
            (&mut self.catalog, old.catalog == new.catalog),
            (&mut self.directory, old.directory == new.directory),
            (&mut self.guardrails, old.guardrails == new.guardrails),
        ];
        for (authors, _) in parts.into_iter().filter(|(_, same)| !same) {
            authors.clone_from(by);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people(names: &[&str]) -> BTreeSet<PersonSlug> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn whoever_put_a_part_in_force_stands_for_it_until_that_part_changes() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let first = RulesDigests {
            policy: digest("policy"),
            catalog: digest("catalog"),
            directory: digest("directory"),
            guardrails: digest("guardrails"),
        };
        let policy = RulesDigests { policy: digest("other policy"), ..first };
        let catalog = RulesDigests { catalog: digest("other catalog"), ..policy };
        let authors = RulesAuthors::default().changed_by(&first, &policy, &people(&["ada"]));
        let authors = authors.changed_by(&policy, &catalog, &people(&["bob"]));
        assert_eq!(authors.all(), people(&["ada", "bob"]), "a reload of the catalog forgets nobody");
        assert_eq!((&authors.policy, &authors.catalog), (&people(&["ada"]), &people(&["bob"])));
        let restarted = authors.clone().changed_by(&catalog, &catalog, &BTreeSet::new());
        assert_eq!(restarted, authors, "nothing changed");
        let edited = RulesDigests { policy: digest("third policy"), ..catalog };
        let authors = authors.changed_by(&catalog, &edited, &BTreeSet::new());
        assert_eq!(authors.all(), people(&["bob"]), "nobody is known to stand for the policy now");
    }
}
