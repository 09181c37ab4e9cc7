//! Uses of a playbook, whose grants nobody signed: a broker with its log key can seal whatever it likes, and still only
//! what the signed template gives is believed. Signatures in here are people's own, over whatever they were shown.

use std::sync::Arc;

use phasebroker::domain::canonical;
use phasebroker::domain::digest::{Digest, decode, encode};
use phasebroker::domain::id::LeaseId;
use phasebroker::domain::jws::{self, KeyHeader};
use phasebroker::domain::plan::Credential;
use phasebroker::domain::sent::token_text;
use phasebroker::domain::time::Timestamp;
use serde_json::{Value, json};

use super::autonomous::{Cloud, used_playbook};
use super::packed::Packed;
use crate::broker::Setup;
use crate::broker::flow::Approved;
use crate::world::World;

/// A reboot at AWS under a playbook.
async fn used_in_the_cloud() -> Packed {
    let world = World::with(Setup { providers: vec![Arc::new(Cloud)], ..Setup::default() }).await;
    let probe = format!(
        "\n[probes.cloud]\npointer = \"/status\"\n[probes.cloud.http]\nurl = \"{}/cloud\"\n",
        world.health.url()
    );
    world
        .b
        .reload(|written| {
            written.policy = written.policy.replace("restart-service", "reboot-instance");
            written.guardrails.push_str(&probe);
        })
        .await;
    let instance = json!({"instance": "i-0123456789abcdef0"});
    world
        .signed(&world.draft_with(|draft| {
            draft["environment"] = "cloud".into();
            draft["action"] = "reboot-instance".into();
            draft["parameters"] = json!({"instance": {"values": [instance["instance"]]}});
            draft["trigger"] = json!({"probes": [{"name": "cloud", "value": "down"}]});
        }))
        .await;
    let deciding = world.b.run_to_deciding("cloud").await;
    let pending = world.ask_in(deciding, "reboot-instance", instance, |_| {}).await;
    let approved = Approved { pending, tokens: vec![] };
    world.b.claim(&approved).await.map(drop).unwrap();
    Packed::of(&world.b, approved.deciding.run).await
}

/// Another grant, and the log of a broker that sent just what stands in it.
fn minted(it: &Packed, change: impl FnOnce(&mut Value)) -> Packed {
    let other = it.with_grant(change);
    let (_, grant) = other.grant();
    let intent = it.intent();
    let until = Timestamp::from_seconds(it.events()[&intent]["facts"]["not_after"].as_i64().unwrap());
    let (target, text) = match grant["credential"]["session_policy"].as_str() {
        Some(policy) => ("role_arn", policy.replace("{{not_after}}", &until.to_string())),
        None => {
            let lease: LeaseId = grant["time"]["lease"].as_str().unwrap().parse().unwrap();
            let credential: Credential = serde_json::from_value(grant["credential"].clone()).unwrap();
            ("audience", token_text(lease, &credential, until).unwrap())
        }
    };
    other.forged(|events| {
        let facts = &mut events.get_mut(&intent).unwrap()["facts"];
        facts["sent"] = Digest::of(text.as_bytes()).to_string().into();
        facts["target"] = grant["credential"][target].clone();
    })
}

/// Another playbook that the same people signed, and a grant that names it.
fn signed_again(it: &Packed, change: impl FnOnce(&mut Value)) -> Packed {
    let (id, bytes) = it.pack["administrations"].as_object().unwrap().iter().next().unwrap();
    let before = decode(bytes.as_str().unwrap()).unwrap();
    let mut document: Value = serde_json::from_slice(&before).unwrap();
    change(&mut document);
    let bytes = canonical::to_bytes(&document).unwrap();
    let digest = |bytes: &[u8]| Value::from(Digest::of(bytes).to_string());
    let again = |token: &Value| {
        let body = token.as_str().unwrap().split('.').nth(1).unwrap();
        let mut claims: Value = serde_json::from_slice(&decode(body).unwrap()).unwrap();
        claims["grant"] = digest(&bytes);
        let key = it.keys.of(claims["iss"].as_str().unwrap());
        Value::from(jws::sign("approval+jwt", key, KeyHeader::Kid, &claims).unwrap())
    };
    let tokens: Vec<(&Value, Value)> =
        it.pack["approvals"][id].as_array().unwrap().iter().map(|token| (token, again(token))).collect();
    let of_token = |token: &Value| digest(token.as_str().unwrap().as_bytes());
    it.forged(|events| {
        for event in events.values_mut() {
            if event["facts"]["digest"] == digest(&before) {
                event["facts"]["digest"] = digest(&bytes);
            }
            for (old, new) in &tokens {
                if event["facts"]["token"] == of_token(old) {
                    event["facts"]["token"] = of_token(new);
                }
            }
        }
    })
    .with(|pack| {
        pack["administrations"][id] = encode(&bytes).into();
        pack["approvals"][id] = tokens.iter().map(|(_, new)| new.clone()).collect();
    })
    .with_grant(|grant| grant["decision"]["playbook"] = digest(&bytes))
}

