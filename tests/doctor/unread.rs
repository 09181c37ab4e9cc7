//! What IAM does not say is never taken for "fine", and doctor ends all the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_sts::config::{Credentials, SharedCredentialsProvider};
use phasebroker::broker::ports::Clock;
use phasebroker::doctor::*;
use phasebroker::domain::time::Timestamp;
use phasebroker::providers::aws::{AwsSettings, Identity, InspectSettings, inspect};

use crate::account::expected;
use crate::double::{Double, Iam};

struct Still;

impl Clock for Still {
    fn wall(&self) -> Timestamp {
        Timestamp::from_seconds(1_700_000_000)
    }
    fn since_boot(&self) -> i64 {
        0
    }
}

async fn read(double: &Double, patience: u64) -> Seen {
    phasebroker::authn::install_crypto();
    let keys = Credentials::new("AKIA", "x", None, None, "test");
    let identity = Identity::Given(SharedCredentialsProvider::new(keys));
    let aws = AwsSettings {
        sts_endpoint: Some(double.url.clone()),
        iam_endpoint: Some(double.url.clone()),
        ..AwsSettings::new("eu-central-1", identity.clone(), identity.clone())
    };
    let settings = InspectSettings {
        aws,
        doctor: identity,
        doctor_is_own: true,
        probe: None,
        cloudtrail_endpoint: Some(double.url.clone()),
        endpoints: Endpoints::default(),
        patience: Duration::from_secs(patience),
    };
    inspect(&settings, &expected(), Arc::new(Still)).await
}

fn unread(seen: &Seen) -> Vec<String> {
    let report = examine(&expected(), seen);
    assert_ne!(report.worst(), None);
    let roles = report.findings.iter().filter(|finding| finding.check == "role");
    roles
        .map(|finding| {
            assert_eq!(finding.severity, Severity::CouldNotCheck, "{finding:?}");
            finding.evidence.clone()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_read_is_tried_again() {
    let double = Double::start(Iam::Throttles(2)).await;
    let seen = read(&double, 60).await;
    assert!(seen.roles.values().all(|role| *role == Read::Absent), "{:?}", seen.roles);
    assert!(double.calls() > 5, "{}", double.calls());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_iam_that_throttles_on_hangs_or_denies_is_told_as_unread_in_bounded_time() {
    for (iam, named) in
        [(Iam::Throttles(u32::MAX), "Throttling"), (Iam::Hangs, "patience"), (Iam::Denies, "AccessDenied")]
    {
        let double = Double::start(iam).await;
        let begun = Instant::now();
        let roles = unread(&read(&double, 6).await);
        assert!(begun.elapsed() < Duration::from_secs(20), "{iam:?}: {:?}", begun.elapsed());
        assert_eq!(roles.len(), 3, "{iam:?}: {roles:?}");
        let told = |text: &String| text.contains(named) || text.contains("patience");
        assert!(roles.iter().all(told), "{iam:?}: {roles:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_about_another_role_is_no_answer() {
    let double = Double::start(Iam::Lies).await;
    let roles = unread(&read(&double, 30).await);
    assert!(roles.len() == 3 && roles.iter().all(|text| text.contains("role/other")), "{roles:?}");
}
