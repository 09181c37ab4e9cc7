//! A log that tells one whole life, and the same log with one thing wrong in it.

use super::*;
use crate::domain::event::Event;
use crate::domain::principal::Actor;

fn agent() -> Actor {
    Actor::Agent("fixer".parse().unwrap())
}

fn person(name: &str) -> Actor {
    Actor::Person(name.parse().unwrap())
}

/// The ids of one story.
struct Story {
    run: RunId,
    grant: GrantId,
    lease: LeaseId,
    other: GrantId,
}

impl Story {
    fn new() -> Self {
        let now = Timestamp::from_seconds(1_000);
        Self {
            run: RunId::generate(now),
            grant: GrantId::generate(now),
            lease: LeaseId::generate(now),
            other: GrantId::generate(now),
        }
    }

    fn event(&self, kind: E, actor: Actor, at: i64) -> Event {
        Event::new(kind, actor, Timestamp::from_seconds(1_000 + at)).run(self.run)
    }

    fn opened(&self) -> Event {
        self.event(E::RunOpened, agent(), 0).fact("requester", "alice").fact("environment", "demo")
    }

    fn sealed(&self, grant: GrantId, digest: &str) -> Event {
        let event = self.event(E::GrantSealed, agent(), 1).grant(grant).fact("digest", digest);
        event.fact("claiming_agent", "fixer").fact("tier", "needs_approval")
    }

    fn signed(&self, who: &str, jti: &str) -> Event {
        let event = self.event(E::ApprovalReceived, person(who), 20).grant(self.grant).fact("jti", jti);
        event.fact("digest", "d").fact("seconds_to_sign", 19)
    }

    fn approved(&self) -> Event {
        let event = self.event(E::GrantApproved, Actor::Broker, 20).grant(self.grant).fact("digest", "d");
        event.fact("claim_until", 1_100)
    }

    fn intent(&self) -> Event {
        let event = self.event(E::LeaseIntent, agent(), 30).grant(self.grant).lease(self.lease);
        let event = event.fact("phase", "execute").fact("grant_digest", "d").fact("epoch", 1);
        event.fact("approvals", vec!["j1"]).fact("not_after", 1_090)
    }

    fn step(&self, kind: E) -> Event {
        self.event(kind, Actor::Broker, 31).grant(self.grant).lease(self.lease)
    }

    fn whole(&self) -> Vec<Event> {
        vec![
            self.opened(),
            self.sealed(self.grant, "d"),
            self.signed("bob", "j1"),
            self.approved(),
            self.intent(),
            self.step(E::LeaseMinted),
            self.step(E::LeaseReleased),
            self.step(E::LeaseEnded),
            self.event(E::RunClosed, agent(), 60),
        ]
    }
}

/// What a claim always says, of the bytes and the approval it rests on.
fn claim(event: Event, digest: &str, approval: &str) -> Event {
    let event = event.fact("phase", "execute").fact("grant_digest", digest);
    event.fact("approvals", vec![approval]).fact("epoch", 1)
}

/// Another run, opened before the story.
fn opened_at_one() -> Event {
    let event = Event::new(E::RunOpened, agent(), Timestamp::from_seconds(1)).run(RunId::nil());
    event.fact("requester", "alice")
}

/// Events as they are read back, each with the one before it in its run.
fn read(events: &[Event]) -> Vec<ReadEvent> {
    let mut before: HashMap<RunId, u64> = HashMap::new();
    let mut all = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let mut event = ReadEvent::parse(&event.bytes(None).unwrap()).unwrap();
        if let Some(run) = event.run {
            event.previous = before.insert(run, index as u64);
        }
        all.push(event);
    }
    all
}

fn followed(events: &[ReadEvent]) -> Followed {
    let mut lives = Lives::from(0);
    events.iter().enumerate().for_each(|(index, event)| lives.follow(index as u64, event));
    lives.finish()
}

