//! One lease's calls against what its policy allows, and the verdict.

use std::collections::BTreeSet;

use super::actions::{Told, home_region, is_free, is_global, of_event, told};
use super::allowed::Allowed;
use super::arn::Arn;
use super::calls::{Call, Calls, Class, Counts, Kept, MAX_CALLS, Outcome, Tally, When};
use super::expected::{Expected, Signed};
use super::finding::{finding, is_canary, judged};
use super::record::Record;
use super::report::{Finding, LeaseReport, Verdict};
use crate::domain::time::Timestamp;

/// Regions of a lease that are remembered.
const MAX_REGIONS: usize = 64;

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
    /// Incidents about its own access key.
    pub(super) incidents: u64,
    /// Incidents of others that name it.
    pub(super) named_by: u64,
    /// Records that cannot be read and seem to be of it.
    pub(super) unreadable: u64,
    /// Regions in which it was minted and used.
    regions: BTreeSet<String>,
}

/// What is known around a lease when it is judged.
pub(super) struct Around {
    /// Whether the settle window after its hard end has passed.
    pub(super) settled: bool,
    /// Whether the records of its account go on beyond its end in each Region in which it could be used.
    pub(super) reaches: bool,
    /// Whether no file came of some hour of its life.
    pub(super) hours_missing: bool,
}

impl Seen {
    /// Takes a call of the lease.
    pub(super) fn call(&mut self, expected: &Expected, record: &Record) {
        let (call, tally) = Call::of(expected, record);
        self.was_in(record);
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
        let told = [self.incidents, self.named_by, self.unreadable, self.beyond];
        self.calls.is_empty() && self.mint.is_none() && told.iter().all(|count| *count == 0)
    }

    /// A record of it lies in that Region.
    pub(super) fn was_in(&mut self, record: &Record) {
        if let Some(region) = record.region.as_ref().filter(|_| self.regions.len() < MAX_REGIONS) {
            self.regions.insert(region.clone());
        }
    }

    /// The Regions whose records tell of its use: the one it was signed for, otherwise those in which records of it were
    /// seen; and the one where a partition keeps the records of its global services, where its policy speaks of one.
    /// `None` when that is not known.
    pub(super) fn told_in(&self, expected: &Expected) -> Option<BTreeSet<String>> {
        let mut regions = match expected.region() {
            Some(region) => BTreeSet::from([region.to_owned()]),
            None => self.mint.as_ref().map(|_| self.regions.clone())?,
        };
        let actions = self.allowed_of(expected).map(Allowed::actions).unwrap_or_default();
        if actions.iter().any(|action| is_global(action)) {
            let partition = Arn::parse(&expected.role).map(|arn| arn.partition)?;
            regions.insert(home_region(partition)?.to_owned());
            // Nothing of a global service is told elsewhere.
            if let Some(own) = expected.region().filter(|_| actions.iter().all(|action| is_global(action))) {
                regions.retain(|region| region != own || home_region(partition) == Some(own));
            }
        }
        (!regions.is_empty()).then_some(regions)
    }

    /// What it was allowed. The policy in the trail counts where nobody signs; elsewhere it is a copy of what was sent,
    /// and approves nothing.
    fn allowed_of<'a>(&'a self, expected: &'a Expected) -> Option<&'a Allowed> {
        let from_trail = self.allowed.as_ref().filter(|_| matches!(expected.signed, Signed::Nobody));
        expected.allowed().or(from_trail)
    }

