//! Playbooks: proposed by a person, signed by people under the rule a single grant of its kind would need, listed, and
//! taken out of use. Editing configuration never widens one: what it covers stands in the signed bytes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Broker;
use super::administer::{AdministrationProposed, Asked};
use super::ports::{ChangeRefused, Counted, PlaybookRecord};
use super::refusal::{Code, Refusal};
use super::rules::Rules;
use super::unchanged::unchanged;
use crate::domain::administration::Subject;
use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind, SaltedText};
use crate::domain::id::GrantId;
use crate::domain::playbook::{
    ParameterRange, Playbook, PlaybookBudget, PlaybookState, ReviewTerms, Trigger,
};
use crate::domain::principal::{ActionType, Actor, AgentSlug, Environment, Name, PersonSlug};
use crate::domain::time::Timestamp;

/// A playbook as a person writes it; the broker adds the texts of the catalog entry and of the trigger's source.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaybookDraft {
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
    /// Where.
    #[schema(value_type = String)]
    pub environment: Environment,
    /// The one action type.
    #[schema(value_type = String)]
    pub action: ActionType,
    /// The agents that may propose and claim.
    #[schema(value_type = Vec<String>)]
    pub agents: BTreeSet<AgentSlug>,
    /// Every parameter with what it may be: `{"values": ["a", "b"]}` or `{"integers": {"min": 1, "max": 3}}`.
    #[schema(value_type = Object)]
    pub parameters: BTreeMap<String, ParameterRange>,
    /// Longest work time of one use, seconds.
    pub work_seconds: u32,
    /// At most so many uses within any so many seconds.
    #[schema(value_type = Object)]
    pub budget: PlaybookBudget,
    /// How often in all.
    pub max_uses: u32,
    /// `{"probes": [{"name": "…", "value": "…"}]}` or `{"alert": {"source": "…", "alert": "…"}}`.
    #[schema(value_type = Object)]
    pub trigger: Trigger,
    /// It covers nothing from here on, seconds since the epoch.
    #[schema(value_type = i64)]
    pub not_after: Timestamp,
    /// Who reviews each use, and by when.
    #[schema(value_type = Object)]
    pub review: ReviewTerms,
    /// Why, in the person's words; at most 512 bytes.
    pub reason: String,
}

/// A playbook, for people.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlaybookView {
    /// The administration grant that put it in force.
    #[schema(value_type = String)]
    pub grant: GrantId,
    /// What grants under it name.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
    /// Where.
    #[schema(value_type = String)]
    pub environment: Environment,
    /// The one action type.
    #[schema(value_type = String)]
    pub action: ActionType,
    /// The agents that may use it.
    #[schema(value_type = Vec<String>)]
    pub agents: BTreeSet<AgentSlug>,
    /// `active` or `suspended`.
    #[schema(value_type = String)]
    pub state: PlaybookState,
    /// Why it covers nothing now, although it is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_out: Option<String>,
    /// It covers nothing from here on.
    #[schema(value_type = i64)]
    pub not_after: Timestamp,
    /// Uses so far.
    pub uses: u64,
    /// Uses in all.
    pub max_uses: u32,
    /// Reviews past due.
    pub overdue_reviews: u64,
}

impl Broker {
    /// A person proposes a playbook; people sign it under the rule that a single grant of its kind would need.
    pub async fn propose_playbook(
        &self,
        person: &PersonSlug,
        draft: PlaybookDraft,
    ) -> Result<AdministrationProposed, Refusal> {
        let now = self.gate.may_issue()?;
        let rules = self.rules();
        let reason = draft.reason.clone();
        let (playbook, combinations) = self.checked(person, draft, &rules, now)?;
        let name_taken = self.store.playbooks(now).await.map_err(|e| self.gate.store_failed(&e))?;
        if name_taken.iter().any(|record| is_current(record, &playbook.name, now)) {
            return Err(invalid(format!(
                "a playbook `{}` is in force already; suspend it first, or choose another name",
                playbook.name
            )));
        }
        let (rule, reasons) = self.single_grant_rule(&playbook, &combinations, &rules, now)?;
        let agents = playbook.agents.clone();
        let subject = Subject::Playbook(Box::new(playbook));
        self.administer(person, Asked { subject, agents, rule, reasons, reason, after: None }, &rules).await
    }

