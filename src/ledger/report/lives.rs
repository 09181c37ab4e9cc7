//! What became of grants, leases and reviews, and how long it took.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::{Spread, percent};
use crate::domain::event::EventKind as E;
use crate::domain::id::{GrantId, LeaseId};
use crate::domain::time::Timestamp;
use crate::ledger::events::ReadEvent;

/// Seconds after a deadline within which its end counts as in time: the sweep does not come every second.
const GRACE_SECONDS: i64 = 5;

/// What was done by whose authority.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Autonomy {
    /// Grants sealed, by what policy asked for.
    pub tiers: BTreeMap<String, u64>,
    /// Plans that were only suggested.
    pub suggested: u64,
    /// Proposals and claims that were refused, by code; as far as they are written down.
    pub refused: BTreeMap<String, u64>,
    /// Execute credentials opened, by what they rest on.
    pub claims: BTreeMap<String, u64>,
    /// Of every hundred, those that rest on a playbook.
    pub autonomous_percent: Option<u64>,
}

/// Post-action reviews.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Reviews {
    /// Opened in the range.
    pub opened: u64,
    /// Found right.
    pub accepted: u64,
    /// Found wrong.
    pub rejected: u64,
    /// Told to be overdue at least once.
    pub overdue: u64,
    /// Opened in the range and not decided at its end.
    pub waiting: u64,
    /// From opening to verdict.
    pub seconds_to_review: Spread,
}

/// How long things took, in seconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Times {
    /// From sealing to the last signature the rule asked for.
    pub proposal_to_approval: Spread,
    /// From there to the claim.
    pub approval_to_claim: Spread,
    /// From the claim to the end of the credential.
    pub claim_to_death: Spread,
    /// From the early end of a credential to the first refusal that its canary saw.
    pub end_to_refusal: Spread,
}

/// What became of execute leases. Whether a credential did anything at its target, only the target's own logs can say.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Leases {
    /// Opened in the range.
    pub opened: u64,
    /// Approved grants that nobody claimed in time.
    pub approved_never_claimed: Vec<GrantId>,
    /// Minted, and never handed out.
    pub never_released: Vec<LeaseId>,
    /// Handed out, and neither completed nor given back before their time ran out: whether they were used is not known.
    pub never_completed: Vec<LeaseId>,
    /// Of unknown outcome at the provider.
    pub unknown: Vec<LeaseId>,
    /// Given back by the agent.
    pub given_back: u64,
    /// Ends of completed work, by what the agent said came of it.
    pub outcomes: BTreeMap<String, u64>,
    /// Ends by reason.
    pub ends: BTreeMap<String, u64>,
    /// Ended early, and its canary could not tell whether the provider refuses it.
    pub refusal_unseen: Vec<LeaseId>,
    /// Used late.
    pub late: Vec<Late>,
}

/// A lease that was used late.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Late {
    /// Which.
    pub lease: LeaseId,
    /// `claimed_late`: in the last tenth of the time to claim; `ended_late`: later than its deadline;
    /// `completed_late`: the agent said it was done after the deadline.
    pub how: &'static str,
    /// By how many seconds; for `claimed_late`, how many were left.
    pub seconds: i64,
}

#[derive(Debug, Default)]
pub(super) struct Lives {
    autonomy: Autonomy,
    reviews: Reviews,
    open_reviews: HashMap<String, bool>,
    to_review: Vec<i64>,
    grants: HashMap<GrantId, Grant>,
    live: HashMap<LeaseId, Lease>,
    leases: Leases,
    to_approval: Vec<i64>,
    to_claim: Vec<i64>,
    to_death: Vec<i64>,
    to_refusal: Vec<i64>,
}

#[derive(Debug)]
struct Grant {
    sealed_at: Timestamp,
    /// When it could be claimed, and until when.
    approved: Option<(Timestamp, Option<Timestamp>)>,
    claimed: bool,
}

#[derive(Debug)]
struct Lease {
    at: Timestamp,
    not_after: Option<Timestamp>,
    grant: Option<GrantId>,
    released: bool,
}

impl Lives {
    pub(super) fn read(&mut self, kind: E, event: &ReadEvent) {
        match kind {
            E::GrantSealed => self.sealed(event),
            E::GrantSuggested => self.autonomy.suggested = self.autonomy.suggested.saturating_add(1),
            E::GrantApproved => self.approved(event),
            E::GrantDenied | E::GrantCancelled => drop(event.grant.and_then(|id| self.grants.remove(&id))),
            E::GrantLapsed => self.lapsed(event),
            E::Refused => one_more(&mut self.autonomy.refused, event.fact_text("code")),
            E::LeaseIntent => self.intent(event),
            E::LeaseReleased => {
                if let Some(lease) = event.lease.and_then(|id| self.live.get_mut(&id)) {
                    lease.released = true;
                }
            }
            E::LeaseUnknown => {
                let known = event.lease.filter(|id| self.live.contains_key(id));
                self.leases.unknown.extend(known);
            }
            // Nothing was minted: the grant waits again.
            E::LeaseRefused => {
                let lease = event.lease.and_then(|id| self.live.remove(&id));
                if let Some(grant) = lease.and_then(|lease| self.grants.get_mut(&lease.grant?)) {
                    grant.claimed = false;
                }
            }
            E::LeaseEnded => self.ended(event),
            E::RevocationSeen => {
                let seconds = event.fact_number("denied_at").zip(event.fact_number("ended_at"));
                self.to_refusal.extend(seconds.map(|(refused, ended)| refused.saturating_sub(ended)));
            }
            E::RevocationUnseen => self.leases.refusal_unseen.extend(event.lease),
            E::ReviewOpened | E::ReviewAccepted | E::ReviewRejected | E::ReviewOverdue => {
                self.review(kind, event)
            }
            _ => {}
        }
    }

