//! The verdict of a lease.

use phasebroker::reconcile::{SETTLE_SECONDS, Scope, Verdict};
use serde_json::Value;

use super::world::{World, at, changed, execute, fixture, kinds, mint_of, observe, policy};

const WHOLE: [&str; 3] = ["mint.json", "reboot.json", "later.json"];

fn with(file: &str) -> Vec<&str> {
    WHOLE.into_iter().chain([file]).collect()
}

#[test]
fn what_was_approved_and_done_matches() {
    let report = World::new().judge(&WHOLE);
    let lease = execute(&report);
    assert_eq!((lease.verdict, lease.calls, lease.denied), (Verdict::Matched, 2, 0), "{lease:?}");
    assert_eq!((kinds(&report), lease.findings.len()), (vec![], 0));
    assert_eq!((report.records, report.ours), (5, 3));
    assert!(report.is_good());
}

#[test]
fn another_resource_or_another_action_is_an_extra_call() {
    for (file, says) in
        [("extra-resource.json", "i-00000000000000bad"), ("extra-action.json", "no approved action")]
    {
        let report = World::new().judge(&with(file));
        let lease = execute(&report);
        assert_eq!(lease.verdict, Verdict::ExtraCall, "{file}");
        assert!(lease.findings[0].what.contains(says), "{:?}", lease.findings);
        assert!(lease.findings[0].event.is_some() && !report.is_good());
    }
}

#[test]
fn a_refused_attempt_is_shown_and_is_no_extra_call() {
    for (file, says) in
        [("denied.json", "did not go through"), ("denied-approved.json", "which was approved")]
    {
        let report = World::new().judge(&with(file));
        let lease = execute(&report);
        assert_eq!((lease.verdict, lease.denied), (Verdict::DeniedAttempt, 1), "{file}");
        assert!(lease.findings[0].what.contains(says), "{:?}", lease.findings);
        assert!(report.is_good(), "{report:?}");
    }
}

#[test]
fn a_refusal_after_the_end_proves_the_end_and_is_no_finding() {
    let report = World::new().judge(&with("refused-after-end.json"));
    let lease = execute(&report);
    assert_eq!((lease.verdict, lease.findings.len()), (Verdict::Matched, 0));
    // 01:01:20 at AWS, whose clock is a second ahead; it ended at 01:01:00.
    assert_eq!(lease.refused_after_end_seconds, Some(19));
    assert_eq!(execute(&World::new().judge(&WHOLE)).refused_after_end_seconds, None);
}

#[test]
fn a_use_after_the_end_is_late_and_the_same_use_before_it_is_not() {
    let report = World::new().judge(&with("late.json"));
    let lease = execute(&report);
    assert_eq!(lease.verdict, Verdict::LateUse);
    assert!(lease.findings[0].what.contains("29 s after the end"), "{:?}", lease.findings);
    let alive = World { completed: false, ..World::new() };
    assert_eq!(execute(&alive.judge(&with("late.json"))).verdict, Verdict::Matched);
    // Its own deadline ends it, too: 01:02:01 at AWS, and two seconds for whole-second clocks.
    let moved = |time: &str| changed("late.json", |record| record["eventTime"] = Value::from(time));
    for (time, verdict) in
        [("2026-11-26T01:02:03Z", Verdict::Matched), ("2026-11-26T01:02:04Z", Verdict::LateUse)]
    {
        let read = |name| std::fs::read(fixture(name)).unwrap();
        let files = [read("mint.json"), moved(time), read("later.json")];
        assert_eq!(execute(&alive.judge_bytes(&files)).verdict, verdict, "{time}");
    }
}

#[test]
fn no_use_is_said_only_where_the_trail_would_have_told() {
    let world = World::new();
    assert_eq!(execute(&world.judge(&["mint.json", "later.json"])).verdict, Verdict::NoUse);
    // A gap: the mint is missing, or the records end before the lease does.
    assert_eq!(execute(&world.judge(&["later.json"])).verdict, Verdict::Unobservable);
    assert_eq!(execute(&world.judge(&["mint.json"])).verdict, Verdict::Unobservable);
    assert!(world.judge(&["later.json"]).is_good());
}

