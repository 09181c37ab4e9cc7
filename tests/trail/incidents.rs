//! What no lease explains, and records that contradict a lease.

use phasebroker::domain::event::EventKind as E;
use phasebroker::reconcile::Verdict;
use serde_json::{Value, json};

use super::world::{World, changed, execute, fixture, kinds};

fn files(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| std::fs::read(fixture(name)).unwrap()).collect()
}

#[test]
fn a_session_without_an_intent_is_an_incident_and_so_is_its_use() {
    let report = World::new().judge(&["unrecorded-session.json", "unrecorded-use.json"]);
    assert_eq!(kinds(&report), ["unrecorded_session", "unrecorded_use"]);
    assert!(report.incidents.iter().all(|one| one.lease.is_none()) && !report.is_good());
    // A role that is none of ours is none of our business.
    let foreign = |record: &mut Value| {
        record["requestParameters"]["roleArn"] = json!("arn:aws:iam::111122223333:role/somebody-else");
    };
    let report = World::new().judge_bytes(&[changed("unrecorded-session.json", foreign)]);
    assert_eq!((kinds(&report), report.is_good()), (vec![], true));
}

#[test]
fn a_session_of_ours_by_web_identity_or_refused_is_an_incident_too() {
    for (member, value) in [("eventName", "AssumeRoleWithWebIdentity"), ("errorCode", "AccessDenied")] {
        let file = changed("unrecorded-session.json", |record| record[member] = json!(value));
        assert_eq!(kinds(&World::new().judge_bytes(&[file])), ["unrecorded_session"], "{member}");
    }
}

#[test]
fn a_second_session_in_the_name_of_a_lease_is_an_incident() {
    let second = changed("mint.json", |record| {
        record["eventID"] = json!("second");
        record["responseElements"]["credentials"]["accessKeyId"] = json!("ASIASECOND0000000001");
    });
    let mut all = files(&["mint.json", "reboot.json", "later.json"]);
    all.push(second);
    let report = World::new().judge_bytes(&all);
    assert_eq!(
        (kinds(&report), execute(&report).verdict),
        (vec!["unrecorded_session"], Verdict::NeedsReview)
    );
}

#[test]
fn a_session_that_was_refused_must_not_be_there_and_one_of_unknown_outcome_must_not_be_used() {
    let of = |outcome, files: &[&str]| World { outcome, completed: false, ..World::new() }.judge(files);
    let refused = of(E::LeaseRefused, &["later.json"]);
    assert_eq!((refused.leases.len(), refused.is_good()), (1, true), "the observe lease alone");
    assert_eq!(kinds(&of(E::LeaseRefused, &["mint.json"])), ["unrecorded_session"]);
    assert_eq!(kinds(&of(E::LeaseUnknown, &["mint.json"])), Vec::<&str>::new());
    assert_eq!(kinds(&of(E::LeaseUnknown, &["reboot.json"])), ["unreleased_session", "unreleased_session"]);
}

#[test]
fn a_call_that_a_service_makes_in_the_sessions_name_is_for_a_person_and_no_forgery() {
    let made = |name: &str| {
        changed("forged-key.json", |record| {
            record["userIdentity"]["invokedBy"] = json!("rds.amazonaws.com");
            record["eventName"] = json!(name);
        })
    };
    for (name, verdict) in [("RebootInstances", Verdict::Matched), ("StopInstances", Verdict::NeedsReview)] {
        let mut all = files(&["mint.json", "later.json"]);
        all.push(made(name));
        let report = World::new().judge_bytes(&all);
        assert_eq!((kinds(&report), execute(&report).verdict), (vec![], verdict), "{name}");
    }
}

