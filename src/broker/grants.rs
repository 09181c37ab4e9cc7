//! Reading grants: what people and agents see of them, and the approvals that count.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Broker;
use super::ports::GrantRecord;
use super::refusal::{Code, Refusal};
use super::rules::Rules;
use crate::domain::approval::{Answer, Approval, Outstanding, Signable, eligible, outstanding};
use crate::domain::digest::{Digest, encode};
use crate::domain::directory::{Directory, DirectoryDocument};
use crate::domain::grant::GrantState;
use crate::domain::id::GrantId;
use crate::domain::principal::{AgentSlug, GroupSlug, PersonSlug};
use crate::domain::proposal::Story;
use crate::domain::time::Timestamp;

/// When an agent that could not wait asks again.
const POLL_AGAIN_SECONDS: u32 = 5;

/// An open grant in a list for people.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApprovalLine {
    /// The grant.
    #[schema(value_type = String)]
    pub grant: GrantId,
    /// `credential` or `administration`.
    pub kind: String,
    /// SHA-256 of its bytes.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// The code people compare.
    pub short_code: String,
    /// Action type.
    pub action: String,
    /// What it does, in the catalog's words.
    pub summary: String,
    /// Where.
    pub environment: String,
    /// Kind of harm.
    pub class: String,
    /// Who proposed.
    pub agent: String,
    /// On whose behalf.
    pub requester: String,
    /// Where it stands.
    #[schema(value_type = String)]
    pub state: GrantState,
    /// When it was sealed.
    #[schema(value_type = i64)]
    pub sealed_at: Timestamp,
    /// Signatures count until here.
    #[schema(value_type = i64)]
    pub approve_by: Timestamp,
    /// Who must sign.
    pub rule_text: String,
    /// What is missing.
    #[schema(value_type = Object)]
    pub outstanding: BTreeMap<GroupSlug, u32>,
    /// Whether the caller may sign it.
    pub you_may_sign: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
}

/// A token received, as others see it.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApprovalView {
    /// Who.
    #[schema(value_type = String)]
    pub person: PersonSlug,
    /// What they said.
    #[schema(value_type = String)]
    pub decision: Answer,
    /// When the broker received it.
    #[schema(value_type = i64)]
    pub received_at: Timestamp,
    /// The token.
    pub token: String,
}

/// A grant's exact bytes, for people.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GrantDocument {
    /// The grant.
    #[schema(value_type = String)]
    pub grant: GrantId,
    /// The exact bytes, base64url.
    pub document: String,
    /// Where it stands.
    #[schema(value_type = String)]
    pub state: GrantState,
    /// Tokens received.
    pub approvals: Vec<ApprovalView>,
    /// What is missing.
    #[schema(value_type = Object)]
    pub outstanding: BTreeMap<GroupSlug, u32>,
    /// It can be claimed until here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub claim_until: Option<Timestamp>,
    /// What the agent wrote; untrusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub story: Option<Story>,
    /// The salt that binds it to the grant, base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence_salt: Option<String>,
    /// What the broker knows beside the document and people should: that the policy may soon not fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A grant as its agents see it.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GrantStatus {
    /// The grant.
    #[schema(value_type = String)]
    pub grant: GrantId,
    /// SHA-256 of its bytes.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// The code people compare.
    pub short_code: String,
    /// Where it stands.
    #[schema(value_type = String)]
    pub state: GrantState,
    /// Signatures count until here.
    #[schema(value_type = i64)]
    pub approve_by: Timestamp,
    /// It can be claimed until here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub claim_until: Option<Timestamp>,
    /// The approvals that count, to be presented at the claim.
    pub approvals: Vec<ApprovalView>,
    /// What is missing.
    #[schema(value_type = Object)]
    pub outstanding: BTreeMap<GroupSlug, u32>,
    /// Who denied it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub denied_by: Option<PersonSlug>,
}

/// The answer to an agent that asks where a grant stands.
pub struct Polled {
    /// Where it stands.
    pub status: GrantStatus,
    /// It could not wait here; asking again makes sense after so many seconds.
    pub retry_after: Option<u32>,
}

/// The approvals that count: approve tokens whose person has not taken them back since.
pub(super) fn active(approvals: &[Approval]) -> Vec<Approval> {
    let later_withdrawn = |at: usize, person: &PersonSlug| {
        approvals
            .iter()
            .skip(at + 1)
            .any(|a| a.claims.decision == Answer::Withdraw && a.claims.iss == *person)
    };
    approvals
        .iter()
        .enumerate()
        .filter(|(at, a)| a.claims.decision == Answer::Approve && !later_withdrawn(*at, &a.claims.iss))
        .map(|(_, a)| a.clone())
        .collect()
}