#[test]
fn data_events_are_off_by_default_so_their_absence_says_nothing() {
    let reads = policy("s3:GetObject", "arn:aws:s3:::shop/prices.json");
    let sent = reads.replace("{{not_after}}", "2026-11-26T01:02:01Z");
    let mint =
        changed("mint.json", |record| record["requestParameters"]["policy"] = Value::from(sent.clone()));
    let world = World { policy: reads, ..World::new() };
    let later = std::fs::read(fixture("later.json")).unwrap();
    let report = world.judge_bytes(&[mint, later]);
    assert_eq!((execute(&report).verdict, kinds(&report)), (Verdict::Unobservable, vec![]));
}

#[test]
fn nothing_is_said_before_cloudtrail_has_had_its_time_but_an_extra_call_is() {
    // Its hard end is 01:15:30; 900 s later it is settled.
    for (now, verdict) in [("01:30:29", Verdict::Settling), ("01:30:30", Verdict::NoUse)] {
        let world = World { now: at(now), ..World::new() };
        assert_eq!(execute(&world.judge(&["mint.json", "later.json"])).verdict, verdict, "{now}");
        assert_eq!(execute(&world.judge(&with("extra-action.json"))).verdict, Verdict::ExtraCall);
    }
}

#[test]
fn an_action_whose_record_is_not_known_is_for_a_person_and_never_a_match() {
    let unknown = policy("quantum:Entangle", "*");
    let sent = unknown.replace("{{not_after}}", "2026-11-26T01:02:01Z");
    let mint =
        changed("mint.json", |record| record["requestParameters"]["policy"] = Value::from(sent.clone()));
    let call = changed("late.json", |record| {
        record["eventTime"] = Value::from("2026-11-26T01:00:30Z");
        record["eventSource"] = Value::from("quantum.amazonaws.com");
        record["eventName"] = Value::from("Entangle");
    });
    let world = World { policy: unknown, ..World::new() };
    let report = world.judge_bytes(&[mint, call.clone()]);
    assert_eq!(execute(&report).verdict, Verdict::NeedsReview);
    assert!(!report.is_good());
    // Where every approved action is known, a record that none of them leaves is extra.
    let known = World::new().judge_bytes(&[std::fs::read(fixture("mint.json")).unwrap(), call]);
    assert_eq!(execute(&known).verdict, Verdict::ExtraCall);
}

#[test]
fn a_record_that_does_not_say_what_it_touched_is_for_a_person() {
    let silent = changed("late.json", |record| {
        record["eventTime"] = Value::from("2026-11-26T01:00:30Z");
        record["requestParameters"] = Value::Null;
    });
    let report = World::new().judge_bytes(&[std::fs::read(fixture("mint.json")).unwrap(), silent]);
    assert_eq!(execute(&report).verdict, Verdict::NeedsReview);
}

#[test]
fn a_mint_without_a_policy_in_its_record_is_for_a_person() {
    let mint = changed("mint.json", |record| {
        record["requestParameters"].as_object_mut().unwrap().remove("policy");
    });
    let report = World::new().judge_bytes(&[mint, std::fs::read(fixture("reboot.json")).unwrap()]);
    let lease = execute(&report);
    assert_eq!(lease.verdict, Verdict::NeedsReview);
    assert!(lease.findings[0].what.contains("no session policy"), "{:?}", lease.findings);
}

#[test]
fn a_grant_that_its_intent_does_not_name_approves_nothing() {
    let report = World { other_grant: true, ..World::new() }.judge(&WHOLE);
    let lease = execute(&report);
    assert_eq!(lease.verdict, Verdict::NeedsReview);
    assert!(lease.findings[0].what.contains("not the one that its intent names"), "{:?}", lease.findings);
}

#[test]
fn an_observe_lease_is_judged_by_the_policy_whose_digest_the_ledger_holds() {
    let report = World::new().judge(&["observe.jsonl", "observe-mint.json", "later.json"]);
    let lease = observe(&report);
    assert_eq!((lease.verdict, lease.calls), (Verdict::Matched, 2), "{lease:?}");
    // Without the mint, nobody knows what it was allowed.
    let lease = observe(&World::new().judge(&["observe.jsonl", "later.json"])).clone();
    assert_eq!(lease.verdict, Verdict::NeedsReview);
}

