//! The countersigner's judgement: whether people signed exactly this grant, by its own copies of directory, catalog and
//! floor. It believes nothing that a broker says beside the signed bytes. Pure: no clock, storage or network.

pub mod discovery;

use std::collections::BTreeSet;

use crate::catalog::{self, Catalog, CompileError};
use crate::domain::approval::{Answer, Approval, ApprovalError, MAX_SKEW_SECONDS, Outstanding};
use crate::domain::authority::{ApprovedGrant, Quorum};
use crate::domain::canonical::CanonicalError;
use crate::domain::countersign::Request;
use crate::domain::decision::Tier;
use crate::domain::digest::{BadBase64, decode};
use crate::domain::directory::Directory;
use crate::domain::grant::{Grant, SealedGrant};
use crate::domain::plan::{AwsCredential, Credential};
use crate::domain::principal::{Environment, PersonSlug};
use crate::domain::time::Timestamp;
use crate::domain::web_identity::IdentityClaims;
use crate::policy::floor;

/// Most approvals of a request.
const MAX_APPROVALS: usize = 32;
/// Longest life of a token, seconds. It can be used more than once until then, so it is short.
const TOKEN_SECONDS: i64 = 60;

/// What is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    /// The one broker whose grants count.
    pub broker: &'a str,
    /// The issuer whose key signs.
    pub issuer: &'a str,
    /// Environments that are signed for.
    pub environments: &'a BTreeSet<Environment>,
    /// Its own catalog.
    pub catalog: &'a Catalog,
    /// Its own directory.
    pub directory: &'a Directory,
}

/// A grant that people signed, may be minted now, and is what the catalog gives.
#[derive(Debug)]
pub struct Countersigned {
    approved: ApprovedGrant,
    aws: AwsCredential,
    until: Timestamp,
}

