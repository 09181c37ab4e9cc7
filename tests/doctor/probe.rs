//! `doctor probe` and `soak` as an ordinary agent of a broker that runs. AWS is a double: moto ignores session policies and
//! Deny policies, so that there a session would never be refused.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use phasebroker::domain::digest::decode;
use phasebroker::domain::grant::SealedGrant;
use phasebroker::domain::time::Timestamp;
use phasebroker::providers::aws::POLICY_NAME;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::fake_aws::{FakeAws, Regions};
use crate::process::place::Place;
use crate::process::{Running, program};

/// What lets a session make the call.
const ENTRIES: &str = r#"
[observe.canary]
provider = "aws"
environments = ["cloud"]
seconds = 300

[[observe.canary.statements]]
actions = ["ec2:DescribeRegions"]
resources = ["*"]

[actions.canary]
summary = "Ask for the name of one region"
provider = "aws"
class = "availability"
settles = "Nothing changes"
changes = 1
max_work_seconds = 120
environments = ["cloud"]
unscopable = ["ec2:DescribeRegions"]

[[actions.canary.statements]]
actions = ["ec2:DescribeRegions"]
resources = ["*"]
conditions = { StringEquals = { "aws:RequestedRegion" = ["{region}"] } }
"#;

pub(super) struct Scene {
    pub(super) aws: Arc<FakeAws>,
    pub(super) place: Place,
    _broker: Running,
    winding: tokio::task::JoinHandle<()>,
}

impl Scene {
    async fn set(regions: Regions) -> Self {
        Self::set_with(regions, "").await
    }

    /// With more entries in the catalog.
    pub(super) async fn set_with(regions: Regions, entries: &str) -> Self {
        let aws = Arc::new(FakeAws::start(now()).await);
        aws.tell_regions(regions);
        // The double's clock stands still by itself.
        let wound = aws.clone();
        let winding = tokio::spawn(async move {
            loop {
                wound.set_clock(now());
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        let place = Place::new(Some(&aws.url()));
        let catalog = std::fs::read_to_string(place.path("catalog.toml")).unwrap();
        std::fs::write(place.path("catalog.toml"), catalog + ENTRIES + entries).unwrap();
        let key = STANDARD.encode(place.keys.of("fixer").to_pkcs8().unwrap().as_slice());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n");
        std::fs::write(place.path("fixer.pem"), pem).unwrap();
        std::fs::set_permissions(place.path("fixer.pem"), PermissionsExt::from_mode(0o600)).unwrap();
        let broker = place.serve().await;
        Self { aws, place, _broker: broker, winding }
    }

    pub(super) fn doctor(&self, command: &str, more: &[&str]) -> Child {
        Command::new(program())
            .args(["doctor", command, "--json", "--agent", "fixer", "--environment", "cloud"])
            .args(["--broker", &self.place.url, "--ec2-endpoint", &self.aws.url(), "--key"])
            .arg(self.place.path("fixer.pem"))
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    async fn report(&self, command: &str, more: &[&str]) -> (Value, Option<i32>) {
        read(self.doctor(command, more)).await
    }

    /// The report of a child that waits for signatures, once bob has signed.
    pub(super) async fn signed_by_bob(&self, mut child: Child) -> (Value, Option<i32>) {
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let grant = loop {
            let line = lines.next_line().await.unwrap().expect("doctor waits for signatures");
            if let Some((before, _)) = line.split_once(" waits for signatures") {
                break before.rsplit(' ').next().unwrap().to_owned();
            }
        };
        assert_eq!(self.aws.minted(), 0, "nothing before the signature");
        let (status, document) = self.place.get_as("bob", &format!("/v1/grants/{grant}/document")).await;
        assert_eq!(status, 200, "{document}");
        let sealed = SealedGrant::parse(&decode(document["document"].as_str().unwrap()).unwrap()).unwrap();
        let token = json!({"token": self.place.approval("bob", &sealed)});
        let (status, answer) = self.place.post(&format!("/v1/grants/{grant}/approvals"), None, &token).await;
        assert_eq!(status, 200, "{answer}");
        read(child).await
    }

    /// Kinds of the events of a lease, oldest first.
    async fn life(&self, lease: &Value) -> Vec<String> {
        let life = self.place.life(lease.as_str().unwrap().parse().unwrap()).await;
        life.into_iter().map(|(kind, _)| kind).filter(|kind| kind.starts_with("lease.")).collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.winding.abort();
    }
}

fn now() -> Timestamp {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    Timestamp::from_seconds(i64::try_from(seconds).unwrap())
}

async fn read(child: Child) -> (Value, Option<i32>) {
    let output = child.wait_with_output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{told}"));
    (report, output.status.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_is_an_ordinary_run_and_measures_until_aws_refuses() {
    let scene = Scene::set(Regions::UntilDenied(2)).await;
    let out = scene.place.path("soak.json");
    let (report, code) = scene
        .report("soak", &["--observe-set", "canary", "--times", "1", "--out", out.to_str().unwrap()])
        .await;
    assert_eq!(code, Some(0), "{report:#}");
    let probed = &report["probes"][0];
    assert_eq!(
        (&probed["allowed"], &probed["refused_with"]),
        (&json!(true), &json!("UnauthorizedOperation"))
    );
    // Twice AWS had not heard of the Deny yet.
    let took = probed["revoke_to_deny_ms"].as_u64().unwrap();
    assert!(took >= 1_000, "{report:#}");
    assert_eq!(report["revoke_to_deny_ms"], json!({"count": 1, "p50": took, "p99": took, "max": took}));
    let written: Value = serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap();
    assert_eq!(written, report);
    // The ledger holds it whole, and the Deny names its lease.
    assert_eq!(
        scene.life(&probed["lease"]).await,
        ["lease.intent", "lease.minted", "lease.released", "lease.ended"]
    );
    let deny = scene.aws.policy("observe", POLICY_NAME).unwrap();
    assert!(deny.contains(probed["lease"].as_str().unwrap()), "{deny}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_goes_on_or_never_could_is_not_called_dead() {
    let scene = Scene::set(Regions::Always).await;
    let probe = ["--observe-set", "canary", "--patience", "2"];
    let (report, code) = scene.report("probe", &probe).await;
    assert_eq!(code, Some(7), "{report:#}");
    assert_eq!(report["probes"][0]["refused_with"], Value::Null);
    scene.aws.tell_regions(Regions::Never);
    let (report, code) = scene.report("probe", &probe).await;
    assert_eq!(code, Some(6), "{report:#}");
    assert!(report["probes"][0]["could_not_tell"].as_str().unwrap().contains("from the start"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_execute_role_is_probed_only_with_a_signature() {
    let scene = Scene::set(Regions::UntilDenied(0)).await;
    let child = scene.doctor("probe", &["--observe-set", "service-status", "--action", "canary"]);
    let (report, code) = scene.signed_by_bob(child).await;
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!((&report["role"], &report["probes"][0]["allowed"]), (&json!("execute"), &json!(true)));
    let deny = scene.aws.policy("execute", POLICY_NAME).unwrap();
    assert!(deny.contains(report["probes"][0]["lease"].as_str().unwrap()), "{deny}");
}