    pub(super) fn finish(mut self, now: Timestamp) -> (Autonomy, Reviews, Times, Leases) {
        let mut forgotten: Vec<GrantId> = self
            .grants
            .iter()
            .filter(|(_, grant)| !grant.claimed)
            .filter_map(|(id, grant)| Some((id, grant.approved?.1?)))
            .filter(|(_, until)| until.has_passed(now))
            .map(|(id, _)| *id)
            .collect();
        forgotten.sort_unstable();
        self.leases.approved_never_claimed.extend(forgotten);
        let claims: u64 = self.autonomy.claims.values().sum();
        let autonomous = self.autonomy.claims.get("playbook").copied().unwrap_or_default();
        self.autonomy.autonomous_percent = percent(autonomous, claims);
        self.reviews.waiting = u64::try_from(self.open_reviews.len()).unwrap_or(u64::MAX);
        self.reviews.seconds_to_review = Spread::of(self.to_review);
        let times = Times {
            proposal_to_approval: Spread::of(self.to_approval),
            approval_to_claim: Spread::of(self.to_claim),
            claim_to_death: Spread::of(self.to_death),
            end_to_refusal: Spread::of(self.to_refusal),
        };
        (self.autonomy, self.reviews, times, self.leases)
    }

    fn sealed(&mut self, event: &ReadEvent) {
        one_more(&mut self.autonomy.tiers, event.fact_text("tier"));
        let Some(id) = event.grant else { return };
        let until = event.fact_number("claim_until").map(Timestamp::from_seconds);
        // Under a playbook nobody signs: it can be claimed at once.
        let approved = (event.facts.contains_key("playbook") || until.is_some()).then_some((event.at, until));
        self.grants.insert(id, Grant { sealed_at: event.at, approved, claimed: false });
    }

    fn approved(&mut self, event: &ReadEvent) {
        let Some(grant) = event.grant.and_then(|id| self.grants.get_mut(&id)) else { return };
        let until = event.fact_number("claim_until").map(Timestamp::from_seconds);
        grant.approved = Some((event.at, until));
        self.to_approval.push(event.at.since(grant.sealed_at));
    }

    fn lapsed(&mut self, event: &ReadEvent) {
        let Some(id) = event.grant else { return };
        let known = self.grants.remove(&id).is_some_and(|grant| grant.approved.is_some());
        if known || event.fact_text("from") == Some("approved") {
            self.leases.approved_never_claimed.push(id);
        }
    }

    fn intent(&mut self, event: &ReadEvent) {
        let (Some(id), Some("execute")) = (event.lease, event.fact_text("phase")) else { return };
        self.leases.opened = self.leases.opened.saturating_add(1);
        one_more(&mut self.autonomy.claims, event.fact_text("authority"));
        let grant = event.grant.and_then(|grant| self.grants.get_mut(&grant));
        let approved = grant.and_then(|grant| {
            grant.claimed = true;
            grant.approved
        });
        if let Some((at, until)) = approved {
            self.to_claim.push(event.at.since(at));
            let left = until.map(|until| until.since(event.at));
            let whole = until.map(|until| until.since(at)).unwrap_or_default();
            if let Some(seconds) = left.filter(|left| left.saturating_mul(10) < whole) {
                self.leases.late.push(Late { lease: id, how: "claimed_late", seconds });
            }
        }
        let not_after = event.fact_number("not_after").map(Timestamp::from_seconds);
        self.live.insert(id, Lease { at: event.at, not_after, grant: event.grant, released: false });
    }

    fn ended(&mut self, event: &ReadEvent) {
        let Some(id) = event.lease else { return };
        let Some(lease) = self.live.remove(&id) else { return };
        if let Some(grant) = lease.grant {
            self.grants.remove(&grant);
        }
        self.to_death.push(event.at.since(lease.at));
        let reason = event.fact_text("reason").unwrap_or_default();
        one_more(&mut self.leases.ends, Some(reason));
        match reason {
            "completed" => one_more(&mut self.leases.outcomes, event.fact_text("outcome")),
            "cancelled" => self.leases.given_back = self.leases.given_back.saturating_add(1),
            "expired" | "cut_off" => self.leases.never_completed.push(id),
            _ => {}
        }
        if !lease.released && reason != "unknown" {
            self.leases.never_released.push(id);
        }
        let over = lease.not_after.map_or(0, |end| event.at.since(end));
        if over > GRACE_SECONDS {
            let how = if reason == "completed" { "completed_late" } else { "ended_late" };
            self.leases.late.push(Late { lease: id, how, seconds: over });
        }
    }

    fn review(&mut self, kind: E, event: &ReadEvent) {
        let Some(id) = event.fact_text("review").map(str::to_owned) else { return };
        let count = match kind {
            E::ReviewOpened => {
                self.open_reviews.insert(id, false);
                &mut self.reviews.opened
            }
            E::ReviewOverdue => match self.open_reviews.insert(id, true) {
                // Told again after a restart.
                Some(true) => return,
                _ => &mut self.reviews.overdue,
            },
            E::ReviewAccepted => &mut self.reviews.accepted,
            _ => &mut self.reviews.rejected,
        };
        *count = count.saturating_add(1);
        if matches!(kind, E::ReviewAccepted | E::ReviewRejected) {
            self.to_review.extend(event.fact_number("seconds_open"));
            if let Some(id) = event.fact_text("review") {
                self.open_reviews.remove(id);
            }
        }
    }
}

fn one_more(counts: &mut BTreeMap<String, u64>, name: Option<&str>) {
    let count = counts.entry(name.unwrap_or("?").to_owned()).or_default();
    *count = count.saturating_add(1);
}
