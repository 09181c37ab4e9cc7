//! Post-action reviews: whatever ran without a signature of its own, or under break-glass, is looked at by people who
//! are no party to it. An overdue review switches its playbook off; a rejection takes the playbook out of use.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Broker;
use super::grants::active;
use super::ports::{ChangeRefused, GrantRecord, ReviewDecision, ReviewFilter};
use super::refusal::{Code, Refusal};
use super::runs::conflict;
use crate::domain::approval::Approval;
use crate::domain::digest::Digest;
use crate::domain::directory::Directory;
use crate::domain::event::{Event, EventKind, SaltedText};
use crate::domain::grant::Grant;
use crate::domain::id::{GrantId, LeaseId, ReviewId, RunId};
use crate::domain::principal::{Actor, AgentSlug, GroupSlug, PersonSlug};
use crate::domain::review::{Review, ReviewState};
use crate::domain::time::Timestamp;

/// Longest note of a review, in bytes.
const MAX_NOTE_BYTES: usize = 2048;

/// What a person found.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reviewed {
    /// `accepted` or `rejected`.
    #[schema(value_type = String)]
    pub verdict: ReviewState,
    /// Why.
    pub note: String,
}

/// A review, for people.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReviewView {
    /// Its id.
    #[schema(value_type = String)]
    pub review: ReviewId,
    /// The grant that was used.
    #[schema(value_type = String)]
    pub grant: GrantId,
    /// Its lease.
    #[schema(value_type = String)]
    pub lease: LeaseId,
    /// Its run.
    #[schema(value_type = String)]
    pub run: RunId,
    /// The playbook it was used under; absent for break-glass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub playbook: Option<Digest>,
    /// What was done, in the catalog's words.
    pub summary: String,
    /// The group that owns it.
    #[schema(value_type = String)]
    pub owner: GroupSlug,
    /// When it was opened.
    #[schema(value_type = i64)]
    pub opened_at: Timestamp,
    /// Overdue from here on.
    #[schema(value_type = i64)]
    pub due_at: Timestamp,
    /// Whether it is overdue.
    pub overdue: bool,
    /// `open`, `accepted` or `rejected`.
    #[schema(value_type = String)]
    pub state: ReviewState,
    /// Who decided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub by: Option<PersonSlug>,
}

impl Broker {
    /// Reviews, oldest first; only open ones when asked.
    pub async fn reviews(&self, open: bool) -> Result<Vec<ReviewView>, Refusal> {
        let filter = ReviewFilter { open, ..ReviewFilter::default() };
        let reviews = self.store.reviews(filter).await.map_err(|e| self.gate.store_failed(&e))?;
        let mut views = Vec::with_capacity(reviews.len());
        for review in reviews {
            views.push(self.review_view(review).await?);
        }
        Ok(views)
    }

    /// One review.
    pub async fn review(&self, id: ReviewId) -> Result<ReviewView, Refusal> {
        let review = self.review_of(id).await?;
        self.review_view(review).await
    }

    /// A person decides a review. INVARIANT: no-self-approval. No party to the action reviews it.
    pub async fn decide_review(
        &self,
        person: &PersonSlug,
        id: ReviewId,
        reviewed: Reviewed,
    ) -> Result<ReviewView, Refusal> {
        let kind = match reviewed.verdict {
            ReviewState::Accepted => EventKind::ReviewAccepted,
            ReviewState::Rejected => EventKind::ReviewRejected,
            ReviewState::Open => {
                return Err(Refusal::new(Code::BadRequest, "`verdict` is `accepted` or `rejected`"));
            }
        };
        if reviewed.note.trim().is_empty() || reviewed.note.len() > MAX_NOTE_BYTES {
            return Err(Refusal::new(
                Code::BadRequest,
                format!("`note` says why, in 1 to {MAX_NOTE_BYTES} bytes"),
            ));
        }
        let review = self.review_of(id).await?;
        let record = self.record_of(review.grant).await?;
        let now = self.gate.now();
        self.may_review(person, &review, &record, now).await?;
        let event = Event::new(kind, Actor::Person(person.clone()), now)
            .run(review.run)
            .grant(review.grant)
            .lease(review.lease)
            .fact("review", id.to_string())
            .fact("seconds_open", now.since(review.opened_at))
            .text(SaltedText::new("note", reviewed.note));
        let mut events = vec![event];
        if let (ReviewState::Rejected, Some(playbook)) = (reviewed.verdict, review.playbook) {
            let suspended = Event::new(EventKind::PlaybookSuspended, Actor::Person(person.clone()), now)
                .fact("digest", playbook.to_string())
                .fact("why", "a review was rejected");
            // With the grant, so that it stands in the evidence of every run under the playbook.
            let named = self.signed_playbooks(&BTreeSet::from([playbook])).await?;
            events.push(match named.first() {
                Some(record) => suspended.grant(record.sealed.document().id),
                None => suspended,
            });
        }
        let decision = ReviewDecision { id, state: reviewed.verdict, by: person.clone(), at: now, events };
        match self.store.decide_review(decision).await {
            Ok(review) => {
                self.gate.store_recorded(now);
                self.review_view(review).await
            }
            Err(ChangeRefused::Store(error)) => Err(self.gate.store_failed(&error)),
            Err(ChangeRefused::Moved) => {
                Err(Refusal::new(Code::Conflict, "the review is decided already; read it again"))
            }
            Err(ChangeRefused::Missing) => Err(conflict()),
        }
    }

