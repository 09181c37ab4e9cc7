//! Administration grants: what people sign about the broker itself. A freeze is lifted, a playbook put in force, in the
//! transaction that takes the last signature; nothing is ever minted from one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Broker;
use super::approve::{AnswerTaken, Answered, RETRIES, check_reason, next_state, received, received_event};
use super::grants::{ApprovalLine, GrantDocument, active, line_of, view};
use super::ports::{AdministrationChange, AdministrationRecord, ChangeRefused, SealRefused};
use super::refusal::{Code, Refusal};
use super::reviews::somebody_reviews;
use super::rules::Rules;
use super::runs::conflict;
use super::signers::signers;
use crate::domain::administration::{
    Administration, AdministrationDecision, AdministrationKind, AdministrationTimes, SealedAdministration,
    Subject,
};
use crate::domain::approval::{Answer, Approval, Outstanding, Signable, outstanding};
use crate::domain::digest::{Digest, encode};
use crate::domain::event::{Event, EventKind, SaltedText};
use crate::domain::freeze::FreezeKey;
use crate::domain::grant::{GrantState, VERSION};
use crate::domain::id::{DecisionId, GrantId};
use crate::domain::principal::{Actor, AgentSlug, GroupSlug, PersonSlug};
use crate::domain::rule::Rule;
use crate::domain::time::Timestamp;

/// Most administration grants that wait for signatures at a time.
const MOST_PENDING: u64 = 100;

/// An administration grant that was sealed and waits for signatures.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AdministrationProposed {
    /// Its id.
    #[schema(value_type = String)]
    pub grant: GrantId,
    /// SHA-256 of the document.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// The code people compare.
    pub short_code: String,
    /// The exact bytes, base64url.
    pub document: String,
    /// Signatures count until here.
    #[schema(value_type = i64)]
    pub approve_by: Timestamp,
    /// Who must sign, in words.
    pub rule_text: String,
    /// What gave the rule.
    pub reasons: Vec<String>,
    /// Who could sign, by group.
    #[schema(value_type = Object)]
    pub eligible: BTreeMap<GroupSlug, Vec<PersonSlug>>,
}

/// What is asked for, before it is sealed.
pub(super) struct Asked {
    pub(super) subject: Subject,
    /// Agents it is about.
    pub(super) agents: BTreeSet<AgentSlug>,
    pub(super) rule: Rule,
    pub(super) reasons: Vec<String>,
    /// Why, in the person's words.
    pub(super) reason: String,
    /// Sealed no earlier than this: what lifts a freeze is later than the freeze, in whole seconds.
    pub(super) after: Option<Timestamp>,
}

impl Broker {
    /// A person asks that something frozen may go on again. People sign; nobody can do it alone.
    pub async fn ask_to_unfreeze(
        &self,
        person: &PersonSlug,
        key: FreezeKey,
        reason: String,
    ) -> Result<AdministrationProposed, Refusal> {
        self.may_stop(person, &reason)?;
        let Some(frozen) = self.frozen.last_asked(&key) else {
            return Err(Refusal::new(Code::BadRequest, format!("`{key}` is not frozen")));
        };
        let rules = self.rules();
        let agents = match &key {
            FreezeKey::Agent(agent) if rules.directory.agent(agent).is_some() => [agent.clone()].into(),
            _ => BTreeSet::new(),
        };
        let asked = Asked {
            subject: Subject::Unfreeze(key),
            agents,
            rule: rules.guardrails.unfreeze_rule(),
            reasons: vec!["administration.unfreeze".into()],
            reason,
            after: Some(frozen.at.plus(1)),
        };
        self.administer(person, asked, &rules).await
    }

    /// Seals an administration grant.
    pub(super) async fn administer(
        &self,
        person: &PersonSlug,
        asked: Asked,
        rules: &Rules,
    ) -> Result<AdministrationProposed, Refusal> {
        let now = self.gate.may_issue()?;
        let sealed_at = asked.after.map_or(now, |after| now.max(after));
        let seconds = rules.guardrails.document().administration.approve_seconds;
        let authors = if asked.rule.separate_authors { self.authors(rules) } else { BTreeSet::new() };
        let document = Administration {
            version: VERSION,
            kind: AdministrationKind::Administration,
            id: GrantId::generate(now),
            epoch: self.gate.epoch(),
            issuer: self.settings.issuer.clone(),
            requester: person.clone(),
            agents: asked.agents,
            subject: asked.subject,
            decision: AdministrationDecision {
                id: DecisionId::generate(now),
                rule: asked.rule,
                reasons: asked.reasons,
                policy: rules.policy.digest(),
                catalog: rules.catalog.digest(),
                directory: rules.directory.digest(),
                guardrails: rules.guardrails.digest(),
                authors,
            },
            time: AdministrationTimes {
                sealed_at,
                approve_by: now.plus(i64::from(seconds)),
                nonce: String::new(),
            },
        };
        let sealed = SealedAdministration::seal(document)
            .map_err(|e| Refusal::new(Code::BadRequest, format!("it cannot be sealed: {e}")))?;
        let eligible = signers(&Signable::from(&sealed), rules)?;
        let proposed = proposed(&sealed, eligible);
        let event = Event::new(EventKind::AdministrationSealed, Actor::Person(person.clone()), now)
            .grant(proposed.grant)
            .fact("digest", proposed.digest.to_string())
            .fact("subject", subject_text(&sealed.document().subject))
            .fact("rule", proposed.rule_text.clone())
            .fact("reasons", proposed.reasons.clone())
            .text(SaltedText::new("reason", asked.reason));
        self.store.seal_administration(sealed, MOST_PENDING, event).await.map_err(|refused| match refused {
            SealRefused::Store(error) => self.gate.store_failed(&error),
            _ => Refusal::new(
                Code::TooManyOpen,
                format!("{MOST_PENDING} administration grants wait already; deny one, or wait until one lapses"),
            ),
        })?;
        self.gate.store_recorded(now);
        self.tell_people("approval_needed", proposed.grant);
        Ok(proposed)
    }