/// The one finding there is.
fn finding(events: Vec<Event>) -> Finding {
    let mut found = followed(&read(&events)).findings;
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn without(mut events: Vec<Event>, kind: E) -> Vec<Event> {
    events.retain(|event| event.kind() != kind);
    events
}

fn with(mut events: Vec<Event>, at: usize, event: Event) -> Vec<Event> {
    events.insert(at, event);
    events
}

#[test]
fn a_whole_life_has_no_finding_and_leaves_nothing_open() {
    let all = followed(&read(&Story::new().whole()));
    assert_eq!(all.findings, []);
    assert_eq!((all.events, all.epoch, all.open_grants), (9, Some(1), 0));
    assert!(all.open_leases.is_empty() && all.open_reviews.is_empty() && all.newer_kinds.is_empty());
}

#[test]
fn a_credential_without_an_approved_grant_is_found() {
    let story = Story::new();
    let unsigned = without(without(story.whole(), E::ApprovalReceived), E::GrantApproved);
    let found = followed(&read(&unsigned)).findings;
    assert_eq!((found[0].index, found[0].rule), (2, "grant"));
    assert!(found[0].text.contains("not approved"), "{found:?}");
    let never_sealed = without(unsigned, E::GrantSealed);
    assert!(finding(never_sealed).text.contains("never sealed"));
    let nobody = without(story.whole(), E::ApprovalReceived);
    assert!(followed(&read(&nobody)).findings[0].text.contains("nobody signed it"));
}

/// Bob signs the playbook `p`.
fn playbook() -> Vec<Event> {
    let id = GrantId::generate(Timestamp::from_seconds(1));
    let event =
        |kind, actor| Event::new(kind, actor, Timestamp::from_seconds(900)).grant(id).fact("digest", "p");
    vec![
        event(E::AdministrationSealed, person("olga")),
        event(E::ApprovalReceived, person("bob")).fact("jti", "jp"),
        event(E::GrantApproved, Actor::Broker),
        event(E::PlaybookSigned, Actor::Broker).fact("not_after", 5_000),
    ]
}

/// The whole story inside the playbook `p`, claimed by what bob signed.
fn covered(story: &Story) -> Vec<Event> {
    let mut events = without(without(story.whole(), E::ApprovalReceived), E::GrantApproved);
    events[1] = story.sealed(story.grant, "d").fact("playbook", "p");
    events[2] = story.intent().fact("approvals", vec!["jp"]);
    [playbook(), events].concat()
}

#[test]
fn a_grant_inside_a_signed_playbook_needs_no_signature_of_its_own() {
    let story = Story::new();
    assert_eq!(followed(&read(&covered(&story))).findings, []);
    let unsigned = covered(&story).split_off(4);
    assert!(followed(&read(&unsigned)).findings[0].text.contains("a playbook that nobody signed"));
    let mut other = covered(&story);
    other[6] = story.intent();
    assert!(finding(other).text.contains("`j1`"));
}

#[test]
fn a_playbook_out_of_use_covers_nothing() {
    let story = Story::new();
    let suspended = Event::new(E::PlaybookSuspended, person("bob"), Timestamp::from_seconds(1_005));
    let found = finding(with(covered(&story), 6, suspended.fact("digest", "p")));
    assert!(found.text.contains("out of use"), "{found:?}");
    let mut late = covered(&story);
    late[3] = Event::new(E::PlaybookSigned, Actor::Broker, Timestamp::from_seconds(900))
        .grant(late[3].grant_id().unwrap())
        .fact("digest", "p")
        .fact("not_after", 1_030);
    assert!(finding(late).text.contains("out of use"));
}

#[test]
fn a_dead_grant_is_never_claimed() {
    for kind in [E::GrantDenied, E::GrantCancelled, E::GrantLapsed, E::ApprovalWithdrawn] {
        let story = Story::new();
        let answered = matches!(kind, E::GrantDenied | E::ApprovalWithdrawn);
        let actor = if answered { person("bob") } else { Actor::Broker };
        let dead = story.event(kind, actor, 25).grant(story.grant).fact("jti", "j2").fact("digest", "d");
        let found = finding(with(story.whole(), 4, dead));
        assert_eq!((found.index, found.rule), (5, "grant"), "{}", kind.name());
    }
    let story = Story::new();
    let fence = Event::new(E::StoreFenced, Actor::Broker, Timestamp::from_seconds(1_025));
    let fence = fence.fact("old_epoch", 1).fact("old_size", 4);
    let found = followed(&read(&with(story.whole(), 4, fence))).findings;
    assert!(found[0].text.contains("of an older epoch"), "{found:?}");
    assert_eq!(found[1].rule, "epoch");
}

#[test]
fn a_grant_is_spent_once_and_again_only_after_the_provider_refused() {
    let story = Story::new();
    let refused = with(story.whole(), 5, story.step(E::LeaseRefused));
    let again = with(refused, 6, story.intent());
    assert_eq!(followed(&read(&again)).findings, []);
    let twice = with(story.whole(), 8, story.intent());
    let found = followed(&read(&twice)).findings;
    assert!(found[0].text.contains("is spent or dead"), "{found:?}");
}

#[test]
fn what_is_over_never_begins_again() {
    let story = Story::new();
    let sealed_again = with(story.whole(), 8, story.sealed(story.grant, "d"));
    assert!(finding(sealed_again.clone()).text.contains("is sealed twice"));
    // The whole story a second time, signed by another approval, in the same run.
    let second = [
        story.signed("bob", "j7"),
        story.approved(),
        story.intent().fact("approvals", vec!["j7"]),
        story.step(E::LeaseMinted),
        story.step(E::LeaseReleased),
        story.step(E::LeaseEnded),
    ];
    let mut twice = sealed_again;
    twice.splice(9..9, second);
    let found = followed(&read(&twice)).findings;
    assert!(found.iter().any(|one| one.text.contains("is opened again after it was over")), "{found:?}");
    let read_phase = |kind| {
        let event = story.event(kind, agent(), 40).lease(LeaseId::nil());
        if kind == E::LeaseIntent { event.fact("phase", "decide") } else { event }
    };
    let mut events = story.whole();
    events.splice(8..8, [E::LeaseIntent, E::LeaseRefused].map(read_phase));
    assert_eq!(followed(&read(&events)).findings, []);
    events.insert(10, read_phase(E::LeaseIntent));
    assert!(finding(events).text.contains("after it was over"));
}

#[test]
fn of_a_pruned_log_too_a_grant_is_spent_once() {
    let story = Story::new();
    let mut events = read(&with(story.whole(), 8, story.intent()));
    let from = |events: &[ReadEvent]| {
        let mut lives = Lives::from(4);
        events.iter().enumerate().skip(4).for_each(|(index, event)| lives.follow(index as u64, event));
        lives.finish().findings
    };
    let found = from(&events);
    assert!(found.iter().any(|one| one.index == 8 && one.text.contains("is spent or dead")), "{found:?}");
    events.truncate(8);
    assert_eq!(from(&events), []);
}

#[test]
fn what_an_event_always_says_is_missed_when_it_does_not() {
    let story = Story::new();
    let instead = |at: usize, event: Event| {
        let mut events = story.whole();
        events[at] = event;
        followed(&read(&events)).findings
    };
    let bare = |kind, actor, at| story.event(kind, actor, at).grant(story.grant);
    let digestless = bare(E::GrantSealed, agent(), 1).fact("claiming_agent", "fixer");
    assert!(instead(1, digestless)[0].text.contains("without the digest"));
    let anybodys = bare(E::GrantSealed, agent(), 1).fact("digest", "d");
    assert!(instead(1, anybodys)[0].text.contains("without the agent"));
    let unsaid = bare(E::ApprovalReceived, person("bob"), 20).fact("jti", "j1");
    assert!(instead(2, unsaid)[0].text.contains("other bytes"));
    let unnamed = bare(E::ApprovalReceived, person("bob"), 20).fact("digest", "d");
    assert!(instead(2, unnamed)[0].text.contains("no `jti`"));
    let unsaid = bare(E::GrantApproved, Actor::Broker, 20).fact("claim_until", 1_100);
    assert!(instead(3, unsaid)[0].text.contains("other bytes"));
    let spends = || bare(E::LeaseIntent, agent(), 30).lease(story.lease).fact("phase", "execute");
    let approvals = || vec!["j1"];
    for (claim, part) in [
        (spends().fact("approvals", approvals()).fact("epoch", 1), "other bytes were claimed"),
        (spends().fact("grant_digest", "d").fact("epoch", 1), "without naming an approval"),
        (spends().fact("grant_digest", "d").fact("approvals", approvals()), "no epoch is named"),
    ] {
        let found = instead(4, claim);
        assert!(found.len() == 1 && found[0].text.contains(part), "{part}: {found:?}");
    }
    let fence = Event::new(E::StoreFenced, Actor::Broker, Timestamp::from_seconds(1_090));
    let found = followed(&read(&with(story.whole(), 9, fence))).findings;
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn a_lease_skips_no_step() {
    let story = Story::new();
    let found = finding(without(story.whole(), E::LeaseMinted));
    assert_eq!((found.rule, found.index), ("lease", 5));
    assert!(found.text.contains("from intent to released"));
    assert!(finding(with(story.whole(), 8, story.step(E::LeaseReleased))).text.contains("is over"));
    let swapped = {
        let mut events = story.whole();
        events.swap(5, 6);
        events
    };
    assert!(!followed(&read(&swapped)).findings.is_empty());
}

#[test]
fn an_approval_counts_once_and_is_never_ones_own() {
    let story = Story::new();
    let again = story.signed("carol", "j1");
    assert!(finding(with(story.whole(), 3, again)).text.contains("was counted before"));
    assert_eq!(followed(&read(&with(story.whole(), 3, story.signed("carol", "j3")))).findings, []);
    let own = with(story.whole(), 3, story.signed("alice", "j3"));
    assert!(finding(own).text.contains("asked for alice"));
    let other = with(story.whole(), 3, story.signed("carol", "j3").fact("digest", "e"));
    assert!(finding(other).text.contains("other bytes"));
    let foreign = {
        let mut events = story.whole();
        events[4] = story.intent().fact("approvals", vec!["j1", "j9"]);
        events
    };
    assert!(finding(foreign).text.contains("`j9`"));
    let late = with(story.whole(), 8, story.signed("carol", "j3"));
    assert!(finding(late).text.contains("is spent or dead"));
}

#[test]
fn what_is_claimed_is_what_was_sealed_by_whom_it_names_and_in_time() {
    let story = Story::new();
    let claimed = |intent: Event| {
        let mut events = story.whole();
        events[4] = intent;
        finding(events).text
    };
    assert!(claimed(story.intent().fact("grant_digest", "e")).contains("other bytes were claimed"));
    assert!(claimed(story.intent().fact("epoch", 2)).contains("epoch 2"));
    let other =
        Event::new(E::LeaseIntent, Actor::Agent("other".parse().unwrap()), Timestamp::from_seconds(1_030));
    let other = other.run(story.run).grant(story.grant).lease(story.lease);
    assert!(claimed(claim(other, "d", "j1")).contains("another agent"));
    let late = story.event(E::LeaseIntent, agent(), 100).grant(story.grant).lease(story.lease);
    assert!(claimed(claim(late, "d", "j1")).contains("after its time to claim"));
}

#[test]
fn a_way_back_waits_until_there_is_something_to_take_back() {
    let story = Story::new();
    let back =
        story.sealed(story.other, "b").fact("inverse_of", story.grant.to_string()).fact("playbook", "p");
    let take_back = |at: i64| {
        let lease = LeaseId::generate(Timestamp::from_seconds(1));
        let event = story.event(E::LeaseIntent, agent(), at).grant(story.other).lease(lease);
        vec![claim(event, "b", "jp"), story.event(E::LeaseRefused, Actor::Broker, at).lease(lease)]
    };
    let mut after = [playbook(), with(story.whole(), 2, back.clone())].concat();
    after.splice(12..12, take_back(40));
    assert_eq!(followed(&read(&after)).findings, []);
    let mut before = [playbook(), with(story.whole(), 2, back)].concat();
    before.splice(7..7, take_back(10));
    assert!(finding(before).text.contains("never released"));
}

#[test]
fn a_missing_event_leaves_a_gap_in_its_run() {
    let story = Story::new();
    let mut events = read(&story.whole());
    let gone = events.remove(6);
    let found = followed(&events).findings;
    assert!(found.iter().any(|f| f.rule == "chain" && f.index == 6), "{found:?}");
    // Put back elsewhere, it names another one before it.
    events.insert(8, gone);
    assert!(followed(&events).findings.iter().any(|f| f.rule == "chain" && f.index == 8));
    let mut lives = Lives::from(0);
    let whole = read(&story.whole());
    lives.follow(0, &whole[0]);
    lives.follow(2, &whole[2]);
    assert_eq!(lives.finish().findings[0].rule, "order");
}

#[test]
fn events_of_before_the_chain_need_no_name_of_the_one_before() {
    let mut old = read(&Story::new().whole());
    old.iter_mut().for_each(|event| event.previous = None);
    assert_eq!(followed(&old).findings, []);
    old[5].previous = Some(4);
    assert!(!followed(&old).findings.is_empty(), "once it began, no event is without");
}

#[test]
fn nothing_is_asked_for_in_a_run_that_is_over_or_never_began() {
    let story = Story::new();
    assert!(finding(with(story.whole(), 9, story.sealed(story.other, "b"))).text.contains("is closed"));
    let found = followed(&read(&without(story.whole(), E::RunOpened))).findings;
    assert!(found.iter().all(|f| f.rule == "run" && f.text.contains("never opened")), "{found:?}");
    assert!(!found.is_empty());
    assert!(
        followed(&read(&with(story.whole(), 9, story.opened()))).findings[0].text.contains("there before")
    );
}

#[test]
fn what_issues_is_not_of_before_the_log_but_an_end_may_be_told_late() {
    let story = Story::new();
    let late = Event::new(E::LeaseEnded, Actor::Broker, Timestamp::from_seconds(1));
    let mut events = story.whole();
    events[7] = late.run(story.run).lease(story.lease);
    assert_eq!(followed(&read(&events)).findings, []);
    assert_eq!(finding(with(story.whole(), 9, opened_at_one())).rule, "time");
    let back = opened_at_one();
    let fence = Event::new(E::StoreFenced, Actor::Broker, Timestamp::from_seconds(1));
    let fenced = with(with(story.whole(), 9, fence.fact("old_epoch", 1).fact("old_size", 9)), 10, back);
    assert_eq!(followed(&read(&fenced)).findings, [], "an operator looked at the clock");
}

#[test]
fn a_fence_may_pass_over_epochs_and_never_goes_back() {
    let started = |epoch: u64| {
        Event::new(E::BrokerStarted, Actor::Broker, Timestamp::from_seconds(1_100)).fact("epoch", epoch)
    };
    let fence = Event::new(E::StoreFenced, Actor::Broker, Timestamp::from_seconds(1_090));
    let fenced = with(Story::new().whole(), 9, fence.fact("old_epoch", 1).fact("old_size", 9));
    let all = followed(&read(&with(fenced.clone(), 10, started(4))));
    assert_eq!((all.findings, all.epoch), (vec![], Some(4)));
    assert_eq!(finding(with(fenced.clone(), 10, started(1))).rule, "epoch");
    assert_eq!(finding(with(with(fenced, 10, started(4)), 11, started(5))).rule, "epoch");
}

#[test]
fn what_is_open_is_listed_and_is_no_finding() {
    let story = Story::new();
    let review = story.event(E::ReviewOpened, Actor::Broker, 30).lease(story.lease).fact("review", "r");
    let mut events = with(story.whole(), 5, review.fact("due_at", 2_000));
    events.truncate(8);
    events.push(story.event(E::PhaseEntered, agent(), 200));
    events.push(story.sealed(story.other, "b"));
    let all = followed(&read(&events));
    assert_eq!(all.findings, []);
    assert_eq!((all.open_leases.len(), all.open_reviews.len(), all.open_grants), (1, 1, 1));
    let open = &all.open_leases[0];
    assert_eq!((open.lease, open.state, open.index, open.overdue), (story.lease, "released", 4, true));
    let decided = story.event(E::ReviewAccepted, person("dana"), 300).fact("review", "r");
    events.push(decided.clone());
    assert!(followed(&read(&events)).open_reviews.is_empty());
    events.push(decided);
    assert_eq!(finding(events).rule, "review");
}

#[test]
fn an_administration_grant_takes_effect_only_when_people_signed_it() {
    let id = GrantId::generate(Timestamp::from_seconds(1));
    let event = |kind, actor, at| Event::new(kind, actor, Timestamp::from_seconds(at)).grant(id);
    let mut events = vec![
        event(E::AdministrationSealed, person("alice"), 1).fact("digest", "d"),
        event(E::ApprovalReceived, person("bob"), 2).fact("digest", "d").fact("jti", "j"),
        event(E::GrantApproved, Actor::Broker, 2).fact("digest", "d"),
        event(E::Unfrozen, Actor::Broker, 2).fact("digest", "d"),
    ];
    assert_eq!(followed(&read(&events)).findings, []);
    events.remove(2);
    assert!(finding(events).text.contains("no approved administration grant"));
}

#[test]
fn of_a_pruned_log_only_what_it_shows_is_judged() {
    let whole = read(&Story::new().whole());
    let mut lives = Lives::from(5);
    whole.iter().enumerate().skip(5).for_each(|(index, event)| lives.follow(index as u64, event));
    let all = lives.finish();
    assert_eq!((all.findings, all.events, all.epoch), (vec![], 4, None));
}

#[test]
fn a_kind_of_a_newer_version_is_named_and_not_judged() {
    let mut events = read(&Story::new().whole());
    events[8].kind = ReadKind::Unknown("moon.risen".into());
    let all = followed(&events);
    assert_eq!(all.newer_kinds, BTreeMap::from([("moon.risen".to_owned(), 1)]));
    assert_eq!(all.findings, []);
}

#[test]
fn findings_are_bounded_and_counted() {
    let mut lives = Lives::from(0);
    (0..1_500).for_each(|index| lives.unreadable(index, "rubbish"));
    let all = lives.finish();
    assert_eq!((all.findings.len(), all.more_findings), (1_000, 500));
}

#[test]
fn what_records_say_of_a_lease_is_told_before_its_end_and_after_it_and_not_of_another() {
    let all = |events: Vec<Event>| followed(&read(&events)).findings;
    for kind in [E::Reconciled, E::IncidentFound] {
        let told = |place: usize| {
            let story = Story::new();
            with(story.whole(), place, story.step(kind).fact("verdict", "matched"))
        };
        for place in [6, 7, 8, 9] {
            assert_eq!(all(told(place)), [], "{kind:?} {place}");
        }
        assert!(finding(told(5)).text.contains("no credential yet"), "{kind:?}");
        assert!(finding(told(4)).text.contains("never opened"), "{kind:?}");
        let story = Story::new();
        let other =
            story.event(kind, person("erin"), 70).lease(LeaseId::generate(Timestamp::from_seconds(9)));
        assert!(finding(with(story.whole(), 9, other)).text.contains("never opened"), "{kind:?}");
    }
    let story = Story::new();
    let none = |kind| with(story.whole(), 9, story.event(kind, person("erin"), 70));
    assert!(finding(none(E::Reconciled)).text.contains("names no lease"));
    assert_eq!(all(none(E::IncidentFound)), []);
}

#[test]
fn what_a_canary_saw_is_of_a_lease_that_is_over_and_says_when() {
    let story = Story::new();
    let with = |event: Event, after: usize| {
        let mut events = story.whole();
        events.insert(after, event);
        events
    };
    let seen = |at: i64| story.step(E::RevocationSeen).fact("denied_at", at).fact("code", "AccessDenied");
    for good in [seen(1_031), story.step(E::RevocationUnseen).fact("why", "x")] {
        assert_eq!(followed(&read(&with(good, 8))).findings, []);
    }
    assert!(finding(with(seen(1_031), 7)).text.contains("which is not over"));
    assert!(finding(with(seen(1_032), 8)).text.contains("does not say when"));
    assert!(finding(with(story.step(E::RevocationSeen), 8)).text.contains("does not say when"));
    let of_nobody = story.event(E::RevocationUnseen, Actor::Broker, 31);
    assert!(finding(with(of_nobody, 8)).text.contains("names no lease"));
}