#[test]
fn order_and_repetition_of_records_change_nothing() {
    let world = World::new();
    let once = world.judge(&[
        "mint.json",
        "reboot.json",
        "denied.json",
        "observe-mint.json",
        "observe.jsonl",
        "later.json",
    ]);
    let mixed = world.judge(&[
        "later.json",
        "observe.jsonl",
        "denied.json",
        "reboot.json",
        "mint.json",
        "observe-mint.json",
    ]);
    assert_eq!((&once.leases, &once.incidents), (&mixed.leases, &mixed.incidents));
    let twice = world.judge(&["mint.json", "reboot.json", "reboot.json", "mint.json", "later.json"]);
    assert_eq!(execute(&twice), execute(&world.judge(&WHOLE)));
    assert_eq!((twice.duplicates, twice.is_good()), (3, true));
}

#[test]
fn what_lies_before_since_or_in_another_run_is_not_judged() {
    let since = Scope { since: Some(at("01:10:00")), records_from: Some(at("01:10:00")), run: None };
    let report = World { scope: since, ..World::new() }.judge(&with("extra-action.json"));
    // The observe lease could be used until 01:05:30.
    assert_eq!((report.leases.len(), report.ours), (1, 0));
    let other = Scope { run: Some("01KB00000000000000000000R2".parse().unwrap()), ..Scope::default() };
    let report = World { scope: other, ..World::new() }.judge(&with("extra-action.json"));
    assert_eq!(report.leases, []);
    let mine = Scope { run: Some(super::world::RUN.parse().unwrap()), ..Scope::default() };
    assert_eq!(World { scope: mine, ..World::new() }.judge(&WHOLE).leases.len(), 2);
}

#[test]
fn whoever_looks_again_at_the_time_of_the_last_look_misses_no_lease_and_no_call() {
    // At 01:10 the observe lease, over since 01:05:30, had not settled; the calls of the other lie before and after.
    let again = Scope::not_settled_at(at("01:10:00"), SETTLE_SECONDS);
    let report = World { scope: again, ..World::new() }.judge(&WHOLE);
    assert_eq!(report.leases, World::new().judge(&WHOLE).leases);
    let settled = Scope::not_settled_at(at("03:00:00"), SETTLE_SECONDS);
    assert_eq!(World { scope: settled, ..World::new() }.judge(&WHOLE).leases, []);
}

#[test]
fn a_lease_that_lived_in_hours_of_which_no_file_came_is_not_said_to_be_unused() {
    let file =
        |region: &str, time: &str| format!("111122223333_CloudTrail_{region}_20261126T{time}Z_aBcD.json.gz");
    let judge = |names: &[String]| World::new().judge_as(&["mint.json", "later.json"], names);
    let both = [file("eu-central-1", "0105"), file("eu-central-1", "0405")];
    let report = judge(&both);
    assert_eq!((execute(&report).verdict, execute(&report).hours_missing), (Verdict::NoUse, false));
    assert_eq!(report.gaps.len(), 1);
    for names in [
        [file("eu-central-1", "0305"), file("eu-central-1", "0405")],
        [file("us-east-1", "0105"), file("us-east-1", "0405")],
    ] {
        let report = judge(&names);
        assert_eq!((execute(&report).verdict, execute(&report).hours_missing), (Verdict::Unobservable, true));
    }
    // Names that say nothing hold nothing against it.
    let report = judge(&["a.json".into(), "b.json".into()]);
    assert_eq!((execute(&report).verdict, report.unnamed_files), (Verdict::NoUse, 2));
}

#[test]
fn the_end_of_another_region_is_not_that_of_the_session() {
    let elsewhere = changed("later.json", |record| record["awsRegion"] = Value::from("us-east-1"));
    let mint = std::fs::read(fixture("mint.json")).unwrap();
    let report = World::new().judge_bytes(&[mint, elsewhere]);
    assert_eq!(execute(&report).verdict, Verdict::Unobservable);
}

#[test]
fn an_approved_call_in_another_region_or_by_a_name_of_another_account_is_extra() {
    let moved = changed("reboot.json", |record| record["awsRegion"] = Value::from("us-east-1"));
    let report = World::new().judge_bytes(&[std::fs::read(fixture("mint.json")).unwrap(), moved]);
    assert_eq!(execute(&report).verdict, Verdict::ExtraCall);
    assert!(execute(&report).findings[0].what.contains("ec2:us-east-1:"), "{report:?}");
}

