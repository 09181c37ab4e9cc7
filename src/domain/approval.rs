//! An approval: one person's signature over one grant, and the witness that a whole rule was satisfied.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::administration::SealedAdministration;
use super::digest::Digest;
use super::directory::Directory;
use super::grant::SealedGrant;
use super::id::{ApprovalId, GrantId};
use super::jws::{JwsError, KeyHeader, Unverified};
use super::key::{Custody, Thumbprint};
use super::principal::{AgentSlug, GroupSlug, PersonSlug, Role};
use super::rule::Rule;
use super::time::Timestamp;

/// The `typ` of an approval token.
pub const APPROVAL_TYP: &str = "approval+jwt";
/// Seconds by which `iat` may differ from the broker's receipt.
pub const MAX_SKEW_SECONDS: i64 = 60;

/// The `sub` of an approval of an administration grant.
pub const ADMINISTRATION_SUBJECT: &str = "administration";

/// What is signed, of whatever type: everything an approval is checked against.
#[derive(Debug, Clone)]
pub struct Signable<'a> {
    /// Its id.
    pub id: GrantId,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// The broker that sealed it.
    pub issuer: &'a str,
    /// The `sub` of its approvals.
    pub subject: &'a str,
    /// Who asked, and so may not sign.
    pub requester: &'a PersonSlug,
    /// Agents whose owners may not sign.
    pub agents: Vec<&'a AgentSlug>,
    /// Authors of the rules in force, who may not sign.
    pub authors: &'a BTreeSet<PersonSlug>,
    /// Who must sign.
    pub rule: &'a Rule,
    /// The directory in force when it was sealed.
    pub directory: Digest,
    /// When it was sealed.
    pub sealed_at: Timestamp,
    /// Approvals count until here.
    pub approve_by: Timestamp,
    /// The `exp` of its approvals; denials and withdrawals count until here.
    pub claim_by: Timestamp,
}

impl<'a> From<&'a SealedGrant> for Signable<'a> {
    fn from(sealed: &'a SealedGrant) -> Self {
        let grant = sealed.grant();
        Self {
            id: grant.id,
            digest: sealed.digest(),
            issuer: &grant.issuer,
            subject: grant.who.claiming_agent.as_str(),
            requester: &grant.who.requester,
            agents: vec![&grant.who.proposing_agent, &grant.who.claiming_agent],
            authors: &grant.decision.authors,
            rule: &grant.decision.rule,
            directory: grant.decision.directory,
            sealed_at: grant.time.sealed_at,
            approve_by: grant.time.approve_by,
            claim_by: grant.time.claim_by,
        }
    }
}

impl<'a> From<&'a SealedAdministration> for Signable<'a> {
    fn from(sealed: &'a SealedAdministration) -> Self {
        let document = sealed.document();
        Self {
            id: document.id,
            digest: sealed.digest(),
            issuer: &document.issuer,
            subject: ADMINISTRATION_SUBJECT,
            requester: &document.requester,
            agents: document.agents.iter().collect(),
            authors: &document.decision.authors,
            rule: &document.decision.rule,
            directory: document.decision.directory,
            sealed_at: document.time.sealed_at,
            approve_by: document.time.approve_by,
            claim_by: document.time.approve_by,
        }
    }
}

/// What the person said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Yes, to exactly this grant.
    Approve,
    /// No; ends the grant.
    Deny,
    /// Takes this person's approval back.
    Withdraw,
}

impl Answer {
    /// The spelling used everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Deny => "deny",
            Self::Withdraw => "withdraw",
        }
    }
}

/// The closed claims of an approval token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalClaims {
    /// The person.
    pub iss: PersonSlug,
    /// The broker's issuer URL.
    pub aud: String,
    /// The claiming agent, or [`ADMINISTRATION_SUBJECT`].
    pub sub: String,
    /// Base64url SHA-256 of the grant's bytes.
    pub grant: Digest,
    /// The grant's id.
    pub grant_id: GrantId,
    /// The answer.
    pub decision: Answer,
    /// Digest of the reason (deny and withdraw).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Digest>,
    /// Signed at, seconds since the epoch.
    pub iat: Timestamp,
    /// Equals the grant's `claim_by`.
    pub exp: Timestamp,
    /// Single use.
    pub jti: ApprovalId,
}

