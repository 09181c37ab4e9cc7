//! Under what authority an execute credential is minted: witnesses that carry the signatures they rest on.

use std::collections::BTreeSet;

use super::administration::SealedAdministration;
use super::approval::{Approval, Outstanding, Signable, outstanding};
use super::directory::Directory;
use super::grant::SealedGrant;
use super::playbook::Playbook;
use super::principal::PersonSlug;
use super::rule::Rule;

/// The authority a mint acts under.
#[derive(Debug)]
pub enum Authority {
    /// A grant whose full rule was satisfied by people's signatures.
    SignedGrant(Box<ApprovedGrant>),
    /// A grant inside a signed playbook.
    Playbook(Box<CoveredGrant>),
    /// The inverse of a grant, signed in the same ceremony.
    Voucher(Box<ApprovedGrant>),
    /// A grant that people signed under the break-glass rule.
    BreakGlass(Box<ApprovedGrant>),
}

impl Authority {
    /// The grant that will be minted, whatever the authority.
    pub fn sealed(&self) -> &SealedGrant {
        match self {
            Self::SignedGrant(approved) | Self::Voucher(approved) | Self::BreakGlass(approved) => {
                approved.sealed()
            }
            Self::Playbook(covered) => covered.sealed(),
        }
    }

    /// The spelling used in events.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SignedGrant(_) => "signed_grant",
            Self::Playbook(_) => "playbook",
            Self::Voucher(_) => "voucher",
            Self::BreakGlass(_) => "break_glass",
        }
    }

    /// The approvals it rests on.
    pub fn approvals(&self) -> &[Approval] {
        match self {
            Self::SignedGrant(approved) | Self::Voucher(approved) | Self::BreakGlass(approved) => {
                approved.approvals()
            }
            Self::Playbook(covered) => covered.playbook().approvals(),
        }
    }
}

/// Why no playbook covers it.
pub const WEB_IDENTITY_NEEDS_PEOPLE: &str =
    "the approvers' side signs the token of such a session, and only for what people signed themselves";

/// Against what signatures are counted.
#[derive(Debug, Clone, Copy)]
pub struct Quorum<'a> {
    /// The rule that current policy gives; the signed one always counts too.
    pub rule: &'a Rule,
    /// Authors of the rules in force now, who do not count where that rule separates them.
    pub authors: &'a BTreeSet<PersonSlug>,
    /// The directory in force when the document was sealed.
    pub then: &'a Directory,
    /// Today's.
    pub now: &'a Directory,
}

impl Quorum<'_> {
    /// INVARIANT: signed-before-minted, re-decided. The signed rule and today's must both be satisfied.
    fn check<'a>(&self, signed: impl Into<Signable<'a>>, approvals: &[Approval]) -> Result<(), Outstanding> {
        let signed = signed.into();
        let directories = [self.then, self.now];
        let authors: BTreeSet<PersonSlug> = match self.rule.separate_authors {
            true => signed.authors.union(self.authors).cloned().collect(),
            false => signed.authors.clone(),
        };
        for rule in [self.rule, signed.rule] {
            let missing =
                outstanding(rule, approvals, Signable { authors: &authors, ..signed.clone() }, &directories);
            // An unusable rule satisfies nobody.
            if rule.check().is_err() || !missing.is_satisfied() {
                return Err(missing);
            }
        }
        Ok(())
    }
}

/// A grant whose full rule is satisfied.
///
/// ```compile_fail
/// fn forge(sealed: phasebroker::domain::grant::SealedGrant) -> phasebroker::domain::authority::ApprovedGrant {
///     phasebroker::domain::authority::ApprovedGrant { sealed, approvals: vec![] }
/// }
/// ```
///
/// ```
/// fn read(approved: &phasebroker::domain::authority::ApprovedGrant) -> usize {
///     approved.approvals().len()
/// }
/// ```
#[derive(Debug)]
pub struct ApprovedGrant {
    sealed: SealedGrant,
    approvals: Vec<Approval>,
}

impl ApprovedGrant {
    /// Counts the approvals; what is missing when they do not suffice.
    pub fn check(
        sealed: SealedGrant,
        approvals: Vec<Approval>,
        quorum: &Quorum<'_>,
    ) -> Result<Self, Outstanding> {
        quorum.check(&sealed, &approvals)?;
        Ok(Self { sealed, approvals })
    }

    /// The grant.
    pub fn sealed(&self) -> &SealedGrant {
        &self.sealed
    }

    /// The approvals that satisfied the rule.
    pub fn approvals(&self) -> &[Approval] {
        &self.approvals
    }
}

/// A playbook whose full rule is satisfied.
///
/// ```compile_fail
/// use phasebroker::domain::{administration::SealedAdministration, authority::SignedPlaybook, playbook::Playbook};
/// fn forge(sealed: SealedAdministration, playbook: Playbook) -> SignedPlaybook {
///     SignedPlaybook { sealed, playbook, approvals: vec![] }
/// }
/// ```
///
/// ```
/// fn read(signed: &phasebroker::domain::authority::SignedPlaybook) -> usize {
///     signed.approvals().len()
/// }
/// ```
#[derive(Debug)]
pub struct SignedPlaybook {
    sealed: SealedAdministration,
    playbook: Playbook,
    approvals: Vec<Approval>,
}

impl SignedPlaybook {
    /// Counts the approvals of a playbook; `None` when the document is no playbook.
    pub fn check(
        sealed: SealedAdministration,
        approvals: Vec<Approval>,
        quorum: &Quorum<'_>,
    ) -> Option<Result<Self, Outstanding>> {
        let playbook = sealed.playbook()?.clone();
        Some(quorum.check(&sealed, &approvals).map(|()| Self { sealed, playbook, approvals }))
    }

    /// What it covers.
    pub fn playbook(&self) -> &Playbook {
        &self.playbook
    }

    /// The document that people signed.
    pub fn sealed(&self) -> &SealedAdministration {
        &self.sealed
    }

    /// The approvals that satisfied the rule.
    pub fn approvals(&self) -> &[Approval] {
        &self.approvals
    }
}

/// A grant that names a signed playbook and lies inside it.
#[derive(Debug)]
pub struct CoveredGrant {
    sealed: SealedGrant,
    playbook: SignedPlaybook,
}

impl CoveredGrant {
    /// INVARIANT: signed-before-minted. The grant names exactly this playbook and lies inside it; or why not.
    pub fn check(sealed: SealedGrant, playbook: SignedPlaybook) -> Result<Self, String> {
        let grant = sealed.grant();
        if grant.decision.playbook != Some(playbook.sealed.digest()) {
            return Err("the grant names another playbook".into());
        }
        if !grant.action.reversible {
            return Err("an action that cannot be undone never runs by itself".into());
        }
        if grant.credential.web_identity().is_some() {
            return Err(WEB_IDENTITY_NEEDS_PEOPLE.into());
        }
        playbook.playbook.covers(&grant.action, &grant.environment, grant.time.work_seconds)?;
        for agent in [&grant.who.proposing_agent, &grant.who.claiming_agent] {
            playbook.playbook.names(agent)?;
        }
        Ok(Self { sealed, playbook })
    }

    /// The grant.
    pub fn sealed(&self) -> &SealedGrant {
        &self.sealed
    }

    /// The playbook.
    pub fn playbook(&self) -> &SignedPlaybook {
        &self.playbook
    }
}