    /// Takes a person's token over an administration grant.
    pub(super) async fn answer_administration(
        self: &Arc<Self>,
        mut record: AdministrationRecord,
        answered: Answered,
    ) -> Result<AnswerTaken, Refusal> {
        for _ in 0..RETRIES {
            let now = self.gate.now();
            let rules = self.rules();
            self.same_broker(record.sealed.document().epoch, &record.sealed.document().issuer)?;
            let signed = Signable::from(&record.sealed);
            let known = received(&record.approvals, &answered.token, &signed, &rules.directory);
            let approval = match known {
                Some(known) => known.clone(),
                None => self.verified(&answered.token, signed.clone(), &rules.directory, now)?,
            };
            check_reason(&approval, answered.reason.as_deref())?;
            let Some((state, approvals)) = next_state(record.state, &record.approvals, &approval)? else {
                let missing = self.missing_of(&record, &active(&record.approvals)).await?;
                return Ok(taken(&record, &approval, record.state, missing));
            };
            let missing = self.missing_of(&record, &approvals).await?;
            let complete = state == GrantState::Pending && missing.is_satisfied();
            if let (true, Subject::Playbook(playbook)) = (complete, &record.sealed.document().subject) {
                // INVARIANT: no-self-approval. A playbook that only its own parties could review never comes in force.
                let (owner, requester) = (&playbook.review.owner, &record.sealed.document().requester);
                somebody_reviews(owner, &playbook.agents, requester, &approvals, &rules.directory).map_err(
                    |why| Refusal::new(Code::PolicyDenied, format!("{why}; let somebody else sign")),
                )?;
            }
            let state = if complete { GrantState::Approved } else { state };
            let change = AdministrationChange {
                id: signed.id,
                revision: record.revision,
                state,
                approval: Some(approval.clone()),
                events: events(&record, &approval, complete, answered.reason.clone(), now),
            };
            let lifts = match &record.sealed.document().subject {
                Subject::Unfreeze(key) if complete => Some(key),
                _ => None,
            };
            let known = match lifts {
                Some(key) => self.settled_freeze(key).await.map_err(|e| self.gate.store_failed(&e))?,
                None => None,
            };
            match self.store.change_administration(change).await {
                Ok(()) => {
                    self.gate.store_recorded(now);
                    if let Some(key) = lifts {
                        self.frozen.unfreeze(key, known);
                    }
                    self.keep_head().await;
                    return Ok(taken(&record, &approval, state, missing));
                }
                Err(ChangeRefused::Moved) => record = self.administration_of(signed.id).await?,
                Err(ChangeRefused::Store(error)) => return Err(self.gate.store_failed(&error)),
                Err(ChangeRefused::Missing) => return Err(conflict()),
            }
        }
        Err(conflict())
    }

    /// An administration grant by id.
    pub(super) async fn administration_of(&self, id: GrantId) -> Result<AdministrationRecord, Refusal> {
        let record = self.store.administration(id).await.map_err(|e| self.gate.store_failed(&e))?;
        record.ok_or_else(|| Refusal::new(Code::NotFound, format!("no grant `{id}`")))
    }

    /// The exact bytes of an administration grant and what happened to it.
    pub(super) async fn administration_document(&self, id: GrantId) -> Result<GrantDocument, Refusal> {
        let record = self.administration_of(id).await?;
        let missing = self.missing_of(&record, &active(&record.approvals)).await?;
        Ok(GrantDocument {
            grant: id,
            document: encode(record.sealed.bytes()),
            state: record.state,
            approvals: record.approvals.iter().map(view).collect(),
            outstanding: missing.0,
            claim_until: None,
            evidence_salt: None,
            warnings: Vec::new(),
            story: None,
        })
    }