/// The directory that was in force at some time.
pub(super) enum DirectoryThen {
    /// It still is.
    StillInForce(Arc<Rules>),
    /// An earlier one.
    ReadBack(Box<Directory>),
}

impl Deref for DirectoryThen {
    type Target = Directory;
    fn deref(&self) -> &Directory {
        match self {
            Self::StillInForce(rules) => &rules.directory,
            Self::ReadBack(directory) => directory,
        }
    }
}

impl Broker {
    /// What waits for signatures, as `person` sees it: grants, then administration grants.
    pub async fn open_approvals(&self, person: &PersonSlug) -> Result<Vec<ApprovalLine>, Refusal> {
        let rules = self.rules();
        let open = self.store.open_grants(None).await.map_err(|e| self.gate.store_failed(&e))?;
        let mut lines: Vec<ApprovalLine> =
            open.iter().map(|record| line(record, person, &rules.directory)).collect();
        lines.extend(self.open_administrations(person).await?);
        Ok(lines)
    }

    /// Plans that were rendered for a person to carry out and whose time has not run out, newest first.
    pub async fn suggestions(&self, person: &PersonSlug) -> Result<Vec<ApprovalLine>, Refusal> {
        let rules = self.rules();
        let found = self.store.suggestions().await.map_err(|e| self.gate.store_failed(&e))?;
        let now = self.gate.now();
        let timely = found.iter().filter(|record| !record.sealed.grant().time.approve_by.has_passed(now));
        Ok(timely.map(|record| line(record, person, &rules.directory)).collect())
    }

    /// The exact bytes of a grant of either type and what happened to it, for people.
    pub async fn document(&self, id: GrantId) -> Result<GrantDocument, Refusal> {
        let Some(record) = self.store.grant(id).await.map_err(|e| self.gate.store_failed(&e))? else {
            return self.administration_document(id).await;
        };
        let missing = self.missing(&record).await?;
        Ok(GrantDocument {
            grant: id,
            document: encode(record.sealed.bytes()),
            state: record.state,
            approvals: record.approvals.iter().map(view).collect(),
            outstanding: missing.0,
            claim_until: record.claim_until,
            evidence_salt: record.evidence.as_ref().map(|e| encode(&e.salt)),
            warnings: self.packed_warning(&record.sealed.grant().action.action_type),
            story: record.evidence.map(|e| e.story),
        })
    }

    /// A grant as its proposing or claiming agent sees it; waits up to `wait` for a change while it is pending, and not
    /// at all where too many wait already.
    pub async fn grant_status(
        &self,
        id: GrantId,
        agent: &AgentSlug,
        wait: Duration,
    ) -> Result<Polled, Refusal> {
        let until = tokio::time::Instant::now() + wait.min(Duration::from_secs(60));
        let first = self.record_of_agent(id, agent).await?;
        if first.state != GrantState::Pending || wait.is_zero() {
            return Ok(Polled { status: self.status(&first).await?, retry_after: None });
        }
        // SECURITY: who waits holds a connection; without a bound, waiting agents would keep a stop out.
        let Some(waiting) = self.waits.seat(agent, id) else {
            let retry_after = Some(POLL_AGAIN_SECONDS);
            return Ok(Polled { status: self.status(&first).await?, retry_after });
        };
        loop {
            let changed = waiting.changed();
            let record = self.record_of_agent(id, agent).await?;
            let settled = record.state != GrantState::Pending || record.revision != first.revision;
            if settled || tokio::time::Instant::now() >= until {
                return Ok(Polled { status: self.status(&record).await?, retry_after: None });
            }
            let _ = tokio::time::timeout_at(until, changed).await;
        }
    }

    async fn record_of_agent(&self, id: GrantId, agent: &AgentSlug) -> Result<GrantRecord, Refusal> {
        let record = self.record_of(id).await?;
        let who = &record.sealed.grant().who;
        if who.proposing_agent != *agent && who.claiming_agent != *agent {
            return Err(Refusal::new(Code::NotFound, format!("no grant `{id}` of yours")));
        }
        Ok(record)
    }

