//! `doctor probe` and `soak` as an ordinary agent of a broker that runs. AWS is a double: moto ignores session policies and
//! Deny policies, so that there a session would never be refused.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
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

/// What the shipped catalog has for it.
fn entries() -> String {
    let text = std::fs::read_to_string(crate::repository("src/cli/doctor/probe/entries.toml")).unwrap();
    text.replace(r#"["production", "staging"]"#, r#"["cloud"]"#)
}

/// What changes who may do what is signed by two groups.
const TRUST: &str = r#"
@id("trust")
@decision("needs_approval")
@approvals("on-call: 1, data-owners: 1")
@custody("file, passkey")
@claim_seconds("3600")
@work_seconds("600")
permit (principal, action == Action::"execute", resource)
when { resource.class == Class::"trust" };
"#;
const OBSERVE_ROLE: &str = "observe_role = \"arn:aws:iam::123456789012:role/broker/observe\"\n";

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
        let trust_role = OBSERVE_ROLE.replace("observe", "trust");
        let catalog = catalog.replace(OBSERVE_ROLE, &format!("{OBSERVE_ROLE}{trust_role}"));
        std::fs::write(place.path("catalog.toml"), catalog + &self::entries() + entries).unwrap();
        let policy = std::fs::read_to_string(place.path("policy.cedar")).unwrap();
        std::fs::write(place.path("policy.cedar"), policy + TRUST).unwrap();
        let key = STANDARD.encode(place.keys.of("fixer").to_pkcs8().unwrap().as_slice());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n");
        std::fs::write(place.path("fixer.pem"), pem).unwrap();
        std::fs::set_permissions(place.path("fixer.pem"), PermissionsExt::from_mode(0o600)).unwrap();
        let broker = place.serve().await;
        Self { aws, place, _broker: broker, winding }
    }

    pub(super) fn doctor(&self, command: &str, more: &[&str]) -> Child {
        self.doctor_at(&self.place.url, command, more)
    }

    fn doctor_at(&self, broker: &str, command: &str, more: &[&str]) -> Child {
        Command::new(program())
            .args(["doctor", command, "--json", "--agent", "fixer", "--environment", "cloud"])
            .args([
                "--broker",
                broker,
                "--issuer",
                &self.place.url,
                "--ec2-endpoint",
                &self.aws.url(),
                "--key",
            ])
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

    /// Reads which grant waits for signatures, and signs it as `people` do.
    pub(super) async fn sign(&self, child: &mut Child, people: &[&str]) {
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let grant = loop {
            let line = lines.next_line().await.unwrap().expect("doctor waits for signatures");
            if let Some((before, _)) = line.split_once(" waits for signatures") {
                break before.rsplit(' ').next().unwrap().to_owned();
            }
        };
        let (status, document) = self.place.get_as("bob", &format!("/v1/grants/{grant}/document")).await;
        assert_eq!(status, 200, "{document}");
        let sealed = SealedGrant::parse(&decode(document["document"].as_str().unwrap()).unwrap()).unwrap();
        for person in people {
            let token = json!({"token": self.place.approval(person, &sealed)});
            let (status, answer) =
                self.place.post(&format!("/v1/grants/{grant}/approvals"), None, &token).await;
            assert_eq!(status, 200, "{answer}");
        }
    }

    /// Leases that nobody has ended.
    async fn open(&self) -> Vec<Value> {
        let (status, answer) = self.place.get_as("olga", "/v1/leases?open=true").await;
        assert_eq!(status, 200, "{answer}");
        answer["leases"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|lease| lease["state"] != "ended")
            .cloned()
            .collect()
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

pub(super) async fn read(child: Child) -> (Value, Option<i32>) {
    let output = child.wait_with_output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{told}"));
    (report, output.status.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_is_an_ordinary_run_and_measures_until_aws_refuses() {
    let scene = Scene::set(Regions::UntilDenied(2)).await;
    scene.aws.pack(37);
    let out = scene.place.path("soak.json");
    let (report, code) = scene.report("soak", &["--times", "2", "--out", out.to_str().unwrap()]).await;
    assert_eq!(code, Some(0), "{report:#}");
    let probed = &report["probes"][0];
    assert_eq!(
        (&probed["allowed"], &probed["refused_with"]),
        (&json!(true), &json!("UnauthorizedOperation"))
    );
    // Twice AWS had not heard of the Deny yet.
    let took = probed["revoke_to_deny_ms"].as_u64().unwrap();
    assert!(took >= 1_000, "{report:#}");
    let measured = &report["measured"][0];
    assert_eq!((&measured["role"], &measured["entry"]), (&json!("observe"), &json!("aws-canary")));
    assert_eq!(measured["revoke_to_deny_ms"]["count"], 2, "{report:#}");
    assert_eq!(measured["revoke_to_deny_ms"]["max"], took);
    assert_eq!(measured["packed_policy_percent"], json!({"count": 2, "p50": 37, "p99": 37, "max": 37}));
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
    let probe = ["--patience", "2"];
    let (report, code) = scene.report("probe", &probe).await;
    assert_eq!(code, Some(7), "{report:#}");
    assert_eq!(report["probes"][0]["refused_with"], Value::Null);
    scene.aws.tell_regions(Regions::Never);
    let (report, code) = scene.report("probe", &probe).await;
    assert_eq!(code, Some(6), "{report:#}");
    let told = report["probes"][0]["could_not_tell"].as_str().unwrap();
    assert!(told.contains("from the start") && told.contains("must let the session call"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_beyond_the_session_policy_has_to_be_refused() {
    let scene = Scene::set(Regions::UntilDenied(0)).await;
    let (report, code) = scene.report("probe", &[]).await;
    assert_eq!(
        (code, &report["probes"][0]["outside_refused_with"]),
        (Some(0), &json!("UnauthorizedOperation"))
    );
    assert_eq!(report["outside_call"], "ec2:DescribeAvailabilityZones");
    scene.aws.tell_zones(true);
    let (report, code) = scene.report("probe", &[]).await;
    assert_eq!((code, &report["probes"][0]["outside_allowed"]), (Some(7), &json!(true)), "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_near_the_sessions_own_deadline_by_awss_clock_is_not_called_a_deny() {
    // The session lives for 300 s.
    for (later, code) in [(100, 0), (280, 0), (297, 6), (400, 6)] {
        let scene = Scene::set(Regions::Later(later)).await;
        let (report, exit) = scene.report("probe", &[]).await;
        assert_eq!(exit, Some(code), "{later}: {report:#}");
        let probed = &report["probes"][0];
        assert_eq!(probed["revoke_to_deny_ms"].is_null(), code == 6, "{later}: {report:#}");
        let told = probed["could_not_tell"].as_str().unwrap_or_default();
        assert_eq!(told.contains("its own deadline"), code == 6, "{later}: {report:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_execute_role_is_probed_only_with_a_signature() {
    let scene = Scene::set(Regions::UntilDenied(0)).await;
    let mut child =
        scene.doctor("probe", &["--observe-set", "service-status", "--action", "probe-execute-role"]);
    assert_eq!(scene.aws.minted(), 0, "nothing before the signature");
    scene.sign(&mut child, &["bob"]).await;
    let (report, code) = read(child).await;
    assert_eq!(code, Some(0), "{report:#}");
    let probed = &report["probes"][0];
    assert_eq!((&probed["role"], &probed["allowed"]), (&json!("execute"), &json!(true)));
    let deny = scene.aws.policy("execute", POLICY_NAME).unwrap();
    assert!(deny.contains(probed["lease"].as_str().unwrap()), "{deny}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trust_role_is_probed_with_the_signatures_of_two_groups() {
    let scene = Scene::set(Regions::UntilDenied(0)).await;
    let mut child =
        scene.doctor("probe", &["--observe-set", "service-status", "--action", "probe-trust-role"]);
    scene.sign(&mut child, &["erin", "dana"]).await;
    let (report, code) = read(child).await;
    assert_eq!(code, Some(0), "{report:#}");
    let probed = &report["probes"][0];
    assert_eq!((&probed["role"], &probed["entry"]), (&json!("trust"), &json!("probe-trust-role")));
    let deny = scene.aws.policy("trust", POLICY_NAME).unwrap();
    assert!(deny.contains(probed["lease"].as_str().unwrap()), "{deny}");
    assert_eq!(scene.aws.policy("execute", POLICY_NAME), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_soak_tells_what_it_measured_and_leaves_nothing_open() {
    let scene = Scene::set(Regions::UntilDenied(1)).await;
    let child = scene.doctor("soak", &["--times", "1000"]);
    crate::process::until("the second session", async || (scene.aws.minted() >= 2).then_some(())).await;
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let (report, code) = read(child).await;
    assert_eq!(code, Some(130), "{report:#}");
    assert!(report["stopped"].as_str().unwrap().contains("signal"), "{report:#}");
    assert_eq!(report["probes"][0]["refused_with"], "UnauthorizedOperation", "{report:#}");
    assert!(report["measured"][0]["revoke_to_deny_ms"]["count"].as_u64().unwrap() >= 1);
    assert_eq!(scene.open().await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_measured_before_a_failure_is_printed_and_what_to_add_is_said() {
    let scene = Scene::set(Regions::UntilDenied(0)).await;
    let (report, code) = scene.report("probe", &["--observe-too", "--action", "no-such-action"]).await;
    assert_eq!(code, Some(1), "{report:#}");
    assert_eq!(report["probes"].as_array().unwrap().len(), 1);
    assert_eq!(report["probes"][0]["refused_with"], "UnauthorizedOperation", "{report:#}");
    let stopped = report["stopped"].as_str().unwrap();
    assert!(
        stopped.contains("no-such-action") && stopped.contains("[actions.probe-execute-role]"),
        "{stopped}"
    );
    assert_eq!(scene.open().await, Vec::<Value>::new());
    let (report, code) = scene.report("probe", &["--observe-set", "nothing"]).await;
    assert_eq!((code, report["probes"].as_array().unwrap().len()), (Some(1), 0));
    assert!(report["stopped"].as_str().unwrap().contains("[observe.aws-canary]"), "{report:#}");
}

/// Stands before a broker, and is in the way of the first answers about the close of a run.
struct Proxy {
    broker: String,
    client: reqwest::Client,
    refuses: AtomicU32,
    loses: AtomicU32,
}

impl Proxy {
    async fn start(broker: &str, refuses: u32, loses: u32) -> String {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let (refuses, loses) = (AtomicU32::new(refuses), AtomicU32::new(loses));
        let state = Arc::new(Self { broker: broker.to_owned(), client, refuses, loses });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(pass).with_state(state);
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        url
    }
}

async fn pass(State(proxy): State<Arc<Proxy>>, request: axum::extract::Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let take = |count: &AtomicU32| {
        count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    };
    let closes = parts.uri.path().ends_with("/close");
    if closes && take(&proxy.refuses) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let url = format!("{}{}", proxy.broker, parts.uri);
    let mut headers = parts.headers;
    headers.remove("host");
    let asked = proxy.client.request(parts.method, url).headers(headers).body(body);
    let answer = asked.send().await.unwrap();
    if closes && take(&proxy.loses) {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let (status, headers) = (answer.status(), answer.headers().clone());
    (status, headers, answer.bytes().await.unwrap()).into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_that_is_refused_or_lost_is_asked_for_again() {
    for (refuses, loses) in [(2, 0), (0, 1)] {
        let scene = Scene::set(Regions::UntilDenied(0)).await;
        let proxy = Proxy::start(&scene.place.url, refuses, loses).await;
        let (report, code) = read(scene.doctor_at(&proxy, "probe", &[])).await;
        assert_eq!(code, Some(0), "{report:#}");
        assert_eq!(report["probes"][0]["refused_with"], "UnauthorizedOperation", "{report:#}");
        assert_eq!(scene.open().await, Vec::<Value>::new());
    }
}
