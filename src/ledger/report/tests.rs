//! A week of a small log, and what a report says of it.

use super::*;
use crate::domain::event::Event;
use crate::domain::id::{GrantId, LeaseId};
use crate::domain::principal::Actor;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn broker(kind: E, seconds: i64) -> Event {
    Event::new(kind, Actor::Broker, at(seconds))
}

fn by(kind: E, person: &str, seconds: i64) -> Event {
    Event::new(kind, Actor::Person(person.parse().unwrap()), at(seconds))
}

fn grant() -> GrantId {
    GrantId::generate(at(1))
}

fn read(event: Event) -> ReadEvent {
    ReadEvent::parse(&event.bytes(None).unwrap()).unwrap()
}

fn report(before: Vec<Event>, events: Vec<Event>, now: i64) -> Report {
    let mut reporter = Reporter::default();
    before.into_iter().for_each(|event| reporter.before(&read(event)));
    events.into_iter().for_each(|event| reporter.count(&read(event)));
    reporter.finish(at(now))
}

fn sealed(id: GrantId, seconds: i64) -> Event {
    let event = broker(E::GrantSealed, seconds).grant(id).fact("action", "scale-group");
    event.fact("environment", "demo").fact("tier", "needs_approval")
}

fn approved(id: GrantId, seconds: i64, until: i64) -> Event {
    broker(E::GrantApproved, seconds).grant(id).fact("claim_until", until)
}

fn intent(id: GrantId, lease: LeaseId, seconds: i64, not_after: i64, authority: &str) -> Event {
    let event = broker(E::LeaseIntent, seconds).grant(id).lease(lease).fact("phase", "execute");
    event.fact("authority", authority).fact("not_after", not_after)
}

fn ended(lease: LeaseId, seconds: i64, reason: &str) -> Event {
    broker(E::LeaseEnded, seconds).lease(lease).fact("reason", reason)
}

#[test]
fn the_spread_is_by_nearest_rank() {
    assert_eq!(Spread::of(vec![]), Spread::default());
    let spread = Spread::of((1..=100).rev().collect());
    assert_eq!((spread.least, spread.p50, spread.p95, spread.most), (Some(1), Some(50), Some(95), Some(100)));
    assert_eq!(Spread::of(vec![7]).p50, Some(7));
}

#[test]
fn an_approver_who_signs_everything_at_once_is_seen() {
    let ids: Vec<GrantId> = (0..4).map(|_| grant()).collect();
    let signed =
        |id, who, seconds| by(E::ApprovalReceived, who, 100).grant(id).fact("seconds_to_sign", seconds);
    let all = report(
        vec![],
        vec![
            sealed(ids[0], 1),
            sealed(ids[1], 1),
            signed(ids[0], "bob", 3),
            signed(ids[1], "bob", 4),
            signed(ids[2], "bob", 90),
            signed(ids[0], "carol", 400),
            by(E::GrantDenied, "carol", 100).grant(ids[3]).fact("seconds_to_sign", 20),
        ],
        200,
    );
    let [bob, carol] = &all.approvers[..] else { panic!("{:?}", all.approvers) };
    assert_eq!(
        (bob.person.as_str(), bob.approved, bob.hasty, bob.approved_percent),
        ("bob", 3, 2, Some(100))
    );
    assert_eq!((bob.seconds_to_sign.least, bob.seconds_to_sign.p50), (Some(3), Some(4)));
    assert_eq!((bob.actions["scale-group"], bob.actions["?"], bob.environments["demo"]), (2, 1, 2));
    assert_eq!((carol.approved, carol.denied, carol.hasty, carol.approved_percent), (1, 1, 0, Some(50)));
    assert_eq!(bob.grants.len(), 3);
}

#[test]
fn what_stands_counts_what_began_before_the_range() {
    let playbook = |digest: &str, until: i64| {
        let event = broker(E::PlaybookSigned, 5).grant(grant()).fact("digest", digest).fact("name", digest);
        event.fact("action", "scale-group").fact("environment", "demo").fact("not_after", until)
    };
    let frozen = |key: &str| by(E::Frozen, "bob", 6).fact("key", key);
    let before =
        vec![playbook("kept", 900), playbook("over", 150), playbook("gone", 900), frozen("a"), frozen("b")];
    let all = report(
        before,
        vec![
            broker(E::PlaybookSuspended, 110).fact("digest", "gone"),
            broker(E::Unfrozen, 120).fact("key", "b"),
            sealed(grant(), 130).fact("exceptions", vec!["iam:PassRole"]),
            sealed(grant(), 130),
            broker(E::BreakGlassUsed, 140),
        ],
        200,
    );
    let names = |items: &[StandingItem]| items.iter().map(|item| item.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&all.standing.playbooks), ["kept"]);
    assert_eq!(names(&all.standing.freezes), ["a"]);
    assert_eq!(all.standing.exceptions.len(), 1);
    assert_eq!(all.standing.exceptions[0].exceptions, ["iam:PassRole"]);
    let what: Vec<&str> = all.standing.overrides.iter().map(|one| one.what).collect();
    assert_eq!(what, ["unfrozen", "break_glass.used"]);
    assert_eq!((all.events, all.first, all.last), (5, Some(at(110)), Some(at(140))));
}

