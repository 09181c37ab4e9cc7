//! Whether a plan may run by itself: it lies inside a playbook that people signed, and the broker itself has seen what
//! starts it. The agent's word counts for nothing here.

use super::Broker;
use super::consider::Matter;
use super::playbooks::{uses_key, window_key};
use super::ports::{Counted, GrantRecord, PlaybookRecord, PlaybookUse, Reservation};
use super::refusal::{Code, Refusal};
use super::rules::Rules;
use crate::domain::alert::{Alert, StartingAlert};
use crate::domain::authority::{CoveredGrant, Quorum, SignedPlaybook, WEB_IDENTITY_NEEDS_PEOPLE};
use crate::domain::decision::Terms;
use crate::domain::digest::Digest;
use crate::domain::playbook::{Playbook, Trigger};
use crate::domain::time::Timestamp;

/// Probes that are looked at for one proposal, over all playbooks that might cover it.
const PROBES_PER_REQUEST: usize = 16;

/// A playbook that covers a plan now.
pub(super) struct Covering {
    pub(super) playbook: SignedPlaybook,
    /// The alert that started it.
    pub(super) alert: Option<StartingAlert>,
}

/// What a proposal has to start a playbook with.
struct Start<'a> {
    /// The token that was passed on.
    alert: Option<&'a str>,
    /// Probes that may still be looked at.
    probes_left: usize,
}

impl Start<'_> {
    /// Takes as many looks as a playbook needs, or none at all.
    fn take_probes(&mut self, needed: usize) -> Result<(), String> {
        let left = self.probes_left.checked_sub(needed);
        self.probes_left = left.ok_or_else(|| {
            format!("at most {PROBES_PER_REQUEST} probes are looked at for one proposal, and it needs more than are left")
        })?;
        Ok(())
    }
}

impl Broker {
    /// The first playbook in force that covers the plan, or why each that is for its action type does not.
    pub(super) async fn covering(
        &self,
        matter: Matter<'_>,
        terms: &Terms,
        alert: Option<&str>,
    ) -> Result<Result<Covering, Vec<String>>, Refusal> {
        let (action, now) = (matter.plan.action(), matter.now);
        if matter.plan.credential().web_identity().is_some() {
            return Ok(Err(vec![format!("no playbook covers it: {WEB_IDENTITY_NEEDS_PEOPLE}")]));
        }
        let records = self.store.playbooks(now).await.map_err(|e| self.gate.store_failed(&e))?;
        let mut start = Start { alert, probes_left: PROBES_PER_REQUEST };
        let mut why = Vec::new();
        for record in &records {
            let Some(playbook) = record.administration.sealed.playbook() else { continue };
            if playbook.action != action.action_type || playbook.environment != *matter.environment {
                continue;
            }
            match self.covers(record, playbook, matter, terms, &mut start).await? {
                Ok(covering) => return Ok(Ok(covering)),
                Err(reason) => why.push(format!("playbook {}: {reason}", playbook.name)),
            }
        }
        if why.is_empty() {
            why.push("no playbook is for it".into());
        }
        Ok(Err(why))
    }

    async fn covers(
        &self,
        record: &PlaybookRecord,
        playbook: &Playbook,
        matter: Matter<'_>,
        terms: &Terms,
        start: &mut Start<'_>,
    ) -> Result<Result<Covering, String>, Refusal> {
        let Matter { rules, plan, environment, who, now, .. } = matter;
        let digest = record.administration.sealed.digest();
        let used = self.used(Counted { key: uses_key(digest), since: None }).await?;
        let window = window(playbook, digest, now);
        let recently = self.used(Counted { key: window.key, since: window.since }).await?;
        let work_seconds = plan.credential().work_seconds().min(terms.work_seconds);
        let inside = self
            .in_use(record, playbook, used, rules, now)
            .and_then(|()| playbook.covers(plan.action(), environment, work_seconds))
            .and_then(|()| playbook.names(&who.proposing_agent))
            .and_then(|()| playbook.names(&who.claiming_agent))
            .and_then(|()| match recently < window.limit {
                true => Ok(()),
                false => Err(format!(
                    "its {} uses within {} s are used up",
                    playbook.budget.uses, playbook.budget.seconds
                )),
            });
        if let Err(reason) = inside {
            return Ok(Err(reason));
        }
        let signed = match self.signed_playbook(record, terms, rules).await? {
            Ok(signed) => signed,
            Err(reason) => return Ok(Err(reason)),
        };
        let alert = match self.started(playbook, matter, start).await? {
            Ok(alert) => alert,
            Err(reason) => return Ok(Err(reason)),
        };
        if let Some(alert) = &alert
            && self.used(Counted { key: alert_key(alert), since: None }).await? > 0
        {
            return Ok(Err("the alert has started something already".into()));
        }
        Ok(Ok(Covering { playbook: signed, alert }))
    }

    /// INVARIANT: re-decided. The playbook's signatures satisfy the rule that was signed and the one policy gives today.
    async fn signed_playbook(
        &self,
        record: &PlaybookRecord,
        terms: &Terms,
        rules: &Rules,
    ) -> Result<Result<SignedPlaybook, String>, Refusal> {
        let administration = &record.administration;
        let then = self.directory_at(administration.sealed.document().decision.directory).await?;
        let authors = self.authors(rules);
        let quorum = Quorum { rule: &terms.rule, authors: &authors, then: &then, now: &rules.directory };
        let counting = super::grants::active(&administration.approvals);
        Ok(match SignedPlaybook::check(administration.sealed.clone(), counting, &quorum) {
            Some(Ok(signed)) => Ok(signed),
            Some(Err(missing)) => {
                let missing: Vec<String> =
                    missing.0.iter().map(|(group, n)| format!("{n} of {group}")).collect();
                Err(format!("its signatures do not suffice today; missing: {}", missing.join(", ")))
            }
            None => Err("it is no playbook".into()),
        })
    }

