//! One lease's calls against what its policy allows, and the verdict.

use super::actions::{is_free, of_event};
use super::allowed::{Allowed, Touched};
use super::calls::{Call, Calls, Class, Counts, Kept, MAX_CALLS, Outcome, Tally, When};
use super::expected::{Expected, Signed};
use super::record::Record;
use super::report::{Finding, LeaseReport, Verdict};
use crate::domain::time::Timestamp;

/// What the records say of one lease so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    calls: Calls,
    counts: Counts,
    /// Calls beyond those that are told apart, and the worst of them.
    beyond: u64,
    worst_beyond: Option<Verdict>,
    /// Access key id in the record of its mint, once that is there.
    pub(super) mint: Option<String>,
    /// Whether that record shows no policy.
    pub(super) policy_unsaid: bool,
    /// What the policy in that record allows, when it is the one that was sent.
    pub(super) allowed: Option<Allowed>,
    /// Incidents that name it.
    pub(super) incidents: u64,
}

/// What is known around a lease when it is judged.
pub(super) struct Around {
    /// Whether the settle window after its hard end has passed.
    pub(super) settled: bool,
    /// The last instant of any record of its account and Region.
    pub(super) reaches: Option<Timestamp>,
    /// Whether no file came of some hour of its life.
    pub(super) hours_missing: bool,
}

impl Seen {
    /// Takes a call of the lease.
    pub(super) fn call(&mut self, expected: &Expected, record: &Record) {
        let (call, tally) = Call::of(expected, record);
        self.counts.add(&call.outcome, record.at);
        if let Some(known) = self.calls.get_mut(&call) {
            known.add(tally);
        } else if self.calls.len() < MAX_CALLS {
            self.calls.insert(call, tally);
        } else {
            // SECURITY: a session that makes all calls there are can neither fill the memory of whoever looks, nor hide
            // the one that counts behind the others.
            let found = finding(expected, expected.allowed(), &call, &tally).map(|finding| finding.verdict);
            self.worst_beyond = self.worst_beyond.max(found);
            self.beyond = self.beyond.saturating_add(1);
        }
    }

