//! The command as an auditor types it, against the broker of `phasebroker dev`.

use std::process::Command;

use serde_json::{Value, json};

use super::world::{EXECUTE_ROLE, fixture};
use crate::dev_world::DevWorld;
use crate::peers::moto::Moto;
use crate::peers::python::python;

#[test]
fn an_auditor_is_told_of_a_session_that_the_ledger_does_not_know() {
    let world = DevWorld::start();
    let file = |name: &str| fixture(name).display().to_string();
    let (quiet, loud) = (file("later.json"), file("unrecorded-session.json"));
    let reconcile = ["audit", "reconcile", "--role", EXECUTE_ROLE, "--records"];

    let good = world.person("erin", &[&reconcile[..], &[&quiet]].concat()).ends(0);
    assert!(good.contains("nothing was done that was not approved"), "{good}");
    let bad = world.person("erin", &[&reconcile[..], &[&quiet, &loud]].concat()).ends(5);
    for part in ["INCIDENT unrecorded_session", "2026-11-26T01:30:00Z", "Do: treat the role as taken"] {
        assert!(bad.contains(part), "{part}: {bad}");
    }
    let told = world.person("erin", &[&["--json"], &reconcile[..], &[&loud]].concat()).ends(5);
    assert!(told.contains("\"ok\": false") && told.contains("\"unrecorded_session\""), "{told}");

    let catalog = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/catalog.toml");
    let catalog = catalog.display().to_string();
    let known = ["audit", "reconcile", "--catalog", &catalog, "--records", &loud];
    assert!(world.person("erin", &known).ends(5).contains("unrecorded_session"));
    // Without it, nobody has said that the role is ours.
    world.person("erin", &["audit", "reconcile", "--records", &loud]).ends(0);

    let packed = world.file("packed.json.gz", "\u{1f}\u{8}");
    let refused = world.person("erin", &[&reconcile[..], &[&packed]].concat()).ends(2);
    assert!(refused.contains("packed.json.gz"), "{refused}");
    let empty = world.file("empty.json", "{\"Records\":[]}");
    let refused = world.person("erin", &[&reconcile[..], &[&empty]].concat()).ends(2);
    assert!(refused.contains("no record"), "{refused}");
}

