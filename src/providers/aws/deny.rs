//! The Deny document of one role: a pure function of its leases and the time. Reads no clock, does no I/O.
//! While it fits, the revoked leases are listed by their tag; under pressure a watermark over `aws:TokenIssueTime`
//! takes the place of the older ones and spares live leases by name; at the very end it spares none.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::domain::id::LeaseId;
use crate::domain::time::Timestamp;

/// Most characters of all inline policies of a role (IAM quotas); ours is the only one.
pub const MAX_DENY_CHARS: usize = 10_240;
/// Seconds by which `aws:TokenIssueTime` can differ from when a lease was opened: the largest clock offset under which
/// the broker mints, and the longest mint.
pub const ISSUE_TIME_SLACK_SECONDS: i64 = 135;

/// Seconds between two watermarks.
const STEP_SECONDS: i64 = 30;

/// A lease to be denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DenyEntry {
    /// The lease; the value of its session tag.
    pub lease: LeaseId,
    /// When its lease was opened, in the broker's clock.
    pub issued_at: Timestamp,
    /// From when on its session cannot act in any case.
    pub hard_end: Timestamp,
}

/// A lease that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveEntry {
    /// The lease.
    pub lease: LeaseId,
    /// From when on its session cannot act in any case.
    pub hard_end: Timestamp,
}

/// How far the document had to go to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing is denied.
    Nothing,
    /// Every revoked lease by name.
    Listed,
    /// Older ones by a watermark in the past, younger ones by name; live leases are spared, later ones unaffected.
    Watermark,
    /// All by a watermark ahead of every clock; the live leases known now are spared, later ones only by the next write.
    Ahead,
    /// All by a watermark ahead of every clock, and nothing is spared.
    Everything,
}

/// What the role's Deny policy should say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenyDocument {
    /// The policy; `None` when there is nothing to deny and the policy should not exist.
    pub text: Option<String>,
    /// How far it had to go. Above [`Level::Listed`] people should hear of it.
    pub level: Level,
    /// Sessions issued before this instant are denied, unless spared.
    pub watermark: Option<Timestamp>,
}

/// The document at `now`. `complete` is false when older entries may be missing from `entries`: then no list alone will do.
pub fn deny_document(
    entries: &[DenyEntry],
    live: &[LiveEntry],
    now: Timestamp,
    complete: bool,
) -> DenyDocument {
    let entries: Vec<&DenyEntry> = entries.iter().filter(|entry| !entry.hard_end.has_passed(now)).collect();
    let denied: BTreeSet<LeaseId> = entries.iter().map(|entry| entry.lease).collect();
    if denied.is_empty() && complete {
        return DenyDocument { text: None, level: Level::Nothing, watermark: None };
    }
    // A lease that is both is denied.
    let spared: BTreeSet<LeaseId> = live
        .iter()
        .filter(|entry| !entry.hard_end.has_passed(now))
        .map(|entry| entry.lease)
        .filter(|lease| !denied.contains(lease))
        .collect();
    // Whatever is opened from now on has an issue time after `past`; whatever was opened until now, before `ahead`.
    // Both move in steps, so that a document that is tried again a moment later is the same.
    let step = now.plus(-now.seconds().rem_euclid(STEP_SECONDS));
    let past = step.plus(-ISSUE_TIME_SLACK_SECONDS);
    let ahead = step.plus(STEP_SECONDS + ISSUE_TIME_SLACK_SECONDS);
    // SECURITY: a clock that went back must not leave those alive that were opened before it did.
    let opened_last = entries.iter().map(|entry| entry.issued_at).max();
    let ahead = opened_last.map_or(ahead, |last| ahead.max(last.plus(ISSUE_TIME_SLACK_SECONDS + 1)));
    let young: BTreeSet<LeaseId> = entries
        .iter()
        .filter(|entry| entry.issued_at.plus(ISSUE_TIME_SLACK_SECONDS) >= past)
        .map(|entry| entry.lease)
        .collect();
    let rungs = [
        (Level::Listed, None, vec![by_name(&denied)]),
        (Level::Watermark, Some(past), with_names(before(past, &spared), &young)),
        (Level::Ahead, Some(ahead), vec![before(ahead, &spared)]),
    ];
    for (level, watermark, statements) in rungs {
        let text = document(statements);
        if text.len() <= MAX_DENY_CHARS && (complete || level > Level::Listed) {
            return DenyDocument { text: Some(text), level, watermark };
        }
    }
    let text = document(vec![before(ahead, &BTreeSet::new())]);
    DenyDocument { text: Some(text), level: Level::Everything, watermark: Some(ahead) }
}