#[test]
fn clocks_that_are_minutes_apart_make_nobody_late() {
    let call =
        |file: &str, time: &'static str| changed(file, move |record| record["eventTime"] = Value::from(time));
    // AWS's clock is 100 s ahead: the deadline of 01:02:00 is 01:03:40 there, and two seconds for whole-second clocks.
    let ahead = World { deadline: "2026-11-26T01:03:40Z", completed: false, ..World::new() };
    let of = |time| execute(&ahead.judge_bytes(&[call("late.json", time)])).verdict;
    assert_eq!(
        (of("2026-11-26T01:03:42Z"), of("2026-11-26T01:03:43Z")),
        (Verdict::Unobservable, Verdict::LateUse)
    );
    // Behind by as much: what is late there was long late here.
    let behind = World { deadline: "2026-11-26T01:00:20Z", completed: false, ..World::new() };
    let of = |time| execute(&behind.judge_bytes(&[call("late.json", time)])).verdict;
    assert_eq!(
        (of("2026-11-26T01:00:22Z"), of("2026-11-26T01:00:23Z")),
        (Verdict::Unobservable, Verdict::LateUse)
    );
    // Of a session that nobody signed, the clock is not known; what may be either is not called late.
    let mint = std::fs::read(fixture("observe-mint.json")).unwrap();
    let of = |time: &'static str| {
        let mut lines = std::fs::read_to_string(fixture("observe.jsonl")).unwrap();
        let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        let mut late = first;
        late["eventTime"] = Value::from(time);
        lines = late.to_string();
        let later = std::fs::read(fixture("later.json")).unwrap();
        observe(&World::new().judge_bytes(&[mint.clone(), lines.into_bytes(), later])).verdict
    };
    assert_eq!(
        (of("2026-11-26T01:07:02Z"), of("2026-11-26T01:07:03Z")),
        (Verdict::Matched, Verdict::LateUse)
    );
}

#[test]
fn a_failure_that_may_hide_an_effect_is_for_a_person_and_a_mistaken_call_is_not() {
    let failing = |file: &str, code: &'static str| {
        let failed = changed(file, move |record| record["errorCode"] = Value::from(code));
        let mint = std::fs::read(fixture("mint.json")).unwrap();
        execute(&World::new().judge_bytes(&[mint, failed])).verdict
    };
    for (code, verdict) in [
        ("Server.InternalError", Verdict::NeedsReview),
        ("Client.InvalidInstanceID.NotFound", Verdict::DeniedAttempt),
    ] {
        assert_eq!(failing("extra-action.json", code), verdict, "{code}");
    }
    // After its end, a failure that is no refusal leaves open whether AWS still took the credential.
    assert_eq!(failing("late.json", "Client.InvalidInstanceID.NotFound"), Verdict::NeedsReview);
    assert_eq!(failing("late.json", "Client.UnauthorizedOperation"), Verdict::Unobservable);
}

