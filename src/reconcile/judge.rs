//! One lease's calls against what its policy allows, and the verdict.

use std::collections::BTreeMap;

use super::actions::{is_free, of_event};
use super::allowed::{Allowed, Touched};
use super::expected::{Expected, Signed};
use super::record::Record;
use super::report::{Finding, LeaseReport, Verdict};
use crate::domain::time::Timestamp;

/// Different calls of one lease that are told apart; what goes beyond is counted and looked at by a person.
const MAX_CALLS: usize = 256;

/// Calls that are the same to a judge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    source: String,
    name: String,
    outcome: Outcome,
    when: When,
    touched: Touched,
    by_service: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Done,
    Failed(String),
    Denied(String),
}

/// When a call was, as far as the clocks allow to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum When {
    Alive,
    /// After its end, while that was not in force yet.
    Ended,
    /// After it had to be dead.
    Dead,
}

#[derive(Debug, Clone)]
struct Tally {
    count: u64,
    first: Timestamp,
    last: Timestamp,
    event: String,
}

/// What the records say of one lease so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    calls: BTreeMap<Call, Tally>,
    beyond: u64,
    /// Whether the record of its mint is there.
    pub(super) mint: bool,
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
    /// The last instant of any record of its account.
    pub(super) reaches: Option<Timestamp>,
}

impl Seen {
    /// Takes a call of the lease.
    pub(super) fn call(&mut self, expected: &Expected, record: &Record) {
        let touched = match expected.allowed() {
            Some(allowed) => allowed.touched(&of_event(&record.source, &record.name), record),
            // The policy is only known from the trail, where it may still follow.
            None => Touched::Unsaid,
        };
        let error = record.error.clone().map(|code| code.chars().take(64).collect());
        let call = Call {
            source: record.source.clone(),
            name: record.name.clone(),
            outcome: match error {
                None => Outcome::Done,
                Some(code) if record.denied() => Outcome::Denied(code),
                Some(code) => Outcome::Failed(code),
            },
            when: when(expected, record.at),
            touched,
            by_service: record.caller.invoked_by.clone(),
        };
        if let Some(tally) = self.calls.get_mut(&call) {
            tally.count = tally.count.saturating_add(1);
            tally.last = tally.last.max(record.at);
            if record.at < tally.first {
                (tally.first, tally.event) = (record.at, record.id.clone());
            }
        } else if self.calls.len() < MAX_CALLS {
            let tally = Tally { count: 1, first: record.at, last: record.at, event: record.id.clone() };
            self.calls.insert(call, tally);
        } else {
            // SECURITY: a session that makes all it can cannot fill the memory of whoever looks.
            self.beyond = self.beyond.saturating_add(1);
        }
    }

    /// Whether nothing at all is known of it.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty() && !self.mint && self.incidents == 0
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
        let count = |of: fn(&Outcome) -> bool| {
            let of = self.calls.iter().filter(|(call, _)| of(&call.outcome));
            of.fold(0_u64, |sum, (_, tally)| sum.saturating_add(tally.count))
        };
        let calls = count(|outcome| *outcome == Outcome::Done);
        let failed = count(|outcome| matches!(outcome, Outcome::Failed(_)));
        let worst = findings.first().map(|finding| finding.verdict);
        let verdict = match worst {
            Some(worst) if worst.is_bad() => worst,
            _ if !around.settled => Verdict::Settling,
            Some(worst) => worst,
            None if calls > 0 || failed > 0 => Verdict::Matched,
            None => self.absent(expected, allowed, around),
        };
        LeaseReport {
            lease: expected.lease,
            run: expected.run,
            grant: expected.grant,
            phase: expected.phase.clone(),
            agent: expected.agent.clone(),
            verdict,
            calls,
            failed,
            denied: count(|outcome| matches!(outcome, Outcome::Denied(_))),
            mint_seen: self.mint,
            first: self.calls.values().map(|tally| tally.first).min(),
            last: self.calls.values().map(|tally| tally.last).max(),
            refused_after_end_seconds: self.died(expected),
            findings,
        }
    }

    /// What is said beside the calls.
    fn beside(&self, expected: &Expected, allowed: Option<&Allowed>) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut say = |count: u64, what: String, todo: &str| {
            let (verdict, todo) = (Verdict::NeedsReview, todo.to_owned());
            found.push(Finding { verdict, count, at: None, event: None, what, todo });
        };
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
        if self.beyond > 0 {
            let todo = "read the records of its access key yourself";
            say(self.beyond, "more different calls than are told apart".into(), todo);
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
        match self.mint && reaches && told {
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
    fn here_latest(&self) -> Timestamp {
        let (there, slack) = self.here(self.not_after);
        // The inverse of `here`, on the safe side.
        self.not_after.plus(self.not_after.since(there)).plus(slack)
    }
}

fn when(expected: &Expected, at: Timestamp) -> When {
    let (at, slack) = expected.here(at);
    let at = at.plus(-slack);
    let dead = expected.effective_by.map_or(expected.not_after, |by| by.min(expected.not_after));
    match expected.ended {
        _ if at > dead => When::Dead,
        Some(ended) if at > ended => When::Ended,
        _ => When::Alive,
    }
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
        (Outcome::Done, When::Dead) => {
            return say(
                Verdict::LateUseAfterEnd,
                format!("{named} went through {late} s after the end, when it had to be dead"),
                "stop the agent, look at what the call did, and find out why AWS still took the credential: role policy, boundary, clocks",
            );
        }
        (Outcome::Done, When::Ended) => {
            return say(
                Verdict::LateUseAfterEnd,
                format!("{named} went through {late} s after the end, before that was in force at AWS"),
                "ask why the agent went on after it had said that it was done",
            );
        }
        // That is what an end is for.
        (Outcome::Denied(_), When::Ended | When::Dead) => return None,
        _ => {}
    }
    let judged = judged(allowed?, call);
    match (&call.outcome, judged) {
        (Outcome::Denied(code), Ok(())) => say(
            Verdict::DeniedAttempt,
            format!("{named}, which was approved, was refused ({code})"),
            "see whether the role's ceiling and boundary allow what the catalog needs",
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

/// Whether a call is one of those that were allowed.
fn judged(allowed: &Allowed, call: &Call) -> Result<(), (Verdict, String)> {
    let actions = of_event(&call.source, &call.name);
    let approved: Vec<String> = actions.iter().filter(|action| allowed.allows(action)).cloned().collect();
    if !approved.is_empty() {
        return match &call.touched {
            _ if allowed.everywhere(&approved) => Ok(()),
            Touched::Approved => Ok(()),
            Touched::Other(other) => {
                let other: String = other.chars().take(200).collect();
                Err((Verdict::ExtraCall, format!("`{other}` was not approved")))
            }
            Touched::Unsaid => {
                Err((Verdict::NeedsReview, "the record does not say which resource it touched".into()))
            }
        };
    }
    if let Some(service) = &call.by_service {
        let service: String = service.chars().take(100).collect();
        return Err((Verdict::NeedsReview, format!("`{service}` made it in the session's name")));
    }
    if actions.is_empty() && !allowed.is_known() {
        return Err((Verdict::NeedsReview, "it is not known which action leaves such a record".into()));
    }
    Err((Verdict::ExtraCall, "no approved action leaves such a record".into()))
}
