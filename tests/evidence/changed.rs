//! A good pack that somebody changed on its way, and trust files of others.

use phasebroker::domain::digest::{decode, encode};
use phasebroker::domain::key::{Custody, SigningKey};
use phasebroker::domain::principal::PersonSlug;
use phasebroker::ledger::trust::NamedKey;
use serde_json::{Value, json};

use super::packed::{LOG, packed, packed_by_two, restart_of};
use crate::broker::{TestBroker, fresh};

fn flipped(text: &Value, at: usize, bit: u8) -> Value {
    let mut bytes = decode(text.as_str().unwrap()).unwrap();
    bytes[at] ^= bit;
    encode(&bytes).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untouched_pack_holds_with_and_without_its_line_feed() {
    let it = packed().await;
    let verdict = it.holds();
    assert_eq!(verdict.run.as_deref(), it.pack["run"].as_str());
    let with_line_feed = [&it.bytes()[..], b"\n"].concat();
    assert_eq!(it.independently(&with_line_feed)["ok"], true);
    assert!(phasebroker::ledger::evidence::verify::verify(&with_line_feed, &it.trust).ok);
    packed_by_two().await.holds();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_form_is_refused() {
    let it = packed().await;
    it.with(|pack| pack["more"] = json!(1)).refused("form");
    it.with(|pack| drop(pack.as_object_mut().unwrap().remove("texts"))).refused("form");
    it.with(|pack| pack["entries"][0]["more"] = json!(1)).refused("form");
    it.with(|pack| pack["version"] = json!(2)).refused("form");
    it.with(|pack| pack["run"] = json!("01JDMZKW0X00000000000000AA")).refused("chain");
    let bytes = String::from_utf8(it.bytes()).unwrap();
    it.refused_bytes("form", bytes.replacen(':', ": ", 1).as_bytes());
    it.refused_bytes(
        "form",
        bytes.replacen("{\"administrations", "{\"version\":1,\"administrations", 1).as_bytes(),
    );
    it.refused_bytes("form", b"");
    it.refused_bytes("form", &[&it.bytes()[..], b"\n\n"].concat());
    let padded = |text: &Value| format!("{}=", text.as_str().unwrap());
    let padded = it.with(|pack| pack["checkpoint"] = padded(&pack["checkpoint"]).into());
    assert!(!padded.verdict().ok && padded.independently(&padded.bytes())["ok"] == false);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused() {
    let it = packed().await;
    it.with(|pack| pack["issuer"] = "x".repeat(16 * 1024 * 1024).into()).refused("form");
    let text = it.pack["texts"][0].clone();
    it.with(|pack| pack["texts"] = vec![text.clone(); 10_001].into()).refused_only("form");
    let (id, _) = it.grant();
    it.with(|pack| pack["approvals"][&id] = vec![json!(""); 10_001].into()).refused_only("form");
    // Many failures are counted, not told.
    let verdict = it.with(|pack| pack["texts"] = vec![text; 100].into()).refused_only("texts");
    let told = verdict.checks.iter().find(|check| check.name == "texts").unwrap();
    assert_eq!(told.details.len(), 21, "{:?}", told.details);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_twice_or_in_another_order_is_refused() {
    let it = packed().await;
    it.with(|pack| {
        let entries = pack["entries"].as_array_mut().unwrap();
        entries.insert(2, entries[2].clone());
    })
    .refused("form");
    it.with(|pack| pack["entries"].as_array_mut().unwrap().swap(1, 2)).refused("form");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_event_is_named() {
    let it = packed().await;
    let nth = it.position("lease.ended");
    let verdict = it
        .with(|pack| {
            let event = &mut pack["entries"][nth]["event"];
            let text = String::from_utf8(decode(event.as_str().unwrap()).unwrap()).unwrap();
            assert!(text.contains("completed"));
            *event = encode(text.replace("completed", "cancelled").as_bytes()).into();
        })
        .refused_only("inclusion");
    let place = it.place("lease.ended");
    let told = verdict.checks.iter().find(|check| check.name == "inclusion").unwrap();
    assert!(told.details[0].contains(&format!("entry {place} ")), "{:?}", told.details);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_anywhere_in_an_event_is_refused() {
    let it = packed().await;
    for at in [0, 20, 57] {
        let changed = it.with(|pack| {
            let event = &mut pack["entries"][3]["event"];
            *event = flipped(event, at, 1);
        });
        changed.refused_bytes(
            if changed.verdict().failed().contains(&"form") { "form" } else { "inclusion" },
            &changed.bytes(),
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_leaves_a_foreign_path_and_an_index_off_by_one_are_refused() {
    let it = packed().await;
    it.with(|pack| {
        let (first, second) = (pack["entries"][3]["event"].clone(), pack["entries"][4]["event"].clone());
        pack["entries"][3]["event"] = second;
        pack["entries"][4]["event"] = first;
    })
    .refused("inclusion");
    it.with(|pack| pack["entries"][3]["path"] = pack["entries"][4]["path"].clone()).refused_only("inclusion");
    it.with(|pack| drop(pack["entries"][3]["path"].as_array_mut().unwrap().pop())).refused_only("inclusion");
    it.with(|pack| {
        let last = pack["entries"].as_array_mut().unwrap().last_mut().unwrap();
        last["index"] = json!(last["index"].as_u64().unwrap() + 1);
    })
    .refused("inclusion");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_left_out_in_the_middle_or_at_the_beginning_is_noticed() {
    let it = packed().await;
    for kind in ["phase.entered", "refused", "grant.approved", "run.opened"] {
        let nth = it.position(kind);
        let verdict = it
            .with(|pack| {
                let entry = pack["entries"].as_array_mut().unwrap().remove(nth);
                let index = entry["index"].clone();
                pack["texts"].as_array_mut().unwrap().retain(|text| text["index"] != index);
            })
            .refused("chain");
        let told = verdict.checks.iter().find(|check| check.name == "chain").unwrap();
        assert!(told.details[0].contains("entry"), "{:?}", told.details);
    }
    it.with(|pack| pack["entries"] = json!([])).refused("chain");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_left_out_at_the_end_are_not_noticed_and_the_verdict_says_so() {
    let it = packed().await;
    let shorter = it.with(|pack| drop(pack["entries"].as_array_mut().unwrap().pop()));
    let shorter = shorter.with(|pack| {
        let last = pack["entries"].as_array().unwrap().last().unwrap()["index"].as_u64().unwrap();
        pack["texts"].as_array_mut().unwrap().retain(|text| text["index"].as_u64().unwrap() <= last);
    });
    let verdict = shorter.holds();
    assert!(
        verdict.does_not_prove.iter().any(|line| line.starts_with("That nothing happened in the run after"))
    );
    assert!(verdict.does_not_prove.iter().any(|line| line.starts_with("How the credential of")), "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_checkpoint_does_not_cover_what_came_later() {
    let b = TestBroker::start().await;
    let approved = b.run_to_approved().await;
    b.broker.publish().await;
    let path = format!("/v1/runs/{}/evidence", approved.deciding.run);
    let older = b.by_person("audrey", "GET", &path, None).await.good()["checkpoint"].clone();
    b.claim(&approved).await.map(drop).unwrap();
    let it = super::packed::Packed::of(&b, approved.deciding.run).await;
    let verdict = it.with(|pack| pack["checkpoint"] = older).refused_only("inclusion");
    assert!(verdict.to_string().contains("the checkpoint is older"), "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_another_key_name_or_content_is_refused() {
    let it = packed().await;
    let other = fresh();
    it.trusted(|trust| trust.log = NamedKey::new(LOG, other.public())).refused("checkpoint");
    it.trusted(|trust| trust.log.name = "other.example".into()).refused("checkpoint");
    let edited = |from: &str, to: &str| {
        it.with(|pack| {
            let note = String::from_utf8(decode(pack["checkpoint"].as_str().unwrap()).unwrap()).unwrap();
            assert!(note.contains(from), "{note}");
            pack["checkpoint"] = encode(note.replacen(from, to, 1).as_bytes()).into();
        })
    };
    let size = it.place("lease.ended");
    edited("broker.test/1\n", "broker.test/2\n").refused("checkpoint");
    edited("broker.test/1\n", &format!("broker.test/1\n{size}")).refused("checkpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_was_changed_is_refused_and_one_that_was_erased_is_not_missed() {
    let it = packed().await;
    let texts = it.pack["texts"].as_array().unwrap().len();
    assert!(texts >= 1, "the run has a purpose");
    it.with(|pack| pack["texts"][0]["value"] = encode(b"another purpose").into()).refused_only("texts");
    it.with(|pack| pack["texts"][0]["salt"] = encode(&[7; 16]).into()).refused_only("texts");
    it.with(|pack| pack["texts"][0]["name"] = "ticket".into()).refused_only("texts");
    it.with(|pack| {
        let first = pack["texts"][0].clone();
        pack["texts"].as_array_mut().unwrap().push(first);
    })
    .refused_only("texts");
    let erased = it.with(|pack| pack["texts"] = json!([])).holds();
    assert!(erased.to_string().contains("erased"), "{erased}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_grant_bytes_or_none_are_refused() {
    let it = packed().await;
    let (id, mut grant) = it.grant();
    grant["action"]["parameters"]["service"] = "payments".into();
    let other = phasebroker::domain::canonical::to_bytes(&grant).unwrap();
    it.with(|pack| pack["grants"][&id] = encode(&other).into()).refused("grants");
    it.with(|pack| drop(pack["grants"].as_object_mut().unwrap().remove(&id))).refused("grants");
    it.with(|pack| {
        let grant = pack["grants"][&id].clone();
        pack["grants"]["01JDMZKW0X00000000000000AA"] = grant;
    })
    .refused("grants");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_a_repeated_and_a_foreign_approval_are_refused() {
    let it = packed_by_two().await;
    let (id, _) = it.grant();
    it.with(|pack| drop(pack["approvals"][&id].as_array_mut().unwrap().remove(1))).refused("approvals");
    it.with(|pack| drop(pack["approvals"].as_object_mut().unwrap().remove(&id))).refused("approvals");
    it.with(|pack| {
        let tokens = pack["approvals"][&id].as_array_mut().unwrap();
        tokens[1] = tokens[0].clone();
    })
    .refused("approvals");
    let foreign = packed().await;
    let (of, _) = foreign.grant();
    it.with(|pack| pack["approvals"][&id][0] = foreign.pack["approvals"][&of][0].clone())
        .refused("approvals");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_signature_of_either_algorithm_is_refused() {
    let it = packed_by_two().await;
    let (id, _) = it.grant();
    for nth in [0, 1] {
        let token = it.pack["approvals"][&id][nth].as_str().unwrap().to_owned();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut raw = decode(signature).unwrap();
        raw[40] ^= 1;
        let broken = format!("{signed}.{}", encode(&raw));
        it.with_token(nth, &token).holds();
        it.with_token(nth, &broken).refused("approvals");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_count_only_for_whom_the_trust_file_says() {
    let it = packed().await;
    let bob: PersonSlug = "bob".parse().unwrap();
    let person = |trust: &mut phasebroker::ledger::trust::TrustDocument| {
        trust.people.get_mut(&"bob".parse::<PersonSlug>().unwrap()).unwrap().clone()
    };
    it.trusted(|trust| drop(trust.people.remove(&bob))).refused("approvals");
    it.trusted(|trust| {
        let mut other = person(trust);
        other.keys[0].jwk = SigningKey::generate().unwrap().public().clone();
        trust.people.insert(bob.clone(), other);
    })
    .refused("approvals");
    it.trusted(|trust| {
        let mut other = person(trust);
        other.keys[0].custody = Custody::Pkcs11;
        trust.people.insert(bob.clone(), other);
    })
    .refused("approvals");
    it.trusted(|trust| {
        let mut other = person(trust);
        other.groups.remove(&"on-call".parse().unwrap());
        trust.people.insert(bob.clone(), other);
    })
    .refused("approvals");
    it.trusted(|trust| drop(trust.agents.insert("fixer".parse().unwrap(), bob.clone()))).refused("approvals");
    it.trusted(|trust| drop(trust.agents.remove(&"fixer".parse().unwrap()))).refused("approvals");
    it.trusted(|trust| trust.issuer = "https://other.example".into()).refused("form");
    let renamed = it.trusted(|trust| drop(trust.agents.insert("more".parse().unwrap(), bob.clone())));
    renamed.holds();
    let b = TestBroker::start().await;
    let run = restart_of(&b).await;
    super::packed::Packed::of(&b, run).await.holds();
}
