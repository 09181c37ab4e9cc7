//! What a canary saw of an early end, in the pack of its run.

use std::sync::Arc;

use serde_json::json;

use super::autonomous::Cloud;
use super::packed::Packed;
use crate::broker::{Setup, TestBroker};

/// A pack of a reboot whose session nobody could ask with: this cloud makes no calls.
async fn canaried() -> Packed {
    let b = TestBroker::with(Setup { providers: vec![Arc::new(Cloud)], ..Setup::default() }).await;
    b.reload(|written| {
        let summary = "summary = \"Reboot the EC2 instance {instance}\"\n";
        written.catalog = written.catalog.replace(summary, &format!("{summary}canary = true\n"));
    })
    .await;
    let approved = b.run_to_approved_on_aws().await;
    let claimed = b.claim(&approved).await.unwrap();
    let mark = b.mark().await;
    let done = serde_json::from_value(json!({"outcome": "succeeded"})).unwrap();
    b.agent("fixer").complete(&claimed, &approved.claim_key, &done).await.unwrap();
    for _ in 0..500 {
        if b.kinds_since(mark).await.iter().any(|kind| kind == "revocation.unseen") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    Packed::of(&b, approved.deciding.run).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_canary_saw_or_could_not_tell_is_told_and_holds() {
    let it = canaried().await;
    let (place, text) = (it.place("revocation.unseen"), it.holds().to_string());
    assert!(text.contains("whether the provider refuses the session could not be told"), "{text}");
    let at = it.events()[&place]["at"].clone();
    let seen = it.forged(|events| {
        let event = events.get_mut(&place).unwrap();
        event["type"] = "revocation.seen".into();
        event["facts"] = json!({"denied_at": at, "ended_at": at, "code": "UnauthorizedOperation"});
    });
    let text = seen.holds().to_string();
    assert!(text.contains("the provider REFUSED the session (UnauthorizedOperation), first at"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_a_lease_that_was_not_over_or_without_its_time_is_noticed() {
    let it = canaried().await;
    let place = it.place("revocation.unseen");
    let at = it.events()[&place]["at"].as_i64().unwrap();
    let as_seen = |facts: serde_json::Value| {
        it.forged(|events| {
            let event = events.get_mut(&place).unwrap();
            event["type"] = "revocation.seen".into();
            event["facts"] = facts;
        })
    };
    as_seen(json!({"code": "AccessDenied"})).refused_only("life");
    as_seen(json!({"code": "AccessDenied", "denied_at": at + 1})).refused_only("life");
    it.forged(|events| events.get_mut(&place).unwrap()["lease"] = json!("01KB00000000000000000000Z9"))
        .refused_only("life");
    let early = it.events()[&place].clone();
    let released = it.place("lease.ended");
    it.inserted(released, early).refused_only("life");
}