    /// Whether nothing at all is known of it.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.mint.is_none() && self.incidents == 0
    }

    /// The verdict, with everything that led to it.
    pub(super) fn judge(&self, expected: &Expected, around: &Around) -> LeaseReport {
        // The policy in the trail counts where nobody signs; elsewhere it is a copy of what was sent, and approves nothing.
        let from_trail = self.allowed.as_ref().filter(|_| matches!(expected.signed, Signed::Nobody));
        let allowed = expected.allowed().or(from_trail);
        let mut findings: Vec<Finding> = Vec::new();
        for (call, tally) in &self.calls {
            findings.extend(finding(expected, allowed, call, tally));
        }
        findings.extend(self.beside(expected, allowed));
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
        let worst = findings.first().map(|finding| finding.verdict);
        // What the broker called itself is nothing that the agent did.
        let canaries = self.calls.iter().filter(|(call, _)| is_canary(expected, call));
        let canaries: u64 =
            canaries.filter(|(call, _)| call.outcome == Outcome::Done).map(|(_, tally)| tally.count).sum();
        let done = self.counts.done.saturating_sub(canaries);
        let verdict = match worst {
            Some(worst) if worst.is_bad() => worst,
            _ if !around.settled => Verdict::Settling,
            Some(worst) => worst,
            None if done > 0 || self.counts.failed > 0 => Verdict::Matched,
            None => self.absent(expected, allowed, around),
        };
        LeaseReport {
            lease: expected.lease,
            run: expected.run,
            grant: expected.grant,
            phase: expected.phase.clone(),
            agent: expected.agent.clone(),
            verdict,
            calls: done,
            failed: self.counts.failed,
            denied: self.counts.denied,
            mint_seen: self.mint.is_some(),
            hours_missing: around.hours_missing,
            first: self.counts.first,
            last: self.counts.last,
            refused_after_end_seconds: self.died(expected),
            findings,
        }
    }

    /// What is said beside the calls.
    fn beside(&self, expected: &Expected, allowed: Option<&Allowed>) -> Vec<Finding> {
        let mut found = Vec::new();
        let beyond = self.worst_beyond.unwrap_or(Verdict::NeedsReview).max(Verdict::NeedsReview);
        let mut as_bad_as = |verdict: Verdict, count: u64, what: String, todo: &str| {
            let todo = todo.to_owned();
            found.push(Finding { verdict, count, at: None, event: None, what, todo });
        };
        if self.beyond > 0 {
            let todo = "read the records of its access key yourself";
            as_bad_as(beyond, self.beyond, "more different calls than are told apart".into(), todo);
        }
        let mut say =
            |count: u64, what: String, todo: &str| as_bad_as(Verdict::NeedsReview, count, what, todo);
        if let Signed::Unproven(why) = &expected.signed {
            let todo =
                "check the log with `phasebroker audit check-remote`, then `audit pack` and `audit verify`";
            say(1, format!("what was approved is not known: {why}"), todo);
        }
        if matches!(expected.signed, Signed::Unread) {
            say(1, "what was approved is not known: its grant was not read".into(), "ask again");
        }
        if self.policy_unsaid {
            let todo =
                "see in the account whether its trail records `requestParameters.policy` of AssumeRole";
            say(1, "the record of its mint shows no session policy".into(), todo);
        }
        if allowed.is_none() && matches!(expected.signed, Signed::Nobody) && !self.calls.is_empty() {
            let todo = "give the records of the minute in which it was minted, too";
            say(1, "what it was allowed is not known: no record shows the policy that was sent".into(), todo);
        }
        if self.incidents > 0 {
            say(self.incidents, "incidents name this lease".into(), "see the incidents");
        }
        found
    }

    /// The verdict on a lease of which no call is told.
    fn absent(&self, expected: &Expected, allowed: Option<&Allowed>, around: &Around) -> Verdict {
        // A trail without the mint of a session, or that ends before the session did, says nothing by its silence.
        let reaches = around.reaches.is_some_and(|last| last >= expected.here_latest());
        let told = allowed.is_some_and(|allowed| !allowed.is_untold());
        match self.mint.is_some() && reaches && told && !around.hours_missing {
            true => Verdict::NoUse,
            false => Verdict::Unobservable,
        }
    }

    fn died(&self, expected: &Expected) -> Option<i64> {
        let ended = expected.ended?;
        let after = self
            .calls
            .iter()
            .filter(|(call, _)| call.when != When::Alive && matches!(call.outcome, Outcome::Denied(_)));
        after.map(|(_, tally)| expected.here(tally.first).0.since(ended)).min()
    }
}

impl Expected {
    /// The instant of AWS's clock from which a trail covers all of the credential's life.
    pub(super) fn here_latest(&self) -> Timestamp {
        let (there, slack) = self.here(self.not_after);
        // The inverse of `here`, on the safe side.
        self.not_after.plus(self.not_after.since(there)).plus(slack)
    }
}

/// Whether a call is the broker's own canary, which asks after an early end until AWS refuses: a harmless read, whoever
/// makes it.
fn is_canary(expected: &Expected, call: &Call) -> bool {
    (call.source.as_str(), call.name.as_str()) == ("ec2.amazonaws.com", "DescribeRegions")
        && call.when != When::Alive
        && expected.has_canary()
}

