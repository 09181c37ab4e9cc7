//! What a broker that holds its own log key can lie into being: every hash and the checkpoint are right, and still a
//! verifier with the trust file says no, because people's signatures are not the broker's to make.

use phasebroker::domain::digest::{Digest, decode, encode};
use phasebroker::domain::id::LeaseId;
use phasebroker::domain::jws::{self, KeyHeader};
use phasebroker::domain::plan::Credential;
use phasebroker::domain::sent::token_text;
use phasebroker::domain::time::Timestamp;
use serde_json::{Value, json};

use super::packed::{Packed, packed, packed_by_two};

/// One event changed.
fn changed(it: &Packed, place: u64, change: impl FnOnce(&mut Value)) -> Packed {
    it.forged(|events| change(events.get_mut(&place).unwrap()))
}

/// The digest of what would be sent for the grant of the pack with another credential and deadline.
fn sent(grant: &Value, credential: &Value, until: i64) -> String {
    let lease: LeaseId = grant["time"]["lease"].as_str().unwrap().parse().unwrap();
    let credential: Credential = serde_json::from_value(credential.clone()).unwrap();
    let text = token_text(lease, &credential, Timestamp::from_seconds(until)).unwrap();
    Digest::of(text.as_bytes()).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_events_in_another_log_hold_as_well() {
    let it = packed().await;
    it.forged(|_| {}).holds();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_text_that_was_sent_is_noticed() {
    let it = packed().await;
    let (_, grant) = it.grant();
    let until = it.events()[&it.intent()]["facts"]["not_after"].as_i64().unwrap();
    let mut wider = grant["credential"].clone();
    changed(&it, it.intent(), |event| event["facts"]["sent"] = sent(&grant, &wider, until).into()).holds();
    wider["authorization_details"][0]["parameters"]["service"] = "payments".into();
    changed(&it, it.intent(), |event| event["facts"]["sent"] = sent(&grant, &wider, until).into())
        .refused_only("sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_time_than_was_signed_is_noticed() {
    let it = packed().await;
    let (_, grant) = it.grant();
    let opened = it.events()[&it.intent()]["at"].as_i64().unwrap();
    for (seconds, holds) in [(60, true), (62, true), (63, false), (3600, false)] {
        let longer = changed(&it, it.intent(), |event| {
            event["facts"]["not_after"] = json!(opened + seconds);
            event["facts"]["sent"] = sent(&grant, &grant["credential"], opened + seconds).into();
        });
        match holds {
            true => drop(longer.holds()),
            false => drop(longer.refused_only("deadline")),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_that_says_otherwise_than_its_grant_is_noticed() {
    let it = packed().await;
    for (member, other) in [
        ("key", json!("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")),
        ("grant_digest", json!("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")),
        ("target", json!("http://127.0.0.1:1")),
        ("provider", json!("aws")),
        ("epoch", json!(2)),
        ("phase", json!("observe")),
        ("approvals", json!([])),
        ("approvals", json!(["01JDMZKW0X00000000000000AA"])),
    ] {
        changed(&it, it.intent(), |event| event["facts"][member] = other).refused_only("authority");
    }
    changed(&it, it.intent(), |event| event["actor"] = "agent:twin".into()).refused_only("authority");
    let nowhere = changed(&it, it.intent(), |event| drop(event.as_object_mut().unwrap().remove("grant")));
    nowhere.refused_only("authority");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_too_late_or_of_a_grant_that_was_over_is_noticed() {
    let it = packed().await;
    let (_, grant) = it.grant();
    let approved = it.events()[&it.place("grant.approved")]["at"].as_i64().unwrap();
    for (later, holds) in [(119, true), (120, false), (100_000, false)] {
        let late = changed(&it, it.intent(), |event| {
            let at = approved + later;
            event["at"] = json!(at);
            event["facts"]["not_after"] = json!(at + 60);
            event["facts"]["sent"] = sent(&grant, &grant["credential"], at + 60).into();
        });
        match holds {
            true => drop(late.holds()),
            false => drop(late.refused_only("authority")),
        }
    }
    for kind in ["grant.cancelled", "grant.lapsed"] {
        changed(&it, it.place("grant.approved"), |event| event["type"] = kind.into())
            .refused_only("authority");
    }
    changed(&it, it.place("grant.approved"), |event| event["type"] = "refused".into())
        .refused_only("authority");
}

/// The intent at another time, with what was sent then.
fn claimed_at(it: &Packed, at: i64) -> Packed {
    let (_, grant) = it.grant();
    changed(it, it.intent(), |event| {
        event["at"] = json!(at);
        event["facts"]["not_after"] = json!(at + 60);
        event["facts"]["sent"] = sent(&grant, &grant["credential"], at + 60).into();
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_before_what_it_rests_on_is_noticed() {
    let it = packed().await;
    let (_, grant) = it.grant();
    let sealed = grant["time"]["sealed_at"].as_i64().unwrap();
    claimed_at(&it, sealed).holds();
    claimed_at(&it, sealed - 1).refused_only("authority");
    changed(&it, it.intent(), |event| event["at"] = json!(-((1_i64 << 53) - 1))).refused("authority");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_signing_is_of_the_time_of_its_signature_and_there_is_one() {
    let it = packed().await;
    let (intent, approved) = (it.intent(), it.place("grant.approved"));
    let event = it.events()[&approved].clone();
    let later = event["at"].as_i64().unwrap() + 1;
    changed(&it, approved, |event| event["at"] = json!(later)).refused_only("authority");
    it.inserted(intent, event.clone()).refused_only("authority");
    // The log of somebody who took the signature back in time.
    let mut back = it.events()[&it.place("approval.received")].clone();
    back["type"] = "approval.withdrawn".into();
    back["facts"]["jti"] = "01JDMZKW0X00000000000000AA".into();
    assert!(it.inserted(intent, back).refused("authority").failed().contains(&"approvals"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_in_a_run_that_was_closed_is_noticed() {
    let it = packed().await;
    let mut closed = it.events()[&it.place("phase.entered")].clone();
    closed["facts"] = json!({});
    closed["type"] = "run.noted".into();
    it.inserted(it.intent(), closed.clone()).holds();
    closed["type"] = "run.closed".into();
    it.inserted(it.intent(), closed).refused_only("authority");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_for_another_requester_or_environment_than_its_run_is_noticed() {
    let it = packed().await;
    for (fact, other) in [("requester", "bob"), ("environment", "stage")] {
        changed(&it, it.place("run.opened"), |event| event["facts"][fact] = other.into())
            .refused_only("grants");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_of_a_later_epoch_than_its_log_is_noticed() {
    let it = packed().await;
    let later = it.with_grant(|grant| grant["epoch"] = json!(2));
    let later = changed(&later, it.intent(), |event| event["facts"]["epoch"] = json!(2));
    assert!(later.refused("epochs").to_string().contains("its grant is of epoch 2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_names_no_run_and_a_credential_without_phase_or_lease_are_noticed() {
    let it = packed().await;
    let (last, looked) = (*it.events().keys().max().unwrap(), it.place_of_phase("observe"));
    changed(&it, last, |event| {
        event.as_object_mut().unwrap().retain(|name, _| !["run", "previous"].contains(&name.as_str()));
    })
    .refused_only("chain");
    for phase in [json!("root"), Value::Null] {
        changed(&it, looked, |event| event["facts"]["phase"] = phase).refused_only("authority");
    }
    changed(&it, looked, |event| drop(event.as_object_mut().unwrap().remove("lease"))).refused_only("life");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_lives_is_not_said_to_have_ended_because_an_earlier_one_was_refused() {
    let it = packed().await;
    let (intent, minted) = (it.events()[&it.intent()].clone(), it.place("lease.minted"));
    let mut refused = it.events()[&minted].clone();
    refused["type"] = "lease.refused".into();
    let again = changed(&it, it.place("lease.ended"), |event| {
        event["type"] = "refused".into();
    });
    let verdict = again.inserted(minted, intent).inserted(minted, refused).holds();
    assert!(verdict.does_not_prove.iter().any(|line| line.starts_with("How the credential of")), "{verdict}");
    let end = verdict.checks.iter().find(|check| check.name == "end").unwrap();
    assert!(!end.details[0].contains("is recorded"), "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_verifiers_refuse_the_same_spellings() {
    let it = packed().await;
    it.with_grant(|grant| grant["more"] = json!(1)).refused("grants");
    it.with_grant(|grant| grant["time"]["more"] = json!(1)).refused("grants");
    it.with_grant(|grant| grant["decision"]["rule"]["groups"]["nobody"] = json!(0)).refused("authority");
    it.with(|pack| {
        let text = &mut pack["texts"][0];
        let bytes = |value: &Value| decode(value.as_str().unwrap()).unwrap();
        let (salt, value) = (bytes(&text["salt"]), bytes(&text["value"]));
        text["salt"] = encode(&salt[..8]).into();
        text["value"] = encode(&[&salt[8..], &value].concat()).into();
    })
    .refused_only("texts");
    let sealed = changed(&it, it.place("refused"), |event| event["type"] = "moon.sealed".into());
    sealed.holds();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_signature_too_few_is_noticed() {
    let it = packed_by_two().await;
    let listed = it.events()[&it.intent()]["facts"]["approvals"].clone();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    changed(&it, it.intent(), |event| event["facts"]["approvals"] = json!([listed[0]]))
        .refused_only("authority");
    let twice = json!([listed[0], listed[0]]);
    changed(&it, it.intent(), |event| event["facts"]["approvals"] = twice).refused_only("authority");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_grant_under_the_same_signatures_is_noticed() {
    let it = packed().await;
    it.with_grant(|_| {}).holds();
    it.with_grant(|grant| grant["action"]["parameters"]["service"] = "payments".into()).refused("approvals");
    it.with_grant(|grant| grant["decision"]["rule"]["groups"] = json!({})).refused("approvals");
    it.with_grant(|grant| grant["issuer"] = "https://other.example".into()).refused("grants");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_that_its_receipt_does_not_fit_is_noticed() {
    let it = packed().await;
    let place = it.place("approval.received");
    for (member, other) in [
        ("jti", json!("01JDMZKW0X00000000000000AA")),
        ("token", json!("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")),
        ("key", json!("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")),
        ("custody", json!("passkey")),
        ("digest", json!("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")),
    ] {
        changed(&it, place, |event| event["facts"][member] = other).refused("approvals");
    }
    changed(&it, place, |event| event["actor"] = "person:erin".into()).refused("approvals");
    changed(&it, place, |event| event["type"] = "grant.denied".into()).refused("approvals");
    let at = it.events()[&place]["at"].as_i64().unwrap();
    for (shift, holds) in [(-60, true), (61, false), (-61, false)] {
        let approved = it.place("grant.approved");
        let moved = it.forged(|events| {
            for place in [place, approved] {
                events.get_mut(&place).unwrap()["at"] = json!(at + shift);
            }
        });
        match holds {
            true => drop(moved.holds()),
            false => drop(moved.refused("approvals")),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_an_owner_and_other_claims_sign_nothing() {
    let it = packed().await;
    let (id, grant) = it.grant();
    let token = it.pack["approvals"][&id][0].as_str().unwrap().to_owned();
    let body = token.split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&phasebroker::domain::digest::decode(body).unwrap()).unwrap();
    let signed = |key: &str, claims: &Value| {
        jws::sign("approval+jwt", it.keys.of(key), KeyHeader::Kid, claims).unwrap()
    };
    let facts = |event: &mut Value, key: &str, person: &str| {
        event["actor"] = format!("person:{person}").into();
        event["facts"]["key"] = it.keys.of(key).public().thumbprint().to_string().into();
    };
    let place = it.place("approval.received");
    // By somebody else's key in bob's name, by alice who owns the agent, by rita who is in no group.
    for (key, person) in [("stranger", "bob"), ("erin", "bob"), ("alice", "alice"), ("rita", "rita")] {
        let mut claims = claims.clone();
        claims["iss"] = person.into();
        let other = it.with_token(0, &signed(key, &claims));
        changed(&other, place, |event| facts(event, key, person)).refused("approvals");
    }
    let mut erin = claims.clone();
    erin["iss"] = "erin".into();
    let other = it.with_token(0, &signed("erin", &erin));
    changed(&other, place, |event| facts(event, "erin", "erin")).holds();
    for (member, other) in [
        ("aud", json!("https://other.example")),
        ("sub", json!("twin")),
        ("grant", json!("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")),
        ("exp", json!(grant["time"]["claim_by"].as_i64().unwrap() + 1)),
        ("decision", json!("deny")),
        ("reason", json!("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")),
        ("more", json!(1)),
    ] {
        let mut claims = claims.clone();
        claims[member] = other;
        it.with_token(0, &signed("bob", &claims)).refused("approvals");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_credential_and_steps_that_are_none_are_noticed() {
    let it = packed().await;
    let again = it.forged(|events| {
        let (last, intent) = (*events.keys().max().unwrap(), events[&it.intent()].clone());
        let mut again = intent;
        again["previous"] = json!(last);
        events.insert(last + 1, again);
    });
    let verdict = again.refused("one_use");
    assert!(verdict.failed().contains(&"life"), "{verdict}");
    for (kind, other) in [
        ("lease.released", "lease.ended"),
        ("lease.minted", "lease.released"),
        ("lease.ended", "lease.minted"),
    ] {
        changed(&it, it.place(kind), |event| event["type"] = other.into()).refused("life");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_an_unknown_kind_version_or_run_are_refused() {
    let it = packed().await;
    let place = it.place("refused");
    changed(&it, place, |event| event["type"] = "grant.forgiven".into()).refused_only("events");
    let later = changed(&it, place, |event| event["type"] = "moon.risen".into()).holds();
    assert!(later.to_string().contains("1 events say whose type this version does not know"), "{later}");
    changed(&it, place, |event| event["version"] = json!(2)).refused("events");
    changed(&it, place, |event| event["run"] = "01JDMZKW0X00000000000000AA".into()).refused("chain");
    changed(&it, place, |event| event["previous"] = json!(0)).refused_only("chain");
}