    /// The verdict, with everything that led to it.
    pub(super) fn judge(&self, expected: &Expected, around: &Around) -> LeaseReport {
        let allowed = self.allowed_of(expected);
        let mut findings: Vec<Finding> = Vec::new();
        for (call, tally) in &self.calls {
            findings.extend(finding(expected, allowed, call, tally));
        }
        findings.extend(self.beside(expected, allowed));
        let is_clean = !findings.iter().any(|finding| finding.verdict.is_bad());
        findings.extend(self.named());
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
        let worst = findings.first().map(|finding| finding.verdict);
        let untold = self.untold(allowed);
        let unsure = self.unsure(around, allowed, &untold);
        let verdict = match worst {
            Some(worst) if worst.is_bad() => worst,
            _ if !around.settled => Verdict::Settling,
            Some(worst) => worst,
            // What the trail need not have told, nobody has seen.
            None if !unsure.is_empty() => Verdict::Unobservable,
            None if self.used(expected, allowed) => Verdict::Matched,
            None => Verdict::NoUse,
        };
        LeaseReport {
            lease: expected.lease,
            run: expected.run,
            grant: expected.grant,
            phase: expected.phase.clone(),
            agent: expected.agent.clone(),
            verdict,
            calls: self.done(expected, allowed),
            failed: self.counts.failed,
            denied: self.counts.denied,
            mint_seen: self.mint.is_some(),
            hours_missing: around.hours_missing,
            reach_covered: around.reaches,
            untold,
            unsure,
            named_only: is_clean && verdict == Verdict::NeedsReview,
            first: self.counts.first,
            last: self.counts.last,
            refused_after_end_seconds: self.died(expected, allowed),
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
            say(self.incidents, "incidents are about its access key".into(), "see the incidents");
        }
        let done = self
            .calls
            .keys()
            .filter(|call| call.outcome == Outcome::Done && call.touched == Kept::Judged(Class::Approved));
        let unshown = match allowed.filter(|_| self.used(expected, allowed)) {
            Some(allowed) => allowed.unshown(done.map(|call| (call.source.as_str(), call.name.as_str()))),
            None => Vec::new(),
        };
        for name in unshown {
            let what = format!("no record shows `{name}`, which was approved and which AWS does not enforce");
            say(1, what, "compare what the call wrote with the grant yourself");
        }
        found
    }

    /// What others say in its name: a person should know, but it is nothing that its own credential did.
    fn named(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut say = |count: u64, what: &str, todo: &str| {
            let (what, todo) = (what.to_owned(), todo.to_owned());
            if count > 0 {
                let verdict = Verdict::NeedsReview;
                found.push(Finding { verdict, count, at: None, event: None, what, todo });
            }
        };
        say(self.named_by, "incidents of other sessions name this lease", "see the incidents");
        let todo = "read them yourself: they name its session or its access key";
        say(self.unreadable, "records that seem to be of it cannot be read", todo);
        found
    }

    /// Calls that went through. What the broker called itself is nothing that the agent did.
    fn done(&self, expected: &Expected, allowed: Option<&Allowed>) -> u64 {
        let is_canaries =
            |(call, _): &(&Call, &Tally)| call.outcome == Outcome::Done && is_canary(expected, allowed, call);
        let canaries: u64 = self.calls.iter().filter(is_canaries).map(|(_, tally)| tally.count).sum();
        self.counts.done.saturating_sub(canaries)
    }

    /// Whether anything but what needs no permission was called by the agent, and AWS looked at it.
    fn used(&self, expected: &Expected, allowed: Option<&Allowed>) -> bool {
        let is_use = |call: &Call| !is_free(&call.source, &call.name) && !is_canary(expected, allowed, call);
        self.calls.keys().any(|call| is_use(call) && !matches!(call.outcome, Outcome::Denied(_)))
    }

    /// Approved actions that a trail tells of only when asked to, if at all, and of which no record is there.
    fn untold(&self, allowed: Option<&Allowed>) -> Vec<String> {
        let seen: BTreeSet<String> = self
            .calls
            .keys()
            .flat_map(|call| of_event(&call.source, &call.name))
            .map(|action| action.to_ascii_lowercase())
            .collect();
        let actions = allowed.map(Allowed::actions).unwrap_or_default();
        let is_untold = |action: &&str| {
            told(action) != Some(Told::Always) && !seen.contains(&action.to_ascii_lowercase())
        };
        actions.into_iter().filter(is_untold).map(str::to_owned).collect()
    }

    /// What keeps one from saying that everything it did was told.
    fn unsure(&self, around: &Around, allowed: Option<&Allowed>, untold: &[String]) -> Vec<&'static str> {
        [
            (self.mint.is_none(), "no record of its mint"),
            (!around.reaches, "the records end before it did"),
            (around.hours_missing, "hours are missing"),
            (allowed.is_none(), "what it was allowed is not known"),
            (!untold.is_empty(), "records of its actions need not be there"),
        ]
        .into_iter()
        .filter_map(|(is_so, why)| is_so.then_some(why))
        .collect()
    }

    /// How soon it was refused what it had been allowed.
    fn died(&self, expected: &Expected, allowed: Option<&Allowed>) -> Option<i64> {
        let (ended, allowed) = (expected.ended?, allowed?);
        let after = self.calls.iter().filter(|(call, tally)| {
            let refused = call.when != When::Alive && matches!(call.outcome, Outcome::Denied(_));
            refused && !is_free(&call.source, &call.name) && judged(allowed, call, tally).is_ok()
        });
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
