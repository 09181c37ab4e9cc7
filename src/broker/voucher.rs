//! Rollback vouchers: an action type may name its inverse, and one ceremony signs both. The inverse is a grant of its
//! own that can be claimed only after the credential of the first was released.

use super::Broker;
use super::consider::Matter;
use super::freeze::keys_of_action;
use super::ports::{DecisionEntry, GrantRecord, Sealing};
use super::refusal::{Code, Refusal};
use crate::catalog::{self, Ids};
use crate::domain::decision::{Terms, Verdict};
use crate::domain::digest::Digest;
use crate::domain::grant::{Circumstances, Grant, GrantState, Inverse, SealedGrant, Standing, Who};
use crate::domain::id::{DecisionId, GrantId, LeaseId};
use crate::domain::key::Thumbprint;
use crate::domain::proposal::{Evidence, Story};
use crate::domain::time::Timestamp;

impl Broker {
    /// Seals the inverse of a plan that waits for signatures under `terms`; the rule of both is the stricter of both.
    /// The decision on it is an answer of its own, and kept like any other.
    pub(super) async fn seal_inverse(
        &self,
        matter: Matter<'_>,
        forward: GrantId,
        key: Thumbprint,
        terms: &mut Terms,
        mut around: Circumstances,
    ) -> Result<(Inverse, Sealing, DecisionEntry), Refusal> {
        let invalid = |text: String| Refusal::new(Code::ProposalInvalid, format!("the way back: {text}"));
        let Matter { rules, plan, environment, who, now, .. } = matter;
        let made = catalog::inverse_proposal(plan, environment, key, &who.claiming_agent, &rules.catalog)
            .map_err(|e| invalid(e.to_string()))?;
        let (proposal, claim_seconds) = made.ok_or_else(|| {
            invalid(format!("`{}` names no inverse in the catalog", plan.action().action_type))
        })?;
        let ids = Ids {
            grant: GrantId::generate(now),
            lease: LeaseId::generate(now),
            claiming_agent: who.claiming_agent.clone(),
        };
        let back = catalog::compile(&proposal, &ids, &rules.catalog).map_err(|e| invalid(e.to_string()))?;
        let who = Who { claim_key: key, ..who.clone() };
        let matter = Matter { plan: &back, who: &who, voucher: true, ..matter };
        let considered = self.consider(matter).await?;
        let back_terms = match &considered.decision.verdict {
            Verdict::NeedsApproval(terms) | Verdict::Autonomous(terms) => terms.clone(),
            Verdict::Deny | Verdict::SuggestOnly => {
                return Err(Refusal::new(
                    Code::PolicyDenied,
                    format!(
                        "policy says no to the way back: {}; propose without `inverse_claim_key`",
                        considered.decision.reasons.join(", ")
                    ),
                ));
            }
        };
        terms.rule = terms.rule.and(&back_terms.rule);
        terms.rule.check().map_err(|bad| invalid(bad.to_string()))?;
        let evidence = Evidence::new(Story::default());
        around.id = ids.grant;
        around.lease = ids.lease;
        around.who = who.clone();
        around.decision = DecisionId::generate(now);
        let decision = considered.entry(around.decision, ids.grant, "propose", now)?;
        around.reasons = considered.decision.reasons;
        around.evidence = evidence.digest();
        around.standing = Standing {
            authors: if terms.rule.separate_authors { self.authors(rules) } else { Default::default() },
            inverse_of: Some(forward),
            ..Standing::default()
        };
        let back_terms = Terms { rule: terms.rule.clone(), claim_seconds, ..back_terms };
        let back_terms = Terms { approve_seconds: terms.approve_seconds, ..back_terms };
        let sealed = SealedGrant::seal(&back, &back_terms, around)
            .map_err(|e| invalid(format!("it cannot be sealed: {e}")))?;
        let inverse = Inverse { grant: ids.grant, digest: sealed.digest() };
        let agents = [&matter.who.proposing_agent, &matter.who.claiming_agent];
        let freezes = keys_of_action(agents, &back.action().action_type, environment);
        let state = GrantState::Pending;
        Ok((inverse, Sealing { sealed, evidence, state, claim_until: None, freezes }, decision))
    }

