//! What a provider's records said of a run's credentials, in its pack.

use serde_json::{Value, json};

use super::packed::{Packed, packed, restart_of};
use crate::broker::TestBroker;

/// A pack of a run that was closed, with a verdict after it.
async fn reconciled() -> Packed {
    let b = TestBroker::start().await;
    let run = restart_of(&b).await;
    let lease = executed(&Packed::of(&b, run).await);
    let told = |verdict: &str, report: &str| {
        json!({"report": report, "records": 5, "first": 1, "last": 2, "more_incidents": 0, "incidents": [
            {"kind": "other_access_key", "lease": lease, "key": null, "at": 1, "event": format!("record-{verdict}")}],
            "leases": [{"lease": lease, "verdict": verdict, "calls": 1, "failed": 0, "denied": 0, "findings": 0,
                "mint_seen": true, "hours_missing": verdict != "matched", "reach_covered": true, "untold": false,
                "named_only": false}]})
    };
    let digest = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
    for verdict in ["matched", "extra_call"] {
        let path = "/v1/reconciliations";
        b.by_person("audrey", "POST", path, Some(&told(verdict, digest))).await.good();
    }
    Packed::of(&b, run).await
}

fn executed(it: &Packed) -> Value {
    it.events()[&it.intent()]["lease"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_with_a_reconciliation_holds_and_tells_every_verdict() {
    let it = reconciled().await;
    let text = it.holds().to_string();
    for said in [
        "person:audrey held the provider's records against the credential: matched (1 calls, 0 failed, 0 refused",
        "matched (1 calls, 0 failed, 0 refused; report",
        "held the provider's records against the credential: extra_call (1 calls, 0 failed, 0 refused, hours are missing; report",
        "person:audrey found an INCIDENT in the provider's records: other_access_key (record-matched)",
        "the verdict is the word of who is named beside it",
    ] {
        assert!(text.contains(said), "`{said}` is missing:\n{text}");
    }
    let without = packed().await.holds().to_string();
    assert!(!without.contains("the verdict is the word"), "{without}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_on_a_lease_that_had_no_credential_is_noticed() {
    let it = reconciled().await;
    for kind in ["reconciled", "incident.found"] {
        let place = it.place(kind);
        let other = json!("01KB00000000000000000000Z9");
        it.forged(|events| events.get_mut(&place).unwrap()["lease"] = other).refused_only("life");
        let none = it.forged(|events| {
            events.get_mut(&place).unwrap().as_object_mut().unwrap().remove("lease");
        });
        none.refused_only("life");
    }
    // And one that was taken out leaves a hole in the run.
    let place = it.place("reconciled");
    it.forged(|events| drop(events.remove(&place))).refused_only("chain");
}
