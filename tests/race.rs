//! Many callers at once: of those who claim one grant one gets a lease, and a run holds one credential of one phase.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use broker::TestBroker;
use phasebroker::broker::ports::{LeaseFilter, Store};
use phasebroker::cli::agent::{AgentError, Enter, PhaseKey};
use phasebroker::domain::grant::GrantState;
use phasebroker::domain::lease::LeaseState;
use phasebroker::domain::phase::RunPhase;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Set in a client process: the folder with its task.
const CLIENT: &str = "PHASEBROKER_TEST_CLIENT";
const PROCESSES: usize = 2;
const THREADS: usize = 32;

/// What each thread of a client process sends, once.
#[derive(Serialize, Deserialize)]
struct Task {
    url: String,
    body: Value,
    headers: Vec<Vec<(String, String)>>,
}

/// The life of a client process: all its threads claim as soon as the file `go` is there.
fn claim_in_threads(folder: &Path) {
    let task: Task = serde_json::from_slice(&std::fs::read(folder.join("task")).unwrap()).unwrap();
    let task = Arc::new(task);
    let gate = Arc::new(Barrier::new(task.headers.len() + 1));
    let threads: Vec<_> = (0..task.headers.len())
        .map(|nth| {
            let (task, gate) = (task.clone(), gate.clone());
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let http = reqwest::Client::builder().no_proxy().build().unwrap();
                let mut request = http.post(&task.url).json(&task.body);
                for (name, value) in &task.headers[nth] {
                    request = request.header(name, value);
                }
                gate.wait();
                runtime.block_on(async {
                    let answer = request.send().await.unwrap();
                    let status = answer.status();
                    let body: Value = answer.json().await.unwrap();
                    if status.is_success() {
                        "leased".into()
                    } else {
                        body["code"].as_str().unwrap().to_owned()
                    }
                })
            })
        })
        .collect();
    std::fs::write(folder.join("ready"), "").unwrap();
    appears(&folder.join("go"));
    gate.wait();
    let answers: Vec<String> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    std::fs::write(folder.join("answers"), serde_json::to_vec(&answers).unwrap()).unwrap();
}

fn appears(file: &Path) {
    let give_up = Instant::now() + Duration::from_secs(60);
    while !file.exists() {
        assert!(Instant::now() < give_up, "{} never came", file.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// This test again, in a process of its own, as a client.
fn client(folder: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "sixty_four_threads_in_two_processes_claim_one_grant_and_get_one_lease"]);
    // Its own summary would be counted as tests of this run.
    command.arg("--nocapture").env(CLIENT, folder).stdout(Stdio::null()).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_threads_in_two_processes_claim_one_grant_and_get_one_lease() {
    if let Some(folder) = std::env::var_os(CLIENT) {
        return claim_in_threads(Path::new(&folder));
    }
    let broker = TestBroker::start().await;
    let approved = broker.run_to_approved().await;
    let path = approved.path("claim");
    let folders: Vec<_> = (0..PROCESSES).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut clients = Vec::new();
    for folder in &folders {
        let login = || broker.login("fixer", approved.claim_key.signing_key(), "POST", &path);
        let owned = |header: (&str, String)| (header.0.to_owned(), header.1);
        let task = Task {
            url: format!("{}{path}", broker.issuer),
            body: json!({"approvals": approved.tokens}),
            headers: (0..THREADS).map(|_| login().into_iter().map(owned).collect()).collect(),
        };
        std::fs::write(folder.path().join("task"), serde_json::to_vec(&task).unwrap()).unwrap();
        clients.push(client(folder.path()));
    }
    for folder in &folders {
        appears(&folder.path().join("ready"));
    }
    for folder in &folders {
        std::fs::write(folder.path().join("go"), "").unwrap();
    }
    let mut answers: Vec<String> = Vec::new();
    for (mut client, folder) in clients.into_iter().zip(&folders) {
        assert!(client.wait().unwrap().success());
        let said = std::fs::read(folder.path().join("answers")).unwrap();
        answers.extend(serde_json::from_slice::<Vec<String>>(&said).unwrap());
    }
    assert_eq!(answers.len(), PROCESSES * THREADS);
    let (leased, refused): (Vec<String>, Vec<String>) =
        answers.into_iter().partition(|said| said == "leased");
    assert_eq!(leased.len(), 1, "{refused:?}");
    // Whoever lost before the winner's commit hears of it from the transaction, the others from the record.
    for code in refused {
        assert!(["grant_spent", "phase_order", "conflict"].contains(&code.as_str()), "{code}");
    }
    let kinds = broker.kinds_since(0).await;
    let of = |kind: &str| broker_events(&kinds, kind);
    // One for each of observe, decide and execute.
    assert_eq!((of("lease.intent"), of("lease.minted"), of("lease.released")), (3, 3, 3));
    assert_eq!(broker.grant_state(approved.grant).await, GrantState::Claimed);
}

fn broker_events(kinds: &[String], kind: &str) -> usize {
    kinds.iter().filter(|found| *found == kind).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_tasks_entering_phases_leave_one_credential_of_the_runs_phase() {
    let broker = Arc::new(TestBroker::start().await);
    let run = broker.run_to_deciding("demo").await.run;
    let tasks: Vec<_> = (0..PROCESSES * THREADS)
        .map(|nth| {
            let broker = broker.clone();
            tokio::spawn(async move {
                let key = PhaseKey::generate().unwrap();
                let to = if nth % 2 == 0 { Enter::Decide } else { Enter::Observe("service-status") };
                broker.agent("fixer").enter(run, to, &key).await.map(|token| token.lease)
            })
        })
        .collect();
    let mut entered = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(lease) => entered.push(lease),
            Err(AgentError::Refused(refused)) => {
                assert!(["conflict", "phase_order"].contains(&refused.code.as_str()), "{refused}");
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(!entered.is_empty());
    let leases = broker.disk.leases(LeaseFilter { run: Some(run), ..LeaseFilter::default() }).await.unwrap();
    let (live, over): (Vec<_>, Vec<_>) = leases.into_iter().partition(|lease| lease.state.is_live());
    assert_eq!(live.len(), 1, "{live:?}");
    assert_eq!(live[0].state, LeaseState::Released);
    let stands = broker.disk.run(run).await.unwrap().unwrap().phase;
    assert_eq!(RunPhase::from(live[0].phase), stands);
    assert!(over.iter().all(|lease| lease.state == LeaseState::Ended));
}