    /// Tells people, once each, of reviews that nobody did in time.
    pub(super) async fn tell_overdue_reviews(&self, now: Timestamp) {
        let filter = ReviewFilter { open: true, ..ReviewFilter::default() };
        let open = match self.store.reviews(filter).await {
            Ok(open) => open,
            Err(error) => {
                self.gate.store_failed(&error);
                return;
            }
        };
        let overdue: BTreeSet<ReviewId> =
            open.iter().filter(|review| review.is_overdue(now)).map(|review| review.id).collect();
        self.metrics.overdue_reviews(overdue.len());
        let told = || self.overdue_told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let new: Vec<ReviewId> = {
            let mut told = told();
            told.retain(|id| overdue.contains(id));
            overdue.difference(&told).copied().collect()
        };
        for review in open.iter().filter(|review| new.contains(&review.id)) {
            tracing::warn!(review.id = %review.id, "a review is overdue; its playbook covers nothing until it is done");
            let event = Event::new(EventKind::ReviewOverdue, Actor::Broker, now)
                .run(review.run)
                .grant(review.grant)
                .lease(review.lease)
                .fact("review", review.id.to_string());
            // Told once it is written: a store that fails is asked again by the next sweep.
            match self.store.record(vec![event]).await {
                Ok(head) => self.gate.committed(head),
                Err(error) => {
                    self.gate.store_failed(&error);
                    return;
                }
            }
            told().insert(review.id);
            self.tell("review_overdue", review.id.to_string(), format!("v1/reviews/{}", review.id));
        }
    }

    async fn may_review(
        &self,
        person: &PersonSlug,
        review: &Review,
        record: &GrantRecord,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let rules = self.rules();
        let no =
            |why: &str| Err(Refusal::new(Code::Forbidden, format!("`{person}` may not review this: {why}")));
        if !rules.directory.is_member(person, &review.owner) {
            return no(&format!("not in `{}`, which owns it", review.owner));
        }
        let grant = record.sealed.grant();
        if grant.who.requester == *person {
            return no("they requested it");
        }
        let agents = [&grant.who.proposing_agent, &grant.who.claiming_agent];
        if owners(agents, &rules.directory).contains(person) {
            return no("they own the agent");
        }
        if signers(&active(&record.approvals)).contains(person) {
            return no("they signed it");
        }
        let Some(digest) = review.playbook else { return Ok(()) };
        let playbooks = self.store.playbooks(now).await.map_err(|e| self.gate.store_failed(&e))?;
        let named = playbooks.iter().find(|one| one.administration.sealed.digest() == digest);
        let Some(playbook) = named.map(|record| &record.administration) else {
            return no("who signed its playbook is not known");
        };
        if playbook.sealed.document().requester == *person {
            return no("they requested its playbook");
        }
        match signers(&active(&playbook.approvals)).contains(person) {
            true => no("they signed its playbook"),
            false => Ok(()),
        }
    }

    async fn review_of(&self, id: ReviewId) -> Result<Review, Refusal> {
        let review = self.store.review(id).await.map_err(|e| self.gate.store_failed(&e))?;
        review.ok_or_else(|| Refusal::new(Code::NotFound, format!("no review `{id}`")))
    }