/// Why an approval token does not count. Each variant is one sentence a tired person understands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// Not a well-formed approval token, or its signature fails.
    #[error("the approval token is refused: {0}")]
    Token(#[from] JwsError),
    /// The signing key is not enrolled.
    #[error("the signing key {0} is not enrolled for any person in the directory")]
    UnknownKey(Thumbprint),
    /// The key belongs to another person than `iss` names.
    #[error("the token says it is from `{claimed}`, but the key is enrolled for `{enrolled}`")]
    WrongPerson {
        /// `iss`.
        claimed: PersonSlug,
        /// Whose key signed.
        enrolled: PersonSlug,
    },
    /// Signed over other bytes, another id, agent or broker.
    #[error("the approval is for another {0}")]
    OtherGrant(&'static str),
    /// `iat` too far from the broker's clock, `exp` wrong, or too late.
    #[error("the approval's time is wrong: {0}")]
    Time(String),
    /// The person may not sign this grant.
    #[error("`{person}` may not approve this: {why}")]
    Ineligible {
        /// Who.
        person: PersonSlug,
        /// Why not.
        why: String,
    },
    /// The key's custody is not accepted by the rule.
    #[error("a key kept as `{0}` is not accepted here; the rule accepts: {1}")]
    WrongCustody(Custody, String),
    /// A reason digest is missing, or present where none belongs.
    #[error("a `{0}` token must {1} a reason digest")]
    Reason(&'static str, &'static str),
}

/// A verified approval (or denial, or withdrawal).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Its claims.
    pub claims: ApprovalClaims,
    /// The key that signed.
    pub key: Thumbprint,
    /// How that key is kept.
    pub custody: Custody,
    /// When the broker received it: the instant that counts.
    pub received_at: Timestamp,
    /// The token as received.
    pub token: String,
}

impl Approval {
    /// The id a token gives itself, for finding the record of it; nothing is verified.
    pub fn peek_id(token: &str) -> Option<ApprovalId> {
        let unverified = Unverified::parse(token, APPROVAL_TYP, KeyHeader::Kid).ok()?;
        unverified.peek::<ApprovalClaims>().ok().map(|claims| claims.jti)
    }

    /// Verifies a token for whoever checks it at `now` and did not receive it: the instant that counts is the one in it.
    pub fn verify_later<'a>(
        token: &str,
        signed: impl Into<Signable<'a>>,
        directory: &Directory,
        now: Timestamp,
    ) -> Result<Self, ApprovalError> {
        let unverified = Unverified::parse(token, APPROVAL_TYP, KeyHeader::Kid)?;
        let signed_at = unverified.peek::<ApprovalClaims>()?.iat;
        if signed_at.since(now) > MAX_SKEW_SECONDS {
            return Err(ApprovalError::Time(format!("it is to be signed at {signed_at} only")));
        }
        Self::verify(token, signed, directory, signed_at)
    }

    /// Verifies a token over `signed`, received at `received_at`.
    ///
    /// INVARIANT: signed-before-minted and no-self-approval: key enrolled, person eligible, every claim equal to the grant's own.
    pub fn verify<'a>(
        token: &str,
        signed: impl Into<Signable<'a>>,
        directory: &Directory,
        received_at: Timestamp,
    ) -> Result<Self, ApprovalError> {
        let signed = signed.into();
        let unverified = Unverified::parse(token, APPROVAL_TYP, KeyHeader::Kid)?;
        let kid = unverified.kid().ok_or(JwsError::Malformed)?;
        let (person, enrolled) = directory.person_by_key(&kid).ok_or(ApprovalError::UnknownKey(kid))?;
        // The algorithm is the enrolment's: `verify` refuses a header that names another.
        let claims = unverified.verify::<ApprovalClaims>(&enrolled.jwk)?.claims;
        if claims.iss != *person {
            return Err(ApprovalError::WrongPerson { claimed: claims.iss, enrolled: person.clone() });
        }
        for (same, what) in [
            (claims.aud == signed.issuer, "broker"),
            (claims.grant_id == signed.id, "grant"),
            (claims.sub == signed.subject, "agent"),
            (claims.grant == signed.digest, "grant: the signed bytes differ"),
        ] {
            if !same {
                return Err(ApprovalError::OtherGrant(what));
            }
        }
        check_time(&claims, &signed, received_at)?;
        match (claims.decision, claims.reason.is_some()) {
            (Answer::Approve, true) => return Err(ApprovalError::Reason("approve", "not carry")),
            (Answer::Deny, false) => return Err(ApprovalError::Reason("deny", "carry")),
            (Answer::Withdraw, false) => return Err(ApprovalError::Reason("withdraw", "carry")),
            _ => {}
        }
        if claims.decision == Answer::Approve {
            eligible(person, &signed, directory)?;
            if !signed.rule.custody.contains(&enrolled.custody) {
                let accepted: Vec<&str> = signed.rule.custody.iter().map(|c| c.name()).collect();
                return Err(ApprovalError::WrongCustody(enrolled.custody, accepted.join(", ")));
            }
        } else if !directory.has_role(person, Role::Approver) {
            return Err(ApprovalError::Ineligible { person: person.clone(), why: "not an approver".into() });
        }
        Ok(Self { claims, key: kid, custody: enrolled.custody, received_at, token: token.to_owned() })
    }
}

