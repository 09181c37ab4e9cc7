//! The broker and witnesses that are slow, that hang, or that a proxy speaks for: none of them takes away more than its
//! own cosignature, and only a witness's own word, said twice, stops the broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;
mod process;
mod receiver;

use std::fs;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use axum::http::StatusCode;
use broker::{Setup, TestBroker, fresh};
use phasebroker::broker::ports::{Log as _, Store as _, Witness, WitnessAnswer, WitnessError};
use phasebroker::broker::refusal::Code;
use phasebroker::broker::witnessing::NotCosigned;
use phasebroker::domain::event::{Event, EventKind};
use phasebroker::domain::key::SigningKey;
use phasebroker::domain::principal::Actor;
use phasebroker::domain::time::Timestamp;
use phasebroker::ledger::cosignature::Cosigner;
use phasebroker::ledger::verifier_key::VerifierKey;
use phasebroker::ledger::witness::AddCheckpoint;
use phasebroker::providers::witness::HttpWitness;
use process::place::Place;
use receiver::Receiver;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

const NAME: &str = "w.example";

fn verifier(key: &SigningKey) -> VerifierKey {
    Cosigner::new(NAME, key).unwrap().verifier().clone()
}

/// A witness that cosigns what it is sent: at once, or when the test says so.
struct Slow {
    key: SigningKey,
    verifier: VerifierKey,
    holds: AtomicBool,
    here: Semaphore,
    on: Semaphore,
}

impl Slow {
    fn new() -> Self {
        let key = fresh();
        let (verifier, none) = (verifier(&key), || Semaphore::new(0));
        Self { key, verifier, holds: AtomicBool::new(false), here: none(), on: none() }
    }
}

#[async_trait]
impl Witness for Slow {
    fn key(&self) -> &VerifierKey {
        &self.verifier
    }
    async fn add_checkpoint(&self, request: String) -> Result<WitnessAnswer, WitnessError> {
        if self.holds.load(Ordering::SeqCst) {
            self.here.add_permits(1);
            self.on.acquire().await.unwrap().forget();
        }
        let checkpoint = AddCheckpoint::parse(request.as_bytes()).unwrap().checkpoint;
        let cosigner = Cosigner::new(NAME, &self.key).unwrap();
        let line = cosigner.cosign(checkpoint.unverified_text(), Timestamp::from_seconds(1_790_000_000));
        let body = format!("{}\n", line.unwrap());
        Ok(WitnessAnswer { status: 200, content_type: String::new(), body })
    }
}