#[test]
fn never_used_and_late_used_leases_are_named() {
    let ids: Vec<GrantId> = (0..6).map(|_| grant()).collect();
    let leases: Vec<LeaseId> = (0..4).map(|_| LeaseId::generate(at(1))).collect();
    let released = |at: usize| broker(E::LeaseReleased, 200).lease(leases[at]);
    let all = report(
        vec![],
        vec![
            sealed(ids[0], 10),
            approved(ids[0], 100, 200),
            intent(ids[0], leases[0], 150, 300, "signed_grant"),
            released(0),
            ended(leases[0], 250, "completed").fact("outcome", "succeeded"),
            sealed(ids[1], 10),
            approved(ids[1], 100, 200),
            intent(ids[1], leases[1], 195, 300, "signed_grant"),
            released(1),
            ended(leases[1], 300, "cut_off"),
            sealed(ids[2], 10).fact("playbook", "p"),
            intent(ids[2], leases[2], 20, 300, "playbook"),
            ended(leases[2], 30, "withheld"),
            sealed(ids[3], 10).fact("playbook", "p"),
            intent(ids[3], leases[3], 20, 300, "playbook"),
            released(3),
            ended(leases[3], 360, "completed").fact("outcome", "failed"),
            sealed(ids[4], 10),
            approved(ids[4], 100, 200),
            broker(E::GrantLapsed, 200).grant(ids[4]).fact("from", "approved"),
            sealed(ids[5], 10),
            approved(ids[5], 100, 200),
        ],
        500,
    );
    assert_eq!(all.leases.approved_never_claimed, [ids[4], ids[5]]);
    assert_eq!(all.leases.never_released, [leases[2]]);
    assert_eq!(all.leases.never_completed, [leases[1]]);
    let late = |lease, how, seconds| Late { lease, how, seconds };
    let lates = [late(leases[1], "claimed_late", 5), late(leases[3], "completed_late", 60)];
    assert_eq!(all.leases.late, lates);
    assert_eq!(
        (all.leases.opened, all.leases.outcomes["succeeded"], all.leases.outcomes["failed"]),
        (4, 1, 1)
    );
    assert_eq!((all.autonomy.claims["playbook"], all.autonomy.autonomous_percent), (2, Some(50)));
    assert_eq!((all.times.proposal_to_approval.p50, all.times.approval_to_claim.most), (Some(90), Some(95)));
    assert_eq!(all.times.claim_to_death.count, 4);
}

#[test]
fn a_claimed_grant_is_not_called_unclaimed_while_its_lease_lives() {
    let (id, lease) = (grant(), LeaseId::generate(at(1)));
    let mut events = vec![sealed(id, 10), approved(id, 20, 200), intent(id, lease, 30, 900, "signed_grant")];
    assert_eq!(report(vec![], events.clone(), 500).leases.approved_never_claimed, []);
    events.push(broker(E::LeaseRefused, 31).lease(lease));
    assert_eq!(report(vec![], events, 500).leases.approved_never_claimed, [id]);
}

#[test]
fn reviews_are_counted_once_each() {
    let review = |kind, seconds, id: &str| broker(kind, seconds).fact("review", id);
    let all = report(
        vec![],
        vec![
            review(E::ReviewOpened, 1, "a"),
            review(E::ReviewOpened, 1, "b"),
            review(E::ReviewOverdue, 50, "b"),
            review(E::ReviewOverdue, 60, "b"),
            review(E::ReviewAccepted, 61, "a").fact("seconds_open", 60),
        ],
        99,
    );
    let reviews = &all.reviews;
    assert_eq!((reviews.opened, reviews.accepted, reviews.rejected), (2, 1, 0));
    assert_eq!((reviews.overdue, reviews.waiting, reviews.seconds_to_review.p50), (1, 1, Some(60)));
}

#[test]
fn the_last_verdict_on_a_lease_counts_and_a_bad_one_is_not_forgotten() {
    let (good, bad) = (LeaseId::generate(at(1)), LeaseId::generate(at(1)));
    let told = |lease, verdict: &str| by(E::Reconciled, "erin", 5).lease(lease).fact("verdict", verdict);
    let incident = by(E::IncidentFound, "erin", 6).fact("kind", "unrecorded_session");
    let events = vec![
        told(good, "settling"),
        told(bad, "late_use"),
        told(good, "matched"),
        told(bad, "matched"),
        incident,
    ];
    let all = report(vec![], events, 9).reconciled;
    assert_eq!((all.verdicts, all.bad), ([("matched".to_owned(), 2)].into(), vec![bad]));
    assert_eq!(all.incidents, [("unrecorded_session".to_owned(), 1)].into());
    let newer = report(vec![], vec![told(good, "worse_than_all")], 9).reconciled;
    assert_eq!(newer.bad, [good], "a verdict of a newer version is not taken for a good one");
}