#[test]
fn the_records_of_a_bucket_are_those_of_the_files_in_it() {
    let (world, moto) = (DevWorld::start(), Moto::start());
    let script = r#"
import boto3, gzip, sys
url, quiet, loud = sys.argv[1:]
s3 = boto3.client("s3", endpoint_url=url, region_name="eu-central-1", aws_access_key_id="AKIATEST", aws_secret_access_key="x")
s3.create_bucket(Bucket="trail", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
name = "{0}/111122223333_CloudTrail_eu-central-1_20261126T{1}Z_{2}.json.gz"
for folder, time, file, path in [("quiet", "0105", "a", quiet), ("loud", "0105", "b", quiet), ("loud", "0405", "c", loud)]:
    body = gzip.compress(open(path, "rb").read())
    s3.put_object(Bucket="trail", Key=name.format("AWSLogs/" + folder, time, file), Body=body)
s3.put_object(Bucket="trail", Key="AWSLogs/loud/1_CloudTrail-Digest_eu-central-1_x.json.gz", Body=b"no records")
s3.put_object(Bucket="trail", Key="broken/1.json.gz", Body=gzip.compress(open(quiet, "rb").read())[:-9])
"#;
    let files = ["later.json", "unrecorded-session.json"].map(|name| fixture(name).display().to_string());
    let made = Command::new(python()).args(["-c", script, &moto.url()]).args(&files).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let keys = "[profile trail]\naws_access_key_id = AKIATEST\naws_secret_access_key = x\n";
    let profiles = world.file("aws-config", keys);
    let url = moto.url();
    let of = |prefix: &str, more: &[&str]| {
        let bucket =
            ["--json", "audit", "reconcile", "--role", EXECUTE_ROLE, "--bucket", "trail", "--prefix", prefix];
        let at = ["--region", "eu-central-1", "--endpoint", &url, "--profile", "trail"];
        world.person_with("erin", &[&bucket[..], &at, more].concat(), &[("AWS_CONFIG_FILE", &profiles)])
    };
    let good = of("AWSLogs/quiet/", &[]).json();
    assert_eq!((&good["records"], &good["ok"]), (&json!(1), &json!(true)));
    let bad: Value = serde_json::from_str(&of("AWSLogs/loud/", &[]).out_of(5)).unwrap();
    assert_eq!((&bad["records"], &bad["incidents"][0]["kind"]), (&json!(2), &json!("unrecorded_session")));
    assert_eq!(bad["files_passed_over"], json!({"beside": 1, "earlier": 0, "links": [], "all_links": 0}));
    // From 02:00 to 04:00 no file came.
    assert_eq!(bad["gaps"][0]["until"].as_i64().unwrap() - bad["gaps"][0]["from"].as_i64().unwrap(), 7_200);
    let late: Value =
        serde_json::from_str(&of("AWSLogs/loud/", &["--since", "2026-11-26T03:00:00Z"]).out_of(0)).unwrap();
    assert_eq!(late["files_passed_over"]["earlier"], 1);
    assert!(of("nothing/", &[]).ends(2).contains("no file of records"));
    assert!(of("broken/", &[]).ends(2).contains("does not unpack"));
}

#[test]
fn a_stream_is_followed_to_its_end_and_what_is_no_record_in_it_is_told() {
    let world = DevWorld::start();
    let record = |name: &str| {
        let file: Value = serde_json::from_slice(&std::fs::read(fixture(name)).unwrap()).unwrap();
        file["Records"][0].clone()
    };
    let (later, loud) = (record("later.json"), record("unrecorded-session.json"));
    let around = json!({
        "version": "0", "detail-type": "AWS API Call via CloudTrail", "source": "aws.sts", "account": "111122223333",
        "region": loud["awsRegion"], "detail": loud,
    });
    let of = |lines: &[String]| {
        let stream = world.file("stream.jsonl", &lines.join("\n"));
        world.person_reading(
            "erin",
            &["--json", "audit", "reconcile", "--role", EXECUTE_ROLE, "--records", "-"],
            &stream,
        )
    };
    let good: Value = serde_json::from_str(&of(&[later.to_string()]).out_of(0)).unwrap();
    assert_eq!((&good["records"], &good["ok"]), (&json!(1), &json!(true)));
    let ran = of(&[later.to_string(), "hello".into(), around.to_string()]);
    assert!(ran.err.contains("INCIDENT unrecorded_session"), "{ran:?}");
    let bad: Value = serde_json::from_str(&ran.out_of(5)).unwrap();
    assert_eq!((&bad["records"], &bad["unreadable"]), (&json!(3), &json!(1)));
    assert_eq!(bad["incidents"][0]["kind"], "unrecorded_session");
}

#[test]
fn what_was_found_is_written_into_the_ledger_once() {
    let world = DevWorld::start();
    let loud = fixture("unrecorded-session.json").display().to_string();
    let out = world.file("report.json", "");
    let words = [
        "--json",
        "audit",
        "reconcile",
        "--role",
        EXECUTE_ROLE,
        "--record",
        "--out",
        &out,
        "--records",
        &loud,
    ];
    let first: Value = serde_json::from_str(&world.person("olga", &words).out_of(5)).unwrap();
    assert_eq!(first["ledger"], json!({"recorded": 1, "unchanged": 0, "frozen": [], "not_written": {}}));
    let again: Value = serde_json::from_str(&world.person("olga", &words).out_of(5)).unwrap();
    assert_eq!(again["ledger"], json!({"recorded": 0, "unchanged": 1, "frozen": [], "not_written": {}}));
    // The file is what the ledger names.
    let digest = phasebroker::domain::digest::Digest::of(&std::fs::read(&out).unwrap()).to_string();
    assert_eq!(first["report"], digest.as_str());
    let log = world.json("erin", &["audit", "log", "--type", "incident.found"]);
    let events = log["events"].as_array().unwrap();
    assert_eq!(events.len(), 1, "{log}");
    let facts = &events[0]["event"]["facts"];
    assert_eq!((&facts["kind"], &facts["report"]), (&json!("unrecorded_session"), &json!(digest)));
    let report = world.json("erin", &["audit", "report"]);
    assert_eq!(report["reconciled"]["incidents"], json!({"unrecorded_session": 1}));
}

#[test]
fn a_session_on_a_shard_that_no_lease_ever_used_is_an_incident() {
    let world = DevWorld::start();
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/catalog.toml");
    let shipped = std::fs::read_to_string(shipped).unwrap();
    let role = format!("execute_role = \"{EXECUTE_ROLE}\"\n");
    let sharded = world.file("catalog.toml", &shipped.replacen(&role, &format!("{role}shards = 4\n"), 1));
    let text = std::fs::read_to_string(fixture("unrecorded-session.json")).unwrap();
    let on = |shard: &str| {
        let file = text.replace(EXECUTE_ROLE, &format!("{EXECUTE_ROLE}{shard}"));
        let file = world.file(&format!("trail{shard}.json"), &file);
        world.person("erin", &["audit", "reconcile", "--catalog", &sharded, "--records", &file])
    };
    for shard in ["", "-1", "-3"] {
        assert!(on(shard).ends(5).contains("INCIDENT unrecorded_session"), "{shard}");
    }
    on("-4").ends(0);
}
