//! `POST /v1/reconciliations`: what a person found is written beside its lease once, a later word stands beside the
//! earlier one, and what the guardrails name freezes the agent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;
mod peers;

use std::sync::{Arc, Mutex};

use broker::{Setup, TestBroker};
use phasebroker::broker::ports::{Notice, Notifier};
use serde_json::{Value, json};

const REPORT: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
const OTHER_REPORT: &str = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";
const PATH: &str = "/v1/reconciliations";

fn told(report: &str, leases: &[Value], incidents: &[Value]) -> Value {
    json!({"report": report, "records": 9, "first": null, "last": null, "leases": leases,
        "incidents": incidents, "more_incidents": 0})
}

fn found(lease: &str, verdict: &str, calls: u64) -> Value {
    json!({"lease": lease, "verdict": verdict, "calls": calls, "failed": 0, "denied": 0, "findings": 0,
        "mint_seen": true, "hours_missing": false, "reach_covered": true, "untold": false, "named_only": false})
}

fn incident(lease: Option<&str>, event: &str) -> Value {
    json!({"kind": "unrecorded_session", "lease": lease, "key": null, "at": 1_795_000_000, "event": event})
}

/// A lease of `fixer` that was completed.
async fn completed(b: &TestBroker) -> String {
    let approved = b.run_to_approved().await;
    let claimed = b.claim(&approved).await.unwrap();
    let done = serde_json::from_value(json!({"outcome": "succeeded"})).unwrap();
    b.agent("fixer").complete(&claimed, &approved.claim_key, &done).await.unwrap();
    approved.sealed.grant().time.lease.to_string()
}

async fn tell(b: &TestBroker, body: &Value) -> Value {
    b.by_person("audrey", "POST", PATH, Some(body)).await.good()
}