/// The same with another template.
fn with_template(it: &Packed, change: impl FnOnce(&str) -> String) -> Packed {
    signed_again(it, |document| {
        let template = &mut document["subject"]["playbook"]["template"];
        *template = change(template.as_str().unwrap()).into();
    })
}

/// Refused as no use of its playbook, for what this text names.
fn not_as_signed(forged: &Packed, named: &str) {
    let verdict = forged.refused_only("playbooks");
    assert!(verdict.to_string().contains(named), "`{named}` is not named:\n{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_signed_template_does_not_give_is_named() {
    let it = used_playbook().await;
    minted(&it, |_| ()).holds();
    for (pointer, other) in [
        ("/credential/audience", json!("https://payments.example")),
        ("/credential/authorization_details/0/parameters/service", json!("payments")),
        ("/credential/authorization_details/0/action", json!("scale-service")),
        ("/credential/authorization_details/0/environment", json!("stage")),
        ("/credential/authorization_details", json!([])),
        ("/credential/revocability", json!("at_expiry")),
        ("/action/class", json!("data")),
        ("/action/changes", json!(7)),
        ("/action/summary", json!("Restart the service nothing")),
        ("/action/service", json!("nothing")),
        ("/action/exceptions", json!(["iam:PassRole"])),
    ] {
        let forged = minted(&it, |grant| *grant.pointer_mut(pointer).unwrap() = other);
        let member = pointer.trim_start_matches('/').replace("/0/", "[0]/").replace('/', ".");
        not_as_signed(&forged, &format!("`{member}`"));
    }
    minted(&it, |grant| grant["action"]["reversible"] = json!(false)).refused_only("playbooks");
    minted(&it, |grant| grant["credential"]["work_seconds"] = json!(600)).refused_only("playbooks");
    // As it was found: an admin's session under a playbook for restarts.
    let admin = minted(&it, |grant| {
        let of = |name: &str| grant["time"]["lease"].as_str().map(|lease| format!("{name}{lease}")).unwrap();
        let tags = json!({"agent": "fixer", "grant": grant["id"], "lease": of(""), "phase": "execute"});
        grant["credential"] = json!({
            "provider": "aws", "role_arn": "arn:aws:iam::123456789012:role/admin", "account": "123456789012",
            "region": "us-east-1", "session_name": of("execute-"), "source_identity": grant["id"], "tags": tags,
            "session_policy": POLICY.replace("ec2:RebootInstances", "*"), "duration_seconds": 900,
            "work_seconds": 60, "revocability": "seconds",
        });
    });
    let intent = it.intent();
    let admin = admin.forged(|events| events.get_mut(&intent).unwrap()["facts"]["provider"] = "aws".into());
    not_as_signed(&admin, "`credential.");
}

/// What a session of the cloud's playbook may do.
const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ec2:RebootInstances"],"Resource":["*"]},{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"DateGreaterThanEquals":{"aws:CurrentTime":"{{not_after}}"}}}]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_at_aws_that_the_signed_template_does_not_give_is_named() {
    let it = used_in_the_cloud().await;
    let verdict = it.holds();
    assert!(verdict.to_string().contains("that the template signed with the playbook gives"), "{verdict}");
    minted(&it, |_| ()).holds();
    // What AWS may ask for beside it is of the broker's table, and decides nothing.
    minted(&it, |grant| grant["action"]["dependents"] = json!(["iam:PassRole"])).holds();
    for (member, other) in [
        ("role_arn", json!("arn:aws:iam::123456789012:role/admin")),
        ("session_policy", json!(POLICY)),
        ("account", json!("210987654321")),
        ("region", json!("eu-central-1")),
        ("external_id", json!("another")),
        ("revocability", json!("immediate")),
    ] {
        let forged = minted(&it, |grant| grant["credential"][member] = other);
        not_as_signed(&forged, &format!("`credential.{member}`"));
    }
    minted(&it, |grant| {
        let policy = grant["credential"]["session_policy"].as_str().unwrap();
        let (from, to) = (
            r#""Action":["ec2:RebootInstances"]"#,
            r#""Action":["ec2:RebootInstances","ec2:StopInstances"]"#,
        );
        grant["credential"]["session_policy"] = policy.replacen(from, to, 1).into();
    })
    .refused_only("playbooks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_is_none_or_of_something_else_gives_nothing() {
    let it = used_playbook().await;
    with_template(&it, str::to_owned).holds();
    let replaced = |from: &'static str, to: &'static str| {
        move |template: &str| {
            assert!(template.contains(from), "{template}");
            template.replacen(from, to, 1)
        }
    };
    not_as_signed(&with_template(&it, |_| "{}".into()), "missing field");
    not_as_signed(&with_template(&it, |_| "no template".into()), "not JSON");
    not_as_signed(&with_template(&it, |template| template.replacen(':', ": ", 1)), "canonical form");
    for (from, to, named) in [
        (r#""name":"restart-service""#, r#""name":"scale-service""#, "`scale-service` in `demo`"),
        (r#""environment":"demo""#, r#""environment":"stage""#, "`restart-service` in `stage`"),
        (r#""environment":"demo""#, r#""environment":"demo","more":1"#, "unknown field `more`"),
        (r#""changes":1"#, r#""chances":1,"changes":1"#, "unknown field `chances`"),
        (r#""introspects":true"#, r#""introspects":true,"more":1"#, "unknown field `more`"),
        (r#""changes":1"#, r#""changes":2"#, "`action.changes`"),
        (
            r#""audience":"http://127.0.0.1:8478""#,
            r#""audience":"http://127.0.0.1:8479""#,
            "`credential.audience`",
        ),
    ] {
        not_as_signed(&with_template(&it, replaced(from, to)), named);
    }
    let it = used_in_the_cloud().await;
    with_template(&it, str::to_owned).holds();
    for (from, to, named) in [
        (r#"["ec2:RebootInstances"]"#, r#"["ec2:StopInstances"]"#, "`credential.session_policy`"),
        (r#""region":"us-east-1""#, r#""realm":1,"region":"us-east-1""#, "unknown field `realm`"),
        (r#""resources":["#, r#""reasons":1,"resources":["#, "unknown field `reasons`"),
    ] {
        not_as_signed(&with_template(&it, replaced(from, to)), named);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_in_which_one_byte_is_not_what_people_signed_fails_by_their_signatures() {
    let it = used_playbook().await;
    let changed = with_template(&it, |template| template.replacen("8478", "8479", 1));
    let signatures = it.pack["approvals"].clone();
    let facts = |events: &mut std::collections::BTreeMap<u64, Value>, from: &Packed| {
        for (place, event) in events.iter_mut().filter(|(_, event)| event["type"] == "approval.received") {
            event["facts"]["token"] = from.events()[place]["facts"]["token"].clone();
        }
    };
    let stolen = changed.forged(|events| facts(events, &it)).with(|pack| pack["approvals"] = signatures);
    stolen.refused("approvals");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playbook_for_agents_whose_owners_could_sign_is_noticed() {
    let it = used_playbook().await;
    signed_again(&it, |document| document["agents"] = json!(["fixer", "twin"])).holds();
    for agents in [json!([]), json!(["twin"])] {
        let forged = signed_again(&it, |document| document["agents"] = agents);
        not_as_signed(&forged, "whose owners could have signed it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playbook_that_was_used_more_often_in_all_than_people_signed_is_noticed() {
    let it = used_playbook().await;
    let intent = it.intent();
    let again = it.events()[&intent].clone();
    for (most, holds) in [(2, true), (1, false)] {
        let often = signed_again(&it, |document| {
            document["subject"]["playbook"]["budget"] = json!({"uses": 1000, "seconds": 60});
            document["subject"]["playbook"]["max_uses"] = json!(most);
        });
        let mut again = again.clone();
        again["facts"]["grant_digest"] = often.events()[&intent]["facts"]["grant_digest"].clone();
        let twice = often.inserted(intent, again);
        let verdict = twice.refused("one_use");
        let other = twice.independently(&twice.bytes());
        assert_eq!(!verdict.failed().contains(&"playbooks"), holds, "{verdict}");
        assert_eq!(other["failed"].get("playbooks").is_none(), holds, "{other}");
        assert_eq!(verdict.to_string().contains("the playbook was used 2 times"), !holds, "{verdict}");
    }
}
