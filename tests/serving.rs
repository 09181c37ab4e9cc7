//! The real `serve` process: TLS, reload by signal and by command, an end that drains, logs, counters, notices.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;
mod peers;
mod served;

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker::{Setup, TestBroker};
use peers::openssl::certificate;
use peers::ssh_agent::SshAgent;
use peers::wait_until;
use phasebroker::broker::metrics::Metrics;
use phasebroker::cli::keys::directory_row::person_row;
use phasebroker::cli::keys::ssh_agent::AgentKey;
use phasebroker::cli::notify::{QueuedNotifier, Receiver};
use phasebroker::domain::key::Custody;
use serde_json::{Value, json};
use served::Served;
use served::flow::succeeded;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs the real command as whoever the ssh-agent holds.
fn as_person(served: &Served, ssh: &SshAgent, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_phasebroker"))
        .args(arguments)
        .args(["--broker", &served.url])
        .env("SSH_AUTH_SOCK", ssh.socket())
        // Nobody is there: a broker on this machine is reached without it.
        .env("HTTPS_PROXY", "http://127.0.0.1:9")
        .output()
        .unwrap()
}

/// Two people with keys in an ssh-agent: `olga` operates, `audrey` audits. Their rows of the directory.
fn operators(ssh: &mut SshAgent) -> String {
    let mut rows = String::new();
    for (name, role) in [("olga", "operator"), ("audrey", "auditor")] {
        ssh.add_ed25519(name, false);
        let key = AgentKey::find(&ssh.socket(), Some(name)).unwrap();
        let public = phasebroker::cli::keys::PersonSigner::public(&key).clone();
        rows += &format!("\n[people.{name}]\nname = \"{name}\"\nroles = [\"{role}\"]\n");
        rows += &person_row(name, &public, Custody::SshAgent);
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_reached_with_its_own_authority_and_with_no_other() {
    let mut ssh = SshAgent::start();
    let served = Served::start(&operators(&mut ssh));
    assert_eq!(served.text("/healthz").await.unwrap(), "ok\n");
    let ca = served.file("cert.pem");
    let list = ["leases", "list", "--ssh-agent=olga"];
    let trusted = as_person(&served, &ssh, &[&list[..], &["--ca", ca.to_str().unwrap()]].concat());
    assert!(trusted.status.success(), "{}", text(&trusted.stderr));
    let untrusted = as_person(&served, &ssh, &list);
    assert_eq!(untrusted.status.code(), Some(3), "{}", text(&untrusted.stderr));
    let stranger = tempfile::tempdir().unwrap();
    certificate(stranger.path());
    let other = stranger.path().join("cert.pem");
    let wrong = as_person(&served, &ssh, &[&list[..], &["--ca", other.to_str().unwrap()]].concat());
    assert_eq!(wrong.status.code(), Some(3), "{}", text(&wrong.stderr));
    let plain = served.url.replace("https:", "http:");
    assert!(reqwest::Client::builder().no_proxy().build().unwrap().get(plain).send().await.is_err());
}

#[test]
fn plain_http_on_an_address_of_the_network_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let shipped = std::fs::read_to_string("config/phasebroker.toml").unwrap();
    let rules = std::env::current_dir().unwrap().join("config");
    let check = |listen: &str| {
        let mut config = shipped.replace("listen = \"127.0.0.1:8477\"", &format!("listen = \"{listen}\""));
        for name in ["catalog.toml", "policy", "directory.toml", "guardrails.toml"] {
            let whole = rules.join(name).display().to_string();
            config = config.replace(&format!("= \"{name}\""), &format!("= \"{whole}\""));
        }
        let file = dir.path().join("phasebroker.toml");
        std::fs::write(&file, config).unwrap();
        let file = file.to_str().unwrap();
        Command::new(env!("CARGO_BIN_EXE_phasebroker"))
            .args(["config", "check", "--config", file])
            .output()
            .unwrap()
    };
    let loopback = check("127.0.0.1:8477");
    assert!(loopback.status.success(), "{}", text(&loopback.stdout));
    for listen in ["0.0.0.0:8477", "192.0.2.1:8477", "[::]:8477"] {
        let refused = check(listen);
        let said = text(&refused.stdout);
        assert_eq!(refused.status.code(), Some(2), "{listen}: {said}");
        assert!(
            said.contains("phasebroker.toml") && said.contains("listen") && said.contains("not loopback"),
            "{said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_and_the_reload_command_put_certificate_and_directory_in_force() {
    let mut ssh = SshAgent::start();
    let rows = operators(&mut ssh);
    let served = Served::start(&rows);
    let pending = served.pending(&served.agent()).await;
    let before = served.http();
    let health = format!("{}/healthz", served.url);
    before.get(&health).header("connection", "close").send().await.unwrap();

    certificate(served.dir.path());
    served.write_directory(&["alice", "carol"], &rows);
    assert!(served.text("/healthz").await.is_err(), "the new certificate is not in force yet");
    served.signal("HUP");
    wait_until("the reload", 20, || served.log().contains("\"reloaded\"").then_some(()));
    wait_for_certificate(&served).await;
    assert!(before.get(&health).send().await.is_err(), "the old certificate is gone");

    let (_, gone) = served.sign("bob", &pending).await;
    let why = gone.unwrap_err().to_string();
    assert!(why.contains("is not enrolled for any person"), "{why}");
    served.sign("carol", &pending).await.1.unwrap();

    // Back again, by command: only an operator may, and it says what changed.
    served.write_directory(&["alice", "bob", "carol"], &rows);
    let ca = served.file("cert.pem");
    let reload = |who: &str| {
        let ca = ca.to_str().unwrap();
        as_person(&served, &ssh, &["reload", "--ca", ca, &format!("--ssh-agent={who}"), "--person", who])
    };
    let auditor = reload("audrey");
    assert_eq!(auditor.status.code(), Some(1), "{}", text(&auditor.stderr));
    let done = reload("olga");
    let said = text(&done.stdout);
    assert!(done.status.success(), "{said}{}", text(&done.stderr));
    let fate = |name: &str| said.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(fate("directory").ends_with("changed"), "{said}");
    assert!(fate("policy").ends_with("as before") && fate("catalog").ends_with("as before"), "{said}");
    assert!(text(&reload("olga").stdout).contains("nothing had changed"));
    let again = served.pending(&served.agent()).await;
    served.sign("bob", &again).await.1.unwrap();

    std::fs::write(served.file("directory.toml"), "this is no directory").unwrap();
    let broken = reload("olga");
    assert_eq!(broken.status.code(), Some(1));
    assert!(text(&broken.stderr).contains("nothing was changed"), "{}", text(&broken.stderr));
    assert_eq!(served.text("/healthz").await.unwrap(), "ok\n");
}

async fn wait_for_certificate(served: &Served) {
    for _ in 0..200 {
        if served.text("/healthz").await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the new certificate never came into force: {}", served.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_answers_who_waits_and_ends_well() {
    let mut served = Served::start("");
    let agent = Arc::new(served.agent());
    let pending = served.pending(&agent).await;
    let (waiting, grant) = (agent.clone(), pending.proposed.grant);
    let poll = tokio::spawn(async move { waiting.grant(grant, 60).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!poll.is_finished(), "it waits for people");
    served.signal("TERM");
    let answered = tokio::time::timeout(Duration::from_secs(10), poll).await.unwrap().unwrap().unwrap();
    assert_eq!(answered.state.to_string(), "pending");
    let ended = tokio::task::block_in_place(|| served.ended());
    assert_eq!(ended.code(), Some(0), "{}", served.log());
    assert!(served.text("/healthz").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_full_life_is_counted_and_logged_with_its_ids_and_no_token_at_any_level() {
    let served = Served::start("");
    let agent = served.agent();
    let pending = served.pending(&agent).await;
    let (token, answer) = served.sign("bob", &pending).await;
    answer.unwrap();
    let claimed = served.claim(&agent, &pending, &token).await;
    let live = |phase: &str, count: u32| format!("phasebroker_live_leases{{phase=\"{phase}\"}} {count}");
    counted(&served, &[&live("execute", 1), &live("decide", 0)]).await;
    let again =
        agent.claim(pending.proposed.grant, &pending.claim_key, std::slice::from_ref(&token), None).await;
    assert!(again.is_err());
    agent.complete(&claimed, &pending.claim_key, &succeeded()).await.unwrap();
    counted(
        &served,
        &[
            r#"phasebroker_issued_total{phase="observe",provider="jwt"} 1"#,
            r#"phasebroker_issued_total{phase="execute",provider="jwt"} 1"#,
            r#"phasebroker_refused_total{code="grant_spent"} 1"#,
            r#"phasebroker_refused_total{code="grant_not_open"} 0"#,
            &live("execute", 0),
            "phasebroker_proposal_to_approval_seconds_count 1",
            "phasebroker_approval_to_claim_seconds_count 1",
            "phasebroker_claim_to_end_seconds_count 1",
            "phasebroker_pending_revocations 0",
        ],
    )
    .await;

    let lines = served.log_lines();
    let of = |route: &str| {
        let found = lines.iter().find(|line| line["span"]["http.route"] == route);
        found.unwrap_or_else(|| panic!("{route} is not logged:\n{}", served.log()))["span"].clone()
    };
    let claim = of("/v1/grants/{grant}/claim");
    assert_eq!(claim["run.id"], pending.run.to_string());
    assert_eq!(claim["lease.id"], claimed.lease.to_string());
    assert_eq!(claim["caller"], "agent:fixer");
    assert_eq!(claim["trace.id"].as_str().unwrap().len(), 32);
    assert_eq!(of("/v1/leases/{lease}/complete")["lease.id"], claimed.lease.to_string());
    assert!(lines.iter().any(|line| line["level"] == "DEBUG"), "not everything was logged");
    // Every JWT of anybody begins so.
    assert!(!served.log().contains("eyJ"), "a token was logged");
    assert!(!served.log().contains("it leaks"), "the agent's words were logged");

    let grant = pending.proposed.grant;
    let link = format!("{}/v1/grants/{grant}", served.url);
    let told = std::fs::read_to_string(served.file("notices")).unwrap();
    let notices: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(notices, [json!({"kind": "approval_needed", "id": grant, "link": link})]);
}

async fn counted(served: &Served, lines: &[&str]) {
    let mut text = String::new();
    for _ in 0..100 {
        text = served.text("/metrics").await.unwrap();
        if lines.iter().all(|line| text.lines().any(|shown| shown == *line)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let missing: Vec<_> = lines.iter().filter(|line| !text.lines().any(|shown| shown == **line)).collect();
    panic!("{missing:?} are missing in\n{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_document_lists_every_route_and_every_route_is_served() {
    let served = Served::start("");
    let document: Value = serde_json::from_str(&served.text("/openapi.json").await.unwrap()).unwrap();
    let described: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| (method.clone(), path.clone()))
        })
        .collect();
    let table = include_str!("../src/http/mod.rs");
    let row = regex_lite::Regex::new(r#"Row::(get|post)\("([^"]+)""#).unwrap();
    let routes = row.captures_iter(table).map(|found| (found[1].to_owned(), found[2].to_owned())).collect();
    assert_eq!(described, routes);
    assert!(described.len() > 20);
    let http = served.http();
    for (method, path) in &described {
        let id = ulid::Ulid::generate().to_string();
        let concrete = path.replace("{run}", &id).replace("{grant}", &id).replace("{lease}", &id);
        let method = method.to_uppercase().parse().unwrap();
        let answer = http.request(method, format!("{}{concrete}", served.url)).send().await.unwrap();
        let (status, body) = (answer.status().as_u16(), answer.text().await.unwrap());
        assert!(status != 405 && !body.contains("no such path") && status < 500, "{path}: {status} {body}");
    }
}

/// A webhook that keeps what it is told.
async fn webhook() -> (String, Arc<Mutex<Vec<Value>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let keep = told.clone();
    let app = axum::Router::new().route(
        "/hook",
        axum::routing::post(move |axum::Json(notice): axum::Json<Value>| async move {
            keep.lock().unwrap().push(notice);
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_by_id_and_link_when_a_signature_is_needed_and_when_its_time_is_over() {
    let (url, told) = webhook().await;
    phasebroker::authn::install_crypto();
    let notifier = QueuedNotifier::start(Receiver::Webhook { url }, Arc::new(Metrics::new())).unwrap();
    let broker = TestBroker::with(Setup { notifier: Arc::new(notifier), ..Setup::default() }).await;
    let done = broker.run_to_approved().await;
    let lapsing = broker.run_to_pending().await;
    let claimed = broker.claim(&done).await.unwrap();
    broker.agent("fixer").complete(&claimed, &done.claim_key, &succeeded()).await.unwrap();
    broker.clock.pass(901);
    broker.sweep().await;
    broker.sweep().await;
    let notice = |kind: &str, grant: phasebroker::domain::id::GrantId| json!({"kind": kind, "id": grant, "link": format!("{}/v1/grants/{grant}", broker.issuer)});
    let wanted = [
        notice("approval_needed", done.grant),
        notice("approval_needed", lapsing.grant),
        notice("grant_lapsed", lapsing.grant),
    ];
    for _ in 0..200 {
        if told.lock().unwrap().len() >= wanted.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Nothing more comes for the grant that was used.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(*told.lock().unwrap(), wanted);
}