fn counts(answer: &Value) -> (u64, u64) {
    (answer["recorded"].as_u64().unwrap(), answer["unchanged"].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_is_written_once_and_a_later_one_beside_it() {
    let b = TestBroker::start().await;
    let lease = completed(&b).await;
    let mark = b.mark().await;
    let good = told(REPORT, &[found(&lease, "matched", 1)], &[]);
    assert_eq!(counts(&tell(&b, &good).await), (1, 0));
    assert_eq!(counts(&tell(&b, &good).await), (0, 1));
    assert_eq!(counts(&tell(&b, &told(OTHER_REPORT, &[found(&lease, "matched", 1)], &[])).await), (0, 1));
    let worse = told(OTHER_REPORT, &[found(&lease, "extra_call", 2)], &[]);
    assert_eq!(counts(&tell(&b, &worse).await), (1, 0));
    // The first report again, late, takes nothing back and writes nothing.
    assert_eq!(counts(&tell(&b, &good).await), (0, 1));
    let events = b.events_since(mark).await;
    let verdicts: Vec<(&str, &Value)> = events
        .iter()
        .map(|event| (event["facts"]["verdict"].as_str().unwrap(), &event["facts"]["before"]))
        .collect();
    assert_eq!(verdicts, [("matched", &Value::Null), ("extra_call", &json!("matched"))]);
    for event in &events {
        assert_eq!((&event["actor"], &event["lease"]), (&json!("person:audrey"), &json!(lease)));
        assert!(event["run"].is_string() && event["grant"].is_string(), "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_written_once_also_by_the_next_life_of_the_broker() {
    let b = TestBroker::start().await;
    let lease = completed(&b).await;
    let body =
        told(REPORT, &[], &[incident(None, "e-1"), incident(Some(&lease), "e-2"), incident(None, "e-1")]);
    assert_eq!(counts(&tell(&b, &body).await), (2, 1));
    let b = b.restart().await;
    assert_eq!(counts(&tell(&b, &body).await), (0, 3));
    assert_eq!(counts(&tell(&b, &told(REPORT, &[], &[incident(None, "e-3")])).await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_signs_nothing_tells_and_only_what_is_well_formed() {
    let b = TestBroker::start().await;
    let lease = completed(&b).await;
    let mark = b.mark().await;
    let body = told(REPORT, &[found(&lease, "matched", 1)], &[]);
    b.by_person("bob", "POST", PATH, Some(&body)).await.refused(403, "forbidden", "");
    assert_eq!(b.call("POST", PATH, &[], Some(&body)).await.status, 401);
    let mut bad_key = incident(None, "e");
    bad_key["key"] = json!("\u{1b}[2J");
    for (bad, why) in [
        (told(REPORT, &[], &[]), "nothing to write"),
        (told(REPORT, &[found(&lease, "settling", 0)], &[]), "no verdict"),
        (told(REPORT, &[found(&lease, "fine", 0)], &[]), "fine"),
        (told(REPORT, &[found(&lease, "matched", 0), found(&lease, "no_use", 0)], &[]), "twice"),
        (told(REPORT, &[], &[incident(None, "\u{1b}[2J")]), "event"),
        (told(REPORT, &[], &vec![incident(None, "e"); 201]), "at most 200"),
        (told(REPORT, &[], &[bad_key]), "`key`"),
        (told("x", &[found(&lease, "matched", 0)], &[]), ""),
    ] {
        b.by_person("audrey", "POST", PATH, Some(&bad)).await.refused(400, "bad_request", why);
    }
    let kinds = b.kinds_since(mark).await;
    assert!(!kinds.iter().any(|kind| ["reconciled", "incident.found"].contains(&kind.as_str())), "{kinds:?}");
    b.by_person("olga", "POST", PATH, Some(&body)).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guardrails_say_what_freezes_the_agent_and_nothing_else_does() {
    let b = TestBroker::start().await;
    let lease = completed(&b).await;
    let extra = |calls| told(REPORT, &[found(&lease, "extra_call", calls)], &[incident(Some(&lease), "e-1")]);
    assert_eq!(tell(&b, &extra(1)).await["frozen"], json!([]), "nothing freezes by itself");
    b.reload(|written| written.guardrails += "\n[reconcile]\nfreeze_on = [\"late_use\"]\n").await;
    assert_eq!(tell(&b, &extra(2)).await["frozen"], json!([]));
    b.reload(|written| written.guardrails = written.guardrails.replace("\"late_use\"", "\"extra_call\""))
        .await;
    // What is told again is not new, so that a freeze that people lifted stays lifted.
    assert_eq!(tell(&b, &extra(2)).await["frozen"], json!([]));
    let mark = b.mark().await;
    assert_eq!(tell(&b, &extra(3)).await["frozen"], json!(["agent:fixer"]));
    let events = b.events_since(mark).await;
    let frozen = events.iter().find(|event| event["type"] == "frozen").unwrap();
    assert_eq!((&frozen["actor"], &frozen["facts"]["why"]), (&json!("broker"), &json!("extra_call")));
    assert_eq!(tell(&b, &extra(4)).await["frozen"], json!([]), "it is frozen already");
    let freezes = b.by_person("audrey", "GET", "/v1/freezes", None).await.good();
    assert_eq!(freezes["freezes"][0]["key"], "agent:fixer");
    // A session that no lease explains is nobody's of ours: people are told, and no agent is frozen for it.
    b.reload(|written| written.guardrails = written.guardrails.replace("\"extra_call\"", "\"incident\""))
        .await;
    assert_eq!(tell(&b, &told(REPORT, &[], &[incident(None, "e-9")])).await["frozen"], json!([]));
}

/// An incident about the lease's own key, as the ledger holds it.
async fn own_incident(b: &TestBroker, lease: &str, event: &str) -> Value {
    let minted = b.events_since(0).await;
    let minted = minted.iter().find(|one| one["type"] == "lease.minted" && one["lease"] == lease).unwrap();
    let mut own = incident(Some(lease), event);
    own["key"] = minted["facts"]["reference"].clone();
    assert!(own["key"].is_string(), "{minted}");
    own
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_freezes_by_a_key_of_the_ledger_and_not_by_a_name_that_anybody_spells() {
    let b = TestBroker::start().await;
    let lease = completed(&b).await;
    b.reload(|written| written.guardrails += "\n[reconcile]\nfreeze_on = [\"incident\", \"needs_review\"]\n")
        .await;
    let own = own_incident(&b, &lease, "e-1").await;
    let mut forged = incident(Some(&lease), "e-2");
    forged["key"] = json!("ASIAFORGED0000000001");
    let mut nobodys = own.clone();
    (nobodys["lease"], nobodys["event"]) = (Value::Null, json!("e-3"));
    for harmless in [incident(Some(&lease), "e-4"), forged, nobodys] {
        assert_eq!(tell(&b, &told(REPORT, &[], &[harmless])).await["frozen"], json!([]));
    }
    // Nor does a verdict for which others alone are the reason.
    let mut named = found(&lease, "needs_review", 1);
    named["named_only"] = json!(true);
    assert_eq!(tell(&b, &told(REPORT, &[named], &[])).await["frozen"], json!([]));
    assert_eq!(tell(&b, &told(REPORT, &[], &[own])).await["frozen"], json!(["agent:fixer"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_frozen_before_anything_is_written_and_the_freeze_says_why() {
    let b = TestBroker::start().await;
    let lease = completed(&b).await;
    b.reload(|written| written.guardrails += "\n[reconcile]\nfreeze_on = [\"extra_call\"]\n").await;
    let mark = b.mark().await;
    tell(&b, &told(REPORT, &[found(&lease, "extra_call", 1)], &[])).await;
    let events = b.events_since(mark).await;
    let at = |kind: &str| events.iter().position(|event| event["type"] == kind).unwrap();
    assert!(at("frozen") < at("reconciled"));
    let facts = &events[at("frozen")]["facts"];
    for (name, value) in
        [("why", "extra_call"), ("told_by", "audrey"), ("lease", lease.as_str()), ("report", REPORT)]
    {
        assert_eq!(facts[name], value, "{facts}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_of_no_lease_is_answered_for_itself_and_may_be_told_again() {
    let b = TestBroker::start().await;
    let lease = completed(&b).await;
    b.reload(|written| written.guardrails += "\n[reconcile]\nfreeze_on = [\"extra_call\"]\n").await;
    // Its grant is signed and not claimed yet.
    let approved = b.run_to_approved().await;
    let later = approved.sealed.grant().time.lease.to_string();
    let both = told(
        REPORT,
        &[found(&later, "matched", 1), found(&lease, "extra_call", 1)],
        &[incident(Some(&later), "e-1"), incident(None, "e-2")],
    );
    let answer = tell(&b, &both).await;
    assert_eq!((counts(&answer), &answer["frozen"]), ((2, 0), &json!(["agent:fixer"])));
    let not_written = answer["not_written"].as_array().unwrap();
    assert_eq!(not_written.len(), 2, "{answer}");
    assert_eq!((&not_written[0]["lease"], &not_written[0]["event"]), (&json!(later), &Value::Null));
    assert_eq!(not_written[1]["event"], "e-1");
    assert_eq!(counts(&tell(&b, &both).await), (0, 2), "and what was written stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_was_not_there_is_written_when_it_is_told_again() {
    let b = TestBroker::start().await;
    let approved = b.run_to_approved().await;
    let lease = approved.sealed.grant().time.lease.to_string();
    let body = told(REPORT, &[found(&lease, "matched", 1)], &[]);
    let answer = tell(&b, &body).await;
    assert_eq!((counts(&answer), answer["not_written"][0]["lease"].as_str()), ((0, 0), Some(lease.as_str())));
    let claimed = b.claim(&approved).await.unwrap();
    let done = serde_json::from_value(json!({"outcome": "succeeded"})).unwrap();
    b.agent("fixer").complete(&claimed, &approved.claim_key, &done).await.unwrap();
    let answer = tell(&b, &body).await;
    assert_eq!((counts(&answer), &answer["not_written"]), ((1, 0), &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_evidence_has_no_room_freezes_its_agent_all_the_same() {
    let b = TestBroker::start().await;
    let lease = completed(&b).await;
    b.reload(|written| written.guardrails += "\n[reconcile]\nfreeze_on = [\"late_use\"]\n").await;
    let own = own_incident(&b, &lease, "e").await;
    for some in 0..5 {
        let of = |n| {
            let mut one = own.clone();
            one["event"] = json!(format!("e-{some}-{n}"));
            one
        };
        let many: Vec<Value> = (0..200).map(of).collect();
        assert_eq!(counts(&tell(&b, &told(REPORT, &[], &many)).await), (200, 0));
    }
    let answer = tell(&b, &told(REPORT, &[found(&lease, "late_use", 1)], &[incident(None, "e-9")])).await;
    assert_eq!((counts(&answer), &answer["frozen"]), ((1, 0), &json!(["agent:fixer"])));
    assert!(answer["not_written"][0]["why"].as_str().unwrap().contains("no more fit"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_spells_the_name_of_a_lease_leaves_room_for_what_its_own_key_did() {
    let b = TestBroker::start().await;
    let lease = completed(&b).await;
    for (some, written) in [200, 200, 100].into_iter().enumerate() {
        let many: Vec<Value> = (0..200).map(|n| incident(Some(&lease), &format!("e-{some}-{n}"))).collect();
        let answer = tell(&b, &told(REPORT, &[], &many)).await;
        assert_eq!(counts(&answer), (written, 0));
        let left_out = answer["not_written"].as_array().unwrap();
        assert_eq!(left_out.len() as u64, 200 - written);
        assert!(left_out.iter().all(|one| one["why"].as_str().unwrap().contains("for its own keys")));
    }
    let own = own_incident(&b, &lease, "e-own").await;
    let answer = tell(&b, &told(REPORT, &[found(&lease, "late_use", 1)], &[own])).await;
    assert_eq!((counts(&answer), &answer["not_written"]), ((2, 0), &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_incidents_that_are_only_counted_the_number_is_written_once() {
    let b = TestBroker::start().await;
    let body = |more: u64| {
        let mut body = told(REPORT, &[], &[]);
        body["more_incidents"] = json!(more);
        body
    };
    let mark = b.mark().await;
    assert_eq!(counts(&tell(&b, &body(41)).await), (1, 0));
    assert_eq!(counts(&tell(&b, &body(41)).await), (0, 1));
    assert_eq!(counts(&tell(&b, &body(42)).await), (1, 0));
    let facts = b.events_since(mark).await[0]["facts"].clone();
    assert_eq!((&facts["kind"], &facts["count"]), (&json!("more_incidents"), &json!(41)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_write_still_freezes_and_is_told_again() {
    let b = TestBroker::start().await;
    let lease = completed(&b).await;
    b.reload(|written| written.guardrails += "\n[reconcile]\nfreeze_on = [\"extra_call\"]\n").await;
    b.disk.fill();
    let body = told(REPORT, &[found(&lease, "extra_call", 1)], &[incident(Some(&lease), "e-1")]);
    b.by_person("audrey", "POST", PATH, Some(&body)).await.refused(503, "store_unavailable", "");
    let freezes = b.broker.freezes().await;
    assert_eq!(freezes[0].key.to_string(), "agent:fixer");
    b.disk.mend();
    assert_eq!(counts(&tell(&b, &body).await), (2, 0));
}

#[derive(Default)]
struct Heard(Mutex<Vec<Notice>>);

impl Notifier for Heard {
    fn notify(&self, notice: Notice) {
        self.0.lock().unwrap().push(notice);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_of_what_is_bad_and_not_of_what_is_good() {
    let heard = Arc::new(Heard::default());
    let b = TestBroker::with(Setup { notifier: heard.clone(), ..Setup::default() }).await;
    let lease = completed(&b).await;
    heard.0.lock().unwrap().clear();
    tell(&b, &told(REPORT, &[found(&lease, "matched", 1)], &[])).await;
    assert_eq!(*heard.0.lock().unwrap(), []);
    let bad = told(REPORT, &[found(&lease, "late_use", 2)], &[incident(None, "e-1")]);
    tell(&b, &bad).await;
    tell(&b, &bad).await;
    let told: Vec<(&str, String)> = heard.0.lock().unwrap().iter().map(|n| (n.kind, n.id.clone())).collect();
    assert_eq!(told, [("reconciliation", lease), ("incident", "e-1".into())]);
}