    /// The lease that must have been released before a voucher is claimed: that of the grant it takes back, whose signed
    /// bytes name the voucher.
    pub(super) async fn taken_back(&self, record: &GrantRecord) -> Result<Option<LeaseId>, Refusal> {
        let grant = record.sealed.grant();
        let Some(forward) = grant.time.inverse_of else { return Ok(None) };
        let forward = self.record_of(forward).await?;
        let named = Some(Inverse { grant: grant.id, digest: record.sealed.digest() });
        match forward.sealed.grant().time.inverse == named {
            true => Ok(Some(forward.sealed.grant().time.lease)),
            false => Err(Refusal::new(
                Code::GrantForeign,
                "the grant that this one takes back names another inverse; propose again",
            )),
        }
    }

    /// A grant was denied, withdrawn or cancelled: the other of its pair goes with it. An action whose way back is over
    /// is not to be signed or claimed any more, and a way back from what was never done has no meaning. An action that
    /// was claimed before stays what it is.
    pub(super) async fn cancel_other(&self, record: &GrantRecord) {
        let time = &record.sealed.grant().time;
        let Some(other) = time.inverse.map(|inverse| inverse.grant).or(time.inverse_of) else { return };
        // Should the store fail here, still neither is claimed without the other.
        self.cancel_unasked(other).await;
    }

    /// A grant that names a way back is signed only while that one can be signed, too.
    pub(super) async fn way_back_is_open(&self, grant: &Grant) -> Result<(), Refusal> {
        let Some(inverse) = grant.time.inverse else { return Ok(()) };
        let back = self.record_of(inverse.grant).await?;
        match back.state.is_open() {
            true => Ok(()),
            false => Err(Refusal::new(
                Code::GrantNotOpen,
                format!("its way back {} is `{}`; propose again", inverse.grant, back.state),
            )),
        }
    }

    /// What people signed with a way back is claimed only while its way back is approved.
    pub(super) async fn way_back_is_ready(&self, grant: &Grant, now: Timestamp) -> Result<(), Refusal> {
        let Some(inverse) = grant.time.inverse else { return Ok(()) };
        let back = self.record_of(inverse.grant).await?;
        way_back_is_ready(&back.sealed.digest(), &inverse, back.state, back.claim_until, now)
    }
}

fn way_back_is_ready(
    stored: &Digest,
    named: &Inverse,
    state: GrantState,
    claim_until: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), Refusal> {
    let code = match state {
        _ if *stored != named.digest => Code::GrantForeign,
        GrantState::Approved if claim_until.is_some_and(|until| !until.has_passed(now)) => return Ok(()),
        GrantState::Pending => Code::ApprovalsMissing,
        _ => Code::GrantNotOpen,
    };
    let text =
        format!("its way back {} is `{state}`, or its time ran out; it must be approved first", named.grant);
    Err(Refusal::new(code, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_000);

    #[test]
    fn an_action_signed_with_a_way_back_is_claimed_only_while_the_way_back_is_approved() {
        let digest = Digest::of(b"back");
        let named = Inverse { grant: GrantId::generate(NOW), digest };
        let ready =
            |state, until| way_back_is_ready(&digest, &named, state, until, NOW).map_err(|no| no.code);
        assert_eq!(ready(GrantState::Approved, Some(NOW.plus(1))), Ok(()));
        assert_eq!(ready(GrantState::Approved, Some(NOW)), Err(Code::GrantNotOpen));
        assert_eq!(ready(GrantState::Pending, None), Err(Code::ApprovalsMissing));
        for over in [GrantState::Denied, GrantState::Withdrawn, GrantState::Cancelled, GrantState::Lapsed] {
            assert_eq!(ready(over, Some(NOW.plus(1))), Err(Code::GrantNotOpen), "{over}");
        }
        let other =
            way_back_is_ready(&Digest::of(b"other"), &named, GrantState::Approved, Some(NOW.plus(1)), NOW);
        assert_eq!(other.unwrap_err().code, Code::GrantForeign);
    }
}