    /// Playbooks that were ever in force, newest first.
    pub async fn playbooks(&self) -> Result<Vec<PlaybookView>, Refusal> {
        let now = self.gate.now();
        let rules = self.rules();
        let records = self.store.playbooks(now).await.map_err(|e| self.gate.store_failed(&e))?;
        let mut views = Vec::with_capacity(records.len());
        for record in &records {
            let digest = record.administration.sealed.digest();
            let Some(playbook) = record.administration.sealed.playbook() else { continue };
            let used = self.used(Counted { key: uses_key(digest), since: None }).await?;
            let why_out = match record.state {
                PlaybookState::Suspended => None,
                PlaybookState::Active => self.in_use(record, playbook, used, &rules, now).err(),
            };
            views.push(PlaybookView {
                grant: record.administration.sealed.document().id,
                digest,
                name: playbook.name.clone(),
                environment: playbook.environment.clone(),
                action: playbook.action.clone(),
                agents: playbook.agents.clone(),
                state: record.state,
                why_out,
                not_after: playbook.not_after,
                uses: used,
                max_uses: playbook.max_uses,
                overdue_reviews: record.overdue,
            });
        }
        Ok(views)
    }

    /// A person takes a playbook out of use, for good. Any approver or operator may, as with a stop; unlike a stop it
    /// ends no running lease.
    pub async fn suspend_playbook(
        &self,
        person: &PersonSlug,
        grant: GrantId,
        reason: String,
    ) -> Result<PlaybookState, Refusal> {
        self.may_stop(person, &reason)?;
        let record = self.administration_of(grant).await?;
        if record.sealed.playbook().is_none() {
            return Err(Refusal::new(Code::BadRequest, format!("`{grant}` is no playbook")));
        }
        let now = self.gate.now();
        let event = Event::new(EventKind::PlaybookSuspended, Actor::Person(person.clone()), now)
            .grant(grant)
            .fact("digest", record.sealed.digest().to_string())
            .text(SaltedText::new("reason", reason));
        match self.store.suspend_playbook(record.sealed.digest(), event).await {
            Ok(()) => {
                self.gate.store_recorded(now);
                self.keep_head().await;
                Ok(PlaybookState::Suspended)
            }
            Err(ChangeRefused::Store(error)) => Err(self.gate.store_failed(&error)),
            Err(ChangeRefused::Moved) => Err(Refusal::new(Code::Conflict, "it is suspended already")),
            Err(ChangeRefused::Missing) => Err(Refusal::new(
                Code::GrantNotOpen,
                format!("`{grant}` is not in force; deny it instead (`phasebroker approvals deny`)"),
            )),
        }
    }

    /// Whether a playbook covers anything now, apart from what an action asks for; otherwise why not.
    pub(super) fn in_use(
        &self,
        record: &PlaybookRecord,
        playbook: &Playbook,
        used: u64,
        rules: &Rules,
        now: Timestamp,
    ) -> Result<(), String> {
        let document = record.administration.sealed.document();
        if record.state != PlaybookState::Active {
            return Err("it is suspended".into());
        }
        if document.epoch != self.gate.epoch() || document.issuer != self.settings.issuer {
            return Err("it was signed for another epoch or broker; sign a new one".into());
        }
        if playbook.not_after.has_passed(now) {
            return Err(format!("it ended at {}", playbook.not_after));
        }
        unchanged(playbook, &rules.catalog, &rules.guardrails)?;
        if record.overdue > 0 {
            return Err(format!("{} reviews of it are overdue", record.overdue));
        }
        match used < u64::from(playbook.max_uses) {
            true => Ok(()),
            false => Err(format!("all its {} uses are used up", playbook.max_uses)),
        }
    }

    /// What counts of one key.
    pub(super) async fn used(&self, counted: Counted) -> Result<u64, Refusal> {
        let used = self.store.used(counted).await.map_err(|e| self.gate.store_failed(&e))?;
        Ok(used)
    }
}

/// What all uses of a playbook are counted under.
pub(super) fn uses_key(playbook: Digest) -> String {
    format!("playbook:{playbook}:uses")
}

/// What the uses within its window are counted under.
pub(super) fn window_key(playbook: Digest) -> String {
    format!("playbook:{playbook}:window")
}

fn is_current(record: &PlaybookRecord, name: &Name, now: Timestamp) -> bool {
    record.state == PlaybookState::Active
        && record
            .administration
            .sealed
            .playbook()
            .is_some_and(|playbook| playbook.name == *name && !playbook.not_after.has_passed(now))
}

pub(super) fn invalid(problem: String) -> Refusal {
    Refusal::new(Code::ProposalInvalid, problem)
}