/// The lease ids that a document of ours denies by name, and whether it has a watermark; `None` when it is not ours.
pub(super) fn read_back(policy: &Value) -> Option<(Vec<LeaseId>, bool)> {
    let (mut leases, mut watermark) = (Vec::new(), false);
    for statement in policy.get("Statement")?.as_array()? {
        let condition = statement.get("Condition")?;
        match condition.pointer("/StringEquals/aws:PrincipalTag~1lease") {
            Some(listed) => {
                for id in listed.as_array()? {
                    leases.push(id.as_str()?.parse().ok()?);
                }
            }
            None => watermark |= condition.pointer("/DateLessThan/aws:TokenIssueTime").is_some(),
        }
    }
    Some((leases, watermark))
}

fn document(statements: Vec<Value>) -> String {
    json!({ "Version": "2012-10-17", "Statement": statements }).to_string()
}

fn with_names(watermark: Value, young: &BTreeSet<LeaseId>) -> Vec<Value> {
    if young.is_empty() { vec![watermark] } else { vec![watermark, by_name(young)] }
}

fn by_name(leases: &BTreeSet<LeaseId>) -> Value {
    deny(json!({ "StringEquals": { "aws:PrincipalTag/lease": names(leases) } }))
}

fn before(watermark: Timestamp, spared: &BTreeSet<LeaseId>) -> Value {
    let date = json!({ "aws:TokenIssueTime": watermark.rfc3339() });
    // An empty list is left out: its meaning is nobody's to rely on.
    deny(match spared.is_empty() {
        true => json!({ "DateLessThan": date }),
        false => json!({
            "DateLessThan": date,
            "StringNotEquals": { "aws:PrincipalTag/lease": names(spared) },
        }),
    })
}