    async fn review_view(&self, review: Review) -> Result<ReviewView, Refusal> {
        let record = self.record_of(review.grant).await?;
        let now = self.gate.now();
        Ok(ReviewView {
            review: review.id,
            grant: review.grant,
            lease: review.lease,
            run: review.run,
            playbook: review.playbook,
            summary: record.sealed.grant().action.summary.clone(),
            overdue: review.is_overdue(now),
            owner: review.owner,
            opened_at: review.opened_at,
            due_at: review.due_at,
            state: review.state,
            by: review.decided.map(|(person, _)| person),
        })
    }
}

fn owners<'a>(
    agents: impl IntoIterator<Item = &'a AgentSlug>,
    directory: &'a Directory,
) -> BTreeSet<&'a PersonSlug> {
    agents.into_iter().filter_map(|slug| directory.agent(slug)).map(|agent| &agent.owner).collect()
}

fn signers(approvals: &[Approval]) -> BTreeSet<&PersonSlug> {
    approvals.iter().map(|approval| &approval.claims.iss).collect()
}

/// Whether somebody is left to review the uses of a playbook: no owner of its agents, nor who requested or signed it.
pub(super) fn somebody_reviews(
    owner: &GroupSlug,
    agents: &BTreeSet<AgentSlug>,
    requester: &PersonSlug,
    approvals: &[Approval],
    directory: &Directory,
) -> Result<(), String> {
    let (owners, signers) = (owners(agents, directory), signers(approvals));
    let is_party = |person| person == requester || owners.contains(person) || signers.contains(person);
    match directory.members(owner).any(|person| !is_party(person)) {
        true => Ok(()),
        false => Err(format!(
            "nobody in `{owner}` could review it, apart from the agents' owners and those who requested or signed it"
        )),
    }
}

/// The review that a claim opens.
pub(super) fn opened(
    grant: &Grant,
    playbook: Option<Digest>,
    owner: GroupSlug,
    due_seconds: u32,
    now: Timestamp,
) -> (Review, Event) {
    let review = Review {
        id: ReviewId::generate(now),
        grant: grant.id,
        lease: grant.time.lease,
        run: grant.who.run,
        playbook,
        owner,
        opened_at: now,
        due_at: now.plus(i64::from(due_seconds)),
        state: ReviewState::Open,
        decided: None,
    };
    let event = Event::new(EventKind::ReviewOpened, Actor::Broker, now)
        .run(review.run)
        .grant(review.grant)
        .lease(review.lease)
        .fact("review", review.id.to_string())
        .fact("owner", review.owner.as_str())
        .fact("due_at", review.due_at.seconds());
    (review, event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::approval::{Answer, ApprovalClaims};
    use crate::domain::id::ApprovalId;
    use crate::domain::key::{Custody, SigningKey};

    fn approval(person: &str) -> Approval {
        let now = Timestamp::from_seconds(100);
        Approval {
            claims: ApprovalClaims {
                iss: person.parse().unwrap(),
                aud: "https://broker.example".into(),
                sub: "fixer".into(),
                grant: Digest::of(b"grant"),
                grant_id: GrantId::generate(now),
                decision: Answer::Approve,
                reason: None,
                iat: now,
                exp: now,
                jti: ApprovalId::generate(now),
            },
            key: Digest::of(b"key").to_string().parse().unwrap(),
            custody: Custody::File,
            received_at: now,
            token: String::new(),
        }
    }

    #[test]
    fn a_playbook_leaves_a_reviewer_who_neither_owns_its_agents_nor_requested_nor_signed_it() {
        let key = || SigningKey::generate().unwrap().public().jwk();
        let person = || serde_json::json!({"name": "A person", "roles": ["approver"], "keys": [{"custody": "file", "jwk": key()}]});
        let document = serde_json::json!({
            "people": {"ada": person(), "bob": person(), "eve": person()},
            "groups": {"owners": {"people": ["ada", "bob", "eve"]}},
            "agents": {"fixer": {"owner": "ada", "keys": [key()]}},
        });
        let directory = Directory::check(serde_json::from_value(document).unwrap()).unwrap();
        let (owner, agents) = ("owners".parse().unwrap(), ["fixer".parse().unwrap()].into());
        let left = |requester: &str, signers: &[&str]| {
            let approvals: Vec<Approval> = signers.iter().map(|person| approval(person)).collect();
            somebody_reviews(&owner, &agents, &requester.parse().unwrap(), &approvals, &directory).is_ok()
        };
        assert!(left("bob", &[]), "eve is left");
        assert!(left("eve", &["eve"]), "bob is left");
        assert!(!left("bob", &["eve"]));
        assert!(!left("ada", &["bob", "eve"]));
    }
}
