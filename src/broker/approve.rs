//! Collecting signatures: what people see, and what a token of theirs does to a grant.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Broker;
use super::grants::active;
use super::ports::{ChangeRefused, GrantChange, GrantRecord};
use super::refusal::{Code, Refusal};
use super::runs::conflict;
use crate::domain::approval::{Answer, Approval, ApprovalError};
use crate::domain::digest::Digest;
use crate::domain::directory::Directory;
use crate::domain::event::{Event, EventKind, SaltedText};
use crate::domain::grant::GrantState;
use crate::domain::id::GrantId;
use crate::domain::principal::{Actor, GroupSlug};
use crate::domain::time::Timestamp;

/// Longest reason of a denial or withdrawal, in bytes.
const MAX_REASON_BYTES: usize = 1024;
/// How often a change that lost a race is read again and retried.
const RETRIES: usize = 8;

/// A person's token with the text its reason digest stands for.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// The approval token.
    pub token: String,
    /// Why, for deny and withdraw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a token did.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AnswerTaken {
    /// The grant.
    #[schema(value_type = String)]
    pub grant: GrantId,
    /// Where it stands now.
    #[schema(value_type = String)]
    pub state: GrantState,
    /// What the person said.
    #[schema(value_type = String)]
    pub decision: Answer,
    /// What is missing.
    #[schema(value_type = Object)]
    pub outstanding: BTreeMap<GroupSlug, u32>,
    /// It can be claimed until here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub claim_until: Option<Timestamp>,
}

impl Broker {
    /// Takes a person's token. No login: the token is the proof, and names the grant.
    pub async fn answer(self: &Arc<Self>, id: GrantId, answered: Answered) -> Result<AnswerTaken, Refusal> {
        let record = match self.record_of(id).await {
            Ok(record) => record,
            Err(refusal) => {
                self.metrics.refused(refusal.code);
                return Err(refusal);
            }
        };
        let run = record.sealed.grant().who.run;
        let outcome = self.try_answer(record, answered).await;
        // The caller knew the id of a grant: that is worth a record, but not without limit.
        match outcome {
            Err(refusal) if !self.record_refusal(Actor::Broker, Some(run), Some(id), &refusal).await => {
                Err(Refusal::new(
                    Code::LimitReached,
                    format!(
                        "too many answers to this grant were refused lately; this one was too: {refusal}"
                    ),
                )
                .retry_after(10))
            }
            outcome => outcome,
        }
    }

    async fn try_answer(&self, mut record: GrantRecord, answered: Answered) -> Result<AnswerTaken, Refusal> {
        for _ in 0..RETRIES {
            let now = self.gate.now();
            let rules = self.rules();
            self.same_world(&record)?;
            // Posted again after a lost reply, it is what it was when it came first.
            let approval = match received(&record.approvals, &answered.token, &record, &rules.directory) {
                Some(known) => known.clone(),
                None => Approval::verify(&answered.token, &record.sealed, &rules.directory, now)
                    .map_err(refusal)?,
            };
            check_reason(&approval, answered.reason.as_deref())?;
            let (state, approvals) = match self.next_state(&record, &approval)? {
                Some(next) => next,
                None => return self.taken(&record, &approval).await,
            };
            let missing = self.missing_with(&record, &approvals).await?;
            let grant = record.sealed.grant();
            let complete = state == GrantState::Pending && missing.is_satisfied();
            let state = if complete { GrantState::Approved } else { state };
            let claim_until = (state == GrantState::Approved)
                .then(|| now.plus(i64::from(grant.time.claim_seconds)).min(grant.time.claim_by));
            let change = GrantChange {
                id: grant.id,
                revision: record.revision,
                state,
                claim_until,
                events: events(&record, &approval, complete, answered.reason.clone(), now),
                approval: Some(approval.clone()),
            };
            match self.store.change_grant(change).await {
                Ok(()) => {
                    self.gate.store_recorded(now);
                    if complete {
                        self.metrics.proposal_to_approval(now.since(grant.time.sealed_at));
                    }
                    self.waits.wake(grant.id);
                    if approval.claims.decision != Answer::Approve {
                        self.keep_head().await;
                    }
                    return Ok(AnswerTaken {
                        grant: grant.id,
                        state,
                        decision: approval.claims.decision,
                        outstanding: missing.0,
                        claim_until,
                    });
                }
                Err(ChangeRefused::Moved) => record = self.record_of(grant.id).await?,
                Err(ChangeRefused::Store(error)) => return Err(self.gate.store_failed(&error)),
                Err(ChangeRefused::Missing) => return Err(conflict()),
            }
        }
        Err(conflict())
    }