#[test]
fn a_record_that_contradicts_its_lease_is_named_and_the_honest_one_is_not() {
    for (file, expected) in [
        ("forged-key.json", vec!["other_access_key"]),
        ("forged-source.json", vec!["other_source_identity"]),
        ("forged-account.json", vec!["other_account", "other_role"]),
        ("forged-name.json", vec!["other_session_name"]),
    ] {
        let report = World::new().judge(&["mint.json", "reboot.json", "later.json", file]);
        assert_eq!(kinds(&report), expected, "{file}");
        assert_eq!(execute(&report).verdict, Verdict::NeedsReview, "{file}");
        assert!(!report.is_good());
    }
    assert_eq!(kinds(&World::new().judge(&["mint.json", "reboot.json", "later.json"])), Vec::<&str>::new());
    let split = changed("reboot.json", |record| {
        if record["userIdentity"]["type"] == "AssumedRole" {
            record["userIdentity"]["arn"] = json!("arn:aws:sts::111122223333:assumed-role/x/another");
        }
    });
    assert!(kinds(&World::new().judge_bytes(&[split])).contains(&"other_session_name"));
}

#[test]
fn a_use_by_another_key_is_not_counted_for_the_lease() {
    let report = World::new().judge(&["mint.json", "forged-key.json", "later.json"]);
    assert_eq!(execute(&report).calls, 0);
    assert_eq!(execute(&World::new().judge(&["mint.json", "reboot.json", "later.json"])).calls, 2);
}

#[test]
fn two_records_of_one_id_that_differ_are_an_incident() {
    let other = changed("reboot.json", |record| record["eventName"] = json!("StopInstances"));
    let mut all = files(&["mint.json", "reboot.json"]);
    all.push(other);
    let report = World::new().judge_bytes(&all);
    assert_eq!((kinds(&report), report.duplicates), (vec!["two_of_one_id", "two_of_one_id"], 2));
}

#[test]
fn a_mint_that_differs_from_what_was_signed_is_an_incident_whatever_differs() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 9] = [
        ("policy is another text", |r| r["policy"] = json!("{\"Statement\":[]}")),
        ("tags are not", |r| r["tags"][0]["value"] = json!("somebody")),
        ("tags are not", |r| drop(r["tags"].as_array_mut().unwrap().pop())),
        ("source identity", |r| r["sourceIdentity"] = json!("somebody")),
        ("seconds are `3600`", |r| r["durationSeconds"] = json!(3600)),
        ("role is", |r| r["roleArn"] = json!("arn:aws:iam::111122223333:role/phasebroker-observe")),
        ("transitiveTagKeys", |r| r["transitiveTagKeys"] = json!(["lease"])),
        ("policyArns", |r| r["policyArns"] = json!([{"arn": "arn:aws:iam::aws:policy/AdministratorAccess"}])),
        ("external id", |r| r["externalId"] = json!("x")),
    ];
    for (says, change) in changes {
        let mint = changed("mint.json", |record| change(&mut record["requestParameters"]));
        let report = World::new().judge_bytes(&[mint]);
        assert_eq!(kinds(&report), ["other_request"], "{says}");
        assert!(report.incidents[0].what.contains(says), "{says}: {}", report.incidents[0].what);
    }
    assert_eq!(kinds(&World::new().judge(&["mint.json"])), Vec::<&str>::new());
    // The other spelling of tags that CloudTrail documents.
    let spelled = changed("mint.json", |record| {
        let tags = record["requestParameters"]["tags"].take();
        let pairs = tags.as_array().unwrap().iter();
        let pairs = pairs.map(|tag| (tag["key"].as_str().unwrap().to_owned(), tag["value"].clone()));
        record["requestParameters"]["principalTags"] = Value::Object(pairs.collect());
    });
    assert_eq!(kinds(&World::new().judge_bytes(&[spelled])), Vec::<&str>::new());
}