/// One more event, and the checkpoint over it; its size.
async fn grow(broker: &TestBroker) -> u64 {
    let event = Event::new(EventKind::Refused, Actor::Broker, broker.clock.wall());
    broker.disk.record(vec![event.fact("code", "phase_order")]).await.unwrap();
    broker.broker.publish().await;
    broker.broker.ledger().newest().unwrap().size
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cosignature_that_comes_after_newer_checkpoints_were_signed_still_finds_its_own() {
    let witness = Arc::new(Slow::new());
    let setup = Setup { witnesses: vec![witness.clone()], ..Setup::default() };
    let broker = TestBroker::with(setup).await;
    witness.holds.store(true, Ordering::SeqCst);
    // Sixty-four are kept. One that is later than that is no failure either.
    for (newer, lines) in [(1, Some(1)), (63, Some(1)), (64, None)] {
        let late = grow(&broker).await;
        let asking = broker.broker.clone();
        let asking = tokio::spawn(async move { asking.ask_witness(0).await });
        witness.here.acquire().await.unwrap().forget();
        for _ in 0..newer {
            grow(&broker).await;
        }
        witness.on.add_permits(1);
        asking.await.unwrap().unwrap();
        let kept = broker.disk.checkpoints().await.unwrap();
        let found = kept.into_iter().find(|checkpoint| checkpoint.size == late);
        assert_eq!(found.map(|found| found.cosignatures.len()), lines, "{newer} newer ones");
    }
}

/// A broker whose witness answers as the receiver is told; it failed when the broker started.
async fn asking(receiver: &Receiver) -> TestBroker {
    phasebroker::authn::install_crypto();
    receiver.answer(503, "");
    let witness = HttpWitness::new(&receiver.url, verifier(&fresh())).unwrap();
    let broker = TestBroker::with(Setup { witnesses: vec![Arc::new(witness)], ..Setup::default() }).await;
    assert!(broker.broker.gate().may_issue().is_ok());
    broker
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_answers_in_a_witnesss_place_is_no_contradiction() {
    let receiver = Receiver::start(503).await;
    let broker = asking(&receiver).await;
    for (status, media, body) in [
        (409, "text/html; charset=utf-8", "<h1>Conflict</h1>"),
        (422, "text/html", "<h1>Unprocessable Content</h1>"),
        (409, "application/problem+json", "{}"),
        (422, "application/problem+json", "{}"),
        (409, "", "conflict"),
        (422, "text/plainer", "unprocessable"),
        (409, "text/x.tlog.size", "as large as yours"),
        (403, "text/plain", "forbidden"),
    ] {
        receiver.answer_in_turn([(status, media, body.to_owned())]);
        let asked = broker.broker.ask_witness(0).await;
        assert!(matches!(asked, Err(NotCosigned::Failed(_))), "{status} {media}: {asked:?}");
        assert!(broker.broker.gate().may_issue().is_ok(), "{status} {media}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witnesss_contradiction_that_is_said_twice_ends_issuance() {
    for (status, media, body) in [
        (409, "text/plain; charset=utf-8", "another root"),
        (422, "Text/Plain", "no continuation"),
        (409, "text/x.tlog.size", "9999999\n"),
    ] {
        let receiver = Receiver::start(503).await;
        let broker = asking(&receiver).await;
        let before = receiver.posted().len();
        receiver.answer_in_turn([(status, media, body.to_owned())]);
        let asked = broker.broker.ask_witness(0).await;
        assert!(matches!(asked, Err(NotCosigned::Contradicted(_))), "{status} {media}: {asked:?}");
        assert_eq!(receiver.posted().len() - before, 2);
        assert_eq!(broker.broker.gate().may_issue().unwrap_err().code, Code::FenceNeeded, "{status} {media}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contradiction_that_is_not_said_again_ends_nothing() {
    let receiver = Receiver::start(503).await;
    let broker = asking(&receiver).await;
    let contradicts = || (422, "text/plain", "no continuation".to_owned());
    for second in [(503, "text/plain", String::new()), (422, "text/html", String::new())] {
        receiver.answer_in_turn([contradicts(), second]);
        let asked = broker.broker.ask_witness(0).await;
        assert!(matches!(asked, Err(NotCosigned::Failed(_))), "{asked:?}");
        assert!(broker.broker.gate().may_issue().is_ok());
    }
}

/// The URL of a witness that fails the first question and never answers another, which the semaphore counts.
async fn hanging() -> (String, Arc<Semaphore>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (held, given) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicBool::new(false)));
    let counts = held.clone();
    let answer = move || {
        let (first, counts) = (!given.swap(true, Ordering::SeqCst), counts.clone());
        async move {
            if first {
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            counts.add_permits(1);
            pending().await
        }
    };
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
    (url, held)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_does_not_wait_for_a_witness_that_hangs() {
    let place = Place::new(None);
    let (url, held) = hanging().await;
    let text = fs::read_to_string(place.path("broker.toml")).unwrap();
    let mut config: Value = serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap();
    let key = verifier(&fresh()).to_string();
    config["ledger"] = json!({
        "witnesses_needed": 1, "witness_max_age_seconds": 3_600, "witnesses": [{"url": url, "key": key}],
    });
    place.write("broker.toml", &config);
    let broker = place.serve().await;
    held.acquire().await.unwrap().forget();
    broker.stop().await;
    // That the hanging question failed in its own time is what nobody waited for.
    let log = place.log();
    assert!(log.contains("shutting down"), "{log}");
    assert_eq!(log.matches("a checkpoint was not cosigned").count(), 1, "the question at the start:\n{log}");
}