    /// Pending administration grants, as `person` sees them.
    pub(super) async fn open_administrations(
        &self,
        person: &PersonSlug,
    ) -> Result<Vec<ApprovalLine>, Refusal> {
        let rules = self.rules();
        let open = self.store.open_administrations().await.map_err(|e| self.gate.store_failed(&e))?;
        let line = |record: &AdministrationRecord| {
            let document = record.sealed.document();
            let mut line = line_of(
                &Signable::from(&record.sealed),
                record.state,
                &record.approvals,
                person,
                &rules.directory,
            );
            line.kind = "administration".into();
            line.class = "administration".into();
            line.summary = subject_text(&document.subject);
            match &document.subject {
                Subject::Unfreeze(_) => line.action = "unfreeze".into(),
                Subject::Playbook(playbook) => {
                    line.action = "playbook".into();
                    line.environment = playbook.environment.to_string();
                }
            }
            line
        };
        Ok(open.iter().map(line).collect())
    }

    /// A pending administration grant whose time ran out.
    pub(super) async fn lapse_administration(&self, record: AdministrationRecord, now: Timestamp) {
        let id = record.sealed.document().id;
        let event = Event::new(EventKind::GrantLapsed, Actor::Broker, now).grant(id);
        let change = AdministrationChange {
            id,
            revision: record.revision,
            state: GrantState::Lapsed,
            approval: None,
            events: vec![event.fact("from", record.state.name())],
        };
        match self.store.change_administration(change).await {
            Ok(()) => {
                self.gate.store_recorded(now);
                self.tell_people("grant_lapsed", id);
            }
            Err(ChangeRefused::Store(error)) => {
                self.gate.store_failed(&error);
            }
            Err(_) => {}
        }
    }

    /// INVARIANT: re-decided, no-self-approval. It takes effect with the last signature, so that is when today's rule
    /// and today's authors count beside those that were signed.
    async fn missing_of(
        &self,
        record: &AdministrationRecord,
        approvals: &[Approval],
    ) -> Result<Outstanding, Refusal> {
        let signed = Signable::from(&record.sealed);
        let then = self.directory_at(signed.directory).await?;
        let rules = self.rules();
        let today = match &record.sealed.document().subject {
            Subject::Unfreeze(_) => rules.guardrails.unfreeze_rule(),
            // What policy asks for is looked up at each use.
            Subject::Playbook(_) => signed.rule.clone(),
        };
        let mut authors = signed.authors.clone();
        if today.separate_authors || signed.rule.separate_authors {
            authors.extend(self.authors(&rules));
        }
        let lacks = |rule| {
            let signed = Signable { authors: &authors, ..signed.clone() };
            outstanding(rule, approvals, signed, &[&then, &rules.directory])
        };
        Ok(lacks(signed.rule).or_more(lacks(&today)))
    }
}

/// What it does, in one line.
pub(super) fn subject_text(subject: &Subject) -> String {
    match subject {
        Subject::Unfreeze(key) => format!("Let `{key}` go on again"),
        Subject::Playbook(playbook) => format!(
            "Let {} run `{}` by itself, at most {} times until {} (playbook {})",
            playbook.agents.iter().map(AgentSlug::as_str).collect::<Vec<_>>().join(", "),
            playbook.action,
            playbook.max_uses,
            playbook.not_after,
            playbook.name
        ),
    }
}

fn proposed(
    sealed: &SealedAdministration,
    eligible: BTreeMap<GroupSlug, Vec<PersonSlug>>,
) -> AdministrationProposed {
    let document = sealed.document();
    AdministrationProposed {
        grant: document.id,
        digest: sealed.digest(),
        short_code: sealed.digest().short_code(),
        document: encode(sealed.bytes()),
        approve_by: document.time.approve_by,
        rule_text: document.decision.rule.to_string(),
        reasons: document.decision.reasons.clone(),
        eligible,
    }
}

fn taken(
    record: &AdministrationRecord,
    approval: &Approval,
    state: GrantState,
    missing: Outstanding,
) -> AnswerTaken {
    AnswerTaken {
        grant: record.sealed.document().id,
        state,
        decision: approval.claims.decision,
        outstanding: missing.0,
        claim_until: None,
    }
}

fn events(
    record: &AdministrationRecord,
    approval: &Approval,
    complete: bool,
    reason: Option<String>,
    now: Timestamp,
) -> Vec<Event> {
    let document = record.sealed.document();
    let digest = record.sealed.digest().to_string();
    let mut events = vec![received_event(&Signable::from(&record.sealed), None, approval, reason, now)];
    if complete && approval.claims.decision == Answer::Approve {
        let event =
            |kind| Event::new(kind, Actor::Broker, now).grant(document.id).fact("digest", digest.clone());
        events.push(event(EventKind::GrantApproved));
        events.push(match &document.subject {
            Subject::Unfreeze(key) => event(EventKind::Unfrozen).fact("key", key.to_string()),
            Subject::Playbook(playbook) => event(EventKind::PlaybookSigned)
                .fact("name", playbook.name.as_str())
                .fact("action", playbook.action.as_str())
                .fact("environment", playbook.environment.as_str())
                .fact("not_after", playbook.not_after.seconds()),
        });
    }
    events
}
