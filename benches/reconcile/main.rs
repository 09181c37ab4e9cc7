//! What reading a trail costs: so many records, of which one in fifty is about a lease of ours, cut and judged in one pass.
//! Prints records and bytes a second, beside what it costs to read the same kind of bytes as JSON and do nothing with them, and
//! the most memory the process held until then.
//!
//! ```text
//! cargo bench --bench reconcile
//! cargo bench --bench reconcile -- --records 100000 --leases 100
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::time::Instant;

use clap::Parser as _;
use phasebroker::domain::digest::Digest;
use phasebroker::domain::id::{LeaseId, RunId};
use phasebroker::domain::time::Timestamp;
use phasebroker::reconcile::{Expected, Minted, SETTLE_SECONDS, Scope, Signed, Splitter, Trail};

const NOW: Timestamp = Timestamp::from_seconds(1_795_000_000);
const ROLE: &str = "arn:aws:iam::111122223333:role/phasebroker-observe";

/// What reading a trail costs.
#[derive(Debug, clap::Parser)]
struct Args {
    /// Records.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// AWS leases in the ledger.
    #[arg(long, default_value_t = 10_000)]
    leases: u64,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn lease(number: u64) -> Expected {
    Expected {
        lease: LeaseId::generate(NOW),
        run: RunId::generate(NOW),
        grant: None,
        phase: "observe".into(),
        agent: "fixer".into(),
        role: ROLE.into(),
        sent: Digest::of(b"policy"),
        grant_digest: None,
        opened_at: NOW,
        not_after: NOW.plus(900),
        minted: Minted::Key { id: format!("ASIA{number:016}"), released: true },
        ended: None,
        effective_by: None,
        signed: Signed::Nobody,
    }
}

/// A record of the usual length: of a lease of ours, or of somebody else.
fn record(number: u64, ours: Option<&Expected>) -> String {
    let (key, session, role) = match ours {
        Some(one) => (one.access_key().unwrap().to_owned(), one.session(), ROLE),
        None => (format!("ASIAOTHER{number:011}"), "worker".into(), "arn:aws:iam::111122223333:role/other"),
    };
    let at = NOW.plus(i64::try_from(number % 600).unwrap());
    format!(
        r#"{{"eventVersion":"1.11","userIdentity":{{"type":"AssumedRole","principalId":"AROAEXAMPLE:{session}","arn":"arn:aws:sts::111122223333:assumed-role/r/{session}","accountId":"111122223333","accessKeyId":"{key}","sessionContext":{{"sessionIssuer":{{"type":"Role","principalId":"AROAEXAMPLE","arn":"{role}","accountId":"111122223333","userName":"r"}},"attributes":{{"creationDate":"{NOW}","mfaAuthenticated":"false"}},"sourceIdentity":"fixer"}}}},"eventTime":"{at}","eventSource":"ec2.amazonaws.com","eventName":"DescribeInstances","awsRegion":"eu-central-1","sourceIPAddress":"192.0.2.10","userAgent":"aws-sdk-rust/1.3.9 os/linux lang/rust/1.95.0","requestParameters":{{"maxResults":1000,"instancesSet":{{}},"filterSet":{{"items":[{{"name":"tag:service","valueSet":{{"items":[{{"value":"checkout"}}]}}}}]}}}},"responseElements":null,"requestID":"00000000-0000-4000-8000-{number:012}","eventID":"10000000-0000-4000-8000-{number:012}","readOnly":true,"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"111122223333","eventCategory":"Management","tlsDetails":{{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256","clientProvidedHostHeader":"ec2.eu-central-1.amazonaws.com"}}}}"#
    )
}

/// A file as CloudTrail delivers it.
fn file(numbers: std::ops::Range<u64>, leases: &[Expected]) -> String {
    let ours = |at: u64| {
        leases.get(usize::try_from(at / 50).unwrap() % leases.len()).filter(|_| at.is_multiple_of(50))
    };
    let made: Vec<String> = numbers.map(|at| record(at, ours(at))).collect();
    format!("{{\"Records\":[{}]}}", made.join(","))
}

/// Seconds that plain serde_json takes for a byte of such files.
fn plain_json(leases: &[Expected]) -> f64 {
    let (mut spent, mut bytes) = (0.0, 0.0);
    for first in (0..100_000).step_by(2_000) {
        let file = file(first..first + 2_000, leases);
        let begun = Instant::now();
        drop(serde_json::from_slice::<serde_json::Value>(file.as_bytes()).unwrap());
        spent += begun.elapsed().as_secs_f64();
        bytes += file.len() as f64;
    }
    spent / bytes
}

/// Most memory the process ever held, in MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1_024
}

fn main() {
    let args = Args::parse();
    let leases: Vec<Expected> = (0..args.leases).map(lease).collect();
    let names = leases.clone();
    let mut trail = Trail::new(leases, [], Scope::default());
    let before = peak_mib();
    let (mut splitter, mut bytes, mut spent) = (Splitter::default(), 0_u64, 0.0);
    let mut number = 0;
    while number < args.records {
        // Its making is not measured.
        let until = args.records.min(number + 2_000);
        let file = file(number..until, &names);
        let begun = Instant::now();
        for piece in file.as_bytes().chunks(1 << 18) {
            splitter.feed(piece, &mut |record| trail.take(record)).unwrap();
        }
        splitter.end().unwrap();
        spent += begun.elapsed().as_secs_f64();
        bytes += u64::try_from(file.len()).unwrap();
        number = until;
    }
    let begun = Instant::now();
    let report = trail.finish(NOW.plus(10_000), SETTLE_SECONDS);
    assert_eq!((report.records, report.unreadable), (args.records, 0));
    assert_eq!((report.ours, report.incidents.len()), (args.records.div_ceil(50), 0));
    let (judged, peak) = (begun.elapsed().as_secs_f64(), peak_mib());
    println!(
        "{} records ({} MiB) in {spent:.1} s: {:.0} records/s, {:.1} MiB/s, {:.2} of the time that plain serde_json takes; {} leases judged in {judged:.2} s; peak memory {peak} MiB, {before} of them before the first record",
        report.records,
        bytes >> 20,
        report.records as f64 / spent,
        bytes as f64 / 1_048_576.0 / spent,
        spent / bytes as f64 / plain_json(&names),
        report.leases.len(),
    );
}