fn finding(expected: &Expected, allowed: Option<&Allowed>, call: &Call, tally: &Tally) -> Option<Finding> {
    let named = format!("`{}` of {}", call.name, call.source);
    if is_free(&call.source, &call.name) {
        return None;
    }
    let say = |verdict, what: String, todo: &str| {
        let (count, at, event) = (tally.count, Some(tally.first), Some(tally.event.clone()));
        Some(Finding { verdict, count, at, event, what, todo: todo.to_owned() })
    };
    let late = expected.ended.map_or(expected.not_after, |ended| ended.min(expected.not_after));
    let late = expected.here(tally.last).0.since(late);
    match (&call.outcome, call.when) {
        (Outcome::Done, When::Ended) if is_canary(expected, call) => return None,
        (Outcome::Done, When::Dead) if is_canary(expected, call) => {
            return say(
                Verdict::NeedsReview,
                format!("AWS let its canary call {late} s after the end, when it had to be dead"),
                "find out why AWS still took the credential: role policy, boundary, clocks",
            );
        }
        (Outcome::Done, When::Dead) => {
            return say(
                Verdict::LateUse,
                format!("{named} went through {late} s after the end, when it had to be dead"),
                "stop the agent, look at what the call did, and find out why AWS still took the credential: role policy, boundary, clocks",
            );
        }
        (Outcome::Done, When::Ended) => {
            return say(
                Verdict::LateUse,
                format!("{named} went through {late} s after the end, before that was in force at AWS"),
                "ask why the agent went on after it had said that it was done",
            );
        }
        // That is what an end is for.
        (Outcome::Denied(_), When::Ended | When::Dead) => return None,
        (Outcome::Failed(code), When::Dead) => {
            return say(
                Verdict::NeedsReview,
                format!(
                    "{named} failed {late} s after the end, but not for want of a living credential ({code})"
                ),
                "find out whether AWS still took the credential: it may refuse the request before it looks at who asks",
            );
        }
        _ => {}
    }
    let judged = judged(allowed?, call, tally);
    match (&call.outcome, judged) {
        (Outcome::Denied(code), Ok(())) => say(
            Verdict::DeniedAttempt,
            format!("{named}, which was approved, was refused ({code})"),
            "see whether the role's ceiling and boundary allow what the catalog needs",
        ),
        (Outcome::Failed(code), Err((Verdict::ExtraCall, why))) if may_have_worked(code) => say(
            Verdict::NeedsReview,
            format!("{named} failed at AWS, perhaps after it took effect ({code}): {why}"),
            "look at what it was called on",
        ),
        (Outcome::Denied(code) | Outcome::Failed(code), Err((Verdict::ExtraCall, why))) => say(
            Verdict::DeniedAttempt,
            format!("{named} was tried and did not go through ({code}): {why}"),
            "ask why the agent tried what nobody had approved",
        ),
        (Outcome::Denied(code), Err((_, why))) => say(
            Verdict::DeniedAttempt,
            format!("{named} was refused ({code}): {why}"),
            "ask why the agent tried it",
        ),
        (_, Err((Verdict::ExtraCall, why))) => say(
            Verdict::ExtraCall,
            format!("{named} went through: {why}"),
            "stop the agent, look at what the call did, and find out what allowed it: a resource policy, the role, or a hand",
        ),
        (_, Err((verdict, why))) => {
            say(verdict, format!("{named}: {why}"), "compare the record with the grant yourself")
        }
        (_, Ok(())) => None,
    }
}

/// Whether AWS itself failed: then nobody knows how far the call had come.
fn may_have_worked(code: &str) -> bool {
    ["Internal", "Unavailable", "Timeout", "ServerException"].iter().any(|part| code.contains(part))
}

/// Whether a call is one of those that were allowed.
fn judged(allowed: &Allowed, call: &Call, tally: &Tally) -> Result<(), (Verdict, String)> {
    let actions = of_event(&call.source, &call.name);
    let approved: Vec<String> = actions.iter().filter(|action| allowed.allows(action)).cloned().collect();
    if !approved.is_empty() {
        if allowed.everywhere(&approved) {
            return Ok(());
        }
        let said = || tally.touched.clone().unwrap_or_default();
        return match &call.touched {
            Kept::Judged(Class::Approved) => Ok(()),
            Kept::Judged(Class::Other) => Err(not_approved(&said())),
            Kept::Judged(Class::Unsaid) => Err((Verdict::NeedsReview, said())),
            Kept::Raw(touches) => match allowed.touched(&approved, touches) {
                Touched::Approved => Ok(()),
                Touched::Other(other) => Err(not_approved(&other)),
                Touched::Unsaid(why) => Err((Verdict::NeedsReview, why)),
            },
        };
    }
    if let Some(service) = &call.by_service {
        return Err((Verdict::NeedsReview, format!("`{service}` made it in the session's name")));
    }
    if actions.is_empty() && !allowed.is_known() {
        return Err((Verdict::NeedsReview, "it is not known which action leaves such a record".into()));
    }
    Err((Verdict::ExtraCall, "no approved action leaves such a record".into()))
}

fn not_approved(other: &str) -> (Verdict, String) {
    (Verdict::ExtraCall, format!("`{other}` was not approved"))
}