    /// The directory in force when the grant was sealed.
    pub(super) async fn directory_at(&self, digest: Digest) -> Result<DirectoryThen, Refusal> {
        let current = self.rules();
        if current.directory.digest() == digest {
            return Ok(DirectoryThen::StillInForce(current));
        }
        // INVARIANT: unknown-is-no. A directory that cannot be read back refuses.
        let lost = || {
            Refusal::new(
                Code::StoreUnavailable,
                "the directory this grant was sealed under cannot be read back",
            )
        };
        let text =
            self.store.directory(digest).await.map_err(|e| self.gate.store_failed(&e))?.ok_or_else(lost)?;
        let document: DirectoryDocument = serde_json::from_str(&text).map_err(|_| lost())?;
        Directory::check(document).map(|then| DirectoryThen::ReadBack(Box::new(then))).map_err(|_| lost())
    }

    pub(super) async fn record_of(&self, id: GrantId) -> Result<GrantRecord, Refusal> {
        let record = self.store.grant(id).await.map_err(|e| self.gate.store_failed(&e))?;
        record.ok_or_else(|| Refusal::new(Code::NotFound, format!("no grant `{id}`")))
    }

    async fn status(&self, record: &GrantRecord) -> Result<GrantStatus, Refusal> {
        let missing = self.missing(record).await?;
        let denied = record.approvals.iter().find(|a| a.claims.decision == Answer::Deny);
        Ok(GrantStatus {
            grant: record.sealed.grant().id,
            digest: record.sealed.digest(),
            short_code: record.sealed.digest().short_code(),
            state: record.state,
            approve_by: record.sealed.grant().time.approve_by,
            claim_until: record.claim_until,
            approvals: active(&record.approvals).iter().map(view).collect(),
            outstanding: missing.0,
            denied_by: denied.map(|a| a.claims.iss.clone()),
        })
    }

    pub(super) async fn missing(&self, record: &GrantRecord) -> Result<Outstanding, Refusal> {
        self.missing_with(record, &active(&record.approvals)).await
    }

    pub(super) async fn missing_with(
        &self,
        record: &GrantRecord,
        approvals: &[Approval],
    ) -> Result<Outstanding, Refusal> {
        let sealed_under = self.directory_at(record.sealed.grant().decision.directory).await?;
        let rules = self.rules();
        let rule = &record.sealed.grant().decision.rule;
        Ok(outstanding(rule, approvals, &record.sealed, &[&sealed_under, &rules.directory]))
    }
}

pub(super) fn view(approval: &Approval) -> ApprovalView {
    ApprovalView {
        person: approval.claims.iss.clone(),
        decision: approval.claims.decision,
        received_at: approval.received_at,
        token: approval.token.clone(),
    }
}

fn line(record: &GrantRecord, person: &PersonSlug, directory: &Directory) -> ApprovalLine {
    let grant = record.sealed.grant();
    let line = line_of(&Signable::from(&record.sealed), record.state, &record.approvals, person, directory);
    ApprovalLine {
        action: grant.action.action_type.to_string(),
        summary: grant.action.summary.clone(),
        environment: grant.environment.to_string(),
        class: grant.action.class.to_string(),
        agent: grant.who.proposing_agent.to_string(),
        ..line
    }
}

/// A line of whatever type, without what is of its type alone.
pub(super) fn line_of(
    signed: &Signable<'_>,
    state: GrantState,
    approvals: &[Approval],
    person: &PersonSlug,
    directory: &Directory,
) -> ApprovalLine {
    let counting = active(approvals);
    let has_signed = counting.iter().any(|a| a.claims.iss == *person);
    let why_not = match eligible(person, signed, directory) {
        _ if state == GrantState::Suggested => Some("it is a suggestion: nobody signs it".to_owned()),
        Err(error) => Some(error.to_string()),
        Ok(()) if has_signed => Some("you have signed it".to_owned()),
        Ok(()) if state != GrantState::Pending => Some(format!("it is `{state}`")),
        Ok(()) => None,
    };
    ApprovalLine {
        grant: signed.id,
        kind: "credential".into(),
        digest: signed.digest,
        short_code: signed.digest.short_code(),
        action: String::new(),
        summary: String::new(),
        environment: String::new(),
        class: String::new(),
        agent: String::new(),
        requester: signed.requester.to_string(),
        state,
        sealed_at: signed.sealed_at,
        approve_by: signed.approve_by,
        rule_text: signed.rule.to_string(),
        outstanding: outstanding(signed.rule, &counting, signed.clone(), &[directory]).0,
        you_may_sign: why_not.is_none(),
        why_not,
    }
}