    /// Where a verified token takes the grant, and the tokens that then count; `None` when it changes nothing.
    fn next_state(
        &self,
        record: &GrantRecord,
        new: &Approval,
    ) -> Result<Option<(GrantState, Vec<Approval>)>, Refusal> {
        let person = &new.claims.iss;
        // Single use is keyed on ids inside the signed bytes: another spelling of a signature is the same approval.
        let known = record.approvals.iter().find(|a| a.claims.jti == new.claims.jti);
        match known {
            Some(old) if old.claims == new.claims => {
                return match record.state {
                    GrantState::Claimed => Err(spent()),
                    _ if taken_back(record, old) => Err(Refusal::new(
                        Code::AlreadyAnswered,
                        format!("`{person}` took this approval back; sign again to approve"),
                    )),
                    _ => Ok(None),
                };
            }
            Some(_) => {
                return Err(Refusal::new(Code::AlreadyAnswered, "this `jti` was used for another answer"));
            }
            None => {}
        }
        match record.state {
            GrantState::Claimed => return Err(spent()),
            state if !state.is_open() => {
                return Err(Refusal::new(
                    Code::GrantNotOpen,
                    format!("the grant is `{state}`; nothing can be signed any more"),
                ));
            }
            _ => {}
        }
        let mut counting = active(&record.approvals);
        let signed = counting.iter().any(|a| a.claims.iss == *person);
        match new.claims.decision {
            Answer::Deny => Ok(Some((GrantState::Denied, counting))),
            Answer::Withdraw if !signed => Err(Refusal::new(
                Code::AlreadyAnswered,
                format!("`{person}` has no approval here to withdraw"),
            )),
            Answer::Withdraw => {
                counting.retain(|a| a.claims.iss != *person);
                let state = if record.state == GrantState::Approved {
                    GrantState::Withdrawn
                } else {
                    GrantState::Pending
                };
                Ok(Some((state, counting)))
            }
            Answer::Approve if record.state == GrantState::Approved => Err(Refusal::new(
                Code::GrantNotOpen,
                "the rule is already complete; nothing more needs signing",
            )),
            Answer::Approve if signed => {
                // INVARIANT: signed-before-minted. Quorum counts people: a second key of one person adds nothing.
                Err(Refusal::new(
                    Code::AlreadyAnswered,
                    format!("`{person}` has signed already; a quorum needs different people"),
                ))
            }
            Answer::Approve => {
                counting.push(new.clone());
                Ok(Some((GrantState::Pending, counting)))
            }
        }
    }

    /// Refuses a grant of another epoch, broker or environment.
    pub(super) fn same_world(&self, record: &GrantRecord) -> Result<(), Refusal> {
        let grant = record.sealed.grant();
        if grant.epoch != self.gate.epoch() {
            return Err(Refusal::new(
                Code::GrantForeign,
                "the grant is of an older epoch of the store and is dead; propose again",
            ));
        }
        if grant.issuer != self.settings.issuer {
            return Err(Refusal::new(Code::GrantForeign, "the grant was sealed by another broker"));
        }
        if !self.rules().catalog.environments().contains_key(&grant.environment) {
            return Err(Refusal::new(
                Code::GrantForeign,
                format!("this broker has no environment `{}` any more", grant.environment),
            ));
        }
        Ok(())
    }

    async fn taken(&self, record: &GrantRecord, approval: &Approval) -> Result<AnswerTaken, Refusal> {
        Ok(AnswerTaken {
            grant: record.sealed.grant().id,
            state: record.state,
            decision: approval.claims.decision,
            outstanding: self.missing(record).await?.0,
            claim_until: record.claim_until,
        })
    }
}

/// The one of `approvals` that `token` spells: its signature verifies, and its claims are the same. The instant that
/// counts is that of the first receipt.
pub(super) fn received<'a>(
    approvals: &'a [Approval],
    token: &str,
    record: &GrantRecord,
    directory: &Directory,
) -> Option<&'a Approval> {
    let named = Approval::peek_id(token);
    approvals.iter().filter(|known| named == Some(known.claims.jti)).find(|known| {
        Approval::verify(token, &record.sealed, directory, known.received_at)
            .is_ok_and(|new| new.claims == known.claims)
    })
}

fn taken_back(record: &GrantRecord, old: &Approval) -> bool {
    old.claims.decision == Answer::Approve
        && !active(&record.approvals).iter().any(|counting| counting.claims.jti == old.claims.jti)
}

fn spent() -> Refusal {
    Refusal::new(Code::GrantSpent, "the grant has been used; it cannot be answered any more")
}

pub(super) fn refusal(error: ApprovalError) -> Refusal {
    let code = match &error {
        ApprovalError::Ineligible { .. } | ApprovalError::WrongCustody(..) => Code::ApproverIneligible,
        _ => Code::ApprovalInvalid,
    };
    Refusal::new(code, error.to_string())
}

fn check_reason(approval: &Approval, reason: Option<&str>) -> Result<(), Refusal> {
    let fits = match (approval.claims.reason, reason) {
        (None, None) => true,
        (Some(digest), Some(text)) => text.len() <= MAX_REASON_BYTES && Digest::of(text.as_bytes()) == digest,
        _ => false,
    };
    match fits {
        true => Ok(()),
        false => Err(Refusal::new(
            Code::ApprovalInvalid,
            format!(
                "`reason` must be the text (at most {MAX_REASON_BYTES} bytes) whose SHA-256 the token carries"
            ),
        )),
    }
}

fn events(
    record: &GrantRecord,
    approval: &Approval,
    complete: bool,
    reason: Option<String>,
    now: Timestamp,
) -> Vec<Event> {
    let grant = record.sealed.grant();
    let event = |kind, actor| Event::new(kind, actor, now).run(grant.who.run).grant(grant.id);
    let kind = match approval.claims.decision {
        Answer::Approve => EventKind::ApprovalReceived,
        Answer::Deny => EventKind::GrantDenied,
        Answer::Withdraw => EventKind::ApprovalWithdrawn,
    };
    let mut received = event(kind, Actor::Person(approval.claims.iss.clone()))
        .fact("jti", approval.claims.jti.to_string())
        .fact("key", approval.key.to_string())
        .fact("custody", approval.custody.name())
        .fact("token", Digest::of(approval.token.as_bytes()).to_string())
        .fact("digest", record.sealed.digest().to_string())
        .fact("seconds_to_sign", now.since(grant.time.sealed_at));
    if let Some(reason) = reason {
        received = received.text(SaltedText::new("reason", reason));
    }
    let approved = complete.then(|| {
        event(EventKind::GrantApproved, Actor::Broker).fact("digest", record.sealed.digest().to_string())
    });
    [received].into_iter().chain(approved).collect()
}
