//! Uses of a playbook, whose grants nobody signed: a broker with its log key can seal whatever it likes, and still only
//! what the signed template gives is believed. Signatures in here are people's own, over whatever they were shown.

use std::sync::Arc;

use phasebroker::domain::canonical;
use phasebroker::domain::digest::{Digest, decode, encode};
use phasebroker::domain::jws::{self, KeyHeader};
use phasebroker::domain::time::Timestamp;
use serde_json::{Value, json};

use super::autonomous::{Cloud, used_playbook};
use super::packed::Packed;
use crate::broker::Setup;
use crate::broker::flow::Approved;
use crate::world::World;

/// A reboot at AWS under a playbook.
async fn used_in_the_cloud() -> Packed {
    used_in_a_cloud(false).await
}

/// The same; its entry may ask for a canary.
async fn used_in_a_cloud(canary: bool) -> Packed {
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
            let summary = "summary = \"Reboot the EC2 instance {instance}\"\n";
            if canary {
                written.catalog = written.catalog.replace(summary, &format!("{summary}canary = true\n"));
            }
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
        // As it stands there, and not as our types would write it.
        None => {
            let sent = json!({"credential": grant["credential"], "lease": grant["time"]["lease"], "not_after": until});
            ("audience", String::from_utf8(canonical::to_bytes(&sent).unwrap()).unwrap())
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
        ("/action/rollback", json!("Restart it twice")),
    ] {
        let forged = minted(&it, |grant| *grant.pointer_mut(pointer).unwrap() = other);
        let member = pointer.trim_start_matches('/').replace("/0/", "[0]/").replace('/', ".");
        not_as_signed(&forged, &format!("`{member}`"));
    }
    minted(&it, |grant| grant["action"]["reversible"] = json!(false)).refused_only("playbooks");
    minted(&it, |grant| grant["action"]["unscopable"] = json!(["ec2:X"])).refused_only("playbooks");
    minted(&it, |grant| drop(grant["action"].as_object_mut().unwrap().remove("rollback")))
        .refused_only("playbooks");
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
async fn a_canary_is_given_when_the_signed_template_has_one_and_only_then() {
    let it = used_in_a_cloud(true).await;
    it.holds();
    let without = with_template(&it, |template| {
        assert!(template.contains(r#""canary":true,"#), "{template}");
        template.replacen(r#""canary":true,"#, "", 1)
    });
    not_as_signed(&without, "`credential.session_policy`");
    with_template(&it, |template| template.replacen(r#""canary":true"#, r#""canary":false"#, 1))
        .refused("playbooks");
    let plain = used_in_the_cloud().await;
    minted(&plain, |grant| {
        let policy = grant["credential"]["session_policy"].as_str().unwrap();
        let canary = r#"{"Sid":"Canary","Effect":"Allow","Action":["ec2:DescribeRegions"],"Resource":["*"]}"#;
        let deny = r#"{"Effect":"Deny""#;
        grant["credential"]["session_policy"] = policy.replacen(deny, &format!("{canary},{deny}"), 1).into();
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

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_no_grant_has_is_refused_wherever_it_stands() {
    let (token, session) = (used_playbook().await, used_in_the_cloud().await);
    for (it, places) in [
        (&token, &["/action", "/credential", "/who", "/time"][..]),
        (&session, &["/action", "/credential"][..]),
    ] {
        minted(it, |_| ()).holds();
        for place in places {
            minted(it, |grant| grant.pointer_mut(place).unwrap()["scope"] = json!("admin")).refused("grants");
        }
        let looked = |extra: bool| {
            minted(it, |grant| {
                let mut one = json!({"name": "health", "value": "down"});
                if extra {
                    one["scope"] = json!("admin");
                }
                grant["action"]["preconditions"] = json!([one]);
            })
        };
        looked(false).holds();
        looked(true).refused("grants");
    }
    minted(&token, |grant| grant["credential"]["authorization_details"][0]["scope"] = json!("admin"))
        .refused_by_both();
    // What stands in the other provider's credential is no member of this one's.
    minted(&token, |grant| grant["credential"]["external_id"] = json!("x")).refused("grants");
    minted(&session, |grant| grant["credential"]["audience"] = json!("x")).refused("grants");
}

#[tokio::test(flavor = "multi_thread")]
async fn true_is_no_number() {
    let it = used_playbook().await;
    for pointer in ["/action/changes", "/credential/work_seconds", "/time/work_seconds", "/epoch", "/version"]
    {
        minted(&it, |grant| *grant.pointer_mut(pointer).unwrap() = json!(true)).refused("grants");
    }
    minted(&it, |grant| grant["action"]["reversible"] = json!(1)).refused_by_both();
    // Within a range of integers it is none either, whatever it is called.
    let ranged = |value: Value, shown: &str| {
        let it = signed_again(&it, |document| {
            let book = &mut document["subject"]["playbook"];
            book["parameters"]["service"] = json!({"integers": {"min": 0, "max": 9}});
            let mut template: Value = serde_json::from_str(book["template"].as_str().unwrap()).unwrap();
            let kinds = &mut template["action"]["entry"]["parameters"];
            kinds["service"] = json!({"type": "integer", "min": 0, "max": 9});
            book["template"] = String::from_utf8(canonical::to_bytes(&template).unwrap()).unwrap().into();
        });
        minted(&it, |grant| {
            let summary = grant["action"]["summary"].as_str().unwrap().replace("checkout", shown);
            grant["action"]["summary"] = summary.into();
            grant["action"]["parameters"]["service"] = value.clone();
            grant["credential"]["authorization_details"][0]["parameters"]["service"] = value;
        })
    };
    ranged(json!(1), "1").holds();
    ranged(json!(10), "10").refused_only("playbooks");
    ranged(json!("1"), "1").refused_only("playbooks");
    for shown in ["true", "True", "1"] {
        ranged(json!(true), shown).refused_by_both();
    }
}

/// The cloud's playbook with its one parameter under another name or with another value, and whatever a test changes in
/// the template and the session's policy.
fn reboots(it: &Packed, name: &str, value: &str, change: impl Fn(&str) -> String) -> Packed {
    let named = |text: &str| {
        text.replace("\"instance\":", &format!("\"{name}\":")).replace("{instance}", &format!("{{{name}}}"))
    };
    let it = signed_again(it, |document| {
        let book = &mut document["subject"]["playbook"];
        book["parameters"] = json!({name: {"values": [value]}});
        book["template"] = change(&named(book["template"].as_str().unwrap())).into();
    });
    minted(&it, |grant| {
        let action = &mut grant["action"];
        action["parameters"] = json!({name: value});
        action["summary"] = format!("Reboot the EC2 instance {value}").into();
        let policy = grant["credential"]["session_policy"].as_str().unwrap();
        let written = json!(value).to_string();
        let policy = policy.replace("i-0123456789abcdef0", &written[1..written.len() - 1]);
        grant["credential"]["session_policy"] = policy.into();
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_may_be_called_like_a_member_of_the_target() {
    let it = used_in_the_cloud().await;
    for name in ["external_id", "execute_role", "observe_role", "trust_role", "protected"] {
        reboots(&it, name, "i-0123456789abcdef0", str::to_owned).holds();
    }
    let outside = |template: &str| {
        let target = r#""execute_role":"#;
        assert!(template.contains(target), "{template}");
        template.replacen(target, r#""execute_role":"arn:aws:iam::1:role/other","old":"#, 1)
    };
    reboots(&it, "external_id", "i-0123456789abcdef0", outside).refused_only("playbooks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_of_the_shard_that_its_lease_gives_and_of_no_other() {
    let it = used_in_the_cloud().await;
    let sharded = |count: &str| {
        reboots(&it, "instance", "i-0123456789abcdef0", |template| {
            let region = r#""region":"us-east-1""#;
            assert!(template.contains(region), "{template}");
            template.replacen(region, &format!(r#"{region},"shards":{count}"#), 1)
        })
    };
    let in_shard = |right: bool| {
        minted(&sharded("3"), |grant| {
            let lease = grant["time"]["lease"].as_str().unwrap();
            let first: [u8; 4] = Digest::of(lease.as_bytes()).as_bytes()[..4].try_into().unwrap();
            let shard = (u32::from_be_bytes(first) + u32::from(!right)) % 3;
            if shard > 0 {
                let role = grant["credential"]["role_arn"].as_str().unwrap().to_owned();
                grant["credential"]["role_arn"] = format!("{role}-{shard}").into();
            }
        })
    };
    in_shard(true).holds();
    in_shard(false).refused_only("playbooks");
    for none in ["0", "9", "true", "\"3\""] {
        sharded(none).refused_by_both();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_means_more_than_itself_is_refused_though_it_was_signed() {
    let it = used_in_the_cloud().await;
    let any = |template: &str| {
        let pattern = r#""pattern":"i-[0-9a-f]{8,17}""#;
        assert!(template.contains(pattern), "{template}");
        template.replacen(pattern, r#""pattern":"[a-z0-9-]+""#, 1)
    };
    reboots(&it, "instance", "i-any", any).holds();
    for value in ["i-*", "i-?", "i-$", "{account}", "i-}", "i-\"", "i-\\"] {
        reboots(&it, "instance", value, any).refused_only("playbooks");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_conditions_are_filled_and_their_keys_are_not() {
    let it = used_in_the_cloud().await;
    let only = |template: &str| {
        let before = r#""resources":["#;
        assert!(template.contains(before), "{template}");
        let asked =
            r#""conditions":{"StringEquals":{"aws:ResourceTag/{instance}":["{instance}"]}},"resources":["#;
        template.replacen(before, asked, 1)
    };
    let value = "i-0123456789abcdef0";
    let it = reboots(&it, "instance", value, only);
    for (key, holds) in [("{instance}", true), (value, false)] {
        let packed = minted(&it, |grant| {
            let policy = grant["credential"]["session_policy"].as_str().unwrap();
            let (allowed, last) = policy.split_once(r#"},{"Effect":"Deny""#).unwrap();
            let asked = format!(r#","Condition":{{"StringEquals":{{"aws:ResourceTag/{key}":["{value}"]}}}}"#);
            grant["credential"]["session_policy"] =
                format!(r#"{allowed}{asked}}},{{"Effect":"Deny"{last}"#).into();
        });
        match holds {
            true => drop(packed.holds()),
            false => drop(packed.refused_only("playbooks")),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_is_told_in_the_words_of_the_template() {
    let it = used_playbook().await;
    let turned = signed_again(&it, |document| {
        let text = &mut document["subject"]["playbook"]["template"];
        let mut template: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
        template["inverse"] = template["action"].clone();
        let entry = template["action"]["entry"].as_object_mut().unwrap();
        entry.remove("settles").unwrap();
        let again = json!({"service": "{service}", "reason_code": "out of memory", "more": 7});
        entry.insert(
            "inverse".into(),
            json!({"action": "restart-service", "claim_seconds": 3600, "parameters": again}),
        );
        *text = String::from_utf8(canonical::to_bytes(&template).unwrap()).unwrap().into();
    });
    let told = |words: &str| minted(&turned, |grant| grant["action"]["rollback"] = words.into());
    told(r#"restart-service with more=7, reason_code="out of memory", service=checkout"#).holds();
    told(r#"restart-service with more=7, reason_code=out of memory, service=checkout"#)
        .refused_only("playbooks");
    told("restart-service").refused_only("playbooks");
    told("None needed").refused_only("playbooks");
}