fn check_time(
    claims: &ApprovalClaims,
    signed: &Signable<'_>,
    received_at: Timestamp,
) -> Result<(), ApprovalError> {
    // Unsigned: the absolute value of the earliest instant of all is no signed number.
    if claims.iat.since(received_at).unsigned_abs() > MAX_SKEW_SECONDS.unsigned_abs() {
        return Err(ApprovalError::Time(format!(
            "signed at {}, received at {received_at}; they may differ by {MAX_SKEW_SECONDS} s",
            claims.iat
        )));
    }
    if claims.exp != signed.claim_by {
        return Err(ApprovalError::Time(format!("`exp` must be the grant's claim_by, {}", signed.claim_by)));
    }
    let limit = if claims.decision == Answer::Approve { signed.approve_by } else { signed.claim_by };
    if limit.has_passed(received_at) {
        return Err(ApprovalError::Time(format!("it could be signed until {limit}")));
    }
    Ok(())
}

/// Whether the person may sign at all: an approver, in a group of the rule, and no party to the request.
pub fn eligible(
    person: &PersonSlug,
    signed: &Signable<'_>,
    directory: &Directory,
) -> Result<(), ApprovalError> {
    let no = |why: &str| Err(ApprovalError::Ineligible { person: person.clone(), why: why.to_owned() });
    if !directory.has_role(person, Role::Approver) {
        return no("not an approver");
    }
    if signed.requester == person {
        return no("they requested it (no self-approval)");
    }
    for agent in &signed.agents {
        match directory.agent(agent) {
            Some(known) if known.owner == *person => return no("they own the agent (no self-approval)"),
            Some(_) => {}
            None => return no("an agent of the grant is not in the directory any more"),
        }
    }
    if signed.authors.contains(person) {
        return no("they wrote, or put in force, the rules it was decided under (separation of duties)");
    }
    if !signed.rule.groups.keys().any(|group| directory.is_member(person, group)) {
        return no("in none of the groups that must sign");
    }
    Ok(())
}

/// What a set of approvals still lacks to satisfy a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outstanding(pub BTreeMap<GroupSlug, u32>);

impl Outstanding {
    /// Whether nothing is missing.
    pub fn is_satisfied(&self) -> bool {
        self.0.is_empty()
    }

    /// What is missing when both must be satisfied.
    pub fn or_more(mut self, other: Self) -> Self {
        for (group, count) in other.0 {
            let missing = self.0.entry(group).or_default();
            *missing = count.max(*missing);
        }
        self
    }
}

/// Counts `approvals` against `rule`. A person counts for a group only when a member in every directory given
/// (the one in force when the grant was sealed, and today's), with a key enrolled in each under an accepted custody.
pub fn outstanding<'a>(
    rule: &Rule,
    approvals: &[Approval],
    signed: impl Into<Signable<'a>>,
    directories: &[&Directory],
) -> Outstanding {
    let signed = signed.into();
    let mut signers: BTreeMap<PersonSlug, BTreeSet<GroupSlug>> = BTreeMap::new();
    for approval in approvals.iter().filter(|a| a.claims.decision == Answer::Approve) {
        let person = &approval.claims.iss;
        let counts = |directory: &&Directory| {
            eligible(person, &signed, directory).is_ok()
                && directory
                    .person_by_key(&approval.key)
                    .is_some_and(|(owner, key)| owner == person && rule.custody.contains(&key.custody))
        };
        if directories.iter().all(counts) {
            let groups =
                rule.groups.keys().filter(|group| directories.iter().all(|d| d.is_member(person, group)));
            signers.entry(person.clone()).or_default().extend(groups.cloned());
        }
    }
    Outstanding(rule.outstanding(&signers))
}