#[test]
fn what_cannot_be_read_is_counted_and_never_good() {
    let report = World::new().judge_bytes(&[br#"{"Records":[{"eventID":7},{"a":1}]}"#.to_vec()]);
    assert_eq!((report.records, report.unreadable, report.unreadable_because.len()), (2, 2, 2));
    assert!(!report.is_good());
    assert!(World::new().judge(&["later.json"]).is_good());
}

#[test]
fn a_session_that_goes_on_in_the_name_of_a_grant_under_another_role_is_an_incident() {
    let chained = changed("reboot.json", |record| {
        let identity = &mut record["userIdentity"];
        identity["accessKeyId"] = json!("ASIACHAINEDEXAMPLE01");
        identity["principalId"] = json!("AROAOTHER:somebody");
        identity["arn"] = json!("arn:aws:sts::111122223333:assumed-role/other/somebody");
        identity["sessionContext"]["sessionIssuer"]["arn"] = json!("arn:aws:iam::111122223333:role/other");
        record["eventID"] = json!(format!("chained {}", record["eventID"]));
    });
    let mut all = files(&["mint.json", "reboot.json", "later.json"]);
    all.push(chained);
    let report = World::new().judge_bytes(&all);
    assert!(
        !kinds(&report).is_empty() && kinds(&report).iter().all(|kind| *kind == "chained_session"),
        "{report:?}"
    );
    assert_eq!((execute(&report).verdict, execute(&report).calls), (Verdict::NeedsReview, 2));
}

#[test]
fn a_call_from_before_the_intent_or_of_a_session_of_another_time_is_no_honest_record() {
    let at = |member: &'static str, time: &'static str| {
        changed("late.json", move |record| {
            record["eventTime"] = json!("2026-11-26T01:00:30Z");
            match member {
                "eventTime" => record["eventTime"] = json!(time),
                _ => record["userIdentity"]["sessionContext"]["attributes"]["creationDate"] = json!(time),
            }
        })
    };
    for (member, time, expected) in [
        ("eventTime", "2026-11-26T00:54:59Z", vec!["before_intent"]),
        // Clocks may differ by minutes.
        ("eventTime", "2026-11-26T00:55:01Z", vec![]),
        ("creationDate", "2026-11-26T00:50:00Z", vec!["other_session_time"]),
        ("creationDate", "2026-11-26T01:02:00Z", vec![]),
    ] {
        assert_eq!(kinds(&World::new().judge_bytes(&[at(member, time)])), expected, "{member} {time}");
    }
}

#[test]
fn of_a_session_of_unknown_outcome_one_may_exist_and_not_two() {
    let second = changed("mint.json", |record| {
        record["eventID"] = json!("second");
        record["responseElements"]["credentials"]["accessKeyId"] = json!("ASIASECOND0000000001");
    });
    let mut all = files(&["mint.json"]);
    all.push(second);
    let world = World { outcome: E::LeaseUnknown, completed: false, ..World::new() };
    assert_eq!(kinds(&world.judge_bytes(&all)), ["unrecorded_session"]);
}

#[test]
fn a_session_that_tries_everything_hides_nothing_and_fills_no_memory() {
    let noise = |number: usize| {
        let name = format!("DescribeThing{number}");
        changed("denied.json", move |record| {
            record["eventID"] = json!(name);
            record["eventName"] = json!(name);
        })
    };
    let mut all: Vec<Vec<u8>> = (0..300).map(noise).collect();
    all.extend(files(&["mint.json", "later.json", "extra-action.json"]));
    let report = World::new().judge_bytes(&all);
    let lease = execute(&report);
    assert_eq!((lease.verdict, lease.denied, lease.calls), (Verdict::ExtraCall, 300, 1));
    assert!(lease.findings.len() <= 257, "{}", lease.findings.len());
    // The resources that it tries are one line, however many.
    let tries = |number: usize| {
        let name = format!("i-{number:017x}");
        changed("denied-approved.json", move |record| {
            record["eventID"] = json!(name);
            record["requestParameters"]["instancesSet"]["items"][0]["instanceId"] = json!(name);
        })
    };
    let all: Vec<Vec<u8>> = (0..300).map(tries).collect();
    let report = World::new().judge_bytes(&all);
    assert_eq!((execute(&report).denied, execute(&report).findings.len()), (300, 1));
}

#[test]
fn an_incident_is_about_the_lease_only_where_the_record_is_of_its_own_key() {
    for (file, own) in [("forged-source.json", true), ("forged-name.json", true), ("forged-key.json", false)]
    {
        let report = World::new().judge(&["mint.json", "reboot.json", "later.json", file]);
        let key = own.then(|| "ASIAEXECUTEEXAMPLE01".to_owned());
        assert!(report.incidents.iter().all(|one| one.lease.is_some() && one.key == key), "{file}");
        let lease = execute(&report);
        assert_eq!((lease.verdict, lease.named_only), (Verdict::NeedsReview, !own), "{file}");
    }
}

#[test]
fn sessions_without_number_hide_no_incident_about_a_key_of_ours() {
    let unrecorded = |number: usize| {
        changed("unrecorded-session.json", move |record| record["eventID"] = json!(format!("n{number}")))
    };
    let mut all: Vec<Vec<u8>> = (0..300).map(unrecorded).collect();
    all.extend(files(&["mint.json", "reboot.json", "later.json", "forged-source.json"]));
    let report = World::new().judge_bytes(&all);
    assert_eq!((report.incidents.len(), report.more_incidents), (201, 100));
    assert!(kinds(&report).contains(&"other_source_identity") && !report.is_good());
}

#[test]
fn an_event_that_anybody_may_put_on_a_bus_is_held_against_nobody() {
    let record: Value = serde_json::from_slice(&changed("late.json", |_| {})).unwrap();
    let around = |source: &str| {
        json!({"detail-type": "AWS API Call via CloudTrail", "source": source, "account": "111122223333",
            "region": "eu-central-1", "detail": record["Records"][0]})
        .to_string()
        .into_bytes()
    };
    let judge = |more: Vec<u8>| {
        let mut all = files(&["mint.json", "reboot.json", "later.json"]);
        all.push(more);
        let report = World::new().judge_bytes(&all);
        (execute(&report).verdict, report.unreadable)
    };
    assert_eq!(judge(around("custom.ec2")), (Verdict::Matched, 1));
    assert_eq!(judge(around("aws.ec2")), (Verdict::LateUse, 0));
}

/// A world in which the approvers' side signs, or not; and the records of a mint, with the use that followed.
fn minted(web: bool, mint: Vec<u8>, provider: Option<&'static str>) -> phasebroker::reconcile::Report {
    minted_in(&World { web, ..World::new() }, mint, provider)
}

fn minted_in(world: &World, mint: Vec<u8>, provider: Option<&'static str>) -> phasebroker::reconcile::Report {
    let used = changed("reboot.json", move |record| {
        if record["userIdentity"]["type"] == "AssumedRole" {
            let data = provider
                .map_or(json!({}), |provider| json!({"federatedProvider": provider, "attributes": {}}));
            record["userIdentity"]["sessionContext"]["webIdFederationData"] = data;
        }
    });
    let later = std::fs::read(fixture("later.json")).unwrap();
    world.judge_bytes(&[mint, used, later])
}

const PROVIDER: &str = "arn:aws:iam::111122223333:oidc-provider/approvers.example.com/oidc";

#[test]
fn a_session_is_minted_with_a_token_where_the_approvers_side_signs_and_nowhere_else() {
    let by_token = || std::fs::read(fixture("mint-web-identity.json")).unwrap();
    let by_role = || std::fs::read(fixture("mint.json")).unwrap();
    let report = minted(true, by_token(), Some(PROVIDER));
    assert_eq!((kinds(&report), execute(&report).verdict), (vec![], Verdict::Matched), "{report:?}");
    assert_eq!(kinds(&minted(false, by_role(), None)), Vec::<&str>::new());
    for (web, mint, provider, says) in [
        (true, by_role(), None, "asked for by `AssumeRole`"),
        (false, by_token(), None, "asked for by `AssumeRoleWithWebIdentity`"),
    ] {
        let report = minted(web, mint, provider);
        assert_eq!((kinds(&report), execute(&report).verdict), (vec!["other_request"], Verdict::NeedsReview));
        assert!(report.incidents[0].what.contains(says), "{}", report.incidents[0].what);
    }
}

#[test]
fn a_mint_with_a_token_is_the_one_that_was_signed_whatever_of_it_is_told() {
    type Change = fn(&mut Value);
    let of = |change: Change| {
        let report = minted(true, changed("mint-web-identity.json", change), Some(PROVIDER));
        (kinds(&report), report.incidents.first().map_or(String::new(), |one| one.what.clone()))
    };
    let bad: [(&str, Change); 9] = [
        ("policy is another text", |r| r["requestParameters"]["policy"] = json!("{\"Statement\":[]}")),
        ("seconds are `3600`", |r| r["requestParameters"]["durationSeconds"] = json!(3600)),
        ("seconds are not there", |r| r["requestParameters"]["durationSeconds"] = Value::Null),
        ("the token is of `arn:aws:iam::111122223333:oidc-provider/other.example`", |r| {
            r["userIdentity"]["identityProvider"] =
                json!("arn:aws:iam::111122223333:oidc-provider/other.example");
        }),
        ("of type `AWSAccount`", |r| r["userIdentity"]["type"] = json!("AWSAccount")),
        ("source identity", |r| r["responseElements"]["sourceIdentity"] = json!("somebody")),
        ("tags are not", |r| r["requestParameters"]["principalTags"] = json!({"lease": "another"})),
        ("providerId", |r| r["requestParameters"]["providerId"] = json!("www.amazon.com")),
        ("external id", |r| r["requestParameters"]["externalId"] = json!("x")),
    ];
    for (says, change) in bad {
        let (kinds, what) = of(change);
        assert_eq!(kinds, ["other_request"], "{says}");
        assert!(what.contains(says), "{says}: {what}");
    }
    let good: [Change; 4] = [
        |_| {},
        |r| r["responseElements"]["sourceIdentity"] = Value::Null,
        |r| r["userIdentity"]["identityProvider"] = Value::Null,
        |r| {
            r["requestParameters"]["principalTags"] = json!({"agent": "fixer", "grant": super::world::GRANT,
                "lease": super::world::EXECUTE, "phase": "execute", "action": "reboot-instance",
                "p_instance": "i-0a1b2c3d4e5f60718"});
        },
    ];
    for change in good {
        assert_eq!(of(change), (vec![], String::new()));
    }
}

#[test]
fn a_session_that_was_made_with_another_token_than_its_lease_says_is_no_honest_record() {
    let by_token = || std::fs::read(fixture("mint-web-identity.json")).unwrap();
    let by_role = || std::fs::read(fixture("mint.json")).unwrap();
    let other = Some("arn:aws:iam::111122223333:oidc-provider/other.example");
    for (web, mint, provider) in [(true, by_token(), other), (false, by_role(), Some(PROVIDER))] {
        let report = minted(web, mint, provider);
        assert!(!kinds(&report).is_empty() && kinds(&report).iter().all(|kind| *kind == "other_federation"));
    }
    // Of a grant that was not read, or does not hold, nobody knows whose token it takes.
    for world in [World { unread: true, ..World::new() }, World { other_grant: true, ..World::new() }] {
        let world = World { web: true, ..world };
        assert_eq!(kinds(&minted_in(&world, by_token(), Some(PROVIDER))), Vec::<&str>::new());
    }
    // Old records say nothing of it.
    assert_eq!(kinds(&minted(true, by_token(), None)), Vec::<&str>::new());
}