/// Why no token is given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The grant is no canonical base64url.
    #[error("the grant is refused: {0}")]
    Spelling(#[from] BadBase64),
    /// The grant is no document of ours.
    #[error("the grant is refused: {0}")]
    Form(#[from] CanonicalError),
    /// Of another broker, environment or issuer.
    #[error("the grant is of another {0}")]
    Foreign(&'static str),
    /// People did not sign this one.
    #[error("nobody signs such a grant: it is `{0}`; only what people signed themselves gets a token")]
    NotForPeople(&'static str),
    /// The catalog here gives another plan.
    #[error("the catalog here gives another plan: `{0}` differs")]
    Differs(String),
    /// The catalog here gives no plan.
    #[error("the catalog here gives no such plan: {0}")]
    Compile(#[from] CompileError),
    /// Fewer people than the code demands.
    #[error("{0}")]
    BelowFloor(String),
    /// None, or too many.
    #[error("present 1 to {MAX_APPROVALS} approvals")]
    Approvals,
    /// One of them does not count.
    #[error(transparent)]
    Approval(#[from] ApprovalError),
    /// A token that says no.
    #[error("`{0}` did not approve it")]
    NotApproved(String),
    /// The signed rule is not satisfied.
    #[error("the approvals do not satisfy the rule that was signed; missing: {0}")]
    Missing(String),
    /// It would live for longer than any policy can say.
    #[error("it can be signed or claimed for longer than any policy can say")]
    TooLong,
    /// The time to claim is over, or not yet there.
    #[error("the time to claim it is not now")]
    Expired,
}

impl Refused {
    /// The stable code of the answer.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Spelling(_) | Self::Form(_) => "grant_invalid",
            Self::Foreign(_) => "grant_foreign",
            Self::NotForPeople(_) => "not_signed_by_people",
            Self::Differs(_) | Self::Compile(_) => "plan_differs",
            Self::BelowFloor(_) => "below_floor",
            Self::Approvals | Self::Missing(_) => "approvals_missing",
            Self::Approval(_) | Self::NotApproved(_) => "approval_invalid",
            Self::TooLong => "grant_too_long",
            Self::Expired => "grant_expired",
        }
    }
}

impl Judge<'_> {
    /// INVARIANT: signed-before-minted. Everything that a broker checks at the claim, but with nothing of the broker's.
    pub fn judge(&self, request: &Request, now: Timestamp) -> Result<Countersigned, Refused> {
        let sealed = SealedGrant::parse(&decode(&request.grant)?)?;
        let grant = sealed.grant();
        let aws = self.ours(grant)?;
        // A voucher and break-glass are signed like any other; a suggestion and a use of a playbook by nobody.
        match (grant.decision.tier, grant.decision.playbook) {
            (Tier::NeedsApproval, None) => {}
            (_, Some(_)) => return Err(Refused::NotForPeople("under a playbook")),
            (tier, None) => return Err(Refused::NotForPeople(tier.name())),
        }
        // INVARIANT: re-decided, exact-scope. The catalog here says what it is, and so how many must sign.
        let plan = catalog::recompile(grant, self.catalog)?;
        if let Some(member) = catalog::difference(&plan, &grant.action, &grant.credential) {
            return Err(Refused::Differs(member));
        }
        let (action, rule) = (plan.action(), &grant.decision.rule);
        floor::holds(action.class, action.reversible, rule).map_err(Refused::BelowFloor)?;
        let approvals = self.approvals(&sealed, &request.approvals, now)?;
        let signed_last =
            approvals.iter().map(|approval| approval.claims.iat).max().ok_or(Refused::Approvals)?;
        let (authors, directory) = (&grant.decision.authors, self.directory);
        let quorum = Quorum { rule, authors, then: directory, now: directory };
        let time = &grant.time;
        if !time.is_short() {
            return Err(Refused::TooLong);
        }
        // The broker's receipt, from which the seconds to claim run, is within so much of the signature.
        let window = signed_last.plus(MAX_SKEW_SECONDS).plus(i64::from(time.claim_seconds));
        let until = window.min(time.claim_by);
        if until.has_passed(now) || time.sealed_at.since(now) > MAX_SKEW_SECONDS {
            return Err(Refused::Expired);
        }
        let aws = aws.clone();
        let approved = ApprovedGrant::check(sealed.clone(), approvals, &quorum).map_err(missing)?;
        Ok(Countersigned { approved, aws, until })
    }

    /// The credential of a grant of this broker, these environments and this issuer.
    fn ours<'g>(&self, grant: &'g Grant) -> Result<&'g AwsCredential, Refused> {
        if grant.issuer != self.broker {
            return Err(Refused::Foreign("broker"));
        }
        if !self.environments.contains(&grant.environment) {
            return Err(Refused::Foreign("environment"));
        }
        match &grant.credential {
            Credential::Aws(aws) => match &aws.web_identity {
                Some(web) if web.issuer == self.issuer => Ok(aws),
                _ => Err(Refused::Foreign("issuer")),
            },
            Credential::Jwt(_) => Err(Refused::Foreign("provider")),
        }
    }

    /// Every token, verified.
    fn approvals(
        &self,
        sealed: &SealedGrant,
        tokens: &[String],
        now: Timestamp,
    ) -> Result<Vec<Approval>, Refused> {
        if !(1..=MAX_APPROVALS).contains(&tokens.len()) {
            return Err(Refused::Approvals);
        }
        let mut all: Vec<Approval> = Vec::new();
        for token in tokens {
            let approval = Approval::verify_later(token, sealed, self.directory, now)?;
            if approval.claims.decision != Answer::Approve {
                return Err(Refused::NotApproved(approval.claims.iss.to_string()));
            }
            all.push(approval);
        }
        Ok(all)
    }
}

impl Countersigned {
    /// The grant.
    pub fn sealed(&self) -> &SealedGrant {
        self.approved.sealed()
    }

    /// Who signed it.
    pub fn people(&self) -> impl Iterator<Item = &PersonSlug> {
        self.approved.approvals().iter().map(|approval| &approval.claims.iss)
    }

    /// When a token that is given now ends: within a minute, and with the time to claim.
    pub fn token_ends(&self, now: Timestamp) -> Timestamp {
        now.plus(TOKEN_SECONDS).min(self.until)
    }

    /// What is signed; `None` never comes, since a grant without a web identity is refused.
    pub fn claims(&self, iat: Timestamp, exp: Timestamp) -> Option<IdentityClaims> {
        IdentityClaims::of(self.sealed().grant(), &self.aws, iat, exp)
    }
}

fn missing(missing: Outstanding) -> Refused {
    let missing: Vec<String> = missing.0.iter().map(|(group, n)| format!("{n} of {group}")).collect();
    Refused::Missing(missing.join(", "))
}
