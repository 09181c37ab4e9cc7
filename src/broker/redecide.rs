//! INVARIANT: re-decided. At the claim the plan is compiled again and must be the signed one byte for byte, policy is
//! asked again, and what the mint will rest on must satisfy the signed rule and today's.

use super::Broker;
use super::consider::{Considered, Matter};
use super::covering::use_of;
use super::ports::{GrantRecord, PlaybookUse, Reservation};
use super::propose::denied;
use super::refusal::{Code, Refusal};
use super::rules::Rules;
use crate::catalog;
use crate::domain::approval::{Approval, Outstanding};
use crate::domain::authority::{ApprovedGrant, Authority, Quorum};
use crate::domain::decision::{Terms, Verdict};
use crate::domain::playbook::ReviewTerms;
use crate::domain::rule::Rule;
use crate::domain::time::Timestamp;

/// What a claim rests on.
pub(super) struct Redecided {
    pub(super) authority: Authority,
    pub(super) work_seconds: u32,
    pub(super) considered: Considered,
    pub(super) playbook: Option<PlaybookUse>,
    pub(super) review: Option<ReviewTerms>,
    uses: Vec<Reservation>,
    /// What people signed to take back, or past the policy, is counted and held up by no budget.
    beyond_limits: bool,
}

impl Redecided {
    /// Everything that is used up.
    pub(super) fn reservations(&self, now: Timestamp) -> Vec<Reservation> {
        let mut all = self.considered.reservations(now, self.beyond_limits);
        all.extend(self.uses.iter().cloned());
        all
    }
}

impl Broker {
    pub(super) async fn redecide(
        &self,
        record: &GrantRecord,
        approvals: Vec<Approval>,
        rules: &Rules,
        now: Timestamp,
    ) -> Result<Redecided, Refusal> {
        let grant = record.sealed.grant();
        let changed = |what: String| {
            Refusal::new(
                Code::PlanChanged,
                format!("the plan compiles differently today ({what}); propose again"),
            )
        };
        let plan = catalog::recompile(grant, &rules.catalog).map_err(|e| changed(e.to_string()))?;
        if let Some(member) = catalog::difference(&plan, &grant.action, &grant.credential) {
            return Err(changed(member));
        }
        let voucher = grant.time.inverse_of.is_some();
        let (environment, who) = (&grant.environment, &grant.who);
        let matter = Matter { rules, plan: &plan, environment, who, voucher, now };
        let considered = self.consider(matter).await?;
        if grant.decision.break_glass {
            let (rule, work_seconds, review) = self.still_glass(grant, rules)?;
            let approved = self.approved(record, approvals, &rule, rules).await?;
            return Ok(Redecided {
                authority: Authority::BreakGlass(Box::new(approved)),
                work_seconds: grant.time.work_seconds.min(work_seconds),
                considered,
                playbook: None,
                review: Some(review),
                uses: Vec::new(),
                beyond_limits: true,
            });
        }
        let (terms, by_itself) = terms(&considered)?;
        let work_seconds = grant.time.work_seconds.min(terms.work_seconds);
        if grant.decision.playbook.is_some() {
            if !by_itself {
                return Err(Refusal::new(
                    Code::ApprovalsMissing,
                    format!(
                        "policy asks for people now ({}); propose again",
                        considered.decision.reasons.join(", ")
                    ),
                ));
            }
            let covered = self.still_covered(record, matter, &terms).await?;
            let review = covered.playbook().playbook().review.clone();
            let (playbook, uses) = use_of(&covered, now);
            return Ok(Redecided {
                authority: Authority::Playbook(Box::new(covered)),
                work_seconds,
                considered,
                playbook: Some(playbook),
                review: Some(review),
                uses,
                beyond_limits: false,
            });
        }
        let approved = Box::new(self.approved(record, approvals, &terms.rule, rules).await?);
        let authority = if voucher { Authority::Voucher(approved) } else { Authority::SignedGrant(approved) };
        Ok(Redecided {
            authority,
            work_seconds,
            considered,
            playbook: None,
            review: None,
            uses: Vec::new(),
            beyond_limits: voucher,
        })
    }

    /// Both rules are satisfied, or the refusal says what is missing.
    async fn approved(
        &self,
        record: &GrantRecord,
        approvals: Vec<Approval>,
        rule: &Rule,
        rules: &Rules,
    ) -> Result<ApprovedGrant, Refusal> {
        let then = self.directory_at(record.sealed.grant().decision.directory).await?;
        let authors = self.authors(rules);
        let quorum = Quorum { rule, authors: &authors, then: &then, now: &rules.directory };
        ApprovedGrant::check(record.sealed.clone(), approvals, &quorum).map_err(missing)
    }
}

/// The terms policy gives, and whether it lets the plan run by itself.
fn terms(considered: &Considered) -> Result<(Terms, bool), Refusal> {
    match &considered.decision.verdict {
        Verdict::NeedsApproval(terms) => Ok((terms.clone(), false)),
        Verdict::Autonomous(terms) => Ok((terms.clone(), true)),
        Verdict::Deny => Err(denied(&considered.decision)),
        Verdict::SuggestOnly => Err(Refusal::new(
            Code::PolicyDenied,
            format!(
                "policy only suggests it now ({}): a person may carry it out",
                considered.decision.reasons.join(", ")
            ),
        )),
    }
}

fn missing(missing: Outstanding) -> Refusal {
    let missing: Vec<String> = missing.0.iter().map(|(group, n)| format!("{n} of {group}")).collect();
    Refusal::new(
        Code::ApprovalsMissing,
        format!("the approvals do not satisfy the rule; missing: {}", missing.join(", ")),
    )
}
