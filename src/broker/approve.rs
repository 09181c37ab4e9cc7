//! Collecting signatures: what people see, and what a token of theirs does to a grant.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Broker;
use super::grants::active;
use super::ports::{AdministrationRecord, ChangeRefused, GrantChange, GrantRecord};
use super::refusal::{Code, Refusal};
use super::runs::conflict;
use crate::domain::approval::{Answer, Approval, ApprovalError, Signable};
use crate::domain::digest::Digest;
use crate::domain::directory::Directory;
use crate::domain::event::{Event, EventKind, SaltedText};
use crate::domain::grant::GrantState;
use crate::domain::id::{GrantId, RunId};
use crate::domain::principal::{Actor, GroupSlug};
use crate::domain::time::Timestamp;

/// Longest reason of a denial or withdrawal, in bytes.
const MAX_REASON_BYTES: usize = 1024;
/// How often a change that lost a race is read again and retried.
pub(super) const RETRIES: usize = 8;

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

/// What a token can be about.
enum Signed {
    Credential(Box<GrantRecord>),
    Administration(Box<AdministrationRecord>),
}

impl Broker {
    /// Takes a person's token. No login: the token is the proof, and names the grant.
    pub async fn answer(self: &Arc<Self>, id: GrantId, answered: Answered) -> Result<AnswerTaken, Refusal> {
        let found = match self.store.grant(id).await.map_err(|e| self.gate.store_failed(&e)) {
            Ok(Some(record)) => Ok(Signed::Credential(Box::new(record))),
            Ok(None) => {
                self.administration_of(id).await.map(|record| Signed::Administration(Box::new(record)))
            }
            Err(refusal) => Err(refusal),
        };
        let (run, outcome) = match found {
            Err(refusal) => {
                self.metrics.refused(refusal.code);
                return Err(refusal);
            }
            Ok(Signed::Credential(record)) => {
                (Some(record.sealed.grant().who.run), self.try_answer(*record, answered).await)
            }
            Ok(Signed::Administration(record)) => (None, self.answer_administration(*record, answered).await),
        };
        // The caller knew the id of a grant: that is worth a record, but not without limit.
        match outcome {
            Err(refusal) if !self.record_refusal(Actor::Broker, run, Some(id), &refusal).await => {
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
            let signed = Signable::from(&record.sealed);
            let approval = match received(&record.approvals, &answered.token, &signed, &rules.directory) {
                Some(known) => known.clone(),
                None => self.verified(&answered.token, &record.sealed, &rules.directory, now)?,
            };
            check_reason(&approval, answered.reason.as_deref())?;
            let (state, approvals) = match next_state(record.state, &record.approvals, &approval)? {
                Some(next) => next,
                None => return self.taken(&record, &approval).await,
            };
            let missing = self.missing_with(&record, &approvals).await?;
            let grant = record.sealed.grant();
            if approval.claims.decision == Answer::Approve {
                self.way_back_is_open(grant).await?;
            }
            // One ceremony signs a grant and its way back: who takes one back takes both, and half of it is not signed on.
            let halved = approval.claims.decision == Answer::Withdraw && grant.time.inverse.is_some();
            let state = if halved { GrantState::Withdrawn } else { state };
            let complete = state == GrantState::Pending && missing.is_satisfied();
            let state = if complete { GrantState::Approved } else { state };
            let claim_until = (state == GrantState::Approved)
                .then(|| now.plus(i64::from(grant.time.claim_seconds)).min(grant.time.claim_by));
            let change = GrantChange {
                id: grant.id,
                revision: record.revision,
                state,
                claim_until,
                events: events(
                    &record,
                    &approval,
                    claim_until.filter(|_| complete),
                    answered.reason.clone(),
                    now,
                ),
                approval: Some(approval.clone()),
            };
            match self.store.change_grant(change).await {
                Ok(()) => {
                    self.gate.store_recorded(now);
                    // A signal that came while this was written looked too early to see it.
                    if let Err(refusal) = self.signalled.check(&approval) {
                        self.cancel_unasked(grant.id).await;
                        return Err(refusal);
                    }
                    if complete {
                        self.metrics.proposal_to_approval(now.since(grant.time.sealed_at));
                    }
                    self.waits.wake(grant.id);
                    if approval.claims.decision != Answer::Approve {
                        // A signature taken back from what still waits for others leaves both as they are.
                        if !state.is_open() {
                            self.cancel_other(&record).await;
                        }
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

    /// Refuses a grant of another epoch or broker.
    pub(super) fn same_broker(&self, epoch: u64, issuer: &str) -> Result<(), Refusal> {
        if epoch != self.gate.epoch() {
            return Err(Refusal::new(
                Code::GrantForeign,
                "the grant is of an older epoch of the store and is dead; propose again",
            ));
        }
        match issuer == self.settings.issuer {
            true => Ok(()),
            false => Err(Refusal::new(Code::GrantForeign, "the grant was sealed by another broker")),
        }
    }

    /// Refuses a grant of another epoch, broker or environment.
    pub(super) fn same_world(&self, record: &GrantRecord) -> Result<(), Refusal> {
        let grant = record.sealed.grant();
        self.same_broker(grant.epoch, &grant.issuer)?;
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

/// Where a verified token takes the grant, and the tokens that then count; `None` when it changes nothing.
pub(super) fn next_state(
    stands: GrantState,
    approvals: &[Approval],
    new: &Approval,
) -> Result<Option<(GrantState, Vec<Approval>)>, Refusal> {
    let person = &new.claims.iss;
    // Single use is keyed on ids inside the signed bytes: another spelling of a signature is the same approval.
    let known = approvals.iter().find(|a| a.claims.jti == new.claims.jti);
    match known {
        Some(old) if old.claims == new.claims => {
            return match stands {
                GrantState::Claimed => Err(spent()),
                _ if taken_back(approvals, old) => Err(Refusal::new(
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
    match stands {
        GrantState::Claimed => return Err(spent()),
        state if !state.is_open() => {
            return Err(Refusal::new(
                Code::GrantNotOpen,
                format!("the grant is `{state}`; nothing can be signed any more"),
            ));
        }
        _ => {}
    }
    let mut counting = active(approvals);
    let signed = counting.iter().any(|a| a.claims.iss == *person);
    match new.claims.decision {
        Answer::Deny => Ok(Some((GrantState::Denied, counting))),
        Answer::Withdraw if !signed => {
            Err(Refusal::new(Code::AlreadyAnswered, format!("`{person}` has no approval here to withdraw")))
        }
        Answer::Withdraw => {
            counting.retain(|a| a.claims.iss != *person);
            let state =
                if stands == GrantState::Approved { GrantState::Withdrawn } else { GrantState::Pending };
            Ok(Some((state, counting)))
        }
        Answer::Approve if stands == GrantState::Approved => {
            Err(Refusal::new(Code::GrantNotOpen, "the rule is already complete; nothing more needs signing"))
        }
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

/// The one of `approvals` that `token` spells: its signature verifies, and its claims are the same. The instant that
/// counts is that of the first receipt.
pub(super) fn received<'a>(
    approvals: &'a [Approval],
    token: &str,
    signed: &Signable<'_>,
    directory: &Directory,
) -> Option<&'a Approval> {
    let named = Approval::peek_id(token);
    approvals.iter().filter(|known| named == Some(known.claims.jti)).find(|known| {
        Approval::verify(token, signed.clone(), directory, known.received_at)
            .is_ok_and(|new| new.claims == known.claims)
    })
}

fn taken_back(approvals: &[Approval], old: &Approval) -> bool {
    old.claims.decision == Answer::Approve
        && !active(approvals).iter().any(|counting| counting.claims.jti == old.claims.jti)
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

pub(super) fn check_reason(approval: &Approval, reason: Option<&str>) -> Result<(), Refusal> {
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
    complete_until: Option<Timestamp>,
    reason: Option<String>,
    now: Timestamp,
) -> Vec<Event> {
    let grant = record.sealed.grant();
    let received =
        received_event(&Signable::from(&record.sealed), Some(grant.who.run), approval, reason, now);
    let approved = complete_until.map(|until| {
        Event::new(EventKind::GrantApproved, Actor::Broker, now)
            .run(grant.who.run)
            .grant(grant.id)
            .fact("digest", record.sealed.digest().to_string())
            .fact("claim_until", until.seconds())
    });
    [received].into_iter().chain(approved).collect()
}

/// What the ledger keeps of a token.
pub(super) fn received_event(
    signed: &Signable<'_>,
    run: Option<RunId>,
    approval: &Approval,
    reason: Option<String>,
    now: Timestamp,
) -> Event {
    let kind = match approval.claims.decision {
        Answer::Approve => EventKind::ApprovalReceived,
        Answer::Deny => EventKind::GrantDenied,
        Answer::Withdraw => EventKind::ApprovalWithdrawn,
    };
    let event = Event::new(kind, Actor::Person(approval.claims.iss.clone()), now)
        .grant(signed.id)
        .fact("jti", approval.claims.jti.to_string())
        .fact("key", approval.key.to_string())
        .fact("custody", approval.custody.name())
        .fact("token", Digest::of(approval.token.as_bytes()).to_string())
        .fact("digest", signed.digest.to_string())
        .fact("seconds_to_sign", now.since(signed.sealed_at));
    let event = run.into_iter().fold(event, Event::run);
    reason.into_iter().fold(event, |event, reason| event.text(SaltedText::new("reason", reason)))
}