    /// INVARIANT: unknown-is-no. What starts the playbook, seen by the broker itself; or why it does not start, in words
    /// that hold nothing the agent wrote.
    async fn started(
        &self,
        playbook: &Playbook,
        matter: Matter<'_>,
        start: &mut Start<'_>,
    ) -> Result<Result<Option<StartingAlert>, String>, Refusal> {
        let Matter { rules, plan, environment, who, now, .. } = matter;
        match &playbook.trigger {
            Trigger::Probes(conditions) => {
                if let Err(reason) = start.take_probes(conditions.len()) {
                    return Ok(Err(reason));
                }
                let agent = &who.proposing_agent;
                match self.conditions_hold(conditions, plan.action(), environment, agent, rules).await {
                    Ok(()) => Ok(Ok(None)),
                    Err(refusal) if refusal.code == Code::LimitReached => Err(refusal),
                    Err(refusal) => Ok(Err(refusal.message)),
                }
            }
            Trigger::Alert { source, alert: name } => {
                let Some(token) = start.alert else {
                    return Ok(Err("it starts with a signed alert; pass it on as `alert`".into()));
                };
                let issuer = &self.settings.issuer;
                let alert = match Alert::verify(token, rules.guardrails.alert_sources(), issuer, now) {
                    Ok(alert) => alert,
                    Err(error) => return Ok(Err(error.fixed_words().into())),
                };
                let claims = &alert.claims;
                match claims.iss == *source && claims.alert == *name && claims.environment == *environment {
                    true => Ok(Ok(Some(StartingAlert::from(&alert)))),
                    false => Ok(Err("the alert is another one than it starts with".into())),
                }
            }
        }
    }

    /// At the claim: the playbook that the grant names still covers it, under today's terms.
    pub(super) async fn still_covered(
        &self,
        record: &GrantRecord,
        matter: Matter<'_>,
        terms: &Terms,
    ) -> Result<CoveredGrant, Refusal> {
        let grant = record.sealed.grant();
        let out = |why: String| {
            Refusal::new(
                Code::ApprovalsMissing,
                format!("the playbook does not cover it now: {why}; propose again"),
            )
        };
        let records = self.store.playbooks(matter.now).await.map_err(|e| self.gate.store_failed(&e))?;
        let named =
            records.iter().find(|one| grant.decision.playbook == Some(one.administration.sealed.digest()));
        let found = named.ok_or_else(|| out("it is not there".into()))?;
        let playbook = found.administration.sealed.playbook().ok_or_else(|| out("it is none".into()))?;
        let used =
            self.used(Counted { key: uses_key(found.administration.sealed.digest()), since: None }).await?;
        self.in_use(found, playbook, used, matter.rules, matter.now).map_err(&out)?;
        match &playbook.trigger {
            Trigger::Probes(conditions) => {
                let (action, agent) = (&grant.action, &grant.who.claiming_agent);
                self.conditions_hold(conditions, action, &grant.environment, agent, matter.rules).await?;
            }
            Trigger::Alert { source, .. } => {
                let sources = matter.rules.guardrails.alert_sources();
                let alert = grant.decision.alert.as_ref().filter(|alert| alert.source == *source);
                let alert = alert.ok_or_else(|| out("the grant names no alert of its source".into()))?;
                alert.still_counts(sources, matter.now).map_err(|why| out(why.into()))?;
            }
        }
        let signed = self.signed_playbook(found, terms, matter.rules).await?.map_err(&out)?;
        CoveredGrant::check(record.sealed.clone(), signed).map_err(&out)
    }
}

/// What a use of a playbook uses up, and what the opening transaction checks of it.
pub(super) fn use_of(covered: &CoveredGrant, now: Timestamp) -> (PlaybookUse, Vec<Reservation>) {
    let signed = covered.playbook();
    let (playbook, digest) = (signed.playbook(), signed.sealed().digest());
    let all =
        Reservation { key: uses_key(digest), amount: 1, since: None, limit: u64::from(playbook.max_uses) };
    let mut reservations = vec![all, window(playbook, digest, now)];
    // A signed alert starts one thing, once.
    reservations.extend(covered.sealed().grant().decision.alert.iter().map(|alert| Reservation {
        key: alert_key(alert),
        amount: 1,
        since: None,
        limit: 1,
    }));
    (PlaybookUse { playbook: digest }, reservations)
}

/// What the one use of an alert is counted under.
fn alert_key(alert: &StartingAlert) -> String {
    format!("alert:{}:{}", alert.source, alert.id)
}

fn window(playbook: &Playbook, digest: Digest, now: Timestamp) -> Reservation {
    Reservation {
        key: window_key(digest),
        amount: 1,
        since: Some(now.plus(-i64::from(playbook.budget.seconds))),
        limit: u64::from(playbook.budget.uses),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proposal_has_so_many_probes_looked_at_and_no_more() {
        let mut start = Start { alert: None, probes_left: PROBES_PER_REQUEST };
        assert_eq!(start.take_probes(10), Ok(()));
        assert!(start.take_probes(7).is_err());
        assert_eq!(start.take_probes(6), Ok(()));
        assert!(start.take_probes(1).is_err());
    }
}