fn deny(condition: Value) -> Value {
    json!({ "Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition })
}

fn names(leases: &BTreeSet<LeaseId>) -> Vec<String> {
    leases.iter().map(LeaseId::to_string).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use awsim_iam_policy::{AuthzRequest, ContextValue, Decision, EvalContext, evaluate, parse};
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
    const LIFE: i64 = 930;

    /// A session as AWS sees it.
    #[derive(Debug, Clone, Copy)]
    struct Session {
        lease: LeaseId,
        issued: Timestamp,
    }

    fn judged_by_evaluator(document: &DenyDocument, session: Session) -> bool {
        let allow =
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
        let policies: Vec<_> = [Some(allow), document.text.as_deref()]
            .into_iter()
            .flatten()
            .map(|text| parse(text).unwrap())
            .collect();
        let context = HashMap::from([
            ("aws:PrincipalTag/lease".to_owned(), ContextValue::String(session.lease.to_string())),
            ("aws:TokenIssueTime".to_owned(), ContextValue::String(session.issued.rfc3339())),
        ]);
        let request = AuthzRequest {
            principal_arn: "arn:aws:sts::123456789012:assumed-role/execute/x",
            principal_account: "123456789012",
            action: "ec2:RebootInstances",
            resource_arn: "arn:aws:ec2:eu-central-1:123456789012:instance/i-0123456789abcdef0",
            context: &context,
        };
        let decision =
            evaluate(&request, &EvalContext { identity_policies: &policies, ..EvalContext::default() });
        decision == Decision::ExplicitDeny
    }

    /// A second judge, which knows just the shapes that a Deny document may have, and reads it once for many sessions.
    struct Naive(Vec<Conditions>);

    #[derive(Default)]
    struct Conditions {
        among: Option<HashSet<String>>,
        not_among: Option<HashSet<String>>,
        before: Option<Timestamp>,
    }

    impl Naive {
        fn read(document: &DenyDocument) -> Self {
            let Some(text) = &document.text else { return Self(Vec::new()) };
            let policy: Value = serde_json::from_str(text).unwrap();
            let read = |statement: &Value| {
                assert_eq!((&statement["Effect"], &statement["Action"]), (&json!("Deny"), &json!("*")));
                let mut conditions = Conditions::default();
                for (operator, keys) in statement["Condition"].as_object().unwrap() {
                    match operator.as_str() {
                        "StringEquals" => conditions.among = Some(listed(keys)),
                        "StringNotEquals" => conditions.not_among = Some(listed(keys)),
                        "DateLessThan" => {
                            let date = keys["aws:TokenIssueTime"].as_str().unwrap();
                            conditions.before = Some(Timestamp::parse_rfc3339(date).unwrap());
                        }
                        other => panic!("{other} has no place here"),
                    }
                }
                conditions
            };
            Self(policy["Statement"].as_array().unwrap().iter().map(read).collect())
        }

        fn denies(&self, session: Session) -> bool {
            let lease = session.lease.to_string();
            self.0.iter().any(|conditions| {
                conditions.among.as_ref().is_none_or(|among| among.contains(&lease))
                    && conditions.not_among.as_ref().is_none_or(|spared| !spared.contains(&lease))
                    && conditions.before.is_none_or(|watermark| session.issued < watermark)
            })
        }
    }

    fn listed(keys: &Value) -> HashSet<String> {
        let ids = keys["aws:PrincipalTag/lease"].as_array().unwrap();
        ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    fn is_denied(document: &DenyDocument, session: Session) -> bool {
        let (one, other) = (judged_by_evaluator(document, session), Naive::read(document).denies(session));
        assert_eq!(one, other, "the judges differ on {session:?} under {document:?}");
        one
    }

    fn entry(age: i64) -> DenyEntry {
        let issued_at = NOW.plus(-age);
        DenyEntry { lease: LeaseId::generate(issued_at), issued_at, hard_end: issued_at.plus(LIFE) }
    }

    fn revoked(ages: impl IntoIterator<Item = i64>) -> Vec<DenyEntry> {
        ages.into_iter().map(entry).collect()
    }

    fn live(ages: impl IntoIterator<Item = i64>) -> (Vec<LiveEntry>, Vec<DenyEntry>) {
        let entries = revoked(ages);
        (entries.iter().map(|e| LiveEntry { lease: e.lease, hard_end: e.hard_end }).collect(), entries)
    }

    fn session(entry: &DenyEntry, skew: i64) -> Session {
        Session { lease: entry.lease, issued: entry.issued_at.plus(skew) }
    }

    #[test]
    fn nothing_revoked_or_only_the_dead_is_no_policy() {
        for entries in [vec![], revoked([LIFE, LIFE + 5])] {
            let document = deny_document(&entries, &[], NOW, true);
            assert_eq!((document.level, document.text), (Level::Nothing, None));
        }
        assert_eq!(deny_document(&revoked([LIFE - 1]), &[], NOW, true).level, Level::Listed);
    }

    #[test]
    fn the_ladder_is_climbed_one_rung_at_a_time() {
        let level = |old: usize, young: usize, spared: usize| {
            let entries = revoked(std::iter::repeat_n(600, old).chain(std::iter::repeat_n(10, young)));
            let (live, _) = live(std::iter::repeat_n(10, spared));
            deny_document(&entries, &live, NOW, true).level
        };
        assert_eq!(level(300, 40, 400), Level::Listed);
        assert_eq!(level(400, 100, 200), Level::Watermark);
        assert_eq!(level(0, 400, 300), Level::Ahead);
        assert_eq!(level(0, 400, 400), Level::Everything);
    }

    #[test]
    fn a_clock_that_went_back_leaves_no_revoked_session_alive() {
        // They were opened ten minutes ahead of what the clock says now, by an AWS that may be ahead of that, too.
        let entries = revoked((0..1_000).map(|_| -600));
        let document = deny_document(&entries, &[], NOW, true);
        assert!(document.level > Level::Watermark, "they do not fit by name");
        let denied = |issued| is_denied(&document, Session { lease: entries[0].lease, issued });
        assert!(denied(NOW.plus(600)) && denied(NOW.plus(600 + ISSUE_TIME_SLACK_SECONDS)));
        let few = deny_document(&entries[..3], &[], NOW, true);
        assert_eq!((few.level, few.watermark), (Level::Listed, None), "names need no clock");
    }

    #[test]
    fn entries_that_may_be_missing_are_covered_by_a_watermark() {
        let forgotten = entry(600);
        let document = deny_document(&revoked([10]), &[], NOW, false);
        assert_eq!(document.level, Level::Watermark);
        assert!(is_denied(&document, session(&forgotten, 0)));
    }

    #[test]
    fn what_was_written_is_read_back() {
        let entries = revoked([10, 20]);
        let read = |complete| {
            let text = deny_document(&entries, &[], NOW, complete).text.unwrap();
            read_back(&serde_json::from_str(&text).unwrap()).unwrap()
        };
        let ids: BTreeSet<LeaseId> = entries.iter().map(|e| e.lease).collect();
        assert_eq!(read(true), (ids.iter().copied().collect(), false));
        assert_eq!(read(false), (ids.into_iter().collect(), true));
        assert_eq!(read_back(&json!({"Statement": [{"Effect": "Allow"}]})), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_revoked_lease_is_always_denied_and_a_live_one_never(
            revoked_ages in prop::collection::vec(0..LIFE + 60, 0..700),
            live_ages in prop::collection::vec(0..LIFE, 0..420),
            complete in any::<bool>(),
            skew in -ISSUE_TIME_SLACK_SECONDS + 1..ISSUE_TIME_SLACK_SECONDS,
            probe in any::<prop::sample::Index>(),
        ) {
            let entries = revoked(revoked_ages);
            let (live, living) = live(live_ages);
            let document = deny_document(&entries, &live, NOW, complete);
            prop_assert!(document.text.as_ref().is_none_or(|text| text.len() <= MAX_DENY_CHARS));
            let undead: Vec<DenyEntry> =
                entries.iter().copied().filter(|e| !e.hard_end.has_passed(NOW)).collect();
            let naive = Naive::read(&document);
            if !undead.is_empty() {
                prop_assert!(is_denied(&document, session(probe.get(&undead), skew)));
                prop_assert!(undead.iter().all(|e| naive.denies(session(e, skew))));
            }
            if document.level < Level::Everything && !living.is_empty() {
                prop_assert!(!is_denied(&document, session(probe.get(&living), skew)));
                prop_assert!(living.iter().all(|e| !naive.denies(session(e, skew))));
            }
            // Whoever comes later is not touched while the watermark lies in the past.
            if document.level <= Level::Watermark {
                prop_assert!(!is_denied(&document, session(&entry(0), skew)));
            }
        }
    }

    /// What happens between the broker and a role.
    #[derive(Debug, Clone)]
    enum Step {
        /// So many leases are opened.
        Open(usize),
        /// Every so-manieth of those that live is revoked.
        Revoke(usize),
        /// Seconds go by.
        Pass(i64),
        /// The writer writes; `false` when older entries may be missing.
        Write(bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (1..260_usize).prop_map(Step::Open),
            3 => (1..5_usize).prop_map(Step::Revoke),
            2 => (1..300_i64).prop_map(Step::Pass),
            3 => prop::bool::weighted(0.8).prop_map(Step::Write),
        ]
    }

    #[derive(Debug, Clone, Copy)]
    struct Known {
        entry: DenyEntry,
        revoked: bool,
        /// Revoked before the last write.
        written: bool,
    }

    /// A role through many writes, and what a naive reader expects of it.
    struct Model {
        now: Timestamp,
        skew: i64,
        known: Vec<Known>,
        on_role: DenyDocument,
    }

    impl Model {
        fn take(&mut self, step: Step) {
            match step {
                // As the provider does: while a watermark lies ahead of AWS's clock, nothing is minted.
                Step::Open(_) if self.is_shut() => {}
                Step::Open(count) => {
                    for _ in 0..count {
                        let (lease, hard_end) = (LeaseId::generate(self.now), self.now.plus(LIFE));
                        let entry = DenyEntry { lease, issued_at: self.now, hard_end };
                        self.known.push(Known { entry, revoked: false, written: false });
                    }
                }
                Step::Revoke(every) => {
                    self.known
                        .iter_mut()
                        .filter(|known| !known.revoked)
                        .step_by(every)
                        .for_each(|k| k.revoked = true);
                }
                Step::Pass(seconds) => {
                    self.now = self.now.plus(seconds);
                    self.known.retain(|known| !known.entry.hard_end.has_passed(self.now));
                }
                Step::Write(complete) => self.write(complete),
            }
        }

        fn write(&mut self, complete: bool) {
            let (revoked, living): (Vec<Known>, Vec<Known>) =
                self.known.iter().partition(|known| known.revoked);
            let entries: Vec<DenyEntry> = revoked.iter().map(|known| known.entry).collect();
            let live: Vec<LiveEntry> = living
                .iter()
                .map(|known| LiveEntry { lease: known.entry.lease, hard_end: known.entry.hard_end })
                .collect();
            self.on_role = deny_document(&entries, &live, self.now, complete);
            self.known.iter_mut().filter(|known| known.revoked).for_each(|known| known.written = true);
        }

        fn is_shut(&self) -> bool {
            let ahead = self.on_role.watermark.filter(|_| self.on_role.level >= Level::Ahead);
            ahead.is_some_and(|until| until > self.now.plus(self.skew))
        }

        fn check(&self, probe: prop::sample::Index) -> Result<(), TestCaseError> {
            let spares = self.on_role.level < Level::Everything;
            let naive = Naive::read(&self.on_role);
            let judged = probe.index(self.known.len());
            for (at, known) in self.known.iter().enumerate() {
                let session = session(&known.entry, self.skew);
                // The independent evaluator is slow: it judges one of each round, the model all of them.
                let denied = match at == judged {
                    true => is_denied(&self.on_role, session),
                    false => naive.denies(session),
                };
                prop_assert!(denied || !known.written, "{known:?} lives on under {:?}", self.on_role.level);
                prop_assert!(!denied || known.revoked || !spares, "{known:?} is denied and was not revoked");
            }
            Ok(())
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn through_any_rounds_what_was_revoked_stays_denied_and_what_lives_is_spared(
            steps in prop::collection::vec((step(), any::<prop::sample::Index>()), 1..24),
            skew in -ISSUE_TIME_SLACK_SECONDS + 1..ISSUE_TIME_SLACK_SECONDS,
        ) {
            let on_role = deny_document(&[], &[], NOW, true);
            let mut model = Model { now: NOW, skew, known: Vec::new(), on_role };
            for (step, probe) in steps {
                model.take(step);
                if !model.known.is_empty() {
                    model.check(probe)?;
                }
            }
        }
    }
}