/// What kept it from being matched.
fn unsure(world: &World, files: &[Vec<u8>]) -> (Verdict, Vec<&'static str>) {
    let report = world.judge_bytes(files);
    let lease = execute(&report);
    (lease.verdict, lease.unsure.clone())
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

#[test]
fn matched_is_said_only_where_the_trail_would_have_told_more() {
    let of = |names: &[&str]| unsure(&World::new(), &names.iter().map(|name| read(name)).collect::<Vec<_>>());
    assert_eq!(of(&WHOLE), (Verdict::Matched, vec![]));
    assert_eq!(of(&["reboot.json", "later.json"]), (Verdict::Unobservable, vec!["no record of its mint"]));
    assert_eq!(
        of(&["mint.json", "reboot.json"]),
        (Verdict::Unobservable, vec!["the records end before it did"])
    );
    let file = |time: &str| format!("111122223333_CloudTrail_eu-central-1_20261126T{time}Z_aBcD.json.gz");
    let names = |time| World::new().judge_as(&WHOLE, &[file(time), file("0405")]);
    assert_eq!(execute(&names("0105")).verdict, Verdict::Matched);
    assert_eq!(execute(&names("0305")).unsure, ["hours are missing"]);
    assert_eq!(execute(&names("0305")).verdict, Verdict::Unobservable);
}

#[test]
fn an_action_that_no_trail_need_tell_keeps_a_lease_from_matched_until_one_of_its_records_is_there() {
    let both =
        policy("ec2:RebootInstances", "arn:aws:ec2:eu-central-1:111122223333:instance/i-0a1b2c3d4e5f60718");
    let read_too =
        r#"{"Effect":"Allow","Action":["s3:GetObject"],"Resource":["arn:aws:s3:::shop/prices.json"]},"#;
    let both = both.replacen(r#"{"Effect":"Deny""#, &format!(r#"{read_too}{{"Effect":"Deny""#), 1);
    let world = World { policy: both.clone(), ..World::new() };
    let mut all = vec![mint_of(&both), read("reboot.json"), read("later.json")];
    let found = unsure(&world, &all);
    assert_eq!(found, (Verdict::Unobservable, vec!["records of its actions need not be there"]));
    all.push(changed("late.json", |record| {
        record["eventTime"] = Value::from("2026-11-26T01:00:31Z");
        record["eventSource"] = Value::from("s3.amazonaws.com");
        record["eventName"] = Value::from("GetObject");
        record["requestParameters"] = serde_json::json!({"bucketName": "shop", "key": "prices.json"});
        record["responseElements"] = Value::Null;
    }));
    assert_eq!(unsure(&world, &all), (Verdict::Matched, vec![]));
}

#[test]
fn a_call_that_needs_no_permission_is_no_use() {
    let free = changed("reboot.json", |record| {
        record["eventSource"] = Value::from("sts.amazonaws.com");
        record["eventName"] = Value::from("GetCallerIdentity");
        record["requestParameters"] = Value::Null;
    });
    let report = World::new().judge_bytes(&[read("mint.json"), free, read("later.json")]);
    assert_eq!((execute(&report).verdict, execute(&report).calls), (Verdict::NoUse, 2));
    assert_eq!(execute(&World::new().judge(&WHOLE)).verdict, Verdict::Matched);
}

#[test]
fn what_a_global_service_does_is_told_in_the_home_of_its_partition() {
    let detach = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:DetachRolePolicy"],"Resource":["arn:aws:iam::111122223333:role/app"],"Condition":{"ArnEquals":{"iam:PolicyARN":["arn:aws:iam::111122223333:policy/wide"]}}},{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"DateGreaterThanEquals":{"aws:CurrentTime":"{{not_after}}"}}}]}"#;
    let world = World { policy: detach.into(), ..World::new() };
    let call = changed("late.json", |record| {
        record["eventTime"] = Value::from("2026-11-26T01:00:30Z");
        record["eventSource"] = Value::from("iam.amazonaws.com");
        record["eventName"] = Value::from("DetachRolePolicy");
        record["awsRegion"] = Value::from("us-east-1");
        record["requestParameters"] =
            serde_json::json!({"roleName": "app", "policyArn": "arn:aws:iam::111122223333:policy/wide"});
        record["responseElements"] = Value::Null;
    });
    let home = changed("later.json", |record| record["awsRegion"] = Value::from("us-east-1"));
    let here = read("later.json");
    let of = |last: &Vec<u8>| unsure(&world, &[mint_of(detach), call.clone(), last.clone()]);
    assert_eq!(of(&home), (Verdict::Matched, vec![]));
    assert_eq!(of(&here), (Verdict::Unobservable, vec!["the records end before it did"]));
    // And silence is silence there alone.
    assert_eq!(unsure(&world, &[mint_of(detach), home]).0, Verdict::NoUse);
    assert_eq!(unsure(&world, &[mint_of(detach), here]).0, Verdict::Unobservable);
}

#[test]
fn a_record_that_cannot_be_read_and_names_a_session_of_ours_is_for_a_person() {
    let bad = |name: &str| changed(name, |record| record["eventTime"] = Value::from(7));
    let judge = |more: Vec<u8>| {
        let mut all: Vec<Vec<u8>> = WHOLE.iter().map(|name| read(name)).collect();
        all.push(more);
        World::new().judge_bytes(&all)
    };
    let report = judge(bad("late.json"));
    let lease = execute(&report);
    assert_eq!((lease.verdict, lease.named_only, report.unreadable), (Verdict::NeedsReview, true, 1));
    // Of somebody else, even one who writes our names into a request, it is counted and held against nobody.
    let report = judge(bad("later.json"));
    assert_eq!((execute(&report).verdict, report.unreadable), (Verdict::Matched, 1));
    let named = changed("later.json", |record| {
        record["eventTime"] = Value::from(7);
        record["requestParameters"] = serde_json::json!({"note": "execute-01KB0000000000000000000001"});
    });
    assert_eq!(execute(&judge(named)).verdict, Verdict::Matched);
    // One without measure is looked at as far as it is kept, and one that is no JSON by its words.
    let long = changed("late.json", |record| record["z"] = Value::from("x".repeat(1_100_000)));
    assert_eq!(execute(&judge(long)).verdict, Verdict::NeedsReview);
    let broken = String::from_utf8(read("late.json")).unwrap().replace("\"eventTime\": ", "\"eventTime\" ");
    assert_eq!(execute(&judge(broken.into_bytes())).verdict, Verdict::NeedsReview);
}

#[test]
fn what_is_refused_after_the_end_and_had_never_been_approved_is_an_attempt_and_proves_no_end() {
    let refused = |file: &str| {
        changed(file, |record| {
            record["eventTime"] = Value::from("2026-11-26T01:01:20Z");
            record["eventID"] = Value::from("after the end");
        })
    };
    let judge = |more: Vec<u8>| {
        let mut all: Vec<Vec<u8>> = WHOLE.iter().map(|name| read(name)).collect();
        all.push(more);
        let report = World::new().judge_bytes(&all);
        (execute(&report).verdict, execute(&report).refused_after_end_seconds)
    };
    assert_eq!(judge(refused("denied.json")), (Verdict::DeniedAttempt, None));
    assert_eq!(judge(refused("denied-approved.json")), (Verdict::Matched, Some(19)));
    let other = refused("denied-approved.json");
    let other = String::from_utf8(other).unwrap().replace("i-0a1b2c3d4e5f60718", "i-00000000000000bad");
    assert_eq!(judge(other.into_bytes()), (Verdict::DeniedAttempt, None));
}

#[test]
fn what_was_approved_and_nothing_enforces_must_be_shown_by_a_record() {
    let world = World { unenforced: vec!["instance".into()], ..World::new() };
    let report = world.judge(&WHOLE);
    let lease = execute(&report);
    assert_eq!((lease.verdict, lease.named_only), (Verdict::NeedsReview, false));
    assert!(lease.findings[0].what.contains("no record shows `instance`"), "{:?}", lease.findings);
    assert_eq!(execute(&world.judge(&["mint.json", "later.json"])).verdict, Verdict::NoUse);
}

#[test]
fn a_call_that_says_more_than_is_known_of_such_calls_is_for_a_person() {
    let more = changed("reboot.json", |record| {
        if record["eventName"] == "RebootInstances" {
            record["requestParameters"]["enableSomething"] = Value::from(true);
        }
    });
    let report = World::new().judge_bytes(&[read("mint.json"), more, read("later.json")]);
    let lease = execute(&report);
    assert_eq!(lease.verdict, Verdict::NeedsReview);
    assert!(lease.findings[0].what.contains("enableSomething"), "{:?}", lease.findings);
}

/// A policy with a canary, the record of its mint, and a call of the canary at this time of AWS's clock.
fn with_canary(time: &str) -> (World, [Vec<u8>; 3]) {
    let plain = World::new().policy;
    let deny = r#"{"Effect":"Deny""#;
    let canary = phasebroker::domain::sent::CANARY_STATEMENT;
    let signed = plain.replacen(deny, &format!("{canary},{deny}"), 1);
    let sent = signed.replace("{{not_after}}", "2026-11-26T01:02:01Z");
    let mint =
        changed("mint.json", |record| record["requestParameters"]["policy"] = Value::from(sent.clone()));
    let call = changed("late.json", |record| {
        record["eventTime"] = Value::from(time);
        record["eventName"] = "DescribeRegions".into();
        record["requestParameters"] =
            serde_json::json!({"regionSet": {"items": [{"regionName": "eu-central-1"}]}});
        record["readOnly"] = true.into();
    });
    let later = std::fs::read(fixture("later.json")).unwrap();
    (World { policy: signed, ..World::new() }, [mint, call, later])
}

/// The same records, refused.
fn with_error(file: &[u8]) -> Vec<u8> {
    let mut file: Value = serde_json::from_slice(file).unwrap();
    for record in file["Records"].as_array_mut().unwrap() {
        record["errorCode"] = "Client.UnauthorizedOperation".into();
    }
    file.to_string().into_bytes()
}

#[test]
fn a_probe_does_what_was_approved_and_its_calls_after_the_end_are_no_late_use() {
    let regions = |time: &str, name: &str| {
        changed("late.json", |record| {
            record["eventTime"] = Value::from(time);
            record["eventID"] = Value::from(format!("{name} {time}"));
            record["eventName"] = name.into();
            record["requestParameters"] = serde_json::json!({"filterSet": {}, "allRegions": false,
                "regionSet": {"items": [{"regionName": "eu-central-1"}]}});
        })
    };
    let judge = |policy: &str, calls: &[Vec<u8>]| {
        let world = World { policy: policy.to_owned(), ..World::new() };
        let mut files = vec![mint_of(policy), read("later.json")];
        files.extend_from_slice(calls);
        let report = world.judge_bytes(&files);
        (execute(&report).verdict, execute(&report).calls)
    };
    let alone = policy("ec2:DescribeRegions", "*");
    let alive = regions("2026-11-26T01:00:30Z", "DescribeRegions");
    let (first, late) = (
        regions("2026-11-26T01:01:02Z", "DescribeRegions"),
        regions("2026-11-26T01:01:06Z", "DescribeRegions"),
    );
    let over = regions("2026-11-26T01:01:20Z", "DescribeRegions");
    let whole = [alive.clone(), first, late.clone(), with_error(&over)];
    assert_eq!(judge(&alone, &whole), (Verdict::Matched, 2));
    // When it had to be dead, a person looks why it was not.
    assert_eq!(judge(&alone, &[alive.clone(), over]).0, Verdict::NeedsReview);
    // The call that AWS has to refuse is shown as what it is.
    let outside = with_error(&regions("2026-11-26T01:00:31Z", "DescribeAvailabilityZones"));
    assert_eq!(judge(&alone, &[alive, outside]).0, Verdict::DeniedAttempt);
    // A session that may do more is no probe.
    let more = alone.replace(r#""ec2:DescribeRegions""#, r#""ec2:DescribeRegions","ec2:RebootInstances""#);
    assert_eq!(judge(&more, &[late]).0, Verdict::LateUse);
}

#[test]
fn the_brokers_own_canary_is_no_late_use_and_no_use_at_all() {
    // It ended at 01:01:00, in force at 01:01:10; AWS's clock is a second ahead. The first call comes a second after it.
    for time in ["2026-11-26T01:01:02Z", "2026-11-26T01:01:05Z"] {
        let (world, files) = with_canary(time);
        let [mint, call, later] = files.clone();
        let refused = with_error(&call);
        for files in [files, [mint, refused, later]] {
            let report = world.judge_bytes(&files);
            let lease = execute(&report);
            let told = (lease.verdict, lease.calls, lease.findings.len());
            assert_eq!(told, (Verdict::NoUse, 0, 0), "{time}: {lease:?}");
        }
    }
    let (_, files) = with_canary("2026-11-26T01:01:05Z");
    // Without a canary in what people signed it is a late use like any other.
    let [_, call, later] = files;
    let mint = std::fs::read(fixture("mint.json")).unwrap();
    assert_eq!(execute(&World::new().judge_bytes(&[mint, call, later])).verdict, Verdict::LateUse);
    // When the session had to be dead, a person looks why it was not; nobody blames the agent.
    let (world, files) = with_canary("2026-11-26T01:01:40Z");
    let report = world.judge_bytes(&files);
    assert_eq!(execute(&report).verdict, Verdict::NeedsReview);
    assert!(execute(&report).findings[0].what.contains("let its canary call"), "{report:?}");
}
